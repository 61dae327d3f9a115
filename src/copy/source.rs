//! The files that are read: each must still be what it was when it was laid out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::CopyError;
use super::buffer::PAGE;
use super::parts::Part;

/// Files at least this long are asked for their holes before they are read, in bytes.
const SPARSE_MIN: u64 = 4 << 20;

/// An open source file.
pub(super) struct Source {
    path: PathBuf,
    file: File,
}

impl Source {
    pub(super) fn open(path: PathBuf) -> Result<Self, CopyError> {
        // Never waiting, should it have become a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => Ok(Self { path, file: File::from(file) }),
            Err(e) => Err(CopyError::Read { path, source: e.into() }),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The first stretch of the part at or after `at` that is not a hole, from one page to the end of another.
    pub(super) fn next_data(&self, part: &Part, at: u64) -> Result<Range<u64>, CopyError> {
        if part.size < SPARSE_MIN {
            return Ok(at..part.end());
        }
        let seek = |from| match rustix::fs::seek(&self.file, from) {
            Ok(found) => Ok(found.min(part.end())),
            Err(rustix::io::Errno::NXIO) => Ok(part.end()),
            Err(e) => Err(self.read_error(e.into())),
        };
        // Parts start at multiples of a page, and so do these stretches, whatever the grain of the host's holes.
        let page = PAGE as u64;
        let start = seek(SeekFrom::Data(at))?;
        let start = if start < part.end() { start - start % page } else { start };
        let end = seek(SeekFrom::Hole(start.max(at)))?.next_multiple_of(page).min(part.end());
        Ok(start.max(at)..end)
    }

    /// Fills `buffer` from `offset` on; all of these bytes must be there.
    ///
    /// With `Ending::Here` the file must end right after them; `buffer` then has a byte more than they are.
    pub(super) fn read(&self, part: &Part, offset: u64, buffer: &mut [u8], ending: Ending) -> Result<(), CopyError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_error(e)),
            }
        }
        let wanted = buffer.len() - usize::from(ending == Ending::Here);
        if filled == wanted { Ok(()) } else { Err(self.changed(part)) }
    }

    /// Fails unless the file is as long as it was when it was laid out.
    pub(super) fn check_size(&self, part: &Part) -> Result<(), CopyError> {
        let metadata = self.file.metadata().map_err(|e| self.read_error(e))?;
        if metadata.is_file() && metadata.len() == part.size { Ok(()) } else { Err(self.changed(part)) }
    }

    fn read_error(&self, source: io::Error) -> CopyError {
        CopyError::Read { path: self.path.clone(), source }
    }

    fn changed(&self, part: &Part) -> CopyError {
        let found = match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => format!("now {}", metadata.len()),
            _ => "now not a regular file".to_owned(),
        };
        CopyError::Changed { path: self.path.clone(), expected: part.size, found }
    }
}

/// Whether the file has to end where a read ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Here,
    Later,
}
