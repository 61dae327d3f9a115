//! Reads FAT12, FAT16 and FAT32, made by any program.
//!
//! The whole tree is walked first. If that walk finds something unreadable, the filesystem is refused: none is read in
//! part.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::clock;
use super::names;
use super::volume::entry::{self, ATTRIBUTE_LABEL};
use super::volume::{Bits, Next, Shape, Walk, chain, shape};
use crate::read::{Bytes, Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary};

/// How many entries of directories are kept at hand.
const CACHED_ENTRIES: usize = 1 << 17;

/// Whether these bytes start with a FAT boot sector.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    shape::boot_sector(bytes).is_ok_and(|boot| shape::is_fat(&boot))
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no FAT, or if a directory or the clusters of a file are corrupt.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let shape = Shape::new(&*bytes)?;
    if shape.is_small_fat32() {
        return Err(ReadError::Unsupported(format!(
            "FAT32 with {} clusters, which is too few: firmware may take it for FAT16; make it larger, or its clusters \
             smaller",
            shape.clusters
        )));
    }
    let free = gate(&*bytes, &shape)?;
    let id = shape.volume_id();
    let root = Directory::read(&*bytes, &shape, None)?;
    let label = root.label.clone().unwrap_or_else(|| shape.label());
    let summary = Summary {
        format: Format::Vfat,
        label: if label == "NO NAME" { String::new() } else { label },
        uuid: format!("{:04X}-{:04X}", id >> 16, id & 0xffff),
        size: u64::from(shape.sectors).saturating_mul(shape.sector.into()),
        free: u64::from(free).saturating_mul(shape.cluster.into()),
        block_size: shape.cluster,
        features: vec![
            match shape.bits {
                Bits::Fat12 => "fat12",
                Bits::Fat16 => "fat16",
                Bits::Fat32 => "fat32",
            }
            .to_owned(),
        ],
        max_entries: bytes.len() / u64::from(shape::ENTRY_BYTES),
    };
    let known = RefCell::new(Known::default());
    known.borrow_mut().insert(PathBuf::new(), Rc::new(root));
    Ok(Reader { bytes, shape, summary, known })
}

/// Refuses a filesystem that cannot be read completely; returns how many clusters are free.
fn gate(bytes: &dyn Bytes, shape: &Shape) -> Result<u32, ReadError> {
    let mut walk = Walk::new(bytes, shape);
    walk.run()?;
    walk.blame()?;
    if let Some(fault) = walk.fatal() {
        return Err(ReadError::Corrupt(fault.clone()));
    }
    let mut free = 0u32;
    for cluster in 2..shape.clusters.saturating_add(2) {
        free = free.saturating_add(u32::from(walk.table().next(cluster)? == Next::Free));
    }
    Ok(free)
}

/// A FAT filesystem, open for reading.
pub struct Reader {
    pub(super) bytes: Arc<dyn Bytes>,
    pub(super) shape: Shape,
    pub(super) summary: Summary,
    known: RefCell<Known>,
}

/// Directories that were read, by their paths: at least those on the way to the last one, so that a walk through a tree
/// reads each of them once.
#[derive(Default)]
struct Known {
    directories: BTreeMap<PathBuf, Rc<Directory>>,
    /// The sizes of all.
    entries: usize,
}

impl Known {
    fn insert(&mut self, path: PathBuf, directory: Rc<Directory>) {
        self.entries = self.entries.saturating_add(directory.size());
        if self.entries > CACHED_ENTRIES {
            self.directories.retain(|above, _| path.starts_with(above));
            let kept: usize = self.directories.values().map(|kept| kept.size()).sum();
            self.entries = kept.saturating_add(directory.size());
        }
        self.directories.insert(path, directory);
    }

    /// The last one on the way to a path.
    fn nearest(&self, path: &Path) -> Option<(PathBuf, Rc<Directory>)> {
        let known = |above: &Path| Some((above.to_owned(), Rc::clone(self.directories.get(above)?)));
        path.ancestors().find_map(known)
    }
}

/// A directory as it is read.
struct Directory {
    /// But for `.` and `..`, in the order of the directory.
    entries: Vec<entry::Entry>,
    /// By their names as FAT compares them; of two with the same, the first.
    names: BTreeMap<String, usize>,
    /// The volume's label, which the root has.
    label: Option<String>,
}

