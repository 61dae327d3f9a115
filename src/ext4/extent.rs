//! Extent trees: the map from the blocks of a file to those of the disk.
//!
//! Four extents fit in the inode. More extents go into blocks of 340 entries each. These form a tree that is built from
//! the leaves up. The blocks of the tree stand in the stream right after the contents of the file. Before the contents,
//! they would move the contents, and so change the number of extents that the tree must hold. Source: the kernel's
//! `Documentation/filesystems/ext4/ifork.rst`, "Extent Tree".

use zerocopy::IntoBytes;

use super::BlockIndex;
use super::checksum::Checksum;
use super::format::{self, BLOCK_BYTES, ExtentHeader, ExtentIndex};
use super::space::{Extent, Run, Space};

/// Entries that fit in the inode itself, after the header.
const ROOT_ENTRIES: usize = 4;
/// Entries that fit in a block between the header and the checksum.
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - 12 - 4) / 12;

/// What `i_block` holds, and the tree blocks that it leads to.
#[derive(Clone, Debug)]
pub struct ExtentTree {
    /// The root, as it stands in the inode.
    pub root: [u8; 60],
    /// Each tree block with its place on disk.
    pub blocks: Vec<(BlockIndex, Box<[u8; BLOCK_BYTES]>)>,
}

/// How many blocks outside the inode the tree of these contents needs.
pub fn tree_blocks(space: &Space, data: Run) -> u32 {
    let mut entries = space.extents(data).count();
    let mut blocks = 0;
    while entries > ROOT_ENTRIES {
        entries = entries.div_ceil(BLOCK_ENTRIES);
        blocks += entries;
    }
    u32::try_from(blocks).expect("a file has at most 2^32 blocks, so fewer extents and far fewer tree blocks")
}

/// Builds the tree of a file whose tree blocks are `tree` and whose contents are `data`.
///
/// `owner` is the checksum that everything of this inode starts from.
pub fn build(space: &Space, tree: Run, data: Run, owner: Checksum) -> ExtentTree {
    let mut free = (0..tree.blocks).map(|i| space.block(tree.skip(i).start));
    let mut blocks = Vec::new();
    let mut depth = 0;
    let mut level: Vec<Entry> = space.extents(data).map(Entry::leaf).collect();
    while level.len() > ROOT_ENTRIES {
        level = level
            .chunks(BLOCK_ENTRIES)
            .map(|entries| {
                let place = free.next().expect("tree_blocks() counted every node of every level");
                blocks.push((place, node_block(entries, depth, owner)));
                Entry::index(entries[0].first, place)
            })
            .collect();
        depth += 1;
    }
    let mut root = [0; 60];
    write_node(&mut root, &level, ROOT_ENTRIES, depth);
    ExtentTree { root, blocks }
}

/// One entry of a node, of either kind, with the first file block it covers.
#[derive(Clone, Copy)]
struct Entry {
    first: u32,
    bytes: [u8; 12],
}

impl Entry {
    fn leaf(extent: Extent) -> Self {
        let on_disk = format::Extent {
            block: extent.logical.into(),
            len: extent.blocks.into(),
            start_hi: high_half(extent.physical).into(),
            start_lo: extent.physical.low().into(),
        };
        Self { first: extent.logical, bytes: zerocopy::transmute!(on_disk) }
    }

    fn index(first: u32, place: BlockIndex) -> Self {
        let on_disk = ExtentIndex {
            block: first.into(),
            leaf_lo: place.low().into(),
            leaf_hi: high_half(place).into(),
            unused: 0.into(),
        };
        Self { first, bytes: zerocopy::transmute!(on_disk) }
    }
}

/// Bits 32 to 47 of a block number, all that an extent has room for.
fn high_half(block: BlockIndex) -> u16 {
    u16::try_from(block.high()).expect("Geometry has at most 2^32 groups of 2^15 blocks: 47 bits")
}

fn node_block(entries: &[Entry], depth: u16, owner: Checksum) -> Box<[u8; BLOCK_BYTES]> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    let tail = BLOCK_BYTES - 4;
    write_node(&mut block[..tail], entries, BLOCK_ENTRIES, depth);
    let checksum = owner.with(&block[..tail]).value();
    block[tail..].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn write_node(out: &mut [u8], entries: &[Entry], max: usize, depth: u16) {
    let count = |n: usize| u16::try_from(n).expect("a node has at most 340 entries").into();
    let header = ExtentHeader {
        magic: format::EXTENT_MAGIC.into(),
        entries: count(entries.len()),
        max: count(max),
        depth: depth.into(),
        generation: 0.into(),
    };
    out[..12].copy_from_slice(header.as_bytes());
    for (slot, entry) in out[12..].chunks_exact_mut(12).zip(entries) {
        slot.copy_from_slice(&entry.bytes);
    }
}
