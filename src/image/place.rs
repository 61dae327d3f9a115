//! Names the file of a filesystem that a byte belongs to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Partition, open_filesystem};
use crate::read::{Bytes, Contents, FileSystem, Format, Kind, ReadError, Window, escape, walk};
use crate::units::ByteOffset;

/// The most bytes of files that are read to find the right one.
const PATIENCE: u64 = 4 << 30;
/// Files are read in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// The path of the file of a partition's filesystem that has its contents at a byte of the partition, escaped.
pub fn file_at(partition: &Partition, at: u64) -> Option<String> {
    let format = partition.format()?;
    match format {
        Format::Ext4 => {
            let fs = partition.open().ok()?;
            find(fs.as_ref(), |path, len| holds(fs.open(path).ok()?.as_ref(), len, at).then_some(()))
        }
        // The reader does not say where what is compressed lies.
        Format::Erofs => {
            let fs = partition.open().ok()?;
            let found = find(fs.as_ref(), |path, len| holds(fs.open(path).ok()?.as_ref(), len, at).then_some(()));
            found.or_else(|| find_by_reading(format, &partition.bytes(), at))
        }
        // The reader does not say where the parts of a file lie.
        Format::Vfat | Format::Btrfs => find_by_reading(format, &partition.bytes(), at),
    }
}

/// The first file that fulfils a condition.
fn find(fs: &dyn FileSystem, mut is_it: impl FnMut(&Path, u64) -> Option<()>) -> Option<String> {
    let mut files = walk(fs, Path::new("")).filter_map(Result::ok).filter(|found| found.metadata.kind == Kind::File);
    files.find(|found| is_it(&found.path, found.metadata.len).is_some()).map(|found| escape::path(&found.path))
}

/// Whether contents of `len` bytes have a byte at `at` of the filesystem.
fn holds(contents: &dyn Contents, len: u64, at: u64) -> bool {
    let mut offset = 0;
    // Shorter and shorter pieces, until one is contiguous.
    let mut most = len;
    while offset < len {
        let stored = contents.stored(offset);
        offset = offset.max(stored.start);
        if offset >= len {
            return false;
        }
        let stretch = most.min(len - offset).min(stored.end.saturating_sub(offset)).max(1);
        match contents.lies(offset, stretch) {
            Some(place) if (place.0..place.0.saturating_add(stretch)).contains(&at) => return true,
            None if stretch > 4096 => most = stretch / 2,
            _ => {
                offset = offset.saturating_add(stretch);
                most = most.saturating_mul(4);
            }
        }
    }
    false
}

/// The first file that needs the byte, and whose contents change if the byte changes.
fn find_by_reading(format: Format, bytes: &Window, at: u64) -> Option<String> {
    let watched = |turns: bool| Arc::new(Watched { bytes: bytes.clone(), at, turns, is_read: AtomicBool::new(false) });
    let (plain, turned) = (watched(false), watched(true));
    let fs = open_filesystem(format, Arc::<Watched>::clone(&plain)).ok()?;
    let mut left = PATIENCE;
    find(fs.as_ref(), |path, len| {
        left = left.checked_sub(len)?;
        plain.is_read.store(false, Ordering::Relaxed);
        let sum = sum(fs.as_ref(), path).ok()?;
        plain.is_read.load(Ordering::Relaxed).then_some(())?;
        let other = open_filesystem(format, Arc::<Watched>::clone(&turned)).ok()?;
        (self::sum(other.as_ref(), path).ok() != Some(sum)).then_some(())
    })
}

/// A checksum by which files with different contents are recognised.
fn sum(fs: &dyn FileSystem, path: &Path) -> Result<u32, ReadError> {
    let mut contents = fs.open(path)?;
    let (mut buffer, mut sum, mut offset) = (vec![0; PIECE], 0, 0);
    loop {
        let read = contents.read_at(offset, &mut buffer)?;
        sum = crc32c::crc32c_append(sum, buffer.get(..read).unwrap_or_default());
        offset = offset.saturating_add(read as u64);
        if read < buffer.len() {
            return Ok(sum);
        }
    }
}

/// Bytes that note whether a certain byte is read, and that can show another value for it.
struct Watched {
    bytes: Window,
    at: u64,
    turns: bool,
    is_read: AtomicBool,
}

impl Bytes for Watched {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        self.bytes.read_exact_at(offset, buf)?;
        let index = self.at.checked_sub(offset.0).and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| buf.get_mut(index)) {
            self.is_read.store(true, Ordering::Relaxed);
            *byte ^= if self.turns { 1 } else { 0 };
        }
        Ok(())
    }
}
