//! The files that are read: each must still be what it was when it was laid out.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, Mode, OFlags, SeekFrom};

use super::CopyError;
use super::jobs::Files;
use crate::disk::pages::PAGE;

/// Files at least this long are asked for their holes before they are read, in bytes.
const SPARSE_MIN: u64 = 4 << 20;
/// Files that are open ahead of the one that is read, for each thread: at most 8 × 32 of the 1024 that a process may
/// have open.
const OPEN_AHEAD: usize = 32;

/// An open source file.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    /// Its length when it was laid out, in bytes.
    size: u64,
}

/// A range of a source file that is going to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The index of the file.
    pub(super) file: usize,
    /// The bytes of it.
    pub(super) range: Range<u64>,
}

/// Opens files some way ahead of the one that is read, and has the kernel read them meanwhile.
///
/// A store that is not in the page cache is read from the disk; asked for one file after another, the disk would wait
/// for the thread and the thread for the disk.
pub(super) struct Ahead<'a, I> {
    files: &'a dyn Files,
    wanted: I,
    opened: VecDeque<Result<Source, CopyError>>,
}

impl<'a, I: Iterator<Item = Wanted>> Ahead<'a, I> {
    pub(super) fn new(files: &'a dyn Files, wanted: I) -> Self {
        Self { files, wanted, opened: VecDeque::with_capacity(OPEN_AHEAD) }
    }

    fn open(&self, wanted: &Wanted) -> Result<Source, CopyError> {
        let source = Source::open(self.files.source(wanted.file), self.files.size(wanted.file))?;
        source.read_ahead(&wanted.range);
        Ok(source)
    }
}

impl<I: Iterator<Item = Wanted>> Iterator for Ahead<'_, I> {
    type Item = Result<Source, CopyError>;

    /// The file of the next range that is wanted.
    fn next(&mut self) -> Option<Self::Item> {
        while self.opened.len() < OPEN_AHEAD
            && let Some(wanted) = self.wanted.next()
        {
            let source = self.open(&wanted);
            self.opened.push_back(source);
        }
        self.opened.pop_front()
    }
}

impl Source {
    fn open(path: PathBuf, size: u64) -> Result<Self, CopyError> {
        // Never waiting, should it have become a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => Ok(Self { path, file: File::from(file), size }),
            Err(e) => Err(CopyError::Read { path, source: e.into() }),
        }
    }

    /// Has the kernel start to read what of a range is not a hole; whether it does is its own affair.
    fn read_ahead(&self, range: &Range<u64>) {
        if let Ok(data) = self.next_data(range.clone())
            && let Some(len) = NonZeroU64::new(data.end - data.start)
        {
            let _ = rustix::fs::fadvise(&self.file, data.start, Some(len), Advice::WillNeed);
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first stretch of `range` that is not a hole, from one page to the end of another; `range` starts at a page.
    pub(super) fn next_data(&self, range: Range<u64>) -> Result<Range<u64>, CopyError> {
        if self.size < SPARSE_MIN {
            return Ok(range);
        }
        let seek = |from| match rustix::fs::seek(&self.file, from) {
            Ok(found) => Ok(found.min(range.end)),
            Err(rustix::io::Errno::NXIO) => Ok(range.end),
            Err(e) => Err(self.read_error(e.into())),
        };
        // Whatever the grain of the host's holes.
        let page = PAGE as u64;
        let start = seek(SeekFrom::Data(range.start))?;
        let start = if start < range.end { start - start % page } else { start };
        let end = seek(SeekFrom::Hole(start.max(range.start)))?.next_multiple_of(page).min(range.end);
        Ok(start.max(range.start)..end)
    }

    /// Reads `len` bytes at `offset` to the start of `buffer`, which is longer by a byte at least.
    ///
    /// All of them must be there; and if they are the last of the file, no more.
    pub(super) fn read(&self, offset: u64, len: usize, buffer: &mut [u8]) -> Result<(), CopyError> {
        let is_last = offset + len as u64 == self.size;
        let buffer = &mut buffer[..len + usize::from(is_last)];
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_error(e)),
            }
        }
        if filled == len { Ok(()) } else { Err(self.changed()) }
    }

    /// Fails unless the file is as long as it was when it was laid out.
    pub(super) fn check_size(&self) -> Result<(), CopyError> {
        let metadata = self.file.metadata().map_err(|e| self.read_error(e))?;
        if metadata.is_file() && metadata.len() == self.size { Ok(()) } else { Err(self.changed()) }
    }

    fn read_error(&self, source: io::Error) -> CopyError {
        CopyError::Read { path: self.path.clone(), source }
    }

    pub(super) fn changed(&self) -> CopyError {
        let found = match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => format!("now {}", metadata.len()),
            _ => "now not a regular file".to_owned(),
        };
        CopyError::Changed { path: self.path.clone(), expected: self.size, found }
    }
}
