//! What the superblock says, limited to what the image can hold.
//!
//! Sources: the kernel's `Documentation/filesystems/ext4/super.rst`, `blockgroup.rst` and `checksums.rst`.

use zerocopy::IntoBytes;

use super::super::checksum::Checksum;
use super::super::format::{
    COMPAT_NAMES, INCOMPAT_NAMES, RO_COMPAT_NAMES, SUPERBLOCK_MAGIC, Superblock, compat, incompat, ro_compat,
};
use crate::read::ReadError;

/// The checksums of descriptors and of all other metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ext4) enum Sums {
    /// Nothing.
    None,
    /// uninit_bg: crc16 on descriptors only.
    Crc16,
    /// metadata_csum: crc32c on everything.
    Crc32c,
}

/// The measures of a filesystem.
#[derive(Clone, Debug)]
pub(in crate::ext4) struct Shape {
    pub(in crate::ext4) superblock: Superblock,
    /// In bytes: 1024 to 65,536.
    pub(in crate::ext4) block_size: u32,
    /// In blocks.
    pub(in crate::ext4) blocks: u64,
    /// The block of the superblock: 1 if blocks are of 1024 bytes, else 0.
    pub(in crate::ext4) first_block: u32,
    pub(in crate::ext4) blocks_per_group: u32,
    pub(in crate::ext4) groups: u32,
    pub(in crate::ext4) inodes_per_group: u32,
    /// The number of the last inode.
    pub(in crate::ext4) inodes: u32,
    /// In bytes.
    pub(in crate::ext4) inode_size: u16,
    /// In bytes.
    pub(in crate::ext4) descriptor_size: u16,
    /// The first inode that is not reserved.
    pub(in crate::ext4) first_inode: u32,
    pub(in crate::ext4) sums: Sums,
    /// Where all checksums but the superblock's own start.
    pub(in crate::ext4) seed: Checksum,
}

/// What a reader must know and we do.
const KNOWN: u32 = incompat::FILETYPE
    | incompat::RECOVER
    | incompat::META_BG
    | incompat::EXTENTS
    | incompat::BIT64
    | incompat::MMP
    | incompat::FLEX_BG
    | incompat::EA_INODE
    | incompat::CSUM_SEED
    | incompat::LARGEDIR
    | incompat::INLINE_DATA
    | incompat::ENCRYPT
    | incompat::CASEFOLD;
/// The fewest blocks of a group that mke2fs makes: what keeps the descriptors small beside the image.
const MIN_BLOCKS_PER_GROUP: u32 = 256;

fn corrupt(why: impl Into<String>) -> ReadError {
    ReadError::corrupt("superblock", why)
}

impl Shape {
    /// Reads the superblock of an image of `len` bytes.
    pub(in crate::ext4) fn new(superblock: &Superblock, len: u64) -> Result<Self, ReadError> {
        let s = superblock;
        if s.magic.get() != SUPERBLOCK_MAGIC {
            return Err(corrupt(format!("its magic is {:#06x}, not {SUPERBLOCK_MAGIC:#06x}", s.magic.get())));
        }
        check_features(s)?;
        let block_size = block_size(s)?;
        let blocks = u64::from(s.blocks_count_hi.get()) << 32 | u64::from(s.blocks_count_lo.get());
        let blocks = if s.feature_incompat.get() & incompat::BIT64 == 0 { blocks & 0xffff_ffff } else { blocks };
        if blocks.checked_mul(block_size.into()).is_none_or(|bytes| bytes > len) {
            return Err(corrupt(format!(
                "it says {blocks} blocks of {block_size} bytes, but there are only {len} bytes"
            )));
        }
        let first_block = s.first_data_block.get();
        if first_block > 1 || (first_block == 1) != (block_size == 1024) || blocks <= u64::from(first_block) {
            return Err(corrupt(format!("the first data block of {blocks} cannot be block {first_block}")));
        }
        let (groups, blocks_per_group) = groups(s, blocks, block_size)?;
        let (inode_size, inodes_per_group) = inodes(s, block_size)?;
        let inodes = groups.checked_mul(inodes_per_group).filter(|&inodes| inodes == s.inodes_count.get());
        let inodes = inodes.ok_or_else(|| {
            let count = s.inodes_count.get();
            corrupt(format!("{count} inodes are not {groups} groups of {inodes_per_group}"))
        })?;
        Ok(Self {
            superblock: s.clone(),
            block_size,
            blocks,
            first_block,
            blocks_per_group,
            groups,
            inodes_per_group,
            inodes,
            inode_size,
            descriptor_size: descriptor_size(s)?,
            first_inode: if s.rev_level.get() == 0 { 11 } else { s.first_ino.get() },
            sums: sums(s),
            seed: seed(s),
        })
    }

