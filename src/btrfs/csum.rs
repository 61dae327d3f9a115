//! crc32c as btrfs uses it: for blocks and for names.
//!
//! Source: "Btrfs on-disk format", sections on checksums and on directory items.

use super::format::SECTOR_BYTES;

/// The checksum of a node or superblock past its checksum field, or of a sector of data.
pub fn of_block(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of a sector of zeros.
pub fn of_zeros() -> u32 {
    of_block(&[0; SECTOR_BYTES])
}

/// The checksum field of a node or superblock, of which crc32c fills the first four bytes.
pub fn field(checksum: u32) -> [u8; 32] {
    let mut field = [0; 32];
    field[..4].copy_from_slice(&checksum.to_le_bytes());
    field
}

/// The hash of a name, by which `DIR_ITEM`s are keyed: crc32c from a start of !1, not inverted at the end.
pub fn of_name(name: &[u8]) -> u64 {
    // The crate inverts at both ends, this hash at neither.
    u64::from(!crc32c::crc32c_append(1, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes as mkfs.btrfs writes them.
    #[test]
    fn names() {
        for (name, hash) in [("default", 2_378_154_706), ("dir", 481_053_471), ("small", 3_107_154_202)] {
            assert_eq!(of_name(name.as_bytes()), hash, "{name}");
        }
    }

    #[test]
    fn zeros() {
        assert_eq!(of_zeros(), of_block(&[0; 4096]));
        assert_eq!(field(0x0403_0201)[..5], [1, 2, 3, 4, 0]);
    }
}
