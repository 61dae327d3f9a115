//! Checks the names of a subvolume. Each name stands in three places, which must agree.

use zerocopy::FromBytes;

use super::faults::Faults;
use crate::btrfs::csum;
use crate::btrfs::format::{self, InodeExtref, InodeRef, kind};
use crate::btrfs::reader::directory::{name_problem, names};

/// An inode, as far as names need to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) size: u64,
}

/// A name as a directory has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    directory: u64,
    hash: u64,
    len: usize,
    /// The inode that it leads to; `u64::MAX` minus a subvolume's identifier for that.
    child: u64,
    file_type: u8,
}

/// A name as an inode has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    child: u64,
    directory: u64,
    index: u64,
    hash: u64,
}

/// All names of a subvolume.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `DIR_ITEM`.
    by_hash: Vec<Name>,
    /// `DIR_INDEX`.
    by_index: Vec<Name>,
    /// `DIR_INDEX`, as the inode should have it.
    wanted: Vec<Link>,
    /// `INODE_REF` and `INODE_EXTREF`.
    links: Vec<Link>,
    /// Directories with names that no directory may have.
    odd: Vec<(u64, &'static str)>,
}

/// A subvolume where an inode would be.
fn subvolume(id: u64) -> u64 {
    u64::MAX.wrapping_sub(id)
}

impl Names {
    /// The names in an `INODE_REF`.
    pub(super) fn add_refs(&mut self, child: u64, directory: u64, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            let (head, rest) = InodeRef::read_from_prefix(data).ok()?;
            let (name, rest) = rest.split_at_checked(usize::from(head.name_len.get()))?;
            data = rest;
            // The root directory's own name.
            if child != directory {
                self.links.push(Link { child, directory, index: head.index.get(), hash: csum::of_name(name) });
            }
        }
        Some(())
    }

    /// The names in an `INODE_EXTREF`.
    pub(super) fn add_extrefs(&mut self, child: u64, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            let (head, rest) = InodeExtref::read_from_prefix(data).ok()?;
            let (name, rest) = rest.split_at_checked(usize::from(head.name_len.get()))?;
            data = rest;
            let (directory, index) = (head.parent_objectid.get(), head.index.get());
            self.links.push(Link { child, directory, index, hash: csum::of_name(name) });
        }
        Some(())
    }

    /// The names in a `DIR_ITEM`, which its key has the hash of.
    pub(super) fn add_item(&mut self, directory: u64, hash: u64, data: &[u8]) -> Option<()> {
        for name in names(data)? {
            if csum::of_name(name.name) != hash {
                self.odd.push((directory, "a name with a wrong hash"));
            }
            let child = child(name.location.kind, name.location.objectid)?;
            let len = name.name.len();
            self.by_hash.push(Name { directory, hash, len, child, file_type: name.file_type });
        }
        Some(())
    }

    /// The name in a `DIR_INDEX`.
    pub(super) fn add_index(&mut self, directory: u64, index: u64, data: &[u8]) -> Option<()> {
        for name in names(data)? {
            self.odd.extend(name_problem(name.name).map(|problem| (directory, problem)));
            let child = child(name.location.kind, name.location.objectid)?;
            let (hash, len) = (csum::of_name(name.name), name.name.len());
            self.by_index.push(Name { directory, hash, len, child, file_type: name.file_type });
            if name.location.kind == kind::INODE_ITEM {
                self.wanted.push(Link { child, directory, index, hash });
            }
        }
        Some(())
    }

    /// Tells where they disagree with each other and with the inodes, which are sorted by number.
    pub(super) fn check(mut self, tree: u64, root: u64, inodes: &[Inode], faults: &mut Faults) {
        for list in [&mut self.by_hash, &mut self.by_index] {
            list.sort_unstable();
        }
        for list in [&mut self.links, &mut self.wanted] {
            list.sort_unstable();
        }
        for &(directory, problem) in &self.odd {
            faults.add_inode(tree, directory, format!("has {problem}"));
        }
        for name in differences(&self.by_hash, &self.by_index) {
            faults.add_inode(tree, name.directory, "has a name that can be listed or looked up, but not both");
        }
        for link in differences(&self.links, &self.wanted) {
            let why = format!("has another name than in the directory {}", link.directory);
            faults.add_inode(tree, link.child, why);
        }
        let find = |number: u64| inodes.binary_search_by_key(&number, |inode| inode.number).ok();
        for name in &self.by_index {
            let inode = find(name.child).and_then(|index| inodes.get(index));
            match inode {
                _ if name.child >= subvolume(u64::from(u32::MAX)) => {}
                None => {
                    let why = format!("has a name that leads to inode {}, which is not there", name.child);
                    faults.add_inode(tree, name.directory, why);
                }
                Some(inode) if file_type(inode.mode) != name.file_type => {
                    faults.add_inode(tree, inode.number, "is of another type than its name says");
                }
                Some(_) => {}
            }
        }
        self.check_links(tree, root, inodes, faults);
        self.check_sizes(tree, inodes, faults);
    }

    /// Each inode has as many names as it has links, but for those deleted while open.
    fn check_links(&self, tree: u64, root: u64, inodes: &[Inode], faults: &mut Faults) {
        for inode in inodes.iter().filter(|inode| inode.number != root) {
            let first = self.links.partition_point(|link| link.child < inode.number);
            let past = self.links.partition_point(|link| link.child <= inode.number);
            let names = past.saturating_sub(first) as u64;
            if names != u64::from(inode.links) {
                let why = format!("says that it has {} links, but has {names}", inode.links);
                faults.add_inode(tree, inode.number, why);
            }
        }
    }

    /// The size of a directory is that of its names, each counted twice.
    fn check_sizes(&self, tree: u64, inodes: &[Inode], faults: &mut Faults) {
        for inode in inodes.iter().filter(|inode| file_type(inode.mode) == format::TYPE_DIRECTORY) {
            let first = self.by_index.partition_point(|name| name.directory < inode.number);
            let past = self.by_index.partition_point(|name| name.directory <= inode.number);
            let names = self.by_index.get(first..past).unwrap_or_default();
            let size = names.iter().fold(0_u64, |sum, name| sum.saturating_add(2 * name.len as u64));
            if size != inode.size {
                let why = format!("says that its names have {} bytes, but they have {size}", inode.size);
                faults.add_inode(tree, inode.number, why);
            }
        }
    }
}

fn child(location: u8, id: u64) -> Option<u64> {
    match location {
        kind::INODE_ITEM => Some(id),
        kind::ROOT_ITEM => Some(subvolume(id)),
        _ => None,
    }
}

/// The elements that are in only one of two sorted lists.
fn differences<T: Ord + Copy>(a: &[T], b: &[T]) -> Vec<T> {
    let mut found = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(left), Some(right)) if left == right => {
                a.next();
                b.next();
            }
            (Some(left), Some(right)) if left < right => found.extend(a.next()),
            (_, Some(_)) => found.extend(b.next()),
            (Some(_), None) => found.extend(a.next()),
            (None, None) => return found,
        }
    }
}

/// The type that names give an inode of this mode (`BTRFS_FT_*`).
fn file_type(mode: u32) -> u8 {
    match mode & 0o170_000 {
        format::MODE_REGULAR => format::TYPE_REGULAR,
        format::MODE_DIRECTORY => format::TYPE_DIRECTORY,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        format::MODE_SYMLINK => format::TYPE_SYMLINK,
        _ => 0,
    }
}
