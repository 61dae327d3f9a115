//! Collects faults before the paths of inodes are known.

use std::collections::BTreeSet;

/// At most this many faults are reported one by one.
pub(super) const MOST: usize = 1000;

/// What a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The primary superblock.
    Superblock,
    /// The superblock's copy at the start of a group.
    Backup(u32),
    /// The journal.
    Journal,
    /// A group: its descriptor or its bitmaps.
    Group(u32),
    /// An inode, its map or its directory.
    Inode(u32),
    /// A block that several claim.
    Block(u64),
}

/// Faults, each once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: BTreeSet<(Subject, String)>,
    /// Whether there are more.
    more: bool,
}

impl Faults {
    pub(super) fn add(&mut self, subject: Subject, why: String) {
        if self.told.len() < MOST {
            self.told.insert((subject, why));
        } else {
            self.more |= !self.told.contains(&(subject, why));
        }
    }

    pub(super) fn into_parts(self) -> (BTreeSet<(Subject, String)>, bool) {
        (self.told, self.more)
    }
}
