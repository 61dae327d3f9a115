//! Gives the last partition of a table another size. The result is the bytes that change.
//!
//! The table of a disk that exists is not planned again. Everything that does not depend on the new size stays byte for
//! byte: names, attributes, places of arrays, and things that no specification knows. What changes is the end of one
//! partition, the end of the disk, and the checksums over both.
//!
//! ```text
//! head        copied by the caller: MBR, primary header and entries, other partitions, gaps
//! partition   written by the caller, in its new size
//! tail        the backup of a GPT, or what follows the last partition of an MBR: moved to the new end
//! ```
//!
//! Source: UEFI specification 2.10, chapters "GUID Partition Table Disk Layout" and "MBR".

use std::ops::Range;

use thiserror::Error;

use crate::read::{Bytes, Fault, ReadError};
use crate::units::{ByteOffset, Lba, SectorSize};

mod dos;
mod gpt;
mod hybrid;
mod record;
#[cfg(test)]
mod tests;

pub use dos::{fit_mbr, resize_last_mbr};
pub use gpt::{fit, resize_last};

/// A disk with another size, and what its table says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resized {
    /// The size of the whole disk in bytes.
    pub disk_size: u64,
    /// What to write where, after all that is before the partition has been copied from the old disk. Sorted, without
    /// overlaps, and not in the partition. Behind the partition, what is in no range is zeros.
    pub writes: Vec<(ByteOffset, Vec<u8>)>,
}

/// A disk of another size that a table is to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The size of the disk in bytes.
    pub size: u64,
    /// The byte at which the last partition ends at the latest, if it grows.
    pub end: u64,
}

/// What changes on a disk whose table is to fit another size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// What to write where, without overlaps.
    pub writes: Vec<(ByteOffset, Vec<u8>)>,
    /// The bytes of the old disk that nobody reads any more, as far as nothing of `writes` comes there.
    pub free: Vec<Range<u64>>,
    /// What the last partition gets.
    pub grown: Option<Grown>,
}

/// A partition that has become larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Its number.
    pub number: u32,
    /// The byte of the disk at which it ended.
    pub from: u64,
    /// The byte of the disk at which it ends now.
    pub to: u64,
}

/// Why the last partition of a disk cannot get another size.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// A new table that is made from a damaged one would be damaged, too.
    #[error("the partition table is damaged ({}); repair it first, with sgdisk or fdisk", list(.0))]
    Damaged(Vec<Fault>),
    /// One of the two halves of a GPT is not there.
    #[error("the {0} GPT header is missing; repair the table with sgdisk -e first")]
    Missing(&'static str),
    /// A number that no partition has.
    #[error("there is no partition {0}; name one that sane-image inspect shows")]
    NoPartition(u32),
    /// A partition whose end is followed by another's.
    #[error(
        "partition {number} is not the last one: partition {other} ends after it; only the last one can be resized"
    )]
    NotLast {
        /// Its number.
        number: u32,
        /// The number of a partition that ends after it.
        other: u32,
    },
    /// A partition within another one, which would have to be resized as well.
    #[error(
        "partition {0} is a logical one, whose size cannot be changed; use a disk with primary partitions or a GPT"
    )]
    Logical(u32),
    /// A size that is no number of sectors.
    #[error("{size} bytes are not a size for partition {number}; use a multiple of {sector_size} bytes, more than 0")]
    Size {
        /// The partition.
        number: u32,
        /// In bytes.
        size: u64,
        /// In bytes.
        sector_size: u64,
    },
    /// More sectors than 32 bits can express.
    #[error("partition {number} would end past the {most} bytes that an MBR can describe; use a smaller size or a GPT")]
    Beyond {
        /// The partition.
        number: u32,
        /// In bytes.
        most: u64,
    },
    /// A hybrid MBR with something that would be overwritten, or would end in the middle of the partition.
    #[error(
        "the hybrid MBR names LBA {first} to {last}, which is neither before partition {number} nor the same; remove that \
         entry from the MBR first"
    )]
    Hybrid {
        /// Its first sector.
        first: Lba,
        /// Its last sector.
        last: Lba,
        /// The partition.
        number: u32,
    },
    /// A disk that has no room for what is on the old one.
    #[error("the disk has {size} bytes, {} too few: the partitions and their table need {needed}", needed - size)]
    TooSmall {
        /// In bytes.
        needed: u64,
        /// In bytes: less.
        size: u64,
    },
    /// Beyond what a file or a disk can be.
    #[error("the disk would be larger than {} bytes; use a smaller size", i64::MAX)]
    TooLarge,
    /// The disk cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The first fault, and how many more there are.
fn list(faults: &[Fault]) -> String {
    match faults {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first}; {} more", more.len()),
    }
}

/// The number of sectors of a partition of `size` bytes: not 0.
fn sectors(number: u32, size: u64, sector_size: SectorSize) -> Result<u64, ResizeError> {
    let sector_size = sector_size.bytes();
    if size == 0 || !size.is_multiple_of(sector_size) {
        return Err(ResizeError::Size { number, size, sector_size });
    }
    Ok(size / sector_size)
}

/// Checks that no file would be longer than files can be.
fn checked_size(size: Option<u64>) -> Result<u64, ResizeError> {
    size.filter(|&size| i64::try_from(size).is_ok()).ok_or(ResizeError::TooLarge)
}

/// All bytes of a range, which must be short.
fn read(disk: &dyn Bytes, start: ByteOffset, len: u64) -> Result<Vec<u8>, ResizeError> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| ResizeError::TooLarge)?];
    disk.read_exact_at(start, &mut bytes)?;
    Ok(bytes)
}

/// Whether a write can be left out where nothing was before.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}
