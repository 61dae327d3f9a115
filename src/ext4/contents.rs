//! The contents of the tree's regular files, as jobs for `copy`.

use super::format::BLOCK_SIZE;
use super::layout::Layout;
use crate::copy::{CopyJobs, FileList, Listed, Piece};
use crate::read::Opener;
use crate::source::tree::FileTree;
use crate::units::ByteOffset;

/// Every regular file with contents, in the order of their places.
pub struct Contents<'a> {
    layout: &'a Layout,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    files: FileList<'a>,
}

impl<'a> Contents<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file; some may come from `old`.
    pub fn new(layout: &'a Layout, tree: &'a FileTree, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        Self { layout, start, files: FileList::all(tree, old) }
    }
}

impl Listed for Contents<'_> {
    fn files(&self) -> &FileList<'_> {
        &self.files
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let pieces = self.layout.contents(self.files.node(index)).map(|extent| Piece {
            destination: ByteOffset(self.start.0 + extent.physical.0 * BLOCK_SIZE),
            len: u64::from(extent.blocks) * BLOCK_SIZE,
        });
        pieces.collect()
    }
}
