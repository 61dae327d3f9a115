//! Extracts files into a directory, and never outside it.
//!
//! Every directory is opened by its name in the directory above, and links are not followed. Every file is made anew.
//! So nothing is written through a link, whether it comes from the image or from another user of this machine. A
//! directory gets its mode and its time when everything in it is done.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::{ExtractError, Item, Plan};
use crate::output;
use crate::progress::{Cancel, Progress};
use crate::read::{FileSystem, Kind, Metadata};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that become a hole if they are zeros.
const HOLE: usize = 4096;
/// How directories are opened: never through a link.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Extracts `plan` into the directory `out`, which is made if need be.
///
/// # Errors
/// If a file with one of the names is there already (directories are no error); if `out` cannot be written or the image
/// cannot be read. What was extracted before that stays.
pub fn to_directory(
    fs: &dyn FileSystem,
    plan: &Plan,
    out: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), ExtractError> {
    let failed = |source: io::Error| ExtractError::Destination(out.to_owned(), source);
    fs::create_dir_all(out).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(out, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    progress.stage("extracting files", plan.total.files, plan.total.bytes);
    let nameless = output::can_link(&top);
    let mut tree = Tree {
        open: vec![Open { path: PathBuf::new(), fd: top.try_clone().map_err(failed)?, finish: None }],
        nameless,
    };
    let mut buffer = vec![0; CHUNK];
    for item in &plan.items {
        cancel.check()?;
        tree.go_to(item.path.parent().unwrap_or(Path::new("")))?;
        match item.metadata.kind {
            Kind::Directory => tree.make_directory(item)?,
            Kind::Symlink => tree.make_link(item)?,
            Kind::File => tree.make_file(fs, item, &mut buffer, (progress, cancel))?,
            Kind::Special => {}
        }
    }
    tree.leave_all()?;
    // A disk or a server reports only now that it did not store something.
    rustix::fs::syncfs(&top).map_err(|error| failed(error.into()))
}

/// The directories from the destination down to where we are.
struct Tree {
    open: Vec<Open>,
    /// Whether files can be made without a name, to get it when they are whole.
    nameless: bool,
}

struct Open {
    path: PathBuf,
    fd: OwnedFd,
    /// What it gets when it is finished, if it is one of those asked for.
    finish: Option<Metadata>,
}

/// The error of a step that wrote, or would have written, `path`.
fn failed(path: &Path, what: &'static str) -> impl Fn(Errno) -> ExtractError {
    let path = path.to_owned();
    move |error| ExtractError::Write { path: path.clone(), what, source: error.into() }
}

impl Tree {
    fn here(&self) -> Result<&Open, ExtractError> {
        self.open.last().ok_or_else(|| ExtractError::Destination(PathBuf::new(), io::ErrorKind::NotFound.into()))
    }

    /// Closes directories that are finished, and goes down to `directory`. Directories on the way that are missing are
    /// made.
    fn go_to(&mut self, directory: &Path) -> Result<(), ExtractError> {
        while self.open.len() > 1 && !directory.starts_with(&self.here()?.path) {
            self.leave()?;
        }
        let below = directory.strip_prefix(&self.here()?.path).unwrap_or(Path::new("")).to_owned();
        for name in &below {
            self.enter(name, Mode::from(0o777), None)?;
        }
        Ok(())
    }

    /// Goes down into the directory `name`, which is made unless it is there.
    fn enter(&mut self, name: &OsStr, mode: Mode, finish: Option<Metadata>) -> Result<(), ExtractError> {
        let here = self.here()?;
        let path = here.path.join(name);
        match rustix::fs::mkdirat(&here.fd, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(&path, "cannot be made")(error)),
        }
        let fd = rustix::fs::openat(&here.fd, name, DIRECTORY, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => failed(&path, "is in the way")(Errno::EXIST),
            error => failed(&path, "cannot be opened")(error),
        })?;
        self.open.push(Open { path, fd, finish });
        Ok(())
    }

    fn make_directory(&mut self, item: &Item) -> Result<(), ExtractError> {
        self.enter(name(item), Mode::from(0o700), Some(item.metadata))
    }

    fn make_link(&self, item: &Item) -> Result<(), ExtractError> {
        let (here, name) = (self.here()?, name(item));
        let target = item.target.as_deref().unwrap_or_default();
        rustix::fs::symlinkat(target, &here.fd, name).map_err(failed(&item.path, "cannot be made"))?;
        let times = times(&item.metadata);
        rustix::fs::utimensat(&here.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed(&item.path, "cannot be given its time"))
    }

    fn make_file(
        &self,
        fs: &dyn FileSystem,
        item: &Item,
        buffer: &mut [u8],
        caller: (&dyn Progress, &Cancel),
    ) -> Result<(), ExtractError> {
        let (here, name) = (self.here()?, name(item));
        let cannot = failed(&item.path, "cannot be made");
        if rustix::fs::statat(&here.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(cannot(Errno::EXIST));
        }
        let mut write =
            |file: &File| fill(fs, item, file, buffer, caller).and_then(|()| finish(file, &item.metadata, &item.path));
        if self.nameless
            && let Ok(file) = output::open_at(&here.fd, Path::new("."), Mode::from(0o600))
        {
            write(&file)?;
            return output::link_at(&file, &here.fd, name).map_err(|source| ExtractError::Write {
                path: item.path.clone(),
                what: "cannot be made",
                source,
            });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&here.fd, name, flags, Mode::from(0o600)).map_err(cannot)?);
        write(&file).inspect_err(|_| {
            // Half a file is worse than none.
            let _ = rustix::fs::unlinkat(&here.fd, name, AtFlags::empty());
        })
    }

    fn leave(&mut self) -> Result<(), ExtractError> {
        match self.open.pop() {
            Some(Open { path, fd, finish: Some(metadata) }) => finish(&fd, &metadata, &path),
            _ => Ok(()),
        }
    }

    fn leave_all(&mut self) -> Result<(), ExtractError> {
        while !self.open.is_empty() {
            self.leave()?;
        }
        Ok(())
    }
}

