//! Bitmaps and group descriptors: what is in use, group by group. Pure.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/bitmaps.rst` and `group_descr.rst`.

use zerocopy::IntoBytes;

use super::checksum::Checksum;
use super::format::{self, BLOCK_BYTES, BLOCKS_PER_GROUP, GroupDescriptor};
use super::geometry::{Geometry, GroupMetadata};
use super::layout::{self, Layout};
use crate::source::tree::{FileTree, NodeKind};

/// One bit a block, or a inode, of a group: set where it is in use.
pub type Bitmap = [u8; BLOCK_BYTES];

/// Calls `visit` with each group's number, block bitmap and number of free blocks, in order.
pub fn block_bitmaps<E>(layout: &Layout, mut visit: impl FnMut(u32, &Bitmap, u32) -> Result<(), E>) -> Result<(), E> {
    let geometry = &layout.geometry;
    let mut free = layout.space.after(layout.used).peekable();
    for (group, _) in geometry.groups() {
        let start = geometry.group_start(group).0;
        let end = start + u64::from(BLOCKS_PER_GROUP);
        // Bits past the end of a short last group stay set, as the format has it.
        let mut bitmap = [0xff; BLOCK_BYTES];
        let mut free_blocks = 0;
        while let Some(&(first, blocks)) = free.peek().filter(|(first, _)| first.0 < end) {
            let last = first.0 + blocks;
            let (from, to) = (first.0.max(start) - start, last.min(end) - start);
            clear_bits(&mut bitmap, index(from), index(to));
            free_blocks += u32::try_from(to - from).unwrap_or(BLOCKS_PER_GROUP);
            if last > end {
                break;
            }
            free.next();
        }
        visit(group, &bitmap, free_blocks)?;
    }
    Ok(())
}

/// The inode bitmap of a group whose first `used` inodes of `per_group` are in use.
pub fn inode_bitmap(used: u32, per_group: u32) -> Bitmap {
    let mut bitmap = [0xff; BLOCK_BYTES];
    clear_bits(&mut bitmap, used as usize, per_group as usize);
    bitmap
}

/// The inodes of a group that are in use: always its first ones.
pub fn used_inodes(layout: &Layout, group: u32) -> u32 {
    let per_group = layout.geometry.inodes_per_group;
    layout.used_inodes().saturating_sub(group * per_group).min(per_group)
}

/// How many directories have their inode in each group.
pub fn directory_counts(geometry: &Geometry, tree: &FileTree) -> Vec<u32> {
    let mut counts = vec![0; geometry.group_count() as usize];
    let directories = tree.nodes().filter(|&node| matches!(tree.kind(node), NodeKind::Directory));
    let lost_and_found = super::InodeNumber(format::INODE_FIRST);
    for inode in directories.map(layout::inode_of).chain([lost_and_found]) {
        let (group, _) = geometry.locate_inode(inode);
        counts[group as usize] += 1;
    }
    counts
}

/// What a group's descriptor says, besides its places.
pub struct Usage {
    /// Blocks not in use.
    pub free_blocks: u32,
    /// Inodes in use.
    pub used_inodes: u32,
    /// Inodes in use by directories.
    pub directories: u32,
    /// The checksum of the block bitmap.
    pub block_bitmap: Checksum,
    /// The checksum of the inode bitmap.
    pub inode_bitmap: Checksum,
}

/// A group's descriptor, checksum included.
pub fn descriptor(
    geometry: &Geometry,
    (group, metadata): (u32, GroupMetadata),
    usage: &Usage,
    filesystem: Checksum,
) -> GroupDescriptor {
    let free_inodes = small(geometry.inodes_per_group - usage.used_inodes);
    let mut descriptor: GroupDescriptor = zerocopy::FromZeros::new_zeroed();
    descriptor.block_bitmap_lo = metadata.block_bitmap.low().into();
    descriptor.block_bitmap_hi = metadata.block_bitmap.high().into();
    descriptor.inode_bitmap_lo = metadata.inode_bitmap.low().into();
    descriptor.inode_bitmap_hi = metadata.inode_bitmap.high().into();
    descriptor.inode_table_lo = metadata.inode_table.low().into();
    descriptor.inode_table_hi = metadata.inode_table.high().into();
    descriptor.free_blocks_count_lo = small(usage.free_blocks).into();
    descriptor.free_inodes_count_lo = free_inodes.into();
    descriptor.used_dirs_count_lo = small(usage.directories).into();
    descriptor.flags = format::GROUP_INODE_TABLE_ZEROED.into();
    descriptor.itable_unused_lo = free_inodes.into();
    descriptor.block_bitmap_csum_lo = usage.block_bitmap.low().into();
    descriptor.block_bitmap_csum_hi = usage.block_bitmap.high().into();
    descriptor.inode_bitmap_csum_lo = usage.inode_bitmap.low().into();
    descriptor.inode_bitmap_csum_hi = usage.inode_bitmap.high().into();
    let checksum = filesystem.with(&group.to_le_bytes()).with(descriptor.as_bytes());
    descriptor.checksum = checksum.low().into();
    descriptor
}

fn small(count: u32) -> u16 {
    u16::try_from(count).expect("a group has at most 2^15 blocks and 2^15 inodes")
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset within a group")
}

/// Clears bits `from..to`.
fn clear_bits(bitmap: &mut Bitmap, from: usize, to: usize) {
    for bit in from..to.min(from.next_multiple_of(8)) {
        bitmap[bit / 8] &= !(1 << (bit % 8));
    }
    let (bytes_from, bytes_to) = (from.div_ceil(8), to / 8);
    if bytes_from < bytes_to {
        bitmap[bytes_from..bytes_to].fill(0);
    }
    for bit in from.max(to / 8 * 8)..to {
        bitmap[bit / 8] &= !(1 << (bit % 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_the_range_is_cleared(from in 0usize..32_768, len in 0usize..40) {
            let to = (from + len).min(32_768);
            let mut bitmap = [0xff; BLOCK_BYTES];
            clear_bits(&mut bitmap, from, to);
            for bit in 0..32_768 {
                let set = bitmap[bit / 8] >> (bit % 8) & 1 == 1;
                prop_assert_eq!(set, !(from..to).contains(&bit), "bit {}", bit);
            }
        }
    }
}
