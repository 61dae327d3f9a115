//! The master boot record in front of a GPT: planned as pure data, then written through the `gpt` crate.
//!
//! Usually *protective*: one entry of type EE stands for the whole disk, so that old tools do not take it for empty
//! (UEFI specification 2.10, section 5.2.3). For firmware that knows no GPT it can be *hybrid*: the entry of type EE
//! covers the table alone, and others say where some of the partitions are.

use std::fmt::Debug;
use std::io::{Read, Seek, Write};

use ::gpt::mbr::{MBRError, PartRecord, ProtectiveMBR};

use super::gpt::{GptError, GptLayout, PartitionPlan};
use crate::units::Lba;

/// The entries of an MBR.
const ENTRIES: usize = 4;
/// What marks an active entry.
const ACTIVE: u8 = 0x80;
/// "Beyond what cylinder, head and sector can tell": head 254, sector 63, cylinder 1023.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// A partition that a hybrid MBR names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrPartition {
    /// Its number in the GPT.
    pub number: u32,
    /// What it is for, as MBRs tell it.
    pub kind: u8,
    /// Whether it has the mark of what a BIOS boots.
    pub active: bool,
    /// Its first sector.
    pub first: u32,
    /// The number of its sectors.
    pub sectors: u32,
}

impl MbrPartition {
    /// What an MBR says of `partition`.
    ///
    /// # Errors
    /// If it reaches past what 32 bits of sectors can tell.
    pub fn new(partition: &PartitionPlan, kind: u8, active: bool) -> Result<Self, GptError> {
        let end = u32::try_from(partition.last.0);
        let (Ok(first), Ok(sectors), Ok(_)) =
            (u32::try_from(partition.first.0), u32::try_from(partition.sectors()), end)
        else {
            return Err(GptError::BeyondMbr(partition.name.clone()));
        };
        Ok(Self { number: partition.number, kind, active, first, sectors })
    }

    fn record(self) -> PartRecord {
        let [head, sector, track] = CHS_BEYOND;
        PartRecord {
            boot_indicator: if self.active { ACTIVE } else { 0 },
            start_head: head,
            start_sector: sector,
            start_track: track,
            os_type: self.kind,
            end_head: head,
            end_sector: sector,
            end_track: track,
            lb_start: self.first,
            lb_size: self.sectors,
        }
    }
}

/// Writes the first 512 bytes of `disk`.
pub(super) fn write<D: Read + Write + Seek + Debug>(layout: &GptLayout, disk: &mut D) -> Result<(), GptError> {
    let mut mbr = ProtectiveMBR::with_lb_size(protected_sectors(layout));
    if !layout.hybrid.is_empty() {
        // Firmware that knows MBRs alone may look at the first entry alone; whoever knows GPTs looks at all.
        let protective = mbr.partition(0).unwrap_or_else(PartRecord::zero);
        let named = layout.hybrid.iter().map(|partition| partition.record());
        let records = named.chain([protective]).chain(std::iter::repeat(PartRecord::zero()));
        for (index, record) in records.take(ENTRIES).enumerate() {
            mbr.set_partition(index, record);
        }
    }
    mbr.overwrite_lba0(disk).map_err(from_mbr)?;
    Ok(())
}

/// The sectors of the entry of type EE, which starts at LBA 1: the whole disk or as much as it can tell of one; up to
/// the first of the partitions that have entries of their own.
fn protected_sectors(layout: &GptLayout) -> u32 {
    let first = layout.hybrid.iter().map(|partition| Lba(partition.first.into())).min();
    let end = first.map_or(layout.backup_header.0 + 1, |first| first.0);
    u32::try_from(end - 1).unwrap_or(u32::MAX)
}

fn from_mbr(error: MBRError) -> GptError {
    match error {
        MBRError::Io(error) => error.into(),
        other => GptError::Refused(other.to_string()),
    }
}
