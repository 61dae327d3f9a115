//! Follows symbolic links on the host, where the store may be below another root.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use super::error::{PopulateError, io_error};
use crate::store::StoreRoot;

/// The most symbolic links on the way to a file, as in Linux.
const LINKS_MAX: u32 = 40;

/// The store, as one in which paths are to be followed.
#[derive(Clone, Copy)]
pub(super) struct Store<'a>(pub(super) &'a StoreRoot);

/// Why a path leads to no file.
enum Unresolved {
    Missing(PathBuf),
    Loop,
    Io(PathBuf, io::Error),
}

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

    /// The path from the store directory to a place that was found.
    pub(super) fn in_store<'p>(&self, found: &'p Path) -> Option<&'p Path> {
        found.strip_prefix(self.0.locate(self.0.store_dir())).ok()
    }

    fn find(&self, path: &Path) -> Result<PathBuf, PopulateError> {
        self.resolve(self.0.root_of(path), path).map_err(|error| match error {
            Unresolved::Missing(missing) => io_error(&missing)(ErrorKind::NotFound.into()),
            Unresolved::Loop => PopulateError::LinkLoop { link: path.to_owned() },
            Unresolved::Io(path, source) => PopulateError::Io { path, source },
        })
    }

    /// The file that a symbolic link leads to, and its length.
    pub(super) fn follow(&self, link: &Path) -> Result<(PathBuf, u64), PopulateError> {
        let directory = link.parent().unwrap_or(Path::new("/"));
        let name = link.file_name().unwrap_or_default();
        let target = self.resolve(directory, Path::new(name)).map_err(|error| match error {
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

    /// Follows all links on the way along `path` from `start`, those into the store below the root.
    ///
    /// `start` must be free of links.
    fn resolve(&self, start: &Path, path: &Path) -> Result<PathBuf, Unresolved> {
        let mut at = start.to_owned();
        let mut ahead = Vec::new();
        push_reversed(&mut ahead, path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(&name);
            let Some(target) = link_target(&at)? else { continue };
            links += 1;
            if links > LINKS_MAX {
                return Err(Unresolved::Loop);
            }
            at.pop();
            if target.is_absolute() {
                at = self.0.root_of(&target).to_owned();
            }
            push_reversed(&mut ahead, &target);
        }
        Ok(at)
    }
}

/// Puts the names along a path on a stack, the first on top.
fn push_reversed(stack: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    stack.extend(names.map(|part| part.as_os_str().to_owned()));
}

/// What `path` links to, or `None` if it is no link.
fn link_target(path: &Path) -> Result<Option<PathBuf>, Unresolved> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Unresolved::Missing(path.to_owned()))
        }
        Err(e) => Err(Unresolved::Io(path.to_owned(), e)),
    }
}

/// What a file is that is neither regular nor directory nor symbolic link.
pub(super) fn special(file_type: FileType) -> Option<&'static str> {
    match file_type {
        t if t.is_block_device() => Some("block device"),
        t if t.is_char_device() => Some("character device"),
        t if t.is_fifo() => Some("fifo"),
        t if t.is_socket() => Some("socket"),
        _ => None,
    }
}
