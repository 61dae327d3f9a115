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
use crate::copy::{CopyError, CopyJobs, FileList, Listed, Observer, Piece};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex};
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

/// Contents that are stored as they are.
pub struct Contents<'a> {
    layout: &'a Layout,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    files: FileList<'a>,
    learnt: &'a Learnt,
}

impl<'a> Contents<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file; some may come from `old`.
    pub fn new(
        layout: &'a Layout,
        tree: &'a FileTree,
        start: ByteOffset,
        old: Option<&'a dyn Opener>,
        learnt: &'a Learnt,
    ) -> Self {
        Self { layout, start, files: FileList::all(tree, old), learnt }
    }
}

impl Listed for Contents<'_> {
    fn files(&self) -> &FileList<'_> {
        &self.files
    }

    fn observer(&self) -> Option<&dyn Observer> {
        Some(self)
    }
}

impl CopyJobs for Contents<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let extents = self.layout.extents(self.files.tree(), self.files.node(index));
        let piece = |extent: super::placement::Extent| Piece {
            destination: ByteOffset(self.start.0 + extent.address.0),
            len: extent.stored,
        };
        extents.map(piece).collect()
    }

    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        let node = self.files.node(index);
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
