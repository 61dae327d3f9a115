//! Merges the files that several sources put onto the ESP or into `/boot`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::error::{PopulateError, io_error};
use super::links::{Store, special};
use crate::progress::Cancel;
use crate::source::own::{OwnEntry, OwnKind};
use crate::source::tree::{DirectoryMode, Executable, FileTree, TreeBuilder, TreeError};

/// The bytes of two files that are compared at once.
pub(super) const BLOCK: usize = 64 << 10;

/// What stands at a path of the boot tree, and where it was found first.
#[derive(Debug)]
enum Slot {
    Directory { source: PathBuf },
    File { source: PathBuf, size: u64 },
}

/// Which names are one and the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Those that are equal but for case.
    OfFat,
    /// Those that are equal.
    Exact,
}

impl Names {
    /// A path that is the same for paths that are one.
    fn folded(self, path: &Path) -> PathBuf {
        match self {
            Self::OfFat => path.to_string_lossy().to_lowercase().into(),
            Self::Exact => path.to_owned(),
        }
    }
}

/// The boot tree while it grows. Paths compare name by name, so that a map of them is in the order of the tree.
pub(super) struct Merge<'a> {
    pub(super) store: Store<'a>,
    /// Where the running system has the tree.
    pub(super) mount_point: &'a Path,
    names: Names,
    slots: BTreeMap<PathBuf, Slot>,
    /// The directories among them, by their folded paths: FAT has one `EFI` and no `efi` beside it.
    directories: BTreeMap<PathBuf, PathBuf>,
    /// The files likewise, but as they are spelt: what FAT cannot tell apart is refused when the tree is laid out.
    files: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(store: Store<'a>, mount_point: &'a Path, names: Names) -> Self {
        Self { store, mount_point, names, slots: BTreeMap::new(), directories: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// Adds a file of `size` bytes at `path`, and the directories above it.
    pub(super) fn add_file(&mut self, path: &Path, source: PathBuf, size: u64) -> Result<(), PopulateError> {
        self.add_directories(path.parent().unwrap_or(Path::new("")), &source)?;
        self.insert(path.to_owned(), Slot::File { source, size })
    }

    /// Whether there is a file at `path`, spelt in whatever case on FAT.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.files.contains_key(&self.names.folded(path))
    }

    /// Adds a directory that `source` asks for, and those above it.
    fn add_directories(&mut self, path: &Path, source: &Path) -> Result<(), PopulateError> {
        let all: Vec<_> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        for directory in all.into_iter().rev() {
            self.insert(directory.to_owned(), Slot::Directory { source: source.to_owned() })?;
        }
        Ok(())
    }

    /// Adds the contents of a directory, whose path is free of symbolic links.
    pub(super) fn add(&mut self, directory: &Path, cancel: &Cancel) -> Result<(), PopulateError> {
        self.add_below(Path::new(""), directory, cancel)
    }

    /// Adds the contents of a directory, whose path is free of symbolic links, below `prefix`, and what is above.
    pub(super) fn add_below(&mut self, prefix: &Path, directory: &Path, cancel: &Cancel) -> Result<(), PopulateError> {
        self.add_directories(prefix, directory)?;
        for entry in WalkDir::new(directory).min_depth(1).sort_by_file_name() {
            cancel.check()?;
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(directory).to_owned();
                PopulateError::Io { path, source: error.into() }
            })?;
            let path = entry.path().strip_prefix(directory).unwrap_or(entry.path());
            let slot = self.examine(entry.path(), entry.file_type())?;
            self.insert(prefix.join(path), slot)?;
        }
        Ok(())
    }

    /// Puts something of the host's own, in the place of a file that may be there.
    pub(super) fn put(&mut self, own: &OwnEntry) -> Result<(), PopulateError> {
        let path = own.path.clone();
        match &own.kind {
            OwnKind::Directory if path.as_os_str().is_empty() => Ok(()),
            OwnKind::Directory => self.insert(path, Slot::Directory { source: own.origin.clone().into() }),
            OwnKind::File { source, size } => {
                let (source, size) = (source.clone(), *size);
                let file = Slot::File { source: source.clone(), size };
                let path = self.respelled(path, &file);
                for same in self.files.remove(&self.names.folded(&path)).unwrap_or_default() {
                    self.slots.remove(&same);
                }
                self.add_file(&path, source, size)
            }
            OwnKind::Symlink(_) => unreachable!("links on FAT are refused when they are gathered"),
        }
    }

    fn examine(&self, source: &Path, file_type: FileType) -> Result<Slot, PopulateError> {
        if file_type.is_dir() {
            return Ok(Slot::Directory { source: source.to_owned() });
        }
        if file_type.is_symlink() {
            return self.store.follow(source).map(|(source, size)| Slot::File { source, size });
        }
        if let Some(kind) = special(file_type) {
            return Err(PopulateError::SpecialFile { path: source.to_owned(), kind });
        }
        let size = fs::symlink_metadata(source).map_err(io_error(source))?.len();
        Ok(Slot::File { source: source.to_owned(), size })
    }

    fn insert(&mut self, path: PathBuf, slot: Slot) -> Result<(), PopulateError> {
        let path = self.respelled(path, &slot);
        let old = match self.slots.entry(path) {
            Entry::Occupied(old) => old,
            Entry::Vacant(place) => {
                if let Slot::File { .. } = slot {
                    self.files.entry(self.names.folded(place.key())).or_default().push(place.key().clone());
                }
                place.insert(slot);
                return Ok(());
            }
        };
        let path = self.mount_point.join(old.key());
        match (old.get(), slot) {
            (Slot::Directory { .. }, Slot::Directory { .. }) => Ok(()),
            (Slot::File { source: file, .. }, Slot::Directory { source: directory }) => {
                Err(PopulateError::FileAndDirectory { path, file: file.clone(), directory })
            }
            (Slot::Directory { source: directory }, Slot::File { source: file, .. }) => {
                Err(PopulateError::FileAndDirectory { path, file, directory: directory.clone() })
            }
            (Slot::File { source: first, size }, Slot::File { source: second, size: other_size }) => {
                if *size == other_size && same_contents(first, &second, *size)? {
                    Ok(())
                } else {
                    Err(PopulateError::Conflict { path, first: first.clone(), second })
                }
            }
        }
    }

    /// The path with its directories spelt as they were when they came first.
    fn respelled(&mut self, path: PathBuf, slot: &Slot) -> PathBuf {
        let above = path.parent().and_then(|parent| self.directories.get(&self.names.folded(parent)));
        let path = above.zip(path.file_name()).map_or(path.clone(), |(above, name)| above.join(name));
        match slot {
            Slot::Directory { .. } => self.directories.entry(self.names.folded(&path)).or_insert(path).clone(),
            Slot::File { .. } => path,
        }
    }

    pub(super) fn into_tree(self) -> Result<FileTree, TreeError> {
        let mut builder = TreeBuilder::new(DirectoryMode::Writable);
        // The directories that are entered, the root included.
        let mut open = 1;
        for (path, slot) in self.slots {
            let level = path.components().count();
            (level..open).for_each(|_| builder.leave());
            open = level;
            let name = path.file_name().unwrap_or(OsStr::new(""));
            match slot {
                Slot::Directory { .. } => {
                    builder.enter(name, DirectoryMode::Writable)?;
                    open += 1;
                }
                Slot::File { source, size } => {
                    let file = builder.file(name, size, Executable::No)?;
                    builder.set_origin(file, source);
                }
            }
        }
        Ok(builder.finish())
    }
}

/// Whether two files of `size` bytes hold the same.
fn same_contents(first: &Path, second: &Path, size: u64) -> Result<bool, PopulateError> {
    if first == second {
        return Ok(true);
    }
    let open = |path| File::open(path).map(|file| file.take(size)).map_err(io_error(path));
    let (mut a, mut b) = (open(first)?, open(second)?);
    let (mut of_a, mut of_b) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
    loop {
        read_block(&mut a, &mut of_a).map_err(io_error(first))?;
        read_block(&mut b, &mut of_b).map_err(io_error(second))?;
        if of_a != of_b || of_a.is_empty() {
            return Ok(of_a == of_b);
        }
    }
}

/// Reads the next [`BLOCK`] bytes, or what is left.
fn read_block(from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<usize> {
    block.clear();
    from.take(BLOCK as u64).read_to_end(block)
}
