//! The bytes of a disk that a boot loader's installer may write, and those that it may not. Pure.
//!
//! The areas of a [`GptLayout`] cover the disk without a gap. The areas that nothing uses are for firmware; all others
//! are protected.

use std::fmt;
use std::ops::Range;

use super::gpt::GptLayout;
use crate::units::{Lba, align_up};

/// Where the table of an MBR starts: 64 bytes of entries, then two of signature (UEFI specification 2.10, section 5.2.1).
const MBR_TABLE: u64 = 446;
/// The bytes of an MBR, whatever the sector size.
const MBR: u64 = 512;
/// Written bytes that lie closer together than this are one write, in bytes: zeros between them may be written too.
const ONE_WRITE: u64 = 4096;
/// Remedies are multiples of this, in bytes.
const KIB: u64 = 1024;

/// What an area of the disk is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing that we know of: boot code, padding, gaps.
    Free,
    /// What a BIOS runs.
    BootCode,
    /// The table of the MBR and its signature.
    MbrTable,
    /// The header of the GPT.
    Header,
    /// The entries of the GPT.
    Entries,
    /// A partition.
    Partition {
        /// Its number, from 1.
        number: u32,
        /// Its name.
        name: String,
    },
    /// The second copy of the GPT, header and entries.
    BackupTable,
}

impl Purpose {
    /// Whether this is one of the partition tables' own parts: small, and known to the byte.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::BootCode | Self::MbrTable | Self::Header | Self::Entries | Self::BackupTable)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nothing is"),
            Self::BootCode => f.write_str("the boot code of the MBR is"),
            Self::MbrTable => f.write_str("the partition table of the MBR is"),
            Self::Header => f.write_str("the header of the partition table is"),
            Self::Entries => f.write_str("the entries of the partition table are"),
            Self::Partition { number, name } => write!(f, "partition {number} ({name:?}) is"),
            Self::BackupTable => f.write_str("the backup partition table is"),
        }
    }
}

/// A part of the disk with one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// What it is for.
    pub purpose: Purpose,
    /// In bytes from the start of the disk; never empty.
    pub bytes: Range<u64>,
}

/// The areas of a disk, in order and without a hole.
pub fn areas(layout: &GptLayout) -> Vec<Area> {
    let bytes = |lba: Lba| lba.0 * layout.sector_size.bytes();
    let mut used = vec![
        (Purpose::BootCode, 0..layout.boot_code.map_or(0, |code| code.len() as u64)),
        (Purpose::MbrTable, MBR_TABLE..MBR),
        (Purpose::Header, bytes(Lba(1))..bytes(Lba(2))),
        (Purpose::Entries, bytes(layout.entries_lba)..bytes(layout.first_usable)),
    ];
    used.extend(layout.partitions.iter().map(|partition| {
        let purpose = Purpose::Partition { number: partition.number, name: partition.name.clone() };
        (purpose, bytes(partition.first)..bytes(partition.first) + bytes(Lba(partition.sectors())))
    }));
    used.push((Purpose::BackupTable, bytes(layout.backup_entries)..layout.disk_size));
    let mut areas = Vec::new();
    let mut at = 0;
    for (purpose, bytes) in used {
        let end = bytes.end;
        areas.push(Area { purpose: Purpose::Free, bytes: at..bytes.start });
        areas.push(Area { purpose, bytes });
        at = end;
    }
    areas.retain(|area| !area.bytes.is_empty());
    areas
}

/// The byte at which the first partition starts, or at which the disk ends.
pub fn first_partition(layout: &GptLayout) -> u64 {
    layout.partitions.first().map_or(layout.disk_size, |first| first.first.0 * layout.sector_size.bytes())
}

/// A write that hit what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrote bytes {} to {} of the image, where {} ({} to {}); {remedy}",
    written.start, written.end - 1, area.purpose, area.bytes.start, area.bytes.end - 1)]
pub struct Hit {
    /// All that was written there at once, also outside of the area.
    pub written: Range<u64>,
    /// The first protected area that it hit.
    pub area: Area,
    /// What to do about it.
    pub remedy: String,
}

