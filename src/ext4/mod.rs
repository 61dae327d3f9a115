//! A complete, native ext4 filesystem, without mkfs and without a C library.
//!
//! Takes a [`FileTree`](crate::source::tree::FileTree); [`layout`] decides every block, purely, before
//! the first byte is written; [`writer`] then writes the metadata, while `copy` moves the contents.
//! `docs/explanation/ext4.md` draws the result and gives the reason for each choice.
//!
//! [`reader`] reads, and [`check`](mod@check) judges, what anyone wrote. Both stand on `volume`, which shares with the
//! writer only the on-disk structures in [`format`](mod@format), the checksum and the hash.

use std::fmt;

pub mod check;
pub mod checksum;
mod clock;
pub mod contents;
pub mod directory;
pub mod extent;
pub mod format;
mod free;
pub mod geometry;
pub mod group;
pub mod hash;
pub mod inode;
pub mod journal;
pub mod layout;
pub mod map;
pub mod reader;
mod rest;
pub mod space;
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

    /// The lower 32 bits, as on-disk structures split a block number.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half goes into another field")]
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    /// The upper 32 bits.
    pub(crate) fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an inode, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNumber(pub u32);

impl fmt::Display for InodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
