//! The contents of the regular files, as jobs for `copy`; and what the metadata needs of their bytes: checksums and
//! small files.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::LogicalAddress;
use super::csum;
use super::format::SECTOR_SIZE;
use super::layout::Layout;
use super::placement::Place;
use super::space::{DataSpace, Sector};
use crate::copy::{CopyError, CopyJobs, Files, Observer, Piece};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};
use crate::units::ByteOffset;

/// Files that stand in a leaf, as stored, each with its node.
pub type InlineContents = Vec<(NodeIndex, Box<[u8]>)>;

/// What the metadata needs to know about contents. It is found out while they are copied.
#[derive(Debug)]
pub struct Learnt {
    /// Of each sector of the data chunks.
    checksums: Vec<AtomicU32>,
    /// The files that stand in a leaf, as stored, by node.
    inline: Mutex<InlineContents>,
}

impl Learnt {
    /// For contents in the first `sectors` sectors of which nothing is known yet: they count as zeros.
    pub fn new(sectors: u64) -> Self {
        let zeros = csum::of_zeros();
        let checksums = (0..sectors).map(|_| AtomicU32::new(zeros)).collect();
        Self { checksums, inline: Mutex::default() }
    }

    /// The checksum of a sector.
    pub fn checksum(&self, sector: Sector) -> u32 {
        self.checksums[index(sector.0)].load(Ordering::Relaxed)
    }

    /// Notes the checksums of what lands from an address on.
    pub fn note(&self, space: DataSpace, address: LogicalAddress, pages: &[u8]) {
        let Sector(first) = space.sector(address);
        for (page, sector) in pages.chunks(index(SECTOR_SIZE)).zip(first..) {
            self.checksums[index(sector)].store(csum::of_block(page), Ordering::Relaxed);
        }
    }

    /// Keeps the contents of a file that stands in a leaf.
    pub fn keep(&self, node: NodeIndex, contents: Vec<u8>) {
        let mut inline = self.inline.lock().unwrap_or_else(PoisonError::into_inner);
        inline.push((node, contents.into_boxed_slice()));
    }

    /// The checksums by sector, and all files that stand in a leaf, by node.
    pub fn into_parts(self) -> (Vec<AtomicU32>, InlineContents) {
        let mut inline = self.inline.into_inner().unwrap_or_else(PoisonError::into_inner);
        inline.sort_unstable_by_key(|(node, _)| *node);
        (self.checksums, inline)
    }
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("64-bit addresses")
}

/// Every regular file with contents, in the order of the tree.
pub(super) struct FileList {
    pub(super) nodes: Vec<NodeIndex>,
    pub(super) total_bytes: u64,
}

impl FileList {
    pub(super) fn new(tree: &FileTree) -> Self {
        let (mut nodes, mut total_bytes) = (Vec::new(), 0);
        for node in tree.nodes() {
            if let NodeKind::File { size: size @ 1.. } = tree.kind(node) {
                nodes.push(node);
                total_bytes += size;
            }
        }
        Self { nodes, total_bytes }
    }

    pub(super) fn size(&self, tree: &FileTree, index: usize) -> u64 {
        match tree.kind(self.nodes[index]) {
            NodeKind::File { size } => size,
            _ => unreachable!("only files were taken"),
        }
    }

    pub(super) fn source(&self, tree: &FileTree, index: usize) -> Origin {
        tree.origin(self.nodes[index]).expect("every file of a tree comes from somewhere")
    }
}

/// Contents that are stored as they are.
pub struct Contents<'a> {
    layout: &'a Layout,
    tree: &'a FileTree,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    /// Where files come from that are not the host's.
    old: Option<&'a dyn Opener>,
    files: FileList,
    learnt: &'a Learnt,
}

impl<'a> Contents<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file.
    pub fn new(layout: &'a Layout, tree: &'a FileTree, start: ByteOffset, learnt: &'a Learnt) -> Self {
        Self { layout, tree, start, old: None, files: FileList::new(tree), learnt }
    }

    /// The same, some of which may come from `old`.
    pub fn with_old(self, old: Option<&'a dyn Opener>) -> Self {
        Self { old, ..self }
    }
}

impl Files for Contents<'_> {
    fn len(&self) -> usize {
        self.files.nodes.len()
    }

    fn size(&self, index: usize) -> u64 {
        self.files.size(self.tree, index)
    }

    fn source(&self, index: usize) -> Origin {
        self.files.source(self.tree, index)
    }

    fn image(&self) -> Option<&dyn Opener> {
        self.old
    }

    fn total_bytes(&self) -> u64 {
        self.files.total_bytes
    }

    fn observer(&self) -> Option<&dyn Observer> {
        Some(self)
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let extents = self.layout.extents(self.tree, self.files.nodes[index]);
        let piece = |extent: super::placement::Extent| Piece {
            destination: ByteOffset(self.start.0 + extent.address.0),
            len: extent.stored,
        };
        extents.map(piece).collect()
    }

    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        let node = self.files.nodes[index];
        debug_assert!(matches!(self.layout.placement.place(node), Place::Inline { .. }));
        self.learnt.keep(node, contents);
        Ok(())
    }
}

impl Observer for Contents<'_> {
    fn landed(&self, at: ByteOffset, pages: &[u8]) {
        self.learnt.note(self.layout.placement.space, LogicalAddress(at.0 - self.start.0), pages);
    }
}
