//! The contents of files, compared with their checksums.
//!
//! Source: "Btrfs on-disk format", sections on file extents and on checksums.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use zerocopy::{FromBytes, little_endian::U32};

use super::compressed::decompress;
use super::{Reader, named};
use crate::btrfs::csum;
use crate::btrfs::format::{self, ExtentPlace, FileExtent, SECTOR_BYTES, SECTOR_SIZE, compression, kind, object};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, Contents, Method, ReadError, StoredAs};

/// The most bytes that a compressed extent has, before and after (`BTRFS_MAX_COMPRESSED`).
const COMPRESSED_MAX: u64 = 128 << 10;
/// Contents are read in pieces of up to this many bytes.
const PIECE: u64 = 1 << 20;

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::btrfs) struct Part {
    /// Where in the file it starts, in bytes.
    pub(in crate::btrfs) offset: u64,
    /// Its length in the file in bytes.
    pub(in crate::btrfs) len: u64,
    /// How it is compressed: one of [`compression`].
    pub(in crate::btrfs) compression: u8,
    /// Its length before compression.
    pub(in crate::btrfs) ram_bytes: u64,
    pub(in crate::btrfs) stored: Stored,
}

/// Where a part of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::btrfs) enum Stored {
    /// In its item.
    Inline(Box<[u8]>),
    /// In a data extent, from `within` bytes of its decompressed contents on.
    Extent { address: u64, len: u64, within: u64 },
    /// Nowhere: zeros.
    Hole,
    /// In an extent that nothing was written to yet: zeros.
    Preallocated { address: u64, len: u64 },
}

/// Reads a part of a file from its item.
pub(in crate::btrfs) fn part(offset: u64, data: &[u8]) -> Result<Part, &'static str> {
    const CUT: &str = "has an extent that is cut short";
    let (head, rest) = FileExtent::read_from_prefix(data).map_err(|_| CUT)?;
    if head.encryption != 0 || head.other_encoding.get() != 0 || head.compression > compression::ZSTD {
        return Err("has an extent in an unknown encoding");
    }
    let (compression, ram_bytes) = (head.compression, head.ram_bytes.get());
    let is_compressed = compression != compression::NONE;
    if is_compressed && ram_bytes > COMPRESSED_MAX {
        return Err("has a compressed extent of more than 128 KiB");
    }
    if head.kind == format::FILE_EXTENT_INLINE {
        if !is_compressed && rest.len() as u64 != ram_bytes {
            return Err("has inline contents of another length than it says");
        }
        return Ok(Part { offset, len: ram_bytes, compression, ram_bytes, stored: Stored::Inline(rest.into()) });
    }
    let place = ExtentPlace::read_from_bytes(rest).map_err(|_| CUT)?;
    let (address, len, within) = (place.disk_bytenr.get(), place.disk_num_bytes.get(), place.offset.get());
    let num_bytes = place.num_bytes.get();
    offset.checked_add(num_bytes).ok_or("has an extent past the largest size of a file")?;
    let end = within.checked_add(num_bytes).ok_or("has an extent past the largest size of a file")?;
    let stored = match head.kind {
        _ if address == 0 => Stored::Hole,
        format::FILE_EXTENT_REGULAR => Stored::Extent { address, len, within },
        format::FILE_EXTENT_PREALLOCATED => Stored::Preallocated { address, len },
        _ => return Err("has an extent of an unknown type"),
    };
    if stored != Stored::Hole && end > if is_compressed { ram_bytes } else { len } {
        return Err("uses bytes past the end of an extent");
    }
    let is_whole = |bytes: u64| bytes.is_multiple_of(SECTOR_SIZE);
    if ![address, len, within, num_bytes, offset].into_iter().all(is_whole) || (is_compressed && len > COMPRESSED_MAX) {
        return Err("has an extent of an odd length");
    }
    Ok(Part { offset, len: num_bytes, compression, ram_bytes, stored })
}

/// A file, its parts known.
pub(super) struct OpenFile<'a, B> {
    reader: &'a Reader<B>,
    /// For errors.
    tree: u64,
    inode: u64,
    path: PathBuf,
    len: u64,
    /// Whether its contents have checksums.
    summed: bool,
    /// In order; none overlaps another.
    parts: Vec<Part>,
    /// The part that was decompressed last, by index.
    decompressed: Option<(usize, Vec<u8>)>,
    /// A piece of an extent, in whole sectors.
    piece: Vec<u8>,
}

