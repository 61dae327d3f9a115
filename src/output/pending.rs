//! A file that gets its name when it is complete.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, TempPath};

use super::abandoned::{self, Lock};
use super::directory;
use super::{HIDDEN, OutputError, Target, nameless};

/// Who may read a new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Whoever may read any new file: that is the umask's choice.
    #[default]
    Usual,
    /// Only its owner.
    Owner,
}

impl Privacy {
    /// The permission bits of a new file, before the umask.
    fn mode(self) -> u32 {
        match self {
            Self::Usual => 0o666,
            Self::Owner => 0o600,
        }
    }
}

/// How often another name is tried.
const ATTEMPTS: usize = 8;
/// How often, and how long each time, one who names several files waits for another who does.
const TURNS: usize = 100;
const TURN: Duration = Duration::from_millis(10);

/// A file for a [`Target`], beside it on the same filesystem, to be read and written. It goes if it is dropped.
#[derive(Debug)]
pub struct Pending {
    target: Target,
    file: File,
    /// The name that it has meanwhile, if it has one.
    name: Option<TempPath>,
    privacy: Privacy,
}

impl Pending {
    /// An empty file.
    pub fn create(target: Target, privacy: Privacy) -> Result<Self, OutputError> {
        abandoned::sweep(target.directory(), HIDDEN);
        let made = nameless::open(target.directory(), privacy.mode())
            .and_then(|file| abandoned::lock(&file).map(|_| (file, None)))
            .or_else(|_| named(target.directory(), privacy.mode()).map(|(file, name)| (file, Some(name))));
        let (file, name) = made.map_err(OutputError::io(target.named(), "cannot be made"))?;
        Ok(Self { target, file, name, privacy })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What it is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Makes it `size` bytes long; what is added is a hole.
    pub fn set_len(&self, size: u64) -> Result<(), OutputError> {
        self.file.set_len(size).map_err(OutputError::io(self.target.named(), "cannot be made as large as it has to be"))
    }

    /// Writes all of a small file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.file.write_all(bytes).map_err(OutputError::io(self.target.named(), "cannot be written"))
    }

    /// Shows it to a user's script as `path`, in a [`Scratch`](super::Scratch) directory beside the target.
    pub fn show_as(&mut self, path: &Path) -> Result<(), OutputError> {
        let shown = match self.name.take() {
            Some(name) => name.persist(path).map_err(|error| error.error),
            None => nameless::link_at(&self.file, rustix::fs::CWD, path.as_os_str()),
        };
        let name = shown.and_then(|()| TempPath::try_from_path(path));
        self.name = Some(name.map_err(OutputError::io(path, "cannot be made"))?);
        // The directory is locked instead: a script may want to lock the file.
        let _ = flock(&self.file, FlockOperation::Unlock);
        Ok(())
    }

    /// The name that it has meanwhile, if it has one.
    pub fn shown_as(&self) -> Option<&OsStr> {
        self.name.as_ref()?.file_name()
    }

    /// Takes what a script has put in the place of the file.
    pub fn look_again(&mut self) -> Result<(), OutputError> {
        if let Some(name) = &self.name {
            let is_file = fs::symlink_metadata(name).map(|metadata| metadata.is_file());
            let opened = is_file.and_then(|is_file| match is_file {
                true => File::open(name),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no longer a regular file")),
            });
            let private = self.privacy == Privacy::Owner;
            let opened = opened.and_then(|file| {
                let mode = Permissions::from_mode(self.privacy.mode());
                if private { file.set_permissions(mode).map(|()| file) } else { Ok(file) }
            });
            self.file = opened.map_err(OutputError::io(self.target.named(), "cannot be opened"))?;
        }
        Ok(())
    }

    /// Makes its bytes durable.
    fn sync(&self) -> Result<(), OutputError> {
        self.file.sync_all().map_err(OutputError::io(self.target.named(), "cannot be written out"))
    }

    /// A hidden name for it, unless it has a name.
    fn give_name(&mut self) -> Result<TempPath, OutputError> {
        let name = self.name.take().map_or_else(|| hidden(self.target.directory(), &self.file), Ok);
        name.map_err(OutputError::io(self.target.named(), "cannot be made"))
    }
}

