//! Builds a B-tree from the bottom up, from items that come in the order of their keys.
//!
//! A tree is walked twice by the same code: [`Counter`] learns how many nodes it will have, so that they can be
//! placed; [`Encoder`] then makes the nodes, one leaf at a time. Both refuse keys that are not in order. Leaves are
//! packed full, inner nodes too; within a tree the leaves come first, then each level above, the root last. Pure.
//!
//! Source: "Btrfs on-disk format", sections on nodes and leaves.

use thiserror::Error;
use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::format::{self, DiskKey, Header, Item, KeyPtr, NODE_BYTES, NODE_SIZE};
use super::{GENERATION, LogicalAddress, csum};

/// The bytes of a node past its header.
const NODE_ROOM: usize = NODE_BYTES - size_of::<Header>();
/// Entries in a full inner node.
const POINTERS_PER_NODE: usize = NODE_ROOM / size_of::<KeyPtr>();
/// The most bytes that the data of one item can have.
pub const ITEM_MAX: usize = NODE_ROOM - size_of::<Item>();

/// The name of an item, by which its tree is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What the item belongs to.
    pub objectid: u64,
    /// One of [`format::kind`].
    pub kind: u8,
    /// Depends on the type.
    pub offset: u64,
}

impl Key {
    /// A key from its parts.
    pub const fn new(objectid: u64, kind: u8, offset: u64) -> Self {
        Self { objectid, kind, offset }
    }

    /// As it stands on disk.
    pub fn to_disk(self) -> DiskKey {
        DiskKey { objectid: self.objectid.into(), kind: self.kind, offset: self.offset.into() }
    }
}

/// Items that make no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TreeError {
    /// A key that is not larger than the one before.
    #[error("items out of order: {key:?} after {last:?}")]
    Unsorted {
        /// The key before.
        last: Key,
        /// The key.
        key: Key,
    },
    /// An item that no leaf can hold.
    #[error("item {key:?} has {len} bytes of data; a leaf holds {ITEM_MAX}")]
    TooLong {
        /// The item's key.
        key: Key,
        /// The length of its data in bytes.
        len: usize,
    },
}

/// Takes the items of a tree.
pub trait Sink {
    /// Takes an item of `len` bytes, which `fill` writes into zeros. Counting alone does not call `fill`.
    ///
    /// Mistakes are reported when the sink is finished.
    fn put(&mut self, key: Key, len: usize, fill: impl FnOnce(&mut [u8]));
}

/// How many nodes a tree has at each level, leaves first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// The shape of a tree with so many leaves.
    pub fn of_leaves(leaves: u64) -> Self {
        let mut levels = vec![leaves.max(1)];
        while let Some(&below @ 2..) = levels.last() {
            levels.push(below.div_ceil(POINTERS_PER_NODE as u64));
        }
        Self(levels)
    }

    /// The number of nodes of all levels.
    pub fn nodes(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The level of the root; leaves are at level 0.
    pub fn root_level(&self) -> u8 {
        u8::try_from(self.0.len() - 1).expect("each level multiplies the leaves by hundreds")
    }

    /// The level of the node at `index` among the tree's nodes.
    pub fn level_of(&self, index: u64) -> u8 {
        let mut end = 0;
        let below = self.0.iter().take_while(|&&nodes| {
            end += nodes;
            end <= index
        });
        u8::try_from(below.count()).expect("as for the root")
    }
}

/// Checks the order of keys and when a leaf is full.
#[derive(Debug, Default)]
struct Leaf {
    last: Option<Key>,
    used: usize,
    error: Option<TreeError>,
}

/// Where the next item goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Here,
    NextLeaf,
    Refused,
}

impl Leaf {
    fn admit(&mut self, key: Key, len: usize) -> Fit {
        let error = match self.last {
            Some(last) if last >= key => Some(TreeError::Unsorted { last, key }),
            _ if len > ITEM_MAX => Some(TreeError::TooLong { key, len }),
            _ => None,
        };
        self.error = self.error.or(error);
        if self.error.is_some() {
            return Fit::Refused;
        }
        self.last = Some(key);
        let taken = size_of::<Item>() + len;
        if self.used + taken <= NODE_ROOM {
            self.used += taken;
            return Fit::Here;
        }
        self.used = taken;
        Fit::NextLeaf
    }
}

/// Counts the nodes of a tree.
#[derive(Debug, Default)]
pub struct Counter {
    leaf: Leaf,
    full_leaves: u64,
}

impl Counter {
    /// The shape of the tree of all items put so far.
    ///
    /// # Errors
    /// If an item was out of order or too long.
    pub fn finish(self) -> Result<Shape, TreeError> {
        match self.leaf.error {
            Some(error) => Err(error),
            None => Ok(Shape::of_leaves(self.full_leaves + 1)),
        }
    }
}

impl Sink for Counter {
    fn put(&mut self, key: Key, len: usize, _fill: impl FnOnce(&mut [u8])) {
        if self.leaf.admit(key, len) == Fit::NextLeaf {
            self.full_leaves += 1;
        }
    }
}

