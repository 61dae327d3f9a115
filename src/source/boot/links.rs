//! Finds the files of the boot tree on the host, through all links.

use std::fs::{self, FileType};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{PopulateError, io_error};
use crate::output::kind_name;
use crate::source::links::{Unresolved, find, resolve};
use crate::store::StoreRoot;

/// The store, as one in which paths are to be followed.
#[derive(Clone, Copy)]
pub(super) struct Store<'a>(pub(super) &'a StoreRoot);

impl Store<'_> {
    /// The place of an entry of extraBootFiles, free of symbolic links.
    pub(super) fn find_directory(&self, path: &Path) -> Result<PathBuf, PopulateError> {
        let found = self.find(path)?;
        if fs::symlink_metadata(&found).map_err(io_error(&found))?.is_dir() {
            Ok(found)
        } else {
            Err(PopulateError::NotADirectory { path: path.to_owned() })
        }
    }

    /// The place of a file, free of symbolic links, and its length in bytes.
    pub(super) fn find_file(&self, path: &Path) -> Result<(PathBuf, u64), PopulateError> {
        let found = self.find(path)?;
        let metadata = fs::symlink_metadata(&found).map_err(io_error(&found))?;
        match special(metadata.file_type()) {
            Some(kind) => Err(PopulateError::SpecialFile { path: path.to_owned(), kind }),
            None if metadata.is_dir() => Err(PopulateError::NotAFile { path: path.to_owned() }),
            None => Ok((found, metadata.len())),
        }
    }

    /// Whether a path leads to anything.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok_and(|found| found.symlink_metadata().is_ok())
    }

    /// The store directory's own path in the running system.
    pub(super) fn directory(&self) -> &Path {
        self.0.store_dir()
    }

    /// The path from the store directory to a place that was found.
    pub(super) fn in_store<'p>(&self, found: &'p Path) -> Option<&'p Path> {
        found.strip_prefix(self.0.locate(self.0.store_dir())).ok()
    }

    fn find(&self, path: &Path) -> Result<PathBuf, PopulateError> {
        find(self.0, path).map_err(|error| match error {
            Unresolved::Missing(missing) => io_error(&missing)(ErrorKind::NotFound.into()),
            Unresolved::Loop => PopulateError::LinkLoop { link: path.to_owned() },
            Unresolved::Io(path, source) => PopulateError::Io { path, source },
        })
    }

    /// The file that a symbolic link leads to, and its length.
    pub(super) fn follow(&self, link: &Path) -> Result<(PathBuf, u64), PopulateError> {
        let directory = link.parent().unwrap_or(Path::new("/"));
        let name = link.file_name().unwrap_or_default();
        let target = resolve(self.0, directory, Path::new(name)).map_err(|error| match error {
            Unresolved::Missing(target) => PopulateError::DanglingLink { link: link.to_owned(), target },
            Unresolved::Loop => PopulateError::LinkLoop { link: link.to_owned() },
            Unresolved::Io(path, source) => PopulateError::Io { path, source },
        })?;
        let metadata = fs::symlink_metadata(&target).map_err(io_error(&target))?;
        match special(metadata.file_type()) {
            Some(kind) => Err(PopulateError::SpecialFile { path: link.to_owned(), kind }),
            None if metadata.is_dir() => Err(PopulateError::LinkToDirectory { link: link.to_owned(), target }),
            None => Ok((target, metadata.len())),
        }
    }
}

/// What a file is that is neither regular nor directory nor symbolic link.
pub(super) fn special(file_type: FileType) -> Option<&'static str> {
    let is_usual = file_type.is_file() || file_type.is_dir() || file_type.is_symlink();
    (!is_usual).then(|| kind_name(file_type))
}
