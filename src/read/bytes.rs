//! A source of bytes: an image, a partition in it, or a test.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::ReadError;
use crate::units::ByteOffset;

/// Bytes that can be read at any offset, by several threads at once.
pub trait Bytes: Send + Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`ReadError::Io`] if that ends past the last byte, or if the image cannot be read.
    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError>;
}

impl<B: Bytes + ?Sized> Bytes for &B {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_exact_at(offset, buf)
    }
}

impl<B: Bytes + ?Sized> Bytes for Arc<B> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_exact_at(offset, buf)
    }
}

impl Bytes for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset.0).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
        let bytes = range.and_then(|range| self.get(range));
        buf.copy_from_slice(bytes.ok_or_else(|| past_the_end(offset, buf.len()))?);
        Ok(())
    }
}

/// Bytes of which some are known to be zeros without being read: those of a disk in a container.
pub trait Sparse: Bytes + fmt::Debug {
    /// The first byte from `at` on that is not known to be zero; their number if all are.
    fn data_from(&self, at: u64) -> u64;
}

/// A part of a file, or of a disk in a container, addressed from 0.
#[derive(Clone, Debug)]
pub struct Window {
    source: Source,
    start: u64,
    len: u64,
}

/// What a window is a part of.
#[derive(Clone, Debug)]
enum Source {
    /// A file or a block device.
    File(Arc<File>),
    /// A disk in a container.
    Disk(Arc<dyn Sparse>),
}

impl Window {
    /// All `len` bytes of `file`.
    pub fn new(file: File, len: u64) -> Self {
        Self { source: Source::File(Arc::new(file)), start: 0, len }
    }

    /// All of a disk in a container.
    pub fn of_disk(disk: Arc<dyn Sparse>) -> Self {
        let len = disk.len();
        Self { source: Source::Disk(disk), start: 0, len }
    }

    /// The `len` bytes from `start` on, or `None` if they end past this window.
    pub fn slice(&self, start: ByteOffset, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end.0 <= self.len).then(|| Self { source: self.source.clone(), start: self.start + start.0, len })
    }

    /// The file that holds these bytes as they are, and which of its own is the first one here.
    pub fn file(&self) -> Option<(&File, ByteOffset)> {
        match &self.source {
            Source::File(file) => Some((file, ByteOffset(self.start))),
            Source::Disk(_) => None,
        }
    }

    /// Whether all of it is zeros; holes are not read. Moves the file's position.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_zero(&self) -> Result<bool, ReadError> {
        let mut buffer = vec![0; 1 << 16];
        let mut at = self.data_from(0);
        while at < self.len {
            let len = buffer.len().min(usize::try_from(self.len - at).unwrap_or(usize::MAX));
            let chunk = buffer.get_mut(..len).unwrap_or_default();
            self.read_exact_at(ByteOffset(at), chunk)?;
            if chunk.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at = self.data_from(at + len as u64);
        }
        Ok(true)
    }

    /// The first byte from `at` on that is in no hole, as far as is known: devices report no holes.
    pub(crate) fn data_from(&self, at: u64) -> u64 {
        let data = match &self.source {
            Source::Disk(disk) => Ok(disk.data_from(self.start + at)),
            Source::File(file) => seek(&**file, SeekFrom::Data(self.start + at)),
        };
        match data {
            Ok(data) => data.saturating_sub(self.start).max(at),
            Err(Errno::NXIO) => self.len,
            Err(_) => at,
        }
    }
}

impl Bytes for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end.0 <= self.len => {
                match &self.source {
                    Source::File(file) => file
                        .read_exact_at(buf, self.start + offset.0)
                        .map_err(|source| ReadError::Io { offset, len: buf.len() as u64, source }),
                    Source::Disk(disk) => disk.read_exact_at(ByteOffset(self.start + offset.0), buf),
                }
            }
            _ => Err(past_the_end(offset, buf.len())),
        }
    }
}

pub(crate) fn past_the_end(offset: ByteOffset, len: usize) -> ReadError {
    ReadError::Io { offset, len: len as u64, source: io::ErrorKind::UnexpectedEof.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_told_with_and_without_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(&[0; 100_000], 1 << 20).unwrap();
        file.write_all_at(b"x", 1 << 30).unwrap();
        let window = Window::new(file, 1 << 40);
        for (start, len, is_zero) in [
            (0, 1 << 30, true),
            (0, (1 << 30) + 1, false),
            (1 << 30, 1, false),
            ((1 << 30) + 1, (1 << 40) - (1 << 30) - 1, true),
            ((1 << 20) + 5, 70_000, true),
            (7, 0, true),
        ] {
            assert_eq!(window.slice(ByteOffset(start), len).unwrap().is_zero().unwrap(), is_zero, "{len} from {start}");
        }
    }

    #[test]
    fn windows_end_where_they_end() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let window = Window::new(file, 10).slice(ByteOffset(2), 6).unwrap();
        let inner = window.slice(ByteOffset(1), 5).unwrap();
        let mut two = [0; 2];
        inner.read_exact_at(ByteOffset(3), &mut two).unwrap();
        assert_eq!(&two, b"67");
        assert!(inner.read_exact_at(ByteOffset(4), &mut two).is_err());
        assert!(inner.read_exact_at(ByteOffset(u64::MAX), &mut two).is_err());
        assert!(window.slice(ByteOffset(2), 5).is_none());
        assert!(window.slice(ByteOffset(u64::MAX), 2).is_none());
    }

    #[test]
    fn memory_ends_where_it_ends() {
        let mut two = [0; 2];
        let bytes = b"0123".to_vec();
        bytes.read_exact_at(ByteOffset(2), &mut two).unwrap();
        assert_eq!(&two, b"23");
        assert!(bytes.read_exact_at(ByteOffset(3), &mut two).is_err());
        assert!(bytes.read_exact_at(ByteOffset(u64::MAX), &mut two).is_err());
    }
}
