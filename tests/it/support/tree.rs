//! Trees of files as values: described by a test, written to a host, compared with what an image holds.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use sha2::{Digest, Sha256};

/// The most bytes of contents held in memory at once.
pub(crate) const BLOCK: u64 = 1 << 20;

/// The entries of a directory; names are any bytes but NUL and slash.
pub(crate) type Entries = BTreeMap<Vec<u8>, Entry>;

/// A file of a store path, as Nix knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Dir(Entries),
    File { contents: Contents, executable: bool },
    Symlink(Vec<u8>),
}

/// The contents of a regular file, which need not fit in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Bytes(Vec<u8>),
    /// `len` bytes of zero but for these chunks, by offset; they lie within `len` and do not overlap.
    Sparse {
        len: u64,
        chunks: BTreeMap<u64, Vec<u8>>,
    },
    /// `len` bytes that look random and follow from `seed`.
    Pattern {
        seed: u64,
        len: u64,
    },
}

impl Entry {
    pub(crate) fn dir<N: AsRef<[u8]>>(entries: impl IntoIterator<Item = (N, Entry)>) -> Self {
        Self::Dir(entries.into_iter().map(|(name, entry)| (name.as_ref().to_vec(), entry)).collect())
    }

    pub(crate) fn file(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Contents::Bytes(bytes.as_ref().to_vec()))
    }

    pub(crate) fn of(contents: Contents) -> Self {
        Self::File { contents, executable: false }
    }

    pub(crate) fn executable(bytes: impl AsRef<[u8]>) -> Self {
        Self::File { contents: Contents::Bytes(bytes.as_ref().to_vec()), executable: true }
    }

    pub(crate) fn symlink(target: impl AsRef<[u8]>) -> Self {
        Self::Symlink(target.as_ref().to_vec())
    }

    /// What lies at `path`, with all contents in memory.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            return Ok(Self::Symlink(fs::read_link(path)?.into_os_string().into_vec()));
        }
        if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            return Ok(Self::File { contents: Contents::Bytes(fs::read(path)?), executable });
        }
        assert!(metadata.is_dir(), "{}: neither file nor directory nor symlink", path.display());
        let entries = fs::read_dir(path)?.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().into_vec(), Self::read(&entry.path())?))
        });
        Ok(Self::Dir(entries.collect::<io::Result<_>>()?))
    }
}

impl Contents {
    /// `len` bytes of zero.
    pub(crate) fn zeros(len: u64) -> Self {
        Self::Sparse { len, chunks: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Sparse { len, .. } | Self::Pattern { len, .. } => *len,
        }
    }

    /// Gives all contents to `sink` in order, block by block.
    pub(crate) fn for_each_block(&self, mut sink: impl FnMut(u64, &[u8])) {
        let mut block = vec![0; index(BLOCK.min(self.len()))];
        let mut offset = 0;
        while offset < self.len() {
            let block = &mut block[..index(BLOCK.min(self.len() - offset))];
            self.fill(offset, block);
            sink(offset, block);
            offset += block.len() as u64;
        }
    }

    /// Sets `block` to the contents from `offset` on, which must hold that many bytes.
    pub(crate) fn fill(&self, offset: u64, block: &mut [u8]) {
        match self {
            Self::Bytes(bytes) => block.copy_from_slice(&bytes[index(offset)..][..block.len()]),
            Self::Sparse { chunks, .. } => fill_sparse(chunks, offset, block),
            Self::Pattern { seed, .. } => fill_pattern(*seed, offset, block),
        }
    }

    /// The digest by which equal files find each other, whatever their description.
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.for_each_block(|_, block| hash.update(block));
        hash.finalize().into()
    }

    /// Writes a new file; a sparse one with its holes.
    fn write(&self, path: &Path) -> io::Result<()> {
        let file = File::create_new(path)?;
        if let Self::Sparse { len, chunks } = self {
            file.set_len(*len)?;
            return chunks.iter().try_for_each(|(offset, chunk)| file.write_all_at(chunk, *offset));
        }
        let mut result = Ok(());
        self.for_each_block(|offset, block| {
            if result.is_ok() {
                result = file.write_all_at(block, offset);
            }
        });
        result
    }
}

fn fill_sparse(chunks: &BTreeMap<u64, Vec<u8>>, offset: u64, block: &mut [u8]) {
    block.fill(0);
    let end = offset + block.len() as u64;
    for (&start, chunk) in chunks.range(..end) {
        let (from, to) = (start.max(offset), (start + chunk.len() as u64).min(end));
        if from < to {
            let part = &chunk[index(from - start)..index(to - start)];
            block[index(from - offset)..index(to - offset)].copy_from_slice(part);
        }
    }
}