/// What all nodes of a tree say.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The filesystem's UUID.
    pub filesystem: Uuid,
    /// The chunk tree's UUID.
    pub chunk_tree: Uuid,
    /// The tree's identifier.
    pub owner: u64,
}

/// Takes a node with its address.
pub type Emit<'a, E> = dyn FnMut(LogicalAddress, &[u8]) -> Result<(), E> + 'a;

/// Makes the nodes of a tree.
pub struct Encoder<'a, E> {
    stamp: Stamp,
    /// Where the node of each index of the tree goes.
    address: &'a dyn Fn(u64) -> LogicalAddress,
    emit: &'a mut Emit<'a, E>,
    leaf: Leaf,
    node: Box<[u8; NODE_BYTES]>,
    /// Items in the current leaf.
    items: usize,
    /// Where the data of the current leaf starts, from the end of the header.
    data_start: usize,
    /// The first key of each node of the current level.
    keys: Vec<Key>,
    /// The first failure of `emit`.
    failure: Option<E>,
    made: u64,
}

/// A tree could not be made.
#[derive(Debug, Error)]
pub enum EncodeError<E> {
    /// The items make no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A node was not taken.
    #[error("a node was not taken; this is a bug of sane-image, please report it")]
    Emit(E),
}

impl<'a, E> Encoder<'a, E> {
    /// A tree without items. `emit` gets each node with its address, in order of their indices.
    pub fn new(stamp: Stamp, address: &'a dyn Fn(u64) -> LogicalAddress, emit: &'a mut Emit<'a, E>) -> Self {
        let node = Box::new([0; NODE_BYTES]);
        let (leaf, keys) = (Leaf::default(), Vec::new());
        Self { stamp, address, emit, leaf, node, items: 0, data_start: NODE_ROOM, keys, failure: None, made: 0 }
    }

    /// Completes the tree, and returns its shape.
    ///
    /// # Errors
    /// If an item was out of order or too long, or the first error of `emit`.
    pub fn finish(mut self) -> Result<Shape, EncodeError<E>> {
        if let Some(error) = self.leaf.error {
            return Err(error.into());
        }
        if self.keys.is_empty() {
            self.keys.push(Key::default());
        }
        self.finish_leaf();
        let shape = Shape::of_leaves(self.made);
        let (mut level, mut first) = (0, 0);
        while self.keys.len() > 1 && self.failure.is_none() {
            let children = std::mem::take(&mut self.keys);
            level += 1;
            let first_child = std::mem::replace(&mut first, self.made);
            for (nth, part) in children.chunks(POINTERS_PER_NODE).enumerate() {
                self.inner_node(level, first_child + (nth * POINTERS_PER_NODE) as u64, part);
            }
        }
        self.failure.map_or(Ok(shape), |error| Err(EncodeError::Emit(error)))
    }

    fn inner_node(&mut self, level: u8, first_child: u64, children: &[Key]) {
        let (pointers, _) = self.node[size_of::<Header>()..].as_chunks_mut::<{ size_of::<KeyPtr>() }>();
        for ((slot, key), child) in pointers.iter_mut().zip(children).zip(first_child..) {
            let blockptr = (self.address)(child).0.into();
            let pointer = KeyPtr { key: key.to_disk(), blockptr, generation: GENERATION.into() };
            slot.copy_from_slice(pointer.as_bytes());
        }
        self.keys.push(children[0]);
        self.finish_node(level, children.len());
    }

    fn finish_leaf(&mut self) {
        self.finish_node(0, self.items);
        (self.items, self.data_start) = (0, NODE_ROOM);
    }

    /// Heads, sums and emits the current node, and starts with an empty one.
    fn finish_node(&mut self, level: u8, items: usize) {
        let address = (self.address)(self.made);
        let header = Header {
            csum: [0; 32],
            fsid: self.stamp.filesystem.into_bytes(),
            bytenr: address.0.into(),
            flags: (format::FLAG_WRITTEN | format::FLAG_BACKREF_REVISION).into(),
            chunk_tree_uuid: self.stamp.chunk_tree.into_bytes(),
            generation: GENERATION.into(),
            owner: self.stamp.owner.into(),
            nritems: u32::try_from(items).expect("a node holds hundreds").into(),
            level,
        };
        self.node[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let checksum = csum::of_block(&self.node[size_of_val(&header.csum)..]);
        let (header, _) = Header::mut_from_prefix(&mut self.node[..]).expect("a node is longer than its header");
        header.csum = csum::field(checksum);
        if self.failure.is_none() {
            self.failure = (self.emit)(address, &self.node[..]).err();
        }
        self.made += 1;
        self.node.fill(0);
    }
}

impl<E> Sink for Encoder<'_, E> {
    fn put(&mut self, key: Key, len: usize, fill: impl FnOnce(&mut [u8])) {
        match self.leaf.admit(key, len) {
            Fit::Refused => return,
            Fit::NextLeaf => self.finish_leaf(),
            Fit::Here => {}
        }
        if self.items == 0 {
            self.keys.push(key);
        }
        self.data_start -= len;
        let room = |at: usize| size_of::<Header>() + at;
        let field = |bytes: usize| u32::try_from(bytes).expect("within a node").into();
        let item = Item { key: key.to_disk(), offset: field(self.data_start), size: field(len) };
        self.node[room(self.items * size_of::<Item>())..][..size_of::<Item>()].copy_from_slice(item.as_bytes());
        fill(&mut self.node[room(self.data_start)..][..len]);
        self.items += 1;
    }
}

