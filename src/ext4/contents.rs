//! The contents of the tree's regular files, as jobs for `copy`.

use super::format::BLOCK_SIZE;
use super::layout::Layout;
use crate::copy::{CopyJobs, Files, Piece};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};
use crate::units::ByteOffset;

/// Every regular file with contents, in the order of their places.
pub struct Contents<'a> {
    layout: &'a Layout,
    tree: &'a FileTree,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    /// Where files come from that are not the host's.
    old: Option<&'a dyn Opener>,
    files: Vec<NodeIndex>,
    total_bytes: u64,
}

impl<'a> Contents<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file; some may come from `old`.
    pub fn new(layout: &'a Layout, tree: &'a FileTree, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        let mut total_bytes = 0;
        let mut files = Vec::new();
        for node in tree.nodes() {
            if let NodeKind::File { size: size @ 1.. } = tree.kind(node) {
                files.push(node);
                total_bytes += size;
            }
        }
        Self { layout, tree, start, old, files, total_bytes }
    }
}

impl Files for Contents<'_> {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn size(&self, index: usize) -> u64 {
        let NodeKind::File { size } = self.tree.kind(self.files[index]) else { unreachable!("only files were taken") };
        size
    }

    fn source(&self, index: usize) -> Origin {
        self.tree.origin(self.files[index]).expect("every file of a tree comes from somewhere")
    }

    fn image(&self) -> Option<&dyn Opener> {
        self.old
    }

    fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let pieces = self.layout.contents(self.files[index]).map(|extent| Piece {
            destination: ByteOffset(self.start.0 + extent.physical.0 * BLOCK_SIZE),
            len: u64::from(extent.blocks) * BLOCK_SIZE,
        });
        pieces.collect()
    }
}
