//! Directories for unfinished files that must have a name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::abandoned::{self, Lock};
use super::{HIDDEN, OutputError};

/// What the names of directories in the system's place for temporary files start with.
const TEMPORARY: &str = "sane-image-work-";
/// How often another name is tried.
const ATTEMPTS: usize = 8;

/// A directory of our own, which goes with all that is in it when it is dropped; after a kill, at the next run.
#[derive(Debug)]
pub struct Scratch {
    // Removed before it is unlocked.
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// A hidden directory in `directory`.
    pub fn beside(directory: &Path) -> Result<Self, OutputError> {
        Self::new(directory, HIDDEN).map_err(OutputError::io(directory, "cannot be written to"))
    }

    /// A directory where the system has temporary files.
    pub fn temporary() -> io::Result<Self> {
        Self::new(&fs::canonicalize(std::env::temp_dir())?, TEMPORARY)
    }

    fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        abandoned::sweep(parent, prefix);
        for _ in 0..ATTEMPTS {
            let directory = Builder::new().prefix(prefix).tempdir_in(parent)?;
            let opened = File::open(directory.path()).and_then(|file| Ok((abandoned::lock(&file)?, file)));
            match opened {
                Ok((Lock::Held, file)) => return Ok(Self { directory, _lock: file }),
                Ok((Lock::Lost, _)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Creates an empty file of `size` bytes, all of them a hole, to be read and written.
    pub fn create(&self, name: impl AsRef<Path>, size: u64) -> Result<File, OutputError> {
        let path = self.path().join(name);
        let created = File::options().read(true).write(true).create_new(true).open(&path);
        let resized = created.and_then(|file| file.set_len(size).map(|()| file));
        resized.map_err(OutputError::io(&path, "cannot be made"))
    }

    /// All that is in it, sorted.
    pub fn list(&self) -> Result<Vec<PathBuf>, OutputError> {
        let entries = fs::read_dir(self.path())
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
        let mut entries = entries.map_err(OutputError::io(self.path(), "cannot be listed"))?;
        entries.sort();
        Ok(entries)
    }
}
