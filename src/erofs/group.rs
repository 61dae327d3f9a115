//! Parts of the metadata area, each of which is written at once. Pure.

use std::ops::Range;

use super::format::BLOCK_SIZE;
use super::layout::{Layout, Packed};
use super::placement::Place;
use super::{BlockIndex, compress, directory, indexes, inode, packing};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};

/// Nodes are put into a group until their inodes, with what follows them, have this many slots: 1 MiB.
///
/// The root is in the first group; so its number has 16 bits, as the superblock wants it.
pub(super) const SLOTS: usize = 256 * packing::SLOTS;

/// The inodes of nodes that follow one another in the tree, and what belongs to them but the blocks of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The nodes, as indices.
    pub nodes: Range<usize>,
    /// Its first block.
    pub start: BlockIndex,
    /// How many it has.
    pub blocks: u64,
    /// How many of the nodes are files whose ends are in it.
    pub ends: usize,
}

impl Group {
    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.blocks * BLOCK_SIZE).expect("the tree in memory has as many bytes")
    }

    /// Puts everything but the ends of files into `buffer`, which has zeros, and is as long as the group.
    pub fn encode(&self, layout: &Layout, tree: &FileTree, buffer: &mut [u8]) {
        for node in tree.nodes().skip(self.nodes.start).take(self.nodes.len()) {
            let inode = inode::encode(layout, tree, node);
            let at = self.inode_at(layout, node);
            put(buffer, at, &inode);
            match tree.kind(node) {
                NodeKind::File { size } => self.put_indexes(layout, node, size, at + inode.len(), buffer),
                NodeKind::Symlink(target) => self.put_contents(layout, tree, node, target.as_encoded_bytes(), buffer),
                NodeKind::Directory => {
                    let bytes = directory::encode(&layout.entries(tree, node));
                    self.put_contents(layout, tree, node, &bytes, buffer);
                }
            }
        }
    }

    /// Where in the group the bytes start that follow a node's inode.
    pub fn inline_at(&self, layout: &Layout, tree: &FileTree, node: NodeIndex) -> usize {
        self.inode_at(layout, node) + layout.shape(tree, node).form.size()
    }

    fn inode_at(&self, layout: &Layout, node: NodeIndex) -> usize {
        index(layout.inode_at(node).0 - self.start.0 * BLOCK_SIZE)
    }

    fn put_indexes(&self, layout: &Layout, node: NodeIndex, size: u64, at: usize, buffer: &mut [u8]) {
        let Some(Packed { method, placement }) = &layout.packed else { return };
        if let Place::Pieces { start, first } = placement.place(node) {
            let pieces = placement.pieces(first, size).iter().copied();
            put(buffer, at, &indexes::encode(size, start, pieces, compress::disk_id(*method)));
        }
    }

    fn put_contents(&self, layout: &Layout, tree: &FileTree, node: NodeIndex, bytes: &[u8], buffer: &mut [u8]) {
        let shape = layout.shape(tree, node);
        let (blocks, inline) = bytes.split_at(index(shape.in_blocks()));
        put(buffer, self.inline_at(layout, tree, node), inline);
        if !blocks.is_empty() {
            put(buffer, index((layout.start(node).0 - self.start.0) * BLOCK_SIZE), blocks);
        }
    }
}

impl Layout {
    /// The index of the group that a node is in.
    pub fn group_of(&self, node: NodeIndex) -> usize {
        self.groups.partition_point(|group| group.nodes.end <= node.as_usize())
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..][..bytes.len()].copy_from_slice(bytes);
}

fn index(len: u64) -> usize {
    usize::try_from(len).expect("within a group, which is in memory")
}