    pub(in crate::ext4) fn has_compat(&self, feature: u32) -> bool {
        self.superblock.feature_compat.get() & feature != 0
    }

    pub(in crate::ext4) fn has_incompat(&self, feature: u32) -> bool {
        self.superblock.feature_incompat.get() & feature != 0
    }

    pub(in crate::ext4) fn has_ro_compat(&self, feature: u32) -> bool {
        self.superblock.feature_ro_compat.get() & feature != 0
    }

    /// [`Self::block_size`] for the lengths of buffers.
    pub(in crate::ext4) fn block_bytes(&self) -> usize {
        usize::try_from(self.block_size).unwrap_or(1 << 16)
    }

    /// The size of the filesystem in bytes; never more than the image's.
    pub(in crate::ext4) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    /// The features by their usual names, sorted.
    pub(in crate::ext4) fn features(&self) -> Vec<String> {
        self.features_but(0, 0, 0)
    }

    /// The features that are in none of these sets, by their usual names, sorted.
    pub(in crate::ext4) fn features_but(&self, compat: u32, incompat: u32, ro_compat: u32) -> Vec<String> {
        let s = &self.superblock;
        let mut names = named(s.feature_compat.get() & !compat, &COMPAT_NAMES);
        names.extend(named(s.feature_incompat.get() & !incompat, &INCOMPAT_NAMES));
        names.extend(named(s.feature_ro_compat.get() & !ro_compat, &RO_COMPAT_NAMES));
        names.sort();
        names
    }

    /// The first block of a group.
    pub(in crate::ext4) fn group_start(&self, group: u32) -> u64 {
        u64::from(self.first_block).saturating_add(u64::from(group).saturating_mul(self.blocks_per_group.into()))
    }

    /// The blocks of a group.
    pub(in crate::ext4) fn group_blocks(&self, group: u32) -> std::ops::Range<u64> {
        let start = self.group_start(group);
        start..start.saturating_add(self.blocks_per_group.into()).min(self.blocks)
    }

    /// Whether a group starts with a copy of the superblock.
    pub(in crate::ext4) fn has_superblock(&self, group: u32) -> bool {
        let is_power_of = |base: u32| std::iter::successors(Some(base), |p| p.checked_mul(base)).any(|p| p == group);
        if self.has_compat(compat::SPARSE_SUPER2) {
            group == 0 || self.superblock.backup_bgs.iter().any(|backup| backup.get() == group)
        } else if self.has_ro_compat(ro_compat::SPARSE_SUPER) {
            group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
        } else {
            true
        }
    }

    pub(in crate::ext4) fn descriptors_per_block(&self) -> u32 {
        self.block_size.checked_div(self.descriptor_size.into()).unwrap_or(1).max(1)
    }

    /// The blocks that all descriptors take, once.
    pub(in crate::ext4) fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// The descriptor blocks that stand together after each superblock: not those of meta_bg.
    pub(in crate::ext4) fn classic_descriptor_blocks(&self) -> u32 {
        if self.has_incompat(incompat::META_BG) {
            self.descriptor_blocks().min(self.superblock.first_meta_bg.get())
        } else {
            self.descriptor_blocks()
        }
    }

    /// Where the descriptor block `index` stands.
    pub(in crate::ext4) fn descriptor_block(&self, index: u32) -> u64 {
        if index < self.classic_descriptor_blocks() {
            return u64::from(self.first_block).saturating_add(1).saturating_add(index.into());
        }
        let group = index.saturating_mul(self.descriptors_per_block());
        self.group_start(group).saturating_add(self.has_superblock(group).into())
    }

    /// Blocks of an inode table.
    pub(in crate::ext4) fn table_blocks(&self) -> u32 {
        let bytes = u64::from(self.inodes_per_group).saturating_mul(self.inode_size.into());
        u32::try_from(bytes.div_ceil(self.block_size.into())).unwrap_or(u32::MAX)
    }

