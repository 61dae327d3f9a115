//! A FAT filesystem as it is found: FAT12, FAT16 or FAT32, any writer, any damage.
//!
//! Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. Every number from the image is checked
//! before it is used: [`Shape`] against the size of the image, everything else against [`Shape`].

pub(super) mod chain;
pub(super) mod entry;
pub(super) mod shape;
pub(super) mod table;
pub(super) mod walk;

pub(super) use shape::{Bits, Shape};
pub(super) use table::{Next, Table};
pub(super) use walk::{Walk, Weight};

/// The 16 bits at `at`, or 0 past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u16::from_le_bytes(*raw))
}

/// The 32 bits at `at`, or 0 past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw))
}

/// The byte at `at`, or 0 past the end.
pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}