fn name(item: &Item) -> &OsStr {
    item.path.file_name().unwrap_or_default()
}

/// Copies the contents; zeros become holes, and holes are not read, however large they are.
fn fill(
    fs: &dyn FileSystem,
    item: &Item,
    file: &File,
    buffer: &mut [u8],
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<(), ExtractError> {
    let size = item.metadata.len;
    let write = |source| ExtractError::Write { path: item.path.clone(), what: "cannot be written", source };
    let mut contents = fs.open(&item.path)?;
    let mut at = 0u64;
    loop {
        cancel.check()?;
        let next = contents.stored(at).start.min(size).max(at);
        progress.advance(0, next.saturating_sub(at));
        at = next;
        let len = contents.read_at(at, buffer)?;
        let chunk = buffer.get(..len).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        for (block, offset) in chunk.chunks(HOLE).zip((at..).step_by(HOLE)) {
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(block, offset).map_err(write)?;
            }
        }
        at = at.saturating_add(len as u64);
        progress.advance(0, len as u64);
    }
    progress.advance(1, 0);
    file.set_len(at).map_err(write)
}

/// Gives a file or a directory its mode and its time. Not the bits that run it as somebody: its owner is another here.
fn finish(fd: &impl AsFd, metadata: &Metadata, path: &Path) -> Result<(), ExtractError> {
    let mode = Mode::from(u32::from(metadata.permissions & 0o777));
    rustix::fs::fchmod(fd, mode).map_err(failed(path, "cannot be given its mode"))?;
    rustix::fs::futimens(fd, &times(metadata)).map_err(failed(path, "cannot be given its time"))
}

fn times(metadata: &Metadata) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: metadata.mtime, tv_nsec: 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::extract::{Links, plan};
    use crate::progress::Silent;
    use crate::read::fake::Fake;
    use crate::read::resolve::AtRoot;

    fn extract(fs: &Fake, roots: &[&str], out: &Path) -> Result<(), String> {
        let roots: Vec<_> = roots.iter().map(PathBuf::from).collect();
        let plan = plan(fs, &roots, Links::Keep, &AtRoot).unwrap();
        let done = to_directory(fs, &plan, out, &Silent, &Cancel::new());
        done.map_err(|error| format!("{error}: {}", std::error::Error::source(&error).unwrap()))
    }

    #[test]
    fn files_links_modes_and_times_are_restored() {
        let out = tempfile::tempdir().unwrap();
        let big = [&[7; 5000][..], &[0; 2 << 20], &[9; 3]].concat();
        let fs = Fake::new().file("a/b/big", &big).link("a/l", "/nix").directory("a/empty");
        extract(&fs, &[""], out.path()).unwrap();
        let at = |path: &str| out.path().join(path);
        assert!(fs::read(at("a/b/big")).unwrap() == big);
        assert_eq!(fs::read_link(at("a/l")).unwrap(), Path::new("/nix"));
        for (path, mode) in [("a/b/big", 0o444), ("a/b", 0o555), ("a", 0o555), ("a/empty", 0o555)] {
            let metadata = fs::metadata(at(path)).unwrap();
            assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (mode, 1), "{path}");
        }
        assert_eq!(fs::symlink_metadata(at("a/l")).unwrap().mtime(), 1);
        assert!(fs::metadata(at("a/b/big")).unwrap().blocks() * 512 < 100_000, "zeros are holes");
    }

    #[test]
    fn single_files_keep_their_paths() {
        let out = tempfile::tempdir().unwrap();
        let fs = Fake::new().file("a/b/c", "1").file("a/d", "2");
        extract(&fs, &["a/b/c"], out.path()).unwrap();
        extract(&fs, &["a/d"], &out.path().join("new/sub")).unwrap();
        assert_eq!(fs::read(out.path().join("a/b/c")).unwrap(), b"1");
        assert_eq!(fs::read(out.path().join("new/sub/a/d")).unwrap(), b"2");
        assert!(!out.path().join("a/d").exists());
    }

    #[test]
    fn nothing_is_overwritten() {
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("f"), "mine").unwrap();
        let error = extract(&Fake::new().file("f", "theirs"), &[""], out.path()).unwrap_err();
        assert!(error.starts_with("f: cannot be made: File exists"), "{error}");
        assert_eq!(fs::read(out.path().join("f")).unwrap(), b"mine");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (out, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(other.path(), out.path().join("a")).unwrap();
        symlink(other.path().join("new"), out.path().join("f")).unwrap();
        let error = extract(&Fake::new().file("a/x", ""), &[""], out.path()).unwrap_err();
        assert!(error.starts_with("a: is in the way: File exists"), "{error}");
        extract(&Fake::new().file("a/x", ""), &["a/x"], out.path()).unwrap_err();
        extract(&Fake::new().file("f", ""), &[""], out.path()).unwrap_err();
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    }
}