/// A file with a hidden name, for filesystems that know no others.
fn named(directory: &Path, mode: u32) -> io::Result<(File, TempPath)> {
    for _ in 0..ATTEMPTS {
        let named = Builder::new().prefix(HIDDEN).permissions(Permissions::from_mode(mode)).tempfile_in(directory)?;
        if abandoned::lock(named.as_file())? == Lock::Held {
            return Ok(named.into_parts());
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A hidden name for a file that has none. A directory that somebody has removed meanwhile, as it was empty, comes back.
fn hidden(directory: &Path, file: &File) -> io::Result<TempPath> {
    match nameless::hidden(directory, file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            nameless::hidden(directory, file)
        }
        named => named,
    }
}

/// Gives files their names, one after the other, once all of them are written out; and makes that durable.
///
/// What has the name of a new file before is replaced.
pub fn publish(mut files: Vec<Pending>) -> Result<(), OutputError> {
    files.iter().try_for_each(Pending::sync)?;
    let names = files.iter_mut().map(Pending::give_name).collect::<Result<Vec<_>, _>>()?;
    let _turn = files.first().filter(|_| files.len() > 1).and_then(|file| turn(file.target.directory()));
    for (file, name) in files.iter().zip(names) {
        let persisted = name.persist(file.target.path()).map_err(|error| error.error);
        persisted.map_err(OutputError::io(file.target.named(), "cannot be put in place"))?;
    }
    let mut directories: Vec<_> = files.iter().map(|file| file.target.directory()).collect();
    directories.sort_unstable();
    directories.dedup();
    directories.into_iter().try_for_each(directory::sync)
}

/// Waits until nobody else names files of a directory, so that those of two runs are not mixed. Whoever keeps the
/// directory locked for other reasons is not waited for.
fn turn(directory: &Path) -> Option<File> {
    let opened = File::open(directory).ok()?;
    for _ in 0..TURNS {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(TURN),
            _ => break,
        }
    }
    Some(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn pending(dir: &Path, name: &str) -> Pending {
        Pending::create(Target::find(&dir.join(name)).unwrap(), Privacy::Usual).unwrap()
    }

    /// The same by the way of filesystems that know no files without names.
    fn pending_named(dir: &Path, name: &str) -> Pending {
        let (file, hidden) = named(dir, Privacy::Usual.mode()).unwrap();
        Pending { target: Target::find(&dir.join(name)).unwrap(), file, name: Some(hidden), privacy: Privacy::Usual }
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        for create in [pending, pending_named] {
            let dir = tempfile::tempdir().unwrap();
            let (mut a, mut b) = (create(dir.path(), "a"), create(dir.path(), "b"));
            a.write(b"one").unwrap();
            b.write(b"two").unwrap();
            assert!(!names(dir.path()).iter().any(|name| !name.starts_with(HIDDEN)));
            publish(vec![a, b]).unwrap();
            assert_eq!(names(dir.path()), ["a", "b"]);
            assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"two");
            let mut again = create(dir.path(), "a");
            again.write(b"three").unwrap();
            assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"one");
            publish(vec![again]).unwrap();
            assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"three");
            drop(create(dir.path(), "c"));
            assert_eq!(names(dir.path()), ["a", "b"]);
        }
    }

    #[test]
    fn modes_are_those_of_any_new_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("usual"), "").unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode();
        publish(vec![pending(dir.path(), "a"), pending_named(dir.path(), "b")]).unwrap();
        assert_eq!([mode("a"), mode("b")], [mode("usual"); 2]);
    }

    #[test]
    fn private_files_are_their_owners() {
        let dir = tempfile::tempdir().unwrap();
        publish(vec![Pending::create(Target::find(&dir.path().join("a")).unwrap(), Privacy::Owner).unwrap()]).unwrap();
        let (file, _name) = named(dir.path(), Privacy::Owner.mode()).unwrap();
        let modes = [fs::metadata(dir.path().join("a")).unwrap(), file.metadata().unwrap()].map(|m| m.mode() & 0o7777);
        assert_eq!(modes, [0o600; 2]);
    }

    #[test]
    fn a_link_stays_and_leads_to_the_new_file() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("file"), "old").unwrap();
        symlink(other.path().join("file"), dir.path().join("link")).unwrap();
        let mut file = pending(dir.path(), "link");
        file.write(b"new").unwrap();
        publish(vec![file]).unwrap();
        assert!(dir.path().join("link").is_symlink());
        assert_eq!(fs::read(other.path().join("file")).unwrap(), b"new");
        assert_eq!((names(dir.path()), names(other.path())), (vec!["link".to_owned()], vec!["file".to_owned()]));
    }

    #[test]
    fn what_is_shown_may_be_replaced() {
        for create in [pending, pending_named] {
            let dir = tempfile::tempdir().unwrap();
            let scratch = super::super::Scratch::beside(dir.path()).unwrap();
            let shown = scratch.path().join("x");
            let mut file = create(dir.path(), "a");
            file.write(b"one").unwrap();
            file.show_as(&shown).unwrap();
            assert_eq!(fs::read(&shown).unwrap(), b"one");
            fs::write(scratch.path().join("y"), "two").unwrap();
            fs::rename(scratch.path().join("y"), &shown).unwrap();
            file.look_again().unwrap();
            publish(vec![file]).unwrap();
            drop(scratch);
            assert_eq!(names(dir.path()), ["a"]);
            assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"two");
        }
    }

    #[test]
    fn a_directory_that_went_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        let file = pending(&out, "a");
        if file.name.is_none() {
            fs::remove_dir(&out).unwrap();
            publish(vec![file]).unwrap();
            assert_eq!(names(&out), ["a"]);
        }
    }
}
