//! The journal: an ordinary file of zeros with a superblock of its own at its start.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/journal.rst`.

use zerocopy::{FromZeros, IntoBytes};

use super::format::{BLOCK_BYTES, BLOCK_SIZE, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK_V2, JournalSuperblock};

/// The smallest journal that the kernel takes, in blocks.
const MIN_BLOCKS: u32 = 1024;

/// The journal's size for a filesystem of `block_count` blocks, as mke2fs chooses it. In blocks.
///
/// Below 2048 blocks mke2fs makes none at all; ours is then the smallest there is.
pub fn blocks(block_count: u64) -> u32 {
    const MIB_BLOCKS: u64 = (1 << 20) / BLOCK_SIZE;
    match block_count / MIB_BLOCKS {
        0..128 => MIN_BLOCKS,
        128..1024 => 4096,
        1024..2048 => 8192,
        2048..16_384 => 16_384,
        16_384..32_768 => 32_768,
        32_768..65_536 => 65_536,
        65_536..131_072 => 131_072,
        _ => 262_144,
    }
}

/// The first block of an empty journal of so many blocks.
pub fn superblock(blocks: u32) -> [u8; BLOCK_BYTES] {
    let mut superblock = JournalSuperblock::new_zeroed();
    superblock.magic = JOURNAL_MAGIC.into();
    superblock.blocktype = JOURNAL_SUPERBLOCK_V2.into();
    superblock.blocksize = 4096.into();
    superblock.maxlen = blocks.into();
    // The log starts right after this block, with the first transaction.
    superblock.first = 1.into();
    superblock.sequence = 1.into();
    superblock.nr_users = 1.into();
    let mut block = [0; BLOCK_BYTES];
    block[..size_of::<JournalSuperblock>()].copy_from_slice(superblock.as_bytes());
    block
}