impl Directory {
    /// Reads the directory that starts at a cluster; the root if at none.
    fn read(bytes: &dyn Bytes, shape: &Shape, cluster: Option<u32>) -> Result<Self, ReadError> {
        let contents = chain::directory_bytes(bytes, shape, cluster)?;
        let found = entry::entries(shape, &contents).entries;
        let (labels, mut entries): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|entry| entry.attributes & ATTRIBUTE_LABEL != 0);
        entries.retain(|entry| !entry.is_dots());
        let mut names = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            names.entry(names::folded(&entry.name())).or_insert(index);
        }
        Ok(Self { entries, names, label: labels.first().map(entry::Entry::label) })
    }

    /// The number of entries, itself counted.
    fn size(&self) -> usize {
        self.entries.len().saturating_add(1)
    }

    fn find(&self, name: &str) -> Option<&entry::Entry> {
        self.entries.get(*self.names.get(&names::folded(name))?)
    }
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

impl Reader {
    /// What a path leads to; nothing for the root.
    pub(super) fn find(&self, path: &Path) -> Result<Option<entry::Entry>, ReadError> {
        let not_found = || ReadError::NotFound(escaped(path));
        match path.components().next_back() {
            None => Ok(None),
            Some(Component::Normal(name)) => {
                let directory = self.directory(path.parent().unwrap_or(Path::new("")), path)?;
                let found = name.to_str().and_then(|name| directory.find(name));
                found.cloned().map(Some).ok_or_else(not_found)
            }
            Some(_) => Err(not_found()),
        }
    }

    /// The directory at `at`, on the way to `path`.
    fn directory(&self, at: &Path, path: &Path) -> Result<Rc<Directory>, ReadError> {
        let mut known = self.known.borrow_mut();
        let (mut here, mut directory) = known.nearest(at).ok_or_else(|| ReadError::NotFound(escaped(path)))?;
        for component in at.strip_prefix(&here).unwrap_or(at).components() {
            let Component::Normal(name) = component else { return Err(ReadError::NotFound(escaped(path))) };
            let entry = name.to_str().and_then(|name| directory.find(name));
            let entry = entry.ok_or_else(|| ReadError::NotFound(escaped(path)))?;
            if !entry.is_directory() {
                return Err(ReadError::NotADirectory(escaped(path)));
            }
            let next = Directory::read(&*self.bytes, &self.shape, Some(entry.cluster))?;
            here.push(name);
            directory = Rc::new(next);
            known.insert(here.clone(), Rc::clone(&directory));
        }
        Ok(directory)
    }
}

fn metadata(entry: &entry::Entry) -> Metadata {
    let (kind, permissions, len) = match entry.is_directory() {
        true => (Kind::Directory, 0o755, 0),
        false => (Kind::File, 0o644, entry.size.into()),
    };
    let mtime = clock::seconds(entry.modified.date, entry.modified.time);
    Metadata { kind, permissions, uid: 0, gid: 0, len, mtime }
}

impl FileSystem for Reader {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, ReadError> {
        let directory = self.directory(path, path)?;
        let entry = |entry: &entry::Entry| Entry { name: entry.name().into(), id: None, metadata: metadata(entry) };
        let mut entries: Vec<_> = directory.entries.iter().map(entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// None: `gate` lets no cluster belong to two.
    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        self.find(path).map(|_| None)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        let root = Metadata { kind: Kind::Directory, permissions: 0o755, uid: 0, gid: 0, len: 0, mtime: 0 };
        Ok(self.find(path)?.map_or(root, |entry| metadata(&entry)))
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        self.find(path)?;
        Err(ReadError::WrongKind { path: escaped(path), wanted: "symbolic link" })
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
        match self.find(path)? {
            Some(entry) if !entry.is_directory() => {
                let clusters = chain::Clusters::new(&*self.bytes, &self.shape, entry.cluster);
                Ok(Box::new(OpenFile { clusters, len: entry.size.into() }))
            }
            _ => Err(ReadError::WrongKind { path: escaped(path), wanted: "regular file" }),
        }
    }
}

struct OpenFile<'a> {
    clusters: chain::Clusters<'a>,
    len: u64,
}

impl Contents for OpenFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buf.len());
        let wanted = buf.get_mut(..len).unwrap_or_default();
        self.clusters.read_exact_at(offset, wanted)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_more_is_kept_than_was_said() {
        let empty = || Rc::new(Directory { entries: Vec::new(), names: BTreeMap::new(), label: None });
        let mut known = Known::default();
        for path in ["", "a", "a/b"] {
            known.insert(path.into(), empty());
        }
        for n in 0..2 * CACHED_ENTRIES {
            known.insert(format!("a/{n}").into(), empty());
            assert!(known.entries <= CACHED_ENTRIES && known.entries == known.directories.len());
        }
        let nearest = |path: &str| known.nearest(Path::new(path)).map(|(above, _)| above);
        assert_eq!(nearest("a/b/c"), Some("a".into()), "it is not on the way");
        assert_eq!(nearest("a/c"), Some("a".into()));
        assert_eq!(nearest("b"), Some("".into()));
        assert_eq!(nearest("/b"), None);
    }
}
