//! Makes faults readable: inodes get their paths, and blocks their owners.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::Owner;
use super::faults::MOST;
use super::{Checker, Subject};
use crate::ext4::format::INODE_ROOT;
use crate::read::{Fault, ReadError};

/// Deeper paths are not reported.
const DEEPEST: usize = 128;

impl Checker<'_> {
    /// All faults, in words.
    pub(super) fn finish(mut self) -> Result<Vec<Fault>, ReadError> {
        let twice = self.claims.take_twice();
        let (told, mut more) = std::mem::take(&mut self.faults).into_parts();
        let mut paths = Paths::new(&self, &told, &twice);
        let mut faults = Vec::with_capacity(told.len());
        for (blocks, owners) in grouped(twice) {
            let owners = owners.iter().map(|owner| paths.owner(*owner)).collect::<Result<Vec<_>, _>>()?;
            let why = format!("claimed by {}", owners.join(" and by "));
            faults.push(Fault { what: blocks, why });
        }
        for (subject, why) in told {
            faults.push(Fault { what: paths.subject(subject)?, why });
        }
        faults.sort();
        faults.dedup();
        more |= faults.len() > MOST;
        faults.truncate(MOST);
        if more {
            let why = format!("more than {MOST} faults; the rest is not shown");
            faults.push(Fault { what: "ext4".to_owned(), why });
        }
        Ok(faults)
    }
}

/// Neighbouring blocks of the same owners, together.
fn grouped(twice: BTreeMap<u64, Vec<Owner>>) -> Vec<(String, Vec<Owner>)> {
    let mut groups: Vec<(std::ops::RangeInclusive<u64>, Vec<Owner>)> = Vec::new();
    for (block, mut owners) in twice {
        owners.sort_unstable();
        // An owner that claims a block twice or more is reported twice.
        let claims = owners.len();
        owners.dedup();
        if let (1, Some(&owner)) = (owners.len(), owners.first().filter(|_| claims > 1)) {
            owners.push(owner);
        }
        match groups.last_mut() {
            Some((blocks, others)) if *others == owners && blocks.end().checked_add(1) == Some(block) => {
                *blocks = *blocks.start()..=block;
            }
            _ => groups.push((block..=block, owners)),
        }
    }
    let name = |blocks: std::ops::RangeInclusive<u64>| match (blocks.start(), blocks.end()) {
        (first, last) if first == last => format!("block {first}"),
        (first, last) => format!("blocks {first} to {last}"),
    };
    groups.into_iter().map(|(blocks, owners)| (name(blocks), owners)).collect()
}

/// Paths of inodes. Each directory on the way to one is read once.
struct Paths<'a> {
    checker: &'a Checker<'a>,
    /// The inodes whose names are needed: those that are reported, and the directories above them.
    wanted: BTreeSet<u32>,
    names: BTreeMap<u32, String>,
    read: BTreeSet<u32>,
}

impl<'a> Paths<'a> {
    fn new(checker: &'a Checker<'a>, told: &BTreeSet<(Subject, String)>, twice: &BTreeMap<u64, Vec<Owner>>) -> Self {
        let subjects = told.iter().filter_map(|(subject, _)| match subject {
            Subject::Inode(number) => Some(*number),
            _ => None,
        });
        let owners = twice.values().flatten().filter_map(|owner| match owner {
            Owner::Inode(number) => Some(*number),
            _ => None,
        });
        let mut wanted = BTreeSet::new();
        for number in subjects.chain(owners) {
            let mut at = number;
            while at != 0 && wanted.insert(at) {
                at = checker.seen(at).parent;
            }
        }
        Self { checker, wanted, names: BTreeMap::new(), read: BTreeSet::new() }
    }

    fn subject(&mut self, subject: Subject) -> Result<String, ReadError> {
        Ok(match subject {
            Subject::Superblock => "superblock".to_owned(),
            Subject::Backup(group) => format!("superblock copy in group {group}"),
            Subject::Journal => "journal".to_owned(),
            Subject::Group(group) => format!("group {group}"),
            Subject::Inode(number) => self.inode(number)?,
            Subject::Block(block) => format!("block {block}"),
        })
    }

    fn owner(&mut self, owner: Owner) -> Result<String, ReadError> {
        Ok(match owner {
            Owner::Superblock(group) => format!("the superblock of group {group}"),
            Owner::Descriptors(group) => format!("the descriptors in group {group}"),
            Owner::BlockBitmap(group) => format!("the block bitmap of group {group}"),
            Owner::InodeBitmap(group) => format!("the inode bitmap of group {group}"),
            Owner::InodeTable(group) => format!("the inode table of group {group}"),
            Owner::Mmp => "the guard against mounting twice".to_owned(),
            Owner::Inode(number) => self.inode(number)?,
        })
    }

    /// `inode 12 (nix/store)`, or without a path if none leads there.
    fn inode(&mut self, number: u32) -> Result<String, ReadError> {
        let superblock = &self.checker.shape().superblock;
        Ok(match number {
            INODE_ROOT => "inode 2 (/)".to_owned(),
            _ if number == superblock.journal_inum.get() => format!("inode {number} (the journal)"),
            _ => match self.path(number, 0)? {
                Some(path) => format!("inode {number} ({path})"),
                None => format!("inode {number}"),
            },
        })
    }

    fn path(&mut self, number: u32, depth: usize) -> Result<Option<String>, ReadError> {
        let parent = self.checker.seen(number).parent;
        if parent == 0 || depth > DEEPEST {
            return Ok(None);
        }
        let above = match parent {
            INODE_ROOT => String::new(),
            _ => match self.path(parent, depth.saturating_add(1))? {
                Some(path) => format!("{path}/"),
                None => return Ok(None),
            },
        };
        if self.read.insert(parent) {
            self.read_names(parent)?;
        }
        Ok(self.names.get(&number).map(|name| format!("{above}{name}")))
    }

    /// Takes in the names of those that a directory is the parent of, escaped.
    fn read_names(&mut self, parent: u32) -> Result<(), ReadError> {
        let disk = self.checker.disk;
        let mapping = disk.map(&disk.inode(parent)?, &mut |_| true)?;
        disk.directory_blocks(&mapping, |_, block| {
            for entry in disk.shape().entries(block).flatten() {
                let is_child = self.wanted.contains(&entry.inode) && self.checker.seen(entry.inode).parent == parent;
                if is_child && entry.name != b"." && entry.name != b".." {
                    self.names.entry(entry.inode).or_insert_with(|| entry.name.escape_ascii().to_string());
                }
            }
            Ok(())
        })
    }
}
