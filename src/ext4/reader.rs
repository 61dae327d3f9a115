//! Reads ext4, ext3 and ext2, made by any program.
//!
//! Metadata that has checksums is read only if they are right. If the journal was not emptied, the filesystem is read
//! as if the journal had been replayed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::rc::Rc;
use std::sync::Arc;

use super::format::{self, SUPERBLOCK_MAGIC};
use super::volume::{self, Disk, Inode, Mapping, Volume, directory};
use crate::read::{Bytes, Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary};
use crate::units::ByteOffset;

/// Bytes of the smallest directory entry.
const SMALLEST_ENTRY: u64 = 12;
/// The longest target of a symbolic link, in bytes.
const LONGEST_LINK: u64 = 4096;
/// A file's blocks are counted in 32 bits.
const MOST_BLOCKS: u64 = 1 << 32;
/// How many names of directories are kept at hand.
const CACHED_NAMES: usize = 1 << 17;

/// Whether these bytes bear ext4's magic.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    volume::read_superblock(bytes).is_ok_and(|superblock| superblock.magic.get() == SUPERBLOCK_MAGIC)
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no ext4, is corrupt in its superblock, descriptors or journal, or has a feature that is not supported.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let volume = Volume::open(&*bytes)?;
    if volume.shape.sums == volume::Sums::Crc32c {
        let superblock = &volume.shape.superblock;
        if volume::Shape::superblock_sum(superblock) != superblock.checksum.get() {
            return Err(ReadError::corrupt("superblock", "has a wrong checksum"));
        }
    }
    if let Some(group) = volume.descriptors.iter().position(|descriptor| !descriptor.intact) {
        return Err(ReadError::corrupt(format!("group {group}"), "its descriptor has a wrong checksum"));
    }
    let summary = summarise(&volume, bytes.len());
    Ok(Reader { bytes, volume, summary, names: RefCell::default() })
}

/// An ext4 filesystem, open for reading.
pub struct Reader {
    pub(super) bytes: Arc<dyn Bytes>,
    pub(super) volume: Volume,
    summary: Summary,
    names: RefCell<Names>,
}

/// The names of a directory, sorted, with their inodes.
type Directory = Rc<[(Box<[u8]>, u32)]>;

/// The directories read last, by inode.
#[derive(Default)]
struct Names {
    directories: BTreeMap<u32, Directory>,
    count: usize,
}

