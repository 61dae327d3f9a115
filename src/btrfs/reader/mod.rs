//! Reads a btrfs on one device, made by any program.
//!
//! Nodes and contents are read only if their checksums are right. If metadata has two copies, one right copy is enough.
//! A subvolume is shown as a directory at its place, from the top level down. A log that a mount would replay is not
//! read, and the reader says so: the log may have data that a program synced just before a crash.

mod compressed;
pub(super) mod directory;
pub(super) mod disk;
pub(super) mod extents;
pub(super) mod features;
mod free;
pub(super) mod node;
mod rest;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use self::disk::Disk;
use self::extents::OpenFile;
use self::node::{Expected, Node};
use super::format::{
    self, BlockGroupItem, InodeItem, InodeRef, MAGIC, RootItem, RootRef, SUPERBLOCK_OFFSETS, group, kind, object,
};
use super::tree::Key;
use crate::read::{Bytes, Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary};
use crate::units::ByteOffset;

/// Nodes that are kept at hand.
const CACHED_NODES: usize = 1024;
/// Bytes of the smallest directory entry: its item in a leaf and one byte of name.
const SMALLEST_ENTRY: u64 = 56;
/// A path has at most this many components: Linux takes no more than 4,096 bytes.
const DEEPEST: usize = 2048;
/// The longest target of a symbolic link, in bytes.
const LONGEST_LINK: u64 = 4096;

/// Whether these bytes bear btrfs's magic.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    let mut magic = [0; MAGIC.len()];
    let offset = std::mem::offset_of!(format::Superblock, magic) as u64;
    let at = ByteOffset(SUPERBLOCK_OFFSETS[0].saturating_add(offset));
    bytes.read_exact_at(at, &mut magic).is_ok() && magic == MAGIC
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no btrfs, is corrupt in its superblock, chunk tree or root tree, or has a feature that is not supported.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader<Arc<dyn Bytes>>, ReadError> {
    Reader::open(Disk::open(bytes)?)
}

/// Where a tree starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) owner: u64,
    pub(super) address: u64,
    pub(super) level: u8,
}

/// Gets a node.
type Nodes<'a> = dyn FnMut(u64, Expected) -> Result<Arc<Node>, ReadError> + 'a;
/// Sees an item; returns whether to go on.
type Visit<'a> = dyn FnMut(Key, &[u8]) -> Result<bool, ReadError> + 'a;

impl Root {
    /// Visits items in order, from the last one whose key is not above `from`, else from the first.
    pub(super) fn visit(&self, nodes: &mut Nodes<'_>, from: Key, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let expected = Expected { owner: self.owner, level: self.level, first: None, bound: None };
        descend(self.address, expected, Some(from), nodes, visit).map(|_| ())
    }
}

