//! Collects faults, each once.

use std::collections::BTreeSet;

use crate::btrfs::reader::{Reader, escaped};
use crate::read::{Bytes, Fault};

/// At most this many faults are reported one by one.
const MOST: usize = 1000;

/// Faults, each once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: BTreeSet<Fault>,
    /// Whether there are more.
    more: bool,
    /// Inodes whose nodes cannot be read, with what is wrong: tree, inode.
    inodes: BTreeSet<(u64, u64, String)>,
}

impl Faults {
    pub(super) fn add(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let fault = Fault { what: what.into(), why: why.into() };
        if self.told.len() < MOST {
            self.told.insert(fault);
        } else {
            self.more |= !self.told.contains(&fault);
        }
    }

    /// Adds a fault of an inode. Its path is not known yet.
    pub(super) fn add_inode(&mut self, tree: u64, inode: u64, why: impl Into<String>) {
        if self.inodes.len() < MOST {
            self.inodes.insert((tree, inode, why.into()));
        } else {
            self.more = true;
        }
    }

    /// Finds the paths of inodes.
    pub(super) fn name_files<B: Bytes>(&mut self, reader: Option<&Reader<B>>) {
        for (tree, inode, why) in std::mem::take(&mut self.inodes) {
            let path = reader.and_then(|reader| reader.path_of(tree, inode));
            let path = path.map_or_else(String::new, |path| {
                format!(" ({})", if path.as_os_str().is_empty() { "/".to_owned() } else { escaped(&path) })
            });
            self.add(format!("inode {inode} of tree {tree}{path}"), why);
        }
    }

    /// All of them, sorted.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.name_files::<&dyn Bytes>(None);
        let mut list: Vec<Fault> = self.told.into_iter().collect();
        if self.more {
            list.push(Fault { what: "btrfs".to_owned(), why: format!("has more faults than {MOST}") });
        }
        list
    }
}
