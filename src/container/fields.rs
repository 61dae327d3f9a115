//! Reads numbers in headers and tables, of either byte order.

/// The 16 bits at `at`, little end first, or 0 past the end.
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    chunk(bytes, at).map_or(0, u16::from_le_bytes)
}

/// The 32 bits at `at`, little end first, or 0 past the end.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The 64 bits at `at`, little end first, or 0 past the end.
pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, u64::from_le_bytes)
}

/// The 32 bits at `at`, big end first, or 0 past the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, u32::from_be_bytes)
}

/// The 64 bits at `at`, big end first, or 0 past the end.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, u64::from_be_bytes)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
