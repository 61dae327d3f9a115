//! The readers and checkers of all formats behind one door.

use std::sync::Arc;

use crate::read::{Bytes, Fault, FileSystem, Format, ReadError};

/// The format of a filesystem by its magic, or `None` if it is none that can be read here.
pub fn recognise(_bytes: &dyn Bytes) -> Option<Format> {
    // In the order in which formats could be taken for another: FAT has the weakest magic.
    None
}

/// Opens the filesystem of a partition.
///
/// # Errors
/// Whatever is wrong with it.
pub fn open_filesystem(format: Format, _bytes: Arc<dyn Bytes>) -> Result<Box<dyn FileSystem>, ReadError> {
    match format {
        Format::Vfat | Format::Ext4 | Format::Btrfs => Err(unsupported(format)),
    }
}

/// All structural faults of the filesystem of a partition; contents of files are not looked at.
///
/// # Errors
/// If the search cannot even start.
pub fn check_filesystem(format: Format, _bytes: &dyn Bytes) -> Result<Vec<Fault>, ReadError> {
    match format {
        Format::Vfat | Format::Ext4 | Format::Btrfs => Err(unsupported(format)),
    }
}

fn unsupported(format: Format) -> ReadError {
    ReadError::Unsupported(format!("{format:?} cannot be read yet"))
}
