//! Finds what changed from one image to the next, or from a closure to an image.
//!
//! [`side`] reads the two sides. [`disk`], [`packages`], [`files`] and [`version`] compare what it read, and read no
//! image.

use std::fmt;
use std::num::NonZeroUsize;

use thiserror::Error;

use self::boot::EntryDiff;
use self::disk::DiskDiff;
use self::files::{FileChange, FileDiff, Files};
use self::packages::{Paths, StoreDiff};
use self::side::{PartitionError, Side};
use crate::image::store::{StoreLocation, locate};
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
    /// Partitions, filesystems, files outside the store, store paths and boot entries.
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

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first.
    Before,
    /// The second.
    After,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "the first image",
            Self::After => "the second image",
        })
    }
}

/// Why images cannot be compared.
#[derive(Debug, Error)]
pub enum DiffError {
    /// One of the two cannot be read.
    #[error("{which}: partition {partition}")]
    Read {
        /// Which one.
        which: Which,
        /// The number of the partition.
        partition: u32,
        /// Why.
        source: ReadError,
    },
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
    /// The files outside the stores by partition, if both are images and have a store there.
    pub outside: Vec<PartitionFiles>,
    /// The stores, if both have one, or else what is left of one beside none.
    pub store: StoreDiff,
    /// The entries of boot loaders, if both are images.
    pub boot: Vec<EntryDiff>,
    /// All files by partition, if they were asked for.
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

impl PartitionFiles {
    /// Those outside the store; `None` if there are none.
    fn outside(&self) -> Option<Self> {
        let files: Vec<_> = self.files.iter().filter(|file| file.is_outside).cloned().collect();
        (!files.is_empty()).then_some(Self { files, ..*self })
    }
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.disk.as_ref().is_none_or(DiskDiff::is_empty)
            && self.outside.is_empty()
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
    let store = |side: &Side, which| match side.store() {
        Ok(paths) => Ok(paths.unwrap_or_default()),
        Err(PartitionError { number, error }) => Err(DiffError::Read { which, partition: number, source: error }),
    };
    let (one, other) = (store(before, Which::Before)?, store(after, Which::After)?);
    let store = compare_stores(before, after, &one, &other);
    let boot = match (before.boot(), after.boot()) {
        (Some(before), Some(after)) => boot::compare(&before, &after),
        _ => Vec::new(),
    };
    let found = match (before, after) {
        (Side::Image(before), Side::Image(after)) => compare_files(before, after, options)?,
        _ if options.depth == Depth::Files => return Err(DiffError::NoFiles),
        _ => Vec::new(),
    };
    let outside = found.iter().filter_map(PartitionFiles::outside).collect();
    let files = if options.depth == Depth::Files { found } else { Vec::new() };
    Ok(Diff { disk, outside, store, boot, files })
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
    let Options { depth, jobs, progress, cancel } = options;
    cancel.check()?;
    let (one, other) = (Listing::open(before, Which::Before)?, Listing::open(after, Which::After)?);
    let has_store = one.has_store() || other.has_store();
    if depth == Depth::Summary && !has_store {
        return Ok(Vec::new());
    }
    progress.stage("listing files", 0, 0);
    let list = |side: Listing<'_>| side.files(has_store, depth, cancel);
    let (one, other) = (list(one)?, list(other)?);
    let (mut diffs, unread) = files::compare(&one, &other);
    if let (Some(before), Some(after)) = (before, after) {
        let bytes = unread
            .iter()
            .filter_map(|path| one.get(path))
            .fold(0u64, |sum, file| sum.saturating_add(file.metadata.len));
        progress.stage("comparing files", 0, bytes);
        let differing = contents::differing(before, after, &unread, jobs, progress, cancel)?;
        files::add_contents(&mut diffs, &differing, &one, &other);
    }
    Ok(diffs)
}

/// A partition whose files are to be listed.
struct Listing<'a> {
    which: Which,
    partition: Option<&'a Partition>,
    fs: Option<Box<dyn FileSystem>>,
    location: Option<StoreLocation>,
}

impl<'a> Listing<'a> {
    fn open(partition: Option<&'a Partition>, which: Which) -> Result<Self, DiffError> {
        let partition = partition.filter(|partition| partition.format().is_some());
        let Some(there) = partition else { return Ok(Self { which, partition, fs: None, location: None }) };
        let tell = DiffError::read(which, there);
        let fs = there.open().map_err(&tell)?;
        let location = locate(fs.as_ref()).map_err(&tell)?;
        Ok(Self { which, partition, fs: Some(fs), location })
    }

    fn has_store(&self) -> bool {
        self.location.is_some()
    }

    /// Where neither partition has a store, nothing is outside one.
    fn files(self, has_store: bool, depth: Depth, cancel: &Cancel) -> Result<Files, DiffError> {
        let (Some(partition), Some(fs)) = (self.partition, self.fs) else { return Ok(Files::new()) };
        let listed = side::files(fs.as_ref(), self.location.as_ref(), depth, cancel);
        let mut files = listed.map_err(|error| match error {
            FilesError::Read(source) => DiffError::read(self.which, partition)(source),
            FilesError::Cancelled(cancelled) => cancelled.into(),
        })?;
        if !has_store {
            files.values_mut().for_each(|facts| facts.is_outside = false);
        }
        Ok(files)
    }
}

/// Why files cannot be listed.
#[derive(Debug, Error)]
enum FilesError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DiffError {
    /// Says of an error where it comes from.
    fn read(which: Which, partition: &Partition) -> impl Fn(ReadError) -> Self + use<> {
        let partition = partition.number;
        move |source| Self::Read { which, partition, source }
    }
}

impl FileDiff {
    /// Whether this is a file that both have.
    pub fn is_change(&self) -> bool {
        matches!(self.change, FileChange::Changed(_))
    }
}
