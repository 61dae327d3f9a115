//! What changed from one image to the next, or from a closure to an image.
//!
//! [`side`] reads, [`disk`], [`packages`], [`files`] and [`version`] compare and know of no image.

use std::num::NonZeroUsize;

use thiserror::Error;

use self::boot::EntryDiff;
use self::disk::DiskDiff;
use self::files::{FileChange, FileDiff};
use self::packages::{Paths, StoreDiff};
use self::side::Side;
use crate::image::{Image, Partition};
use crate::progress::{Cancel, Cancelled, Progress};
use crate::read::{FileSystem, ReadError};

pub mod boot;
mod contents;
pub mod disk;
pub mod files;
pub mod packages;
pub mod side;
pub mod version;

/// Whether to compare file by file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Partitions, filesystems, store paths and boot entries.
    Summary,
    /// Every file as well.
    Files,
}

/// How to compare.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// How far to look.
    pub depth: Depth,
    /// Threads to use; what is found does not depend on it.
    pub jobs: NonZeroUsize,
    /// Where to report to.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// Why nothing can be told.
#[derive(Debug, Error)]
pub enum DiffError {
    /// One of the two cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// A closure has no files.
    #[error("files can be compared only between two images; leave out --files, or build the closure's image first")]
    NoFiles,
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// How two sides differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The disks, if both are images.
    pub disk: Option<DiskDiff>,
    /// The stores, if both have one, or else what is left of one beside none.
    pub store: StoreDiff,
    /// The entries of boot loaders, if both are images.
    pub boot: Vec<EntryDiff>,
    /// The files by partition, if they were asked for.
    pub files: Vec<PartitionFiles>,
}

/// The files of a partition that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFiles {
    /// Its number before, if it was there.
    pub before: Option<u32>,
    /// Its number now, if it is there.
    pub after: Option<u32>,
    /// Sorted by path; not empty.
    pub files: Vec<FileDiff>,
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.disk.as_ref().is_none_or(DiskDiff::is_empty)
            && self.store.is_empty()
            && self.boot.is_empty()
            && self.files.is_empty()
    }
}

/// Compares two sides.
///
/// # Errors
/// If one cannot be read.
pub fn diff(before: &Side, after: &Side, options: Options<'_>) -> Result<Diff, DiffError> {
    options.progress.stage("comparing", 0, 0);
    let disk = match (before.disk(), after.disk()) {
        (Some(before), Some(after)) => Some(DiskDiff::new(&before, &after)),
        _ => None,
    };
    let [one, other] = [before.store()?, after.store()?].map(Option::unwrap_or_default);
    let store = compare_stores(before, after, &one, &other);
    let boot = match (before.boot(), after.boot()) {
        (Some(before), Some(after)) => boot::compare(&before, &after),
        _ => Vec::new(),
    };
    let files = match (options.depth, before, after) {
        (Depth::Summary, ..) => Vec::new(),
        (Depth::Files, Side::Image(before), Side::Image(after)) => compare_files(before, after, options)?,
        (Depth::Files, ..) => return Err(DiffError::NoFiles),
    };
    Ok(Diff { disk, store, boot, files })
}

/// A bare partition without a store says nothing of a store.
fn compare_stores(before: &Side, after: &Side, one: &Paths, other: &Paths) -> StoreDiff {
    let is_bare = |side: &Side| matches!(side, Side::Image(image) if image.is_bare());
    if (is_bare(before) && one.is_empty()) || (is_bare(after) && other.is_empty()) {
        return StoreDiff::default();
    }
    StoreDiff::new(one, other)
}

fn compare_files(before: &Image, after: &Image, options: Options<'_>) -> Result<Vec<PartitionFiles>, DiffError> {
    let (facts_before, facts_after) = (side::disk(before), side::disk(after));
    let are_alike = facts_before.table.is_some() == facts_after.table.is_some();
    let mut all = Vec::new();
    for (one, other) in disk::pair(&facts_before.partitions, &facts_after.partitions) {
        if !are_alike && (one.is_none() || other.is_none()) {
            continue;
        }
        let find = |image: &'_ Image, number: u32| -> Option<Partition> {
            image.partitions().iter().find(|partition| partition.number == number).cloned()
        };
        let one = one.and_then(|facts| find(before, facts.number));
        let other = other.and_then(|facts| find(after, facts.number));
        let files = partition_files(one.as_ref(), other.as_ref(), options)?;
        if !files.is_empty() {
            let number = |partition: Option<Partition>| partition.map(|partition| partition.number);
            all.push(PartitionFiles { before: number(one), after: number(other), files });
        }
    }
    Ok(all)
}

fn partition_files(
    before: Option<&Partition>,
    after: Option<&Partition>,
    options: Options<'_>,
) -> Result<Vec<FileDiff>, DiffError> {
    let Options { jobs, progress, cancel, .. } = options;
    cancel.check()?;
    progress.stage("listing files", 0, 0);
    let list = |partition: Option<&Partition>| match partition.filter(|partition| partition.format().is_some()) {
        Some(partition) => side::files(partition.open()?.as_ref() as &dyn FileSystem),
        None => Ok(files::Files::new()),
    };
    let (one, other) = (list(before)?, list(after)?);
    let (mut diffs, unread) = files::compare(&one, &other);
    if let (Some(before), Some(after)) = (before, after) {
        let bytes = unread
            .iter()
            .filter_map(|path| one.get(path))
            .fold(0u64, |sum, file| sum.saturating_add(file.metadata.len));
        progress.stage("comparing files", 0, bytes);
        files::add_contents(&mut diffs, contents::differing(before, after, &unread, jobs, progress, cancel)?);
    }
    Ok(diffs)
}

impl FileDiff {
    /// Whether this is a file that both have.
    pub fn is_change(&self) -> bool {
        matches!(self.change, FileChange::Changed(_))
    }
}
