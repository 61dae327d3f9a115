//! The work of one thread: it collects parts of files in memory until one write can take them all.

use std::mem;
use std::ops::Range;

use super::image::Image;
use super::parts::Part;
use super::source::{Ahead, OldFiles, Source, Wanted};
use super::{CopyError, CopyJobs, OFFLOAD_MIN, WINDOW_BYTES};
use crate::disk::pages::{PAGE, PageBuffer};
use crate::progress::{Cancel, Progress};
use crate::units::ByteOffset;

/// A thread that copies.
pub(super) struct Worker<'a> {
    jobs: &'a dyn CopyJobs,
    image: &'a Image<'a>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    old: OldFiles,
    /// [`WINDOW_BYTES`] for contents, and a page in which a read finds out whether its file ends.
    buffer: PageBuffer,
    /// Where the buffer's first byte goes.
    start: ByteOffset,
    /// Bytes in the buffer, whole pages between parts.
    filled: usize,
    /// The last file whose contents are in the buffer: the one to name if they cannot be written.
    last_file: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        jobs: &'a dyn CopyJobs,
        image: &'a Image<'a>,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        let buffer = PageBuffer::new(WINDOW_BYTES + PAGE);
        let old = OldFiles::default();
        Self { jobs, image, progress, cancel, old, buffer, start: ByteOffset(0), filled: 0, last_file: 0 }
    }

    /// Copies parts that follow one another, and leaves nothing in the buffer.
    pub(super) fn copy(&mut self, batch: &[Part]) -> Result<(), CopyError> {
        let (image, must_read) = (self.image, self.jobs.observer().is_some());
        let wanted = batch.iter().map(|part| {
            let shared = if !must_read && is_large(part) && image.offloads() { whole_pages(part) } else { 0 };
            Wanted { file: part.file, range: part.offset + shared..part.range().end }
        });
        let old = mem::take(&mut self.old);
        for (part, source) in batch.iter().zip(Ahead::new(self.jobs, &old, wanted)) {
            self.cancel.check()?;
            let source = source?;
            match part.destination {
                Some(destination) => self.copy_part(&source, part, destination)?,
                None => self.keep(&source, part)?,
            }
            self.progress.advance(u64::from(part.is_last()), part.len);
        }
        self.old = old;
        self.flush()
    }

    fn keep(&self, source: &Source<'_>, part: &Part) -> Result<(), CopyError> {
        let mut contents = vec![0; index(part.len) + 1];
        source.read(part.offset, index(part.len), &mut contents)?;
        contents.pop();
        self.jobs.keep(part.file, contents)
    }

    fn copy_part(&mut self, source: &Source<'_>, part: &Part, destination: ByteOffset) -> Result<(), CopyError> {
        let mut rest = part.range();
        if is_large(part) && self.image.offloads() {
            source.check_size()?;
            let pages = rest.start..rest.start + whole_pages(part);
            if self.image.offload(source, pages.clone(), destination)? {
                rest.start = pages.end;
                self.observe(source, pages, destination)?;
            }
        }
        while rest.start < rest.end {
            let data = source.next_data(rest.clone())?;
            rest.start = data.end;
            let destination = ByteOffset(destination.0 + (data.start - part.offset));
            self.gather(source, part.file, data, destination)?;
        }
        if part.is_last() && is_large(part) {
            // A file that the kernel copied, or that was skipped as a hole, was not read to its end.
            source.check_size()?;
        }
        Ok(())
    }

    /// Shows the observer bytes that came to the image without being read.
    fn observe(&mut self, source: &Source<'_>, pages: Range<u64>, destination: ByteOffset) -> Result<(), CopyError> {
        let Some(observer) = self.jobs.observer() else { return Ok(()) };
        self.flush()?;
        let mut at = pages.start;
        while at < pages.end {
            let data = source.next_data(at..pages.end.min(at + WINDOW_BYTES as u64))?;
            at = data.end;
            let len = index(data.end - data.start);
            source.read(data.start, len, self.buffer.bytes_mut())?;
            let destination = ByteOffset(destination.0 + (data.start - pages.start));
            self.image.show_pages(destination, &self.buffer.bytes()[..len], observer);
        }
        Ok(())
    }

    /// Adds a range of a file to the buffer.
    fn gather(&mut self, source: &Source<'_>, file: usize, range: Range<u64>, to: ByteOffset) -> Result<(), CopyError> {
        let mut at = range.start;
        while at < range.end {
            let destination = ByteOffset(to.0 + (at - range.start));
            if destination.0 != self.start.0 + self.filled as u64 || self.filled == WINDOW_BYTES {
                self.flush()?;
                self.start = destination;
            }
            let room = (WINDOW_BYTES - self.filled) as u64;
            let len = index(room.min(range.end - at));
            let buffer = &mut self.buffer.bytes_mut()[self.filled..];
            source.read(at, len, buffer)?;
            let padded = len.next_multiple_of(PAGE);
            buffer[len..padded].fill(0);
            self.filled += padded;
            self.last_file = file;
            at += len as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CopyError> {
        let pages = &self.buffer.bytes()[..self.filled];
        self.filled = 0;
        self.image.write_pages(self.start, pages, self.jobs.observer()).map_err(|source| {
            let path = self.jobs.source(self.last_file).into_path();
            CopyError::Write { path, offset: self.start, source }
        })
    }
}

/// Whether it is worth while to have the kernel move a part.
fn is_large(part: &Part) -> bool {
    part.len >= OFFLOAD_MIN
}

/// The bytes of a part up to the end of its last whole page.
fn whole_pages(part: &Part) -> u64 {
    part.len - part.len % PAGE as u64
}

fn index(len: u64) -> usize {
    usize::try_from(len).expect("no more than the buffer holds")
}
