//! metadata_csum: a crc32c over every piece of metadata. It also covers the identity of the filesystem and of the owner
//! of the piece.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/checksums.rst`.

use super::InodeNumber;

/// A running crc32c as ext4 stores it: started from all ones, not inverted at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(u32);

impl Checksum {
    /// The checksum of nothing.
    pub const EMPTY: Self = Self(!0);

    /// The start of every checksum of a filesystem but the superblock's own: its UUID.
    pub fn of_filesystem(uuid: &[u8; 16]) -> Self {
        Self::EMPTY.with(uuid)
    }

    /// The start of every checksum of what belongs to an inode: the filesystem, the inode, its generation (0).
    pub fn of_inode(self, inode: InodeNumber) -> Self {
        self.with(&inode.0.to_le_bytes()).with(&0u32.to_le_bytes())
    }

    /// The start that a superblock holds in place of the UUID's (metadata_csum_seed).
    pub fn from_value(value: u32) -> Self {
        Self(value)
    }

    /// Continued over more bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        // The crate inverts at both ends, ext4 at neither.
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// All 32 bits.
    pub fn value(self) -> u32 {
        self.0
    }

    /// The lower 16 bits, as many fields hold only those or hold both halves apart.
    #[allow(clippy::cast_possible_truncation, reason = "this is what the field holds")]
    pub fn low(self) -> u16 {
        self.0 as u16
    }

    /// The upper 16 bits.
    pub fn high(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
