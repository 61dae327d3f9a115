//! Chooses the reader and the checker for the format of a partition.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::read::{Bytes, Fault, FileSystem, Format, ReadError};
use crate::{btrfs, erofs, ext4, vfat};

/// The format of a filesystem by its magic, or `None` if it is none that can be read here.
pub fn recognise(bytes: &dyn Bytes) -> Option<Format> {
    // A boot sector may be left over from a FAT that was there before: its magic counts last.
    if ext4::reader::recognise(bytes) {
        Some(Format::Ext4)
    } else if btrfs::reader::recognise(bytes) {
        Some(Format::Btrfs)
    } else if erofs::reader::recognise(bytes) {
        Some(Format::Erofs)
    } else if vfat::reader::recognise(bytes) {
        Some(Format::Vfat)
    } else {
        None
    }
}

/// Opens the filesystem of a partition.
///
/// # Errors
/// Whatever is wrong with it.
pub fn open_filesystem(format: Format, bytes: Arc<dyn Bytes>) -> Result<Box<dyn FileSystem>, ReadError> {
    Ok(match format {
        Format::Ext4 => Box::new(ext4::reader::open(bytes)?),
        Format::Vfat => Box::new(vfat::reader::open(bytes)?),
        Format::Btrfs => Box::new(btrfs::reader::open(bytes)?),
        Format::Erofs => Box::new(erofs::reader::open(bytes)?),
    })
}

/// All structural faults of the filesystem of a partition. Contents of files are not looked at, except that what is
/// compressed on an EROFS is unpacked, on up to `threads` threads.
///
/// # Errors
/// If the search cannot even start.
pub fn check_filesystem(format: Format, bytes: &dyn Bytes, threads: NonZeroUsize) -> Result<Vec<Fault>, ReadError> {
    match format {
        Format::Ext4 => ext4::check::check(bytes),
        Format::Vfat => vfat::check::check(bytes),
        Format::Btrfs => btrfs::check::check(bytes),
        Format::Erofs => erofs::check::check(bytes, threads),
    }
}
