//! Checks the block groups: what is used in them, and what the free space tree says is free.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use super::faults::Faults;
use super::nodes::{Found, Kept};
use crate::btrfs::format::{BlockGroupItem, SECTOR_SIZE, kind, object};
use crate::btrfs::reader::disk::{ChunkMap, Disk};
use crate::read::Bytes;

/// `BTRFS_FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID`.
const FREE_SPACE_VALID: u64 = 2;

/// Ranges, each from its first to past its last address.
type Ranges = Vec<(u64, u64)>;

/// Tells which block groups count wrongly, or have free space that is not free.
pub(super) fn check<B: Bytes>(disk: &Disk<B>, found: &Found, faults: &mut Faults) {
    if [object::EXTENT_TREE, object::BLOCK_GROUP_TREE].iter().any(|tree| found.damaged.contains(tree)) {
        return;
    }
    let allocated = allocated(found, disk.node_size() as u64);
    let groups: BTreeMap<(u64, u64), BlockGroupItem> = found
        .groups
        .iter()
        .filter_map(|(key, data)| Some(((key.objectid, key.offset), BlockGroupItem::read_from_bytes(data).ok()?)))
        .collect();
    let checks_free = disk.superblock.compat_ro_flags.get() & FREE_SPACE_VALID != 0
        && !found.damaged.contains(&object::FREE_SPACE_TREE);
    let mut all_used = 0_u64;
    for chunk in &disk.chunks {
        let what = || format!("block group {}", chunk.start);
        let inside = within(&allocated, chunk);
        let used = inside.iter().fold(0_u64, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)));
        all_used = all_used.saturating_add(used);
        match groups.get(&(chunk.start, chunk.len)) {
            None => faults.add(what(), "is missing, though there is a chunk"),
            Some(group) if group.used.get() != used => {
                faults.add(what(), format!("says that {} bytes are used, but {used} are", group.used));
            }
            Some(group) if group.flags.get() != chunk.kind => faults.add(what(), "is of another kind than its chunk"),
            Some(_) => {}
        }
        if checks_free && free(&found.free_space, chunk) != gaps(inside, chunk) {
            faults.add(what(), "has other free space than the free space tree says");
        }
    }
    if groups.len() != disk.chunks.len() {
        faults.add("block groups", format!("are {}, chunks are {}", groups.len(), disk.chunks.len()));
    }
    if all_used != disk.superblock.bytes_used.get() {
        let said = disk.superblock.bytes_used;
        faults.add("superblock", format!("says that {said} bytes are used, but {all_used} are"));
    }
}

/// All extents, by address.
fn allocated(found: &Found, node_size: u64) -> Ranges {
    let extents = found.extents.iter().filter_map(|(key, _)| match key.kind {
        kind::EXTENT_ITEM => Some((key.objectid, key.objectid.saturating_add(key.offset))),
        kind::METADATA_ITEM => Some((key.objectid, key.objectid.saturating_add(node_size))),
        _ => None,
    });
    extents.collect()
}

/// The part of sorted ranges that is in a chunk.
fn within<'a>(ranges: &'a Ranges, chunk: &ChunkMap) -> &'a [(u64, u64)] {
    let first = ranges.partition_point(|(start, _)| *start < chunk.start);
    let past = ranges.partition_point(|(start, _)| *start < chunk.end());
    ranges.get(first..past).unwrap_or_default()
}

/// What sorted ranges leave of a chunk.
fn gaps(ranges: &[(u64, u64)], chunk: &ChunkMap) -> Ranges {
    let mut at = chunk.start;
    let mut gaps = Vec::new();
    for &(start, end) in ranges.iter().chain([&(chunk.end(), chunk.end())]) {
        if start > at {
            gaps.push((at, start));
        }
        at = end;
    }
    gaps
}

/// What the free space tree says is free in a chunk; neighbours are one.
fn free(items: &[Kept], chunk: &ChunkMap) -> Ranges {
    let first = items.partition_point(|(key, _)| key.objectid < chunk.start);
    let past = items.partition_point(|(key, _)| key.objectid < chunk.end());
    let mut ranges = Ranges::new();
    let mut add = |start: u64, end: u64| match ranges.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => ranges.push((start, end)),
    };
    for (key, data) in items.get(first..past).unwrap_or_default() {
        match key.kind {
            kind::FREE_SPACE_EXTENT => add(key.objectid, key.objectid.saturating_add(key.offset)),
            kind::FREE_SPACE_BITMAP => {
                let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
                let sectors = (key.objectid..key.objectid.saturating_add(key.offset)).step_by(4096);
                for (at, _) in sectors.zip(bits).filter(|(_, is_free)| *is_free) {
                    add(at, at.saturating_add(SECTOR_SIZE));
                }
            }
            _ => {}
        }
    }
    ranges
}