impl<'a, B: Bytes> OpenFile<'a, B> {
    pub(super) fn new(reader: &'a Reader<B>, tree: u64, inode: u64, len: u64, path: &Path) -> Result<Self, ReadError> {
        let corrupt = |why: &str| ReadError::corrupt(named(tree, inode, path), why);
        let mut parts: Vec<Part> = Vec::new();
        reader.each(tree, inode, kind::EXTENT_DATA, |offset, data| {
            let part = part(offset, data).map_err(corrupt)?;
            if parts.last().is_some_and(|last| last.offset.saturating_add(last.len) > offset) {
                return Err(corrupt("has extents that overlap"));
            }
            parts.push(part);
            Ok(ControlFlow::Continue(()))
        })?;
        let flags = reader.inode(tree, inode, path)?.flags.get();
        let summed = flags & format::INODE_NODATASUM == 0;
        let path = path.to_owned();
        Ok(Self { reader, tree, inode, path, len, summed, parts, decompressed: None, piece: Vec::new() })
    }

    fn corrupt(&self, why: impl Into<String>) -> ReadError {
        ReadError::corrupt(named(self.tree, self.inode, &self.path), why)
    }

    /// Fills the start of `buf` with what the file has at `offset`, and returns how much that was: at least a byte.
    fn fill(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let after = self.parts.partition_point(|part| part.offset <= offset);
        let here = after.checked_sub(1).and_then(|index| Some((index, self.parts.get(index)?.clone())));
        let next = self.parts.get(after).map_or(u64::MAX, |part| part.offset);
        let (len, filled) = match here.filter(|(_, part)| offset.saturating_sub(part.offset) < part.len) {
            Some((index, part)) => {
                let within = offset.saturating_sub(part.offset);
                let len = to_len(part.len.saturating_sub(within).min(PIECE), buf.len());
                let target = buf.get_mut(..len).unwrap_or_default();
                (len, self.fill_from(index, &part, within, target))
            }
            None => {
                let len = to_len(next.saturating_sub(offset), buf.len());
                buf.get_mut(..len).unwrap_or_default().fill(0);
                (len, Ok(()))
            }
        };
        filled.map(|()| len)
    }

    /// Fills `buf` from `start` bytes into a part on, which it does not end past.
    fn fill_from(&mut self, index: usize, part: &Part, start: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        match &part.stored {
            Stored::Hole | Stored::Preallocated { .. } => buf.fill(0),
            Stored::Inline(data) if part.compression == compression::NONE => copy(data, start, buf),
            Stored::Extent { address, within, .. } if part.compression == compression::NONE => {
                self.read_extent(address.saturating_add(*within).saturating_add(start), buf)?;
            }
            Stored::Inline(_) => self.fill_decompressed(index, part, start, buf)?,
            Stored::Extent { within, .. } => {
                self.fill_decompressed(index, part, within.saturating_add(start), buf)?;
            }
        }
        Ok(())
    }

    /// Fills `buf` from `start` bytes into the decompressed contents of a part's extent on.
    fn fill_decompressed(&mut self, index: usize, part: &Part, start: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if self.decompressed.as_ref().is_none_or(|(last, _)| *last != index) {
            let stored = match &part.stored {
                Stored::Inline(data) => data.to_vec(),
                Stored::Extent { address, len, .. } => {
                    let mut stored = vec![0; to_len(*len, usize::MAX)];
                    self.read_extent(*address, &mut stored)?;
                    stored
                }
                Stored::Hole | Stored::Preallocated { .. } => Vec::new(),
            };
            let ram_bytes = to_len(part.ram_bytes, usize::MAX);
            let contents = decompress(part.compression, &stored, ram_bytes)
                .ok_or_else(|| self.corrupt(format!("has an extent at {} that does not decompress", part.offset)))?;
            self.decompressed = Some((index, contents));
        }
        if let Some((_, contents)) = &self.decompressed {
            copy(contents, start, buf);
        }
        Ok(())
    }

    /// Reads bytes of a data extent, of which only whole sectors have checksums.
    fn read_extent(&mut self, address: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let before = address % SECTOR_SIZE;
        let start = address.saturating_sub(before);
        let len = before.saturating_add(buf.len() as u64).next_multiple_of(SECTOR_SIZE);
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(to_len(len, usize::MAX), 0);
        let sums = if self.summed { self.reader.checksums(start, len)? } else { Vec::new() };
        self.reader.disk.read(start, &mut piece, &|bytes| {
            if !self.summed {
                return Ok(());
            }
            for ((sector, sum), at) in bytes.chunks(SECTOR_BYTES).zip(&sums).zip((start..).step_by(SECTOR_BYTES)) {
                match sum {
                    None => return Err(self.corrupt(format!("has no checksum for its contents at address {at}"))),
                    Some(sum) if *sum != csum::of_block(sector) => {
                        return Err(self.corrupt(format!("has contents with a wrong checksum at address {at}")));
                    }
                    Some(_) => {}
                }
            }
            Ok(())
        })?;
        copy(&piece, before, buf);
        self.piece = piece;
        Ok(())
    }
}

