//! The place of the contents of each file, where they are compressed: whole blocks from the second block on, file after
//! file. Pure.

use super::BlockIndex;
use super::compress::PIECE_BYTES;
use super::format::BLOCK_SIZE;
use super::indexes::StoredPiece;
use super::layout::plain_shape;
use crate::copy::Form;
use crate::source::tree::{FileTree, NodeIndex, NodeKind};

/// Where contents start: behind the block of the superblock.
pub const CONTENTS_START: BlockIndex = BlockIndex(1);
/// [`PIECE_BYTES`] for lengths of files.
const PIECE_SIZE: u64 = PIECE_BYTES as u64;

/// Where a node's contents are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Not in blocks.
    #[default]
    None,
    /// As they are: the whole blocks from this one on, and the end after the inode.
    Flat(BlockIndex),
    /// As they are, and the end is in a block too.
    Blocks(BlockIndex),
    /// In pieces, of which at least one is compressed.
    Pieces {
        /// Where the first one is.
        start: BlockIndex,
        /// Its index in [`Placement`]'s list.
        first: u32,
    },
}

impl Place {
    /// The first block; it means nothing if there is none.
    pub fn start(self) -> BlockIndex {
        match self {
            Self::None => BlockIndex(0),
            Self::Flat(start) | Self::Blocks(start) | Self::Pieces { start, .. } => start,
        }
    }
}

/// How a piece has been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The whole blocks of a file that is a single piece, without its end.
    Flat,
    /// In one of these forms.
    As(Form),
}

/// Where the contents of all files of a tree are.
#[derive(Clone, Debug)]
pub struct Placement {
    /// By node.
    places: Vec<Place>,
    pieces: Vec<StoredPiece>,
    /// The block after the last one.
    end: BlockIndex,
}

impl Placement {
    /// Places contents as if every piece were compressed and yet no shorter: what takes the most blocks and indexes.
    pub fn worst(tree: &FileTree) -> Self {
        let mut placer = Placer::new(tree);
        for node in packed_files(tree) {
            let NodeKind::File { size } = tree.kind(node) else { continue };
            for offset in (0..size).step_by(PIECE_BYTES) {
                let len = PIECE_SIZE.min(size - offset);
                placer.place(node, offset + len == size, Stored::As(Form::Packed), len);
            }
        }
        placer.finish()
    }

    /// Where a node's contents are.
    pub fn place(&self, node: NodeIndex) -> Place {
        self.places[node.as_usize()]
    }

    /// The pieces of a file of `size` bytes whose first has the index `first`.
    pub fn pieces(&self, first: u32, size: u64) -> &[StoredPiece] {
        let first = first as usize;
        let count = usize::try_from(size.div_ceil(PIECE_SIZE)).expect("they are in memory");
        &self.pieces[first..first + count]
    }

    /// The block after the last one.
    pub fn end(&self) -> BlockIndex {
        self.end
    }
}

/// The files that have more than an end, in the order of the tree: those that compression may make shorter.
pub fn packed_files(tree: &FileTree) -> impl Iterator<Item = NodeIndex> + '_ {
    tree.nodes().filter(|node| tree.kind(*node).is_file()).filter(|node| plain_shape(tree, *node).blocks > 0)
}

/// Places pieces as their stored lengths become known, in the order of files and of each file's pieces.
#[derive(Debug)]
pub struct Placer {
    places: Vec<Place>,
    pieces: Vec<StoredPiece>,
    end: BlockIndex,
    /// The file whose pieces are being placed: where it starts, and the index of its first piece.
    current: Option<(BlockIndex, usize)>,
}

impl Placer {
    /// Nothing is placed yet.
    pub fn new(tree: &FileTree) -> Self {
        Self { places: vec![Place::None; tree.len()], pieces: Vec::new(), end: CONTENTS_START, current: None }
    }

    /// Places the next piece of a file, of which `len` bytes are stored; `is_last` if it is the file's last.
    pub fn place(&mut self, node: NodeIndex, is_last: bool, stored: Stored, len: u64) -> BlockIndex {
        let at = self.end;
        let blocks = len.div_ceil(BLOCK_SIZE);
        self.end = at.plus(blocks);
        let (start, first) = *self.current.get_or_insert((at, self.pieces.len()));
        if let Stored::As(form) = stored {
            let blocks = u8::try_from(blocks).expect("a piece has at most 64 blocks");
            self.pieces.push(StoredPiece { form, blocks });
        }
        if is_last {
            let is_packed = self.pieces[first..].iter().any(|piece| piece.form == Form::Packed);
            self.places[node.as_usize()] = match stored {
                Stored::Flat => Place::Flat(start),
                Stored::As(_) if is_packed => {
                    let first = u32::try_from(first).expect("pieces of 256 KiB of a disk that Linux can hold");
                    Place::Pieces { start, first }
                }
                Stored::As(_) => {
                    self.pieces.truncate(first);
                    Place::Blocks(start)
                }
            };
            self.current = None;
        }
        at
    }

    /// Everything is placed.
    pub fn finish(self) -> Placement {
        Placement { places: self.places, pieces: self.pieces, end: self.end }
    }
}
