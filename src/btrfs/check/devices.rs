//! Compares the chunks with the device extents, which must say the same.

use std::collections::BTreeSet;

use zerocopy::FromBytes;

use super::faults::Faults;
use super::nodes::Found;
use crate::btrfs::format::{DevExtent, kind, object};
use crate::btrfs::reader::disk::Disk;
use crate::read::Bytes;

/// A range of the device and the chunk that it belongs to: start, length, chunk.
type Range = (u64, u64, u64);

/// Tells where chunks and device extents disagree, and which overlap.
pub(super) fn check<B: Bytes>(disk: &Disk<B>, found: &Found, faults: &mut Faults) {
    let chunks = disk.chunks.iter();
    let of_chunks: BTreeSet<Range> =
        chunks.flat_map(|chunk| chunk.copies.iter().map(|copy| (*copy, chunk.len, chunk.start))).collect();
    let mut of_device = BTreeSet::new();
    for (key, data) in found.devices.iter().filter(|(key, _)| key.kind == kind::DEV_EXTENT) {
        match DevExtent::read_from_bytes(data) {
            Ok(extent) => {
                of_device.insert((key.offset, extent.length.get(), extent.chunk_offset.get()));
            }
            Err(_) => faults.add(format!("device extent at byte {}", key.offset), "has an odd length"),
        }
    }
    for (start, _, chunk) in of_chunks.difference(&of_device) {
        if !found.damaged.contains(&object::DEV_TREE) {
            faults.add(format!("chunk {chunk}"), format!("has no device extent at byte {start}"));
        }
    }
    for (start, _, chunk) in of_device.difference(&of_chunks) {
        faults.add(format!("device extent at byte {start}"), format!("belongs to no chunk {chunk}"));
    }
    for ((start, len, chunk), (next, ..)) in of_chunks.iter().zip(of_chunks.iter().skip(1)) {
        if start.saturating_add(*len) > *next {
            faults.add(format!("chunk {chunk}"), format!("overlaps another one at byte {next}"));
        }
    }
    let taken: u64 = of_chunks.iter().map(|(_, len, _)| len).fold(0, |sum, len| sum.saturating_add(*len));
    if taken != disk.superblock.dev_item.bytes_used.get() {
        let said = disk.superblock.dev_item.bytes_used;
        faults.add("superblock", format!("says that chunks take {said} bytes of the device, but they take {taken}"));
    }
}
