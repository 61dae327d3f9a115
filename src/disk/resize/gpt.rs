//! Gives the last partition of a GPT another size.

use zerocopy::FromBytes;

use super::{Fit, Grown, ResizeError, Resized, Room, checked_size, hybrid, is_zero, read, sectors};
use crate::disk::table::{Header, RawEntry, RawHeader, Table, TableEntry};
use crate::read::Bytes;
use crate::units::{ByteOffset, Lba, MIB, SectorSize, align_up};

/// The most bytes between the partition and the backup that stay as they are; more is room that nobody asked for.
const MOST_DISTANCE: u64 = 2 * MIB;
/// The same between the backup's entries and its header.
const MOST_GAP: u64 = MIB;

/// The table of `disk`, which is `table`, with `size` bytes for the partition `number`.
///
/// The partition must be the last on the disk, and `size` a multiple of the sector size. The backup stays as far behind
/// it as it was. If that is 2 MiB or more, it comes as near as possible, so that the disk ends on a whole MiB. The disk
/// ends with the backup.
///
/// # Errors
/// If the table is damaged or not whole, the partition is not there or not the last, or the size is impossible.
pub fn resize_last(disk: &dyn Bytes, table: &Table, number: u32, size: u64) -> Result<Resized, ResizeError> {
    let (primary, backup) = both(table)?;
    let entry = last(primary, number)?;
    let sectors = sectors(number, size, table.sector_size)?;
    let places = Places::new(table.sector_size, backup, entry, sectors).ok_or(ResizeError::TooLarge)?;
    let disk_size = checked_size(Lba(places.header.0.saturating_add(1)).to_bytes(table.sector_size).map(|at| at.0))?;
    let change = Change { disk, sector_size: table.sector_size, number: Some(number), places: &places };
    let mut writes = Vec::new();
    writes.extend(hybrid::resized(disk, table, entry, &places)?);
    let (entries, crc) = change.entries(primary, primary.entries_bytes())?;
    writes.push(change.header(primary, Lba(1), primary.entries_lba, crc)?);
    writes.push((change.bytes(primary.entries_lba)?, entries));
    writes.extend(change.distance(entry, backup)?);
    let (entries, crc) = change.entries(backup, places.behind.saturating_mul(table.sector_size.bytes()))?;
    writes.push((change.bytes(places.entries)?, entries));
    writes.push(change.header(backup, places.header, places.entries, crc)?);
    Ok(Resized { disk_size, writes })
}

/// The table of `disk`, which is `table`, for a disk of `room.size` bytes: the backup comes to its end. The partition
/// `grow`, which must be the last, gets all whole MiB up to `room.end`; if a hybrid MBR cannot express that, it stays
/// as it is.
///
/// # Errors
/// If the table is damaged or not whole, or the disk is too small for the partitions and the backup.
pub fn fit(disk: &dyn Bytes, table: &Table, grow: Option<u32>, room: Room) -> Result<Fit, ResizeError> {
    match fit_with(disk, table, grow, room) {
        Err(ResizeError::Beyond { .. } | ResizeError::Hybrid { .. }) if grow.is_some() => {
            fit_with(disk, table, None, room)
        }
        fitted => fitted,
    }
}

fn fit_with(disk: &dyn Bytes, table: &Table, grow: Option<u32>, room: Room) -> Result<Fit, ResizeError> {
    let (primary, backup) = both(table)?;
    let entry = match grow {
        Some(number) => Some(last(primary, number)?),
        None => primary.partitions.iter().max_by_key(|entry| entry.last),
    };
    let places = Places::at_the_end(table.sector_size, backup, entry, grow.is_some(), room)?;
    let change = Change { disk, sector_size: table.sector_size, number: grow, places: &places };
    let mbr = match entry.filter(|_| grow.is_some()) {
        Some(entry) => hybrid::resized(disk, table, entry, &places)?,
        None => hybrid::moved(disk, table, &places)?,
    };
    let mut writes: Vec<_> = mbr.into_iter().collect();
    let (entries, crc) = change.entries(primary, primary.entries_bytes())?;
    writes.push(change.header(primary, Lba(1), primary.entries_lba, crc)?);
    writes.push((change.bytes(primary.entries_lba)?, entries));
    let (entries, crc) = change.entries(backup, backup.entries_bytes())?;
    writes.push((change.bytes(places.entries)?, entries));
    writes.push(change.header(backup, places.header, places.entries, crc)?);
    let range = |lba: Lba, len: u64| change.bytes(lba).map(|start| start.0..start.0.saturating_add(len));
    let old = [range(backup.entries_lba, backup.entries_bytes())?, range(backup.lba, table.sector_size.bytes())?];
    let end = |lba: Lba| change.bytes(Lba(lba.0.saturating_add(1))).map(|end| end.0);
    let grown = match entry.filter(|entry| grow.is_some() && places.last > entry.last) {
        Some(entry) => Some(Grown { number: entry.number, from: end(entry.last)?, to: end(places.last)? }),
        None => None,
    };
    Ok(Fit { writes, free: old.to_vec(), grown })
}

