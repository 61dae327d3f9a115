//! Brings the bytes of a disk to their places through memory, where no engine can move them.

use std::fs::File;

use super::{FormatError, Places, Source, write_data};
use crate::copy::Means;
use crate::map::Extent;

/// The bytes that are read at once.
const AT_ONCE: u64 = 1 << 20;

/// Writes all data of `source` to its places in `to`, where zeros are.
pub(crate) fn fill(source: &dyn Source, to: &File, places: &Places, means: Means<'_>) -> Result<(), FormatError> {
    let mut reader = source.reader()?;
    let mut buffer = Vec::new();
    for Extent { range, .. } in source.map().extents().iter().filter(|extent| extent.held.is_data()) {
        let mut at = range.start;
        while at < range.end {
            means.cancel.check()?;
            let piece = at..range.end.min(at.saturating_add(AT_ONCE));
            buffer.resize(index(piece.end - piece.start) + 1, 0);
            reader.read(piece.clone(), &mut buffer)?;
            for (from, to_at) in places.of(piece.clone()) {
                let bytes = buffer.get(index(from.start - piece.start)..index(from.end - piece.start));
                write_data(to, to_at.0, bytes.unwrap_or_default())?;
            }
            at = piece.end;
        }
    }
    Ok(())
}

/// An index into a buffer; none has more bytes than memory.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
