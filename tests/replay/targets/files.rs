//! Files as a boot loader finds them, without an image around them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sane_image::read::{Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Rest, Summary, escape};
use sane_image::times::Times;

/// Regular files, and the directories that they are in.
pub(crate) struct Files {
    summary: Summary,
    files: BTreeMap<PathBuf, Vec<u8>>,
    directories: BTreeSet<PathBuf>,
}

impl Files {
    pub(crate) fn new() -> Self {
        let summary = Summary {
            format: Format::Vfat,
            label: String::new(),
            uuid: String::new(),
            size: 1 << 30,
            free: 0,
            block_size: 4096,
            features: Vec::new(),
            max_entries: 1 << 20,
        };
        Self { summary, files: BTreeMap::new(), directories: [PathBuf::new()].into() }
    }

    pub(crate) fn file(mut self, path: impl AsRef<Path>, contents: &[u8]) -> Self {
        let path = path.as_ref();
        self.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
        self.files.insert(path.to_owned(), contents.to_vec());
        self
    }

    fn get(&self, path: &Path) -> Result<&[u8], ReadError> {
        let wrong_kind = || match self.directories.contains(path) {
            true => ReadError::WrongKind { path: escape::path(path), wanted: "regular file" },
            false => ReadError::NotFound(escape::path(path)),
        };
        self.files.get(path).map(Vec::as_slice).ok_or_else(wrong_kind)
    }
}

impl FileSystem for Files {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        if !self.directories.contains(directory) {
            let is_file = self.files.contains_key(directory);
            let path = escape::path(directory);
            return Err(if is_file { ReadError::NotADirectory(path) } else { ReadError::NotFound(path) });
        }
        let paths = self.files.keys().chain(&self.directories).filter(|path| path.parent() == Some(directory));
        let names: BTreeSet<OsString> = paths.filter_map(|path| Some(path.file_name()?.to_owned())).collect();
        let entry =
            |name: OsString| Some(Entry { id: None, metadata: self.metadata(&directory.join(&name)).ok()?, name });
        Ok(names.into_iter().filter_map(entry).collect())
    }

    fn id(&self, _path: &Path) -> Result<Option<FileId>, ReadError> {
        Ok(None)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        let of = |kind, len: usize| Metadata { kind, permissions: 0o644, uid: 0, gid: 0, len: len as u64, mtime: 1 };
        match self.files.get(path) {
            Some(contents) => Ok(of(Kind::File, contents.len())),
            None if self.directories.contains(path) => Ok(of(Kind::Directory, 0)),
            None => Err(ReadError::NotFound(escape::path(path))),
        }
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        Err(ReadError::WrongKind { path: escape::path(path), wanted: "symbolic link" })
    }

    fn rest(&self, path: &Path) -> Result<Rest, ReadError> {
        self.metadata(path)?;
        Ok(Rest { times: Times::STORE, flags: 0, obstacles: Vec::new() })
    }

    fn obstacles(&self) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn free(&self) -> Result<Vec<Range<u64>>, ReadError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        Ok(Box::new(Bytes(self.get(path)?)))
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
