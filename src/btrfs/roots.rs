//! The items of the root tree, which leads to all others, and of the trees that are nearly empty. Pure.
//!
//! Source: "Btrfs on-disk format", sections on the root tree and the UUID tree; subvolumes as the kernel makes them.

use uuid::Uuid;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::files::{self, disk_number, join, name_len, put_name, put_struct};
use super::format::{self, DirItem, InodeItem, NODE_SIZE, RootItem, RootRef, kind, object};
use super::space::Chunks;
use super::tree::{Key, Sink, bytes};
use super::trees::Trees;
use super::volume::{Volume, Volumes};
use super::{GENERATION, csum};

/// The name of the entry that leads to the default subvolume.
const DEFAULT: &[u8] = b"default";

/// The UUID of a subvolume: derived from the filesystem's and its path.
pub fn subvolume_uuid(filesystem: Uuid, volume: &Volume) -> Uuid {
    Uuid::new_v5(&filesystem, format!("subvolume {}", volume.path).as_bytes())
}

/// Puts the items of the root tree.
pub fn put_roots(sink: &mut impl Sink, filesystem: Uuid, volumes: &Volumes, trees: &Trees, chunks: &Chunks) {
    let mut owners: Vec<_> = trees.in_root_tree().collect();
    owners.sort_unstable();
    for owner in owners {
        put_tree(sink, filesystem, owner, volumes, trees, chunks);
        if owner == object::FS_TREE {
            put_root_directory(sink);
        }
    }
}

fn put_tree(sink: &mut impl Sink, filesystem: Uuid, owner: u64, volumes: &Volumes, trees: &Trees, chunks: &Chunks) {
    if owner == object::FS_TREE {
        put_name(sink, Key::new(owner, kind::INODE_REF, object::ROOT_TREE_DIR), 0, DEFAULT);
    }
    let volume = volumes.get(owner);
    let mut item = root_item(owner, trees, chunks);
    if let Some(volume) = volume {
        item.uuid = subvolume_uuid(filesystem, volume).into_bytes();
        item.inode.flags = format::INODE_ROOT_ITEM_INIT.into();
        (item.ctransid, item.otransid) = (GENERATION.into(), GENERATION.into());
        // A subvolume is as old as its root directory.
        let times = volumes.tree().times(volume.root);
        (item.ctime, item.otime) = (files::time(times.change), files::time(times.birth));
    }
    if volume.is_some() || owner == object::DATA_RELOC_TREE {
        item.root_dirid = object::FIRST_FREE.into();
    }
    put_struct(sink, Key::new(owner, kind::ROOT_ITEM, 0), &item);
    let Some(volume) = volume else { return };
    if let Some(parent) = volume.parent {
        put_reference(sink, Key::new(owner, kind::ROOT_BACKREF, parent), volumes, volume);
    }
    let mut nested = volumes.nested(volume);
    nested.sort_unstable_by_key(|nested| nested.id);
    for nested in nested {
        put_reference(sink, Key::new(owner, kind::ROOT_REF, nested.id), volumes, nested);
    }
}

fn root_item(owner: u64, trees: &Trees, chunks: &Chunks) -> RootItem {
    let root = trees.root(owner, chunks);
    RootItem {
        inode: InodeItem {
            generation: GENERATION.into(),
            size: 3.into(),
            nlink: 1.into(),
            nbytes: NODE_SIZE.into(),
            mode: (format::MODE_DIRECTORY | 0o755).into(),
            ..InodeItem::default()
        },
        generation: GENERATION.into(),
        bytenr: root.address.0.into(),
        bytes_used: bytes(root.nodes).into(),
        refs: 1.into(),
        level: root.level,
        generation_v2: GENERATION.into(),
        ..RootItem::default()
    }
}

/// Puts the directory that names the default subvolume: the top level, which a mount without `subvol=` shows.
fn put_root_directory(sink: &mut impl Sink) {
    let directory = object::ROOT_TREE_DIR;
    let inode = InodeItem { nbytes: NODE_SIZE.into(), ..files::directory_inode() };
    put_struct(sink, Key::new(directory, kind::INODE_ITEM, 0), &inode);
    put_name(sink, Key::new(directory, kind::INODE_REF, directory), 0, b"..");
    let location = Key::new(object::FS_TREE, kind::ROOT_ITEM, u64::MAX);
    let entry = files::dir_item(location, format::TYPE_DIRECTORY, DEFAULT);
    let key = Key::new(directory, kind::DIR_ITEM, csum::of_name(DEFAULT));
    sink.put(key, size_of::<DirItem>() + DEFAULT.len(), |data| join(data, entry.as_bytes(), DEFAULT));
}

/// Puts where a subvolume is in the one around it.
fn put_reference(sink: &mut impl Sink, key: Key, volumes: &Volumes, nested: &Volume) {
    let directory = volumes.tree().parent(nested.root);
    let outer = volumes.around(directory);
    let name = volumes.tree().name(nested.root).as_encoded_bytes();
    let head = RootRef {
        dirid: outer.inode(directory).into(),
        sequence: disk_number(volumes.number(nested.root)).into(),
        name_len: name_len(name).into(),
    };
    sink.put(key, size_of::<RootRef>() + name.len(), |data| join(data, head.as_bytes(), name));
}

/// Puts the items of the UUID tree: the subvolumes by their UUIDs.
pub fn put_uuids(sink: &mut impl Sink, filesystem: Uuid, volumes: &Volumes) {
    let key = |volume: &Volume| {
        let halves = subvolume_uuid(filesystem, volume).to_u128_le();
        let [low, high] =
            [halves, halves >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).expect("64 bits"));
        Key::new(low, kind::UUID_KEY_SUBVOL, high)
    };
    let mut items: Vec<_> = volumes.iter().map(|volume| (key(volume), volume.id)).collect();
    items.sort_unstable();
    for (key, id) in items {
        put_struct(sink, key, &U64::new(id));
    }
}

/// Puts the items of the tree that balancing moves data through: an empty directory.
pub fn put_relocation(sink: &mut impl Sink) {
    files::put_root(sink, &files::directory_inode());
}
