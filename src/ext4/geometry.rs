//! Where the fixed metadata of a filesystem of a given size lies. Pure.
//!
//! Sources: the kernel's `Documentation/filesystems/ext4/blockgroup.rst` ("Layout", "Flexible Block
//! Groups") and `inodes.rst`; mke2fs(8) and mke2fs.conf(5) for the ratios.

use super::format::{
    ADDRESSES_PER_BLOCK, BLOCK_SIZE, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK, GROUPS_PER_FLEX, INODES_PER_BLOCK,
};
use super::space::Space;
use super::{BlockIndex, InodeNumber};
use crate::units::MIB;

/// The filesystem grows and shrinks in steps of 1 MiB, the alignment of partitions.
const STEP_BLOCKS: u64 = MIB / BLOCK_SIZE;
/// A last group with less room than this past its metadata is not worth having; resize2fs has the same limit.
const MIN_LAST_GROUP_ROOM: u64 = 50;
/// resize2fs can grow a filesystem online by this factor within the reserved descriptor blocks, as mke2fs plans for.
const GROWTH_FACTOR: u64 = 1024;
/// The most blocks that a reserved descriptor block can be of use for: the resize inode's addresses have 32 bits.
const MAX_RESIZE_BLOCKS: u64 = u32::MAX as u64;

/// Where a block group's bitmaps and inode table lie; under flex_bg not always in the group itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The block of the block bitmap.
    pub block_bitmap: BlockIndex,
    /// The block of the inode bitmap.
    pub inode_bitmap: BlockIndex,
    /// The first block of the inode table.
    pub inode_table: BlockIndex,
}

/// The shape of a filesystem: everything about it that follows from its size and its number of inodes.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// The size of the filesystem in blocks.
    pub block_count: u64,
    /// Inodes in each group, a multiple of 16.
    pub inodes_per_group: u32,
    /// Blocks of group descriptors after each superblock.
    pub descriptor_blocks: u32,
    /// Blocks kept after the descriptors so that an online resize finds room for more of them.
    pub reserved_descriptor_blocks: u32,
    groups: Vec<GroupMetadata>,
}

impl Geometry {
    /// The smallest shape of at least `block_count` blocks that holds at least `min_inodes` inodes.
    ///
    /// The size is a whole number of mebibytes. `None` if no filesystem of this format is that large.
    pub fn at_least(block_count: u64, min_inodes: u64) -> Option<Self> {
        let groups_for_inodes = min_inodes.div_ceil(u64::from(MAX_INODES_PER_GROUP)).max(1);
        let for_inodes = (groups_for_inodes - 1).checked_mul(u64::from(BLOCKS_PER_GROUP))?.checked_add(1)?;
        let mut block_count = block_count.max(for_inodes).checked_next_multiple_of(STEP_BLOCKS)?;
        loop {
            match Self::exactly(block_count, min_inodes)? {
                Ok(geometry) => return Some(geometry),
                Err(LastGroupTooSmall { needs }) => block_count = needs.checked_next_multiple_of(STEP_BLOCKS)?,
            }
        }
    }

    fn exactly(block_count: u64, min_inodes: u64) -> Option<Result<Self, LastGroupTooSmall>> {
        let group_count = u32::try_from(block_count.div_ceil(u64::from(BLOCKS_PER_GROUP))).ok()?;
        let inodes = min_inodes.max(block_count.checked_mul(BLOCK_SIZE)? / bytes_per_inode(block_count));
        let inodes_per_group = u32::try_from(inodes.div_ceil(u64::from(group_count))).ok()?;
        let inodes_per_group = inodes_per_group.next_multiple_of(INODES_PER_BLOCK);
        // The inode count itself must fit the superblock's 32 bits.
        group_count.checked_mul(inodes_per_group)?;
        let descriptor_blocks = group_count.div_ceil(DESCRIPTORS_PER_BLOCK);
        let mut geometry = Self {
            block_count,
            inodes_per_group,
            descriptor_blocks,
            reserved_descriptor_blocks: reserved_descriptor_blocks(block_count, descriptor_blocks),
            groups: Vec::new(),
        };
        Some(geometry.place_groups(group_count).map(|()| geometry))
    }

    /// The number of block groups.
    pub fn group_count(&self) -> u32 {
        u32::try_from(self.groups.len()).expect("exactly() counts groups in 32 bits")
    }