/// The primary header and the backup, if the table has both and is right.
fn both(table: &Table) -> Result<(&Header, &Header), ResizeError> {
    let primary = table.primary.as_ref().ok_or(ResizeError::Missing("primary"))?;
    let backup = table.backup.as_ref().ok_or(ResizeError::Missing("backup"))?;
    if table.faults.is_empty() && primary.is_whole() && backup.is_whole() {
        Ok((primary, backup))
    } else {
        Err(ResizeError::Damaged(table.faults.clone()))
    }
}

/// The partition `number`, if none ends after it.
fn last(header: &Header, number: u32) -> Result<&TableEntry, ResizeError> {
    let mut partitions = header.partitions.iter();
    let entry = partitions.find(|entry| entry.number == number).ok_or(ResizeError::NoPartition(number))?;
    match header.partitions.iter().find(|other| other.number != number && other.last >= entry.first) {
        Some(other) => Err(ResizeError::NotLast { number, other: other.number }),
        None => Ok(entry),
    }
}

/// Where everything is behind the partition, in its new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// The last sector of the partition.
    last: Lba,
    /// The last sector that a partition may take.
    last_usable: Lba,
    /// The backup's entries.
    entries: Lba,
    /// The sectors from there to the header.
    behind: u64,
    /// The backup header: the last sector of the disk.
    pub(super) header: Lba,
    /// Whether the entries are as far from the partition as they were.
    is_distance_kept: bool,
}

impl Places {
    /// `None` past the end of the address space, and where the table is not right.
    fn new(sector_size: SectorSize, backup: &Header, entry: &TableEntry, sectors: u64) -> Option<Self> {
        let sector = sector_size.bytes();
        let distance = backup.entries_lba.0.checked_sub(entry.last.0.checked_add(1)?)?;
        let behind = Self::behind(sector, backup)?;
        let end = entry.first.0.checked_add(sectors)?;
        let is_distance_kept = distance < MOST_DISTANCE / sector;
        let header = if is_distance_kept {
            end.checked_add(distance)?.checked_add(behind)?
        } else {
            let disk_end = end.checked_add(behind)?.checked_add(1)?.checked_mul(sector)?;
            (align_up(disk_end, MIB)? / sector).checked_sub(1)?
        };
        let entries = header.checked_sub(behind)?;
        let unusable = backup.entries_lba.0.checked_sub(backup.last_usable.0)?;
        let last = end.checked_sub(1)?;
        let last_usable = entries.saturating_sub(unusable).max(last);
        let [last, last_usable, entries, header] = [last, last_usable, entries, header].map(Lba);
        Some(Self { last, last_usable, entries, behind, header, is_distance_kept })
    }

    /// With the backup at the end of a disk, behind the partition that ends last, if there is any.
    fn at_the_end(
        sector_size: SectorSize,
        backup: &Header,
        entry: Option<&TableEntry>,
        grows: bool,
        room: Room,
    ) -> Result<Self, ResizeError> {
        let sector = sector_size.bytes();
        let behind = Self::behind(sector, backup).ok_or(ResizeError::TooLarge)?;
        // The table of a disk without partitions has no last one to keep: sector 2 is one that none takes.
        let old = entry.map_or(Lba(2), |entry| entry.last);
        let needed =
            old.0.checked_add(behind).and_then(|header| header.checked_add(2)).and_then(|n| n.checked_mul(sector));
        let needed = checked_size(needed)?;
        if room.size < needed {
            return Err(ResizeError::TooSmall { needed, size: room.size });
        }
        let header = room.size / sector - 1;
        let entries = header - behind;
        let unusable = backup.entries_lba.0.saturating_sub(backup.last_usable.0).max(1);
        let last_usable = entries.saturating_sub(unusable).max(old.0);
        let end = last_usable.saturating_add(1).saturating_mul(sector).min(room.end);
        let last = if grows { ((end - end % MIB) / sector).saturating_sub(1).max(old.0) } else { old.0 };
        let [last, last_usable, entries, header] = [last, last_usable, entries, header].map(Lba);
        Ok(Self { last, last_usable, entries, behind, header, is_distance_kept: false })
    }

