//! Where the bytes of a file are.
//!
//! Source: <https://erofs.docs.kernel.org>, "Core On-disk Format", section "Inode Data Layouts".

use std::ops::Range;

use super::super::format::DataLayout;
use super::unpack::Method;
use super::{Disk, Inode, corrupt};
use crate::read::{Kind, ReadError};

/// Bytes of a file that are stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) struct Extent {
    /// The first byte.
    pub(in crate::erofs) start: u64,
    /// One past the last byte.
    pub(in crate::erofs) end: u64,
    pub(in crate::erofs) place: Place,
}

/// Where an extent is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) enum Place {
    /// Nowhere: all zeros.
    Hole,
    /// As it is, from this byte of the filesystem on.
    Raw(u64),
    /// Compressed.
    Packed {
        /// The byte of the filesystem where it starts.
        at: u64,
        /// How many bytes it has.
        stored: u32,
        method: Method,
        /// Whether there is more in it, which belongs to other files.
        partial: bool,
    },
    /// In the packed inode, from this byte on.
    Fragment(u64),
}

/// All extents of a file, in order and without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::erofs) struct Mapping {
    pub(in crate::erofs) extents: Vec<Extent>,
    /// What its structures take besides blocks of its own: bytes of the filesystem.
    pub(in crate::erofs) structures: Range<u64>,
    /// What is wrong with it though it can be read.
    pub(in crate::erofs) problems: Vec<String>,
}

/// Is told the bytes of each run of blocks that a file has as a whole, in the order of the file.
pub(in crate::erofs) type Claim<'a> = &'a mut dyn FnMut(Range<u64>);

impl Mapping {
    /// Adds an extent after the last, or to it.
    pub(super) fn push(&mut self, extent: Extent) {
        if let Some(last) = self.extents.last_mut() {
            let goes_on = match (last.place, extent.place) {
                (Place::Hole, Place::Hole) => true,
                (Place::Raw(at), Place::Raw(next)) => at.checked_add(last.end.saturating_sub(last.start)) == Some(next),
                _ => false,
            };
            if goes_on {
                last.end = extent.end;
                return;
            }
        }
        self.extents.push(extent);
    }

    /// The index of the extent that holds a byte of the file.
    pub(in crate::erofs) fn index_of(&self, byte: u64) -> Option<usize> {
        let after = self.extents.partition_point(|extent| extent.start <= byte);
        let index = after.checked_sub(1)?;
        self.extents.get(index).filter(|extent| byte < extent.end).map(|_| index)
    }

    /// The extent that holds a byte of the file.
    pub(in crate::erofs) fn at(&self, byte: u64) -> Option<&Extent> {
        self.extents.get(self.index_of(byte)?)
    }
}

impl Disk<'_> {
    /// Where the bytes of a file, a directory or a link are. `claim` is told the blocks of each extent.
    pub(in crate::erofs) fn map(&self, inode: &Inode, claim: Claim<'_>) -> Result<Mapping, ReadError> {
        if inode.kind == Kind::Special || inode.size == 0 {
            return Ok(Mapping { structures: inode.start..inode.end, ..Mapping::default() });
        }
        match inode.layout {
            DataLayout::FlatPlain => self.map_flat(inode, 0, claim),
            DataLayout::FlatInline => {
                let before = self.shape.block(self.shape.blocks_of(inode.size).saturating_sub(1));
                self.map_flat(inode, inode.size.saturating_sub(before), claim)
            }
            DataLayout::ChunkBased => self.map_chunks(inode, claim),
            DataLayout::CompressedFull | DataLayout::CompressedCompact => self.map_clusters(inode, claim),
        }
    }

    /// Blocks one after another; the last `tail` bytes follow the inode.
    fn map_flat(&self, inode: &Inode, tail: u64, claim: Claim<'_>) -> Result<Mapping, ReadError> {
        let mut mapping = Mapping { structures: inode.start..inode.end.saturating_add(tail), ..Mapping::default() };
        let in_blocks = inode.size.saturating_sub(tail);
        if in_blocks > 0 {
            let start = self.shape.block(inode.u.into());
            self.claim(inode, start, in_blocks, claim)?;
            mapping.push(Extent { start: 0, end: in_blocks, place: Place::Raw(start) });
        }
        if tail > 0 {
            self.check_inline(inode, inode.end, tail)?;
            mapping.push(Extent { start: in_blocks, end: inode.size, place: Place::Raw(inode.end) });
        }
        Ok(mapping)
    }

    /// Contents among the metadata lie in one block.
    pub(super) fn check_inline(&self, inode: &Inode, at: u64, len: u64) -> Result<(), ReadError> {
        if self.shape.within(at).saturating_add(len) > self.shape.block_size.into() {
            return Err(corrupt(inode.nid, format!("has {len} bytes at byte {at} that cross the end of a block")));
        }
        if !self.shape.holds(at, len) {
            return Err(corrupt(inode.nid, "has contents outside the filesystem"));
        }
        Ok(())
    }

    /// Makes sure that so many bytes lie in the filesystem, and claims their blocks.
    pub(super) fn claim(&self, inode: &Inode, at: u64, len: u64, claim: Claim<'_>) -> Result<(), ReadError> {
        if !self.shape.holds(at, len) {
            let block = at.checked_div(self.shape.block_size.into()).unwrap_or(0);
            let why = format!("has contents from block {block} on, which end past the end of the filesystem");
            return Err(corrupt(inode.nid, why));
        }
        let end = at.saturating_add(self.shape.block(self.shape.blocks_of(len)));
        claim(at..end.min(self.shape.len));
        Ok(())
    }
}
