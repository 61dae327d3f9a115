//! Copies ranges of one image to places in another file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use super::{CopyError, WINDOW_BYTES};
use crate::disk::pages::PAGE;
use crate::progress::{Cancel, Progress};
use crate::units::ByteOffset;

/// As many bytes as the kernel is asked to copy at once, so that a signal does not wait.
const AT_ONCE: u64 = 64 << 20;

/// Bytes of one file, and where in another they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The range of the file that is read.
    pub from: Range<u64>,
    /// Where its first byte goes.
    pub to: ByteOffset,
}

impl Span {
    /// Bytes that keep their place.
    pub fn same(range: Range<u64>) -> Self {
        let to = ByteOffset(range.start);
        Self { from: range, to }
    }
}

/// Copies the bytes of `spans` to their places in `to`, where zeros are. No two spans have a byte in common, on either side.
///
/// # Errors
/// If a file cannot be read or written, or the user asked to stop.
pub fn spans(
    from: &File,
    spans: &[Span],
    to: &File,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), CopyError> {
    let mut copier = Copier { from, to, by_kernel: true, buffer: Vec::new() };
    for Span { from: range, to } in spans {
        let mut at = range.start;
        while at < range.end {
            cancel.check()?;
            let data = copier.next_data(at..range.end);
            progress.advance(0, data.start - at);
            at = data.start;
            let to = to.0 + (at - range.start);
            let done = copier.copy(at..data.end.min(at.saturating_add(AT_ONCE)), to)?;
            progress.advance(0, done);
            at += done;
        }
    }
    Ok(())
}

struct Copier<'a> {
    from: &'a File,
    to: &'a File,
    /// Whether the kernel may still be asked to copy.
    by_kernel: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    /// The first stretch that is not a hole, as far as the host's filesystem says.
    fn next_data(&self, range: Range<u64>) -> Range<u64> {
        let start = match seek(self.from, SeekFrom::Data(range.start)) {
            Ok(start) => start.clamp(range.start, range.end),
            Err(Errno::NXIO) => range.end,
            Err(_) => return range,
        };
        let end = seek(self.from, SeekFrom::Hole(start)).map_or(range.end, |end| end.clamp(start, range.end));
        start..end
    }

    /// Copies the start of a range, and returns how many bytes that were: 0 only for an empty range.
    fn copy(&mut self, range: Range<u64>, to: u64) -> Result<u64, CopyError> {
        if range.is_empty() {
            return Ok(0);
        }
        if self.by_kernel {
            let (mut at, mut into) = (range.start, to);
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            match copy_file_range(self.from, Some(&mut at), self.to, Some(&mut into), len) {
                Ok(done @ 1..) => return Ok(done as u64),
                Err(Errno::NOSPC) => return Err(failed(to, Errno::NOSPC.into())),
                // Devices, and filesystems of different kinds.
                Ok(0) | Err(_) => self.by_kernel = false,
            }
        }
        self.copy_by_hand(range, to)
    }

    fn copy_by_hand(&mut self, range: Range<u64>, to: u64) -> Result<u64, CopyError> {
        let len = usize::try_from(range.end - range.start).map_or(WINDOW_BYTES, |len| len.min(WINDOW_BYTES));
        self.buffer.resize(len, 0);
        let read = self.from.read_exact_at(&mut self.buffer, range.start);
        read.map_err(|source| CopyError::Read { path: PathBuf::from("the image"), source })?;
        for (page, at) in self.buffer.chunks(PAGE).zip((to..).step_by(PAGE)) {
            if page.iter().any(|&byte| byte != 0) {
                self.to.write_all_at(page, at).map_err(|source| failed(at, source))?;
            }
        }
        Ok(len as u64)
    }
}

fn failed(at: u64, source: io::Error) -> CopyError {
    CopyError::Write { path: PathBuf::from("the old image"), offset: ByteOffset(at), source }
}
