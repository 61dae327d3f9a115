//! A complete, native EROFS filesystem, without mkfs and without a C library: read-only, and dense.

use std::fmt;

pub mod compress;
pub mod format;
pub mod indexes;

/// A block of the filesystem, counted from its start in units of [`format::BLOCK_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an inode: its place, counted from the start of the metadata area in units of [`format::SLOT_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nid(pub u64);

impl fmt::Display for Nid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
