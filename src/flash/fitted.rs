//! A disk that is laid out for a device of another size. The backup table moves to the end of the device. The last
//! partition gets the room before it. The place of the old backup table becomes free.

use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::ENDS;
use crate::copy::{Means, Places};
use crate::disk::resize::{self, Fit, Grown, ResizeError, Room};
use crate::disk::table::{MbrTable, Table};
use crate::formats::{Filled, FormatError, Reader, Source};
use crate::map::{Extent, Held, ImageMap, MapBuilder};
use crate::read::bytes::past_the_end;
use crate::read::{Bytes, ReadError, ranges};
use crate::units::{ByteOffset, SectorSize};

/// The device that a disk is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub size: u64,
    /// The size of its sectors; `None` for a file, which has the sectors of the disk in it.
    pub sector_size: Option<u64>,
    /// The bytes from its start in which partitions may be made larger, if not all.
    pub limit: Option<u64>,
}

/// The partition table of a disk, as it was read.
#[derive(Clone, Copy, Debug)]
pub enum Tables<'a> {
    /// A GPT.
    Gpt(&'a Table),
    /// Only an MBR.
    Mbr(&'a MbrTable),
    /// None, or none that could be understood: the disk is taken as it is.
    None,
}

impl Tables<'_> {
    /// The byte at which the last partition ends.
    fn end(self) -> Option<u64> {
        let end = |(start, len): (ByteOffset, u64)| start.0.saturating_add(len);
        match self {
            Self::Gpt(table) => Some(table.partitions().iter().map(|entry| end(entry.extent(table.sector_size))).max()),
            Self::Mbr(table) => Some(table.partitions.iter().map(|entry| end(entry.extent(table.sector_size))).max()),
            Self::None => None,
        }
        .map(Option::unwrap_or_default)
    }

    fn sector_size(self) -> Option<u64> {
        match self {
            Self::Gpt(table) => Some(table.sector_size.bytes()),
            Self::Mbr(table) => Some(table.sector_size.bytes()),
            Self::None => None,
        }
    }
}

/// Why a disk cannot be laid out for a device.
#[derive(Debug, Error)]
pub enum FitError {
    /// There is too little room.
    #[error("the device has {size} bytes, {} too few: this needs {needed}; use a larger one", needed - size)]
    TooSmall {
        /// In bytes.
        needed: u64,
        /// In bytes.
        size: u64,
    },
    /// A partition ends after the bytes that partitions may use.
    #[error(
        "partitions may take the first {limit} bytes of the device, but they end at byte {end} already; raise `--size` \
         to {end}"
    )]
    Limit {
        /// In bytes.
        limit: u64,
        /// In bytes: more.
        end: u64,
    },
    /// Firmware would not find the table.
    #[error(
        "the device has sectors of {device} bytes, and the partition table counts in sectors of {table}, so that nothing \
         would boot from it; build the image with sectorSize = {device} (sane.image.sectorSize) for this device"
    )]
    SectorSize {
        /// In bytes.
        table: u64,
        /// In bytes.
        device: u64,
    },
    /// The disk cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A disk that has the size of a device.
pub struct Fitted<'a> {
    inner: &'a dyn Source,
    map: ImageMap,
    fit: Fit,
    note: Option<String>,
}

impl<'a> Fitted<'a> {
    /// Lays out a disk with this table for a device. The partition `grow`, if it is the last, gets the room that is left.
    ///
    /// # Errors
    /// If the device is too small or has other sectors than the table, or the disk cannot be read.
    pub fn new(inner: &'a dyn Source, tables: Tables<'_>, grow: Option<u32>, space: Space) -> Result<Self, FitError> {
        if let (Some(table), Some(device)) = (tables.sector_size(), space.sector_size)
            && table != device
        {
            return Err(FitError::SectorSize { table, device });
        }
        let end = tables.end().unwrap_or_else(|| inner.map().size());
        if let Some(limit) = space.limit.filter(|&limit| limit < end && limit < space.size) {
            return Err(FitError::Limit { limit, end });
        }
        let disk = SourceBytes(inner);
        let room = Room { size: space.size, end: space.limit.unwrap_or(space.size) };
        let fit = match tables {
            Tables::Gpt(table) => resize::fit(&disk, table, grow, room),
            Tables::Mbr(table) => resize::fit_mbr(&disk, table, grow, room),
            Tables::None => Ok(Fit::default()),
        };
        let (fit, note) = match fit {
            Ok(fit) => (fit, None),
            Err(ResizeError::TooSmall { needed, size }) => return Err(FitError::TooSmall { needed, size }),
            Err(ResizeError::Read(error)) => return Err(error.into()),
            Err(why) => (Fit::default(), Some(format!("the table and the size of the disk stay as they are: {why}"))),
        };
        let needed = needed(inner.map(), &fit);
        if needed > space.size {
            return Err(FitError::TooSmall { needed, size: space.size });
        }
        Ok(Self { map: map(inner.map(), &fit, space.size), inner, fit, note })
    }

