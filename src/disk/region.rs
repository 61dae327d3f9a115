//! A window on a disk image with bounds: the writer of a partition cannot change a byte outside it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::memory::Memory;
use super::pages::PageFile;
use crate::units::ByteOffset;

/// The bytes `[start, start + len)` of a file, or of [`Memory`], addressed from 0.
///
/// Uses positional I/O only: several regions of one file can be in use at once, from several threads. A write that
/// would end past the region fails before any of it is written; a read there gives the bytes up to the end.
#[derive(Clone)]
pub struct Region<'a> {
    holder: Holder<'a>,
    start: u64,
    len: u64,
    position: u64,
}

/// What a region is a part of.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// A file, and the way that whole pages take to it if it is another.
    File(&'a File, Option<&'a PageFile<'a>>),
    /// Memory.
    Memory(&'a Memory),
}

impl<'a> Region<'a> {
    /// The `len` bytes of `file` from `start` on. The file need not be that long yet.
    ///
    /// # Errors
    /// If the region ends past the address space of files.
    pub fn new(file: &'a File, start: ByteOffset, len: u64) -> io::Result<Self> {
        Self::of(Holder::File(file, None), start, len)
    }

    /// The `len` bytes of memory from `start` on.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn in_memory(memory: &'a Memory, start: ByteOffset, len: u64) -> io::Result<Self> {
        Self::of(Holder::Memory(memory), start, len)
    }

    fn of(holder: Holder<'a>, start: ByteOffset, len: u64) -> io::Result<Self> {
        let end = start.checked_add(len).filter(|end| i64::try_from(end.0).is_ok());
        end.ok_or_else(|| out_of_bounds(start.0, len, "the largest file"))?;
        Ok(Self { holder, start: start.0, len, position: 0 })
    }

    /// The same region of the same file, whose whole pages are written through `pages`.
    pub fn with_pages(self, pages: &'a PageFile<'a>) -> Self {
        Self { holder: Holder::File(pages.file(), Some(pages)), ..self }
    }

    /// The number of bytes in the region.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the region holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes `bytes` at `offset` from the region's start, whatever the position.
    ///
    /// # Errors
    /// If they would end past the region, in which case nothing is written, or if the file cannot be written.
    pub fn write_all_at(&self, offset: ByteOffset, bytes: &[u8]) -> io::Result<()> {
        self.check_bounds(offset.0, bytes.len())?;
        let at = self.start + offset.0;
        match self.holder {
            Holder::File(file, _) => file.write_all_at(bytes, at),
            Holder::Memory(memory) => {
                memory.write(at, bytes);
                Ok(())
            }
        }
    }

    /// Writes whole pages from a [`PageBuffer`](super::pages::PageBuffer) at `offset`, which like the region's start is
    /// a multiple of [`PAGE`](super::pages::PAGE).
    ///
    /// # Errors
    /// Like [`write_all_at`](Self::write_all_at).
    pub fn write_pages_at(&self, offset: ByteOffset, pages: &[u8]) -> io::Result<()> {
        let Holder::File(_, Some(file)) = self.holder else { return self.write_all_at(offset, pages) };
        self.check_bounds(offset.0, pages.len())?;
        file.write_all_at(pages, ByteOffset(self.start + offset.0))
    }

    /// Fills `buf` from `offset` from the region's start, whatever the position.
    ///
    /// # Errors
    /// If that ends past the region or the file, or if the file cannot be read.
    pub fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> io::Result<()> {
        self.check_bounds(offset.0, buf.len())?;
        let at = self.start + offset.0;
        match self.holder {
            Holder::File(file, _) => file.read_exact_at(buf, at),
            Holder::Memory(memory) => {
                memory.read(at, buf);
                Ok(())
            }
        }
    }

    fn check_bounds(&self, offset: u64, len: usize) -> io::Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(out_of_bounds(offset, len as u64, "its region")),
        }
    }
}

impl fmt::Debug for Region<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("start", &self.start).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        if len == 0 {
            return Ok(0);
        }
        let (buf, at) = (&mut buf[..len], self.start + self.position);
        let len = match self.holder {
            Holder::File(file, _) => file.read_at(buf, at)?,
            Holder::Memory(memory) => {
                memory.read(at, buf);
                len
            }
        };
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for Region<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check_bounds(self.position, buf.len())?;
        let at = self.start + self.position;
        let len = match self.holder {
            Holder::File(file, _) => file.write_at(buf, at)?,
            Holder::Memory(memory) => {
                memory.write(at, buf);
                buf.len()
            }
        };
        self.position += len as u64;
        Ok(len)
    }

    /// Does nothing: there is no buffer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position =
            target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of a region"))?;
        Ok(self.position)
    }
}

fn out_of_bounds(offset: u64, len: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{len} bytes at offset {offset} end past {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: usize) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![b'.'; len], 0).unwrap();
        file
    }

    fn contents(mut file: &File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn nothing_outside_is_touched() {
        let file = file(10);
        let mut region = Region::new(&file, ByteOffset(3), 4).unwrap();
        region.write_all(b"ab").unwrap();
        region.write_all_at(ByteOffset(3), b"d").unwrap();
        assert_eq!(contents(&file), "...ab.d...");
        assert_eq!(region.write(b"xyz").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        region.write_all(b"CD").unwrap();
        assert!(region.write(b"x").is_err());
        assert!(region.write_all_at(ByteOffset(4), b"x").is_err());
        assert!(region.write_all_at(ByteOffset(u64::MAX), b"x").is_err());
        assert_eq!(contents(&file), "...abCD...");
    }

    #[test]
    fn reading_ends_with_the_region() {
        let file = file(10);
        let mut region = Region::new(&file, ByteOffset(3), 4).unwrap();
        region.write_all_at(ByteOffset(0), b"abcd").unwrap();
        assert_eq!(region.seek(SeekFrom::End(-3)).unwrap(), 1);
        let mut text = String::new();
        region.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bcd");
        assert_eq!(region.read(&mut [0]).unwrap(), 0);
        region.read_exact_at(ByteOffset(2), &mut [0; 2]).unwrap();
        assert!(region.read_exact_at(ByteOffset(2), &mut [0; 3]).is_err());
    }

    #[test]
    fn seeking_is_checked() {
        let file = file(0);
        let mut region = Region::new(&file, ByteOffset(3), 4).unwrap();
        assert!(region.seek(SeekFrom::Current(-1)).is_err());
        assert!(region.seek(SeekFrom::End(-5)).is_err());
        assert_eq!(region.seek(SeekFrom::Start(9)).unwrap(), 9);
        assert_eq!(region.read(&mut [0]).unwrap(), 0);
        assert!(region.write(b"x").is_err());
        assert!(Region::new(&file, ByteOffset(u64::MAX), 1).is_err());
        assert!(Region::new(&file, ByteOffset(0), u64::MAX).is_err());
    }

    #[test]
    fn regions_share_a_file() {
        let file = file(6);
        let (left, right) =
            (Region::new(&file, ByteOffset(0), 3).unwrap(), Region::new(&file, ByteOffset(3), 3).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| left.write_all_at(ByteOffset(0), b"lll").unwrap());
            scope.spawn(|| right.write_all_at(ByteOffset(0), b"rrr").unwrap());
        });
        assert_eq!(contents(&file), "lllrrr");
    }
}
