//! The contents of the regular files, as jobs that compress them and place the result.

use std::sync::{Mutex, PoisonError};

use super::LogicalAddress;
use super::compress::{Compressor, limit};
use super::contents::Learnt;
use super::format::SECTOR_SIZE;
use super::placement::{INLINE_MAX, Placement, Placer, UNIT_BYTES};
use super::space::DataSpace;
use crate::copy::{FileList, Files, Form, Listed, Observer, PackJobs, Packer, Unit};
use crate::read::{Opener, StoredAs};
use crate::source::tree::FileTree;
use crate::spec::Compression;
use crate::units::ByteOffset;

/// Contents that are compressed where that saves room.
pub struct Packs<'a> {
    /// Where the filesystem starts in the image file.
    start: ByteOffset,
    files: FileList<'a>,
    method: Compression,
    space: DataSpace,
    placer: Mutex<Placer>,
    learnt: &'a Learnt,
}

impl<'a> Packs<'a> {
    /// The contents of a filesystem that starts at byte `start` of the image file. Some may come from `old`, and stay as
    /// they are stored there.
    pub fn new(
        tree: &'a FileTree,
        method: Compression,
        start: ByteOffset,
        old: Option<&'a dyn Opener>,
        learnt: &'a Learnt,
    ) -> Self {
        let placer = Placer::new(tree);
        let space = placer.space();
        Self { start, files: FileList::all(tree, old), method, space, placer: Mutex::new(placer), learnt }
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

    fn observer(&self) -> Option<&dyn Observer> {
        Some(self)
    }
}

impl PackJobs for Packs<'_> {
    fn unit_bytes(&self) -> usize {
        usize::try_from(UNIT_BYTES).expect("128 KiB")
    }

    fn packer(&self) -> Box<dyn Packer + '_> {
        Box::new(UnitPacker { packs: self, compressor: Compressor::new(self.method) })
    }

    fn place(&self, unit: Unit, form: Form, stored: &[u8]) -> Option<ByteOffset> {
        let node = self.files.node(unit.file);
        let stored_len = stored.len() as u64;
        let mut placer = self.placer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.size(unit.file) <= SECTOR_SIZE && stored_len <= INLINE_MAX {
            placer.keep(node, form, stored_len);
            self.learnt.keep(node, stored.to_vec());
            return None;
        }
        let address = placer.place(node, form, stored_len);
        Some(ByteOffset(self.start.0 + address.0))
    }
}

impl Observer for Packs<'_> {
    fn landed(&self, at: ByteOffset, pages: &[u8]) {
        self.learnt.note(self.space, LogicalAddress(at.0 - self.start.0), pages);
    }
}

/// One thread's compressor.
struct UnitPacker<'a> {
    packs: &'a Packs<'a>,
    compressor: Compressor,
}

impl Packer for UnitPacker<'_> {
    fn pack(&mut self, unit: Unit, bytes: &[u8], output: &mut Vec<u8>) -> Form {
        let limit = limit(self.packs.size(unit.file), bytes.len());
        if self.compressor.compress(bytes, limit, output) { Form::Packed } else { Form::Raw }
    }

    fn pack_again(&mut self, unit: Unit, bytes: &[u8], stored: StoredAs, output: &mut Vec<u8>) -> Form {
        match stored {
            StoredAs::Raw => Form::Raw,
            StoredAs::Packed(stored) => {
                *output = stored;
                Form::Packed
            }
            StoredAs::Shared => self.pack(unit, bytes, output),
        }
    }
}
