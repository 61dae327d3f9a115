//! What a directory of FAT holds on the disk.
//!
//! Source: Microsoft's "FAT File System Specification", section "Directory Structure".

use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use super::clock::Clock;
use crate::times::Times;

/// Attribute: the volume's label.
pub(super) const ATTR_VOLUME_ID: u8 = 0x08;
/// Attribute: a directory.
pub(super) const ATTR_DIRECTORY: u8 = 0x10;
/// The attributes of a part of a long name.
pub(super) const ATTR_LONG_NAME: u8 = 0x0f;
/// Marks the last part of a long name, which comes first.
pub(super) const LAST_LONG_ENTRY: u8 = 0x40;
/// The last cluster of a chain.
pub(super) const END_OF_CHAIN: u32 = 0x0fff_ffff;

/// A file, a directory or the volume's label.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ShortEntry {
    pub(super) name: [u8; 11],
    pub(super) attr: u8,
    /// Zero: Windows NT's flags of names in lower case, which have long names here.
    pub(super) ntres: u8,
    pub(super) crt_time_tenth: u8,
    pub(super) crt_time: U16,
    pub(super) crt_date: U16,
    pub(super) lst_acc_date: U16,
    pub(super) fst_clus_hi: U16,
    pub(super) wrt_time: U16,
    pub(super) wrt_date: U16,
    pub(super) fst_clus_lo: U16,
    pub(super) file_size: U32,
}

/// Thirteen UTF-16 units of a long name.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct LongEntry {
    pub(super) ord: u8,
    pub(super) name1: [U16; 5],
    pub(super) attr: u8,
    /// Zero, as it has to be.
    pub(super) kind: u8,
    pub(super) chksum: u8,
    pub(super) name2: [U16; 6],
    /// Zero, as it has to be.
    pub(super) fst_clus_lo: U16,
    pub(super) name3: [U16; 2],
}

const _: () = assert!(size_of::<ShortEntry>() == 32 && size_of::<LongEntry>() == 32);

impl ShortEntry {
    pub(super) fn new(name: [u8; 11], attr: u8, cluster: u32, size: u32, times: Times) -> Self {
        let [a, b, c, d] = cluster.to_le_bytes();
        // FAT knows no time of change, and of the others only what these fields hold.
        let [accessed, _, modified, created] = times.all().map(Clock::at);
        Self {
            name,
            attr,
            ntres: 0,
            crt_time_tenth: created.hundredths,
            crt_time: created.time.into(),
            crt_date: created.date.into(),
            lst_acc_date: accessed.date.into(),
            fst_clus_hi: U16::from_bytes([c, d]),
            wrt_time: modified.time.into(),
            wrt_date: modified.date.into(),
            fst_clus_lo: U16::from_bytes([a, b]),
            file_size: size.into(),
        }
    }
}