/// The bytes that `nodes` nodes take.
pub fn bytes(nodes: u64) -> u64 {
    nodes * NODE_SIZE
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const STAMP: Stamp = Stamp { filesystem: Uuid::from_u128(1), chunk_tree: Uuid::from_u128(2), owner: 5 };

    fn items(count: u64, len: usize, sink: &mut impl Sink) {
        (0..count).for_each(|i| sink.put(Key::new(i, 1, 0), len, |data| data.fill(7)));
    }

    fn encode(count: u64, len: usize) -> (Shape, Vec<(u64, Vec<u8>)>) {
        let mut nodes = Vec::new();
        let mut emit = |at: LogicalAddress, node: &[u8]| -> Result<(), Infallible> {
            nodes.push((at.0, node.to_vec()));
            Ok(())
        };
        let address = |index| LogicalAddress(100 + index * NODE_SIZE);
        let mut encoder = Encoder::new(STAMP, &address, &mut emit);
        items(count, len, &mut encoder);
        let shape = encoder.finish().unwrap();
        (shape, nodes)
    }

    /// All keys below the node at `index`, in order.
    fn walk(nodes: &[(u64, Vec<u8>)], index: usize, keys: &mut Vec<u64>) {
        let (at, node) = &nodes[index];
        let header = Header::ref_from_prefix(node).unwrap().0;
        assert_eq!(header.bytenr.get(), *at);
        assert_eq!(header.csum, csum::field(csum::of_block(&node[32..])));
        let count = header.nritems.get() as usize;
        let body = &node[size_of::<Header>()..];
        if header.level == 0 {
            for item in body.chunks(size_of::<Item>()).take(count) {
                let item = Item::read_from_bytes(item).unwrap();
                let (offset, size) = (item.offset.get() as usize, item.size.get() as usize);
                assert!(body[offset..][..size].iter().all(|&byte| byte == 7));
                keys.push(item.key.objectid.get());
            }
        } else {
            for pointer in body.chunks(size_of::<KeyPtr>()).take(count) {
                let pointer = KeyPtr::read_from_bytes(pointer).unwrap();
                let child = (pointer.blockptr.get() - 100) / NODE_SIZE;
                assert_eq!(pointer.key.objectid.get(), keys.len() as u64);
                walk(nodes, usize::try_from(child).unwrap(), keys);
            }
        }
    }

    #[test]
    fn every_item_is_found_from_the_root() {
        for (count, len) in [(0, 0), (1, 100), (400, 16), (397, 16), (398, 16), (30_000, 500), (1_000, ITEM_MAX)] {
            let (shape, nodes) = encode(count, len);
            let mut counter = Counter::default();
            items(count, len, &mut counter);
            assert_eq!(counter.finish().unwrap(), shape);
            assert_eq!(shape.nodes(), nodes.len() as u64);
            let mut keys = Vec::new();
            walk(&nodes, nodes.len() - 1, &mut keys);
            assert!(keys.iter().copied().eq(0..count), "{count} of {len}");
        }
    }

    #[test]
    fn levels_are_known_by_index() {
        let shape = Shape::of_leaves(1_000);
        assert_eq!(shape, Shape(vec![1_000, 3, 1]));
        assert_eq!([0, 999, 1_000, 1_002, 1_003].map(|i| shape.level_of(i)), [0, 0, 1, 1, 2]);
        assert_eq!(shape.root_level(), 2);
        assert_eq!(Shape::of_leaves(0).nodes(), 1);
    }

    #[test]
    fn disorder_is_refused() {
        for second in [Key::new(1, 1, 5), Key::new(1, 1, 4), Key::new(1, 0, 9), Key::new(0, 9, 9)] {
            let mut counter = Counter::default();
            counter.put(Key::new(1, 1, 5), 0, |_| {});
            counter.put(second, 0, |_| {});
            counter.put(Key::new(9, 9, 9), 0, |_| {});
            let refused = TreeError::Unsorted { last: Key::new(1, 1, 5), key: second };
            assert_eq!(counter.finish(), Err(refused));
        }
        let mut counter = Counter::default();
        counter.put(Key::new(1, 1, 5), ITEM_MAX + 1, |_| {});
        assert!(matches!(counter.finish(), Err(TreeError::TooLong { .. })));
    }

    #[test]
    fn a_node_that_is_not_taken_ends_the_tree() {
        let mut emit = |_: LogicalAddress, _: &[u8]| Err("full");
        let mut encoder = Encoder::new(STAMP, &|_| LogicalAddress(0), &mut emit);
        items(1_000, 100, &mut encoder);
        assert!(matches!(encoder.finish(), Err(EncodeError::Emit("full"))));
    }
}
