//! The use of every byte of the disk in an existing image, as its filesystems say.
//!
//! Everything that is not known to be free counts as contents. That is everything outside of partitions, where boot
//! code may be, and all partitions without a filesystem or swap area that we can read. It is also the whole of a
//! filesystem over which there is a dm-verity tree, and of one with a single fault: the filesystem may use what it calls free, and somebody who repairs it may need
//! those bytes.

use std::num::NonZeroUsize;
use std::ops::Range;

use uuid::Uuid;

use super::foreign::is_ambiguous;
use super::sealed::sealed;
use super::{Image, Partition, check_filesystem, recognise};
use crate::disk::table::{Header, Table};
use crate::map::{Held, ImageMap, MapBuilder};
use crate::read::ranges::{self, gaps};
use crate::read::{Bytes, ReadError, Window};
use crate::swap;
use crate::units::{ByteOffset, SectorSize};

/// The type of a swap area in a GPT, and in an MBR.
const SWAP: Uuid = Uuid::from_u128(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f);
const MBR_SWAP: u8 = 0x82;
/// The bytes before the fields of a swap area. mkswap makes them zeros.
const BEFORE_SWAP: usize = 1024;

/// Where an ISO 9660 or UDF filesystem names its standard, and the names.
const VOLUME: ByteOffset = ByteOffset((32 << 10) + 1);
const STANDARDS: [[u8; 5]; 4] = [*b"CD001", *b"BEA01", *b"NSR02", *b"NSR03"];

/// The map of an image's disk. What has to be unpacked for it is, on up to `threads` threads.
pub fn map(image: &Image, threads: NonZeroUsize) -> ImageMap {
    let bytes = image.bytes();
    if !is_all_in_partitions(image) {
        return ImageMap::unknown(bytes.len());
    }
    let mut builder = MapBuilder::default();
    if let Some(table) = image.table() {
        headers(table).for_each(|header| add_header(&mut builder, header, table.sector_size));
    }
    if let Some(mbr) = image.mbr() {
        let sector = mbr.sector_size.bytes();
        let records = mbr.records.iter().filter_map(|lba| lba.to_bytes(mbr.sector_size));
        records.for_each(|start| builder.add(start.0..start.0.saturating_add(sector), Held::Metadata));
    }
    let sealed = sealed(image);
    let is_sealed = |partition: &Partition| {
        let mut data = sealed.iter().filter_map(|one| one.data);
        data.any(|data| data.number == partition.number)
    };
    let mut covered = Vec::new();
    for partition in image.partitions() {
        let (start, len) = (partition.offset.0.min(bytes.len()), partition.bytes().len());
        covered.push(start..start.saturating_add(len));
        // A hash tree covers what its filesystem calls free.
        let used = if is_sealed(partition) { std::iter::once(0..len).collect() } else { used(partition, threads) };
        for used in used {
            builder.add(start.saturating_add(used.start)..start.saturating_add(used.end), Held::Contents);
        }
    }
    gaps(&ranges::union(covered), 0..bytes.len()).into_iter().for_each(|gap| builder.add(gap, Held::Contents));
    builder.finish(bytes.len())
}

/// Whether no more than the partitions can have a filesystem in it, and it is certain which those are.
fn is_all_in_partitions(image: &Image) -> bool {
    let bytes = image.bytes();
    // A disk that is a CD as well has its partitions as files.
    if is_a_cd(image) {
        return false;
    }
    if image.is_bare() {
        return true;
    }
    let tables_agree = image.table().is_none_or(|table| {
        let mut whole = headers(table).filter(|header| header.is_whole()).map(|header| &header.partitions);
        let first = whole.next();
        first.is_some() && whole.all(|other| Some(other) == first)
    });
    tables_agree && image.mbr().is_none_or(|mbr| mbr.faults.is_empty()) && recognise(&bytes).is_none()
}

/// Whether there is an ISO 9660 or UDF filesystem on the whole disk.
pub fn is_a_cd(image: &Image) -> bool {
    let mut name = [0; 5];
    image.bytes().read_exact_at(VOLUME, &mut name).is_ok() && STANDARDS.contains(&name)
}

fn headers(table: &Table) -> impl Iterator<Item = &Header> {
    [&table.primary, &table.backup].into_iter().flatten()
}

fn add_header(builder: &mut MapBuilder, header: &Header, sector_size: SectorSize) {
    for (lba, len) in [(header.lba, sector_size.bytes()), (header.entries_lba, header.entries_bytes())] {
        if let Some(start) = lba.to_bytes(sector_size) {
            builder.add(start.0..start.0.saturating_add(len), Held::Metadata);
        }
    }
}

/// What is in use of a partition, in bytes from its start.
fn used(partition: &Partition, threads: NonZeroUsize) -> Vec<Range<u64>> {
    let bytes = partition.bytes();
    let free = free(partition, &bytes, threads).unwrap_or_default();
    let free = if ranges::are_sound(&free, bytes.len()) { free } else { Vec::new() };
    gaps(&free, 0..bytes.len())
}

/// What is free of a partition, as far as that is certain.
fn free(partition: &Partition, bytes: &Window, threads: NonZeroUsize) -> Result<Vec<Range<u64>>, ReadError> {
    let Some(format) = partition.format() else { return Ok(free_of_swap(partition, bytes)) };
    if is_ambiguous(format, bytes) {
        return Ok(Vec::new());
    }
    let filesystem = partition.open()?;
    let free = filesystem.free()?;
    // Where nothing is free, as on an EROFS, faults would change nothing.
    let is_sure =
        !free.is_empty() && filesystem.waiting().is_none() && check_filesystem(format, bytes, threads)?.is_empty();
    Ok(if is_sure { free } else { Vec::new() })
}

/// All of a swap area except its first page, in a partition of its type. A system that sleeps there has another magic.
fn free_of_swap(partition: &Partition, bytes: &Window) -> Vec<Range<u64>> {
    let is_swap = partition.type_guid == SWAP || partition.mbr.is_some_and(|entry| entry.kind == MBR_SWAP);
    let mut start = [1; BEFORE_SWAP];
    let is_blank = bytes.read_exact_at(ByteOffset(0), &mut start).is_ok() && start == [0; BEFORE_SWAP];
    let area = swap::find(bytes).filter(|area| is_swap && is_blank && area.faults(bytes.len()).is_empty());
    area.map(|area| area.page_size.bytes()..area.size).filter(|free| !free.is_empty()).into_iter().collect()
}
