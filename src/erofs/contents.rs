//! The contents of the tree's regular files, as jobs for `copy`.

use super::format::BLOCK_SIZE;
use super::layout::Layout;
use super::writer::{Gathering, WriteError};
use crate::copy::{CopyError, CopyJobs, FileList, Files, Listed, Piece};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex};
use crate::units::ByteOffset;

/// Regular files with contents, in the order of their places.
pub struct Contents<'a> {
    layout: &'a Layout,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    /// Takes the ends of files that are among the metadata.
    ends: Option<&'a Gathering<'a>>,
    /// Whether whole blocks are moved.
    moves_blocks: bool,
    files: FileList<'a>,
}

/// The end of a file among the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where it is on the disk.
    pub at: ByteOffset,
    /// The index of the file.
    pub file: usize,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl<'a> Contents<'a> {
    /// Files with whole blocks, of which only those are moved. The filesystem starts at byte `start` of the image file;
    /// some files may come from `old`.
    pub fn of_blocks(layout: &'a Layout, tree: &'a FileTree, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        Self::new(layout, tree, start, old, |node| layout.shape(tree, node).blocks > 0)
    }

    /// Files of which an end is among the metadata. They have no pieces.
    pub fn with_ends(layout: &'a Layout, tree: &'a FileTree, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        let files = Self::new(layout, tree, start, old, |node| layout.shape(tree, node).inline > 0);
        Self { moves_blocks: false, ..files }
    }

    /// The same; `ends` takes those ends.
    pub fn ends_for(
        layout: &'a Layout,
        tree: &'a FileTree,
        start: ByteOffset,
        old: Option<&'a dyn Opener>,
        ends: &'a Gathering<'a>,
    ) -> Self {
        Self { ends: Some(ends), ..Self::with_ends(layout, tree, start, old) }
    }

    /// All files; `ends` takes what is to be among the metadata.
    pub fn all(
        layout: &'a Layout,
        tree: &'a FileTree,
        start: ByteOffset,
        old: Option<&'a dyn Opener>,
        ends: &'a Gathering<'a>,
    ) -> Self {
        Self { ends: Some(ends), ..Self::new(layout, tree, start, old, |_| true) }
    }

    fn new(
        layout: &'a Layout,
        tree: &'a FileTree,
        start: ByteOffset,
        old: Option<&'a dyn Opener>,
        is_meant: impl Fn(NodeIndex) -> bool,
    ) -> Self {
        let files = FileList::of(tree, tree.nodes().filter(|node| is_meant(*node)), old);
        Self { layout, start, ends: None, moves_blocks: true, files }
    }

    /// The ends of the files that are among the metadata.
    pub fn ends(&self) -> impl Iterator<Item = End> + '_ {
        (0..self.len()).filter_map(|file| self.end(file))
    }

    fn end(&self, file: usize) -> Option<End> {
        let node = self.files.node(file);
        let shape = self.layout.shape(self.files.tree(), node);
        let at = self.layout.inode_at(node).0 + shape.form.size() as u64;
        let end = End { at: ByteOffset(self.start.0 + at), file, offset: shape.in_blocks(), len: shape.inline as u64 };
        (shape.inline > 0).then_some(end)
    }
}

impl Listed for Contents<'_> {
    fn files(&self) -> &FileList<'_> {
        &self.files
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let node = self.files.node(index);
        match self.layout.shape(self.files.tree(), node).blocks {
            0 => Vec::new(),
            _ if !self.moves_blocks => Vec::new(),
            blocks => {
                let destination = ByteOffset(self.start.0 + self.layout.start(node).0 * BLOCK_SIZE);
                vec![Piece { destination, len: blocks * BLOCK_SIZE }]
            }
        }
    }

    fn keeps_rest(&self) -> bool {
        self.ends.is_some()
    }

    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        let Some(ends) = self.ends else { return Ok(()) };
        let node = self.files.node(index);
        // Of a file without pieces here it is all of it.
        let before = contents.len() - self.layout.shape(self.files.tree(), node).inline;
        ends.put(node, &contents[before..]).map_err(|error| match error {
            WriteError::Io { block, source } => {
                let offset = ByteOffset(self.start.0 + block.0 * BLOCK_SIZE);
                CopyError::Write { path: self.source(index).into_path(), offset, source }
            }
            WriteError::Cancelled(cancelled) => CopyError::Cancelled(cancelled),
        })
    }
}
