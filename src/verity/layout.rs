//! Where the levels of a tree are. Pure.

use thiserror::Error;
use uuid::Uuid;
use zerocopy::FromZeros;

use super::Salt;
use super::format::{DIGEST_SIZE, HASH_TYPE, SHA256, SIGNATURE, Superblock, VERSION};
use crate::units::ByteOffset;

/// The size of data or hash blocks: a power of two from 512 bytes to 512 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize(u32);

impl BlockSize {
    /// The block size of `bytes`, or `None` if `veritysetup` knows none.
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (512..=512 << 10).contains(&bytes)).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0.into()
    }

    /// In bytes, as the length of a buffer.
    pub(super) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// 4096 bytes: what all tools choose, and what every kernel's pages can hold.
impl Default for BlockSize {
    fn default() -> Self {
        Self(4096)
    }
}

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The UUID of the hash area.
    pub uuid: Uuid,
    /// What is hashed before each block.
    pub salt: Salt,
    /// The number of data blocks.
    pub data_blocks: u64,
    /// The size of a data block.
    pub data_block_size: BlockSize,
    /// The size of a hash block.
    pub hash_block_size: BlockSize,
}

/// One level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its first byte in the hash area.
    pub start: ByteOffset,
    /// Its hash blocks.
    pub blocks: u64,
}

/// Where everything in a hash area is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    /// From the lowest, which has the digests of the data, to the top, which is one block.
    levels: Vec<Level>,
    size: u64,
}

/// Why there is no tree over some data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// There is no block to hash.
    #[error("dm-verity: there is no data to hash")]
    Empty,
    /// The last block would not be whole.
    #[error(
        "dm-verity: {0} bytes of data are no multiple of the block size of 4096 bytes; give the partition another size"
    )]
    NotWhole(u64),
    /// Data or tree end past the address space of files.
    #[error("dm-verity: {0} blocks of data are more than a disk can have")]
    TooLarge(u64),
}

impl Layout {
    /// The layout over `data_bytes`, a multiple of 4096, in blocks of 4096 bytes.
    ///
    /// # Errors
    /// If there is no such tree.
    pub fn new(data_bytes: u64, uuid: Uuid, salt: Salt) -> Result<Self, LayoutError> {
        let (data_block_size, hash_block_size) = (BlockSize::default(), BlockSize::default());
        if !data_bytes.is_multiple_of(data_block_size.bytes()) {
            return Err(LayoutError::NotWhole(data_bytes));
        }
        let data_blocks = data_bytes / data_block_size.bytes();
        Self::of(Shape { uuid, salt, data_blocks, data_block_size, hash_block_size })
    }

    /// The layout of a hash area of this shape.
    ///
    /// # Errors
    /// If there is no such tree.
    pub fn of(shape: Shape) -> Result<Self, LayoutError> {
        if shape.data_blocks == 0 {
            return Err(LayoutError::Empty);
        }
        let too_large = LayoutError::TooLarge(shape.data_blocks);
        let is_possible = |blocks: u64, size: BlockSize| {
            blocks.checked_mul(size.bytes()).filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or(too_large)
        };
        is_possible(shape.data_blocks, shape.data_block_size)?;
        let mut counts = Vec::new();
        let mut below = shape.data_blocks;
        while below > 1 {
            below = below.div_ceil(digests_per_block(shape.hash_block_size));
            counts.push(below);
        }
        // The top comes first. The superblock has a block before it.
        let mut levels = Vec::new();
        let mut next = 1_u64;
        for &blocks in counts.iter().rev() {
            levels.push(Level { start: ByteOffset(is_possible(next, shape.hash_block_size)?), blocks });
            next = next.checked_add(blocks).ok_or(too_large)?;
        }
        levels.reverse();
        let size = is_possible(next, shape.hash_block_size)?;
        Ok(Self { shape, levels, size })
    }

    /// What the superblock says.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes of the hash area: of the superblock's block and of all levels.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of data that the tree covers.
    pub fn data_size(&self) -> u64 {
        self.shape.data_blocks * self.shape.data_block_size.bytes()
    }

