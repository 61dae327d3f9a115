//! A complete, native btrfs filesystem, without mkfs and without a C library.
//!
//! Takes a [`FileTree`](crate::source::tree::FileTree); [`layout`] decides every block, purely, before the first byte
//! is written; [`writer`] then writes the trees, sorted, bottom-up, once, while `copy` moves the contents.
//! `docs/explanation/btrfs.md` draws the result and gives the reason for each choice.

use std::fmt;

pub mod allocation;
pub mod check;
pub mod compress;
pub mod contents;
pub mod csum;
pub mod devices;
pub mod files;
pub mod format;
pub mod layout;
pub mod map;
pub mod packs;
pub mod placement;
pub mod reader;
pub mod roots;
pub mod space;
pub mod superblock;
pub mod tree;
pub mod trees;
pub mod volume;
pub mod writer;

/// The one transaction that made everything: the first of the filesystem.
pub const GENERATION: u64 = 1;

/// A byte of the space that trees and files refer to.
///
/// Chunks map it to the device. Ours map every address to itself: the first, or only, copy of a byte is at that byte
/// of the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalAddress(pub u64);

impl LogicalAddress {
    /// The address `bytes` further on.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for LogicalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