impl<B: Bytes> Contents for OpenFile<'_, B> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let wanted = to_len(self.len.saturating_sub(offset), buf.len());
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..wanted).filter(|rest| !rest.is_empty()) {
            done = done.saturating_add(self.fill(offset.saturating_add(done as u64), rest)?);
        }
        Ok(wanted)
    }

    fn stored(&self, offset: u64) -> Range<u64> {
        let from = self.parts.partition_point(|part| part.offset.saturating_add(part.len) <= offset);
        let rest = self.parts.get(from..).unwrap_or_default();
        let next = rest.iter().find(|part| !matches!(part.stored, Stored::Hole | Stored::Preallocated { .. }));
        next.map_or(u64::MAX..u64::MAX, |part| part.offset.max(offset)..part.offset.saturating_add(part.len))
    }

    fn methods(&self) -> Vec<Method> {
        let is_used = |id: u8| self.parts.iter().any(|part| part.compression == id);
        let all =
            [(compression::ZLIB, Method::Zlib), (compression::LZO, Method::Lzo), (compression::ZSTD, Method::Zstd)];
        all.into_iter().filter(|(id, _)| is_used(*id)).map(|(_, method)| method).collect()
    }

    fn stored_unit(&mut self, offset: u64, len: u64) -> Result<StoredAs, ReadError> {
        let end = offset.saturating_add(len.next_multiple_of(SECTOR_SIZE));
        let from = self.parts.partition_point(|part| part.offset.saturating_add(part.len) <= offset);
        let here = self.parts.get(from..).unwrap_or_default().iter().take_while(|part| part.offset < end);
        let mut compressed = here.filter(|part| part.compression != compression::NONE);
        let Some(part) = compressed.next().cloned() else { return Ok(StoredAs::Raw) };
        let is_whole = part.offset == offset && part.ram_bytes == part.len;
        match part.stored {
            Stored::Inline(data) if is_whole && part.len == len => Ok(StoredAs::Packed(data.into())),
            Stored::Extent { address, len, within: 0 } if is_whole && part.offset.saturating_add(part.len) == end => {
                let mut stored = vec![0; to_len(len, usize::MAX)];
                self.read_extent(address, &mut stored)?;
                Ok(StoredAs::Packed(stored))
            }
            _ => Ok(StoredAs::Shared),
        }
    }
}

impl<B: Bytes> Reader<B> {
    /// The checksums of the sectors of a range of addresses.
    fn checksums(&self, start: u64, len: u64) -> Result<Vec<Option<u32>>, ReadError> {
        let mut sums = vec![None; to_len(len / SECTOR_SIZE, usize::MAX)];
        let end = start.saturating_add(len);
        let from = Key::new(object::EXTENT_CSUM, kind::EXTENT_CSUM, start);
        self.visit(object::CSUM_TREE, from, &mut |key, data| {
            if key.offset >= end && key.objectid == object::EXTENT_CSUM {
                return Ok(false);
            }
            let found = <[U32]>::ref_from_bytes(data).unwrap_or_default();
            for (sum, at) in found.iter().zip((key.offset..end).step_by(SECTOR_BYTES)) {
                let index = at.checked_sub(start).map(|bytes| to_len(bytes / SECTOR_SIZE, usize::MAX));
                if let Some(slot) = index.and_then(|index| sums.get_mut(index)) {
                    *slot = Some(sum.get());
                }
            }
            Ok(true)
        })?;
        Ok(sums)
    }
}

/// A length of at most `most`.
fn to_len(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes).map_or(most, |bytes| bytes.min(most))
}

/// Fills `buf` from `start` bytes into `contents` on, and with zeros past their end.
fn copy(contents: &[u8], start: u64, buf: &mut [u8]) {
    let from = contents.get(to_len(start, usize::MAX)..).unwrap_or_default();
    let len = from.len().min(buf.len());
    let (head, tail) = buf.split_at_mut(len);
    head.copy_from_slice(from.get(..len).unwrap_or_default());
    tail.fill(0);
}
