//! Directories: one linear block, or a hash tree of blocks.
//!
//! A directory that fits in one block lists its entries there by name. A larger one is an htree: block 0 is
//! the root, inner nodes (if any) follow, then the leaves, which hold the entries sorted by the hash of their
//! names and packed full. Source: the kernel's `Documentation/filesystems/ext4/directory.rst`.

use std::ops::Range;

use zerocopy::IntoBytes;

use super::InodeNumber;
use super::checksum::Checksum;
use super::format::{
    self, BLOCK_BYTES, DirectoryEntry, DirectoryTail, HtreeCount, HtreeEntry, HtreeRootInfo, HtreeTail,
};
use super::hash::{HashSeed, NameHash};

/// Bytes of a leaf block that entries may use: all but the checksum.
const LEAF_BYTES: usize = BLOCK_BYTES - size_of::<DirectoryTail>();
/// Bytes of `.` or `..` with their padded names.
const DOT_BYTES: usize = 12;
/// Where the entries of an htree root start: after `.`, `..` and the root info.
const ROOT_ENTRIES_OFFSET: usize = 2 * DOT_BYTES + size_of::<HtreeRootInfo>();
/// Where the entries of an inner htree node start: after an unused directory entry.
const NODE_ENTRIES_OFFSET: usize = size_of::<DirectoryEntry>();
/// Entries of an htree root, its count included.
const ROOT_LIMIT: usize = htree_limit(ROOT_ENTRIES_OFFSET);
/// Entries of an inner htree node, its count included.
const NODE_LIMIT: usize = htree_limit(NODE_ENTRIES_OFFSET);
/// The most leaves of a tree with one inner level, the deepest that a kernel reads without `large_dir`.
const MAX_LEAVES: usize = ROOT_LIMIT * NODE_LIMIT;

const fn htree_limit(entries_offset: usize) -> usize {
    (BLOCK_BYTES - entries_offset - size_of::<HtreeTail>()) / size_of::<HtreeEntry>()
}

/// More entries than an htree without `large_dir` can index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyEntries;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What the name leads to.
    pub inode: InodeNumber,
    /// One of [`format::TYPE_REGULAR`], [`format::TYPE_DIRECTORY`], [`format::TYPE_SYMLINK`].
    pub file_type: u8,
    /// 1 to 255 bytes.
    pub name: &'a [u8],
}

impl Entry<'_> {
    /// The bytes that the entry needs: its head and its name, padded to four.
    fn len(&self) -> usize {
        (size_of::<DirectoryEntry>() + self.name.len()).next_multiple_of(4)
    }
}

/// A directory's own inode, its parent's, and its entries but `.` and `..`.
#[derive(Clone, Debug)]
pub struct Directory<'a> {
    /// What `.` leads to.
    pub inode: InodeNumber,
    /// What `..` leads to.
    pub parent: InodeNumber,
    /// All others, sorted by name.
    pub entries: Vec<Entry<'a>>,
}

/// How a directory's entries are spread over blocks.
#[derive(Clone, Debug)]
pub enum Shape {
    /// All in one block, in the order given.
    Linear,
    /// In leaves below an htree.
    Indexed {
        /// The entries by hash: each with its index in [`Directory::entries`].
        order: Vec<(NameHash, u32)>,
        /// Which part of `order` stands in each leaf.
        leaves: Vec<Range<usize>>,
    },
}

impl Shape {
    /// The number of blocks.
    pub fn blocks(&self) -> u32 {
        let blocks = match self {
            Self::Linear => 1,
            Self::Indexed { leaves, .. } => 1 + inner_nodes(leaves.len()) + leaves.len(),
        };
        u32::try_from(blocks).expect("an htree has at most MAX_LEAVES leaves")
    }
}

/// Nodes between the root and so many leaves; none while the root can hold them all.
fn inner_nodes(leaves: usize) -> usize {
    if leaves <= ROOT_LIMIT { 0 } else { leaves.div_ceil(NODE_LIMIT) }
}