    /// The groups' numbers with their metadata, in order.
    pub fn groups(&self) -> impl Iterator<Item = (u32, GroupMetadata)> + '_ {
        (0..).zip(self.groups.iter().copied())
    }

    /// The metadata of one group.
    pub fn metadata(&self, group: u32) -> GroupMetadata {
        self.groups[group as usize]
    }

    /// The first block of a group.
    pub fn group_start(&self, group: u32) -> BlockIndex {
        BlockIndex(u64::from(group) * u64::from(BLOCKS_PER_GROUP))
    }

    /// The groups after the first that start with a backup of the superblock and the descriptors.
    pub fn backup_groups(&self) -> impl Iterator<Item = u32> + '_ {
        (1..self.group_count()).filter(|&group| has_superblock(group))
    }

    /// The number of inodes.
    pub fn inode_count(&self) -> u32 {
        self.group_count() * self.inodes_per_group
    }

    /// Blocks in each group's inode table.
    pub fn inode_table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    /// The group that an inode is counted in, and its index in the group's table.
    pub fn locate_inode(&self, inode: InodeNumber) -> (u32, u32) {
        let index = inode.0 - 1;
        (index / self.inodes_per_group, index % self.inodes_per_group)
    }

    /// The first reserved descriptor block after the primary descriptors.
    pub fn first_reserved_descriptor(&self) -> BlockIndex {
        BlockIndex(1 + u64::from(self.descriptor_blocks))
    }

    /// Every block that holds no fixed metadata.
    pub fn free_space(&self) -> Space {
        let mut used: Vec<(BlockIndex, u64)> = Vec::with_capacity(4 * self.groups.len());
        for (group, metadata) in self.groups() {
            used.push((self.group_start(group), u64::from(self.superblock_area(group))));
            used.push((metadata.block_bitmap, 1));
            used.push((metadata.inode_bitmap, 1));
            used.push((metadata.inode_table, u64::from(self.inode_table_blocks())));
        }
        used.retain(|&(_, blocks)| blocks > 0);
        used.sort_unstable();
        Space::new(self.block_count, used)
    }

    /// Blocks at the start of a group for the superblock, the descriptors and the room for more; 0 without backup.
    pub(super) fn superblock_area(&self, group: u32) -> u32 {
        if has_superblock(group) { 1 + self.descriptor_blocks + self.reserved_descriptor_blocks } else { 0 }
    }

    /// Packs the metadata of each flex group at its start: block bitmaps, inode bitmaps, inode tables.
    fn place_groups(&mut self, group_count: u32) -> Result<(), LastGroupTooSmall> {
        for first in (0..group_count).step_by(GROUPS_PER_FLEX as usize) {
            let members = GROUPS_PER_FLEX.min(group_count - first);
            let mut cursor = Cursor { geometry: self, at: self.group_start(first) };
            let block_bitmaps: Vec<_> = (0..members).map(|_| cursor.take(1)).collect();
            let inode_bitmaps: Vec<_> = (0..members).map(|_| cursor.take(1)).collect();
            let inode_tables: Vec<_> = (0..members).map(|_| cursor.take(self.inode_table_blocks())).collect();
            let end = cursor.at;
            self.check_room(end, group_count)?;
            for ((block_bitmap, inode_bitmap), inode_table) in
                block_bitmaps.into_iter().zip(inode_bitmaps).zip(inode_tables)
            {
                self.groups.push(GroupMetadata { block_bitmap, inode_bitmap, inode_table });
            }
        }
        Ok(())
    }

    /// Both a flex group's metadata up to `end` and the last group's own superblock must fit, with room to spare.
    fn check_room(&self, end: BlockIndex, group_count: u32) -> Result<(), LastGroupTooSmall> {
        let last = group_count - 1;
        let own = self.group_start(last).plus(u64::from(self.superblock_area(last)));
        let needs = end.max(own).0 + MIN_LAST_GROUP_ROOM;
        if needs <= self.block_count { Ok(()) } else { Err(LastGroupTooSmall { needs }) }
    }
}

/// The last group cannot hold its metadata until the filesystem has `needs` blocks.
struct LastGroupTooSmall {
    needs: u64,
}

/// Hands out blocks in order, stepping over the superblock areas.
struct Cursor<'a> {
    geometry: &'a Geometry,
    at: BlockIndex,
}

impl Cursor<'_> {
    /// The next `blocks` contiguous blocks.
    fn take(&mut self, blocks: u32) -> BlockIndex {
        let per_group = u64::from(BLOCKS_PER_GROUP);
        loop {
            // An area that the blocks would touch starts either at the group of the cursor or at a later one.
            let end = self.at.0 + u64::from(blocks);
            let groups = self.at.0 / per_group..=(end - 1) / per_group;
            let blocking = groups.filter_map(|group| u32::try_from(group).ok()).find_map(|group| {
                let area = u64::from(self.geometry.superblock_area(group));
                let area_end = self.geometry.group_start(group).plus(area);
                (area > 0 && self.at < area_end).then_some(area_end)
            });
            match blocking {
                Some(area_end) => self.at = area_end,
                None => return std::mem::replace(&mut self.at, BlockIndex(end)),
            }
        }
    }
}

