//! Makes the tree of the boot partition: what populateCmd lays out, systemd-boot and its entries, extraBootFiles,
//! the host's own files.
//!
//! Nothing is copied: the tree's files have their origins where they were found.

use std::path::{Path, PathBuf};

pub use self::error::PopulateError;
pub use self::grub::{GrubError, GrubFiles, Place};
pub use self::systemd_boot::SystemdBootError;

pub(crate) use self::systemd_boot::judge_bootspec;

use self::links::Store;
use self::merge::Merge;
use super::own::OwnEntry;
use super::tree::FileTree;
use crate::output::Scratch;
use crate::progress::{Cancel, Progress};
use crate::spec::SystemdBoot;
use crate::store::StoreRoot;

mod error;
#[cfg_attr(not(test), expect(dead_code, reason = "boot_tree does not call it yet"))]
mod grub;
mod judge;
mod links;
mod merge;
mod populate;
mod systemd_boot;
#[cfg(test)]
mod tests;

/// What the boot partition is to be filled with.
#[derive(Clone, Copy, Debug)]
pub struct BootRequest<'a> {
    /// The shell command that fills the directory named by its option `-d` for the toplevel named by `-c`.
    pub populate_cmd: Option<&'a str>,
    /// systemd-boot, if it is wanted.
    pub systemd_boot: Option<&'a SystemdBoot>,
    /// The toplevel's store path.
    pub toplevel: &'a Path,
    /// Directories whose contents are added, in this order.
    pub extra_boot_files: &'a [PathBuf],
    /// The host's own files, which come in the place of others, each directory before what is in it.
    pub own: &'a [OwnEntry],
    /// Where store paths are found on the host.
    pub store_root: &'a StoreRoot,
}

/// The files of the boot partition. Those that were made for it are gone when this is dropped.
#[derive(Debug)]
pub struct BootTree {
    /// Directories and regular files only.
    pub tree: FileTree,
    /// Holds what was made.
    _scratch: Vec<Scratch>,
}

/// Runs populateCmd in an empty directory, and adds systemd-boot and extraBootFiles to what it made.
///
/// The tree depends on names and contents alone: not on the order of directories, nor on modes, owners, times.
///
/// # Errors
/// If populateCmd fails, two sources disagree, the toplevel cannot be booted by systemd-boot, or there is anything that
/// FAT cannot hold and that leads to no file.
pub fn boot_tree(
    request: &BootRequest<'_>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<BootTree, PopulateError> {
    let store = Store(request.store_root);
    let mut merge = Merge::new(store);
    let mut scratch = Vec::new();
    if let Some(command) = request.populate_cmd {
        progress.stage("running populateCmd", 0, 0);
        let directory = new_scratch(&mut scratch)?;
        populate::populate(command, request, &directory, progress, cancel)?;
        merge.add(&directory, cancel)?;
    }
    if let Some(wanted) = request.systemd_boot {
        let directory = new_scratch(&mut scratch)?;
        systemd_boot::add(&mut merge, wanted, request.toplevel, &directory, progress, cancel)?;
    }
    for path in request.extra_boot_files {
        merge.add(&store.find_directory(path)?, cancel)?;
    }
    request.own.iter().try_for_each(|entry| merge.put(entry))?;
    let tree = merge.into_tree()?;
    judge::check(&tree)?;
    for warning in judge::warnings(&tree)? {
        progress.warn(&warning);
    }
    Ok(BootTree { tree, _scratch: scratch })
}

/// A new empty directory, by a path that is free of symbolic links. It is gone when it is dropped from `kept`.
fn new_scratch(kept: &mut Vec<Scratch>) -> Result<PathBuf, PopulateError> {
    let directory = Scratch::temporary().map_err(PopulateError::Scratch)?;
    let path = directory.path().to_owned();
    kept.push(directory);
    Ok(path)
}
