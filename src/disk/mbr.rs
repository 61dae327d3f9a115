//! The master boot record before a GPT. It is planned as pure data, then written through the `gpt` crate.
//!
//! Usually it is *protective*: one entry of type EE covers the whole disk, so that old tools do not take the disk for
//! an empty one (UEFI specification 2.10, section 5.2.3). For firmware that knows no GPT it can be *hybrid*: then the
//! entry of type EE covers only the table, and other entries say where some of the partitions are.

use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom, Write};

use ::gpt::mbr::{MBRError, PartRecord, ProtectiveMBR};

use thiserror::Error;

use crate::spec::Activity;
use crate::units::Lba;

/// The bytes for boot code at the start of an MBR: what follows is the disk's signature and the table (UEFI specification
/// 2.10, section 5.2.1).
pub const BOOT_CODE: usize = 440;
/// The entries of an MBR.
const ENTRIES: usize = 4;
/// What marks an active entry.
const ACTIVE: u8 = 0x80;
/// "Beyond what cylinder, head and sector can express": head 254, sector 63, cylinder 1023.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// An MBR that cannot be made as asked.
#[derive(Debug, Error)]
pub enum MbrError {
    /// A partition that a hybrid MBR cannot name.
    #[error("hybridMbr: partition {0:?} ends beyond 2^32 sectors, where an MBR cannot reach; take it out")]
    Beyond(String),
    /// It cannot be written.
    #[error("cannot write the MBR: {0}")]
    Io(#[from] io::Error),
    /// The `gpt` crate refuses: a mistake of this program.
    #[error("the MBR was refused ({0}); this is a bug of sane-image, please report it")]
    Refused(String),
}

/// A partition that a hybrid MBR names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrPartition {
    /// Its number in the GPT.
    pub number: u32,
    /// What it is for: the type byte of MBRs.
    pub kind: u8,
    /// Whether it has the mark of what a BIOS boots.
    pub activity: Activity,
    /// Its first sector.
    pub first: u32,
    /// The number of its sectors.
    pub sectors: u32,
}

impl MbrPartition {
    /// What an MBR says of the partition `name` with the number `number`, from its sector `first` to its sector `last`.
    ///
    /// # Errors
    /// If it ends past what 32 bits of sectors can express.
    pub fn new(
        name: &str,
        number: u32,
        [first, last]: [Lba; 2],
        kind: u8,
        activity: Activity,
    ) -> Result<Self, MbrError> {
        let sectors = last.0.checked_sub(first.0).and_then(|len| len.checked_add(1));
        let fits = |number: u64| u32::try_from(number).ok();
        let found = fits(last.0).and(fits(first.0)).zip(sectors.and_then(fits));
        let (first, sectors) = found.ok_or_else(|| MbrError::Beyond(name.to_owned()))?;
        Ok(Self { number, kind, activity, first, sectors })
    }

    fn record(self) -> PartRecord {
        let [head, sector, track] = CHS_BEYOND;
        PartRecord {
            boot_indicator: if self.activity == Activity::Active { ACTIVE } else { 0 },
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

/// Writes the first 512 bytes of `disk`, whose last sector is `last`: for the GPT, for the partitions `hybrid`, and for a
/// BIOS that runs `boot_code`.
pub(super) fn write<D: Read + Write + Seek + Debug>(
    last: Lba,
    hybrid: &[MbrPartition],
    boot_code: Option<&[u8; BOOT_CODE]>,
    disk: &mut D,
) -> Result<(), MbrError> {
    let mut mbr = ProtectiveMBR::with_lb_size(protected_sectors(last, hybrid));
    if !hybrid.is_empty() {
        // Firmware that knows only MBRs may look only at the first entry; programs that know GPTs look at all.
        let protective = mbr.partition(0).unwrap_or_else(PartRecord::zero);
        let named = hybrid.iter().map(|partition| partition.record());
        let records = named.chain([protective]).chain(std::iter::repeat(PartRecord::zero()));
        for (index, record) in records.take(ENTRIES).enumerate() {
            mbr.set_partition(index, record);
        }
    }
    match mbr.overwrite_lba0(disk) {
        Ok(_) => {}
        Err(MBRError::Io(error)) => return Err(error.into()),
        Err(other) => return Err(MbrError::Refused(other.to_string())),
    }
    if let Some(boot_code) = boot_code {
        disk.seek(SeekFrom::Start(0))?;
        disk.write_all(boot_code)?;
    }
    Ok(())
}

/// The sectors of the entry of type EE, which starts at LBA 1: the whole disk, or as much of it as an entry can
/// express; up to the first of the partitions that have entries of their own.
fn protected_sectors(last: Lba, hybrid: &[MbrPartition]) -> u32 {
    let first = hybrid.iter().map(|partition| partition.first).min();
    first.map_or_else(|| u32::try_from(last.0).unwrap_or(u32::MAX), |first| first.saturating_sub(1))
}
