//! Checks the inodes of a subvolume: their sizes and links must be those that were found.

use zerocopy::FromBytes;

use super::faults::Faults;
use super::names::{Inode, Names};
use crate::btrfs::format::{self, InodeItem, kind, object};
use crate::btrfs::reader::extents::{Part, Stored, part};
use crate::btrfs::reader::{Reader, Subvolume};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, ReadError};

/// Tells what is wrong with the inodes and names of a subvolume, and takes the number of its items from `budget`.
pub(super) fn check<B: Bytes>(
    reader: &Reader<B>,
    tree: u64,
    subvolume: &Subvolume,
    budget: &mut u64,
    faults: &mut Faults,
) -> Result<(), ReadError> {
    let mut volume = Volume { tree, inodes: Vec::new(), names: Names::default(), file: None, faults };
    reader.visit(tree, Key::default(), &mut |key, data| {
        *budget = budget.saturating_sub(1);
        volume.item(key, data);
        Ok(*budget > 0)
    })?;
    if *budget == 0 {
        faults.add(format!("tree {tree}"), "is not checked: too many subvolumes share their contents");
        return Ok(());
    }
    volume.end_file();
    let Volume { inodes, names, .. } = volume;
    names.check(tree, subvolume.directory, &inodes, faults);
    faults.name_files(Some(reader));
    Ok(())
}

/// A subvolume on the way through its items.
struct Volume<'a> {
    tree: u64,
    /// By number.
    inodes: Vec<Inode>,
    names: Names,
    file: Option<File>,
    faults: &'a mut Faults,
}

/// The file that the next extents belong to.
struct File {
    inode: InodeItem,
    number: u64,
    /// The end of its last part.
    end: u64,
    /// Bytes in its parts, as `nbytes` counts them.
    bytes: u64,
}

impl Volume<'_> {
    fn item(&mut self, key: Key, data: &[u8]) {
        // Other items may be between an inode's own and its extents, but no items of another inode.
        if self.file.as_ref().is_some_and(|file| file.number != key.objectid) {
            self.end_file();
        }
        let inode = key.objectid;
        let well = match key.kind {
            kind::INODE_ITEM => self.inode(inode, data),
            kind::INODE_REF => self.names.add_refs(inode, key.offset, data),
            kind::INODE_EXTREF => self.names.add_extrefs(inode, data),
            kind::DIR_ITEM => self.names.add_item(inode, key.offset, data),
            kind::DIR_INDEX => self.names.add_index(inode, key.offset, data),
            kind::EXTENT_DATA => {
                self.extent(key, data);
                Some(())
            }
            _ => Some(()),
        };
        if well.is_none() {
            self.faults.add_inode(self.tree, inode, format!("has an item of type {} that is not whole", key.kind));
        }
    }

    fn inode(&mut self, number: u64, data: &[u8]) -> Option<()> {
        let inode = InodeItem::read_from_bytes(data).ok()?;
        let (mode, links, size) = (inode.mode.get(), inode.nlink.get(), inode.size.get());
        self.inodes.push(Inode { number, mode, links, size });
        let kind = mode & 0o170_000;
        // The free space cache of the old kind and tree-relocation stand in inodes without names.
        if number < object::DATA_RELOC_TREE && [format::MODE_REGULAR, format::MODE_SYMLINK].contains(&kind) {
            self.file = Some(File { inode, number, end: 0, bytes: 0 });
        }
        Some(())
    }

    fn extent(&mut self, key: Key, data: &[u8]) {
        let Some(file) = &mut self.file else {
            return self.faults.add_inode(self.tree, key.objectid, "has contents, but is not a file");
        };
        let Ok(Part { len, stored, .. }) = part(key.offset, data) else { return };
        if key.offset < file.end {
            self.faults.add_inode(self.tree, key.objectid, "has extents that overlap");
        }
        file.end = key.offset.saturating_add(len);
        file.bytes = file.bytes.saturating_add(if stored == Stored::Hole { 0 } else { len });
    }

    fn end_file(&mut self) {
        let Some(file) = self.file.take() else { return };
        if file.inode.nbytes.get() != file.bytes {
            let why = format!("says that it has {} bytes of contents, but has {}", file.inode.nbytes, file.bytes);
            self.faults.add_inode(self.tree, file.number, why);
        }
    }
}
