//! Files of a tree, as the jobs of every filesystem have them.

use super::jobs::{Files, Observer};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};

/// Regular files with contents, in the order of their places.
pub struct FileList<'a> {
    tree: &'a FileTree,
    /// Where files come from that are not the host's.
    old: Option<&'a dyn Opener>,
    nodes: Vec<NodeIndex>,
    total_bytes: u64,
}

impl<'a> FileList<'a> {
    /// All of a tree, in its order; some may come from `old`.
    pub fn all(tree: &'a FileTree, old: Option<&'a dyn Opener>) -> Self {
        Self::of(tree, tree.nodes(), old)
    }

    /// Those among some nodes of a tree.
    pub fn of(tree: &'a FileTree, nodes: impl Iterator<Item = NodeIndex>, old: Option<&'a dyn Opener>) -> Self {
        let nodes: Vec<_> = nodes.filter(|&node| size(tree, node) > 0).collect();
        let total_bytes = nodes.iter().map(|&node| size(tree, node)).sum();
        Self { tree, old, nodes, total_bytes }
    }

    /// The node of the file at `index`.
    pub fn node(&self, index: usize) -> NodeIndex {
        self.nodes[index]
    }

    /// The sum of their lengths in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The tree that they are files of.
    pub fn tree(&self) -> &'a FileTree {
        self.tree
    }
}

/// The length of a regular file in bytes; 0 of all else.
fn size(tree: &FileTree, node: NodeIndex) -> u64 {
    match tree.kind(node) {
        NodeKind::File { size } => size,
        NodeKind::Directory | NodeKind::Symlink(_) => 0,
    }
}

/// Jobs whose files are those of a list.
pub trait Listed: Sync {
    /// The list.
    fn files(&self) -> &FileList<'_>;

    /// The observer of the bytes that are written, as [`Files::observer`] has it.
    fn observer(&self) -> Option<&dyn Observer> {
        None
    }
}

impl<Jobs: Listed> Files for Jobs {
    fn len(&self) -> usize {
        self.files().nodes.len()
    }

    fn size(&self, index: usize) -> u64 {
        size(self.files().tree, self.files().node(index))
    }

    fn source(&self, index: usize) -> Origin {
        let FileList { tree, nodes, .. } = self.files();
        tree.origin(nodes[index]).expect("every file of a tree comes from somewhere")
    }

    fn image(&self) -> Option<&dyn Opener> {
        self.files().old
    }

    fn total_bytes(&self) -> u64 {
        self.files().total_bytes()
    }

    fn observer(&self) -> Option<&dyn Observer> {
        Listed::observer(self)
    }
}
