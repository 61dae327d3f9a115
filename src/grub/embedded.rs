//! What a BIOS starts from a disk: whose boot code sector 0 has, which sectors that loads, and what is wrong with them.
//!
//! Nothing of the disk is trusted. What cannot be told of code is not made up: only GRUB's and Limine's name the sectors
//! that they load in fields of their own, syslinux's starts what the partition table marks.

use zerocopy::FromBytes;

use super::format::*;
use crate::disk::table::{MbrTable, Table};
use crate::read::{Bytes, Fault, ReadError};
use crate::units::{ByteOffset, Lba, SectorSize};

mod code;
mod compare;
mod rooms;
#[cfg(test)]
mod tests;

pub use code::Code;
use code::Next;
pub use compare::differs_from_boot;
use rooms::{Room, Rooms};

/// What a fault is one of.
const WHAT: &str = "boot code";
/// The most runs that fit before the first.
const RUNS_MAX: usize = 24;

/// What a BIOS starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Whose code it is.
    pub code: Code,
    /// What that loads, where it tells.
    pub stage: Option<Stage>,
    /// What keeps it from starting.
    pub faults: Vec<Fault>,
    /// What is right but unusual, each a sentence.
    pub notes: Vec<String>,
}

/// What boot code loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its first sector, of 512 bytes.
    pub first: Lba,
    /// The number of the partition that this is in.
    pub partition: Option<u32>,
    /// All of it, in order.
    pub runs: Vec<Run>,
    /// Bytes of redundancy at its end.
    pub redundancy: u64,
}

impl Stage {
    /// Its size on the disk in bytes.
    pub fn size(&self) -> u64 {
        self.runs.iter().map(|run| run.sectors).fold(0_u64, u64::saturating_add).saturating_mul(SECTOR as u64)
    }
}

/// Sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: Lba,
    /// How many.
    pub sectors: u64,
}

impl Run {
    /// Where they are in bytes, if numbers reach that far.
    fn bytes(self) -> Option<(ByteOffset, u64)> {
        Some((self.first.to_bytes(SectorSize::B512)?, self.sectors.checked_mul(SECTOR as u64)?))
    }
}

/// What a BIOS starts from `disk`, with the partition table that was found on it.
///
/// # Errors
/// If sector 0 cannot be read.
pub fn look(disk: &dyn Bytes, table: Option<&Table>, mbr: Option<&MbrTable>) -> Result<Embedded, ReadError> {
    let mut sector = [0; SECTOR];
    if disk.len() >= SECTOR as u64 {
        disk.read_exact_at(ByteOffset(0), &mut sector)?;
    }
    let (code, next) = code::recognise(&sector);
    let mut found = Embedded { code, stage: None, faults: Vec::new(), notes: Vec::new() };
    let size = table.map(|table| table.sector_size).or(mbr.map(|mbr| mbr.sector_size)).unwrap_or_default();
    if size != SectorSize::B512 {
        if code != Code::None {
            found.notes.push(format!("boot code of {}: no BIOS starts a disk with sectors of 4096 bytes", code.name()));
        }
        return Ok(found);
    }
    let rooms = Rooms { disk: disk.len(), table, mbr };
    match next {
        Next::Untold => {}
        Next::Grub(first) => grub(disk, first, &rooms, &mut found),
        Next::Limine(runs) => limine(runs, &rooms, &mut found),
        Next::Marked => marked(&rooms, &mut found),
    }
    Ok(found)
}

impl Embedded {
    fn fault(&mut self, why: impl Into<String>) {
        self.faults.push(Fault { what: WHAT.to_owned(), why: why.into() });
    }
}

