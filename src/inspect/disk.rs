//! The use of the disk's bytes, from the first to the last.

use uuid::{Uuid, uuid};

use super::report::{
    BootCodeReport, HeaderReport, MbrPartition, MbrReport, PartitionReport, Region, RegionKind, Report, SwapReport,
    TableReport, VerityReport,
};
use super::{depthcharge, depthcharge::CHROMEOS_KERNEL};
use crate::discoverable::Type;
use crate::disk::table::{Header, MbrTable, Table};
use crate::grub::embedded::{self, Code};
use crate::image::sealed::Sealed;
use crate::image::{Image, Partition};
use crate::read::{Bytes, escape};
use crate::swap;
use crate::units::{ByteOffset, Lba, SectorSize};
use crate::verity::Layout;

/// Types of partitions that people meet, by the UEFI and the Discoverable Partitions specifications; those of root and
/// /usr are in [`discoverable`](crate::discoverable).
const TYPES: [(Uuid, &str); 10] = [
    (crate::image::ESP, "EFI system"),
    (uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"), "Linux filesystem"),
    (uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172"), "Linux extended boot"),
    (uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"), "Linux swap"),
    (uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"), "Linux home"),
    (uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928"), "Linux LVM"),
    (uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e"), "Linux RAID"),
    (uuid!("21686148-6449-6e6f-744e-656564454649"), "BIOS boot"),
    (uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), "Microsoft basic data"),
    (CHROMEOS_KERNEL, "ChromeOS kernel"),
];

pub(super) fn table(table: &Table) -> TableReport {
    TableReport {
        sector_size: table.sector_size.bytes(),
        disk_guid: table.header().map_or(Uuid::nil(), |header| header.disk_guid),
        primary: table.primary.as_ref().map(|found| header(found, table.sector_size)),
        backup: table.backup.as_ref().map(|found| header(found, table.sector_size)),
        notes: table.notes.clone(),
    }
}

pub(super) fn mbr(mbr: &MbrTable) -> MbrReport {
    let (sector_size, signature) = (mbr.sector_size.bytes(), format!("{:08x}", mbr.signature));
    MbrReport { sector_size, signature, notes: mbr.notes.clone() }
}

/// What a BIOS starts, and what is wrong with it.
pub(super) fn boot_code(image: &Image, report: &mut Report) {
    if image.is_bare() {
        return;
    }
    let disk = image.bytes();
    let found = match embedded::look(&disk, image.table(), image.mbr()) {
        Ok(found) => found,
        Err(error) => return report.problems.push(format!("boot code: {error}")),
    };
    report.problems.extend(found.faults.iter().map(ToString::to_string));
    report.warnings.extend(found.notes);
    report.boot_code = (found.code != Code::None).then(|| BootCodeReport {
        of: found.code.id(),
        name: found.code.name(),
        offset: found.stage.as_ref().map(|stage| bytes(stage.first, SectorSize::B512)),
        partition: found.stage.as_ref().and_then(|stage| stage.partition),
        size: found.stage.as_ref().map(embedded::Stage::size),
    });
}

fn header(header: &Header, sector_size: SectorSize) -> HeaderReport {
    HeaderReport {
        offset: bytes(header.lba, sector_size),
        entries_offset: bytes(header.entries_lba, sector_size),
        entries: header.entries,
        usable_start: bytes(header.first_usable, sector_size),
        usable_end: bytes(Lba(header.last_usable.0.saturating_add(1)), sector_size),
        intact: header.is_intact,
        entries_intact: header.entries_are_intact,
    }
}

/// Where a sector starts; the largest number where that is beyond all numbers.
fn bytes(lba: Lba, sector_size: SectorSize) -> u64 {
    lba.to_bytes(sector_size).unwrap_or(ByteOffset(u64::MAX)).0
}

pub(super) fn partition(partition: &Partition, table: Option<&MbrTable>, sealed: &[Sealed<'_>]) -> PartitionReport {
    let known = TYPES.iter().find(|(guid, _)| *guid == partition.type_guid).map(|(_, name)| (*name).to_owned());
    let in_mbr = || partition.mbr.and_then(|entry| MbrTable::type_name(entry.kind)).map(str::to_owned);
    let sealed = sealed.iter().find(|one| one.hashes.number == partition.number);
    PartitionReport {
        number: partition.number,
        name: escape::text(&partition.name),
        type_guid: partition.type_guid,
        type_name: known.or_else(|| Type::find(partition.type_guid).map(Type::describe)).or_else(in_mbr),
        guid: partition.guid,
        mbr: partition.mbr.zip(table).map(|(entry, table)| MbrPartition {
            kind: entry.kind,
            active: entry.is_active,
            signature: table.signature,
            number: entry.number,
        }),
        offset: partition.offset.0,
        size: partition.size,
        filesystem: None,
        depthcharge: depthcharge::examine(partition),
        swap: match partition.format() {
            Some(_) => None,
            None => swap::find(&partition.bytes()).map(|area| SwapReport {
                label: escape::text(&area.label),
                uuid: area.uuid,
                size: area.size,
                page_size: area.page_size.bytes(),
            }),
        },
        verity: sealed.map(verity),
    }
}

fn verity(sealed: &Sealed<'_>) -> VerityReport {
    let Sealed { area, data, root, .. } = sealed;
    VerityReport {
        root_hash: *root,
        salt: area.salt.clone(),
        uuid: area.uuid,
        algorithm: escape::text(&area.algorithm),
        data_size: area.data_size(),
        hash_size: area.layout().map(Layout::size),
        data_block_size: area.data_block_size,
        hash_block_size: area.hash_block_size,
        data_partition: data.map(|data| data.number),
        named_by_guids: root.is_some() && sealed.by_guids() == *root,
    }
}

/// The whole disk in order. What two things claim goes to the one that starts first, partitions before tables.
pub(super) fn regions(image: &Image) -> Vec<Region> {
    let end = image.bytes().len();
    let partitions = image.partitions().iter().map(|p| (p.offset.0, p.size, Some(p.number)));
    let mut claims: Vec<(u64, u64, Option<u32>)> = partitions.collect();
    if let Some(table) = image.table() {
        claims.extend(table_ranges(table).into_iter().map(|(offset, size)| (offset, size, None)));
    }
    if let Some(mbr) = image.mbr() {
        let sectors = std::iter::once(&Lba(0)).chain(&mbr.records);
        claims.extend(sectors.map(|&at| (bytes(at, mbr.sector_size), mbr.sector_size.bytes(), None)));
    }
    claims.sort_by_key(|&(offset, size, number)| (offset, number.is_none(), size));
    let mut regions: Vec<Region> = Vec::new();
    let mut at = 0;
    for (offset, size, partition) in claims {
        let (start, stop) = (offset.max(at), offset.saturating_add(size).min(end));
        if start >= stop {
            continue;
        }
        if start > at {
            push(&mut regions, RegionKind::Gap, None, at, start);
        }
        let kind = if partition.is_some() { RegionKind::Partition } else { RegionKind::Table };
        push(&mut regions, kind, partition, start, stop);
        at = stop;
    }
    if at < end {
        push(&mut regions, RegionKind::Gap, None, at, end);
    }
    regions
}

/// Adds a region, or lengthens the last one where they are of one kind.
fn push(regions: &mut Vec<Region>, kind: RegionKind, partition: Option<u32>, start: u64, stop: u64) {
    let size = stop.saturating_sub(start);
    match regions.last_mut() {
        Some(last) if last.kind == kind && last.partition == partition => last.size = last.size.saturating_add(size),
        _ => regions.push(Region { kind, partition, offset: start, size }),
    }
}

/// Offsets and sizes of the MBR, the headers and their entries.
fn table_ranges(table: &Table) -> Vec<(u64, u64)> {
    let sector = table.sector_size.bytes();
    let mut ranges = vec![(0, sector)];
    for header in [&table.primary, &table.backup].into_iter().flatten() {
        ranges.push((bytes(header.lba, table.sector_size), sector));
        // What a damaged header says of its entries may cover the disk.
        if header.is_intact {
            let size = header.entries_bytes().div_ceil(sector).saturating_mul(sector);
            ranges.push((bytes(header.entries_lba, table.sector_size), size));
        }
    }
    ranges
}
