//! The contents of the regular files, as jobs that compress them and place the result.
//!
//! What is only an end, and stands among the metadata, is not among these files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::compress::{Compressor, PIECE_BYTES};
use super::format::BLOCK_SIZE;
use super::layout::plain_shape;
use super::placement::{Placement, Placer, Stored, packed_files};
use crate::copy::{Files, Form, PackJobs, Packer, Unit};
use crate::read::Opener;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};
use crate::spec::ErofsCompression;
use crate::units::ByteOffset;

/// Contents that are compressed where that saves blocks.
pub struct Packs<'a> {
    tree: &'a FileTree,
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    /// Where files come from that are not the host's.
    old: Option<&'a dyn Opener>,
    method: ErofsCompression,
    files: Vec<NodeIndex>,
    total_bytes: u64,
    /// Of each file, whether it was found to be one whose whole blocks only are stored here, as they are.
    flat: Vec<AtomicBool>,
    placer: Mutex<Placer>,
}

impl<'a> Packs<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file; some may come from `old`.
    pub fn new(tree: &'a FileTree, method: ErofsCompression, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        let files: Vec<_> = packed_files(tree).collect();
        let total_bytes = files.iter().map(|&node| size(tree, node)).sum();
        let flat = files.iter().map(|_| AtomicBool::new(false)).collect();
        Self { tree, start, old, method, files, total_bytes, flat, placer: Mutex::new(Placer::new(tree)) }
    }

    /// Where everything is, once it is packed.
    pub fn into_placement(self) -> Placement {
        self.placer.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
    }
}

fn size(tree: &FileTree, node: NodeIndex) -> u64 {
    let NodeKind::File { size } = tree.kind(node) else { unreachable!("only files were taken") };
    size
}

impl Files for Packs<'_> {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn size(&self, index: usize) -> u64 {
        size(self.tree, self.files[index])
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

impl PackJobs for Packs<'_> {
    fn unit_bytes(&self) -> usize {
        PIECE_BYTES
    }

    fn packer(&self) -> Box<dyn Packer + '_> {
        Box::new(PiecePacker { packs: self, compressor: Compressor::new(self.method) })
    }

    fn place(&self, unit: Unit, form: Form, stored: &[u8]) -> Option<ByteOffset> {
        let is_last = unit.offset + unit.len as u64 == self.size(unit.file);
        let how = if self.flat[unit.file].load(Ordering::Acquire) { Stored::Flat } else { Stored::As(form) };
        let mut placer = self.placer.lock().unwrap_or_else(PoisonError::into_inner);
        let block = placer.place(self.files[unit.file], is_last, how, stored.len() as u64);
        Some(ByteOffset(self.start.0 + block.0 * BLOCK_SIZE))
    }
}

/// One thread's compressor.
struct PiecePacker<'a> {
    packs: &'a Packs<'a>,
    compressor: Compressor,
}

impl Packer for PiecePacker<'_> {
    fn pack(&mut self, unit: Unit, bytes: &[u8], output: &mut Vec<u8>) -> Form {
        if self.compressor.compress(bytes, output) {
            return Form::Packed;
        }
        let Packs { tree, files, flat, .. } = self.packs;
        let shape = plain_shape(tree, files[unit.file]);
        if shape.size != bytes.len() as u64 || shape.inline == 0 {
            return Form::Raw;
        }
        // The end of a file that is a single piece has room after its inode, and needs no block.
        flat[unit.file].store(true, Ordering::Release);
        output.extend_from_slice(&bytes[..bytes.len() - shape.inline]);
        Form::Packed
    }
}
