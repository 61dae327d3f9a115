//! Follows symbolic links on the host, where the store may be below another root.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use crate::store::StoreRoot;

/// The most symbolic links on the way to a file, as in Linux.
const LINKS_MAX: u32 = 40;

/// Why a path leads to no file.
pub(super) enum Unresolved {
    Missing(PathBuf),
    Loop,
    Io(PathBuf, io::Error),
}

/// The place of the absolute `path`, free of links.
pub(super) fn find(root: &StoreRoot, path: &Path) -> Result<PathBuf, Unresolved> {
    resolve(root, root.root_of(path), path)
}

/// Follows all links on the way along `path` from `start`, those into the store below the root.
///
/// `start` must be free of links.
pub(super) fn resolve(root: &StoreRoot, start: &Path, path: &Path) -> Result<PathBuf, Unresolved> {
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
            at = root.root_of(&target).to_owned();
        }
        push_reversed(&mut ahead, &target);
    }
    Ok(at)
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
