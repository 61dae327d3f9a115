//! The free bytes of an ext4: the blocks that no bitmap marks as used. Nobody reads them before writing them.
//!
//! The structures of a group are never free, whatever its bitmap says. If a bitmap was never written
//! (`GROUP_BLOCK_UNINIT`), the kernel, too, finds these structures without it. Inode tables are never free, because
//! they are read in full.

use std::ops::Range;

use super::format::{GROUP_BLOCK_UNINIT, STATE_CLEAN, STATE_ERRORS, compat, incompat};
use super::reader::Reader;
use super::volume::replay::Journal;
use super::volume::{self, Descriptor, Shape, Sums};
use crate::read::ReadError;
use crate::read::ranges::{self, Free};

impl Reader {
    /// The free ranges; none if the next mount may find other blocks free.
    pub(super) fn free_ranges(&self) -> Result<Vec<Range<u64>>, ReadError> {
        let mut free = Free::default();
        if self.is_settled()? {
            let shape = &self.volume.shape;
            let fixed = fixed(shape, &self.volume.descriptors);
            for (group, descriptor) in (0..shape.groups).zip(&self.volume.descriptors) {
                let bitmap = self.bitmap(group, descriptor, &fixed)?;
                add_clear(&mut free, &bitmap, shape.group_blocks(group), shape.block_size);
            }
        }
        Ok(free.into_list())
    }

    /// Whether what the bitmaps say is what a mount will find: no journal waits, and all was well.
    fn is_settled(&self) -> Result<bool, ReadError> {
        let disk = self.disk();
        // As it stands on disk: a journal may hold a newer one.
        let superblock = volume::read_superblock(disk.bytes)?;
        let state = superblock.state.get();
        let waits = superblock.feature_incompat.get() & incompat::RECOVER != 0
            || self.volume.fast_commits
            || !self.volume.overlay.is_empty();
        if waits || state & STATE_CLEAN == 0 || state & STATE_ERRORS != 0 {
            return Ok(false);
        }
        let has_journal = disk.shape().has_compat(compat::HAS_JOURNAL) && superblock.journal_inum.get() != 0;
        Ok(!has_journal || Journal::open(disk)?.superblock.start.get() == 0)
    }

    /// The bitmap of a group, with a bit for each block that is in use or holds a structure.
    fn bitmap(&self, group: u32, descriptor: &Descriptor, fixed: &[Range<u64>]) -> Result<Vec<u8>, ReadError> {
        let shape = &self.volume.shape;
        let blocks = shape.group_blocks(group);
        let is_written = descriptor.flags & GROUP_BLOCK_UNINIT == 0;
        let mut bitmap = vec![0; shape.block_bytes()];
        if is_written {
            bitmap = self.disk().read_block(descriptor.block_bitmap)?;
            check_sum(shape, group, &bitmap, descriptor)?;
            check_count(group, descriptor, count_clear(&bitmap, &blocks))?;
        }
        let first = fixed.partition_point(|range| range.end <= blocks.start);
        for range in fixed.iter().skip(first).take_while(|range| range.start < blocks.end) {
            for block in range.start.max(blocks.start)..range.end.min(blocks.end) {
                set(&mut bitmap, block.saturating_sub(blocks.start));
            }
        }
        if !is_written {
            check_count(group, descriptor, count_clear(&bitmap, &blocks))?;
        }
        Ok(bitmap)
    }
}

fn check_sum(shape: &Shape, group: u32, bitmap: &[u8], descriptor: &Descriptor) -> Result<(), ReadError> {
    if shape.sums != Sums::Crc32c {
        return Ok(());
    }
    let len = usize::try_from(shape.blocks_per_group / 8).unwrap_or(usize::MAX);
    let sum = shape.seed.with(bitmap.get(..len).unwrap_or_default()).value();
    // Short descriptors keep only half of it.
    let sum = if shape.descriptor_size < 64 { sum & 0xffff } else { sum };
    let [said, _] = descriptor.sums;
    if sum == said {
        return Ok(());
    }
    Err(ReadError::corrupt(format!("group {group}"), "its block bitmap has a wrong checksum"))
}

fn check_count(group: u32, descriptor: &Descriptor, clear: u64) -> Result<(), ReadError> {
    if u64::from(descriptor.free_blocks) == clear {
        return Ok(());
    }
    let said = descriptor.free_blocks;
    Err(ReadError::corrupt(format!("group {group}"), format!("says {said} free blocks, but {clear} are not in use")))
}

/// The blocks of superblocks, descriptors, bitmaps and inode tables, and the one that guards against mounting twice.
fn fixed(shape: &Shape, descriptors: &[Descriptor]) -> Vec<Range<u64>> {
    let at = |first: u64, blocks: u64| first..first.saturating_add(blocks);
    let mut all = Vec::from([at(0, u64::from(shape.first_block).saturating_add(1))]);
    for (group, descriptor) in (0..shape.groups).zip(descriptors) {
        all.extend(head(shape, group));
        all.extend([at(descriptor.block_bitmap, 1), at(descriptor.inode_bitmap, 1)]);
        all.push(at(descriptor.inode_table, shape.table_blocks().into()));
    }
    if shape.has_incompat(incompat::MMP) {
        all.push(at(shape.superblock.mmp_block.get(), 1));
    }
    ranges::union(all)
}

/// The blocks at the start of a group: a copy of the superblock, of the descriptors, and room for more of those.
fn head(shape: &Shape, group: u32) -> [Range<u64>; 2] {
    let start = shape.group_start(group);
    let has_superblock = shape.has_superblock(group);
    let reserved = u64::from(shape.superblock.reserved_gdt_blocks.get());
    let len = match has_superblock {
        true => u64::from(shape.classic_descriptor_blocks()).saturating_add(reserved).saturating_add(1),
        false => 0,
    };
    // Under meta_bg the first, second and last group of as many as a block describes hold that block.
    let per_block = shape.descriptors_per_block();
    let (index, place) = (group.checked_div(per_block).unwrap_or(0), group.checked_rem(per_block).unwrap_or(0));
    let holds_copy = place <= 1 || place.saturating_add(1) == per_block;
    let copy = start.saturating_add(has_superblock.into());
    let copies = u64::from(index >= shape.classic_descriptor_blocks() && holds_copy);
    [start..start.saturating_add(len), copy..copy.saturating_add(copies)]
}

/// The place of a bit: its byte, and its value there.
fn place(index: u64) -> (usize, u8) {
    (usize::try_from(index / 8).unwrap_or(usize::MAX), 1 << (index % 8))
}

fn set(bitmap: &mut [u8], index: u64) {
    let (byte, bit) = place(index);
    if let Some(byte) = bitmap.get_mut(byte) {
        *byte |= bit;
    }
}

/// What is past the bitmap is in use.
fn is_clear(bitmap: &[u8], index: u64) -> bool {
    let (byte, bit) = place(index);
    bitmap.get(byte).is_some_and(|byte| byte & bit == 0)
}

fn count_clear(bitmap: &[u8], blocks: &Range<u64>) -> u64 {
    let count = blocks.end.saturating_sub(blocks.start);
    (0..count).filter(|&index| is_clear(bitmap, index)).count() as u64
}

/// Adds the bytes of the blocks whose bits are clear.
fn add_clear(free: &mut Free, bitmap: &[u8], blocks: Range<u64>, size: u32) {
    let size = u64::from(size);
    for (index, block) in (0..).zip(blocks).filter(|(index, _)| is_clear(bitmap, *index)) {
        let _: u64 = index;
        let start = block.saturating_mul(size);
        free.add(start..start.saturating_add(size));
    }
}
