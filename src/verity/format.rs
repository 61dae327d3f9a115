//! The on-disk structure of a dm-verity hash area, and nothing else.
//!
//! Sources: cryptsetup's documentation, "DM-Verity on-disk specification"; the kernel's
//! `Documentation/admin-guide/device-mapper/verity.rst`. All integers are little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of the superblock.
pub const SIGNATURE: [u8; 8] = *b"verity\0\0";
/// The one version of the superblock that there is.
pub const VERSION: u32 = 1;
/// The type of hashing in which the salt stands before a block. The other one, 0, is that of the first ChromeOS.
pub const HASH_TYPE: u32 = 1;
/// The name of the one algorithm that is written here, as the kernel spells it.
pub const SHA256: &[u8] = b"sha256";
/// The bytes of one digest of that algorithm. This is a power of two, so that digests follow each other without gaps.
pub const DIGEST_SIZE: usize = 32;
/// The longest salt in bytes.
pub const SALT_MAX: usize = 256;

/// The superblock, at the start of the hash area. The tree starts with the next whole hash block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`SIGNATURE`].
    pub signature: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// [`HASH_TYPE`].
    pub hash_type: U32,
    /// The area's UUID, in the order in which it is written.
    pub uuid: [u8; 16],
    /// The name of the algorithm, filled up with zeros.
    pub algorithm: [u8; 32],
    /// The bytes of a data block.
    pub data_block_size: U32,
    /// The bytes of a hash block.
    pub hash_block_size: U32,
    /// The number of data blocks.
    pub data_blocks: U64,
    /// The bytes of the salt.
    pub salt_size: U16,
    /// Zero: reserved.
    pub pad1: [u8; 6],
    /// The salt, filled up with zeros.
    pub salt: [u8; SALT_MAX],
    /// Zero: reserved.
    pub pad2: [u8; 168],
}

const _: () = assert!(size_of::<Superblock>() == 512);
