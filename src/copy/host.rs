//! Files of the host.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::CopyError;
use crate::disk::pages::PAGE;

/// Files at least this long are asked for their holes before they are read, in bytes.
const SPARSE_MIN: u64 = 4 << 20;

/// An open file of the host.
pub(super) struct HostFile {
    path: PathBuf,
    file: File,
    /// Its length when it was laid out, in bytes.
    size: u64,
}

impl HostFile {
    pub(super) fn open(path: PathBuf, size: u64) -> Result<Self, CopyError> {
        // Never waiting, should it have become a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => Ok(Self { path, file: File::from(file), size }),
            Err(e) => Err(CopyError::Read { path, source: e.into() }),
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
