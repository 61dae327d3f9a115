//! A node whose bounds have been checked, so that its parts can be read without further checks.

use zerocopy::FromBytes;

use crate::btrfs::csum;
use crate::btrfs::format::{DiskKey, FLAG_WRITTEN, Header, Item, KeyPtr};
use crate::btrfs::tree::Key;

/// The levels that a tree can have.
pub(in crate::btrfs) const LEVELS: u8 = 8;

/// What is known of a node before it is read.
#[derive(Clone, Copy, Debug)]
pub(in crate::btrfs) struct Expected {
    /// The tree that leads to it.
    pub(in crate::btrfs) owner: u64,
    /// Its level.
    pub(in crate::btrfs) level: u8,
    /// Its first key, unless it is the root.
    pub(in crate::btrfs) first: Option<Key>,
    /// The first key that belongs to the next node, if there is one: without it, nodes could share what is below them,
    /// and the ways through a tree be more than its nodes by any factor.
    pub(in crate::btrfs) bound: Option<Key>,
}

/// A node that [`problem`] found well.
#[derive(Debug)]
pub(in crate::btrfs) struct Node {
    bytes: Vec<u8>,
    header: Option<Header>,
}

impl From<&DiskKey> for Key {
    fn from(key: &DiskKey) -> Self {
        Self::new(key.objectid.get(), key.kind, key.offset.get())
    }
}

impl Node {
    /// Of bytes in which [`problem`] found none.
    pub(in crate::btrfs) fn new(bytes: Vec<u8>) -> Self {
        let header = Header::read_from_prefix(&bytes).ok().map(|(header, _)| header);
        Self { bytes, header }
    }

    /// How many items or pointers it has.
    pub(in crate::btrfs) fn len(&self) -> usize {
        self.header.and_then(|header| usize::try_from(header.nritems.get()).ok()).unwrap_or(0)
    }

    /// Its level; leaves are at 0.
    pub(in crate::btrfs) fn level(&self) -> u8 {
        self.header.map_or(0, |header| header.level)
    }

    /// The transaction that wrote it.
    pub(in crate::btrfs) fn generation(&self) -> u64 {
        self.header.map_or(0, |header| header.generation.get())
    }

    /// The key at an index.
    pub(in crate::btrfs) fn key(&self, index: usize) -> Option<Key> {
        match self.level() {
            0 => items(&self.bytes, self.len()).get(index).map(|item| (&item.key).into()),
            _ => pointers(&self.bytes, self.len()).get(index).map(|pointer| (&pointer.key).into()),
        }
    }

    /// What is known of the node that the pointer at an index leads to. `self` is what was known of this node.
    pub(in crate::btrfs) fn expected(&self, index: usize, own: Expected) -> Option<Expected> {
        Some(Expected {
            owner: own.owner,
            level: own.level.checked_sub(1)?,
            first: Some(self.key(index)?),
            bound: self.key(index.checked_add(1)?).or(own.bound),
        })
    }

    /// The index of the last key that is not above `key`, or 0.
    pub(in crate::btrfs) fn position(&self, key: Key) -> usize {
        let after = match self.level() {
            0 => items(&self.bytes, self.len()).partition_point(|item| Key::from(&item.key) <= key),
            _ => pointers(&self.bytes, self.len()).partition_point(|pointer| Key::from(&pointer.key) <= key),
        };
        after.saturating_sub(1)
    }

    /// The data of a leaf's item.
    pub(in crate::btrfs) fn data(&self, index: usize) -> Option<&[u8]> {
        let item = items(&self.bytes, self.len()).get(index)?;
        let start = size_of::<Header>().checked_add(usize::try_from(item.offset.get()).ok()?)?;
        self.bytes.get(start..start.checked_add(usize::try_from(item.size.get()).ok()?)?)
    }

    /// The address that an inner node's pointer leads to, and the generation it expects there.
    pub(in crate::btrfs) fn child(&self, index: usize) -> Option<(u64, u64)> {
        let pointer = pointers(&self.bytes, self.len()).get(index)?;
        Some((pointer.blockptr.get(), pointer.generation.get()))
    }
}

fn items(bytes: &[u8], len: usize) -> &[Item] {
    let body = bytes.get(size_of::<Header>()..).unwrap_or_default();
    <[Item]>::ref_from_prefix_with_elems(body, len).map_or(&[], |(items, _)| items)
}

fn pointers(bytes: &[u8], len: usize) -> &[KeyPtr] {
    let body = bytes.get(size_of::<Header>()..).unwrap_or_default();
    <[KeyPtr]>::ref_from_prefix_with_elems(body, len).map_or(&[], |(pointers, _)| pointers)
}

/// What is wrong with the bytes of a node, if anything is.
pub(super) fn problem(bytes: &[u8], address: u64, uuid: &[u8; 16], expected: Expected) -> Option<String> {
    let (header, body) = Header::read_from_prefix(bytes).ok()?;
    let sum = bytes.get(size_of_val(&header.csum)..).map(csum::of_block);
    if sum.map(csum::field) != Some(header.csum) {
        return Some("has a wrong checksum".to_owned());
    }
    if header.bytenr.get() != address {
        return Some(format!("says that it is at {}", header.bytenr));
    }
    if &header.fsid != uuid {
        return Some("belongs to another filesystem".to_owned());
    }
    if header.flags.get() & FLAG_WRITTEN == 0 {
        return Some("was never written".to_owned());
    }
    if header.level != expected.level || header.level >= LEVELS {
        return Some(format!("is at level {}, not {}", header.level, expected.level));
    }
    let len = usize::try_from(header.nritems.get()).unwrap_or(usize::MAX);
    let keys: Vec<Key> = match header.level {
        0 => items(bytes, len).iter().map(|item| (&item.key).into()).collect(),
        _ => pointers(bytes, len).iter().map(|pointer| (&pointer.key).into()).collect(),
    };
    if keys.len() != len || (header.level > 0 && len == 0) {
        return Some(format!("has {} items", header.nritems));
    }
    if let Some((key, _)) = keys.iter().zip(keys.iter().skip(1)).find(|(a, b)| a >= b) {
        return Some(format!("has items out of order after {key:?}"));
    }
    if expected.first.is_some_and(|first| keys.first() != Some(&first)) {
        return Some("starts with another key than its parent says".to_owned());
    }
    if expected.bound.is_some_and(|bound| keys.last().is_some_and(|last| *last >= bound)) {
        return Some("has keys that belong into the next node".to_owned());
    }
    if header.level == 0 { items_problem(items(bytes, len), body.len()) } else { None }
}

/// Whether the items of a leaf lie within its `room` bytes, one before another, behind their table.
fn items_problem(items: &[Item], room: usize) -> Option<String> {
    let mut end = room as u64;
    let table = size_of_val(items) as u64;
    for item in items {
        let (start, len) = (u64::from(item.offset.get()), u64::from(item.size.get()));
        if start < table || start.checked_add(len).is_none_or(|past| past > end) {
            return Some(format!("has data of {:?} out of bounds", Key::from(&item.key)));
        }
        end = start;
    }
    None
}