/// An inode bitmap is one block: a bit for each inode of the group.
const MAX_INODES_PER_GROUP: u32 = BLOCKS_PER_GROUP;

/// mke2fs's bytes of filesystem for each inode, by size (mke2fs.conf: floppy, small, default, big, huge).
fn bytes_per_inode(block_count: u64) -> u64 {
    match block_count.saturating_mul(BLOCK_SIZE) / MIB {
        0..3 => 8192,
        3..512 => 4096,
        512..0x40_0000 => 16384,
        0x40_0000..0x100_0000 => 32768,
        _ => 65536,
    }
}

/// sparse_super: groups 0 and 1 and the powers of 3, 5 and 7.
fn has_superblock(group: u32) -> bool {
    let is_power_of = |base: u32| std::iter::successors(Some(base), |p| p.checked_mul(base)).any(|p| p == group);
    group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
}

/// Descriptor blocks to keep free so that the filesystem can grow by [`GROWTH_FACTOR`].
fn reserved_descriptor_blocks(block_count: u64, descriptor_blocks: u32) -> u32 {
    let max_blocks = block_count.saturating_mul(GROWTH_FACTOR).min(MAX_RESIZE_BLOCKS);
    let max_groups = max_blocks.div_ceil(u64::from(BLOCKS_PER_GROUP));
    let reserved = max_groups.div_ceil(u64::from(DESCRIPTORS_PER_BLOCK)).saturating_sub(u64::from(descriptor_blocks));
    // The resize inode has one double-indirect block, an address for each reserved block.
    u32::try_from(reserved).unwrap_or(u32::MAX).min(ADDRESSES_PER_BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The figures that `dumpe2fs` prints of an image of 3 GiB made by mke2fs 1.47.
    #[test]
    fn agrees_with_mke2fs() {
        let geometry = Geometry::at_least(786_432, 0).unwrap();
        assert_eq!(geometry.block_count, 786_432);
        assert_eq!(geometry.inode_count(), 196_608);
        assert_eq!((geometry.descriptor_blocks, geometry.reserved_descriptor_blocks), (1, 383));
        assert_eq!(geometry.backup_groups().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        let expected = GroupMetadata {
            block_bitmap: BlockIndex(386),
            inode_bitmap: BlockIndex(402),
            inode_table: BlockIndex(929),
        };
        assert_eq!(geometry.groups[1], expected);
    }

    #[test]
    fn backups_are_where_sparse_super_puts_them() {
        let groups: Vec<_> = (0..130).filter(|&group| has_superblock(group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn many_inodes_make_more_groups() {
        let geometry = Geometry::at_least(1, 1_000_000).unwrap();
        assert!(geometry.inode_count() >= 1_000_000);
        assert!(geometry.inodes_per_group <= MAX_INODES_PER_GROUP);
    }

    #[test]
    fn the_impossible_is_refused() {
        assert!(Geometry::at_least(u64::MAX, 0).is_none());
        assert!(Geometry::at_least(1, u64::MAX).is_none());
    }

    proptest! {
        /// Nothing overlaps, nothing is outside, and the last group is not too short.
        #[test]
        fn metadata_is_disjoint(blocks in 1u64..5_000_000, inodes in 0u64..300_000) {
            let geometry = Geometry::at_least(blocks, inodes).unwrap();
            prop_assert!(geometry.block_count >= blocks);
            prop_assert!(u64::from(geometry.inode_count()) >= inodes);
            let mut used = vec![];
            for (group, metadata) in geometry.groups() {
                used.push((geometry.group_start(group).0, u64::from(geometry.superblock_area(group))));
                used.push((metadata.block_bitmap.0, 1));
                used.push((metadata.inode_bitmap.0, 1));
                used.push((metadata.inode_table.0, u64::from(geometry.inode_table_blocks())));
            }
            used.retain(|&(_, blocks)| blocks > 0);
            used.sort_unstable();
            prop_assert!(used.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            let &(first, blocks) = used.last().unwrap();
            prop_assert!(first + blocks <= geometry.block_count);
            let total: u64 = used.iter().map(|&(_, blocks)| blocks).sum();
            prop_assert_eq!(geometry.free_space().blocks(), geometry.block_count - total);
        }
    }
}
