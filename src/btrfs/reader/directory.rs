//! The names in directories, and what each name leads to.
//!
//! Source: "Btrfs on-disk format", sections on directory items and root references.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::FromBytes;

use super::{Place, Reader, named};
use crate::btrfs::csum;
use crate::btrfs::format::{DirItem, kind, object};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, ReadError};

/// Names in a directory, each with what it leads to.
type Entries = Vec<(Box<[u8]>, Place)>;

/// A name with where it leads.
pub(in crate::btrfs) struct Name<'a> {
    pub(in crate::btrfs) location: Key,
    pub(in crate::btrfs) name: &'a [u8],
    pub(in crate::btrfs) file_type: u8,
}

/// The names in the data of a `DIR_ITEM` or `DIR_INDEX`, or `None` if they do not fill it exactly.
pub(in crate::btrfs) fn names(mut data: &[u8]) -> Option<Vec<Name<'_>>> {
    let mut names = Vec::new();
    while !data.is_empty() {
        let (head, rest) = DirItem::read_from_prefix(data).ok()?;
        let (name, rest) = rest.split_at_checked(usize::from(head.name_len.get()))?;
        data = rest.get(usize::from(head.data_len.get())..)?;
        names.push(Name { location: (&head.location).into(), name, file_type: head.kind });
    }
    Some(names)
}

/// What is wrong with a name, if anything is.
pub(in crate::btrfs) fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("an empty name"),
        b"." | b".." => Some("an entry named . or .."),
        name if name.len() > 255 => Some("a name of more than 255 bytes"),
        name if name.contains(&b'/') || name.contains(&0) => Some("a name with a slash or a NUL"),
        _ => None,
    }
}

impl<B: Bytes> Reader<B> {
    /// What a name in a directory leads to.
    pub(super) fn lookup(&self, directory: Place, name: &[u8], path: &Path) -> Result<Option<Place>, ReadError> {
        let Place::Inode { tree, inode } = directory else { return Ok(None) };
        let key = Key::new(inode, kind::DIR_ITEM, csum::of_name(name));
        let Some(data) = self.item(tree, key)? else { return Ok(None) };
        let corrupt = || ReadError::corrupt(named(tree, inode, path), "has a directory item that is cut short");
        let found = names(&data).ok_or_else(corrupt)?.into_iter().find(|found| found.name == name);
        found.map(|found| self.place(tree, inode, &found, path)).transpose()
    }

    /// The entries of a directory, sorted by name.
    pub(super) fn entries(&self, directory: Place, path: &Path) -> Result<Entries, ReadError> {
        let Place::Inode { tree, inode } = directory else { return Ok(Vec::new()) };
        let corrupt = |why: &str| ReadError::corrupt(named(tree, inode, path), format!("has {why}"));
        let mut entries: Vec<(Box<[u8]>, Key)> = Vec::new();
        self.each(tree, inode, kind::DIR_INDEX, |_, data| {
            for found in names(data).ok_or_else(|| corrupt("a directory index that is cut short"))? {
                if let Some(problem) = name_problem(found.name) {
                    return Err(corrupt(problem));
                }
                entries.push((Box::from(found.name), found.location));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let place = |(name, location): (Box<[u8]>, Key)| {
            let found = Name { location, name: &name, file_type: 0 };
            let place = self.place(tree, inode, &found, path)?;
            Ok((name, place))
        };
        entries.into_iter().map(place).collect()
    }

    /// Whether a directory has a name that `is_meant` takes.
    pub(super) fn has_name(
        &self,
        directory: Place,
        path: &Path,
        is_meant: &mut dyn FnMut(&OsStr) -> bool,
    ) -> Result<bool, ReadError> {
        let Place::Inode { tree, inode } = directory else { return Ok(false) };
        let mut is_there = false;
        self.each(tree, inode, kind::DIR_INDEX, |_, data| {
            let cut = || ReadError::corrupt(named(tree, inode, path), "has a directory index that is cut short");
            is_there = names(data).ok_or_else(cut)?.iter().any(|found| is_meant(OsStr::from_bytes(found.name)));
            Ok(if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(is_there)
    }

    /// Visits the items of one kind of an inode.
    pub(super) fn each(
        &self,
        tree: u64,
        inode: u64,
        wanted: u8,
        mut visit: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        self.visit(tree, Key::new(inode, wanted, 0), &mut |key, data| {
            if (key.objectid, key.kind) < (inode, wanted) {
                return Ok(true);
            }
            Ok((key.objectid, key.kind) == (inode, wanted) && visit(key.offset, data)?.is_continue())
        })
    }

    /// Where a name leads: to an inode of its own tree, or to another subvolume's root directory.
    fn place(&self, tree: u64, directory: u64, found: &Name<'_>, path: &Path) -> Result<Place, ReadError> {
        let Key { objectid, kind, .. } = found.location;
        match kind {
            kind::INODE_ITEM => Ok(Place::Inode { tree, inode: objectid }),
            kind::ROOT_ITEM => {
                let link = self.item(object::ROOT_TREE, Key::new(tree, kind::ROOT_REF, objectid))?;
                match self.trees.get(&objectid) {
                    Some(subvolume) if link.is_some() => {
                        Ok(Place::Inode { tree: objectid, inode: subvolume.directory })
                    }
                    _ => Ok(Place::Empty),
                }
            }
            other => Err(ReadError::corrupt(
                named(tree, directory, path),
                format!("has an entry {} that leads to an item of type {other}", found.name.escape_ascii()),
            )),
        }
    }
}
