//! One thread's work: gathers parts of files in memory until one write serves them all.

use std::ops::Range;

use super::buffer::{Buffer, PAGE};
use super::image::Image;
use super::parts::Part;
use super::source::{Ending, Source};
use super::{CLONE_MIN, CopyError, CopyJobs, WINDOW_BYTES};
use crate::progress::{Cancel, Progress};
use crate::units::ByteOffset;

/// A thread that copies.
pub(super) struct Worker<'a> {
    jobs: &'a dyn CopyJobs,
    image: &'a Image<'a>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// [`WINDOW_BYTES`] for contents, and a page in which a read finds out whether its file ends.
    buffer: Buffer,
    /// Where the buffer's first byte goes.
    start: ByteOffset,
    /// Bytes in the buffer, whole pages between parts.
    filled: usize,
    /// The last job whose contents are in the buffer: the one to name if they cannot be written.
    last_job: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        jobs: &'a dyn CopyJobs,
        image: &'a Image<'a>,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        let buffer = Buffer::new(WINDOW_BYTES + PAGE);
        Self { jobs, image, progress, cancel, buffer, start: ByteOffset(0), filled: 0, last_job: 0 }
    }

    /// Copies parts that follow one another, and leaves nothing in the buffer.
    pub(super) fn copy(&mut self, batch: &[Part]) -> Result<(), CopyError> {
        for part in batch {
            self.cancel.check()?;
            self.copy_part(part)?;
            self.progress.advance(u64::from(part.is_last()), part.len);
        }
        self.flush()
    }

    fn copy_part(&mut self, part: &Part) -> Result<(), CopyError> {
        let source = Source::open(self.jobs.source(part.job))?;
        let mut at = part.offset;
        if part.len >= CLONE_MIN && self.image.clones() {
            source.check_size(part)?;
            if self.image.clone_pages(&source, part)? {
                at = part.end() - part.len % PAGE as u64;
            }
        }
        while at < part.end() {
            let data = source.next_data(part, at)?;
            at = data.end;
            self.gather(&source, part, data)?;
        }
        if part.is_last() && at == part.end() && part.len >= CLONE_MIN {
            // Whatever was cloned or skipped as a hole was not read to its end.
            source.check_size(part)?;
        }
        Ok(())
    }

    /// Adds a range of a file to the buffer.
    fn gather(&mut self, source: &Source, part: &Part, range: Range<u64>) -> Result<(), CopyError> {
        let mut at = range.start;
        while at < range.end {
            let destination = ByteOffset(part.destination.0 + (at - part.offset));
            if destination.0 != self.start.0 + self.filled as u64 || self.filled == WINDOW_BYTES {
                self.flush()?;
                self.start = destination;
            }
            let room = (WINDOW_BYTES - self.filled) as u64;
            let len = room.min(range.end - at);
            let ending = if at + len == part.size { Ending::Here } else { Ending::Later };
            self.read(source, part, at, index(len), ending)?;
            self.last_job = part.job;
            at += len;
        }
        Ok(())
    }

    /// Reads `len` bytes to the end of the buffer and fills up their last page.
    fn read(&mut self, source: &Source, part: &Part, at: u64, len: usize, ending: Ending) -> Result<(), CopyError> {
        let beyond = usize::from(ending == Ending::Here);
        let buffer = &mut self.buffer.bytes_mut()[self.filled..];
        source.read(part, at, &mut buffer[..len + beyond], ending)?;
        let padded = len.next_multiple_of(PAGE);
        buffer[len..padded].fill(0);
        self.filled += padded;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CopyError> {
        let pages = &self.buffer.bytes()[..self.filled];
        self.filled = 0;
        self.image.write_pages(self.start, pages).map_err(|source| {
            let path = self.jobs.source(self.last_job);
            CopyError::Write { path, offset: self.start, source }
        })
    }
}

fn index(len: u64) -> usize {
    usize::try_from(len).expect("no more than the buffer holds")
}
