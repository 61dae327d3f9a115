//! Decides every block of the filesystem, before a byte is written. Pure.

use std::ops::Range;

use thiserror::Error;
use uuid::Uuid;

use super::format::{BLOCK_BYTES, BLOCK_SIZE, DataLayout, SLOT_SIZE, file_type};
use super::group::{self, Group};
use super::indexes;
use super::inode::{self, Form};
use super::placement::{self, CONTENTS_START, Place, Placement};
use super::{BlockIndex, Nid, directory};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::spec::ErofsCompression;
use crate::units::{ByteOffset, MIB};

/// The longest volume label, in bytes: the kernel wants a NUL after it.
pub const LABEL_MAX: usize = 15;
/// The longest symlink target in bytes: with its closing NUL, the kernel's PATH_MAX.
pub const SYMLINK_MAX: usize = 4095;
/// Where the metadata area starts, unless contents are compressed: behind the block of the superblock.
const METADATA_START: BlockIndex = BlockIndex(1);
/// The most blocks that addresses of 32 bits reach, and that a map of them has room for; the last address means "none".
const MOST_BLOCKS: u64 = u32::MAX as u64;

/// A tree that EROFS cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A symlink that the kernel could not read back.
    #[error("{path}: the symlink's target has {len} bytes; EROFS holds 1 to {SYMLINK_MAX}")]
    SymlinkLength {
        /// The link, from the filesystem's root.
        path: String,
        /// The target's length in bytes.
        len: usize,
    },
    /// A time that no system has.
    #[error(
        "{path}: a time with {nanoseconds} nanoseconds, which is more than a second, cannot be stored; set another"
    )]
    Time {
        /// The file, from the filesystem's root.
        path: String,
        /// Nanoseconds after its second.
        nanoseconds: u32,
    },
    /// More blocks than 32 bits can count.
    #[error("the files do not fit in any EROFS of blocks of 4096 bytes, which holds just under 16 TiB; take some away")]
    TooLarge,
}

/// What the user chooses about a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The filesystem's UUID.
    pub uuid: Uuid,
    /// The volume label, at most [`LABEL_MAX`] bytes.
    pub label: String,
}

/// How a node is stored, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The form of its inode.
    pub form: Form,
    /// How its contents are stored.
    pub layout: DataLayout,
    /// The length of its contents in bytes.
    pub size: u64,
    /// The bytes that follow the inode, in the same block: the end of the contents.
    pub inline: usize,
    /// The blocks of the contents besides those bytes.
    pub blocks: u64,
    /// The bytes of the indexes of compressed contents, which follow the inode.
    pub indexes: usize,
}

impl Shape {
    /// Contents of `size` bytes that are stored as they are. Their end follows the inode if a block has room for both.
    fn plain(form: Form, size: u64) -> Self {
        let end = usize::try_from(size % BLOCK_SIZE).expect("less than a block");
        let inline = if form.size() + end <= BLOCK_BYTES { end } else { 0 };
        let blocks = (size - inline as u64).div_ceil(BLOCK_SIZE);
        Self { form, layout: inode::plain_layout(inline), size, inline, blocks, indexes: 0 }
    }

    /// The same, all of it in blocks.
    fn in_whole_blocks(self) -> Self {
        Self { layout: DataLayout::FlatPlain, inline: 0, blocks: self.size.div_ceil(BLOCK_SIZE), ..self }
    }

    /// The same, compressed into so many blocks.
    fn compressed(self, blocks: u64) -> Self {
        let indexes = usize::try_from(indexes::len(self.size)).expect("pieces of it are in memory");
        Self { layout: indexes::LAYOUT, inline: 0, blocks, indexes, ..self }
    }

    /// The slots that the inode and what follows it take.
    pub fn slots(&self) -> usize {
        (self.form.size() + self.inline + self.indexes).div_ceil(SLOT_BYTES)
    }

    /// The bytes of the contents that are in blocks.
    pub fn in_blocks(&self) -> u64 {
        self.size - self.inline as u64
    }
}

/// [`SLOT_SIZE`] for the lengths of buffers.
const SLOT_BYTES: usize = 32;
const _: () = assert!(SLOT_BYTES as u64 == SLOT_SIZE);

/// Compressed contents, which have their places before everything else.
#[derive(Clone, Debug)]
pub struct Packed {
    /// How they are compressed.
    pub method: ErofsCompression,
    /// Where they are.
    pub placement: Placement,
}

