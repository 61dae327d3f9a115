//! The faults of the MBR before a partition table, and what else it says.

use super::Table;
use super::findings::{Findings, sectors};
use crate::read::{Bytes, ReadError};
use crate::units::{ByteOffset, Lba};

const WHAT: &str = "protective MBR";
/// The type of the entry that stands for the GPT.
pub(in crate::disk) const PROTECTIVE: u8 = 0xee;
/// Where the four entries are, and the bytes of one.
pub(in crate::disk) const ENTRIES: std::ops::Range<usize> = 446..510;
pub(in crate::disk) const ENTRY: usize = 16;

/// An entry in use (UEFI specification 2.10, table 5-1).
struct Entry {
    is_active: bool,
    kind: u8,
    first: Lba,
    sectors: u64,
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
        let (is_active, kind) = (*bytes.first()? == 0x80, *bytes.get(4)?);
        (kind != 0).then_some(Self { is_active, kind, first: Lba(number(8)?), sectors: number(12)? })
    }

    /// The sector after its last.
    fn end(&self) -> u64 {
        self.first.0.saturating_add(self.sectors)
    }
}

/// Checks the one entry of type EE that covers the disk; in a hybrid, the sectors before the others.
pub(super) fn check(table: &Table, disk: &dyn Bytes, found: &mut Findings) -> Result<(), ReadError> {
    let mut sector = [0; 512];
    disk.read_exact_at(ByteOffset(0), &mut sector)?;
    if !sector.ends_with(&[0x55, 0xaa]) {
        found.fault(WHAT, "its signature 55 aa is missing");
        return Ok(());
    }
    let entries = sector.get(ENTRIES).unwrap_or_default().chunks_exact(ENTRY).filter_map(Entry::read);
    let (protective, others): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.kind == PROTECTIVE);
    let Some(protective) = protective.first() else {
        found.fault(WHAT, "has no entry of type EE, so that old tools see an empty disk");
        return Ok(());
    };
    if protective.first != Lba(1) {
        found.fault(WHAT, format!("its entry of type EE starts at LBA {}, not 1", protective.first));
    }
    if !covers_all(protective, table) && !others.iter().any(|other| other.first.0 == protective.end()) {
        found.fault(WHAT, format!("its entry of type EE covers {} sectors, not the disk", protective.sectors));
    }
    others.iter().for_each(|other| note(other, table, found));
    Ok(())
}

fn covers_all(protective: &Entry, table: &Table) -> bool {
    let backup = table.primary.as_ref().map(|header| header.alternate_lba.0);
    let ends = [Some(u64::from(u32::MAX)), sectors(table).checked_sub(1), backup];
    ends.into_iter().flatten().any(|end| end.min(u32::MAX.into()) == protective.sectors)
}

/// Tells what a hybrid says of one of the disk's partitions, or of something that is none.
fn note(entry: &Entry, table: &Table, found: &mut Findings) {
    let partitions = table.header().map(|header| header.partitions.as_slice()).unwrap_or_default();
    let same = partitions
        .iter()
        .find(|partition| partition.first == entry.first && partition.last.0.checked_add(1) == Some(entry.end()));
    let what = same.map_or_else(
        || format!("LBA {} to {}, which is no partition of the table,", entry.first, entry.end().saturating_sub(1)),
        |partition| format!("partition {}", partition.number),
    );
    let active = if entry.is_active { ", active" } else { "" };
    found.note(format!("the MBR is a hybrid: it names {what} as type {:02x}{active}", entry.kind));
}