    /// The levels from the lowest, which has the digests of the data, to the top, which is one block. On the disk, the
    /// top comes first. There are none over a single data block: its digest is the root hash.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The digests in a hash block.
    pub fn digests_per_block(&self) -> u64 {
        digests_per_block(self.shape.hash_block_size)
    }

    /// The superblock.
    pub fn superblock(&self) -> Superblock {
        let Shape { uuid, salt, data_blocks, data_block_size, hash_block_size } = &self.shape;
        let mut superblock = Superblock::new_zeroed();
        superblock.signature = SIGNATURE;
        superblock.version.set(VERSION);
        superblock.hash_type.set(HASH_TYPE);
        superblock.uuid = uuid.into_bytes();
        superblock.algorithm.iter_mut().zip(SHA256).for_each(|(to, byte)| *to = *byte);
        superblock.data_block_size.set(data_block_size.0);
        superblock.hash_block_size.set(hash_block_size.0);
        superblock.data_blocks.set(*data_blocks);
        superblock.salt_size.set(u16::try_from(salt.as_bytes().len()).unwrap_or_default());
        superblock.salt.iter_mut().zip(salt.as_bytes()).for_each(|(to, byte)| *to = *byte);
        superblock
    }
}

fn digests_per_block(size: BlockSize) -> u64 {
    size.bytes() / DIGEST_SIZE as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(blocks: u64) -> Layout {
        Layout::new(blocks * 4096, Uuid::nil(), Salt::new(b"salt").unwrap()).unwrap()
    }

    /// The number of the first block of each level and how many there are, from the lowest level up.
    fn levels(blocks: u64) -> Vec<(u64, u64)> {
        layout(blocks).levels().iter().map(|level| (level.start.0 / 4096, level.blocks)).collect()
    }

    #[test]
    fn the_top_comes_first() {
        assert_eq!(levels(1), []);
        assert_eq!(levels(2), [(1, 1)]);
        assert_eq!(levels(128), [(1, 1)]);
        assert_eq!(levels(129), [(2, 2), (1, 1)]);
        assert_eq!(levels(16_384), [(2, 128), (1, 1)]);
        assert_eq!(levels(16_385), [(4, 129), (2, 2), (1, 1)]);
        assert_eq!(layout(1).size(), 4096);
        assert_eq!(layout(16_385).size(), (1 + 1 + 2 + 129) * 4096);
        assert_eq!(layout(16_385).data_size(), 16_385 * 4096);
    }

    #[test]
    fn what_cannot_be_hashed_is_refused() {
        let new = |bytes| Layout::new(bytes, Uuid::nil(), Salt::new(b"").unwrap());
        assert_eq!(new(0), Err(LayoutError::Empty));
        assert_eq!(new(4097), Err(LayoutError::NotWhole(4097)));
        assert_eq!(new(u64::MAX - 4095), Err(LayoutError::TooLarge((1 << 52) - 1)));
        // The largest file has room for data, but a tree is next to it and much smaller.
        assert!(new((1 << 63) - 4096).is_ok());
        assert_eq!(BlockSize::new(256), None);
        assert_eq!(BlockSize::new(1 << 20), None);
        assert_eq!(BlockSize::new(4097), None);
    }

    proptest! {
        #[test]
        fn every_level_is_where_the_one_above_ends(blocks in 1_u64..1 << 50, data in 9..=19_u32, hash in 9..=19_u32) {
            let [data_block_size, hash_block_size] = [data, hash].map(|bits| BlockSize::new(1 << bits).unwrap());
            let shape = Shape { uuid: Uuid::nil(), salt: Salt::new(b"").unwrap(), data_blocks: blocks, data_block_size, hash_block_size };
            let Ok(layout) = Layout::of(shape) else { return Ok(()) };
            let size = hash_block_size.bytes();
            let mut end = size;
            for level in layout.levels().iter().rev() {
                prop_assert_eq!(level.start.0, end);
                end += level.blocks * size;
            }
            prop_assert_eq!(layout.size(), end);
            let mut below = blocks;
            for level in layout.levels() {
                prop_assert!(level.blocks * layout.digests_per_block() >= below);
                prop_assert!((level.blocks - 1) * layout.digests_per_block() < below);
                below = level.blocks;
            }
            prop_assert_eq!(below, 1);
        }
    }
}