/// A filesystem with every block decided.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the user chose.
    pub parameters: Parameters,
    /// The contents, if they are compressed.
    pub packed: Option<Packed>,
    /// Where the metadata area starts.
    metadata: BlockIndex,
    /// The parts of the metadata area, in order.
    pub groups: Vec<Group>,
    /// Each node's slot in the metadata area.
    slots: Vec<u32>,
    /// The first block of each node's contents, if it has blocks.
    starts: Vec<u32>,
    /// The blocks of the contents of files.
    contents: Range<BlockIndex>,
    /// The end of what is used.
    end: BlockIndex,
    /// The size of its partition in bytes, at least.
    least: u64,
}

impl Layout {
    /// Lays out a tree in the smallest filesystem that holds it.
    ///
    /// # Errors
    /// If EROFS cannot hold a file, or all of them.
    pub fn new(tree: &FileTree, parameters: Parameters) -> Result<Self, LayoutError> {
        Self::decide(tree, None, parameters)
    }

    /// Lays out a tree whose contents are compressed, around them.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn packed(tree: &FileTree, packed: Packed, parameters: Parameters) -> Result<Self, LayoutError> {
        Self::decide(tree, Some(packed), parameters)
    }

    /// Lays out a tree whose contents will be compressed. It is no smaller than it will be then.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn worst(tree: &FileTree, method: ErofsCompression, parameters: Parameters) -> Result<Self, LayoutError> {
        let packed = Packed { method, placement: Placement::worst(tree) };
        let mut layout = Self::packed(tree, packed, parameters)?;
        // Ends of files that turn out to be stored as they are come to the metadata, but a block is saved for each. And two
        // blocks of inodes that are packed otherwise may be little more than half full.
        let ends: u64 = placement::packed_files(tree).map(|node| plain_shape(tree, node).inline as u64).sum();
        let metadata = layout.metadata();
        let inodes = metadata.end.0 - metadata.start.0;
        layout.grow(ends.div_ceil(BLOCK_SIZE) + inodes + inodes / 256 + 1)?;
        Ok(layout)
    }

    fn decide(tree: &FileTree, packed: Option<Packed>, parameters: Parameters) -> Result<Self, LayoutError> {
        let mut shapes = Vec::new();
        let metadata = packed.as_ref().map_or(METADATA_START, |packed| packed.placement.end());
        let mut layout = Self {
            parameters,
            packed,
            metadata,
            groups: Vec::new(),
            slots: vec![0; tree.len()],
            starts: vec![0; tree.len()],
            contents: CONTENTS_START..metadata,
            end: metadata,
            least: 0,
        };
        let mut first = NodeIndex::ROOT;
        let mut slots = 0;
        for node in tree.nodes() {
            check(tree, node)?;
            if slots >= group::SLOTS {
                layout.add_group(tree, first, &shapes)?;
                (first, slots) = (node, 0);
                shapes.clear();
            }
            let shape = layout.shape(tree, node);
            slots += shape.slots();
            shapes.push(shape);
        }
        layout.add_group(tree, first, &shapes)?;
        layout.place_files(tree)?;
        Ok(layout)
    }

    /// The same in a partition of `size` bytes, if that is more: what is more of it stays empty.
    #[must_use]
    pub fn at_least(self, size: u64) -> Self {
        Self { least: size, ..self }
    }

    /// Places the inodes of the nodes from `first` on, and the blocks of those that are no files.
    fn add_group(&mut self, tree: &FileTree, first: NodeIndex, shapes: &[Shape]) -> Result<(), LayoutError> {
        let start = self.end;
        let (places, packed) = super::packing::pack(&shapes.iter().map(Shape::slots).collect::<Vec<_>>());
        let before = (start.0 - self.numbers_start().0) * (BLOCK_SIZE / SLOT_SIZE);
        self.grow(packed as u64)?;
        let first = first.as_usize();
        let mut ends = 0;
        for ((node, shape), place) in tree.nodes().skip(first).zip(shapes).zip(places) {
            self.slots[node.as_usize()] = u32::try_from(before + place as u64).map_err(|_| LayoutError::TooLarge)?;
            if let NodeKind::File { .. } = tree.kind(node) {
                ends += usize::from(shape.inline > 0);
            } else {
                self.place(node, shape.blocks)?;
            }
        }
        let nodes = first..first + shapes.len();
        self.groups.push(Group { nodes, start, blocks: self.end.0 - start.0, ends });
        Ok(())
    }

    fn place_files(&mut self, tree: &FileTree) -> Result<(), LayoutError> {
        let files = tree.nodes().filter(|node| tree.kind(*node).is_file());
        if let Some(Packed { placement, .. }) = &self.packed {
            for node in files {
                let start = placement.place(node).start();
                self.starts[node.as_usize()] = u32::try_from(start.0).map_err(|_| LayoutError::TooLarge)?;
            }
            return Ok(());
        }
        let start = self.end;
        for node in files {
            self.place(node, plain_shape(tree, node).blocks)?;
        }
        self.contents = start..self.end;
        Ok(())
    }

    fn place(&mut self, node: NodeIndex, blocks: u64) -> Result<(), LayoutError> {
        self.starts[node.as_usize()] = u32::try_from(self.end.0).map_err(|_| LayoutError::TooLarge)?;
        self.grow(blocks)
    }

    fn grow(&mut self, blocks: u64) -> Result<(), LayoutError> {
        let end = self.end.0.checked_add(blocks).filter(|&end| end <= MOST_BLOCKS);
        self.end = BlockIndex(end.ok_or(LayoutError::TooLarge)?);
        Ok(())
    }

    /// How a node is stored.
    pub fn shape(&self, tree: &FileTree, node: NodeIndex) -> Shape {
        let plain = plain_shape(tree, node);
        let Some(Packed { placement, .. }) = &self.packed else { return plain };
        match placement.place(node) {
            Place::None | Place::Flat(_) => plain,
            Place::Blocks(_) => plain.in_whole_blocks(),
            Place::Pieces { first, .. } => {
                let pieces = placement.pieces(first, plain.size);
                plain.compressed(pieces.iter().map(|piece| u64::from(piece.blocks)).sum())
            }
        }
    }

    /// The block where inode numbers start: the one before the metadata area. So no inode has the number 0; the C library
    /// takes a directory entry with that number for a deleted one.
    pub fn numbers_start(&self) -> BlockIndex {
        BlockIndex(self.metadata.0 - 1)
    }

    /// The number of a node's inode, which is not 0.
    pub fn nid(&self, node: NodeIndex) -> Nid {
        Nid(self.slots[node.as_usize()].into())
    }

    /// Where a node's inode is, in bytes.
    pub fn inode_at(&self, node: NodeIndex) -> ByteOffset {
        ByteOffset(self.numbers_start().0 * BLOCK_SIZE + self.nid(node).0 * SLOT_SIZE)
    }

    /// The first block of a node's contents; it means nothing if none of them are in blocks.
    pub fn start(&self, node: NodeIndex) -> BlockIndex {
        BlockIndex(self.starts[node.as_usize()].into())
    }

    /// The blocks of the contents of files.
    pub fn contents(&self) -> Range<BlockIndex> {
        self.contents.clone()
    }

    /// The metadata area: the blocks of inodes, and of all contents that are not files'.
    pub fn metadata(&self) -> Range<BlockIndex> {
        let end = if self.packed.is_some() { self.end } else { self.contents.start };
        self.metadata..end
    }

    /// The blocks that are in use, and that the superblock tells: all from the first on.
    pub fn blocks(&self) -> u64 {
        self.end.0
    }

    /// The bytes that it needs, a whole number of mebibytes.
    pub fn needed(&self) -> u64 {
        (self.end.0 * BLOCK_SIZE).next_multiple_of(MIB)
    }

    /// The size of the filesystem with the empty space after it, in bytes: a whole number of mebibytes, unless more was
    /// asked for.
    pub fn size(&self) -> u64 {
        self.needed().max(self.least)
    }

    /// From the first to past the last byte of the blocks of all files below `node`, or `None` if they have none. The ends
    /// of files, and files without a whole block, are elsewhere.
    pub fn byte_range(&self, tree: &FileTree, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        let blocks = |node: NodeIndex| match tree.kind(node) {
            NodeKind::File { .. } => Some(self.shape(tree, node).blocks).filter(|&blocks| blocks > 0),
            _ => None,
        };
        let mut files = tree.subtree(node).filter_map(|node| Some((node, blocks(node)?)));
        let first = files.next()?;
        let last = files.next_back().unwrap_or(first);
        let (start, end) = (self.start(first.0), self.start(last.0).plus(last.1));
        Some((ByteOffset(start.0 * BLOCK_SIZE), ByteOffset(end.0 * BLOCK_SIZE)))
    }

    /// A directory of the tree with the inodes of its entries, in the order of their names.
    pub fn entries<'a>(&self, tree: &'a FileTree, node: NodeIndex) -> Vec<directory::Entry<'a>> {
        let entry = |child| directory::Entry {
            name: tree.name(child).as_encoded_bytes(),
            nid: self.nid(child),
            file_type: file_type_of(tree.kind(child)),
        };
        let dot = |name, node| directory::Entry { name, nid: self.nid(node), file_type: file_type::DIRECTORY };
        let dots = [dot(&b"."[..], node), dot(b"..", tree.parent(node))];
        directory::with_dots(tree.children(node).map(entry), dots, |entry| entry.name).collect()
    }
}