fn fill_pattern(seed: u64, offset: u64, block: &mut [u8]) {
    let mut at = offset;
    let mut rest = block;
    while !rest.is_empty() {
        let word = splitmix(seed ^ (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
        let skip = index(at % 8);
        let len = rest.len().min(8 - skip);
        rest[..len].copy_from_slice(&word[skip..][..len]);
        rest = &mut rest[len..];
        at += len as u64;
    }
}

/// The mixing step of the generator SplitMix64.
fn splitmix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).expect("64-bit host")
}

/// How a host keeps the files of a store. What an image holds must not depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) file_mode: u32,
    pub(crate) executable_mode: u32,
    pub(crate) directory_mode: u32,
    pub(crate) times: Times,
    pub(crate) links: Links,
    /// The owner and group of everything, where it is not who runs the test. Needs root.
    pub(crate) owner: Option<u32>,
}

/// When a host's files were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// One second after the epoch, as Nix has it.
    Canonical,
    /// When the test wrote them.
    Now,
}

/// Whether files of equal contents share an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    No,
    /// As auto-optimise-store makes them.
    EqualFiles,
}

impl Host {
    /// As Nix keeps its store.
    pub(crate) const CANONICAL: Self = Self {
        file_mode: 0o444,
        executable_mode: 0o555,
        directory_mode: 0o555,
        times: Times::Canonical,
        links: Links::No,
        owner: None,
    };

    /// As a plain copy under this umask.
    pub(crate) fn umask(umask: u32) -> Self {
        Self {
            file_mode: 0o666 & !umask,
            executable_mode: 0o777 & !umask,
            directory_mode: 0o777 & !umask,
            times: Times::Now,
            ..Self::CANONICAL
        }
    }

    /// The same with equal files linked.
    pub(crate) fn with_links(self) -> Self {
        Self { links: Links::EqualFiles, ..self }
    }

    /// Writes `entry` to `path`, which must not exist.
    pub(crate) fn write(&self, path: &Path, entry: &Entry) -> io::Result<()> {
        Writer { host: self, linked: BTreeMap::new() }.write(path, entry)
    }

    /// Writes several trees into a directory; their equal files find each other.
    pub(crate) fn write_all<'a>(
        &self,
        directory: &Path,
        trees: impl IntoIterator<Item = (&'a str, &'a Entry)>,
    ) -> io::Result<()> {
        let mut writer = Writer { host: self, linked: BTreeMap::new() };
        trees.into_iter().try_for_each(|(name, tree)| writer.write(&directory.join(name), tree))
    }
}

struct Writer<'a> {
    host: &'a Host,
    /// The first file of each digest and mode.
    linked: BTreeMap<([u8; 32], u32), PathBuf>,
}

impl Writer<'_> {
    fn write(&mut self, path: &Path, entry: &Entry) -> io::Result<()> {
        match entry {
            Entry::Symlink(target) => symlink(OsStr::from_bytes(target), path)?,
            Entry::File { contents, executable } => return self.write_file(path, contents, *executable),
            Entry::Dir(entries) => {
                fs::create_dir(path)?;
                for (name, entry) in entries {
                    self.write(&path.join(OsStr::from_bytes(name)), entry)?;
                }
            }
        }
        self.set_attributes(path, matches!(entry, Entry::Dir(_)).then_some(self.host.directory_mode))
    }

    fn write_file(&mut self, path: &Path, contents: &Contents, executable: bool) -> io::Result<()> {
        let mode = if executable { self.host.executable_mode } else { self.host.file_mode };
        if self.host.links == Links::EqualFiles {
            let key = (contents.digest(), mode);
            if let Some(first) = self.linked.get(&key) {
                match fs::hard_link(first, path) {
                    Err(e) if e.kind() == ErrorKind::TooManyLinks => {}
                    done => return done,
                }
            }
            self.linked.insert(key, path.to_owned());
        }
        contents.write(path)?;
        self.set_attributes(path, Some(mode))
    }

    fn set_attributes(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        if let Some(owner) = self.host.owner {
            lchown(path, Some(owner), Some(owner))?;
        }
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        if self.host.times == Times::Canonical { set_mtime(path, 1) } else { Ok(()) }
    }
}

/// Sets when `path`, itself no matter what it links to, was last changed, in seconds since the epoch.
pub(crate) fn set_mtime(path: &Path, seconds: i64) -> io::Result<()> {
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 } };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
