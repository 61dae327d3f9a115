//! The image, as the engines write to it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::copy_file_range;
use rustix::io::Errno;

use super::jobs::Observer;
use super::source::Source;
use super::{CopyError, Engine, Summary};
use crate::disk::pages::{PAGE, PageFile};
use crate::ioctl::clone_range;
use crate::units::ByteOffset;

/// The image file and the ways to write to it that are open.
pub(super) struct Image<'a> {
    pages: PageFile<'a>,
    /// Whether sharing extents is still worth a try.
    clones: AtomicBool,
    /// Whether having the kernel copy is still worth a try.
    copies: AtomicBool,
    engine: Engine,
    cloned: AtomicU64,
    copied: AtomicU64,
    written: AtomicU64,
}

impl<'a> Image<'a> {
    /// Finds out what the image's filesystem allows of what `engine` asks for.
    pub(super) fn new(file: &'a File, engine: Engine) -> Result<Self, CopyError> {
        let pages = engine.page_file(file)?;
        let clones = AtomicBool::new(matches!(engine, Engine::Auto | Engine::Reflink));
        // Large direct writes are faster, where they are possible.
        let copies = AtomicBool::new(engine == Engine::CopyFileRange || engine == Engine::Auto && !pages.is_direct());
        let [cloned, copied, written] = [0; 3].map(AtomicU64::new);
        Ok(Self { pages, clones, copies, engine, cloned, copied, written })
    }

    /// Whether the kernel may be tried to bring pages from a file to the image.
    pub(super) fn offloads(&self) -> bool {
        self.clones.load(Ordering::Relaxed) || self.copies.load(Ordering::Relaxed)
    }

    /// Tries to have the kernel share or copy whole pages of a file; returns whether that was done.
    pub(super) fn offload(&self, source: &Source, pages: Range<u64>, to: ByteOffset) -> Result<bool, CopyError> {
        if self.clones.load(Ordering::Relaxed) {
            let len = pages.end - pages.start;
            let Some((file, at)) = source.lies(&pages) else { return Ok(false) };
            let done = clone_range(file, at.0, len, self.pages.file(), to);
            if self.succeeded(done, &self.clones, source, to)? {
                self.cloned.fetch_add(len, Ordering::Relaxed);
                return Ok(true);
            }
        }
        if self.copies.load(Ordering::Relaxed) {
            return self.copy_pages(source, pages, to);
        }
        Ok(false)
    }

    /// Tries to have the kernel copy what is not a hole.
    fn copy_pages(&self, source: &Source, pages: Range<u64>, to: ByteOffset) -> Result<bool, CopyError> {
        let mut at = pages.start;
        while at < pages.end {
            let Range { start, end } = source.next_data(at..pages.end)?;
            at = start;
            while at < end {
                let Some((file, ByteOffset(before))) = source.lies(&(at..end)) else { return Ok(false) };
                let (mut from, mut into) = (before, to.0 + (at - pages.start));
                let len = usize::try_from(end - at).unwrap_or(usize::MAX);
                let done = copy_file_range(file, Some(&mut from), self.pages.file(), Some(&mut into), len);
                if let Ok(0) = done {
                    return Err(source.changed());
                }
                if !self.succeeded(done.map_err(io::Error::from), &self.copies, source, to)? {
                    return Ok(false);
                }
                self.copied.fetch_add(from - before, Ordering::Relaxed);
                at += from - before;
            }
        }
        Ok(true)
    }

    /// Whether a `way` of the kernel worked. If it did not, it is not tried again, unless only this file may be the
    /// reason.
    fn succeeded<T>(
        &self,
        done: io::Result<T>,
        way: &AtomicBool,
        source: &Source,
        to: ByteOffset,
    ) -> Result<bool, CopyError> {
        match done {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                Err(CopyError::Write { path: source.path().to_owned(), offset: to, source: e })
            }
            Err(source) if matches!(self.engine, Engine::Reflink | Engine::CopyFileRange) => {
                Err(CopyError::Unavailable { engine: self.engine, source })
            }
            Err(e) => {
                if e.raw_os_error() != Some(Errno::INVAL.raw_os_error()) {
                    way.store(false, Ordering::Relaxed);
                }
                Ok(false)
            }
        }
    }

    /// Writes whole pages from page-aligned memory, and shows them. Pages of zeros are left out: they stay holes.
    pub(super) fn write_pages(&self, at: ByteOffset, pages: &[u8], observer: Option<&dyn Observer>) -> io::Result<()> {
        for data in data_runs(pages) {
            let (offset, pages) = (ByteOffset(at.0 + data.start as u64), &pages[data]);
            if let Some(observer) = observer {
                observer.landed(offset, pages);
            }
            self.pages.write_all_at(pages, offset)?;
            self.written.fetch_add(pages.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Shows pages that are in the image already.
    pub(super) fn show_pages(&self, at: ByteOffset, pages: &[u8], observer: &dyn Observer) {
        for data in data_runs(pages) {
            observer.landed(ByteOffset(at.0 + data.start as u64), &pages[data]);
        }
    }

    pub(super) fn summary(self) -> Summary {
        Summary {
            cloned_bytes: self.cloned.into_inner(),
            kernel_bytes: self.copied.into_inner(),
            written_bytes: self.written.into_inner(),
            direct: self.pages.is_direct(),
        }
    }
}

/// The ranges of `pages` that are not zero, in whole pages.
pub(crate) fn data_runs(pages: &[u8]) -> Vec<Range<usize>> {
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