impl Directory<'_> {
    /// Decides how the entries are spread over blocks.
    pub fn shape(&self, seed: HashSeed) -> Result<Shape, TooManyEntries> {
        let bytes: usize = self.entries.iter().map(Entry::len).sum();
        if 2 * DOT_BYTES + bytes <= LEAF_BYTES {
            return Ok(Shape::Linear);
        }
        let mut order: Vec<_> = (0..).zip(&self.entries).map(|(i, entry)| (seed.hash(entry.name), i)).collect();
        order.sort_unstable();
        let leaves = self.pack(&order);
        if leaves.len() > MAX_LEAVES { Err(TooManyEntries) } else { Ok(Shape::Indexed { order, leaves }) }
    }

    /// Cuts the entries in hash order into leaves, each as full as it gets.
    fn pack(&self, order: &[(NameHash, u32)]) -> Vec<Range<usize>> {
        let mut leaves = Vec::new();
        let (mut start, mut used) = (0, 0);
        for (at, &(_, index)) in order.iter().enumerate() {
            let len = self.entries[index as usize].len();
            if used + len > LEAF_BYTES {
                leaves.push(start..at);
                (start, used) = (at, 0);
            }
            used += len;
        }
        leaves.push(start..order.len());
        leaves
    }

    /// The blocks of the directory, end to end. `owner` is the checksum key of the directory's inode.
    pub fn encode(&self, shape: &Shape, owner: Checksum) -> Vec<u8> {
        match shape {
            Shape::Linear => {
                let entries = self.dots().into_iter().chain(self.entries.iter().copied());
                leaf_block(entries, owner).to_vec()
            }
            Shape::Indexed { order, leaves } => self.encode_indexed(order, leaves, owner),
        }
    }

    fn encode_indexed(&self, order: &[(NameHash, u32)], leaves: &[Range<usize>], owner: Checksum) -> Vec<u8> {
        let inner = inner_nodes(leaves.len());
        let leaf_entries: Vec<(u32, usize)> =
            leaves.iter().enumerate().map(|(i, leaf)| (leaf_key(order, leaf), 1 + inner + i)).collect();
        let mut out = Vec::with_capacity((1 + inner + leaves.len()) * BLOCK_BYTES);
        if inner == 0 {
            out.extend_from_slice(&self.root_block(&leaf_entries, 0, owner));
        } else {
            let nodes: Vec<_> = leaf_entries.chunks(NODE_LIMIT).collect();
            let node_entries: Vec<_> = nodes.iter().enumerate().map(|(i, node)| (node[0].0, 1 + i)).collect();
            out.extend_from_slice(&self.root_block(&node_entries, 1, owner));
            nodes.iter().for_each(|node| out.extend_from_slice(&node_block(node, owner)));
        }
        for leaf in leaves {
            let entries = order[leaf.clone()].iter().map(|&(_, index)| self.entries[index as usize]);
            out.extend_from_slice(&leaf_block(entries, owner));
        }
        out
    }

    fn dots(&self) -> [Entry<'static>; 2] {
        let dot = |inode, name| Entry { inode, file_type: format::TYPE_DIRECTORY, name };
        [dot(self.inode, b"."), dot(self.parent, b"..")]
    }

    fn root_block(&self, entries: &[(u32, usize)], indirect_levels: u8, owner: Checksum) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let [dot, dot_dot] = self.dots();
        write_entry(&mut block, dot, DOT_BYTES);
        // To a kernel without htrees the rest of the block looks like the slack of `..`.
        write_entry(&mut block[DOT_BYTES..], dot_dot, BLOCK_BYTES - DOT_BYTES);
        let info = HtreeRootInfo {
            reserved_zero: 0.into(),
            hash_version: format::HASH_HALF_MD4,
            info_length: 8,
            indirect_levels,
            unused_flags: 0,
        };
        block[2 * DOT_BYTES..ROOT_ENTRIES_OFFSET].copy_from_slice(info.as_bytes());
        write_htree_entries(&mut block, ROOT_ENTRIES_OFFSET, ROOT_LIMIT, entries, owner);
        block
    }
}

/// The block that a directory has when it holds nothing, not even `.`: room kept for later, as in `lost+found`.
pub fn empty_block(owner: Checksum) -> [u8; BLOCK_BYTES] {
    leaf_block([], owner)
}

/// The hash by which an htree finds a leaf; bit 0 says that the leaf before it ends with the same hash.
fn leaf_key(order: &[(NameHash, u32)], leaf: &Range<usize>) -> u32 {
    let first = order[leaf.start].0.major;
    let continued = leaf.start > 0 && order[leaf.start - 1].0.major == first;
    first | u32::from(continued)
}

fn leaf_block<'a>(entries: impl IntoIterator<Item = Entry<'a>>, owner: Checksum) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let (mut at, mut last) = (0, None);
    for entry in entries {
        write_entry(&mut block[at..], entry, entry.len());
        last = Some((at, entry));
        at += entry.len();
    }
    // The last entry owns the slack; an empty block is one unused entry.
    let (at, entry) = last.unwrap_or((0, Entry { inode: InodeNumber(0), file_type: 0, name: b"" }));
    write_entry(&mut block[at..], entry, LEAF_BYTES - at);
    let tail = DirectoryTail {
        reserved_zero1: 0.into(),
        rec_len: rec_len(size_of::<DirectoryTail>()).into(),
        reserved_zero2: 0,
        reserved_ft: format::DIRECTORY_TAIL_TYPE,
        checksum: owner.with(&block[..LEAF_BYTES]).value().into(),
    };
    block[LEAF_BYTES..].copy_from_slice(tail.as_bytes());
    block
}

