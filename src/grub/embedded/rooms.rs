//! Which part of the disk a sector belongs to.

use uuid::{Uuid, uuid};

use super::{Code, Run};
use crate::disk::table::{MbrTable, Table};
use crate::units::{ByteOffset, Lba, SectorSize};

/// The type of a BIOS boot partition.
const BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
/// The attribute of a partition in a GPT that legacy firmware starts (UEFI specification, section 5.3.3).
const LEGACY_BOOTABLE: u64 = 1 << 2;

/// A partition, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) number: u32,
    pub(super) first: Lba,
    sectors: u64,
    pub(super) is_bios_boot: bool,
    is_marked: bool,
}

impl Room {
    pub(super) fn holds(&self, run: Run) -> bool {
        let end = |first: Lba, sectors: u64| first.0.saturating_add(sectors);
        run.first >= self.first && end(run.first, run.sectors) <= end(self.first, self.sectors)
    }
}

/// All that is known of the disk's places.
#[derive(Clone, Copy)]
pub(super) struct Rooms<'a> {
    /// The disk's bytes.
    pub(super) disk: u64,
    pub(super) table: Option<&'a Table>,
    pub(super) mbr: Option<&'a MbrTable>,
}

impl Rooms<'_> {
    fn all(&self) -> Vec<Room> {
        let entries = self.table.map(Table::partitions).unwrap_or_default().iter().map(|entry| Room {
            number: entry.number,
            first: entry.first,
            sectors: entry.last.0.saturating_sub(entry.first.0).saturating_add(1),
            is_bios_boot: entry.type_guid == BIOS_BOOT,
            is_marked: entry.attributes & LEGACY_BOOTABLE != 0,
        });
        let records = self.mbr.map(|mbr| mbr.partitions.as_slice()).unwrap_or_default().iter().map(|entry| Room {
            number: entry.number,
            first: entry.first,
            sectors: entry.sectors,
            is_bios_boot: false,
            is_marked: entry.is_active,
        });
        entries.chain(records).collect()
    }

    /// The partition in which `run` starts; one for BIOS first.
    pub(super) fn of(&self, run: Run) -> Option<Room> {
        let start = Run { sectors: 1, ..run };
        self.all().into_iter().filter(|room| room.holds(start)).max_by_key(|room| room.is_bios_boot)
    }

    /// The partitions that `code` may start. None are told where it would look in a table that was not read.
    pub(super) fn marked(&self, code: Code) -> Vec<Room> {
        let looks_here = (code == Code::SyslinuxGpt) == self.table.is_some();
        self.all().into_iter().filter(|room| looks_here && room.is_marked).collect()
    }

    /// Whether some of it is what a GPT is made of, or sector 0.
    pub(super) fn is_table(&self, run: Run) -> bool {
        let bytes = |lba: Lba| lba.to_bytes(SectorSize::B512).unwrap_or(ByteOffset(u64::MAX)).0;
        let headers = self.table.into_iter().flat_map(|table| [&table.primary, &table.backup]).flatten();
        let parts = headers.filter(|header| header.is_intact).flat_map(|header| {
            let entries = bytes(header.entries_lba);
            let header = bytes(header.lba);
            [(header, header.saturating_add(512)), (entries, entries.saturating_add(self.entries_bytes()))]
        });
        let (start, end) = (bytes(run.first), bytes(Lba(run.first.0.saturating_add(run.sectors))));
        std::iter::once((0, 512)).chain(parts).any(|(from, to)| start < to && from < end)
    }

    fn entries_bytes(&self) -> u64 {
        self.table.and_then(Table::header).map_or(0, crate::disk::table::Header::entries_bytes)
    }
}