/// The first write that hit a protected area.
///
/// `touched` are the bytes that were written, in order and disjoint.
pub fn first_hit(layout: &GptLayout, touched: &[Range<u64>]) -> Option<Hit> {
    let areas = areas(layout);
    let protects = |area: &&Area, piece: &Range<u64>| {
        area.purpose != Purpose::Free && piece.start < area.bytes.end && area.bytes.start < piece.end
    };
    let hit = |piece: &Range<u64>| areas.iter().find(|area| protects(area, piece));
    let (index, area) = touched.iter().enumerate().find_map(|(index, piece)| Some((index, hit(piece)?)))?;
    let written = one_write(touched, index);
    let remedy = remedy(layout, area, &written);
    Some(Hit { written, area: area.clone(), remedy })
}

/// The write that a piece belongs to.
fn one_write(touched: &[Range<u64>], index: usize) -> Range<u64> {
    let Range { mut start, mut end } = touched[index].clone();
    let (before, after) = touched.split_at(index);
    let is_near = |left: u64, right: u64| right.saturating_sub(left) < ONE_WRITE;
    for piece in before.iter().rev() {
        start = if is_near(piece.end, start) { piece.start } else { break };
    }
    for piece in &after[1..] {
        end = if is_near(end, piece.start) { piece.end } else { break };
    }
    start..end
}