fn summarise(volume: &Volume, len: u64) -> Summary {
    let (shape, superblock) = (&volume.shape, &volume.shape.superblock);
    let free = volume.descriptors.iter().map(|descriptor| u64::from(descriptor.free_blocks)).sum::<u64>();
    let label = superblock.volume_name.split(|&byte| byte == 0).next().unwrap_or_default();
    Summary {
        format: Format::Ext4,
        label: String::from_utf8_lossy(label).into_owned(),
        uuid: uuid::Uuid::from_bytes(superblock.uuid).to_string(),
        size: shape.bytes(),
        free: free.min(shape.blocks).saturating_mul(shape.block_size.into()),
        block_size: shape.block_size,
        features: shape.features(),
        max_entries: len / SMALLEST_ENTRY,
    }
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn id(inode: u32) -> FileId {
    FileId(0, inode.into())
}

/// An inode by number and path.
pub(super) fn named(inode: u32, path: &Path) -> String {
    format!("inode {inode} ({})", if path.as_os_str().is_empty() { "/".to_owned() } else { escaped(path) })
}

impl Reader {
    pub(super) fn disk(&self) -> Disk<'_> {
        Disk { bytes: &*self.bytes, volume: &self.volume }
    }

    /// Reads an inode that a path leads to.
    fn inode(&self, number: u32, path: &Path) -> Result<(Inode, Metadata), ReadError> {
        let inode = self.disk().inode(number)?;
        if !inode.intact {
            return Err(ReadError::corrupt(named(number, path), "has a wrong checksum"));
        }
        let metadata = inode.metadata().ok_or_else(|| {
            ReadError::corrupt(named(number, path), format!("has the mode {:#o}", inode.on_disk.mode.get()))
        })?;
        Ok((inode, metadata))
    }

    /// The inode that a path leads to, links not followed.
    pub(super) fn find(&self, path: &Path) -> Result<(Inode, Metadata), ReadError> {
        let mut found = self.inode(format::INODE_ROOT, Path::new(""))?;
        let mut so_far = std::path::PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(ReadError::NotFound(escaped(path))) };
            let names = self.names(&found, &so_far)?;
            let index = names.binary_search_by(|(other, _)| (**other).cmp(name.as_bytes()));
            let child = index.ok().and_then(|index| names.get(index));
            so_far.push(name);
            found = self.inode(child.ok_or_else(|| ReadError::NotFound(escaped(path)))?.1, &so_far)?;
        }
        Ok(found)
    }

    /// The names in a directory.
    fn names(&self, (inode, metadata): &(Inode, Metadata), path: &Path) -> Result<Directory, ReadError> {
        if metadata.kind != Kind::Directory {
            return Err(ReadError::NotADirectory(escaped(path)));
        }
        let mut cache = self.names.borrow_mut();
        if let Some(names) = cache.directories.get(&inode.number) {
            return Ok(Rc::clone(names));
        }
        let names = self.read_names(inode, path)?;
        if cache.count.saturating_add(names.len()) > CACHED_NAMES {
            *cache = Names::default();
        }
        cache.count = cache.count.saturating_add(names.len());
        cache.directories.insert(inode.number, Rc::clone(&names));
        Ok(names)
    }

    fn read_names(&self, inode: &Inode, path: &Path) -> Result<Directory, ReadError> {
        let what = || named(inode.number, path);
        let mapping = self.map(inode, path)?;
        let shape = &self.volume.shape;
        let blocks = mapping.runs.last().map_or(0, |run| run.end());
        let (size, unit) = (inode.size(), shape.block_size.into());
        if blocks > size.div_ceil(unit) {
            // A mount would not show what is beyond the size.
            return Err(ReadError::corrupt(what(), format!("is a directory of {size} bytes with {blocks} blocks")));
        }
        let mut names = Vec::new();
        self.disk().directory_blocks(&mapping, |logical, block| {
            let kind = shape.block_kind(inode, logical, block);
            if let Some(problem) = shape.directory_sum_problem(inode, kind, block) {
                return Err(ReadError::corrupt(what(), format!("block {logical} of the directory {problem}")));
            }
            for entry in shape.entries(block) {
                let entry = entry.map_err(|problem| {
                    ReadError::corrupt(what(), format!("in block {logical} of the directory, {problem}"))
                })?;
                if entry.inode == 0 || entry.name == b"." || entry.name == b".." {
                    continue;
                }
                if let Some(problem) = directory::name_problem(entry.name) {
                    return Err(ReadError::corrupt(what(), format!("block {logical} of the directory has {problem}")));
                }
                names.push((Box::from(entry.name), entry.inode));
            }
            Ok(())
        })?;
        names.sort_unstable();
        Ok(names.into())
    }

    /// The blocks of a file.
    fn map(&self, inode: &Inode, path: &Path) -> Result<Mapping, ReadError> {
        let what = named(inode.number, path);
        for (flag, feature) in [(format::INODE_INLINE_DATA, "inline data"), (format::INODE_ENCRYPT, "encryption")] {
            if inode.has(flag) {
                return Err(ReadError::Unsupported(format!("{what}: {feature} is not supported")));
            }
        }
        let mapping = self.disk().map(inode, &mut |_| true)?;
        match mapping.problems.first() {
            Some(problem) => Err(ReadError::corrupt(what, problem.clone())),
            None => Ok(mapping),
        }
    }
}

