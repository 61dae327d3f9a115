//! The disks that a form cannot hold.

use super::{Format, FormatError, Making};

/// The error for a disk that a form cannot hold.
pub(super) fn impossible(form: Format, why: impl Into<String>) -> FormatError {
    FormatError::Impossible { form, why: why.into() }
}

/// Refuses a disk that has not a whole number of units of `unit` bytes, one at least, or has more than `most` bytes.
pub(super) fn check_size(form: Format, size: u64, unit: u64, most: u64) -> Result<(), FormatError> {
    if size == 0 || !size.is_multiple_of(unit) {
        let why = format!("the disk has {size} bytes, and must have a multiple of {unit}; give it such a size");
        return Err(impossible(form, why));
    }
    if size > most {
        let why = format!("the disk has {size} bytes, but such a disk has at most {most}; make it smaller");
        return Err(impossible(form, why));
    }
    Ok(())
}

/// Refuses a disk whose sectors are not those that every disk of the form has.
pub(super) fn check_sectors(form: Format, making: &Making<'_>) -> Result<(), FormatError> {
    let sectors = making.sector_size;
    if form.has_sectors(sectors) {
        return Ok(());
    }
    let bytes = sectors.bytes();
    let why = format!("the disk has sectors of {bytes} bytes, and those of this form have 512; choose vhdx");
    Err(impossible(form, why))
}
