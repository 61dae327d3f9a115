//! The partition table as it is on a disk, damaged or not: both headers, both arrays of entries, and the differences
//! between them.
//!
//! Source: UEFI specification, chapter "GUID Partition Table Disk Layout". The `gpt` crate refuses a damaged table as a
//! whole, and believes the sizes in it. Here the damage must be shown, so we read the structures ourselves. The tests
//! read the same disks both ways.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::read::{Bytes, Fault, ReadError, escape};
use crate::units::{ByteOffset, Lba, SectorSize};

mod check;
pub(super) mod dos;
mod findings;
pub(super) mod mbr;
#[cfg(test)]
mod tests;

pub use dos::{MbrEntry, MbrTable};

/// The most bytes of one array of entries that are read: no tool makes more than a few thousand entries.
const MAX_ENTRIES_BYTES: u64 = 1 << 20;
/// The bytes of the header's fields.
const HEADER_SIZE: usize = 92;
const SIGNATURE: [u8; 8] = *b"EFI PART";

/// The header: one sector, of which this is the start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) signature: [u8; 8],
    pub(super) revision: U32,
    pub(super) header_size: U32,
    pub(super) header_crc32: U32,
    pub(super) reserved: U32,
    pub(super) my_lba: U64,
    pub(super) alternate_lba: U64,
    pub(super) first_usable_lba: U64,
    pub(super) last_usable_lba: U64,
    pub(super) disk_guid: [u8; 16],
    pub(super) partition_entry_lba: U64,
    pub(super) number_of_partition_entries: U32,
    pub(super) size_of_partition_entry: U32,
    pub(super) partition_entry_array_crc32: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_SIZE);

/// An entry: as many bytes as the header says, of which this is the start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) partition_type_guid: [u8; 16],
    pub(super) unique_partition_guid: [u8; 16],
    pub(super) starting_lba: U64,
    pub(super) ending_lba: U64,
    pub(super) attributes: U64,
    pub(super) partition_name: [U16; 36],
}

const _: () = assert!(size_of::<RawEntry>() == 128);

/// A disk's partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The unit of every [`Lba`] here, found by where the headers are.
    pub sector_size: SectorSize,
    /// The size of the disk in bytes.
    pub disk_size: u64,
    /// The header in sector 1.
    pub primary: Option<Header>,
    /// The header at the end.
    pub backup: Option<Header>,
    /// What breaks the specification, or differs between the two.
    pub faults: Vec<Fault>,
    /// What is right but unusual, each a sentence.
    pub notes: Vec<String>,
}

/// One of the two headers, with its entries. Nothing of it need be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where it is.
    pub lba: Lba,
    /// Where it says that it is.
    pub my_lba: Lba,
    /// Where it says that the other one is.
    pub alternate_lba: Lba,
    /// The disk's identity.
    pub disk_guid: Uuid,
    /// The first sector that a partition may take.
    pub first_usable: Lba,
    /// The last sector that a partition may take.
    pub last_usable: Lba,
    /// Where the entries start.
    pub entries_lba: Lba,
    /// How many entries there are, used or not.
    pub entries: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// Whether its own checksum is right.
    pub is_intact: bool,
    /// Whether its entries can be read and their checksum is right.
    pub entries_are_intact: bool,
    /// The entries in use, by number.
    pub partitions: Vec<TableEntry>,
    /// Of the entries, as the header has it.
    entries_crc32: u32,
    /// What is wrong with this header and these entries by themselves.
    faults: Vec<Fault>,
}

/// A partition as an entry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Its number, from 1.
    pub number: u32,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its identity.
    pub guid: Uuid,
    /// Its first sector.
    pub first: Lba,
    /// Its last sector: the partition includes it.
    pub last: Lba,
    /// The attribute bits.
    pub attributes: u64,
    /// Its name, made UTF-8. Not for people yet: it may hold anything.
    pub name: String,
}

impl TableEntry {
    /// Its first byte and its size in bytes; no bytes where its end comes before its start.
    pub fn extent(&self, sector_size: SectorSize) -> (ByteOffset, u64) {
        let start = self.first.to_bytes(sector_size).unwrap_or(ByteOffset(u64::MAX));
        let sectors = self.last.0.checked_sub(self.first.0).and_then(|n| n.checked_add(1)).unwrap_or(0);
        (start, sectors.saturating_mul(sector_size.bytes()))
    }
}

