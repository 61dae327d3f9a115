//! A filesystem of which every byte has its place before the contents of files are moved.

use std::fs::File;

use super::BuildError;
use crate::copy::{self, CopyJobs, Means};
use crate::disk::memory::Memory;
use crate::progress::Cancel;
use crate::units::ByteOffset;

/// What a planned disk needs of the filesystem of the store.
pub(super) trait Known: Sync {
    /// Writes all of it to `image` from byte `at` on.
    fn write(&self, image: &File, at: ByteOffset, means: Means<'_>) -> Result<copy::Summary, BuildError>;

    /// Writes everything but the contents of files to where it starts in memory. There are zeros where those go.
    fn write_metadata(&self, to: &Memory, at: ByteOffset, cancel: &Cancel) -> Result<(), BuildError>;

    /// The files, for a disk on which it starts at byte `at`.
    fn files(&self, at: ByteOffset) -> Vec<KnownFiles<'_>>;
}

/// Files that are moved in the same way.
pub(super) struct KnownFiles<'a> {
    pub(super) jobs: Box<dyn CopyJobs + 'a>,
    pub(super) pieces: Pieces,
}

/// Where their bytes are.
pub(super) enum Pieces {
    /// In whole pages, as the jobs say: the engines of `copy` can move them.
    Pages,
    /// Among other bytes.
    Among(Vec<PlacedPiece>),
}

/// A part of a file on the disk.
pub(super) struct PlacedPiece {
    /// Where it is, in bytes; it may reach past the end of the file, to the end of a block of its filesystem.
    pub(super) disk: std::ops::Range<u64>,
    /// The index of the file.
    pub(super) file: usize,
    /// Where in the file it starts, in bytes.
    pub(super) offset: u64,
}
