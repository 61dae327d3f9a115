//! Makes faults readable: inodes get their paths.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, MOST, Subject};
use crate::erofs::volume::{Stream, directory, inode_name};
use crate::read::{Fault, Kind, ReadError, escape};

/// Deeper paths are not reported.
const DEEPEST: usize = 128;

impl Checker<'_> {
    /// All faults, in words.
    pub(super) fn finish(mut self) -> Result<Vec<Fault>, ReadError> {
        let told = std::mem::take(&mut self.told);
        let names = self.names_of(&told)?;
        let mut faults: Vec<Fault> = told
            .into_iter()
            .map(|(subject, why)| {
                let what = match subject {
                    Subject::Superblock => "superblock".to_owned(),
                    Subject::Inode(nid) => self.named_inode(nid, &names),
                    Subject::Bytes(start, end) => format!("bytes {start} to {}", end.saturating_sub(1)),
                };
                Fault { what, why }
            })
            .collect();
        faults.sort();
        if self.more {
            let why = format!("more than {MOST} faults; the rest is not shown");
            faults.push(Fault { what: "erofs".to_owned(), why });
        }
        Ok(faults)
    }

    /// The names of the inodes that faults are about, and of the directories above them, by inode; escaped.
    fn names_of(&self, told: &BTreeSet<(Subject, String)>) -> Result<BTreeMap<u64, String>, ReadError> {
        let mut wanted = BTreeSet::new();
        for (subject, _) in told {
            let Subject::Inode(nid) = subject else { continue };
            let mut at = *nid;
            while wanted.insert(at) {
                at = self.parent(at);
            }
        }
        let directories: BTreeSet<u64> = wanted.iter().map(|nid| self.parent(*nid)).collect();
        let mut names = BTreeMap::new();
        for nid in directories {
            if self.inodes.get(&nid).is_some_and(|seen| seen.kind == Some(Kind::Directory)) {
                match self.read_names(nid, &wanted, &mut names) {
                    Err(ReadError::Corrupt(_)) => (),
                    other => other?,
                }
            }
        }
        Ok(names)
    }

    fn parent(&self, nid: u64) -> u64 {
        self.inodes.get(&nid).map_or(nid, |seen| seen.parent)
    }

    fn read_names(&self, nid: u64, wanted: &BTreeSet<u64>, names: &mut BTreeMap<u64, String>) -> Result<(), ReadError> {
        let inode = self.disk.inode(nid)?;
        let mut stream = Stream::open(self.disk, &inode)?;
        self.disk.directory_blocks(&inode, &mut stream, &self.fragments, |_, block| {
            for entry in directory::entries(block).flatten() {
                let is_child = wanted.contains(&entry.nid) && self.parent(entry.nid) == nid;
                if is_child && entry.name != b"." && entry.name != b".." {
                    names.entry(entry.nid).or_insert_with(|| escape::bytes(entry.name));
                }
            }
            Ok(())
        })
    }

    /// `inode 12 (nix/store)`, or without a path if none leads there.
    fn named_inode(&self, nid: u64, names: &BTreeMap<u64, String>) -> String {
        let number = inode_name(nid);
        if self.disk.shape.packed() == Some(nid) {
            return format!("{number} (the packed inode)");
        }
        let (mut parts, mut at) = (Vec::new(), nid);
        while at != self.disk.shape.root {
            match names.get(&at).filter(|_| parts.len() < DEEPEST) {
                Some(name) => parts.push(name.as_str()),
                None => return number,
            }
            at = self.parent(at);
        }
        parts.reverse();
        format!("{number} ({})", if parts.is_empty() { "/".to_owned() } else { parts.join("/") })
    }
}
