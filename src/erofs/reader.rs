//! Reads EROFS, made by any program.
//!
//! The superblock is the only structure with a checksum; it is read only if that is right. Contents that are compressed
//! with LZMA are told to be unsupported when they are read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::format::{DIRENT_SIZE, SUPERBLOCK_MAGIC};
use super::volume::{self, Disk, Fragments, Inode, Place, Shape, Stream, directory, located, shape};
use crate::read::{
    Bytes, Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary, escape,
};
use crate::units::ByteOffset;

/// Bytes of the smallest directory entry with its name.
const SMALLEST_ENTRY: u64 = DIRENT_SIZE as u64 + 1;
/// The longest target of a symbolic link, in bytes.
const LONGEST_LINK: u64 = 4096;
/// How many names of directories are kept at hand.
const CACHED_NAMES: usize = 1 << 17;

/// Whether these bytes bear EROFS's magic.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    shape::read_superblock(bytes).is_ok_and(|superblock| superblock.magic.get() == SUPERBLOCK_MAGIC)
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no EROFS, is corrupt in its superblock, or has a feature that is not supported.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let shape = Shape::open(&*bytes)?;
    if shape.superblock_sum(&*bytes)?.is_some_and(|sum| sum != shape.superblock.checksum.get()) {
        return Err(ReadError::corrupt("superblock", "has a wrong checksum"));
    }
    let summary = summarise(&shape);
    Ok(Reader { bytes, shape, summary, names: RefCell::default(), fragments: Fragments::default() })
}

/// An EROFS filesystem, open for reading.
pub struct Reader {
    pub(super) bytes: Arc<dyn Bytes>,
    pub(super) shape: Shape,
    summary: Summary,
    names: RefCell<Names>,
    pub(super) fragments: Fragments,
}

/// The names of a directory, sorted, with their inodes.
type Directory = Rc<[(Box<[u8]>, u64)]>;

/// The directories read last, by inode.
#[derive(Default)]
struct Names {
    directories: BTreeMap<u64, Directory>,
    count: usize,
}

fn summarise(shape: &Shape) -> Summary {
    let superblock = &shape.superblock;
    let label = superblock.volume_name.split(|&byte| byte == 0).next().unwrap_or_default();
    Summary {
        format: Format::Erofs,
        label: String::from_utf8_lossy(label).into_owned(),
        uuid: uuid::Uuid::from_bytes(superblock.uuid).to_string(),
        size: shape.len,
        free: 0,
        block_size: shape.block_size,
        features: shape.features(),
        // Directories can be compressed or shared; see the limit of one.
        max_entries: (shape.len / SMALLEST_ENTRY).saturating_mul(directory::MOST_GROWTH),
    }
}

fn id(nid: u64) -> FileId {
    FileId(0, nid)
}

/// An inode by number and path.
pub(super) fn named(nid: u64, path: &Path) -> String {
    format!("{} ({})", volume::inode_name(nid), escape::path(path))
}