/// Visits the items below a node; levels fall on the way down, and no node is met twice, so that it ends.
fn descend(
    address: u64,
    expected: Expected,
    from: Option<Key>,
    nodes: &mut Nodes<'_>,
    visit: &mut Visit<'_>,
) -> Result<bool, ReadError> {
    let node = nodes(address, expected)?;
    let start = from.map_or(0, |from| node.position(from));
    for index in start..node.len() {
        let Some(key) = node.key(index) else { break };
        let goes_on = match (node.expected(index, expected), node.child(index)) {
            (Some(below), Some((child, _))) => descend(child, below, from.filter(|_| index == start), nodes, visit)?,
            _ => visit(key, node.data(index).unwrap_or_default())?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A tree by its usual name.
pub(super) fn tree_name(owner: u64) -> String {
    let name = match owner {
        object::ROOT_TREE => "root",
        object::EXTENT_TREE => "extent",
        object::CHUNK_TREE => "chunk",
        object::DEV_TREE => "device",
        object::CSUM_TREE => "checksum",
        object::UUID_TREE => "uuid",
        object::FREE_SPACE_TREE => "free space",
        object::DATA_RELOC_TREE => "data relocation",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// A subvolume, or another tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subvolume {
    pub(super) root: Root,
    /// The inode of its root directory.
    pub(super) directory: u64,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An inode of a subvolume.
    Inode { tree: u64, inode: u64 },
    /// The place in a snapshot where the original had another subvolume: a directory without entries.
    Empty,
}

impl Place {
    fn id(self) -> Option<FileId> {
        match self {
            Self::Inode { tree, inode } => Some(FileId(tree, inode)),
            Self::Empty => None,
        }
    }
}

/// A btrfs filesystem, open for reading.
pub struct Reader<B> {
    disk: Disk<B>,
    summary: Summary,
    /// All trees but the root and chunk trees, by identifier.
    trees: BTreeMap<u64, Subvolume>,
    nodes: RefCell<BTreeMap<u64, Arc<Node>>>,
}

impl<B: Bytes> Reader<B> {
    pub(super) fn open(disk: Disk<B>) -> Result<Self, ReadError> {
        let trees = trees(&disk)?;
        let summary = summarise(&disk);
        let mut reader = Self { disk, summary, trees, nodes: RefCell::default() };
        reader.summary.free = reader.room()?;
        Ok(reader)
    }

    /// A node, which may be at hand.
    fn node(&self, address: u64, expected: Expected) -> Result<Arc<Node>, ReadError> {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(node) = nodes.get(&address).filter(|node| is_expected(node, expected)) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.disk.node(address, expected)?);
        if nodes.len() >= CACHED_NODES {
            nodes.clear();
        }
        nodes.insert(address, Arc::clone(&node));
        Ok(node)
    }

    fn tree(&self, id: u64) -> Result<Subvolume, ReadError> {
        self.trees
            .get(&id)
            .copied()
            .ok_or_else(|| ReadError::corrupt(format!("tree {}", tree_name(id)), "is missing from the root tree"))
    }

    /// Visits the items of a tree from the last one whose key is not above `from`.
    pub(super) fn visit(&self, tree: u64, from: Key, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.tree(tree)?.root.visit(&mut |at, expected| self.node(at, expected), from, visit)
    }

    /// The data of one item.
    fn item(&self, tree: u64, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        let mut found = None;
        self.visit(tree, key, &mut |at, data| {
            found = (at == key).then(|| data.to_vec());
            Ok(false)
        })?;
        Ok(found)
    }

    fn inode(&self, tree: u64, inode: u64, path: &Path) -> Result<InodeItem, ReadError> {
        let item = self.item(tree, Key::new(inode, kind::INODE_ITEM, 0))?;
        let item = item.and_then(|item| InodeItem::read_from_bytes(&item).ok());
        item.ok_or_else(|| ReadError::corrupt(named(tree, inode, path), "has no complete INODE_ITEM"))
    }

    fn metadata_of(&self, place: Place, path: &Path) -> Result<Metadata, ReadError> {
        let Place::Inode { tree, inode } = place else {
            let permissions = 0o755;
            return Ok(Metadata { kind: Kind::Directory, permissions, uid: 0, gid: 0, len: 0, mtime: 0 });
        };
        let item = self.inode(tree, inode, path)?;
        let mode = item.mode.get();
        let kind = match mode & 0o170_000 {
            format::MODE_REGULAR => Kind::File,
            format::MODE_DIRECTORY => Kind::Directory,
            format::MODE_SYMLINK => Kind::Symlink,
            0o010_000 | 0o020_000 | 0o060_000 | 0o140_000 => Kind::Special,
            _ => return Err(ReadError::corrupt(named(tree, inode, path), format!("has the mode {mode:#o}"))),
        };
        Ok(Metadata {
            kind,
            permissions: u16::try_from(mode & 0o7777).unwrap_or_default(),
            uid: item.uid.get(),
            gid: item.gid.get(),
            len: item.size.get(),
            mtime: item.mtime.sec.get().cast_signed(),
        })
    }

    /// What a path leads to, links not followed.
    fn find(&self, path: &Path) -> Result<(Place, Metadata), ReadError> {
        let top = self.tree(object::FS_TREE)?;
        let mut place = Place::Inode { tree: object::FS_TREE, inode: top.directory };
        let mut so_far = PathBuf::new();
        let mut metadata = self.metadata_of(place, &so_far)?;
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(ReadError::NotFound(escaped(path))) };
            if metadata.kind != Kind::Directory {
                return Err(ReadError::NotADirectory(escaped(&so_far)));
            }
            let child = self.lookup(place, name.as_bytes(), &so_far)?;
            place = child.ok_or_else(|| ReadError::NotFound(escaped(path)))?;
            so_far.push(name);
            metadata = self.metadata_of(place, &so_far)?;
        }
        Ok((place, metadata))
    }

    /// The path of an inode by the names that lead to it, from the top level, as far as they can be found.
    pub(super) fn path_of(&self, mut tree: u64, mut inode: u64) -> Option<PathBuf> {
        let mut names = Vec::new();
        while names.len() < DEEPEST {
            let from = if self.tree(tree).ok()?.directory != inode {
                Key::new(inode, kind::INODE_REF, 0)
            } else if tree == object::FS_TREE {
                names.reverse();
                return Some(names.iter().map(|name: &OsString| name.as_os_str()).collect());
            } else {
                Key::new(tree, kind::ROOT_BACKREF, 0)
            };
            let holder = if from.kind == kind::INODE_REF { tree } else { object::ROOT_TREE };
            let mut found = None;
            let visited = self.visit(holder, from, &mut |key, data| {
                if (key.objectid, key.kind) >= (from.objectid, from.kind) {
                    found = name_of(key, data).filter(|_| key.objectid == from.objectid);
                    return Ok(false);
                }
                Ok(true)
            });
            visited.ok()?;
            let (name, parent, directory) = found?;
            names.push(name);
            (tree, inode) = if holder == tree { (tree, parent) } else { (parent, directory) };
        }
        None
    }

    /// The tree that has the block groups.
    fn group_tree(&self) -> u64 {
        let has_its_own = self.trees.contains_key(&object::BLOCK_GROUP_TREE);
        if has_its_own { object::BLOCK_GROUP_TREE } else { object::EXTENT_TREE }
    }

    /// Bytes free for more files: in data chunks, and where there are no chunks yet.
    fn room(&self) -> Result<u64, ReadError> {
        let total = self.disk.superblock.dev_item.total_bytes.get();
        let (mut taken, mut free) = (format::DEVICE_RESERVED, 0_u64);
        for chunk in &self.disk.chunks {
            taken = taken.saturating_add(chunk.len.saturating_mul(chunk.copies.len() as u64));
            if chunk.kind & group::DATA != 0 {
                let item = self.item(self.group_tree(), Key::new(chunk.start, kind::BLOCK_GROUP_ITEM, chunk.len))?;
                let item = item.and_then(|item| BlockGroupItem::read_from_bytes(&item).ok());
                let used = item.map_or(chunk.len, |item| item.used.get());
                free = free.saturating_add(chunk.len.saturating_sub(used));
            }
        }
        Ok(free.saturating_add(total.saturating_sub(taken)))
    }
}

/// The name in an `INODE_REF` or `ROOT_BACKREF`, what its key leads to, and the directory there.
fn name_of(key: Key, data: &[u8]) -> Option<(OsString, u64, u64)> {
    let (name_len, rest, directory) = match key.kind {
        kind::INODE_REF => {
            let (head, rest) = InodeRef::read_from_prefix(data).ok()?;
            (head.name_len, rest, 0)
        }
        kind::ROOT_BACKREF => {
            let (head, rest) = RootRef::read_from_prefix(data).ok()?;
            (head.name_len, rest, head.dirid.get())
        }
        _ => return None,
    };
    let name = rest.get(..usize::from(name_len.get()))?;
    Some((OsStr::from_bytes(name).to_owned(), key.offset, directory))
}

fn is_expected(node: &Node, expected: Expected) -> bool {
    let last = node.len().checked_sub(1).and_then(|last| node.key(last));
    node.level() == expected.level
        && expected.first.is_none_or(|first| node.key(0) == Some(first))
        && expected.bound.is_none_or(|bound| last.is_none_or(|last| last < bound))
}

/// All trees that the root tree names. If it names a tree twice, the later one counts.
pub(super) fn trees<B: Bytes>(disk: &Disk<B>) -> Result<BTreeMap<u64, Subvolume>, ReadError> {
    let (address, level) = (disk.superblock.root.get(), disk.superblock.root_level);
    let root = Root { owner: object::ROOT_TREE, address, level };
    let mut trees = BTreeMap::from([(object::ROOT_TREE, Subvolume { root, directory: 0 })]);
    let mut nodes = |at, expected| disk.node(at, expected).map(Arc::new);
    root.visit(&mut nodes, Key::default(), &mut |key, data| {
        if key.kind == kind::ROOT_ITEM {
            let item = root_item(data).ok_or_else(|| {
                ReadError::corrupt(format!("tree {}", tree_name(key.objectid)), "has a ROOT_ITEM that is cut short")
            })?;
            let root = Root { owner: key.objectid, address: item.bytenr.get(), level: item.level };
            trees.insert(key.objectid, Subvolume { root, directory: item.root_dirid.get() });
        }
        Ok(true)
    })?;
    Ok(trees)
}

/// A tree's item, which was shorter in the past.
pub(super) fn root_item(data: &[u8]) -> Option<RootItem> {
    let mut item = RootItem::default();
    let shortest = std::mem::offset_of!(RootItem, generation_v2);
    let len = data.len().min(size_of::<RootItem>());
    (len >= shortest).then_some(())?;
    item.as_mut_bytes().get_mut(..len)?.copy_from_slice(data.get(..len)?);
    Some(item)
}

fn summarise<B: Bytes>(disk: &Disk<B>) -> Summary {
    let superblock = &disk.superblock;
    let label = superblock.label.split(|&byte| byte == 0).next().unwrap_or_default();
    Summary {
        format: Format::Btrfs,
        label: String::from_utf8_lossy(label).into_owned(),
        uuid: Uuid::from_bytes(superblock.fsid).to_string(),
        size: superblock.total_bytes.get(),
        free: 0,
        block_size: superblock.sectorsize.get(),
        features: features::names(superblock.incompat_flags.get(), superblock.compat_ro_flags.get()),
        // Snapshots show the same entries again.
        max_entries: (disk.bytes.len() / SMALLEST_ENTRY).saturating_mul(4),
    }
}

pub(super) fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// An inode by number, tree and path.
pub(super) fn named(tree: u64, inode: u64, path: &Path) -> String {
    let path = if path.as_os_str().is_empty() { "/".to_owned() } else { escaped(path) };
    format!("inode {inode} of tree {} ({path})", tree_name(tree))
}

impl<B: Bytes> FileSystem for Reader<B> {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn waiting(&self) -> Option<&'static str> {
        (self.disk.superblock.log_root.get() != 0).then_some(
            "was not unmounted, and its log was not replayed: files may be older than what was synced last; mount it once",
        )
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        let (place, metadata) = self.find(directory)?;
        if metadata.kind != Kind::Directory {
            return Err(ReadError::NotADirectory(escaped(directory)));
        }
        let entry = |(name, place): (Box<[u8]>, Place)| {
            let name = OsStr::from_bytes(&name).to_owned();
            let metadata = self.metadata_of(place, &directory.join(&name))?;
            Ok(Entry { name, id: place.id(), metadata })
        };
        self.entries(place, directory)?.into_iter().map(entry).collect()
    }

    fn any_name(&self, directory: &Path, is_meant: &mut dyn FnMut(&OsStr) -> bool) -> Result<bool, ReadError> {
        match self.find(directory)? {
            (place, Metadata { kind: Kind::Directory, .. }) => self.has_name(place, directory, is_meant),
            _ => Err(ReadError::NotADirectory(escaped(directory))),
        }
    }

    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        Ok(self.find(path)?.0.id())
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        Ok(self.find(path)?.1)
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        let (place, metadata) = self.find(path)?;
        let mut file = self.open_place(place, metadata, Kind::Symlink, path)?;
        let len = usize::try_from(metadata.len.min(LONGEST_LINK)).unwrap_or(0);
        if metadata.len > LONGEST_LINK || len == 0 {
            return Err(ReadError::corrupt(
                escaped(path),
                format!("is a link with a target of {} bytes", metadata.len),
            ));
        }
        let mut target = vec![0; len];
        file.read_at(0, &mut target)?;
        Ok(OsString::from_vec(target))
    }

    fn rest(&self, path: &Path) -> Result<Rest, ReadError> {
        self.rest_of(path)
    }

    fn obstacles(&self) -> Result<Vec<String>, ReadError> {
        self.all_obstacles()
    }

    fn free(&self) -> Result<Vec<Range<u64>>, ReadError> {
        self.free_ranges()
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        let (place, metadata) = self.find(path)?;
        Ok(Box::new(self.open_place(place, metadata, Kind::File, path)?))
    }
}

impl<B: Bytes> Reader<B> {
    fn open_place(
        &self,
        place: Place,
        metadata: Metadata,
        wanted: Kind,
        path: &Path,
    ) -> Result<OpenFile<'_, B>, ReadError> {
        let name = if wanted == Kind::Symlink { "symbolic link" } else { "regular file" };
        match place {
            Place::Inode { tree, inode } if metadata.kind == wanted => {
                OpenFile::new(self, tree, inode, metadata.len, path)
            }
            _ => Err(ReadError::WrongKind { path: escaped(path), wanted: name }),
        }
    }
}
