//! The contents of the tree's files, and their places.

use std::ops::Range;

use super::layout::VfatLayout;
use crate::copy::{CopyJobs, FileList, Files, Listed, Piece};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::units::ByteOffset;

/// Every file with contents. Clusters may be smaller than pages, so that the engines of `copy` cannot move them.
pub struct Contents<'a> {
    layout: &'a VfatLayout,
    /// Where the filesystem starts on the disk.
    start: ByteOffset,
    files: FileList<'a>,
}

impl<'a> Contents<'a> {
    /// The contents of a filesystem that starts at byte `start` of the disk.
    pub fn new(layout: &'a VfatLayout, tree: &'a FileTree, start: ByteOffset) -> Self {
        let has_contents = |node: &NodeIndex| matches!(tree.kind(*node), NodeKind::File { size: 1.. });
        let mut files: Vec<_> = tree.nodes().filter(has_contents).collect();
        files.sort_by_key(|&node| layout.place(node).cluster);
        Self { layout, start, files: FileList::of(tree, files.into_iter(), None) }
    }
}

impl VfatLayout {
    /// The bytes of its filesystem that are the contents of a file of `tree`.
    pub fn byte_range(&self, tree: &FileTree, file: NodeIndex) -> Range<u64> {
        let size = match tree.kind(file) {
            NodeKind::File { size } => size,
            _ => 0,
        };
        let start = if size == 0 { 0 } else { self.geometry().cluster_offset(self.place(file).cluster).0 };
        start..start + size
    }
}

impl Listed for Contents<'_> {
    fn files(&self) -> &FileList<'_> {
        &self.files
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let geometry = self.layout.geometry();
        let start = geometry.cluster_offset(self.layout.place(self.files.node(index)).cluster).0;
        let len = geometry.clusters_for(self.size(index)) * geometry.cluster_size;
        vec![Piece { destination: ByteOffset(self.start.0 + start), len }]
    }
}