    /// What the last partition got, if it could.
    pub fn grown(&self) -> Option<Grown> {
        self.fit.grown
    }

    /// Why the table is not laid out for the device, where it should be: one line.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// The bytes that a device must have: where a backup table has a new place, that has been looked at. What is behind it on
/// the old disk is in no partition.
fn needed(map: &ImageMap, fit: &Fit) -> u64 {
    if fit.free.is_empty() { map.size() } else { 0 }
}

fn map(old: &ImageMap, fit: &Fit, size: u64) -> ImageMap {
    let free = ranges::union(fit.free.clone());
    let mut map = MapBuilder::default();
    for Extent { range, held } in old.extents() {
        ranges::gaps(&free, range.clone()).into_iter().for_each(|range| map.add(range, *held));
    }
    for (at, bytes) in &fit.writes {
        map.add(at.0..at.0.saturating_add(bytes.len() as u64), Held::Metadata);
    }
    // A used device may have old superblocks and tables where other programs look for them.
    map.add(0..ENDS, Held::Zeros);
    map.add(size.saturating_sub(ENDS)..size, Held::Zeros);
    if let Some(Grown { from, to, .. }) = fit.grown {
        map.add(from.max(to.saturating_sub(ENDS))..to, Held::Zeros);
    }
    map.finish(size)
}

impl Source for Fitted<'_> {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(FittedReader { fitted: self, inner: self.inner.reader()? }))
    }

    /// Not by the methods of the disk itself, which does not know the new table.
    fn fill(&self, to: &std::fs::File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError> {
        crate::formats::fill_by_hand(self, to, places, means)?;
        Ok(None)
    }

    fn file_at(&self, at: u64) -> Option<PathBuf> {
        let is_written =
            self.fit.writes.iter().any(|(start, bytes)| at >= start.0 && at - start.0 < bytes.len() as u64);
        if is_written || at >= self.inner.map().size() { None } else { self.inner.file_at(at) }
    }
}

struct FittedReader<'a> {
    fitted: &'a Fitted<'a>,
    inner: Box<dyn Reader + 'a>,
}

impl Reader for FittedReader<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        let old = range.start..range.end.min(self.fitted.inner.map().size());
        let len = index(old.end.saturating_sub(old.start));
        if len > 0 {
            self.inner.read(old, buffer.get_mut(..=len).unwrap_or_default())?;
        }
        buffer.get_mut(len..).unwrap_or_default().fill(0);
        for free in &self.fitted.fit.free {
            part(buffer, &range, free).1.fill(0);
        }
        for (at, bytes) in &self.fitted.fit.writes {
            let (from, to) = part(buffer, &range, &(at.0..at.0.saturating_add(bytes.len() as u64)));
            let bytes = bytes.get(from..).and_then(|bytes| bytes.get(..to.len()));
            to.copy_from_slice(bytes.unwrap_or_default());
        }
        Ok(())
    }
}

/// The part of `wanted` that is in a buffer with `range`: its distance from the start of `wanted`, and the bytes.
fn part<'b>(buffer: &'b mut [u8], range: &Range<u64>, wanted: &Range<u64>) -> (usize, &'b mut [u8]) {
    let (start, end) = (wanted.start.max(range.start), wanted.end.min(range.end));
    if start >= end {
        return (0, &mut []);
    }
    let bytes = buffer.get_mut(index(start - range.start)..index(end - range.start));
    (index(start - wanted.start), bytes.unwrap_or_default())
}

/// An index into a buffer; none has more bytes than memory.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The bytes of a source, for those who read a few of them: zeros for what is free.
pub struct SourceBytes<'a>(pub &'a dyn Source);

impl Bytes for SourceBytes<'_> {
    fn len(&self) -> u64 {
        self.0.map().size()
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        let range = offset.checked_add(buf.len() as u64).filter(|end| end.0 <= self.len()).map(|end| offset.0..end.0);
        let range = range.ok_or_else(|| past_the_end(offset, buf.len()))?;
        let mut bytes = vec![0; buf.len().saturating_add(1)];
        self.0.reader().and_then(|mut reader| reader.read(range, &mut bytes)).map_err(|error| match error {
            FormatError::Read(error) => error,
            other => ReadError::Io { offset, len: buf.len() as u64, source: std::io::Error::other(other.to_string()) },
        })?;
        buf.copy_from_slice(bytes.get(..buf.len()).unwrap_or_default());
        Ok(())
    }
}

impl Space {
    /// The size of the device's sectors, if a table can count in them.
    pub fn sectors(&self) -> Option<SectorSize> {
        self.sector_size.and_then(SectorSize::new)
    }
}
