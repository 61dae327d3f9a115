//! The image as the engines write to it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::buffer::PAGE;
use super::clone_range::clone_range;
use super::parts::Part;
use super::source::Source;
use super::{CopyError, Engine, Summary};
use crate::units::ByteOffset;

/// The image file and the ways to write to it that are open.
pub(super) struct Image<'a> {
    file: &'a File,
    /// The same file, opened for writes that bypass the page cache.
    direct: Option<File>,
    /// Whether sharing extents is still worth a try.
    clones: AtomicBool,
    engine: Engine,
    cloned: AtomicU64,
    written: AtomicU64,
}

impl<'a> Image<'a> {
    /// Finds out what the image's filesystem allows of what `engine` asks for.
    pub(super) fn new(file: &'a File, engine: Engine) -> Result<Self, CopyError> {
        let direct = match engine {
            Engine::Buffered => None,
            Engine::Auto | Engine::Reflink => open_direct(file).ok(),
            Engine::Direct => Some(open_direct(file).map_err(|e| CopyError::Unavailable { engine, source: e.into() })?),
        };
        let clones = AtomicBool::new(matches!(engine, Engine::Auto | Engine::Reflink));
        Ok(Self { file, direct, clones, engine, cloned: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// Whether files may be tried to share their extents with the image.
    pub(super) fn clones(&self) -> bool {
        self.clones.load(Ordering::Relaxed)
    }

    /// Tries to share the whole pages of a part; tells whether that was done.
    pub(super) fn clone_pages(&self, source: &Source, part: &Part) -> Result<bool, CopyError> {
        let len = part.len - part.len % PAGE as u64;
        match clone_range(source.file(), part.offset, len, self.file, part.destination) {
            Ok(()) => {
                self.cloned.fetch_add(len, Ordering::Relaxed);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                Err(CopyError::Write { path: source.path().clone(), offset: part.destination, source: e })
            }
            Err(source) if self.engine == Engine::Reflink => {
                Err(CopyError::Unavailable { engine: self.engine, source })
            }
            Err(e) => {
                // EINVAL may be this file's alone; all else is the filesystems'.
                if e.raw_os_error() != Some(Errno::INVAL.raw_os_error()) {
                    self.clones.store(false, Ordering::Relaxed);
                }
                Ok(false)
            }
        }
    }

    /// Writes whole pages from page-aligned memory. Pages of zeros are left out: they stay holes.
    pub(super) fn write_pages(&self, at: ByteOffset, pages: &[u8]) -> io::Result<()> {
        for data in data_runs(pages) {
            let offset = at.0 + data.start as u64;
            self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
            self.write(offset, &pages[data])?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        match &self.direct {
            Some(direct) => match direct.write_all_at(pages, offset) {
                // A filesystem may open files for direct writes and then refuse this one.
                Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && self.engine != Engine::Direct => {
                    self.file.write_all_at(pages, offset)
                }
                result => result,
            },
            None => self.file.write_all_at(pages, offset),
        }
    }

    pub(super) fn summary(self) -> Summary {
        Summary {
            cloned_bytes: self.cloned.into_inner(),
            written_bytes: self.written.into_inner(),
            direct: self.direct.is_some(),
        }
    }
}

/// Opens the file behind a descriptor once more, for direct writes.
fn open_direct(file: &File) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    rustix::fs::open(Path::new(&path), flags, Mode::empty()).map(File::from)
}

/// The ranges of `pages` that are not zero, in whole pages.
fn data_runs(pages: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, page) in pages.chunks(PAGE).enumerate() {
        if *page == [0; PAGE][..page.len()] {
            continue;
        }
        let (start, end) = (number * PAGE, number * PAGE + page.len());
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_left_out() {
        let mut pages = vec![0; 40 * PAGE];
        for page in [2, 3, 10, 30] {
            pages[page * PAGE + 5] = 1;
        }
        assert_eq!(data_runs(&pages), [2 * PAGE..4 * PAGE, 10 * PAGE..11 * PAGE, 30 * PAGE..31 * PAGE]);
        assert_eq!(data_runs(&[]), []);
        assert_eq!(data_runs(&[0; PAGE]), []);
    }
}