fn check(tree: &FileTree, node: NodeIndex) -> Result<(), LayoutError> {
    let path = || format!("/{}", tree.path(node).display());
    let time = tree.times(node).modification;
    if !time.is_valid() {
        return Err(LayoutError::Time { path: path(), nanoseconds: time.nanoseconds });
    }
    match tree.kind(node) {
        NodeKind::Symlink(target) if !(1..=SYMLINK_MAX).contains(&target.len()) => {
            Err(LayoutError::SymlinkLength { path: path(), len: target.len() })
        }
        _ => Ok(()),
    }
}

/// How a node is stored if nothing is compressed.
pub(super) fn plain_shape(tree: &FileTree, node: NodeIndex) -> Shape {
    let size = match tree.kind(node) {
        NodeKind::File { size } => size,
        NodeKind::Symlink(target) => target.len() as u64,
        NodeKind::Directory => {
            let names = tree.children(node).map(|child| tree.name(child).as_encoded_bytes());
            let dots: [&[u8]; 2] = [b".", b".."];
            directory::size(directory::with_dots(names, dots, |name| name).map(<[u8]>::len))
        }
    };
    Shape::plain(inode::form(tree, node, size), size)
}

fn file_type_of(kind: NodeKind<'_>) -> u8 {
    match kind {
        NodeKind::Directory => file_type::DIRECTORY,
        NodeKind::File { .. } => file_type::REGULAR,
        NodeKind::Symlink(_) => file_type::SYMLINK,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::source::tree::{DirectoryMode, Executable, TreeBuilder};

    fn tree(sizes: impl IntoIterator<Item = u64>) -> FileTree {
        let mut builder = TreeBuilder::new(DirectoryMode::Writable);
        for (number, size) in sizes.into_iter().enumerate() {
            builder.file(OsStr::new(&format!("{number:03}")), size, Executable::No).unwrap();
        }
        builder.finish()
    }

    fn parameters() -> Parameters {
        Parameters { uuid: Uuid::nil(), label: String::new() }
    }

    /// What fills a block comes first of all, and must be seen in its directory nevertheless.
    #[test]
    fn no_inode_has_the_number_0() {
        let tree = tree([4064, 300, 4064, 8 << 20]);
        let method = ErofsCompression::Lz4;
        for layout in [Layout::new(&tree, parameters()), Layout::worst(&tree, method, parameters())] {
            let layout = layout.unwrap();
            assert!(tree.nodes().all(|node| layout.nid(node).0 > 0));
        }
    }

    /// However its files turn out to be compressed, a filesystem is no larger than it was planned to be.
    #[test]
    fn the_worst_case_is_the_worst() {
        let method = ErofsCompression::Zstd(3);
        let piece = super::super::compress::PIECE_BYTES as u64;
        for end in [0, 1, 1500, 2040, 2100, 4000, 4064, 4095] {
            let sizes = (0..300).map(|i| end + [0, 4096, 12_288, piece - 4096, 2 * piece, 100][i % 6]);
            let tree = tree(sizes);
            let worst = Layout::worst(&tree, method, parameters()).unwrap();
            for kind in 0..4 {
                let placement = packed_as(&tree, kind);
                let layout = Layout::packed(&tree, Packed { method, placement }, parameters()).unwrap();
                assert!(layout.blocks() <= worst.blocks(), "{end}, {kind}");
                assert!(layout.blocks() == layout.metadata().end.0 && layout.contents().end == layout.metadata().start);
            }
        }
    }

    /// All files compressed to a block for each piece, none at all, and both in turns.
    fn packed_as(tree: &FileTree, kind: usize) -> Placement {
        use super::super::compress::PIECE_BYTES;
        use super::super::placement::{Placer, Stored, packed_files};
        use crate::copy;

        let mut placer = Placer::new(tree);
        for (number, node) in packed_files(tree).enumerate() {
            let shape = plain_shape(tree, node);
            let packs = kind == 0 || kind > 1 && number % kind == 0;
            for offset in (0..shape.size).step_by(PIECE_BYTES) {
                let len = (shape.size - offset).min(PIECE_BYTES as u64);
                let (how, stored) = match () {
                    () if packs && len > BLOCK_SIZE => (Stored::As(copy::Form::Packed), BLOCK_SIZE),
                    () if len == shape.size && shape.inline > 0 => (Stored::Flat, shape.in_blocks()),
                    () => (Stored::As(copy::Form::Raw), len),
                };
                placer.place(node, offset + len == shape.size, how, stored);
            }
        }
        placer.finish()
    }
}