impl Header {
    /// Whether both checksums are right.
    pub fn is_whole(&self) -> bool {
        self.is_intact && self.entries_are_intact
    }

    /// The bytes of its array of entries.
    pub fn entries_bytes(&self) -> u64 {
        u64::from(self.entries).saturating_mul(u64::from(self.entry_size))
    }
}

impl Table {
    /// The partition table of a disk, or `None` if nothing looks like one.
    ///
    /// # Errors
    /// If the disk cannot be read; never for what is on it.
    pub fn read(disk: &dyn Bytes) -> Result<Option<Self>, ReadError> {
        let mut candidates = Vec::new();
        for sector_size in [SectorSize::B512, SectorSize::B4096] {
            candidates.extend(Self::read_with(disk, sector_size)?);
        }
        // Where a disk was partitioned in both ways, the first that is right counts.
        candidates.sort_by_key(|table| std::cmp::Reverse(table.rank()));
        let Some(mut table) = candidates.into_iter().next() else { return Ok(None) };
        check::check(&mut table, disk)?;
        Ok(Some(table))
    }

    /// The header that counts: the primary one unless only the other is right.
    pub fn header(&self) -> Option<&Header> {
        let both = [&self.primary, &self.backup];
        let headers = both.into_iter().flatten();
        headers.clone().find(|header| header.is_whole()).or_else(|| headers.max_by_key(|header| header.is_intact))
    }

    /// The partitions of the header that counts.
    pub fn partitions(&self) -> &[TableEntry] {
        self.header().map_or(&[], |header| &header.partitions)
    }

    /// Whether one of the headers is right, so that this is a partition table beyond doubt.
    pub fn is_certain(&self) -> bool {
        self.header().is_some_and(|header| header.is_intact)
    }

    fn rank(&self) -> (bool, bool, usize) {
        let count = usize::from(self.primary.is_some()) + usize::from(self.backup.is_some());
        (self.header().is_some_and(Header::is_whole), self.is_certain(), count)
    }

    fn read_with(disk: &dyn Bytes, sector_size: SectorSize) -> Result<Option<Self>, ReadError> {
        let sectors = disk.len() / sector_size.bytes();
        if sectors < 3 {
            return Ok(None);
        }
        let primary = Header::read(disk, sector_size, Lba(1))?;
        let last = Lba(sectors.saturating_sub(1));
        // The primary header knows where the backup is, which a disk larger than its image needs.
        let told = primary.as_ref().filter(|header| header.is_intact).map(|header| header.alternate_lba);
        let mut backup = match told.filter(|&told| told != last && told.0 > 1 && told.0 < sectors) {
            Some(told) => Header::read(disk, sector_size, told)?,
            None => None,
        };
        if backup.is_none() {
            backup = Header::read(disk, sector_size, last)?;
        }
        if primary.is_none() && backup.is_none() {
            return Ok(None);
        }
        let (faults, notes) = (Vec::new(), Vec::new());
        Ok(Some(Self { sector_size, disk_size: disk.len(), primary, backup, faults, notes }))
    }
}

impl Header {
    /// The header in a sector, or `None` if there is none.
    fn read(disk: &dyn Bytes, sector_size: SectorSize, lba: Lba) -> Result<Option<Self>, ReadError> {
        let mut sector = vec![0; usize::try_from(sector_size.bytes()).unwrap_or_default()];
        let Some(at) = lba.to_bytes(sector_size) else { return Ok(None) };
        disk.read_exact_at(at, &mut sector)?;
        let Ok((raw, _)) = RawHeader::read_from_prefix(&sector) else { return Ok(None) };
        if raw.signature != SIGNATURE {
            return Ok(None);
        }
        let mut header = Self::parse(&raw, lba);
        header.check_sector(&raw, &sector);
        header.read_entries(disk, sector_size)?;
        Ok(Some(header))
    }

