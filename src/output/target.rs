//! What is at the path of an output: nothing yet, a file, or something that must not be replaced.

use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{PROC_SUPER_MAGIC, statfs};

use super::OutputError;

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// A file that can be written: one that is not there yet, or a regular one.
#[derive(Clone, Debug)]
pub struct Target {
    named: PathBuf,
    directory: PathBuf,
    name: OsString,
}

impl Target {
    /// Judges the name of an output. A link to a regular file stays, and the file that it leads to is the output.
    ///
    /// # Errors
    /// If there is anything else than a regular file, such as a link that leads nowhere.
    pub fn find(path: &Path) -> Result<Self, OutputError> {
        match look(path)? {
            Found::Nothing => Self::new(path, path),
            Found::File => {
                let real = fs::canonicalize(path).map_err(OutputError::io(path, "cannot be examined"))?;
                Self::new(path, &real)
            }
            Found::Descriptor(_) => {
                Err(OutputError::refused(path, "is a file that is open already; give the name of a file"))
            }
            Found::Special(kind) => Err(refuse(path, kind)),
        }
    }

    fn new(named: &Path, real: &Path) -> Result<Self, OutputError> {
        // `x/` means a directory; Path does not show the difference.
        let name = real.file_name().filter(|_| !real.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(|| OutputError::refused(named, "is not the name of a file"))?;
        refuse_among_devices(named, parent(real))?;
        Ok(Self { named: named.to_owned(), directory: parent(real).to_owned(), name: name.to_owned() })
    }

    /// As the user named it.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// Where the file itself is, or will be.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// The directory of the file itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of the file itself.
    pub fn name(&self) -> &OsStr {
        &self.name
    }
}

/// What is where an output is to go.
pub(super) enum Found {
    Nothing,
    File,
    /// Something that a process has open, as /dev/stdout is: its path below /proc.
    Descriptor(PathBuf),
    /// Neither file nor nothing.
    Special(FileType),
}

pub(super) fn look(path: &Path) -> Result<Found, OutputError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Found::Special(metadata.file_type())),
        Ok(metadata) => Ok(match descriptor(path) {
            Some(descriptor) => Found::Descriptor(descriptor),
            None if metadata.is_file() => Found::File,
            None => Found::Special(metadata.file_type()),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => dangling_link(path).map_or(Ok(Found::Nothing), Err),
        Err(error) => Err(OutputError::io(path, "cannot be written")(error)),
    }
}

/// The error that a path is a link that leads nowhere, if it is one.
pub(super) fn dangling_link(path: &Path) -> Option<OutputError> {
    let target = fs::read_link(path).ok().filter(|_| fs::metadata(path).is_err())?;
    Some(OutputError::refused(path, format!("is a link to {}, which is not there; remove the link", target.display())))
}

/// Refuses a new file in /dev: the user meant a device that is not there, and the file would be only in memory.
pub(super) fn refuse_among_devices(named: &Path, directory: &Path) -> Result<(), OutputError> {
    let filesystem = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let is_of = |path: &str, found: Option<u64>| found.is_some() && found == filesystem(Path::new(path));
    let here = directory.ancestors().map(or_here).find_map(filesystem);
    // In a sandbox, /dev can be on the same disk as everything else. A user who names /dev/shm wants memory, whether it
    // is a mount or not.
    if !is_of("/dev", here) || is_of("/", here) || directory.starts_with("/dev/shm") {
        return Ok(());
    }
    let why = "there is no such device; a file in /dev would be in memory; name a file on a disk";
    Err(OutputError::refused(named, why))
}

/// The error that an output is of a kind that is not written.
pub(super) fn refuse(path: &Path, kind: FileType) -> OutputError {
    let remedy = if kind.is_dir() {
        "give the name of a file"
    } else if kind.is_block_device() {
        "write to a file, and copy that by `dd if=FILE of=DEVICE bs=4M conv=fsync oflag=direct`"
    } else {
        "write to a file"
    };
    OutputError::refused(path, format!("is a {}, and is left alone; {remedy}", kind_name(kind)))
}

/// What a file is, in words.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "directory",
        kind if kind.is_file() => "regular file",
        kind if kind.is_block_device() => "block device",
        kind if kind.is_char_device() => "character device",
        kind if kind.is_fifo() => "named pipe",
        kind if kind.is_socket() => "socket",
        _ => "file of an unknown kind",
    }
}

/// Where links lead that end in a process's list of open files.
fn descriptor(path: &Path) -> Option<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let directory = fs::canonicalize(parent(&at)).ok()?;
        let place = directory.join(at.file_name()?);
        if statfs(&directory).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC) {
            return Some(place);
        }
        at = directory.join(fs::read_link(place).ok()?);
    }
    None
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().map_or(Path::new("."), or_here)
}

/// The empty path means the current directory.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn refused(path: &Path) -> String {
        let error = Target::find(path).unwrap_err();
        assert!(matches!(error, OutputError::Refused { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn files_and_free_names_are_targets() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        symlink("../file", dir.path().join("sub/link")).unwrap();
        symlink("sub/link", dir.path().join("far")).unwrap();
        let place = |name: &str| Target::find(&dir.path().join(name)).unwrap().path();
        assert_eq!(place("new"), dir.path().join("new"));
        assert_eq!(place("nowhere/new"), dir.path().join("nowhere/new"));
        for name in ["file", "sub/link", "far", "sub/../far"] {
            assert_eq!(place(name), real.join("file"), "{name}");
        }
        assert_eq!(Target::find(&dir.path().join("far")).unwrap().named(), dir.path().join("far"));
        assert_eq!(Target::find(Path::new("new")).unwrap().path(), Path::new("./new"));
    }

    #[test]
    fn all_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink("nothing", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("socket", at("to-socket")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        assert!(refused(dir.path()).contains("is a directory, and is left alone; give the name of a file"));
        assert!(refused(&at("dangling")).ends_with("is a link to nothing, which is not there; remove the link"));
        for name in ["socket", "to-socket"] {
            assert!(refused(&at(name)).contains("is a socket, and is left alone"));
        }
        for path in ["/dev/null".into(), at("null")] {
            assert!(refused(&path).contains("is a character device, and is left alone"));
        }
        if fs::metadata("/dev").unwrap().dev() != fs::metadata("/").unwrap().dev() {
            for path in ["/dev/sane-image-test", "/dev/no/such/directory"] {
                assert!(refused(Path::new(path)).contains("would be in memory"));
            }
            assert!(refuse_among_devices(Path::new("x"), Path::new("/dev/shm/x")).is_ok());
        }
        for path in ["new/", "/", ".."] {
            refused(Path::new(path));
        }
        assert!(matches!(Target::find(&at("loop")), Err(OutputError::Io { .. })));
        fs::write(at("file"), "").unwrap();
        assert!(matches!(Target::find(&at("file/below")), Err(OutputError::Io { .. })));
    }

    #[test]
    fn what_is_open_is_known_by_any_name() {
        for path in ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"] {
            if fs::metadata(path).is_ok() {
                assert!(matches!(look(Path::new(path)).unwrap(), Found::Descriptor(_)), "{path}");
            }
        }
        assert!(matches!(look(Path::new("/dev/null")).unwrap(), Found::Special(_)));
    }
}
