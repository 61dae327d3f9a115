//! Checks the structures of an ext4 filesystem, as `e2fsck -fn` does.
//!
//! It does not use the layout code. It knows only the on-disk structures and what must hold between them. One pass over
//! the groups claims the fixed metadata, one over the inodes claims their blocks, and one over the directories counts
//! names. Then it compares bitmaps and counts with what it found. If a block is claimed twice, it looks again, so that
//! it can name both owners. It needs one bit of memory for each block, and 16 bytes for each inode where inodes are in
//! use.
//!
//! A journal that has to be replayed is reported as one fault. Everything else is checked as it would be after the
//! replay, because the next mount will see it so. Counts that only a clean unmount updates are then not compared.

mod bitmaps;
mod claims;
mod directories;
mod faults;
mod groups;
mod htree;
mod inodes;
mod links;
mod paths;
mod seen;

use super::format::incompat;
use super::volume::{Disk, Shape, Volume};
use crate::read::{Bytes, Fault, ReadError};
use claims::{Claims, Owner};
use faults::{Faults, Subject};
use seen::{Inodes, Seen};

/// Everything that is wrong with the filesystem in `bytes`, sorted, at most 1,000 faults and one that there are more.
///
/// # Errors
/// If the superblock leaves nothing to check, if a feature is unknown, or if the image cannot be read.
pub fn check(bytes: &dyn Bytes) -> Result<Vec<Fault>, ReadError> {
    let volume = match Volume::open(bytes) {
        Err(ReadError::Corrupt(fault)) if fault.what != "superblock" => return Ok(vec![fault]),
        other => other?,
    };
    if volume.shape.has_incompat(incompat::INLINE_DATA) {
        return Err(ReadError::Unsupported("checking ext4 with inline_data".to_owned()));
    }
    let mut checker = Checker::new(Disk { bytes, volume: &volume });
    checker.check_superblocks()?;
    checker.check_groups();
    checker.check_inodes()?;
    checker.check_directories()?;
    checker.check_links();
    checker.check_bitmaps()?;
    checker.check_journal()?;
    checker.blame()?;
    checker.finish()
}

/// A check under way.
struct Checker<'a> {
    disk: Disk<'a>,
    faults: Faults,
    claims: Claims,
    inodes: Inodes,
    /// Blocks of extended attributes: how often each should be and is used.
    attributes: std::collections::BTreeMap<u64, (u32, u32)>,
    free_blocks: u64,
    free_inodes: u64,
}

impl<'a> Checker<'a> {
    fn new(disk: Disk<'a>) -> Self {
        let shape = disk.shape();
        Self {
            disk,
            faults: Faults::default(),
            claims: Claims::new(shape.blocks),
            inodes: Inodes::new(shape.inodes),
            attributes: std::collections::BTreeMap::new(),
            free_blocks: 0,
            free_inodes: 0,
        }
    }

    fn shape(&self) -> &'a Shape {
        &self.disk.volume.shape
    }

    fn tell(&mut self, subject: Subject, why: impl Into<String>) {
        self.faults.add(subject, why.into());
    }

    /// Whether the journal had to be replayed, or deleted files wait to be freed.
    fn needs_recovery(&self) -> bool {
        self.shape().has_incompat(incompat::RECOVER)
    }

    fn seen(&self, inode: u32) -> Seen {
        self.inodes.get(inode)
    }

    fn seen_mut(&mut self, inode: u32) -> Option<&mut Seen> {
        self.inodes.get_mut(inode)
    }

    fn claim(&mut self, first: u64, blocks: u64, owner: Owner) -> bool {
        self.claims.claim(first, blocks, owner)
    }
}
