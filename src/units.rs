//! Address spaces as types, so that a byte offset is never taken for a sector number.
//!
//! Every module may use this. All arithmetic is checked.

use std::fmt;

/// One mebibyte in bytes: partitions start and end on multiples of it.
pub const MIB: u64 = 1 << 20;

/// A position in bytes from the start of a disk image or of a bounded region of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteOffset(pub u64);

impl ByteOffset {
    /// This position moved `bytes` towards the end, or `None` past the end of the address space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A logical block address: a position on a disk in units of its [`SectorSize`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

impl Lba {
    /// The byte at which this sector starts, or `None` past the end of the address space.
    pub fn to_bytes(self, sector_size: SectorSize) -> Option<ByteOffset> {
        self.0.checked_mul(sector_size.bytes()).map(ByteOffset)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The size of a disk's logical sector: the unit of GPT addresses and of FAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectorSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes ("4K native").
    B4096,
}

impl SectorSize {
    /// The sector size of `bytes`, or `None` if no disk that we support has it.
    pub fn new(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// In bytes: 512 or 4096.
    pub fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// The size of a kernel's pages: the unit of swap areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    /// All with which Linux runs: 4, 8, 16, 32 and 64 KiB.
    pub const ALL: [Self; 5] = [Self(4 << 10), Self(8 << 10), Self(16 << 10), Self(32 << 10), Self(64 << 10)];

    /// The page size of `bytes`, or `None` if Linux has no such pages.
    pub fn new(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() == bytes)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// In bytes, as the length of a buffer.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// That of x86, and of most kernels for ARM.
impl Default for PageSize {
    fn default() -> Self {
        Self::ALL[0]
    }
}

/// The smallest multiple of `alignment` that is at least `bytes`, or `None` on overflow.
///
/// `alignment` must not be zero.
pub fn align_up(bytes: u64, alignment: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(alignment)
}

/// The multiples of `unit` on both sides of `bytes`, as a choice for people: `8 or 16`.
///
/// `unit` must not be zero.
pub fn nearest_multiples(bytes: u64, unit: u64) -> String {
    let below = bytes - bytes % unit;
    match (below, below.checked_add(unit)) {
        (0, above) => above.unwrap_or(unit).to_string(),
        (below, Some(above)) => format!("{below} or {above}"),
        (below, None) => below.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_on_both_sides() {
        assert_eq!(nearest_multiples(9, 4), "8 or 12");
        assert_eq!(nearest_multiples(3, 4), "4");
        assert_eq!(nearest_multiples(u64::MAX, 1 << 63), "9223372036854775808");
    }
}
