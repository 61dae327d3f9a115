//! Checks directories: their blocks, their entries, and the inodes that the entries name.

use std::ops::Range;

use super::htree::Htree;
use super::{Checker, Subject};
use crate::ext4::format;
use crate::ext4::volume::directory::{BlockKind, RawEntry, name_problem};
use crate::ext4::volume::{Inode, Mapping};
use crate::read::ReadError;

/// The names of a directory, end to end, for finding those that occur twice.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Names {
    fn push(&mut self, name: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.ranges.push(start..self.bytes.len());
    }

    /// The names that occur more than once.
    fn twice(mut self) -> Vec<String> {
        let name = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.ranges.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let pairs = self.ranges.windows(2).filter_map(|pair| match pair {
            [a, b] if name(a) == name(b) => Some(name(a).escape_ascii().to_string()),
            _ => None,
        });
        pairs.collect()
    }
}

impl Checker<'_> {
    /// All directories.
    pub(super) fn check_directories(&mut self) -> Result<(), ReadError> {
        if self.seen(format::INODE_ROOT).kind != format::TYPE_DIRECTORY {
            self.tell(Subject::Inode(format::INODE_ROOT), "is the root, but no directory");
        }
        for number in self.inodes.directories() {
            // Blocks that another claims too are read with the first that claims them.
            if !self.seen(number).tangled {
                self.check_directory(&self.disk.inode(number)?)?;
            }
        }
        Ok(())
    }

    fn check_directory(&mut self, inode: &Inode) -> Result<(), ReadError> {
        let mapping = self.disk.map(inode, &mut |_| true)?;
        let disk = self.disk;
        let htree = inode.has(format::INODE_INDEX).then(|| self.check_htree(inode, &mapping)).transpose()?;
        let mut names = Names::default();
        disk.directory_blocks(&mapping, |logical, block| {
            self.check_directory_block(inode, (logical, block), htree.as_ref(), &mut names);
            Ok(())
        })?;
        for name in names.twice() {
            self.tell(Subject::Inode(inode.number), format!("has the name {name} twice"));
        }
        self.check_dots_are_there(inode, &mapping)
    }

    fn check_directory_block(
        &mut self,
        inode: &Inode,
        (logical, block): (u64, &[u8]),
        htree: Option<&Htree>,
        names: &mut Names,
    ) {
        let (shape, subject) = (self.shape(), Subject::Inode(inode.number));
        let kind = shape.block_kind(inode, logical, block);
        if let Some(problem) = shape.directory_sum_problem(inode, kind, block) {
            self.tell(subject, format!("block {logical} of the directory {problem}"));
        }
        if let Some(problem) = htree.and_then(|htree| htree.block_problem(logical, kind)) {
            self.tell(subject, format!("block {logical} of the directory {problem}"));
        }
        for entry in shape.entries(block) {
            match entry {
                Err(problem) => self.tell(subject, format!("in block {logical} of the directory, {problem}")),
                Ok(entry) if entry.inode != 0 => {
                    let in_leaf = htree.filter(|_| kind == BlockKind::Leaf);
                    if let Some(problem) = in_leaf.and_then(|htree| htree.name_problem(logical, entry.name)) {
                        self.tell(subject, problem);
                    }
                    self.check_entry(inode, logical, &entry, names);
                }
                Ok(_) => {}
            }
        }
    }

    fn check_entry(&mut self, inode: &Inode, logical: u64, entry: &RawEntry<'_>, names: &mut Names) {
        let (subject, target) = (Subject::Inode(inode.number), self.seen(entry.inode));
        let name = entry.name.escape_ascii();
        if self.is_first_dots(inode, logical, entry) {
            return;
        }
        match name_problem(entry.name) {
            Some(problem) if !inode.has(format::INODE_ENCRYPT) => {
                self.tell(subject, format!("block {logical} of the directory has {problem}: \"{name}\""));
            }
            _ if entry.name == b"." || entry.name == b".." => {
                self.tell(subject, format!("block {logical} of the directory has a second {name}"));
                return;
            }
            _ => {}
        }
        names.push(entry.name);
        if target.kind == 0 {
            self.tell(subject, format!("the entry {name} leads to inode {}, which is not in use", entry.inode));
        } else if entry.file_type != target.kind && self.has_types() {
            let (said, is) = (type_name(entry.file_type), type_name(target.kind));
            self.tell(subject, format!("the entry {name} is of type {said}, but inode {} is {is}", entry.inode));
        }
        if target.kind == format::TYPE_DIRECTORY && (target.parent != 0 || entry.inode == format::INODE_ROOT) {
            let other = if target.parent == 0 { entry.inode } else { target.parent };
            let why = format!("is named by the directories of inode {other} and inode {}", inode.number);
            self.tell(Subject::Inode(entry.inode), why);
        }
        if let Some(seen) = self.seen_mut(entry.inode) {
            seen.names = seen.names.saturating_add(1);
            if seen.parent == 0 {
                seen.parent = inode.number;
            }
        }
    }

    /// Takes in `.` and `..` at the start of the first block.
    fn is_first_dots(&mut self, inode: &Inode, logical: u64, entry: &RawEntry<'_>) -> bool {
        let (is_dot, is_dot_dot) = (entry.at == 0 && entry.name == b".", entry.at == 12 && entry.name == b"..");
        if logical != 0 || !(is_dot || is_dot_dot) {
            return false;
        }
        if is_dot && entry.inode != inode.number {
            self.tell(Subject::Inode(inode.number), format!("its . leads to inode {}", entry.inode));
        }
        if is_dot_dot && let Some(seen) = self.seen_mut(inode.number) {
            seen.dot_dot = entry.inode;
        }
        if let Some(seen) = self.seen_mut(entry.inode) {
            seen.names = seen.names.saturating_add(1);
        }
        true
    }

    /// The first two entries of a directory must be `.` and `..`.
    fn check_dots_are_there(&mut self, inode: &Inode, mapping: &Mapping) -> Result<(), ReadError> {
        let Some(first) = mapping.runs.first().filter(|run| run.logical == 0 && run.written) else { return Ok(()) };
        let block = self.disk.read_block(first.physical)?;
        let found: Vec<&[u8]> = self.shape().entries(&block).flatten().take(2).map(|entry| entry.name).collect();
        if found != [&b"."[..], b".."] {
            self.tell(Subject::Inode(inode.number), "the directory does not start with . and ..");
        }
        Ok(())
    }

    fn has_types(&self) -> bool {
        self.shape().has_incompat(format::incompat::FILETYPE)
    }
}

/// A type as entries have it, for people.
fn type_name(file_type: u8) -> &'static str {
    match file_type {
        format::TYPE_REGULAR => "a regular file",
        format::TYPE_DIRECTORY => "a directory",
        format::TYPE_CHARACTER => "a character device",
        format::TYPE_BLOCK => "a block device",
        format::TYPE_PIPE => "a pipe",
        format::TYPE_SOCKET => "a socket",
        format::TYPE_SYMLINK => "a symbolic link",
        _ => "unknown",
    }
}
