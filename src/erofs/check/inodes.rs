//! Checks inodes one by one: extended attributes, sizes, and the map to their contents.

use super::contents::Packed;
use super::overlaps::{self, Taken};
use super::{Checker, Seen, Subject};
use crate::erofs::format::{DataLayout, file_type};
use crate::erofs::volume::{Inode, Place};
use crate::read::{Kind, ReadError};

/// The longest symbolic link, in bytes.
const LONGEST_LINK: u64 = 4096;

impl Checker<'_> {
    /// The inode that holds the ends of files; no name leads to it.
    pub(super) fn check_packed(&mut self) -> Result<(), ReadError> {
        let Some(nid) = self.disk.shape.packed() else { return Ok(()) };
        let read = self.disk.inode(nid);
        let mut seen = Seen { kind: None, file_type: file_type::REGULAR, links: 0, names: 0, parent: nid };
        if let Some(inode) = self.note(nid, read)? {
            if inode.kind != Kind::File {
                self.tell(Subject::Inode(nid), "is the packed inode, but no regular file");
            }
            seen.kind = Some(inode.kind);
            self.check_inode(&inode)?;
        }
        self.inodes.insert(nid, seen);
        Ok(())
    }

    /// Checks an inode; returns whether its contents can be read.
    pub(super) fn check_inode(&mut self, inode: &Inode) -> Result<bool, ReadError> {
        let nid = inode.nid;
        let attributes = self.disk.attributes(inode, &self.fragments);
        self.note(nid, attributes)?;
        if inode.kind == Kind::Symlink && !(1..=LONGEST_LINK).contains(&inode.size) {
            self.tell(Subject::Inode(nid), format!("is a link with a target of {} bytes", inode.size));
        }
        if !inode.time_is_valid() {
            self.tell(Subject::Inode(nid), "has a time with 1,000,000,000 nanoseconds or more");
        }
        let mut blocks = Vec::new();
        let kind = if inode.layout == DataLayout::ChunkBased { overlaps::Kind::Chunk } else { overlaps::Kind::Blocks };
        let structure = |start, end| Taken { start, end, owner: Some(nid), kind: overlaps::Kind::Structure };
        let mapping = self.disk.map(inode, &mut |range| {
            blocks.push(Taken { start: range.start, end: range.end, owner: Some(nid), kind });
        });
        self.structure_bytes = self.structure_bytes.saturating_add(inode.end.saturating_sub(inode.start));
        let Some(mapping) = self.note(nid, mapping)? else {
            self.taken.push(structure(inode.start, inode.end));
            // Much of it may have been read.
            let most = self.disk.shape.blocks_of(inode.size).saturating_mul(8).min(self.disk.shape.len);
            self.structure_bytes = self.structure_bytes.saturating_add(most);
            return Ok(false);
        };
        self.taken.append(&mut blocks);
        let structures = &mapping.structures;
        self.taken.push(structure(structures.start, structures.end));
        self.structure_bytes = self.structure_bytes.saturating_add(structures.end.saturating_sub(inode.end));
        mapping.problems.iter().for_each(|problem| self.tell(Subject::Inode(nid), problem.clone()));
        for extent in mapping.extents {
            match extent.place {
                Place::Packed { .. } => self.packed.push(Packed { nid, extent }),
                Place::Fragment(at) => self.check_fragment(nid, at, extent.end.saturating_sub(extent.start))?,
                Place::Raw(_) | Place::Hole => (),
            }
        }
        self.check_some_contents()?;
        Ok(true)
    }

    /// A part of a file that is in the packed inode.
    fn check_fragment(&mut self, nid: u64, at: u64, len: u64) -> Result<(), ReadError> {
        let Some(packed) = self.disk.shape.packed() else {
            self.tell(Subject::Inode(nid), "has contents in the packed inode, but there is none");
            return Ok(());
        };
        if packed == nid {
            self.tell(Subject::Inode(nid), "is the packed inode, but has contents in the packed inode");
            return Ok(());
        }
        // What is wrong with that one is told once.
        let Ok(inode) = self.disk.inode(packed) else { return Ok(()) };
        if at.checked_add(len).is_none_or(|end| end > inode.size) {
            let why = format!("has {len} bytes at byte {at} of the packed inode, which has only {}", inode.size);
            self.tell(Subject::Inode(nid), why);
        }
        Ok(())
    }
}