fn remedy(layout: &GptLayout, area: &Area, written: &Range<u64>) -> String {
    let sector = layout.sector_size.bytes();
    let first = first_partition(layout);
    let files = if written.start < area.bytes.start { "" } else { "; files on the ESP come from extraBootFiles" };
    match &area.purpose {
        Purpose::BootCode => "boot.loader.grub has its own there; leave one out".to_owned(),
        Purpose::MbrTable => "boot code ends before it: with dd, pass bs=440 count=1".to_owned(),
        Purpose::Header => "a GPT has its header there always, so have the board read from elsewhere".to_owned(),
        Purpose::Entries => {
            let padding = align_up(written.end, sector.max(KIB)).map_or(0, |end| end - 2 * sector);
            format!(
                "set extraGPTPadding to at least {padding}, so that they start behind it \
                 (firstPartGap, which counts from their end, may then be null)"
            )
        }
        Purpose::Partition { .. } if area.bytes.start == first => {
            let usable = layout.first_usable.0 * sector;
            let gap = align_up(written.end.saturating_sub(usable), KIB).unwrap_or_default();
            format!("set firstPartGap to at least {gap}, so that it starts behind them{files}")
        }
        Purpose::Partition { .. } => {
            format!("only what is before the first partition, at {first}, is free (firstPartGap moves it){files}")
        }
        Purpose::BackupTable => {
            format!("the image always ends with it, so write before the first partition, at {first}")
        }
        Purpose::Free => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::disk::gpt::PartitionRequest;
    use crate::units::{MIB, SectorSize};

    fn layout(sector_size: SectorSize, padding: u64, gap: u64) -> GptLayout {
        let request = |number: u128, name: &str| PartitionRequest {
            name: name.to_owned(),
            type_guid: Uuid::from_u128(1),
            guid: Uuid::from_u128(number),
            size: 3 * MIB,
            attributes: 0,
        };
        let parts = [request(2, "EFI System"), request(3, "nix")];
        GptLayout::new(sector_size, padding, gap, Uuid::from_u128(9), &parts).unwrap()
    }

    fn text(layout: &GptLayout) -> Vec<String> {
        let line = |area: &Area| format!("{} {}..{}", area.purpose, area.bytes.start, area.bytes.end);
        areas(layout).iter().map(line).collect()
    }

    #[test]
    fn areas_of_a_plain_disk() {
        let wanted = [
            "nothing is 0..446",
            "the partition table of the MBR is 446..512",
            "the header of the partition table is 512..1024",
            "the entries of the partition table are 1024..17408",
            "nothing is 17408..1048576",
            "partition 1 (\"EFI System\") is 1048576..4194304",
            "partition 2 (\"nix\") is 4194304..7340032",
            "nothing is 7340032..8371712",
            "the backup partition table is 8371712..8388608",
        ];
        assert_eq!(text(&layout(SectorSize::B512, 0, 0)), wanted);
    }

    #[test]
    fn large_sectors_leave_most_of_the_first_free() {
        let wanted = [
            "nothing is 0..446",
            "the partition table of the MBR is 446..512",
            "nothing is 512..4096",
            "the header of the partition table is 4096..8192",
            "nothing is 8192..12288",
            "the entries of the partition table are 12288..28672",
        ];
        assert_eq!(text(&layout(SectorSize::B4096, 4096, 0))[..6], wanted);
    }

    #[track_caller]
    fn assert_hit(layout: &GptLayout, touched: &[Range<u64>], message: &str) {
        assert_eq!(first_hit(layout, touched).map(|hit| hit.to_string()).as_deref(), Some(message));
    }

    #[test]
    fn hits_are_named_with_their_remedy() {
        let disk = layout(SectorSize::B512, 0, 0);
        assert_hit(
            &disk,
            &[8192..17_408, 17_408..40_960],
            "wrote bytes 8192 to 40959 of the image, where the entries of the partition table are (1024 to 17407); \
             set extraGPTPadding to at least 39936, so that they start behind it \
             (firstPartGap, which counts from their end, may then be null)",
        );
        assert_hit(
            &disk,
            &[0..446, 446..510, 20_000..20_001],
            "wrote bytes 0 to 509 of the image, where the partition table of the MBR is (446 to 511); \
             boot code ends before it: with dd, pass bs=440 count=1",
        );
        assert_hit(
            &disk,
            &[MIB - 10..MIB, MIB..MIB + 11],
            "wrote bytes 1048566 to 1048586 of the image, where partition 1 (\"EFI System\") is (1048576 to 4194303); \
             set firstPartGap to at least 1032192, so that it starts behind them",
        );
        assert_hit(
            &disk,
            &[7 * MIB - 1..7 * MIB],
            "wrote bytes 7340031 to 7340031 of the image, where partition 2 (\"nix\") is (4194304 to 7340031); \
             only what is before the first partition, at 1048576, is free (firstPartGap moves it); \
             files on the ESP come from extraBootFiles",
        );
        for (at, words) in [(512, "have the board read"), (8 * MIB - 1, "backup partition table")] {
            let hit = first_hit(&disk, &[at..at + 1]).unwrap().to_string();
            assert!(hit.contains(words), "{hit}");
        }
    }

    #[test]
    fn what_is_free_may_be_written() {
        let disk = layout(SectorSize::B4096, 4096, MIB);
        let free = areas(&disk).into_iter().filter(|area| area.purpose == Purpose::Free);
        let touched: Vec<_> = free.map(|area| area.bytes).collect();
        assert!(touched.len() > 3);
        assert_eq!(first_hit(&disk, &touched), None);
        assert_eq!(first_hit(&disk, &[]), None);
    }

    /// The number after the words "at least".
    fn least(hit: &Hit) -> u64 {
        let (_, rest) = hit.remedy.split_once("at least ").unwrap();
        rest.split_once(',').unwrap().0.parse().unwrap()
    }

    proptest! {
        #[test]
        fn areas_cover_the_disk(large in any::<bool>(), padding in 0..64u64, gap in 0..4 * MIB) {
            let sector_size = if large { SectorSize::B4096 } else { SectorSize::B512 };
            let disk = layout(sector_size, padding * sector_size.bytes(), gap);
            let mut at = 0;
            for area in areas(&disk) {
                prop_assert_eq!(area.bytes.start, at);
                prop_assert!(area.bytes.end > at);
                at = area.bytes.end;
            }
            prop_assert_eq!(at, disk.disk_size);
        }

        #[test]
        fn remedies_help(large in any::<bool>(), start in 0..2 * MIB, len in 1..2 * MIB) {
            let sector_size = if large { SectorSize::B4096 } else { SectorSize::B512 };
            let start = start.max(2 * sector_size.bytes());
            let touched = [start..start + len];
            let hit = first_hit(&layout(sector_size, 0, 0), &touched);
            let (padding, gap) = match &hit {
                Some(hit) if hit.area.purpose == Purpose::Entries => (least(hit), 0),
                Some(hit) => (0, least(hit)),
                None => (0, 0),
            };
            prop_assert_eq!(first_hit(&layout(sector_size, padding, gap), &touched), None);
        }
    }
}
