//! Walks through the directories: their blocks, their entries, and the inodes that the entries name.

use super::{Checker, Seen, Subject};
use crate::erofs::format::file_type;
use crate::erofs::volume::directory::{self, MOST_GROWTH, RawEntry};
use crate::erofs::volume::{Inode, Stream};
use crate::read::{Kind, ReadError, escape};

/// A directory while it is read.
struct Reading {
    nid: u64,
    parent: u64,
    /// The name that came last.
    last: Vec<u8>,
    has_dot: bool,
    has_dot_dot: bool,
}

impl Checker<'_> {
    /// All directories, from the root on.
    pub(super) fn check_directories(&mut self) -> Result<(), ReadError> {
        let root = self.disk.shape.root;
        self.meet(root, root)?;
        if self.inodes.get(&root).is_some_and(|seen| seen.kind != Some(Kind::Directory)) {
            self.tell(Subject::Inode(root), "is the root, but no directory");
        }
        let most = self.disk.shape.len.saturating_mul(MOST_GROWTH);
        while let Some(nid) = self.todo.pop() {
            let Some(inode) = self.note(nid, self.disk.inode(nid))? else { continue };
            self.directory_bytes = self.directory_bytes.saturating_add(inode.size);
            if self.directory_bytes > most || self.has_overrun() {
                break;
            }
            let result = self.check_directory(&inode);
            self.note(nid, result)?;
        }
        if self.directory_bytes > most || self.has_overrun() {
            self.tell(Subject::Superblock, "leads to more structures than the filesystem has room for");
        }
        Ok(())
    }

    /// Whether inodes have more structures than there can be: then they share them, and reading all could take for ever.
    fn has_overrun(&self) -> bool {
        self.structure_bytes > self.disk.shape.len
    }

    fn check_directory(&mut self, inode: &Inode) -> Result<(), ReadError> {
        let nid = inode.nid;
        let parent = self.inodes.get(&nid).map_or(nid, |seen| seen.parent);
        let mut reading = Reading { nid, parent, last: Vec::new(), has_dot: false, has_dot_dot: false };
        let disk = self.disk;
        let mut stream = Stream::open(disk, inode)?;
        let mut block = Vec::new();
        for number in 0..disk.shape.blocks_of(inode.size) {
            disk.directory_block(inode, &mut stream, &self.fragments, number, &mut block)?;
            for entry in directory::entries(&block) {
                match entry {
                    Ok(entry) => self.check_entry(&mut reading, &entry)?,
                    Err(problem) => {
                        self.tell(Subject::Inode(nid), format!("in block {number} of the directory, {problem}"));
                    }
                }
            }
        }
        for (is_there, name) in [(reading.has_dot, "."), (reading.has_dot_dot, "..")] {
            if !is_there {
                self.tell(Subject::Inode(nid), format!("is a directory without {name}"));
            }
        }
        Ok(())
    }

    fn check_entry(&mut self, reading: &mut Reading, entry: &RawEntry<'_>) -> Result<(), ReadError> {
        let nid = reading.nid;
        if !reading.last.is_empty() && reading.last.as_slice() >= entry.name {
            let (last, name) = (escape::bytes(&reading.last), escape::bytes(entry.name));
            self.tell(Subject::Inode(nid), format!("has the entry {name} after {last}"));
        }
        reading.last.clear();
        reading.last.extend_from_slice(entry.name);
        let (wanted, what) = match entry.name {
            b"." => (nid, "itself"),
            b".." => (reading.parent, "its parent"),
            _ => return self.check_child(nid, entry),
        };
        if wanted != entry.nid {
            let name = escape::bytes(entry.name);
            self.tell(Subject::Inode(nid), format!("its {name} leads to inode {}, not to {what}", entry.nid));
        }
        if entry.name == b"." {
            reading.has_dot = true;
        } else {
            reading.has_dot_dot = true;
        }
        self.named(wanted);
        if !matches!(entry.file_type, file_type::DIRECTORY | file_type::UNKNOWN) {
            let name = escape::bytes(entry.name);
            self.tell(Subject::Inode(nid), format!("its {name} has the type {}", entry.file_type));
        }
        Ok(())
    }

    fn check_child(&mut self, directory: u64, entry: &RawEntry<'_>) -> Result<(), ReadError> {
        let is_new = !self.inodes.contains_key(&entry.nid);
        if is_new {
            self.meet(entry.nid, directory)?;
        }
        self.named(entry.nid);
        let Some(seen) = self.inodes.get(&entry.nid).copied() else { return Ok(()) };
        let name = || escape::bytes(entry.name);
        if !is_new && seen.kind == Some(Kind::Directory) {
            let why =
                format!("has the entry {} for the directory of inode {}, which has a name already", name(), entry.nid);
            self.tell(Subject::Inode(directory), why);
        }
        if Some(entry.nid) == self.disk.shape.packed() {
            self.tell(Subject::Inode(directory), format!("has the entry {} for the packed inode", name()));
        }
        if seen.kind.is_some() && entry.file_type != file_type::UNKNOWN && entry.file_type != seen.file_type {
            let (says, is) = (entry.file_type, seen.file_type);
            self.tell(
                Subject::Inode(directory),
                format!("has the entry {} with the type {says}, but it is {is}", name()),
            );
        }
        Ok(())
    }

    fn named(&mut self, nid: u64) {
        if let Some(seen) = self.inodes.get_mut(&nid) {
            seen.names = seen.names.saturating_add(1);
        }
    }

    /// Reads an inode that is named for the first time.
    fn meet(&mut self, nid: u64, parent: u64) -> Result<(), ReadError> {
        let mut seen = Seen { kind: None, file_type: file_type::UNKNOWN, links: 0, names: 0, parent };
        if self.has_overrun() {
            return Ok(());
        }
        let read = self.disk.inode(nid);
        // What is wrong with it is reported with its own path.
        self.inodes.insert(nid, seen);
        let Some(inode) = self.note(nid, read)? else { return Ok(()) };
        seen.kind = Some(inode.kind);
        seen.file_type = inode.file_type();
        seen.links = inode.links;
        self.inodes.insert(nid, seen);
        if self.check_inode(&inode)? && inode.kind == Kind::Directory {
            self.todo.push(nid);
        }
        Ok(())
    }
}
