//! The items of a subvolume's tree: inodes, names, and where contents are. Pure.
//!
//! Source: "Btrfs on-disk format", sections on inodes, directory items and file extents. The number of an inode follows
//! from the place of its node in the tree. Every inode has one name. A directory always counts one link, however many
//! subdirectories it has. So no number of links can be too large here.

use zerocopy::IntoBytes;

use super::format::{self, DirItem, ExtentPlace, FileExtent, InodeItem, InodeRef, Timespec, kind, object};
use super::placement::{Place, Placement};
use super::tree::{Key, Sink};
use super::volume::{Volume, Volumes};
use super::{GENERATION, csum};
use crate::copy::Form;
use crate::source::tree::{Attributes, NodeIndex, NodeKind};
use crate::times::{Times, Timestamp};

/// The number of a directory's first entry; those before stand for `.` and `..`.
const FIRST_INDEX: u64 = 2;

/// Gives the contents, as stored, of a file that has them inline.
pub type Inline<'a> = dyn Fn(NodeIndex, &mut [u8]) + 'a;

/// A time as the disk has it. Seconds before 1970 are negative.
pub fn time(time: Timestamp) -> Timespec {
    Timespec { sec: time.seconds.cast_unsigned().into(), nsec: time.nanoseconds.into() }
}

/// An inode with these times.
pub fn with_times(inode: InodeItem, times: Times) -> InodeItem {
    InodeItem {
        atime: time(times.access),
        ctime: time(times.change),
        mtime: time(times.modification),
        otime: time(times.birth),
        ..inode
    }
}

/// An inode of an empty directory.
pub fn directory_inode() -> InodeItem {
    let inode = InodeItem {
        generation: GENERATION.into(),
        transid: GENERATION.into(),
        nlink: 1.into(),
        mode: (format::MODE_DIRECTORY | 0o755).into(),
        ..InodeItem::default()
    };
    with_times(inode, Times::STORE)
}

/// The number of an entry as the disk has it.
pub fn disk_number(number: u32) -> u64 {
    FIRST_INDEX + u64::from(number)
}

/// Puts the empty root directory that every tree of files starts with.
pub fn put_root(sink: &mut impl Sink, inode: &InodeItem) {
    put_struct(sink, Key::new(object::FIRST_FREE, kind::INODE_ITEM, 0), inode);
    put_name(sink, Key::new(object::FIRST_FREE, kind::INODE_REF, object::FIRST_FREE), 0, b"..");
}

/// Puts an item that is one structure.
pub fn put_struct<T: IntoBytes + zerocopy::Immutable>(sink: &mut impl Sink, key: Key, value: &T) {
    sink.put(key, size_of::<T>(), |data| data.copy_from_slice(value.as_bytes()));
}

/// Puts the name of an inode, or of the default subvolume, in its directory.
pub fn put_name(sink: &mut impl Sink, key: Key, index: u64, name: &[u8]) {
    let head = InodeRef { index: index.into(), name_len: name_len(name).into() };
    sink.put(key, size_of::<InodeRef>() + name.len(), |data| join(data, head.as_bytes(), name));
}

/// The entry of a directory that leads to `location`.
pub fn dir_item(location: Key, file_type: u8, name: &[u8]) -> DirItem {
    DirItem {
        location: location.to_disk(),
        transid: GENERATION.into(),
        data_len: 0.into(),
        name_len: name_len(name).into(),
        kind: file_type,
    }
}

/// Fills `data` with two parts.
pub fn join(data: &mut [u8], head: &[u8], tail: &[u8]) {
    let (first, second) = data.split_at_mut(head.len());
    first.copy_from_slice(head);
    second.copy_from_slice(tail);
}

pub(super) fn name_len(name: &[u8]) -> u16 {
    u16::try_from(name.len()).expect("names have at most 255 bytes")
}

/// The items of one subvolume.
pub struct Files<'a> {
    volumes: &'a Volumes,
    volume: &'a Volume,
    placement: &'a Placement,
    /// What compressed contents are compressed with, as the disk says it.
    compression: u8,
}

impl<'a> Files<'a> {
    /// The items of one of `volumes`, whose files are at `placement`.
    pub fn of(volumes: &'a Volumes, volume: &'a Volume, placement: &'a Placement, compression: u8) -> Self {
        Self { volumes, volume, placement, compression }
    }

    /// Puts all items.
    pub fn put_all(&self, sink: &mut impl Sink, inline: &Inline<'_>) {
        for node in self.volumes.nodes(self.volume) {
            self.put_node(sink, node, inline);
        }
    }

    fn put_node(&self, sink: &mut impl Sink, node: NodeIndex, inline: &Inline<'_>) {
        let tree = self.volumes.tree();
        let inode = self.volume.inode(node);
        put_struct(sink, Key::new(inode, kind::INODE_ITEM, 0), &self.inode(node));
        if node == self.volume.root {
            put_name(sink, Key::new(inode, kind::INODE_REF, inode), 0, b"..");
        } else {
            let key = Key::new(inode, kind::INODE_REF, self.volume.inode(tree.parent(node)));
            put_name(sink, key, disk_number(self.volumes.number(node)), self.name(node));
        }
        match tree.kind(node) {
            NodeKind::Directory => self.put_entries(sink, node),
            NodeKind::Symlink(target) => {
                let target = target.as_encoded_bytes();
                let head = self.head(target.len() as u64, Form::Raw, format::FILE_EXTENT_INLINE);
                let key = Key::new(inode, kind::EXTENT_DATA, 0);
                sink.put(key, size_of::<FileExtent>() + target.len(), |data| join(data, head.as_bytes(), target));
            }
            NodeKind::File { size } => self.put_contents(sink, node, size, inline),
        }
    }

