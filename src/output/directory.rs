//! A directory for results.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::target::{self, Target};
use super::{OutputError, Scratch};

/// A directory that was there, or was made for the results and goes again if there are none.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The part of the way to it that did not exist before.
    made: Option<PathBuf>,
}

impl Directory {
    /// The directory at `path`, made with all that leads to it unless it is there.
    ///
    /// # Errors
    /// If there is something else, or it cannot be made.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        target::refuse_among_devices(path, path)?;
        let missing = |path: &&Path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err();
        let mut made = None;
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) => {
                let kind = target::kind_name(metadata.file_type());
                return Err(OutputError::refused(path, format!("is a {kind}; give the name of a directory")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(dangling) = path.ancestors().find_map(target::dangling_link) {
                    return Err(dangling);
                }
                made = path.ancestors().take_while(missing).last().map(Path::to_owned);
                fs::create_dir_all(path).map_err(OutputError::io(path, "cannot be made"))?;
            }
            Err(error) => return Err(OutputError::io(path, "cannot be made")(error)),
        }
        Ok(Self { path: path.to_owned(), made })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name` in it.
    ///
    /// # Errors
    /// Those of [`Target::find`].
    pub fn target(&self, name: impl AsRef<Path>) -> Result<Target, OutputError> {
        Target::find(&self.path.join(name))
    }

    /// Whether everything in `scratch` can be put here.
    ///
    /// # Errors
    /// If something here is in the way.
    pub fn check(&self, scratch: &Scratch) -> Result<(), OutputError> {
        self.places(scratch, &[]).map(drop)
    }

    /// Puts everything in `scratch` but the entries `except` here, each as a whole. Files with names here are replaced.
    pub fn adopt(&self, scratch: &Scratch, except: &[OsString]) -> Result<(), OutputError> {
        let places = self.places(scratch, except)?;
        for (from, to) in &places {
            sync_all(from).map_err(OutputError::io(to, "cannot be written out"))?;
        }
        for (from, to) in &places {
            fs::rename(from, to).map_err(OutputError::io(to, "cannot be put in place"))?;
        }
        Ok(())
    }

    fn places(&self, scratch: &Scratch, except: &[OsString]) -> Result<Vec<(PathBuf, PathBuf)>, OutputError> {
        let entries = scratch.list()?.into_iter();
        let entries = entries.filter(|path| !except.iter().any(|except| path.file_name() == Some(except)));
        entries.map(|path| self.place_of(&path).map(|place| (path, place))).collect()
    }

    /// Where an entry of a scratch directory goes.
    fn place_of(&self, entry: &Path) -> Result<PathBuf, OutputError> {
        let place = self.path.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() && place.is_dir() {
            // Replaced if it is empty.
            return Ok(place);
        }
        Ok(Target::find(&place)?.path())
    }

    /// Makes the names in it durable, and lets it stay.
    pub fn keep(mut self) -> Result<(), OutputError> {
        sync(&self.path)?;
        if let Some(top) = self.made.take() {
            let above = self.path.ancestors().take_while(|path| path.starts_with(&top));
            above.map(target::parent).try_for_each(sync)?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Removes the directories that were made, if they are empty.
        if let Some(top) = &self.made {
            for path in self.path.ancestors() {
                if fs::remove_dir(path).is_err() || path == top {
                    break;
                }
            }
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(path: &Path) -> Result<(), OutputError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(OutputError::io(path, "cannot be written out"))
}

/// Makes a file durable, or all that is in a directory.
fn sync_all(path: &Path) -> io::Result<()> {
    for entry in WalkDir::new(path).follow_root_links(false) {
        let entry = entry?;
        if entry.file_type().is_file() || entry.file_type().is_dir() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_for_nothing_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(&dir.path().join("a/b")).unwrap());
        assert!(!dir.path().join("a").exists());
        drop(Directory::open(dir.path()).unwrap());
        assert!(dir.path().exists());
        Directory::open(&dir.path().join("a/b")).unwrap().keep().unwrap();
        assert!(dir.path().join("a/b").exists());
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        let refused = |name: &str| Directory::open(&at(name)).unwrap_err().to_string();
        assert!(refused("file").ends_with("file: is a regular file; give the name of a directory"));
        for name in ["dangling", "dangling/below"] {
            assert!(refused(name).ends_with("is a link to nothing, which is not there; remove the link"), "{name}");
        }
        assert!(refused("file/below").contains("cannot be made"));
    }

    #[test]
    fn a_scratch_directory_is_adopted_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let scratch = Scratch::beside(dir.path()).unwrap();
        fs::create_dir(scratch.path().join("sub")).unwrap();
        fs::write(scratch.path().join("sub/file"), "1").unwrap();
        fs::write(scratch.path().join("file"), "2").unwrap();
        fs::write(scratch.path().join("not this"), "4").unwrap();
        fs::create_dir(dir.path().join("file")).unwrap();
        assert!(directory.check(&scratch).unwrap_err().to_string().contains("is a directory"));
        assert!(directory.adopt(&scratch, &[]).is_err());
        assert_eq!(scratch.list().unwrap().len(), 3);
        fs::remove_dir(dir.path().join("file")).unwrap();
        fs::write(dir.path().join("old"), "3").unwrap();
        std::os::unix::fs::symlink("old", dir.path().join("file")).unwrap();
        directory.adopt(&scratch, &["not this".into()]).unwrap();
        drop(scratch);
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([text("sub/file"), text("old"), text("file")], ["1", "2", "2"]);
        assert!(dir.path().join("file").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
