//! A complete, native EROFS filesystem, without mkfs and without a C library: read-only, and dense.
//!
//! Takes a [`FileTree`](crate::source::tree::FileTree); [`layout`] decides every block, purely, before the first byte is
//! written; [`writer`] then writes the metadata, while `copy` moves the contents.
//!
//! ```text
//! block 0        superblock at byte 1024
//! block 1        metadata: groups of about 1 MiB, each for nodes that follow one another in the tree
//!                  inodes with the ends of their contents, packed into blocks; then the other blocks of directories
//! after it       the whole blocks of files, in the tree's order
//! the rest       zeros, up to a whole mebibyte
//! ```
//!
//! The end of a file that fills no block follows its inode, so that a small file has no block of its own. As a group has
//! the ends of files that follow one another, they are read and written together.
//!
//! Equal files do not share their blocks: whether they are equal could be found out only by reading all of them before
//! anything can be written, and hard links of the host, which would tell it for nothing, may be there or not, so that the
//! image would depend on them.
//!
//! [`reader`] reads, and [`check`](mod@check) judges, what anyone wrote. Both stand on `volume`, which shares with the
//! writer only the on-disk structures in [`format`](mod@format).

use std::fmt;

pub mod check;
pub mod compress;
pub mod contents;
pub mod directory;
pub mod format;
pub mod group;
pub mod indexes;
pub mod inode;
pub mod layout;
pub mod map;
mod packing;
pub mod packs;
pub mod placement;
pub mod reader;
mod rest;
mod volume;
pub mod writer;

/// A block of the filesystem, counted from its start in units of [`format::BLOCK_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

impl BlockIndex {
    /// The block `count` blocks later.
    pub(crate) fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

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