    /// The sectors from the backup's entries to its header: without room that nobody asked for.
    fn behind(sector: u64, backup: &Header) -> Option<u64> {
        let array = backup.entries_bytes().div_ceil(sector);
        let behind = backup.lba.0.checked_sub(backup.entries_lba.0)?;
        let gap = behind.checked_sub(array)?;
        Some(if gap < MOST_GAP / sector { behind } else { array })
    }

    /// The sector after the partition.
    pub(super) fn end(&self) -> u64 {
        self.last.0.saturating_add(1)
    }
}

/// What changes, and where it is read.
struct Change<'a> {
    disk: &'a dyn Bytes,
    sector_size: SectorSize,
    /// The partition that gets another end, if one does.
    number: Option<u32>,
    places: &'a Places,
}

impl Change<'_> {
    fn bytes(&self, lba: Lba) -> Result<ByteOffset, ResizeError> {
        lba.to_bytes(self.sector_size).ok_or(ResizeError::TooLarge)
    }

    /// `len` bytes from where a header has its entries, with the new end of the partition, and the entries' checksum.
    fn entries(&self, header: &Header, len: u64) -> Result<(Vec<u8>, u32), ResizeError> {
        let mut bytes = read(self.disk, self.bytes(header.entries_lba)?, len)?;
        if let Some(number) = self.number {
            let size = usize::try_from(header.entry_size).unwrap_or(usize::MAX);
            let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
            let entry = bytes.chunks_exact_mut(size).nth(index).and_then(|entry| RawEntry::mut_from_prefix(entry).ok());
            let (entry, _) = entry.ok_or(ResizeError::NoPartition(number))?;
            entry.ending_lba = self.places.last.0.into();
        }
        let array = usize::try_from(header.entries_bytes()).ok().and_then(|len| bytes.get(..len));
        let crc = crc32fast::hash(array.ok_or(ResizeError::TooLarge)?);
        Ok((bytes, crc))
    }

    /// The sector of a header, which comes to `at` and whose entries are at `entries` and have the checksum `crc`.
    fn header(&self, header: &Header, at: Lba, entries: Lba, crc: u32) -> Result<(ByteOffset, Vec<u8>), ResizeError> {
        let mut sector = read(self.disk, self.bytes(header.lba)?, self.sector_size.bytes())?;
        let other = if at == self.places.header { Lba(1) } else { self.places.header };
        let (raw, _) = RawHeader::mut_from_prefix(&mut sector).map_err(|_| ResizeError::TooLarge)?;
        raw.my_lba = at.0.into();
        raw.alternate_lba = other.0.into();
        raw.last_usable_lba = self.places.last_usable.0.into();
        raw.partition_entry_lba = entries.0.into();
        raw.partition_entry_array_crc32 = crc.into();
        raw.header_crc32 = 0.into();
        let size = usize::try_from(raw.header_size.get()).unwrap_or(usize::MAX);
        let crc = crc32fast::hash(sector.get(..size).unwrap_or(&sector));
        if let Ok((raw, _)) = RawHeader::mut_from_prefix(&mut sector) {
            raw.header_crc32 = crc.into();
        }
        Ok((self.bytes(at)?, sector))
    }

    /// The bytes between the partition and the backup, if they are kept and are not zeros.
    fn distance(&self, entry: &TableEntry, backup: &Header) -> Result<Option<(ByteOffset, Vec<u8>)>, ResizeError> {
        if !self.places.is_distance_kept {
            return Ok(None);
        }
        let from = self.bytes(Lba(entry.last.0.saturating_add(1)))?;
        let len = self.bytes(backup.entries_lba)?.0.saturating_sub(from.0);
        let bytes = read(self.disk, from, len)?;
        let to = self.bytes(Lba(self.places.end()))?;
        Ok((!is_zero(&bytes)).then_some((to, bytes)))
    }
}
