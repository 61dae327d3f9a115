//! What the MBR before a GPT must say when the last partition gets another size.

use super::record::{OFFSET, Record};
use super::{ResizeError, gpt::Places};
use crate::disk::table::{Table, TableEntry};
use crate::read::Bytes;
use crate::units::{ByteOffset, Lba};

/// The most sectors that an entry can express.
const MOST: u64 = u32::MAX as u64;

/// The bytes of the MBR's entries that change, if any do.
pub(super) fn resized(
    disk: &dyn Bytes,
    table: &Table,
    entry: &TableEntry,
    places: &Places,
) -> Result<Option<(ByteOffset, Vec<u8>)>, ResizeError> {
    let old = Record::read_all(disk)?;
    let resized = |&record: &Record| if record.is_used() { resize(record, table, entry, places) } else { Ok(record) };
    let new = old.iter().map(resized).collect::<Result<Vec<_>, _>>()?;
    Ok((new != old).then(|| (OFFSET, Record::bytes(&new))))
}

/// The same of a disk with another end, all of whose partitions stay.
pub(super) fn moved(
    disk: &dyn Bytes,
    table: &Table,
    places: &Places,
) -> Result<Option<(ByteOffset, Vec<u8>)>, ResizeError> {
    let old = Record::read_all(disk)?;
    let is_all = |record: &Record| record.is_used() && record.is_protective() && record.end() >= places.end();
    let moved = |record: &Record| match *record {
        all if is_all(&all) && all.first() == Lba(1) => protective(all, table, places),
        // What is left of the disk behind the partitions.
        rest if is_all(&rest) && rest.first().0 >= places.end() => {
            let sectors = places.header.0.saturating_add(1).saturating_sub(rest.first().0);
            rest.placed(rest.first().0, sectors).unwrap_or(rest)
        }
        other => other,
    };
    let new: Vec<_> = old.iter().map(moved).collect();
    Ok((new != old).then(|| (OFFSET, Record::bytes(&new))))
}

fn resize(record: Record, table: &Table, entry: &TableEntry, places: &Places) -> Result<Record, ResizeError> {
    let (number, first) = (entry.number, record.first());
    let old_end = entry.last.0.saturating_add(1);
    if record.end() <= entry.first.0 {
        // It is before the partition: another partition, or the entry that only protects the table in a hybrid.
        return Ok(record);
    }
    if record.is_protective() && first < entry.first {
        return Ok(protective(record, table, places));
    }
    let beyond = || ResizeError::Beyond { number, most: (1 << 32) * table.sector_size.bytes() };
    if !record.is_protective() && first == entry.first {
        return record.placed(first.0, places.end().saturating_sub(first.0)).ok_or_else(beyond);
    }
    if record.is_protective() && first.0 == old_end {
        // What is left of the disk behind the partitions.
        let sectors = places.header.0.saturating_add(1).saturating_sub(places.end());
        return record.placed(places.end(), sectors).ok_or_else(beyond);
    }
    Err(ResizeError::Hybrid { first, last: Lba(record.end().saturating_sub(1)), number })
}

/// The entry that stands for the whole disk, or for as much of it as an entry can express.
fn protective(record: Record, table: &Table, places: &Places) -> Record {
    let is_any_size = record.sectors() == MOST && table.disk_size / table.sector_size.bytes() <= MOST;
    if is_any_size {
        return record;
    }
    let sectors = places.header.0.min(MOST);
    record.placed(record.first().0, sectors).unwrap_or(record)
}
