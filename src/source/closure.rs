//! Scans the store paths of a closure into the tree of the nix filesystem.
//!
//! The result does not depend on how the host keeps its files. Owners, times, most permissions, hard links, holes and
//! the order of directories are ignored.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use super::own::OwnEntry;
use super::skeleton::{Entry, Skeleton};
use super::tree::{DirectoryMode, Executable, FileTree, TreeBuilder, TreeError};
use crate::output::kind_name;
use crate::progress::{Cancel, Cancelled, Progress};
use crate::store::registration::IMAGE_FILE_NAME;
use crate::store::{StorePath, StoreRoot};
use crate::threads;

/// The permission bit that says to Nix whether a file is executable.
const OWNER_EXECUTES: u32 = 0o100;

/// A closure that cannot be scanned.
#[derive(Debug, Error)]
pub enum ScanError {
    /// A path of the closure that is not in the store.
    #[error("{}: is not in the store; build or copy it there first (`nix-store --realise {}`)", path.display(), path.display())]
    Missing {
        /// The store path.
        path: PathBuf,
    },
    /// A file that could not be examined.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of a kind that no store path can hold.
    #[error("{}: is a {kind}; a store path holds only files, directories and symlinks", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// The files make no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What goes into the nix filesystem.
#[derive(Clone, Copy, Debug)]
pub struct NixContents<'a> {
    /// Where store paths are found on the host.
    pub store_root: &'a StoreRoot,
    /// The path from the tree's root of what is mounted as the filesystem of the store; may be empty.
    pub root: &'a Path,
    /// The store's path from the tree's root; may be empty.
    pub store: &'a Path,
    /// The store paths, in any order.
    pub paths: &'a [&'a StorePath],
    /// The file to be put at `root` as [`IMAGE_FILE_NAME`].
    pub registration: &'a Path,
    /// The other files, each directory before its contents.
    pub own: &'a [OwnEntry],
}

/// Scans the store paths, in parallel, and puts them where the nix filesystem has them.
///
/// # Errors
/// Of what is wrong, the first in the order of the paths that was found.
pub fn nix_tree(
    contents: NixContents<'_>,
    threads: NonZeroUsize,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<FileTree, ScanError> {
    progress.stage("scanning store paths", contents.paths.len() as u64, 0);
    let scanned = Mutex::new(BTreeMap::new());
    let scan = |(): &mut (), path: &&StorePath| {
        let tree = scan_store_path(&contents.store_root.locate(path.as_path()), path.base_name().as_ref(), cancel)?;
        progress.advance(1, 0);
        scanned.lock().unwrap_or_else(PoisonError::into_inner).insert(OsString::from(path.base_name()), tree);
        Ok::<_, ScanError>(())
    };
    threads::share_out(contents.paths.iter(), threads, || (), scan)?;
    let scanned = scanned.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut root = Skeleton::default();
    let store = root.directory(contents.store);
    scanned.into_iter().for_each(|(name, tree)| store.insert(name, Entry::Scanned(tree)));
    for entry in contents.own {
        root.add(entry);
    }
    let size = fs::metadata(contents.registration).map_err(io_error(contents.registration))?.len();
    let registration = Entry::File { source: contents.registration.to_owned(), size, attributes: None };
    root.directory(contents.root).insert(IMAGE_FILE_NAME.into(), registration);
    Ok(root.into_tree()?)
}

/// A tree whose root holds nothing but `name`, with all that is at `source` on the host.
fn scan_store_path(source: &Path, name: &OsStr, cancel: &Cancel) -> Result<FileTree, ScanError> {
    let metadata = fs::symlink_metadata(source).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ScanError::Missing { path: source.to_owned() },
        _ => io_error(source)(e),
    })?;
    let mut builder = TreeBuilder::new(DirectoryMode::ReadOnly);
    scan(&mut builder, source, name, &metadata, Some(source), cancel)?;
    Ok(builder.finish())
}

/// Adds the file, link or directory at `source` as `name`, with all below it.
fn scan(
    builder: &mut TreeBuilder,
    source: &Path,
    name: &OsStr,
    metadata: &Metadata,
    origin: Option<&Path>,
    cancel: &Cancel,
) -> Result<(), ScanError> {
    let kind = metadata.file_type();
    let node = if kind.is_dir() {
        builder.enter(name, DirectoryMode::ReadOnly)?
    } else if kind.is_file() {
        let executable = metadata.permissions().mode() & OWNER_EXECUTES != 0;
        builder.file(name, metadata.len(), if executable { Executable::Yes } else { Executable::No })?
    } else if kind.is_symlink() {
        let target = fs::read_link(source).map_err(io_error(source))?;
        builder.symlink(name, target.as_os_str())?
    } else {
        return Err(ScanError::SpecialFile { path: source.to_owned(), kind: kind_name(kind) });
    };
    if let Some(origin) = origin {
        builder.set_origin(node, origin.to_owned());
    }
    if kind.is_dir() {
        cancel.check()?;
        for (name, path, metadata) in list(source)? {
            scan(builder, &path, &name, &metadata, None, cancel)?;
        }
        builder.leave();
    }
    Ok(())
}

/// The entries of a directory, sorted by name.
fn list(directory: &Path) -> Result<Vec<(OsString, PathBuf, Metadata)>, ScanError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error(directory))? {
        let entry = entry.map_err(io_error(directory))?;
        let metadata = entry.metadata().map_err(|e| io_error(&entry.path())(e))?;
        entries.push((entry.file_name(), entry.path(), metadata));
    }
    entries.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(entries)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ScanError + use<> {
    let path = path.to_owned();
    move |source| ScanError::Io { path, source }
}
