//! Reads every node of every tree once, in all its copies, and collects what the other parts of the check need.

use std::collections::{BTreeMap, BTreeSet};

use crate::btrfs::format::{ExtentItem, SECTOR_SIZE, kind, object};
use crate::btrfs::reader::disk::Disk;
use crate::btrfs::reader::extents::{Stored, part};
use crate::btrfs::reader::node::{Expected, Node};
use crate::btrfs::reader::{Root, tree_name};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

use super::faults::Faults;

/// A node that something points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) level: u8,
    /// How many pointers lead to it, those of the root tree's items included.
    pub(super) pointers: u64,
}

/// A data extent that files use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) len: u64,
    /// How many file extents in how many leaves.
    pub(super) count: u64,
    /// The first file that uses it.
    pub(super) tree: u64,
    pub(super) inode: u64,
}

/// An item, kept.
pub(super) type Kept = (Key, Vec<u8>);

/// What the trees hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) nodes: BTreeMap<u64, Seen>,
    pub(super) uses: BTreeMap<u64, Use>,
    /// Items of the extent, device, block group and free space trees.
    pub(super) extents: Vec<Kept>,
    pub(super) devices: Vec<Kept>,
    pub(super) groups: Vec<Kept>,
    pub(super) free_space: Vec<Kept>,
    /// Ranges that have checksums.
    sums: Vec<(u64, u64)>,
    /// How many items all leaves together have.
    pub(super) items: u64,
    /// Trees of which a part cannot be read: what they do not hold may be in it.
    pub(super) damaged: BTreeSet<u64>,
}

/// Walks all trees.
pub(super) fn walk<B: Bytes>(disk: &Disk<B>, roots: &[Root], faults: &mut Faults) -> Result<Found, ReadError> {
    let mut walker = Walker { disk, faults, found: Found::default() };
    for root in roots {
        let expected = Expected { owner: root.owner, level: root.level, first: None, bound: None };
        walker.node(root.address, expected, None)?;
    }
    let mut found = walker.found;
    found.sums.sort_unstable();
    for (a, b) in found.sums.iter().zip(found.sums.iter().skip(1)) {
        if a.1 > b.0 {
            faults.add("tree checksum", format!("has two checksums for the contents at address {}", b.0));
        }
    }
    Ok(found)
}

struct Walker<'a, B> {
    disk: &'a Disk<B>,
    faults: &'a mut Faults,
    found: Found,
}

impl<B: Bytes> Walker<'_, B> {
    /// Walks a node and what is below it. Levels fall on the way down, and no node is walked twice.
    fn node(&mut self, address: u64, expected: Expected, generation: Option<u64>) -> Result<(), ReadError> {
        if let Some(seen) = self.found.nodes.get_mut(&address) {
            seen.pointers = seen.pointers.saturating_add(1);
            if seen.level != expected.level {
                self.faults.add(
                    format!("node {address} of tree {}", tree_name(expected.owner)),
                    format!("is expected both at level {} and at level {}", seen.level, expected.level),
                );
            }
            return Ok(());
        }
        self.found.nodes.insert(address, Seen { level: expected.level, pointers: 1 });
        let Some(node) = self.read(address, expected)? else {
            self.found.damaged.insert(expected.owner);
            return Ok(());
        };
        let what = || format!("node {address} of tree {}", tree_name(expected.owner));
        if generation.is_some_and(|generation| generation != node.generation()) {
            self.faults.add(what(), "was written by another transaction than its parent says");
        }
        if node.generation() > self.disk.superblock.generation.get() {
            self.faults.add(what(), "was written after the superblock");
        }
        for index in 0..node.len() {
            let Some(key) = node.key(index) else { break };
            match (node.expected(index, expected), node.child(index)) {
                (Some(below), Some((child, generation))) => {
                    self.node(child, below, Some(generation))?;
                }
                _ => self.item(expected.owner, key, node.data(index).unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// Reads all copies of a node, and gives the first that is well.
    fn read(&mut self, address: u64, expected: Expected) -> Result<Option<Node>, ReadError> {
        let mut well = None;
        let mut bytes = vec![0; self.disk.node_size()];
        let copies = match self.disk.copies(address, bytes.len() as u64) {
            Err(ReadError::Corrupt(fault)) => {
                self.faults.add(format!("node {address} of tree {}", tree_name(expected.owner)), fault.why);
                return Ok(None);
            }
            other => other?,
        };
        for copy in copies {
            self.disk.bytes.read_exact_at(ByteOffset(copy), &mut bytes)?;
            match self.disk.check_node(&bytes, address, expected) {
                Ok(()) if well.is_none() => well = Some(bytes.clone()),
                Ok(()) => {}
                Err(ReadError::Corrupt(fault)) => {
                    self.faults.add(format!("{}, copy at byte {copy}", fault.what), fault.why);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(well.map(Node::new))
    }

    fn item(&mut self, tree: u64, key: Key, data: &[u8]) {
        let found = &mut self.found;
        found.items = found.items.saturating_add(1);
        match (tree, key.kind) {
            (_, kind::BLOCK_GROUP_ITEM) => found.groups.push((key, data.to_vec())),
            (object::EXTENT_TREE, _) => found.extents.push((key, data.to_vec())),
            (object::DEV_TREE, _) => found.devices.push((key, data.to_vec())),
            (object::FREE_SPACE_TREE, _) => found.free_space.push((key, data.to_vec())),
            (object::CSUM_TREE, kind::EXTENT_CSUM) => {
                let sectors = data.len() as u64 / size_of::<u32>() as u64;
                let end = key.offset.saturating_add(sectors.saturating_mul(SECTOR_SIZE));
                found.sums.push((key.offset, end));
            }
            (_, kind::EXTENT_DATA) => self.file_extent(tree, key, data),
            _ => {}
        }
    }

    fn file_extent(&mut self, tree: u64, key: Key, data: &[u8]) {
        let part = match part(key.offset, data) {
            Ok(part) => part,
            Err(why) => return self.faults.add_inode(tree, key.objectid, why),
        };
        let (address, len) = match part.stored {
            Stored::Extent { address, len, .. } | Stored::Preallocated { address, len } => (address, len),
            Stored::Inline(_) | Stored::Hole => return,
        };
        let new = Use { len, count: 0, tree, inode: key.objectid };
        let seen = self.found.uses.entry(address).or_insert(new);
        seen.count = seen.count.saturating_add(1);
        if seen.len != len {
            let why = format!("uses {len} bytes of the extent at address {address}, which has {}", seen.len);
            self.faults.add_inode(tree, key.objectid, why);
        }
    }
}

/// The bytes of an extent item's head.
pub(super) const EXTENT_HEAD: usize = size_of::<ExtentItem>();
