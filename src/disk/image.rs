//! The image file: built out of sight, shown under its final name only when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};
use thiserror::Error;

/// The output cannot be made where the user wants it.
#[derive(Debug, Error)]
#[error("{}: {action}: {source}", path.display())]
pub struct OutputError {
    /// The file or directory.
    pub path: PathBuf,
    /// What was tried, such as "cannot create".
    pub action: &'static str,
    /// What the operating system said.
    pub source: io::Error,
}

impl OutputError {
    fn new(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { path, action, source }
    }
}

/// A directory beside the final files, in which they are built.
///
/// Dropped before [`publish`](Self::publish), it takes all that was built with it.
#[derive(Debug)]
pub struct Staging {
    scratch: TempDir,
    /// Where the files go in the end.
    out: PathBuf,
    /// The part of the way to `out` that did not exist before; removed again on failure.
    made: Option<PathBuf>,
}

impl Staging {
    /// Prepares to publish into the directory `out`, which is made if need be.
    pub fn new(out: &Path) -> Result<Self, OutputError> {
        let made = out.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).last();
        let made = made.map(Path::to_owned);
        fs::create_dir_all(out).map_err(OutputError::new(out, "cannot create the output directory"))?;
        let scratch = Builder::new()
            .prefix(".sane-image-")
            .tempdir_in(out)
            .map_err(OutputError::new(out, "cannot write into the output directory"))?;
        Ok(Self { scratch, out: out.to_owned(), made })
    }

    /// The directory to build in; on the filesystem of the final files.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Creates an empty file of `size` bytes, all of them a hole, to be read and written.
    pub fn create(&self, name: &OsStr, size: u64) -> Result<File, OutputError> {
        let path = self.path().join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(OutputError::new(&self.out.join(name), "cannot create"))?;
        let resized = file.set_len(size);
        resized.map_err(OutputError::new(&self.out.join(name), "cannot be made as large as the image"))?;
        Ok(file)
    }

    /// Writes a small file.
    pub fn write(&self, name: &OsStr, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.path().join(name);
        let written = File::create_new(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(OutputError::new(&self.out.join(name), "cannot be written"))
    }

    /// Makes the bytes of a file durable.
    pub fn sync(&self, name: &OsStr) -> Result<(), OutputError> {
        let synced = File::open(self.path().join(name)).and_then(|file| file.sync_all());
        synced.map_err(OutputError::new(&self.out.join(name), "cannot be written out"))
    }

    /// Moves everything that was built to its final place, `last` after all others, and makes that durable.
    ///
    /// What has the name of a new file before is replaced.
    pub fn publish(mut self, last: &OsStr) -> Result<(), OutputError> {
        let listing = fs::read_dir(self.path()).and_then(|entries| {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names.collect::<io::Result<Vec<OsString>>>()
        });
        let mut names = listing.map_err(OutputError::new(&self.out, "cannot list what was built"))?;
        names.sort_by(|a, b| (a == last, a).cmp(&(b == last, b)));
        for name in &names {
            let target = self.out.join(name);
            fs::rename(self.path().join(name), &target).map_err(OutputError::new(&target, "cannot put in place"))?;
        }
        self.made = None;
        sync_directory(&self.out)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Directories made for nothing go as well, as long as nothing else has come to be in them.
        if let Some(top) = &self.made {
            let _ = fs::remove_dir_all(self.scratch.path());
            for path in self.out.ancestors() {
                if fs::remove_dir(path).is_err() || path == top {
                    break;
                }
            }
        }
    }
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), OutputError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(OutputError::new(path, "cannot be synced"))
}

/// A file's directory and its name.
///
/// # Errors
/// If the path ends in no name, or names a directory.
pub fn split_file_path(path: &Path) -> Result<(&Path, &OsStr), OutputError> {
    let refuse = |kind: io::ErrorKind| OutputError::new(path, "cannot be written")(kind.into());
    if path.is_dir() {
        return Err(refuse(io::ErrorKind::IsADirectory));
    }
    let name = path.file_name().ok_or_else(|| refuse(io::ErrorKind::InvalidFilename))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

/// What the operating system knows of a finished file.
pub fn metadata(path: &Path) -> Result<Metadata, OutputError> {
    fs::metadata(path).map_err(OutputError::new(path, "cannot be examined"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_not_published_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(&dir.path().join("a/b")).unwrap();
        staging.create(OsStr::new("x.img"), 4096).unwrap();
        drop(staging);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn what_is_published_is_all_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for size in [1, 2] {
            let staging = Staging::new(&out).unwrap();
            staging.create(OsStr::new("x.img"), size).unwrap();
            staging.create(OsStr::new("extra"), 0).unwrap();
            staging.publish(OsStr::new("x.img")).unwrap();
            assert_eq!(names(&out), ["extra", "x.img"]);
            assert_eq!(fs::metadata(out.join("x.img")).unwrap().len(), size);
        }
    }

    #[test]
    fn a_directory_that_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(Staging::new(dir.path()).unwrap());
        assert!(dir.path().exists());
    }
}