fn node_block(entries: &[(u32, usize)], owner: Checksum) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    write_entry(&mut block, Entry { inode: InodeNumber(0), file_type: 0, name: b"" }, BLOCK_BYTES);
    write_htree_entries(&mut block, NODE_ENTRIES_OFFSET, NODE_LIMIT, entries, owner);
    block
}

fn write_entry(out: &mut [u8], entry: Entry<'_>, len: usize) {
    let head = DirectoryEntry {
        inode: entry.inode.0.into(),
        rec_len: rec_len(len).into(),
        name_len: u8::try_from(entry.name.len()).expect("the tree refuses names over 255 bytes"),
        file_type: entry.file_type,
    };
    let (head_bytes, name) = out.split_at_mut(size_of::<DirectoryEntry>());
    head_bytes.copy_from_slice(head.as_bytes());
    name[..entry.name.len()].copy_from_slice(entry.name);
}

fn rec_len(len: usize) -> u16 {
    u16::try_from(len).expect("no entry is longer than its block")
}

/// Writes the (hash, block) pairs of an htree node, then the checksum over what is in use.
fn write_htree_entries(
    block: &mut [u8; BLOCK_BYTES],
    offset: usize,
    limit: usize,
    entries: &[(u32, usize)],
    owner: Checksum,
) {
    let count = |n: usize| u16::try_from(n).expect("a block holds at most 510 htree entries").into();
    for (slot, &(hash, child)) in block[offset..].chunks_exact_mut(size_of::<HtreeEntry>()).zip(entries) {
        let child = u32::try_from(child).expect("an htree has at most MAX_LEAVES leaves");
        slot.copy_from_slice(HtreeEntry { hash: hash.into(), block: child.into() }.as_bytes());
    }
    // The first entry covers all hashes below the second's; its hash gives way to the counts.
    let counts = HtreeCount { limit: count(limit), count: count(entries.len()) };
    block[offset..offset + size_of::<HtreeCount>()].copy_from_slice(counts.as_bytes());
    let in_use = offset + entries.len() * size_of::<HtreeEntry>();
    let unsummed_tail = [0; size_of::<HtreeTail>()];
    let checksum = owner.with(&block[..in_use]).with(&unsummed_tail).value();
    let tail = HtreeTail { reserved: 0.into(), checksum: checksum.into() };
    let end = offset + limit * size_of::<HtreeEntry>();
    block[end..end + size_of::<HtreeTail>()].copy_from_slice(tail.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, len: usize) -> Vec<String> {
        (0..count).map(|i| format!("{i:0len$}")).collect()
    }

    fn directory(names: &[String]) -> Directory<'_> {
        let entries = names.iter().map(|name| Entry {
            inode: InodeNumber(12),
            file_type: format::TYPE_REGULAR,
            name: name.as_bytes(),
        });
        Directory { inode: InodeNumber(2), parent: InodeNumber(2), entries: entries.collect() }
    }

    fn blocks(names: &[String]) -> u32 {
        let directory = directory(names);
        let shape = directory.shape(HashSeed([1; 4])).unwrap();
        let encoded = directory.encode(&shape, Checksum::EMPTY);
        assert_eq!(encoded.len(), shape.blocks() as usize * BLOCK_BYTES);
        shape.blocks()
    }

    #[test]
    fn a_block_holds_what_fits_to_the_byte() {
        // 24 bytes of dots, then 12 bytes an entry: (4084 - 24) / 12 = 338 and 4 bytes over.
        assert_eq!(blocks(&names(338, 4)), 1);
        assert_eq!(blocks(&names(339, 4)), 1 + 1);
        assert_eq!(blocks(&names(341, 4)), 1 + 2);
    }

    #[test]
    fn inner_nodes_come_when_the_root_is_full() {
        // 15 entries of 264 bytes a leaf.
        assert_eq!(blocks(&names(15 * ROOT_LIMIT, 255)), 1 + 507);
        assert_eq!(blocks(&names(15 * ROOT_LIMIT + 1, 255)), 1 + 1 + 508);
        assert_eq!(blocks(&names(15 * NODE_LIMIT + 1, 255)), 1 + 2 + 511);
    }

    #[test]
    fn a_leaf_that_continues_a_hash_says_so() {
        let hash = |major| NameHash { major, minor: 0 };
        let order = [(hash(2), 0), (hash(4), 1), (hash(4), 2)];
        assert_eq!(leaf_key(&order, &(1..2)), 4);
        assert_eq!(leaf_key(&order, &(2..3)), 5);
    }
}
