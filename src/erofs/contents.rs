//! The contents of the tree's regular files, as jobs for `copy`.

use super::format::BLOCK_SIZE;
use super::layout::Layout;
use super::writer::{Gathering, WriteError};
use crate::copy::{CopyError, CopyJobs, Files, Piece};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};
use crate::units::ByteOffset;

/// Regular files with contents, in the order of their places.
pub struct Contents<'a> {
    layout: &'a Layout,
    tree: &'a FileTree,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    /// Where files come from that are not the host's.
    old: Option<&'a dyn Opener>,
    /// Takes the ends of files that are among the metadata.
    ends: Option<&'a Gathering<'a>>,
    /// Whether whole blocks are moved.
    moves_blocks: bool,
    files: Vec<NodeIndex>,
    total_bytes: u64,
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
        let mut total_bytes = 0;
        let mut files = Vec::new();
        for node in tree.nodes() {
            if let NodeKind::File { size: size @ 1.. } = tree.kind(node)
                && is_meant(node)
            {
                files.push(node);
                total_bytes += size;
            }
        }
        Self { layout, tree, start, old, ends: None, moves_blocks: true, files, total_bytes }
    }

    /// The ends of the files that are among the metadata.
    pub fn ends(&self) -> impl Iterator<Item = End> + '_ {
        (0..self.files.len()).filter_map(|file| self.end(file))
    }

    fn end(&self, file: usize) -> Option<End> {
        let node = self.files[file];
        let shape = self.layout.shape(self.tree, node);
        let at = self.layout.inode_at(node).0 + shape.form.size() as u64;
        let end = End { at: ByteOffset(self.start.0 + at), file, offset: shape.in_blocks(), len: shape.inline as u64 };
        (shape.inline > 0).then_some(end)
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
        let node = self.files[index];
        match self.layout.shape(self.tree, node).blocks {
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
        let node = self.files[index];
        // Of a file without pieces here it is all of it.
        let before = contents.len() - self.layout.shape(self.tree, node).inline;
        ends.put(node, &contents[before..]).map_err(|error| match error {
            WriteError::Io { block, source } => {
                let offset = ByteOffset(self.start.0 + block.0 * BLOCK_SIZE);
                CopyError::Write { path: self.source(index).into_path(), offset, source }
            }
            WriteError::Cancelled(cancelled) => CopyError::Cancelled(cancelled),
        })
    }
}
