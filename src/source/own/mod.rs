//! The host's own files, besides the closure: `files` and `extraDirectories` of the spec, and a directory that is
//! copied over everything (`--extra-files`).
//!
//! Before anything is written, it is known where each file goes and which option it comes from. All mistakes are
//! reported at once.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tree::Attributes;
use crate::mounts::MountTable;
use crate::output::Scratch;
use crate::progress::{Cancel, Cancelled};
use crate::spec::{FileSystem, Reserved, Spec};
use crate::store::StoreRoot;

mod database;
mod gather;
mod scan;
#[cfg(test)]
mod tests;

use self::gather::Gather;

/// The host's own files cannot be in the image.
#[derive(Debug, Error)]
pub enum OwnError {
    /// What is wrong with each, a line for each.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// There is not a place for the texts of the spec.
    #[error("files: cannot be written to a temporary directory: {0}; set TMPDIR to one that can be written to")]
    Scratch(#[source] io::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// A directory to be laid over the image.
#[derive(Clone, Debug, Default)]
pub struct ExtraFiles {
    /// It stands for `/`. Absolute, and no symbolic link.
    pub directory: PathBuf,
    /// The owners. If several match a file, the last one counts.
    pub chown: Vec<Chown>,
}

/// Gives a path, and all of the host's own files below it, to somebody else than root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chown {
    /// Where the running system has it; absolute.
    pub path: PathBuf,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnKind {
    /// A directory, which may be there for other reasons, too.
    Directory,
    /// A file.
    File {
        /// Where it is on the host.
        source: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link and its target.
    Symlink(OsString),
}

/// Something of the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEntry {
    /// Where it is in its filesystem, as path from the root of that one's tree.
    pub path: PathBuf,
    /// Where the running system has it; absolute.
    pub target: PathBuf,
    /// What it is.
    pub kind: OwnKind,
    /// Who owns it, and its permissions.
    pub attributes: Attributes,
    /// Where it comes from: a JSON path, or a path on the host.
    pub origin: String,
}

/// Where the running system has what of an image.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// What is mounted where.
    pub mounts: &'a MountTable,
    /// The parts of the filesystem of the store that are the store's.
    pub reserved: Reserved,
    /// The store directory.
    pub store_dir: &'a Path,
    /// The ESP; on `/boot` if it is not known where.
    pub boot: FatMount<'a>,
    /// The XBOOTLDR partition, if there is one.
    pub xbootldr: Option<FatMount<'a>>,
}

/// A FAT, as it is mounted.
#[derive(Clone, Copy, Debug)]
pub struct FatMount<'a> {
    /// Where.
    pub mount_point: &'a Path,
    /// How.
    pub options: &'a [String],
}

impl<'a> Places<'a> {
    /// Those that a spec gives.
    pub fn of(spec: &'a Spec) -> Self {
        let mounted = |fat: &'a FileSystem| FatMount { mount_point: &fat.mount_point, options: &fat.options };
        Self {
            mounts: &spec.mounts,
            reserved: spec.reserved(),
            store_dir: spec.store_dir.as_path(),
            boot: spec.esp.as_ref().map_or(FatMount { mount_point: Path::new("/boot"), options: &[] }, mounted),
            xbootldr: spec.xbootldr.as_ref().map(mounted),
        }
    }
}

/// All that a host has of its own. Files that were made for it are gone when this is dropped.
#[derive(Debug, Default)]
pub struct OwnFiles {
    /// Those of the ESP, each directory before what is in it.
    pub boot: Vec<OwnEntry>,
    /// Those of the XBOOTLDR partition, likewise.
    pub xbootldr: Vec<OwnEntry>,
    /// Those of the filesystem of the store, likewise.
    pub nix: Vec<OwnEntry>,
    /// Warnings about what the user may not have meant, one line each.
    pub warnings: Vec<String>,
    /// Holds the texts of the spec.
    _scratch: Option<Scratch>,
}

/// Finds out all that the host has of its own.
///
/// # Errors
/// If anything is in the way of anything, cannot be examined, or cannot be where it is to be.
pub fn gather(
    spec: &Spec,
    extra: Option<&ExtraFiles>,
    store_root: &StoreRoot,
    cancel: &Cancel,
) -> Result<OwnFiles, OwnError> {
    let mut gather = Gather::new(Places::of(spec));
    gather.directories(spec);
    database::add(&mut gather, spec, store_root);
    let scratch = scan::files(&mut gather, spec, store_root, cancel)?;
    if let Some(extra) = extra {
        gather.lay_over(extra, cancel)?;
    }
    gather.finish(scratch)
}

/// Finds out all that a directory lays over the running system of `places`.
///
/// # Errors
/// As of [`gather`].
pub fn gather_extra(places: Places<'_>, extra: &ExtraFiles, cancel: &Cancel) -> Result<OwnFiles, OwnError> {
    let mut gather = Gather::new(places);
    gather.lay_over(extra, cancel)?;
    gather.finish(None)
}

impl Gather<'_> {
    fn lay_over(&mut self, extra: &ExtraFiles, cancel: &Cancel) -> Result<(), OwnError> {
        scan::extra(self, &extra.directory, cancel)?;
        extra.chown.iter().for_each(|chown| self.chown(chown));
        Ok(())
    }
}
