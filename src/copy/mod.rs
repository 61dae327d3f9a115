//! Moves the contents of files to their final places in the image, in parallel, each byte once.
//!
//! A layout offers its files as [`CopyJobs`]. They are cut into parts and gathered into batches of neighbours
//! (`parts`), which threads take in the order of the image (`threads`). A thread reads a batch into one buffer and
//! writes it at once (`worker`), so that one write serves hundreds of small files; or has the image share a large
//! file's extents (`image`). Jobs are made on demand: a million files cost no million paths of memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;

use self::image::Image;
use self::parts::Batches;
use self::worker::Worker;
use crate::progress::{Cancel, Cancelled, Progress};
use crate::units::ByteOffset;

mod buffer;
mod clone_range;
mod image;
mod parts;
mod source;
mod threads;
mod worker;

/// The most bytes that one write takes, and that one thread holds.
const WINDOW_BYTES: usize = 4 << 20;
/// More threads than this do not copy faster, but each holds a window: 64 MiB in all, whatever the machine.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
/// Parts of files at least this long share extents if they can, in bytes; below, a copy is as cheap.
const CLONE_MIN: u64 = 64 << 10;

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The length that the file had when it was laid out, in bytes; any other now is an error.
    pub size: u64,
    /// Where its bytes go, in order of the file's own bytes. Lengths add up to at least `size`.
    pub pieces: Vec<Piece>,
}

/// A part of a file that is contiguous in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the image file: a multiple of 4096.
    pub destination: ByteOffset,
    /// Its length in bytes, a multiple of 4096. The last piece of a file may reach past the file's end; the rest of
    /// the file's last 4096 bytes is zeroed.
    pub len: u64,
}

/// The files of a layout, in the order of their places in the image.
pub trait CopyJobs: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the file at `index` goes, which is less than [`len`](Self::len).
    fn target(&self, index: usize) -> Target;

    /// Where the file at `index` is on the host.
    fn source(&self, index: usize) -> PathBuf;

    /// The sum of all sizes in bytes.
    fn total_bytes(&self) -> u64;
}

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
    /// Large writes through the page cache: works everywhere.
    Buffered,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Reflink => "reflink",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        })
    }
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that copy at once, up to 16.
    pub threads: NonZeroUsize,
    /// Which way the bytes take.
    pub engine: Engine,
}

/// Which way the bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes that the image shares with the store.
    pub cloned_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Whether the page cache was bypassed.
    pub direct: bool,
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
        let written = if self.direct { "direct writes" } else { "buffered writes" };
        match self.cloned_bytes {
            0 => f.write_str(written),
            cloned => write!(f, "{} MiB shared with the store, {written}", cloned >> 20),
        }
    }
}

/// Executes all jobs against `image`, a file whose bytes are all zero where the jobs point.
///
/// Pages of zeros are not written: they stay holes.
///
/// # Errors
/// The first error in the order of the jobs among those that occurred; the rest of the work is given up.
pub fn run(
    jobs: &dyn CopyJobs,
    image: &File,
    options: Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, CopyError> {
    progress.stage("copying files", jobs.len() as u64, jobs.total_bytes());
    let image = Image::new(image, options.engine)?;
    let window = WINDOW_BYTES as u64;
    // A clone costs the same whatever its length.
    let max_part = if options.engine == Engine::Reflink { u64::MAX } else { window };
    let batches = Batches::new(jobs, max_part, window);
    let worker = || Worker::new(jobs, &image, progress, cancel);
    let threads = options.threads.min(MAX_THREADS);
    threads::share_out(batches, threads, worker, |worker, batch| worker.copy(&batch))?;
    Ok(image.summary())
}

#[cfg(test)]
mod tests;
