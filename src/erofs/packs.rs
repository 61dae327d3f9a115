//! The contents of the regular files, as jobs that compress them and place the result.
//!
//! What is only an end, and stands among the metadata, is not among these files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::compress::{Compressor, PIECE_BYTES};
use super::format::BLOCK_SIZE;
use super::layout::plain_shape;
use super::placement::{Placement, Placer, Stored, packed_files};
use crate::copy::{FileList, Files, Form, Listed, PackJobs, Packer, Unit};
use crate::read::Opener;
use crate::source::tree::FileTree;
use crate::spec::ErofsCompression;
use crate::units::ByteOffset;

/// Contents that are compressed where that saves blocks.
pub struct Packs<'a> {
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    method: ErofsCompression,
    files: FileList<'a>,
    /// Of each file, whether it was found to be one whose whole blocks only are stored here, as they are.
    flat: Vec<AtomicBool>,
    placer: Mutex<Placer>,
}

impl<'a> Packs<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file; some may come from `old`.
    pub fn new(tree: &'a FileTree, method: ErofsCompression, start: ByteOffset, old: Option<&'a dyn Opener>) -> Self {
        let flat = packed_files(tree).map(|_| AtomicBool::new(false)).collect();
        let files = FileList::of(tree, packed_files(tree), old);
        Self { start, method, files, flat, placer: Mutex::new(Placer::new(tree)) }
    }

    /// Where everything is, once it is packed.
    pub fn into_placement(self) -> Placement {
        self.placer.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
    }
}

impl Listed for Packs<'_> {
    fn files(&self) -> &FileList<'_> {
        &self.files
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
        let block = placer.place(self.files.node(unit.file), is_last, how, stored.len() as u64);
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
        let Packs { files, flat, .. } = self.packs;
        let shape = plain_shape(files.tree(), files.node(unit.file));
        if shape.size != bytes.len() as u64 || shape.inline == 0 {
            return Form::Raw;
        }
        // The end of a file that is a single piece has room after its inode, and needs no block.
        flat[unit.file].store(true, Ordering::Release);
        output.extend_from_slice(&bytes[..bytes.len() - shape.inline]);
        Form::Packed
    }
}
