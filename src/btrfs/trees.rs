//! Where the nodes of each tree are. Pure.

use super::LogicalAddress;
use super::format::{NODE_SIZE, group, object};
use super::space::Chunks;
use super::tree::Shape;

/// A tree and the numbers of its nodes.
#[derive(Clone, Debug)]
struct Tree {
    owner: u64,
    /// The number of its first node among those of its kind of chunk.
    first: u64,
    shape: Shape,
}

/// Where the root of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its root node.
    pub address: LogicalAddress,
    /// The level of the root; leaves are at level 0.
    pub level: u8,
    /// The number of its nodes.
    pub nodes: u64,
}

/// All trees. Their nodes are numbered through: those of the chunk tree, and those of all others.
#[derive(Clone, Debug)]
pub struct Trees {
    /// The chunk tree first.
    all: Vec<Tree>,
}

impl Trees {
    pub(super) fn new(shapes: impl IntoIterator<Item = (u64, Shape)>) -> Self {
        let mut next = 0;
        let number = |(owner, shape): (u64, Shape)| {
            let first = if owner == object::CHUNK_TREE { 0 } else { next };
            next += if owner == object::CHUNK_TREE { 0 } else { shape.nodes() };
            Tree { owner, first, shape }
        };
        Self { all: shapes.into_iter().map(number).collect() }
    }

    fn get(&self, owner: u64) -> &Tree {
        self.all.iter().find(|tree| tree.owner == owner).expect("every tree that is asked for was counted")
    }

    /// The identifiers of all trees that the root tree has items for.
    pub fn in_root_tree(&self) -> impl Iterator<Item = u64> + '_ {
        let owners = self.all.iter().map(|tree| tree.owner);
        owners.filter(|owner| ![object::ROOT_TREE, object::CHUNK_TREE].contains(owner))
    }

    /// The identifiers of all trees.
    pub fn owners(&self) -> impl Iterator<Item = u64> + '_ {
        self.all.iter().map(|tree| tree.owner)
    }

    /// Where a tree's root is.
    pub fn root(&self, owner: u64, chunks: &Chunks) -> Root {
        let tree = self.get(owner);
        let nodes = tree.shape.nodes();
        Root { address: self.node(owner, nodes - 1, chunks), level: tree.shape.root_level(), nodes }
    }

    /// Where the node of this index in its tree is.
    pub fn node(&self, owner: u64, index: u64, chunks: &Chunks) -> LogicalAddress {
        chunks.node(chunk_kind(owner), self.get(owner).first + index)
    }

    /// Visits the nodes in the chunk of this kind that starts at `start`: address, tree, level.
    pub fn nodes_of(
        &self,
        kind: u64,
        chunks: &Chunks,
        start: LogicalAddress,
        mut visit: impl FnMut(LogicalAddress, u64, u8),
    ) {
        let same = chunks.iter().filter(|chunk| chunk.kind == kind);
        let before: u64 = same.take_while(|chunk| chunk.start < start).map(|chunk| chunk.used / NODE_SIZE).sum();
        let end = before + chunks.at(start).used / NODE_SIZE;
        for tree in self.all.iter().filter(|tree| chunk_kind(tree.owner) == kind) {
            let past = tree.first + tree.shape.nodes();
            for number in tree.first.max(before)..past.min(end) {
                let level = tree.shape.level_of(number - tree.first);
                visit(start.plus((number - before) * NODE_SIZE), tree.owner, level);
            }
        }
    }

    /// How many nodes there are in all chunks of a kind.
    pub(super) fn nodes(&self, kind: u64) -> u64 {
        self.all.iter().filter(|tree| chunk_kind(tree.owner) == kind).map(|tree| tree.shape.nodes()).sum()
    }
}

/// The kind of chunk that a tree's nodes are in.
fn chunk_kind(owner: u64) -> u64 {
    if owner == object::CHUNK_TREE { group::SYSTEM_DUP } else { group::METADATA_DUP }
}
