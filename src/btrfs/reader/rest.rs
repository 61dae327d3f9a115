//! What a btrfs has that our writer cannot write: in one file, and in the whole filesystem.
//!
//! Source: "Btrfs on-disk format", sections on inodes, root items and the superblock; numbers are those of the kernel's
//! user interface header `include/uapi/linux/btrfs_tree.h`.

use std::ops::ControlFlow;
use std::path::Path;

use super::directory::names;
use super::{Place, Reader, features, named, root_item};
use crate::btrfs::csum;
use crate::btrfs::format::{self, InodeItem, RootItem, Superblock, Timespec, kind, object};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, ReadError, Rest, escape, rest};
use crate::times::{Times, Timestamp};
use crate::units::ByteOffset;

/// Bytes before the superblock, which are a boot loader's.
const BOOT_BYTES: usize = 64 << 10;

/// The names of inodes' flags; those above 32 bits bear on what may be done with the inode.
const FLAGS: [(u64, &str); 4] =
    [(format::INODE_NODATASUM, "nodatasum"), (0x2, "nodatacow"), (0x4, "read-only"), (1 << 32, "verity")];
/// Flags that stay: not to be compressed (the kernel sets this where compressing did not pay), synchronous, immutable,
/// append-only, nodump, noatime, synchronous of a directory, and to be compressed.
const KEPT: u32 = 0x8 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800;
/// Reserved room (`PREALLOC`): contents always get the room that they need.
const RESERVED: u32 = 0x10;
/// `BTRFS_ROOT_SUBVOL_RDONLY`.
const ROOT_READ_ONLY: u64 = 1;
/// `BTRFS_ROOT_SUBVOL_DEAD`.
const ROOT_DEAD: u64 = 1 << 48;
/// The superblock's flags and their names.
const SUPERBLOCK_FLAGS: [(u64, &str); 9] = [
    (1 << 2, "error"),
    (1 << 32, "seed device"),
    (1 << 33, "copy of the metadata only"),
    (1 << 34, "copy of the metadata only"),
    (1 << 35, "unfinished change of the UUID"),
    (1 << 36, "unfinished change of the UUID"),
    (1 << 38, "unfinished change of the block group tree"),
    (1 << 39, "unfinished change of the checksums"),
    (1 << 40, "unfinished change of the checksums"),
];
/// Features that a writer must know and that have no meaning for what is in the filesystem: how free space and block
/// groups are kept.
const FORM_COMPAT_RO: u64 = 0x1 | 0x2 | 0x8;
/// `BTRFS_FEATURE_COMPAT_RO_VERITY`.
const VERITY: u64 = 0x4;
/// The name of the entry of the root tree's directory that leads to the default subvolume.
const DEFAULT: &[u8] = b"default";

fn time(time: Timespec) -> Timestamp {
    Timestamp { seconds: time.sec.get().cast_signed(), nanoseconds: time.nsec.get() }
}

fn times(inode: &InodeItem) -> Times {
    Times {
        access: time(inode.atime),
        change: time(inode.ctime),
        modification: time(inode.mtime),
        birth: time(inode.otime),
    }
}

