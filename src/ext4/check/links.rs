//! Checks what all directories together must give: one parent for each directory, a way to it from the root, and the
//! link counts.

use std::collections::BTreeSet;

use super::{Checker, Seen, Subject};
use crate::ext4::format::{INODE_EA, INODE_ROOT, TYPE_DIRECTORY, ro_compat};
use crate::read::ReadError;

impl Checker<'_> {
    /// Names against link counts, for every inode in use.
    pub(super) fn check_links(&mut self) {
        for (number, seen) in self.inodes.in_use().collect::<Vec<_>>() {
            if self.is_hidden(number) {
                continue;
            }
            if seen.kind == TYPE_DIRECTORY {
                self.check_parent(number);
            }
            let named = seen.parent != 0 || number == INODE_ROOT;
            // Without links it waits to be freed. That was reported already.
            if !named && seen.links > 0 && seen.kind != TYPE_DIRECTORY && !self.is_attribute(number) {
                self.tell(Subject::Inode(number), "is in use, but no directory names it");
            } else if named && u32::from(seen.links) != seen.names && !self.is_uncounted(seen) {
                let (links, names) = (seen.links, seen.names);
                self.tell(Subject::Inode(number), format!("says that it has {links} links, but has {names}"));
            }
        }
        self.check_reachable();
    }

    /// Whether so many subdirectories were met once that their number is kept no more.
    fn is_uncounted(&self, seen: Seen) -> bool {
        seen.kind == TYPE_DIRECTORY && seen.links == 1 && self.shape().has_ro_compat(ro_compat::DIR_NLINK)
    }

    /// Whether the inode holds the value of an attribute.
    fn is_attribute(&self, number: u32) -> bool {
        self.disk.inode(number).is_ok_and(|inode| inode.has(INODE_EA))
    }

    fn check_parent(&mut self, number: u32) {
        let seen = self.seen(number);
        let parent = if number == INODE_ROOT { INODE_ROOT } else { seen.parent };
        if parent == 0 {
            self.tell(Subject::Inode(number), "is a directory that no other directory names");
        } else if seen.dot_dot != parent && !seen.tangled {
            self.tell(Subject::Inode(number), format!("its .. leads to inode {}, not to its parent", seen.dot_dot));
        }
    }

    /// Directories that have a parent, but whose parents lead in a circle.
    fn check_reachable(&mut self) {
        let mut reached = BTreeSet::new();
        for number in self.inodes.directories() {
            let mut way = Vec::new();
            let mut at = number;
            while at != 0 && reached.insert(at) {
                way.push(at);
                at = if at == INODE_ROOT { 0 } else { self.seen(at).parent };
            }
            if way.contains(&at) {
                self.tell(Subject::Inode(at), "is a directory within itself, which cannot be reached from the root");
            }
        }
    }

    /// Finds and reports the owners of the blocks that were claimed twice.
    pub(super) fn blame(&mut self) -> Result<(), ReadError> {
        if self.claims.look_for_owners() {
            self.claim_again()?;
        }
        Ok(())
    }
}