    /// The group of an inode and its index there, or `None` if there is no such inode.
    pub(in crate::ext4) fn locate(&self, inode: u32) -> Option<(u32, u32)> {
        let index = inode.checked_sub(1).filter(|_| inode <= self.inodes)?;
        Some((index.checked_div(self.inodes_per_group)?, index.checked_rem(self.inodes_per_group)?))
    }

    /// Whether these blocks lie in the filesystem and not before its first.
    pub(in crate::ext4) fn holds(&self, first: u64, count: u64) -> bool {
        first >= u64::from(self.first_block).max(1) && first.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    /// The checksum that the superblock should have.
    pub(in crate::ext4) fn superblock_sum(superblock: &Superblock) -> u32 {
        let bytes = superblock.as_bytes();
        Checksum::EMPTY.with(bytes.split_at_checked(1020).map_or(bytes, |(summed, _)| summed)).value()
    }
}

fn check_features(s: &Superblock) -> Result<(), ReadError> {
    let unknown = s.feature_incompat.get() & !KNOWN;
    if unknown != 0 {
        return Err(ReadError::Unsupported(format!("ext4 with {}", named(unknown, &INCOMPAT_NAMES).join(", "))));
    }
    if s.feature_ro_compat.get() & ro_compat::BIGALLOC != 0 {
        return Err(ReadError::Unsupported("ext4 with bigalloc".to_owned()));
    }
    if s.rev_level.get() > 1 {
        return Err(ReadError::Unsupported(format!("revision {} of ext4", s.rev_level.get())));
    }
    Ok(())
}

fn block_size(s: &Superblock) -> Result<u32, ReadError> {
    let log = s.log_block_size.get();
    match 1024u32.checked_shl(log) {
        Some(size) if log <= 6 => Ok(size),
        _ => Err(corrupt(format!("blocks of 2^(10 + {log}) bytes"))),
    }
}

fn groups(s: &Superblock, blocks: u64, block_size: u32) -> Result<(u32, u32), ReadError> {
    let per_group = s.blocks_per_group.get();
    if !(MIN_BLOCKS_PER_GROUP..=block_size.saturating_mul(8)).contains(&per_group) || !per_group.is_multiple_of(8) {
        return Err(corrupt(format!("groups of {per_group} blocks")));
    }
    let data = blocks.saturating_sub(s.first_data_block.get().into());
    let groups = u32::try_from(data.div_ceil(per_group.into())).map_err(|_| corrupt("more than 2^32 groups"))?;
    Ok((groups, per_group))
}

fn inodes(s: &Superblock, block_size: u32) -> Result<(u16, u32), ReadError> {
    let size = if s.rev_level.get() == 0 { 128 } else { s.inode_size.get() };
    if !size.is_power_of_two() || size < 128 || u32::from(size) > block_size {
        return Err(corrupt(format!("inodes of {size} bytes")));
    }
    let per_group = s.inodes_per_group.get();
    if per_group == 0 || per_group > block_size.saturating_mul(8) {
        return Err(corrupt(format!("groups of {per_group} inodes")));
    }
    Ok((size, per_group))
}

fn descriptor_size(s: &Superblock) -> Result<u16, ReadError> {
    let size = s.desc_size.get();
    if s.feature_incompat.get() & incompat::BIT64 == 0 {
        Ok(32)
    } else if size.is_power_of_two() && (64..=1024).contains(&size) {
        Ok(size)
    } else {
        Err(corrupt(format!("group descriptors of {size} bytes")))
    }
}

fn sums(s: &Superblock) -> Sums {
    match s.feature_ro_compat.get() {
        features if features & ro_compat::METADATA_CSUM != 0 => Sums::Crc32c,
        features if features & ro_compat::GDT_CSUM != 0 => Sums::Crc16,
        _ => Sums::None,
    }
}

fn seed(s: &Superblock) -> Checksum {
    if s.feature_incompat.get() & incompat::CSUM_SEED == 0 {
        Checksum::of_filesystem(&s.uuid)
    } else {
        Checksum::from_value(s.checksum_seed.get())
    }
}

fn named(features: u32, names: &[(u32, &str)]) -> Vec<String> {
    (0..32)
        .map(|bit| 1u32 << bit)
        .filter(|bit| features & bit != 0)
        .map(|bit| {
            names.iter().find(|(known, _)| *known == bit).map_or(format!("feature {bit:#x}"), |(_, n)| (*n).to_owned())
        })
        .collect()
}