impl<B: Bytes> Reader<B> {
    /// See [`FileSystem::rest`](crate::read::FileSystem::rest).
    pub(super) fn rest_of(&self, path: &Path) -> Result<Rest, ReadError> {
        let (Place::Inode { tree, inode }, _) = self.find(path)? else {
            return Ok(Rest::new(Times::STORE, Vec::new()));
        };
        let item = self.inode(tree, inode, path)?;
        let mut obstacles = rest::of_mode(item.mode.get(), item.nlink.get());
        obstacles.extend(rest::of_flags(item.flags.get(), (KEPT | RESERVED).into(), &FLAGS));
        let mut attributes = Vec::new();
        self.each(tree, inode, kind::XATTR_ITEM, |_, data| {
            let cut = || ReadError::corrupt(named(tree, inode, path), "has an extended attribute that is cut short");
            attributes.extend(names(data).ok_or_else(cut)?.iter().map(|found| found.name.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        obstacles.extend(rest::of_attributes(attributes));
        let kept = item.flags.get() & u64::from(KEPT);
        Ok(Rest::new(times(&item), obstacles).with_flags(u32::try_from(kept).expect("a mask of 32 bits")))
    }

    /// See [`FileSystem::obstacles`](crate::read::FileSystem::obstacles).
    pub(super) fn all_obstacles(&self) -> Result<Vec<String>, ReadError> {
        let mut boot = vec![0; BOOT_BYTES];
        self.disk.bytes.read_exact_at(ByteOffset(0), &mut boot)?;
        let has_code = boot.iter().any(|&byte| byte != 0);
        let mut obstacles: Vec<_> = has_code.then(|| "boot code in its first sectors".to_owned()).into_iter().collect();
        obstacles.extend(of_superblock(&self.disk.superblock));
        obstacles.extend(self.default_subvolume()?);
        obstacles.extend(self.of_root_tree()?);
        Ok(obstacles)
    }

    /// The subvolume that a mount shows, if that is not the top level.
    fn default_subvolume(&self) -> Result<Option<String>, ReadError> {
        let key = Key::new(object::ROOT_TREE_DIR, kind::DIR_ITEM, csum::of_name(DEFAULT));
        let Some(data) = self.item(object::ROOT_TREE, key)? else { return Ok(None) };
        let cut = || ReadError::corrupt("tree root", "has a default subvolume that is cut short");
        let found = names(&data).ok_or_else(cut)?.into_iter().find(|found| found.name == DEFAULT);
        let tree = found.map(|found| found.location.objectid).filter(|&tree| tree != object::FS_TREE);
        Ok(tree.map(|tree| format!("the default subvolume {}", self.subvolume(tree))))
    }

    /// What the root tree says of subvolumes, and of work that was not finished.
    fn of_root_tree(&self) -> Result<Vec<String>, ReadError> {
        let (mut roots, mut obstacles) = (Vec::new(), Vec::new());
        let mut tell = |what: &str| {
            if !obstacles.iter().any(|told| told == what) {
                obstacles.push(what.to_owned());
            }
        };
        self.visit(object::ROOT_TREE, Key::default(), &mut |key, data| {
            match (key.objectid, key.kind) {
                (object::QUOTA_TREE, kind::ROOT_ITEM) => tell("quotas"),
                (object::TREE_RELOC, kind::ROOT_ITEM) => tell("a balance that was not finished"),
                (object::BALANCE, kind::TEMPORARY_ITEM) => tell("a balance that was not finished"),
                (object::ORPHAN, kind::ORPHAN_ITEM) => tell("deleted subvolumes that are not yet cleaned up"),
                (tree, kind::ROOT_ITEM) => match root_item(data) {
                    Some(item) if is_subvolume(tree) => roots.push((tree, item)),
                    Some(_) if !is_known(tree) => tell(&format!("the unknown tree {tree}")),
                    Some(_) => {}
                    None => {
                        return Err(ReadError::corrupt(format!("tree {tree}"), "has a ROOT_ITEM that is cut short"));
                    }
                },
                _ => {}
            }
            Ok(true)
        })?;
        obstacles.extend(roots.iter().flat_map(|(tree, item)| self.of_subvolume(*tree, item)));
        for (tree, _) in &roots {
            if self.has_orphans(*tree)? {
                obstacles
                    .push(format!("files of the subvolume {} that were deleted while open", self.subvolume(*tree)));
            }
        }
        Ok(obstacles)
    }

    fn of_subvolume(&self, tree: u64, item: &RootItem) -> Vec<String> {
        let flags = item.flags.get();
        let is_deleted = item.refs.get() == 0 || flags & ROOT_DEAD != 0;
        let kinds = [
            (item.parent_uuid != [0; 16], "snapshot"),
            (flags & ROOT_READ_ONLY != 0, "read-only subvolume"),
            (item.received_uuid != [0; 16], "received subvolume"),
            (is_deleted, "deleted subvolume"),
        ];
        let kinds = kinds.into_iter().filter(|(is_so, _)| *is_so);
        kinds.map(|(_, kind)| format!("the {kind} {}", self.subvolume(tree))).collect()
    }

    /// Whether a subvolume has files without names.
    fn has_orphans(&self, tree: u64) -> Result<bool, ReadError> {
        let mut has = false;
        self.visit(tree, Key::new(object::ORPHAN, kind::ORPHAN_ITEM, 0), &mut |key, _| {
            has = (key.objectid, key.kind) == (object::ORPHAN, kind::ORPHAN_ITEM);
            Ok(!has && key.objectid < object::ORPHAN)
        })?;
        Ok(has)
    }

    /// A subvolume by its path, or by its number if no path leads there.
    fn subvolume(&self, tree: u64) -> String {
        let directory = self.trees.get(&tree).map(|subvolume| subvolume.directory);
        let path = directory.and_then(|directory| self.path_of(tree, directory));
        path.map_or_else(|| tree.to_string(), |path| escape::path(&path))
    }
}

fn is_subvolume(tree: u64) -> bool {
    // The last 256 numbers are those of trees again.
    tree == object::FS_TREE || (object::FIRST_FREE..=object::LAST_FREE).contains(&tree)
}

/// Whether a tree that is no subvolume only says how the others are stored.
fn is_known(tree: u64) -> bool {
    [
        object::EXTENT_TREE,
        object::CHUNK_TREE,
        object::DEV_TREE,
        object::CSUM_TREE,
        object::UUID_TREE,
        object::FREE_SPACE_TREE,
        object::BLOCK_GROUP_TREE,
        object::DATA_RELOC_TREE,
    ]
    .contains(&tree)
}

fn of_superblock(superblock: &Superblock) -> Vec<String> {
    let mut obstacles = Vec::new();
    let mut tell = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
    tell(superblock.log_root.get() != 0, "a log to replay");
    let compat_ro = superblock.compat_ro_flags.get();
    tell(compat_ro & VERITY != 0, "verity");
    let others = features::names(0, compat_ro & !FORM_COMPAT_RO & !VERITY);
    obstacles.extend(others.into_iter().map(|name| format!("the feature {name}")));
    obstacles.extend(rest::of_flags(superblock.compat_flags.get(), 0, &[]));
    obstacles.extend(rest::of_flags(superblock.flags.get(), format::FLAG_WRITTEN, &SUPERBLOCK_FLAGS));
    obstacles.dedup();
    let label = superblock.label.split(|&byte| byte == 0).next().unwrap_or_default();
    obstacles.extend(rest::of_label(label));
    obstacles
}
