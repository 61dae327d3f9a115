//! Gives the last partition of an MBR another size.

use super::record::{OFFSET, Record};
use super::{Fit, Grown, ResizeError, Resized, Room, checked_size, is_zero, read, sectors};
use crate::disk::table::MbrTable;
use crate::disk::table::dos::EXTENDED;
use crate::read::Bytes;
use crate::units::{ByteOffset, Lba, MIB};

/// The most bytes behind the last partition that stay; more is room that nobody asked for.
const MOST_TRAILING: u64 = MIB;

/// The table of `disk`, which is `table`, with `size` bytes for the primary partition `number`.
///
/// The partition must be the last on the disk, and `size` a multiple of the sector size. The disk ends with the partition,
/// or with what was behind it, if that is less than 1 MiB.
///
/// # Errors
/// If the table is damaged, the partition is not there, a logical one, or not the last, or the size is impossible.
pub fn resize_last_mbr(disk: &dyn Bytes, table: &MbrTable, number: u32, size: u64) -> Result<Resized, ResizeError> {
    if !table.faults.is_empty() {
        return Err(ResizeError::Damaged(table.faults.clone()));
    }
    let records = Record::read_all(disk)?;
    let index = find(table, &records, number)?;
    let record = *records.get(index).ok_or(ResizeError::NoPartition(number))?;
    let sector_size = table.sector_size;
    let sectors = sectors(number, size, sector_size)?;
    let beyond = || ResizeError::Beyond { number, most: (1 << 32) * sector_size.bytes() };
    let resized = record.placed(record.first().0, sectors).ok_or_else(beyond)?;
    let bytes = |end: u64| Lba(end).to_bytes(sector_size).ok_or(ResizeError::TooLarge);
    let (old_end, new_end) = (bytes(record.end())?, bytes(resized.end())?);

    let mut writes = Vec::new();
    if resized != record {
        let records: Vec<_> = (0..).zip(records).map(|(i, other)| if i == index { resized } else { other }).collect();
        writes.push((OFFSET, Record::bytes(&records)));
    }
    let trailing = trailing(disk, old_end)?;
    let disk_size = checked_size(new_end.checked_add(trailing.len() as u64).map(|end| end.0))?;
    if !is_zero(&trailing) {
        writes.push((new_end, trailing));
    }
    Ok(Resized { disk_size, writes })
}

/// The table of `disk`, which is `table`, for a disk of `room.size` bytes. The primary partition `grow`, which must be
/// the last, gets all whole MiB up to `room.end`, as far as 32 bits can express them.
///
/// # Errors
/// If the table is damaged, the partition is not there, a logical one, or not the last, or the disk is too small.
pub fn fit_mbr(disk: &dyn Bytes, table: &MbrTable, grow: Option<u32>, room: Room) -> Result<Fit, ResizeError> {
    if !table.faults.is_empty() {
        return Err(ResizeError::Damaged(table.faults.clone()));
    }
    let sector = table.sector_size.bytes();
    let records = Record::read_all(disk)?;
    let needed =
        records.iter().filter(|record| record.is_used()).map(|record| record.end()).max().unwrap_or(0) * sector;
    if room.size < needed {
        return Err(ResizeError::TooSmall { needed, size: room.size });
    }
    let Some(number) = grow else { return Ok(Fit::default()) };
    let index = find(table, &records, number)?;
    let record = *records.get(index).ok_or(ResizeError::NoPartition(number))?;
    let end = room.size.min(room.end).min((1 << 32) * sector);
    let (from, to) = (record.end() * sector, end - end % MIB);
    let sectors = (to / sector).saturating_sub(record.first().0);
    let Some(grown) = record.placed(record.first().0, sectors).filter(|_| to > from) else { return Ok(Fit::default()) };
    let records: Vec<_> = (0..).zip(records).map(|(i, other)| if i == index { grown } else { other }).collect();
    let writes = vec![(OFFSET, Record::bytes(&records))];
    Ok(Fit { writes, free: Vec::new(), grown: Some(Grown { number, from, to }) })
}

/// The place in the MBR of the partition `number`, if none ends after it.
fn find(table: &MbrTable, records: &[Record], number: u32) -> Result<usize, ResizeError> {
    let entry = table.partitions.iter().find(|entry| entry.number == number).ok_or(ResizeError::NoPartition(number))?;
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let index = index.filter(|&index| index < records.len()).ok_or(ResizeError::Logical(number))?;
    // An extended partition is not among the partitions.
    for (record, other) in records.iter().zip(1..) {
        let is_extended = EXTENDED.contains(&record.kind());
        if other == number && is_extended {
            return Err(ResizeError::NoPartition(number));
        }
        if other != number && record.is_used() && record.end() > entry.first.0 {
            return Err(ResizeError::NotLast { number, other });
        }
    }
    Ok(index)
}

/// The bytes behind the partition, which ended at `end`, if they are few.
fn trailing(disk: &dyn Bytes, end: ByteOffset) -> Result<Vec<u8>, ResizeError> {
    let len = disk.len().saturating_sub(end.0);
    if len < MOST_TRAILING { read(disk, end, len) } else { Ok(Vec::new()) }
}
