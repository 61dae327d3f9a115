//! Writes the bytes of a disk one after another, where holes are not possible.

use std::io::Write;

use super::ordered::{Pack, Unit, in_order};
use super::{FormatError, Making, Source};
use crate::units::ByteOffset;

/// The bytes that are read at once.
const UNIT: usize = 4 << 20;

/// Writes all bytes of the disk in order.
pub(super) fn stream(source: &dyn Source, to: &mut (dyn Write + Send), making: Making<'_>) -> Result<(), FormatError> {
    let means = making.means;
    means.progress.stage("writing the disk", 0, source.map().size());
    in_order(source, UNIT, means, || Plain, |_, (), bytes| to.write_all(bytes).map_err(FormatError::Write))
}

struct Plain;

impl Pack for Plain {
    type Note = ();

    fn pack(&mut self, _: ByteOffset, bytes: Unit<'_>, output: &mut Vec<u8>) -> Result<(), FormatError> {
        match bytes {
            Unit::Data(bytes) => output.extend_from_slice(bytes),
            Unit::Zeros(len) => output.resize(len, 0),
        }
        Ok(())
    }
}