/// Follows GRUB's boot.img.
fn grub(disk: &dyn Bytes, first: Lba, rooms: &Rooms<'_>, found: &mut Embedded) {
    let start = Run { first, sectors: 1 };
    let head = start.bytes().and_then(|(at, _)| {
        let mut head = [0; SIZES + size_of::<RawSizes>()];
        disk.read_exact_at(at, &mut head).ok()?;
        Some(head)
    });
    let Some(head) = head else {
        return found.fault(format!("GRUB's boot.img loads sector {first}, which is past the end of the disk"));
    };
    let sector = head.get(..SECTOR).unwrap_or_default();
    if !sector.windows(DISKBOOT_TEXT.len()).any(|window| window == DISKBOOT_TEXT) {
        return found.fault(format!("GRUB's boot.img loads sector {first}, where no core image of GRUB is"));
    }
    let room = rooms.of(start);
    let (listed, wrong) = block_list(sector);
    if let Some(wrong) = wrong {
        found.fault(format!("the block list of GRUB's core image in sector {first} {wrong}"));
    }
    for run in &listed {
        check_place(*run, room, rooms, found);
    }
    match room {
        Some(Room { is_bios_boot: true, .. }) => {}
        Some(Room { number, .. }) => found.notes.push(format!(
            "GRUB's core image is in partition {number}, which is no BIOS boot partition: if its file moves, nothing boots"
        )),
        None if table_has_gpt(rooms) => {
            found.notes.push(format!("GRUB's core image, from sector {first} on, is in no partition"));
        }
        None => {}
    }
    let runs = std::iter::once(start).chain(listed).collect();
    let sizes = head.get(SIZES..).and_then(|sizes| RawSizes::read_from_bytes(sizes).ok());
    let number = |of: fn(&RawSizes) -> u32| u64::from(sizes.as_ref().map_or(0, of));
    let redundancy = number(|sizes| sizes.redundancy.get());
    let stage = Stage { first, partition: room.map(|room| room.number), runs, redundancy };
    let least = number(|sizes| sizes.compressed.get()).saturating_add(redundancy).saturating_add(SIZES as u64);
    if stage.size() < least {
        found.fault(format!(
            "the block list of GRUB's core image has {} bytes, the image at least {least}",
            stage.size()
        ));
    }
    found.stage = Some(stage);
}

fn table_has_gpt(rooms: &Rooms<'_>) -> bool {
    rooms.table.is_some()
}

/// The runs that a core image's first sector has loaded, and what is wrong with them.
fn block_list(sector: &[u8]) -> (Vec<Run>, Option<String>) {
    let (mut runs, mut segment) = (Vec::new(), u64::from(FIRST_SEGMENT));
    for index in 0..RUNS_MAX {
        let at = FIRST_RUN.saturating_sub(index.saturating_mul(size_of::<RawRun>()));
        let raw = sector.get(at..).and_then(|rest| RawRun::read_from_prefix(rest).ok());
        let Some((raw, _)) = raw.filter(|(raw, _)| raw.len.get() != 0) else {
            let empty = runs.is_empty().then(|| "is empty".to_owned());
            return (runs, empty);
        };
        let sectors = u64::from(raw.len.get());
        if u64::from(raw.segment.get()) != segment {
            return (runs, Some(format!("loads {sectors} sectors to segment {:x}, not {segment:x}", raw.segment)));
        }
        // 512 bytes are 32 segments.
        segment = segment.saturating_add(sectors.saturating_mul(SECTOR as u64 / 16));
        runs.push(Run { first: Lba(raw.start.get()), sectors });
    }
    (runs, Some("has no end".to_owned()))
}

/// What is wrong with the place of a run whose boot code starts in `room`.
fn check_place(run: Run, room: Option<Room>, rooms: &Rooms<'_>, found: &mut Embedded) {
    let Run { first, sectors } = run;
    let name = found.code.name();
    if run.bytes().and_then(|(at, len)| at.checked_add(len)).is_none_or(|end| end.0 > rooms.disk) {
        found.fault(format!("{name} loads {sectors} sectors from sector {first} on, past the end of the disk"));
    } else if rooms.is_table(run) {
        found.fault(format!("{name} loads {sectors} sectors from sector {first} on, where the partition table is"));
    } else if let Some(room) = room
        && !room.holds(run)
    {
        let number = room.number;
        found.fault(format!(
            "{name} loads {sectors} sectors from sector {first} on, not all of them in partition {number}"
        ));
    }
}

/// What Limine's boot sector loads.
fn limine(runs: Vec<Run>, rooms: &Rooms<'_>, found: &mut Embedded) {
    let Some(start) = runs.first().copied() else {
        return found.fault("Limine's boot sector names no sectors to load");
    };
    let room = rooms.of(start);
    for run in &runs {
        check_place(*run, room, rooms, found);
    }
    let partition = room.map(|room| room.number);
    found.stage = Some(Stage { first: start.first, partition, runs, redundancy: 0 });
}

/// What syslinux's boot sectors start: the partition that is marked, from its first sector.
fn marked(rooms: &Rooms<'_>, found: &mut Embedded) {
    let name = found.code.name();
    match rooms.marked(found.code).as_slice() {
        [] => found.fault(format!("{name} starts the partition that is marked for it, but none is")),
        [room] => {
            let runs = vec![Run { first: room.first, sectors: 1 }];
            found.stage = Some(Stage { first: room.first, partition: Some(room.number), runs, redundancy: 0 });
        }
        rooms => {
            let numbers: Vec<_> = rooms.iter().map(|room| room.number.to_string()).collect();
            found.fault(format!("{name} starts the only partition that is marked, but {} are", numbers.join(" and ")));
        }
    }
}
