//! Checks the structures of an EROFS filesystem.
//!
//! It does not use the layout code. It knows only the on-disk structures and what must hold between them. It walks from
//! the root through all directories, and reads each inode that an entry names once: its form, its extended attributes
//! and its map. What is compressed is unpacked, for it has no other sum. Then it compares the counts of names with what
//! inodes say, and finds bytes that two inodes claim. Files may share blocks, if they share them from the first one of
//! both on. It needs some 100 bytes of memory for each inode, and 32 for each run of blocks.

mod contents;
mod directories;
mod inodes;
mod overlaps;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use self::contents::Packed;
use self::overlaps::Taken;
use super::volume::{Disk, Fragments, Shape};
use crate::read::{Bytes, Fault, Kind, ReadError};

/// At most this many faults are reported one by one.
const MOST: usize = 1000;

/// What a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Superblock,
    Inode(u64),
    /// Bytes that several claim: the first and the one after the last.
    Bytes(u64, u64),
}

/// What is known of an inode.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// `None` if it cannot be read.
    kind: Option<Kind>,
    /// What an entry must give as its type.
    file_type: u8,
    /// What it says itself.
    links: u32,
    /// Names that lead to it; of a directory, the entries `..` of those below it too.
    names: u32,
    /// The first directory that names it; the root's is itself.
    parent: u64,
}

/// Everything that is wrong with the filesystem in `bytes`, sorted, at most 1,000 faults and one that there are more. What
/// is compressed is unpacked on up to `threads` threads.
///
/// # Errors
/// If the superblock leaves nothing to check, if a feature is unknown, or if the image cannot be read.
pub fn check(bytes: &dyn Bytes, threads: NonZeroUsize) -> Result<Vec<Fault>, ReadError> {
    let shape = Shape::open(bytes)?;
    let mut checker = Checker::new(Disk { bytes, shape: &shape }, threads);
    if shape.superblock_sum(bytes)?.is_some_and(|sum| sum != shape.superblock.checksum.get()) {
        checker.tell(Subject::Superblock, "has a wrong checksum");
    }
    checker.check_packed()?;
    checker.check_directories()?;
    checker.check_contents()?;
    checker.check_links();
    checker.check_overlaps();
    checker.finish()
}

/// A check under way.
struct Checker<'a> {
    disk: Disk<'a>,
    threads: NonZeroUsize,
    fragments: Fragments,
    told: BTreeSet<(Subject, String)>,
    more: bool,
    inodes: BTreeMap<u64, Seen>,
    /// Directories that are still to be read.
    todo: Vec<u64>,
    taken: Vec<Taken>,
    /// Extents that are still to be unpacked.
    packed: Vec<Packed>,
    /// Bytes of directories, and of structures, so far. Shared ones could be more than anybody can read.
    directory_bytes: u64,
    structure_bytes: u64,
}

impl<'a> Checker<'a> {
    fn new(disk: Disk<'a>, threads: NonZeroUsize) -> Self {
        let superblock = disk.shape.superblock_bytes();
        Self {
            disk,
            threads,
            fragments: Fragments::default(),
            told: BTreeSet::new(),
            more: false,
            inodes: BTreeMap::new(),
            todo: Vec::new(),
            taken: vec![Taken {
                start: superblock.start,
                end: superblock.end,
                owner: None,
                kind: overlaps::Kind::Structure,
            }],
            packed: Vec::new(),
            directory_bytes: 0,
            structure_bytes: 0,
        }
    }

    fn tell(&mut self, subject: Subject, why: impl Into<String>) {
        if self.told.len() < MOST {
            self.told.insert((subject, why.into()));
        } else {
            self.more |= !self.told.contains(&(subject, why.into()));
        }
    }

    /// Takes note of what is corrupt; any other error ends the check.
    fn note<T>(&mut self, nid: u64, result: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(ReadError::Corrupt(fault)) => {
                self.tell(Subject::Inode(nid), fault.why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What inodes say of their names, and the superblock of the inodes.
    fn check_links(&mut self) {
        let said = self.disk.shape.superblock.inos.get();
        let found = self.inodes.len() as u64;
        // Where the number is not known, it is 0. Some writers do not count the packed inode.
        let uncounted = u64::from(self.disk.shape.packed().is_some());
        if said != 0 && said != found && said.saturating_add(uncounted) != found {
            self.tell(Subject::Superblock, format!("says {said} inodes, but names lead to {found}"));
        }
        let packed = self.disk.shape.packed();
        for (nid, seen) in self.inodes.clone() {
            // So many subdirectories may be there that their number is not kept.
            let is_uncounted = seen.kind == Some(Kind::Directory) && seen.links == 1;
            if seen.kind.is_none() || is_uncounted || packed == Some(nid) || seen.links == seen.names {
                continue;
            }
            let (links, names) = (seen.links, seen.names);
            self.tell(Subject::Inode(nid), format!("says that it has {links} links, but has {names}"));
        }
    }
}
