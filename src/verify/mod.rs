//! Proves an image from its own bytes. It checks the structures of its partition table and filesystems, and compares
//! the NAR of every store path with the registered hash and size.
//!
//! It uses [`image`](crate::image), as all commands that look into an image do.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use thiserror::Error;

use crate::image::Image;
use crate::progress::{Cancel, Cancelled, Progress};
use crate::read::{self, FileSystem, Format, ReadError};
use crate::store::Registration;
use crate::store::nar::NarHash;

pub use sealed::TreeReport;

mod boot_code;
mod partitions;
mod registered;
mod sealed;
mod stores;
mod tree;
mod work;

/// How to verify.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads to use; what is found does not depend on it.
    pub jobs: NonZeroUsize,
    /// What to compare the store with, instead of with the image's own `nix-path-registration` and
    /// database.
    pub registration: Option<&'a [Registration]>,
    /// Where to report to.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// Part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The partition table.
    Table,
    /// The partition of this number; a bare image is number 1.
    Partition(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("partition table"),
            Self::Partition(number) => write!(f, "partition {number}"),
        }
    }
}

/// One thing that is wrong: one line for people. All names are escaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("{place}: {what}: {why}")]
pub struct Fault {
    /// The part of the image.
    pub place: Place,
    /// Whether this is about the store; structures come first.
    pub is_of_store: bool,
    /// The structure or the file: from the filesystem's root.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// The store path, `<hash>-<name>`, if it is about one.
    pub store_path: Option<String>,
}

impl Fault {
    fn structure(place: Place, fault: read::Fault) -> Self {
        let read::Fault { what, why } = fault;
        Self { place, is_of_store: false, what, why, store_path: None }
    }

    /// What a reader says about a filesystem as a whole.
    fn of_error(place: Place, what: &str, error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(fault) => Self::structure(place, fault),
            other => Self::structure(place, read::Fault { what: what.to_owned(), why: describe(&other) }),
        }
    }
}

/// Something wrong with a name in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoreFault {
    /// The name in the store, escaped.
    name: String,
    why: String,
}

impl StoreFault {
    fn new(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), why: why.into() }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All that is wrong, sorted, each once.
    pub faults: Vec<Fault>,
    /// What could not be looked at, and is no fault: a sentence each.
    pub notes: Vec<String>,
    /// Whether there is a GUID partition table.
    pub has_table: bool,
    /// Whether there is the partition table of an MBR.
    pub has_mbr: bool,
    /// The filesystems whose structures were checked, by the number of their partition.
    pub filesystems: Vec<(u32, Format)>,
    /// The dm-verity trees that were recomputed.
    pub trees: Vec<TreeReport>,
    /// The stores that were hashed.
    pub stores: Vec<StoreReport>,
}

/// What was read of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// The partition.
    pub partition: u32,
    /// Where the store is in it, escaped.
    pub store: String,
    /// What tells which paths are registered: files from their filesystem's root, escaped, or `--registration`.
    pub registered_in: Vec<String>,
    /// Store paths that are registered and there.
    pub paths: u64,
    /// Names in the store that its database does not have and that are no fault.
    pub unregistered: u64,
    /// Regular files in them.
    pub files: u64,
    /// Bytes of contents that were read.
    pub bytes: u64,
    /// Bytes of NARs that were hashed to their end.
    pub nar_bytes: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_right(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Verifies an image.
///
/// # Errors
/// Only if it is told to stop: whatever is wrong with the image is in the report.
pub fn verify(image: &Image, options: Options<'_>) -> Result<Report, Cancelled> {
    options.progress.stage("looking for stores", 0, 0);
    let (has_table, has_mbr) = (image.table().is_some(), image.mbr().is_some());
    let mut report = Report { has_table, has_mbr, ..Report::default() };
    if let Some(mbr) = image.mbr() {
        report.faults.extend(mbr.faults.iter().map(|fault| Fault::structure(Place::Table, fault.clone())));
    }
    if let Some(table) = image.table() {
        report.faults.extend(table.faults.iter().map(|fault| Fault::structure(Place::Table, fault.clone())));
    }
    let started = boot_code::check(image, &mut report);
    let checks = partitions::find(image, started, &mut report);
    let stores = stores::find(image, options.registration, &mut report);
    work::run(&checks, stores, options, &mut report)?;
    sealed::check(image, options, &mut report)?;
    report.faults.sort();
    report.faults.dedup();
    Ok(report)
}

/// The hash and the size of one path's NAR, or `None` if it cannot be read to its end.
///
/// # Errors
/// If it is told to stop.
pub fn nar_of(
    fs: &dyn FileSystem,
    path: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Option<NarHash>, Cancelled> {
    let surroundings = tree::Surroundings { fs, progress, cancel, entries: &AtomicU64::new(0) };
    let hashed = tree::hash(surroundings, path, u64::MAX, &mut Vec::new())?;
    Ok(hashed.nar)
}

/// An error and its causes in one line.
fn describe(error: &ReadError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
