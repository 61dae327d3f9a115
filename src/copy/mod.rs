//! Moves the contents of files to their final places in the image, in parallel, each byte once.
//!
//! A layout offers its files as [`CopyJobs`]; an engine executes them against the image file. Jobs are made
//! on demand, so that a million files cost no million paths of memory, and in the order in which they lie
//! on disk, so that the image is written from front to back.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;

use crate::progress::{Cancel, Cancelled, Progress};
use crate::units::ByteOffset;

mod buffered;
mod queue;

/// One file to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyJob {
    /// The file on the host.
    pub source: PathBuf,
    /// The length that the file had when it was laid out, in bytes; any other now is an error.
    pub size: u64,
    /// Where its bytes go, in order of the file's own bytes. Lengths add up to at least `size`.
    pub pieces: Vec<Piece>,
}

/// A part of a file that is contiguous in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the image file.
    pub destination: ByteOffset,
    /// Its length in bytes. The last piece of a file may reach past the file's end.
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

    /// The job at `index`, which is less than [`len`](Self::len).
    fn job(&self, index: usize) -> CopyJob;

    /// The sum of all sizes in bytes.
    fn total_bytes(&self) -> u64;
}

/// Which way the bytes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The best that the source and the image allow.
    #[default]
    Auto,
    /// Read into memory, write from there: works everywhere.
    Buffered,
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that copy at once.
    pub threads: NonZeroUsize,
    /// Which way the bytes take.
    pub engine: Engine,
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
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Executes all jobs against `image`, a file whose bytes are all zero where the jobs point.
///
/// Blocks of zeros are not written: they stay holes.
///
/// # Errors
/// The first error in the order of the jobs among those that occurred; the rest of the work is given up.
pub fn run(
    jobs: &dyn CopyJobs,
    image: &File,
    options: Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), CopyError> {
    progress.stage("copying files", jobs.len() as u64, jobs.total_bytes());
    match options.engine {
        Engine::Auto | Engine::Buffered => queue::drain(
            jobs.len(),
            options.threads,
            || buffered::Copier::new(image),
            |copier, index| {
                cancel.check()?;
                let job = jobs.job(index);
                copier.copy(&job, cancel)?;
                progress.advance(1, job.size);
                Ok(())
            },
        ),
    }
}
