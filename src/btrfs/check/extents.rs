//! Compares the extent tree with what trees and files use.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::FromBytes;

use super::faults::Faults;
use super::nodes::{EXTENT_HEAD, Found};
use crate::btrfs::format::{EXTENT_FLAG_DATA, ExtentItem, group, kind, object};
use crate::btrfs::reader::disk::Disk;
use crate::btrfs::tree::Key;
use crate::read::Bytes;

/// The bytes of the key and level that an extent of a tree has in filesystems without skinny-metadata.
const TREE_BLOCK_INFO: usize = 18;

/// An extent as the extent tree has it.
#[derive(Clone, Copy, Debug)]
struct Extent {
    len: u64,
    is_data: bool,
    refs: u64,
    /// References that are listed, inline or by themselves.
    listed: u64,
}

/// Tells where the extent tree and its users disagree.
pub(super) fn check<B: Bytes>(disk: &Disk<B>, found: &Found, faults: &mut Faults) {
    let extents = extents(found, disk.node_size() as u64, faults);
    for ((start, extent), (next, _)) in extents.iter().zip(extents.iter().skip(1)) {
        if start.saturating_add(extent.len) > *next {
            faults.add(format!("extent {start}"), format!("overlaps the one at {next}"));
        }
    }
    for (start, extent) in &extents {
        let wanted = if extent.is_data { group::DATA } else { group::METADATA_DUP | group::SYSTEM_DUP };
        if disk.chunk_of(*start, extent.len).is_none_or(|chunk| chunk.kind & wanted == 0) {
            faults.add(format!("extent {start}"), "is in no chunk of its kind");
        }
        if extent.refs != extent.listed {
            let why = format!("says that it has {} references, but lists {}", extent.refs, extent.listed);
            faults.add(format!("extent {start}"), why);
        }
    }
    let is_whole = !found.damaged.contains(&object::EXTENT_TREE);
    let mut used = BTreeSet::new();
    check_nodes(found, &extents, is_whole, &mut used, faults);
    check_files(found, &extents, is_whole, &mut used, faults);
    // The rest may be used by a part of a tree that cannot be read.
    if found.damaged.is_empty() {
        for (start, extent) in extents.iter().filter(|(start, _)| !used.contains(*start)) {
            let name = if extent.is_data { "file" } else { "tree" };
            faults.add(format!("extent {start}"), format!("has {} bytes that no {name} uses", extent.len));
        }
    }
}

fn check_nodes(
    found: &Found,
    extents: &BTreeMap<u64, Extent>,
    is_whole: bool,
    used: &mut BTreeSet<u64>,
    faults: &mut Faults,
) {
    for (address, seen) in &found.nodes {
        used.insert(*address);
        match extents.get(address).filter(|extent| !extent.is_data) {
            None if is_whole => faults.add(format!("node {address}"), "is not in the extent tree"),
            Some(extent) if extent.refs != seen.pointers && found.damaged.is_empty() => {
                let why = format!("has {} references in the extent tree, but {} in trees", extent.refs, seen.pointers);
                faults.add(format!("node {address}"), why);
            }
            _ => {}
        }
    }
}

fn check_files(
    found: &Found,
    extents: &BTreeMap<u64, Extent>,
    is_whole: bool,
    used: &mut BTreeSet<u64>,
    faults: &mut Faults,
) {
    for (address, seen) in &found.uses {
        used.insert(*address);
        let why = match extents.get(address).filter(|extent| extent.is_data && extent.len == seen.len) {
            None if is_whole => format!("uses {} bytes at address {address}, which are no data extent", seen.len),
            Some(extent) if extent.refs != seen.count && found.damaged.is_empty() => format!(
                "uses the extent at address {address} with {} others, but that has {} references",
                seen.count.saturating_sub(1),
                extent.refs
            ),
            _ => continue,
        };
        faults.add_inode(seen.tree, seen.inode, why);
    }
}

/// All extents of the extent tree, by address.
fn extents(found: &Found, node_size: u64, faults: &mut Faults) -> BTreeMap<u64, Extent> {
    let mut extents: BTreeMap<u64, Extent> = BTreeMap::new();
    for (key, data) in &found.extents {
        match key.kind {
            kind::EXTENT_ITEM | kind::METADATA_ITEM => match extent(*key, data, node_size) {
                Some(extent) => {
                    if extents.insert(key.objectid, extent).is_some() {
                        faults.add(format!("extent {}", key.objectid), "is there twice");
                    }
                }
                None => faults.add(format!("extent {}", key.objectid), "has an item that is cut short"),
            },
            other => {
                if let Some((count, extent)) = count_of(other, data).zip(extents.get_mut(&key.objectid)) {
                    extent.listed = extent.listed.saturating_add(count);
                }
            }
        }
    }
    extents
}

/// An extent with its inline references.
fn extent(key: Key, data: &[u8], node_size: u64) -> Option<Extent> {
    let (item, _) = ExtentItem::read_from_prefix(data).ok()?;
    let mut rest = data.get(EXTENT_HEAD..)?;
    let is_data = item.flags.get() & EXTENT_FLAG_DATA != 0;
    let is_skinny = key.kind == kind::METADATA_ITEM;
    if !is_data && !is_skinny {
        rest = rest.get(TREE_BLOCK_INFO..)?;
    }
    let mut listed = 0_u64;
    while let Some((&kind, after)) = rest.split_first() {
        let len = match kind {
            kind::TREE_BLOCK_REF | kind::SHARED_BLOCK_REF | kind::EXTENT_OWNER_REF => 8,
            kind::EXTENT_DATA_REF => 28,
            kind::SHARED_DATA_REF => 12,
            _ => return None,
        };
        let reference = after.get(..len)?;
        // The count of a shared leaf comes after the leaf's address.
        let own = if kind == kind::SHARED_DATA_REF { reference.get(8..)? } else { reference };
        listed = listed.saturating_add(count_of(kind, own).unwrap_or(0));
        rest = after.get(len..)?;
    }
    let len = if is_skinny { node_size } else { key.offset };
    Some(Extent { len, is_data, refs: item.refs.get(), listed })
}

/// How many references an item, or an inline part of one, stands for.
fn count_of(kind: u8, data: &[u8]) -> Option<u64> {
    match kind {
        kind::TREE_BLOCK_REF | kind::SHARED_BLOCK_REF => Some(1),
        kind::EXTENT_DATA_REF | kind::SHARED_DATA_REF => {
            let count = data.last_chunk::<4>()?;
            Some(u32::from_le_bytes(*count).into())
        }
        _ => None,
    }
}
