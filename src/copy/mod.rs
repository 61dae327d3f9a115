//! Moves the contents of files to their final places in the image, in parallel, each byte once.
//!
//! A filesystem offers its files as [`CopyJobs`]. They are cut into parts, and neighbouring parts are put into batches
//! (`parts`). Threads take the batches in the order of the image. A thread asks the kernel to read the files of a batch
//! ahead (`source`). Then it reads them into one buffer and writes that at once (`worker`). So one write serves
//! hundreds of small files. For a large file, the kernel moves its pages or shares them (`image`).
//!
//! Files whose contents are to be changed are [`PackJobs`]. Threads take their units in order and change them in
//! parallel. Then the units are placed, one batch after the other, and written in parallel again (`packing`).
//!
//! Jobs are made when they are needed, so a million files do not need a million paths in memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;

use self::image::Image;
pub(crate) use self::image::data_runs;
pub use self::jobs::{CopyJobs, Files, Form, Observer, PackJobs, Packer, Piece, Unit};
pub use self::listed::{FileList, Listed};
pub use self::moved::Moved;
use self::packing::PackWorker;
use self::parts::{Batches, UnitBatches};
pub use self::places::Places;
pub use self::reader::{PartReader, WantedAt};
pub use self::span::{Span, spans};
use self::worker::Worker;
use crate::disk::pages::PageFile;
use crate::progress::{Cancel, Cancelled, Progress};
use crate::read::ReadError;
use crate::threads::{self, Turns};
use crate::units::ByteOffset;

mod host;
mod image;
mod jobs;
mod listed;
mod moved;
mod packing;
mod parts;
mod places;
mod reader;
mod source;
mod span;
mod worker;

/// The most bytes that one write takes, and that one thread holds.
const WINDOW_BYTES: usize = 8 << 20;
/// A thread waits for the disk half of its time: so many for each core keep both at work.
const THREADS_A_CORE: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
/// More threads than this do not copy faster, but each holds a window: 64 MiB in all, whatever the machine.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
/// Parts of files at least this long are left to the kernel if it can share or copy them, in bytes; shorter ones are
/// as cheaply gathered (docs/explanation/performance.md has the figures).
const OFFLOAD_MIN: u64 = 64 << 10;

/// Which way the bytes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The best that the source and the image allow.
    #[default]
    Auto,
    /// Large files share their extents with the image; one that cannot is an error.
    Reflink,
    /// Large writes that bypass the page cache.
    Direct,
    /// The kernel copies large files, or the server that holds them does; one that it cannot is an error.
    CopyFileRange,
    /// Large writes through the page cache: works everywhere.
    Buffered,
}

impl Engine {
    /// The image as this engine writes pages to it.
    ///
    /// # Errors
    /// If direct writes are asked for and not possible.
    pub fn page_file(self, image: &File) -> Result<PageFile<'_>, CopyError> {
        match self {
            Self::Auto | Self::Reflink => Ok(PageFile::new(image)),
            Self::Direct => PageFile::direct(image).map_err(|source| CopyError::Unavailable { engine: self, source }),
            Self::CopyFileRange | Self::Buffered => Ok(PageFile::cached(image)),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Reflink => "reflink",
            Self::Direct => "direct",
            Self::CopyFileRange => "copy_file_range",
            Self::Buffered => "buffered",
        })
    }
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cores to use. Up to 8 threads copy at once.
    pub threads: NonZeroUsize,
    /// Which way the bytes take.
    pub engine: Engine,
}

/// How to copy, where to report progress, and whether to stop.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// How to copy.
    pub options: Options,
    /// Where to report to.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// Which way the bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes that the image shares with the store.
    pub cloned_bytes: u64,
    /// Bytes that the kernel copied.
    pub kernel_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Whether the page cache was bypassed.
    pub direct: bool,
}

impl Summary {
    /// This and what went another way.
    pub fn and(self, other: Self) -> Self {
        Self {
            cloned_bytes: self.cloned_bytes + other.cloned_bytes,
            kernel_bytes: self.kernel_bytes + other.kernel_bytes,
            written_bytes: self.written_bytes + other.written_bytes,
            direct: self.direct || other.direct,
        }
    }
}

/// A file could not be copied as it was laid out.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source could not be opened or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The source file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of an image could not be read.
    #[error("/{}: cannot be read from the image: {source}", path.display())]
    Image {
        /// The file, from the root of its filesystem.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
    /// The source is not what it was when the layout was made.
    #[error("{}: changed while the image was built (laid out with {expected} bytes, {found}); a store path must not change, check the store with `nix-store --verify --check-contents`", path.display())]
    Changed {
        /// The source file.
        path: PathBuf,
        /// The length it was laid out with, in bytes.
        expected: u64,
        /// What it is now.
        found: String,
    },
    /// The image could not be written.
    #[error("the image cannot be written at byte {offset} (contents of {}): {source}", path.display())]
    Write {
        /// The source file.
        path: PathBuf,
        /// Where in the image file.
        offset: ByteOffset,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine asked for cannot be had here.
    #[error("--io {engine} is not possible here: {source}; use --io auto")]
    Unavailable {
        /// The engine.
        engine: Engine,
        /// What the operating system said.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cloned_bytes > 0 {
            write!(f, "{} MiB shared with the store, ", self.cloned_bytes >> 20)?;
        }
        if self.kernel_bytes > 0 {
            write!(f, "{} MiB copied by copy_file_range, ", self.kernel_bytes >> 20)?;
        }
        f.write_str(if self.direct { "direct writes" } else { "buffered writes" })
    }
}

/// Executes all jobs against `image`, a file whose bytes are all zero where the jobs point.
///
/// Pages of zeros are not written: they stay holes.
///
/// # Errors
/// The first error in the order of the jobs among those that occurred; the rest of the work is not done.
pub fn run(
    jobs: &dyn CopyJobs,
    image: &File,
    options: Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, CopyError> {
    progress.stage("copying files", jobs.len() as u64, jobs.total_bytes());
    let image = Image::new(image, options.engine)?;
    let batches = Batches::new(jobs, WINDOW_BYTES as u64, WINDOW_BYTES as u64);
    let worker = || Worker::new(jobs, &image, progress, cancel);
    threads::share_out(batches, copying_threads(options), worker, |worker, batch| worker.copy(&batch))?;
    Ok(image.summary())
}

/// Transforms all files and writes what becomes of them to `image`, as [`run`] does.
///
/// # Errors
/// Like those of [`run`].
pub fn pack(
    jobs: &dyn PackJobs,
    image: &File,
    options: Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, CopyError> {
    progress.stage("packing files", jobs.len() as u64, jobs.total_bytes());
    let image = Image::new(image, options.engine)?;
    let turns = Turns::default();
    let batches = UnitBatches::new(jobs, WINDOW_BYTES).enumerate();
    let worker = || PackWorker::new(jobs, &image, &turns, progress, cancel);
    threads::share_out(batches, copying_threads(options), worker, |worker, (number, batch)| {
        worker.pack(number, &batch)
    })?;
    Ok(image.summary())
}

fn copying_threads(options: Options) -> NonZeroUsize {
    options.threads.saturating_mul(THREADS_A_CORE).min(MAX_THREADS)
}

#[cfg(test)]
mod tests;