impl FileSystem for Reader {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn waiting(&self) -> Option<&'static str> {
        self.volume.fast_commits.then_some(
            "was not unmounted, and the fast commits in its journal were not replayed: files may be older than what was \
             synced last; mount it once, or run e2fsck",
        )
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        let names = self.names(&self.find(directory)?, directory)?;
        let entry = |(name, inode): &(Box<[u8]>, u32)| {
            let name = OsStr::from_bytes(name).to_owned();
            let (_, metadata) = self.inode(*inode, &directory.join(&name))?;
            Ok(Entry { name, id: Some(id(*inode)), metadata })
        };
        names.iter().map(entry).collect()
    }

    fn any_name(&self, directory: &Path, is_meant: &mut dyn FnMut(&OsStr) -> bool) -> Result<bool, ReadError> {
        let names = self.names(&self.find(directory)?, directory)?;
        Ok(names.iter().any(|(name, _)| is_meant(OsStr::from_bytes(name))))
    }

    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        Ok(Some(id(self.find(path)?.0.number)))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        Ok(self.find(path)?.1)
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        let (inode, metadata) = self.find(path)?;
        if metadata.kind != Kind::Symlink {
            return Err(ReadError::WrongKind { path: escaped(path), wanted: "symbolic link" });
        }
        let corrupt = || {
            ReadError::corrupt(named(inode.number, path), format!("is a link with a target of {} bytes", inode.size()))
        };
        if inode.is_fast_symlink(&self.volume.shape) {
            return inode.fast_target().map(|target| OsString::from_vec(target.to_vec())).ok_or_else(corrupt);
        }
        let len = usize::try_from(inode.size().min(LONGEST_LINK)).unwrap_or(0);
        if inode.size() > LONGEST_LINK || len == 0 {
            return Err(corrupt());
        }
        let mut target = vec![0; len];
        let mut mapping = self.map(&inode, path)?;
        // The kernel reads the block of a link, whether or not the map says that it was written.
        mapping.runs.iter_mut().for_each(|run| run.written = true);
        OpenFile { disk: self.disk(), len: metadata.len, mapping }.read_at(0, &mut target)?;
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
        let (inode, metadata) = self.find(path)?;
        if metadata.kind != Kind::File {
            return Err(ReadError::WrongKind { path: escaped(path), wanted: "regular file" });
        }
        let most = MOST_BLOCKS.saturating_mul(self.volume.shape.block_size.into());
        if metadata.len > most {
            let why = format!("has a size of {} bytes, but no file has more than {most}", metadata.len);
            return Err(ReadError::corrupt(named(inode.number, path), why));
        }
        let mapping = self.map(&inode, path)?;
        Ok(Box::new(OpenFile { disk: self.disk(), len: metadata.len, mapping }))
    }
}

/// A file, its map read.
struct OpenFile<'a> {
    disk: Disk<'a>,
    len: u64,
    mapping: Mapping,
}

impl Contents for OpenFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        let mut rest = buf.get_mut(..wanted).unwrap_or_default();
        let mut at = offset;
        while !rest.is_empty() {
            let len = self.piece(at, rest.len());
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(len);
            self.fill(at, piece)?;
            at = at.saturating_add(piece.len() as u64);
            rest = after;
        }
        Ok(wanted)
    }

    fn stored(&self, offset: u64) -> Range<u64> {
        let size = u64::from(self.disk.shape().block_size);
        let block = offset.checked_div(size).unwrap_or(0);
        let next = self.mapping.from(block).iter().find(|run| run.written);
        next.map_or(u64::MAX..u64::MAX, |run| {
            run.logical.saturating_mul(size).max(offset)..run.end().saturating_mul(size)
        })
    }

    fn lies(&self, offset: u64, len: u64) -> Option<ByteOffset> {
        let size = u64::from(self.disk.shape().block_size);
        let block = offset.checked_div(size)?;
        let run = self.mapping.at_or_after(block).filter(|run| run.logical <= block && run.written)?;
        let before = offset.checked_sub(run.logical.checked_mul(size)?)?;
        let is_whole = offset.checked_add(len)? <= run.end().checked_mul(size)?;
        // Blocks that the journal holds are not where the map says.
        let as_is = self.disk.volume.overlay.is_empty();
        (is_whole && as_is).then_some(ByteOffset(run.physical.checked_mul(size)?.checked_add(before)?))
    }
}

impl OpenFile<'_> {
    /// How many bytes from `at` on, at most `most`, stand together on disk or are a hole together.
    fn piece(&self, at: u64, most: usize) -> usize {
        let size = u64::from(self.disk.shape().block_size);
        let block = at.checked_div(size).unwrap_or(0);
        let end = match self.mapping.at_or_after(block) {
            Some(run) if run.logical <= block => run.end(),
            Some(run) => run.logical,
            None => return most,
        };
        usize::try_from(end.saturating_mul(size).saturating_sub(at)).map_or(most, |len| len.clamp(1, most))
    }

    /// Fills a piece.
    fn fill(&self, at: u64, piece: &mut [u8]) -> Result<(), ReadError> {
        let size = u64::from(self.disk.shape().block_size);
        let block = at.checked_div(size).unwrap_or(0);
        match self.mapping.at_or_after(block).filter(|run| run.logical <= block && run.written) {
            Some(run) => {
                let before = at.saturating_sub(run.logical.saturating_mul(size));
                self.disk.read_at(run.physical, before, piece)
            }
            None => {
                piece.fill(0);
                Ok(())
            }
        }
    }
}