    fn name(&self, node: NodeIndex) -> &[u8] {
        self.volumes.tree().name(node).as_encoded_bytes()
    }

    fn inode(&self, node: NodeIndex) -> InodeItem {
        let tree = self.volumes.tree();
        let Attributes { mode, uid, gid } = tree.attributes(node);
        let (kind, size, nbytes) = match tree.kind(node) {
            NodeKind::Directory => {
                let names: usize = tree.children(node).map(|child| self.name(child).len()).sum();
                // Each name counts twice: by hash and by number.
                (format::MODE_DIRECTORY, 2 * names as u64, 0)
            }
            NodeKind::Symlink(target) => (format::MODE_SYMLINK, target.len() as u64, target.len() as u64),
            NodeKind::File { size } => (format::MODE_REGULAR, size, self.file_nbytes(node, size)),
        };
        InodeItem {
            mode: (kind | u32::from(mode)).into(),
            uid: uid.into(),
            gid: gid.into(),
            size: size.into(),
            nbytes: nbytes.into(),
            flags: u64::from(tree.flags(node)).into(),
            ..with_times(directory_inode(), tree.times(node))
        }
    }

    fn file_nbytes(&self, node: NodeIndex, size: u64) -> u64 {
        match self.placement.place(node) {
            Place::Inline { .. } => size,
            _ => size.next_multiple_of(format::SECTOR_SIZE),
        }
    }

    /// The entries of a directory: by the hash of their names, then by number.
    fn put_entries(&self, sink: &mut impl Sink, node: NodeIndex) {
        let directory = self.volume.inode(node);
        let tree = self.volumes.tree();
        let mut by_hash: Vec<_> = tree.children(node).map(|child| (csum::of_name(self.name(child)), child)).collect();
        by_hash.sort_unstable();
        // Names of one hash share an item.
        for same in by_hash.chunk_by(|a, b| a.0 == b.0) {
            let len = same.iter().map(|(_, child)| size_of::<DirItem>() + self.name(*child).len()).sum();
            sink.put(Key::new(directory, kind::DIR_ITEM, same[0].0), len, |mut data| {
                for (_, child) in same {
                    let (entry, rest) = data.split_at_mut(size_of::<DirItem>() + self.name(*child).len());
                    self.fill_entry(entry, *child);
                    data = rest;
                }
            });
        }
        for child in tree.children(node) {
            let key = Key::new(directory, kind::DIR_INDEX, disk_number(self.volumes.number(child)));
            let len = size_of::<DirItem>() + self.name(child).len();
            sink.put(key, len, |data| self.fill_entry(data, child));
        }
    }

    fn fill_entry(&self, data: &mut [u8], child: NodeIndex) {
        let file_type = match self.volumes.tree().kind(child) {
            NodeKind::Directory => format::TYPE_DIRECTORY,
            NodeKind::File { .. } => format::TYPE_REGULAR,
            NodeKind::Symlink(_) => format::TYPE_SYMLINK,
        };
        let location = match self.volumes.rooted_at(child) {
            Some(nested) => Key::new(nested.id, kind::ROOT_ITEM, u64::MAX),
            None => Key::new(self.volume.inode(child), kind::INODE_ITEM, 0),
        };
        let name = self.name(child);
        join(data, dir_item(location, file_type, name).as_bytes(), name);
    }

    fn put_contents(&self, sink: &mut impl Sink, node: NodeIndex, size: u64, inline: &Inline<'_>) {
        let inode = self.volume.inode(node);
        if let Place::Inline { form, len } = self.placement.place(node) {
            let head = self.head(size, form, format::FILE_EXTENT_INLINE);
            let key = Key::new(inode, kind::EXTENT_DATA, 0);
            sink.put(key, size_of::<FileExtent>() + usize::from(len), |data| {
                let (start, contents) = data.split_at_mut(size_of::<FileExtent>());
                start.copy_from_slice(head.as_bytes());
                inline(node, contents);
            });
        }
        for extent in self.placement.extents(node, size) {
            let head = self.head(extent.len, extent.form, format::FILE_EXTENT_REGULAR);
            let place = ExtentPlace {
                disk_bytenr: extent.address.0.into(),
                disk_num_bytes: extent.stored.into(),
                offset: 0.into(),
                num_bytes: extent.len.into(),
            };
            let len = size_of::<FileExtent>() + size_of::<ExtentPlace>();
            let key = Key::new(inode, kind::EXTENT_DATA, extent.offset);
            sink.put(key, len, |data| join(data, head.as_bytes(), place.as_bytes()));
        }
    }

    fn head(&self, ram_bytes: u64, form: Form, kind: u8) -> FileExtent {
        FileExtent {
            generation: GENERATION.into(),
            ram_bytes: ram_bytes.into(),
            compression: if form == Form::Packed { self.compression } else { 0 },
            encryption: 0,
            other_encoding: 0.into(),
            kind,
        }
    }
}