impl Reader {
    pub(super) fn disk(&self) -> Disk<'_> {
        Disk { bytes: &*self.bytes, shape: &self.shape }
    }

    /// Reads an inode that a path leads to.
    fn inode(&self, nid: u64, path: &Path) -> Result<Inode, ReadError> {
        self.disk().inode(nid).map_err(|error| located(error, nid, || named(nid, path)))
    }

    /// The inode that a path leads to, links not followed.
    pub(super) fn find(&self, path: &Path) -> Result<Inode, ReadError> {
        let missing = || ReadError::NotFound(escape::path(path));
        let mut found = self.inode(self.shape.root, Path::new(""))?;
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(missing()) };
            let names = self.names(&found, &so_far)?;
            let index = names.binary_search_by(|(other, _)| (**other).cmp(name.as_bytes()));
            let child = index.ok().and_then(|index| names.get(index));
            so_far.push(name);
            found = self.inode(child.ok_or_else(missing)?.1, &so_far)?;
        }
        Ok(found)
    }

    /// The names in a directory.
    fn names(&self, inode: &Inode, path: &Path) -> Result<Directory, ReadError> {
        if inode.kind != Kind::Directory {
            return Err(ReadError::NotADirectory(escape::path(path)));
        }
        let mut cache = self.names.borrow_mut();
        if let Some(names) = cache.directories.get(&inode.nid) {
            return Ok(Rc::clone(names));
        }
        let names = self.read_names(inode).map_err(|error| located(error, inode.nid, || named(inode.nid, path)))?;
        if cache.count.saturating_add(names.len()) > CACHED_NAMES {
            *cache = Names::default();
        }
        cache.count = cache.count.saturating_add(names.len());
        cache.directories.insert(inode.nid, Rc::clone(&names));
        Ok(names)
    }

    fn read_names(&self, inode: &Inode) -> Result<Directory, ReadError> {
        let mut names = Vec::new();
        let mut stream = Stream::open(self.disk(), inode)?;
        self.disk().directory_blocks(inode, &mut stream, &self.fragments, |number, block| {
            for entry in directory::entries(block) {
                let entry = entry.map_err(|problem| {
                    volume::corrupt(inode.nid, format!("in block {number} of the directory, {problem}"))
                })?;
                if entry.name != b"." && entry.name != b".." {
                    names.push((Box::from(entry.name), entry.nid));
                }
            }
            Ok(())
        })?;
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            let name = twice.first().map_or_else(String::new, |(name, _)| escape::bytes(name));
            return Err(volume::corrupt(inode.nid, format!("has the name {name} twice")));
        }
        Ok(names.into())
    }

    fn open_as(&self, path: &Path, wanted: Kind) -> Result<OpenFile<'_>, ReadError> {
        let inode = self.find(path)?;
        if inode.kind != wanted {
            let wanted = if wanted == Kind::Symlink { "symbolic link" } else { "regular file" };
            return Err(ReadError::WrongKind { path: escape::path(path), wanted });
        }
        let stream = Stream::open(self.disk(), &inode);
        let stream = stream.map_err(|error| located(error, inode.nid, || named(inode.nid, path)))?;
        Ok(OpenFile { reader: self, nid: inode.nid, path: path.to_owned(), stream })
    }
}

impl FileSystem for Reader {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        let names = self.names(&self.find(directory)?, directory)?;
        let entry = |(name, nid): &(Box<[u8]>, u64)| {
            let name = OsStr::from_bytes(name).to_owned();
            let metadata = self.inode(*nid, &directory.join(&name))?.metadata();
            Ok(Entry { name, id: Some(id(*nid)), metadata })
        };
        names.iter().map(entry).collect()
    }

    fn any_name(&self, directory: &Path, is_meant: &mut dyn FnMut(&OsStr) -> bool) -> Result<bool, ReadError> {
        let names = self.names(&self.find(directory)?, directory)?;
        Ok(names.iter().any(|(name, _)| is_meant(OsStr::from_bytes(name))))
    }

    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        Ok(Some(id(self.find(path)?.nid)))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        Ok(self.find(path)?.metadata())
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        let mut file = self.open_as(path, Kind::Symlink)?;
        let size = file.stream.size();
        if size == 0 || size > LONGEST_LINK {
            let why = format!("is a link with a target of {size} bytes");
            return Err(ReadError::corrupt(named(file.nid, path), why));
        }
        let mut target = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_at(0, &mut target)?;
        Ok(OsString::from_vec(target))
    }

    fn rest(&self, path: &Path) -> Result<Rest, ReadError> {
        self.rest_of(path)
    }

    fn obstacles(&self) -> Result<Vec<String>, ReadError> {
        self.all_obstacles()
    }

    /// Nothing is: what no file uses is padding, and nobody writes to it.
    fn free(&self) -> Result<Vec<Range<u64>>, ReadError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        Ok(Box::new(self.open_as(path, Kind::File)?))
    }
}

/// A file, its map read.
struct OpenFile<'a> {
    reader: &'a Reader,
    nid: u64,
    path: PathBuf,
    stream: Stream,
}

impl Contents for OpenFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let Self { reader, nid, path, stream } = self;
        let read = stream.read_at(reader.disk(), &reader.fragments, offset, buf);
        read.map_err(|error| located(error, *nid, || named(*nid, path)))
    }

    fn stored(&self, offset: u64) -> Range<u64> {
        let extents = &self.stream.mapping.extents;
        let after = extents.partition_point(|extent| extent.end <= offset);
        let next = extents.get(after..).unwrap_or_default().iter().find(|extent| extent.place != Place::Hole);
        next.map_or(u64::MAX..u64::MAX, |extent| extent.start.max(offset)..extent.end)
    }

    fn lies(&self, offset: u64, len: u64) -> Option<ByteOffset> {
        let extent = self.stream.mapping.at(offset)?;
        let Place::Raw(at) = extent.place else { return None };
        let is_whole = offset.checked_add(len)? <= extent.end;
        is_whole.then_some(ByteOffset(at.checked_add(offset.checked_sub(extent.start)?)?))
    }
}