    fn parse(raw: &RawHeader, lba: Lba) -> Self {
        Self {
            lba,
            my_lba: Lba(raw.my_lba.get()),
            alternate_lba: Lba(raw.alternate_lba.get()),
            disk_guid: Uuid::from_bytes_le(raw.disk_guid),
            first_usable: Lba(raw.first_usable_lba.get()),
            last_usable: Lba(raw.last_usable_lba.get()),
            entries_lba: Lba(raw.partition_entry_lba.get()),
            entries: raw.number_of_partition_entries.get(),
            entry_size: raw.size_of_partition_entry.get(),
            entries_crc32: raw.partition_entry_array_crc32.get(),
            is_intact: false,
            entries_are_intact: false,
            partitions: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// "GPT header at LBA 1".
    fn name(&self) -> String {
        format!("GPT header at LBA {}", self.lba)
    }

    fn fault(&mut self, why: impl Into<String>) {
        let what = self.name();
        self.faults.push(Fault { what, why: why.into() });
    }

    /// The header's own checksum, and what lies around it.
    fn check_sector(&mut self, raw: &RawHeader, sector: &[u8]) {
        let size = usize::try_from(raw.header_size.get()).unwrap_or(usize::MAX);
        let covered = sector.get(..size).filter(|_| size >= HEADER_SIZE);
        let Some(covered) = covered else {
            return self.fault(format!("says that it has {size} bytes"));
        };
        let zeroed = RawHeader { header_crc32: 0.into(), ..*raw };
        let mut crc = crc32fast::Hasher::new();
        crc.update(zeroed.as_bytes());
        crc.update(covered.get(HEADER_SIZE..).unwrap_or_default());
        let (found, wanted) = (raw.header_crc32.get(), crc.finalize());
        self.is_intact = found == wanted;
        if !self.is_intact {
            self.fault(format!("checksum {found:08x}, but its bytes give {wanted:08x}"));
        }
        if raw.revision.get() != 0x10000 {
            self.fault(format!("revision {:#x} is not 0x10000", raw.revision.get()));
        }
        let rest = sector.get(size..).unwrap_or_default();
        if raw.reserved.get() != 0 || rest.iter().any(|&byte| byte != 0) {
            self.fault("reserved bytes are not zero");
        }
        if self.my_lba != self.lba {
            self.fault(format!("says that it is at LBA {}", self.my_lba));
        }
    }

    fn read_entries(&mut self, disk: &dyn Bytes, sector_size: SectorSize) -> Result<(), ReadError> {
        let is_sane = self.entry_size >= 128 && self.entry_size.is_multiple_of(8);
        let len = self.entries_bytes();
        let start = self.entries_lba.to_bytes(sector_size).filter(|_| is_sane && len <= MAX_ENTRIES_BYTES);
        let range = start.and_then(|start| Some((start, start.checked_add(len)?)));
        let Some((start, _)) = range.filter(|(_, end)| end.0 <= disk.len()) else {
            let (entries, size, at) = (self.entries, self.entry_size, self.entries_lba);
            self.fault(format!("{entries} entries of {size} bytes at LBA {at} are impossible"));
            return Ok(());
        };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        disk.read_exact_at(start, &mut bytes)?;
        let (found, wanted) = (self.entries_crc32, crc32fast::hash(&bytes));
        self.entries_are_intact = found == wanted;
        if !self.entries_are_intact {
            let what = format!("GPT entries at LBA {}", self.entries_lba);
            let why = format!("checksum {found:08x}, but their bytes give {wanted:08x}");
            self.faults.push(Fault { what, why });
        }
        let entries = bytes.chunks_exact(usize::try_from(self.entry_size).unwrap_or(usize::MAX));
        self.partitions = entries.zip(1..).filter_map(|(entry, number)| TableEntry::parse(entry, number)).collect();
        Ok(())
    }
}

impl TableEntry {
    /// The entry, or `None` if it is not in use.
    fn parse(bytes: &[u8], number: u32) -> Option<Self> {
        let (raw, _) = RawEntry::read_from_prefix(bytes).ok()?;
        let units = raw.partition_name.iter().map(|unit| unit.get()).take_while(|&unit| unit != 0);
        let name = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        let entry = Self {
            number,
            type_guid: Uuid::from_bytes_le(raw.partition_type_guid),
            guid: Uuid::from_bytes_le(raw.unique_partition_guid),
            first: Lba(raw.starting_lba.get()),
            last: Lba(raw.ending_lba.get()),
            attributes: raw.attributes.get(),
            name,
        };
        (!entry.type_guid.is_nil()).then_some(entry)
    }

    /// For messages: `partition 2 ("Linux filesystem")`.
    pub fn describe(&self) -> String {
        match self.name.as_str() {
            "" => format!("partition {}", self.number),
            name => format!("partition {} (\"{}\")", self.number, escape::text(name)),
        }
    }
}
