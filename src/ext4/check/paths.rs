//! Faults for people: inodes get their paths, blocks their owners.

use std::collections::BTreeMap;

use super::claims::Owner;
use super::faults::MOST;
use super::{Checker, Subject};
use crate::ext4::format::INODE_ROOT;
use crate::read::{Fault, ReadError};

/// No path is told that is deeper.
const DEEPEST: usize = 128;

impl Checker<'_> {
    /// All faults, in words.
    pub(super) fn finish(mut self) -> Result<Vec<Fault>, ReadError> {
        let twice = self.claims.take_twice();
        let (told, mut more) = std::mem::take(&mut self.faults).into_parts();
        let mut paths = Paths { checker: &self, known: BTreeMap::new() };
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
            faults
                .push(Fault { what: "ext4".to_owned(), why: format!("more than {MOST} faults; the rest is not told") });
        }
        Ok(faults)
    }
}

/// Neighbouring blocks of the same owners, together.
fn grouped(twice: BTreeMap<u64, Vec<Owner>>) -> Vec<(String, Vec<Owner>)> {
    let mut groups: Vec<(std::ops::RangeInclusive<u64>, Vec<Owner>)> = Vec::new();
    for (block, mut owners) in twice {
        owners.sort_unstable();
        // An owner that claims a block twice is told twice, but no more often.
        let all = owners.clone();
        owners.dedup();
        if let ([owner], true) = (&owners[..], all.len() > 1) {
            owners.push(*owner);
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

/// Paths of inodes, each looked for once.
struct Paths<'a> {
    checker: &'a Checker<'a>,
    known: BTreeMap<u32, String>,
}

impl Paths<'_> {
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
        if let Some(path) = self.known.get(&number) {
            return Ok(Some(path.clone()));
        }
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
        let Some(name) = self.name(parent, number)? else { return Ok(None) };
        let path = format!("{above}{name}");
        self.known.insert(number, path.clone());
        Ok(Some(path))
    }

    /// The first name that `parent` has for `child`, escaped.
    fn name(&self, parent: u32, child: u32) -> Result<Option<String>, ReadError> {
        let disk = self.checker.disk;
        let mapping = disk.map(&disk.inode(parent)?, &mut |_| true)?;
        let mut name = None;
        disk.directory_blocks(&mapping, |_, block| {
            let entries = disk.shape().entries(block).flatten();
            let mut named = entries.filter(|e| e.inode == child && e.name != b"." && e.name != b"..");
            if let (None, Some(entry)) = (&name, named.next()) {
                name = Some(entry.name.escape_ascii().to_string());
            }
            Ok(())
        })?;
        Ok(name)
    }
}
