//! A filesystem in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary, escape};
use crate::times::Times;

/// Any tree, even one that no filesystem should have.
#[derive(Clone)]
pub(crate) struct Fake {
    summary: Summary,
    files: BTreeMap<PathBuf, (Metadata, Vec<u8>)>,
    broken: BTreeSet<PathBuf>,
    /// Directories that are another one.
    loops: BTreeMap<PathBuf, PathBuf>,
}

fn metadata(kind: Kind, permissions: u16, len: usize) -> Metadata {
    Metadata { kind, permissions, uid: 0, gid: 0, len: len as u64, mtime: 1 }
}

/// Equal paths. The lengths differ for most others, so they are compared first.
fn is_same(one: &Path, other: &Path) -> bool {
    one.as_os_str().len() == other.as_os_str().len() && one == other
}

impl Fake {
    pub(crate) fn new() -> Self {
        let summary = Summary {
            format: Format::Ext4,
            label: "fake".to_owned(),
            uuid: "0b7ae3ef-c2a1-4cbc-8a9b-6a1ae9a0a001".to_owned(),
            size: 1 << 30,
            free: 1 << 29,
            block_size: 4096,
            features: vec!["extent".to_owned()],
            max_entries: 1 << 20,
        };
        let root = (metadata(Kind::Directory, 0o755, 0), Vec::new());
        Self { summary, files: [(PathBuf::new(), root)].into(), broken: BTreeSet::new(), loops: BTreeMap::new() }
    }

    /// Adds anything, and the directories above it.
    pub(crate) fn entry(mut self, path: impl AsRef<Path>, metadata: Metadata, contents: &[u8]) -> Self {
        let path = path.as_ref();
        if let Some(parent) = path.parent().filter(|parent| !self.files.contains_key(*parent)) {
            self = self.directory(parent);
        }
        self.files.insert(path.to_owned(), (metadata, contents.to_vec()));
        self
    }

    pub(crate) fn directory(self, path: impl AsRef<Path>) -> Self {
        self.entry(path, metadata(Kind::Directory, 0o555, 0), b"")
    }

    pub(crate) fn file(self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref();
        self.entry(path, metadata(Kind::File, 0o444, contents.len()), contents)
    }

    pub(crate) fn link(self, path: impl AsRef<Path>, target: &str) -> Self {
        self.entry(path, metadata(Kind::Symlink, 0o777, target.len()), target.as_bytes())
    }

    /// Makes a directory unreadable.
    pub(crate) fn broken(mut self, path: &str) -> Self {
        self.broken.insert(path.into());
        self
    }

    /// Makes a directory that is the same as another one.
    pub(crate) fn looping(mut self, path: &str, same: &str) -> Self {
        self.loops.insert(path.into(), same.into());
        self.directory(path)
    }

    /// Makes it a FAT with this label.
    pub(crate) fn vfat(mut self, label: &str) -> Self {
        self.summary =
            Summary { format: Format::Vfat, label: label.to_owned(), uuid: "1234-ABCD".to_owned(), ..self.summary };
        self
    }

    pub(crate) fn max_entries(mut self, max_entries: u64) -> Self {
        self.summary.max_entries = max_entries;
        self
    }

    /// The path without what goes round in circles, on a FAT in the case in which it was made.
    fn shorten(&self, path: &Path) -> PathBuf {
        let mut short = PathBuf::new();
        for part in path {
            short.push(part);
            if let Some(same) = self.loops.get(&short) {
                short.clone_from(same);
            }
        }
        if self.summary.format != Format::Vfat {
            return short;
        }
        let in_any_case = self.files.keys().find(|path| path.as_os_str().eq_ignore_ascii_case(&short));
        in_any_case.cloned().unwrap_or(short)
    }

    fn id_of(&self, path: &Path) -> Option<FileId> {
        let short = self.shorten(path);
        self.files.keys().position(|path| is_same(path, &short)).map(|at| FileId(0, at as u64))
    }

    fn get(&self, path: &Path) -> Result<&(Metadata, Vec<u8>), ReadError> {
        self.files.get(&self.shorten(path)).ok_or_else(|| ReadError::NotFound(escape::path(path)))
    }
}

impl FileSystem for Fake {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        let short = self.shorten(directory);
        if self.broken.contains(&short) {
            return Err(ReadError::corrupt(format!("directory {}", escape::path(directory)), "broken"));
        }
        if self.get(directory)?.0.kind != Kind::Directory {
            return Err(ReadError::NotADirectory(escape::path(directory)));
        }
        let entries = self.files.iter().filter(|(path, _)| path.parent().is_some_and(|above| is_same(above, &short)));
        let named = entries.filter_map(|(path, (metadata, _))| Some((path.file_name()?.to_owned(), *metadata)));
        Ok(named.map(|(name, metadata)| Entry { id: self.id_of(&directory.join(&name)), name, metadata }).collect())
    }

    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        Ok(self.id_of(path))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        Ok(self.get(path)?.0)
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        let (metadata, target) = self.get(path)?;
        match metadata.kind {
            Kind::Symlink => Ok(OsString::from_vec(target.clone())),
            _ => Err(ReadError::WrongKind { path: escape::path(path), wanted: "symbolic link" }),
        }
    }

    fn rest(&self, path: &Path) -> Result<Rest, ReadError> {
        self.metadata(path)?;
        Ok(Rest::new(Times::STORE, Vec::new()))
    }

    fn obstacles(&self) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn free(&self) -> Result<Vec<Range<u64>>, ReadError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        let (metadata, contents) = self.get(path)?;
        match metadata.kind {
            Kind::File => Ok(Box::new(Bytes(contents))),
            _ => Err(ReadError::WrongKind { path: escape::path(path), wanted: "regular file" }),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Contents for Bytes<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}
