//! A disk whose bytes lie in a file as a map says. All forms use this once their tables are understood.

use std::fmt;

use super::cache::Cache;
use super::unpack::{Method, unpack};
use super::{Form, corrupt};
use crate::read::bytes::past_the_end;
use crate::read::{Bytes, ReadError, Sparse, Window};
use crate::units::ByteOffset;

/// Where the bytes of a disk are.
pub(super) trait Map: Send + Sync + fmt::Debug {
    /// The form of the container.
    fn form(&self) -> Form;

    /// The size of the disk in bytes.
    fn len(&self) -> u64;

    /// The most bytes of a compressed unit; 0 if none is compressed.
    fn largest_unit(&self) -> usize;

    /// Where the bytes from `at` on are: at least one byte, and no more than one page of the tables describes. The
    /// caller wants `wanted` bytes. `at` is within the disk.
    ///
    /// # Errors
    /// If the tables are damaged, or cannot be read.
    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError>;
}

/// Some bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// How many.
    pub(super) len: u64,
    /// Where they are.
    pub(super) place: Place,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: they are zeros.
    Zero,
    /// In the file, from this byte on.
    Stored(u64),
    /// In a compressed unit.
    Packed(Packed),
}

/// A compressed unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Its first byte on the disk.
    pub(super) start: u64,
    /// How many bytes it has when unpacked, at most; at most [`Map::largest_unit`].
    pub(super) len: usize,
    /// How many at least.
    pub(super) least: usize,
    /// Its number, for the cache.
    pub(super) number: u64,
    /// Where it is in the file.
    pub(super) at: u64,
    /// How many bytes it has there, at most.
    pub(super) packed_len: usize,
    /// How it was compressed.
    pub(super) method: Method,
}

impl Piece {
    /// This piece and `next`, if what they hold is one.
    pub(super) fn join(self, next: Self) -> Option<Self> {
        let is_one = match (self.place, next.place) {
            (Place::Zero, Place::Zero) => true,
            (Place::Stored(at), Place::Stored(next)) => at.checked_add(self.len) == Some(next),
            _ => false,
        };
        is_one.then_some(Self { len: self.len.checked_add(next.len)?, place: self.place })
    }
}

/// The longest piece at the start of these.
pub(super) fn joined(pieces: impl IntoIterator<Item = Result<Piece, ReadError>>) -> Result<Option<Piece>, ReadError> {
    let mut whole: Option<Piece> = None;
    for piece in pieces {
        // Faults behind the first piece are reported when that place is read.
        let next = match (whole, piece) {
            (None, piece) => Some(piece?),
            (Some(before), Ok(piece)) => before.join(piece),
            (Some(_), Err(_)) => None,
        };
        if next.is_none() {
            break;
        }
        whole = next;
    }
    Ok(whole)
}

/// A disk by its map.
#[derive(Debug)]
pub(super) struct Mapped<M> {
    file: Window,
    map: M,
    cache: Cache,
}

impl<M: Map> Mapped<M> {
    pub(super) fn new(file: Window, map: M) -> Self {
        let cache = Cache::new(map.largest_unit());
        Self { file, map, cache }
    }

    /// Where the bytes at `at` are, within the disk.
    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError> {
        let piece = self.map.find(at, wanted)?;
        let len = piece.len.min(self.map.len().saturating_sub(at));
        if len == 0 {
            return Err(corrupt(self.map.form(), &format!("disk at byte {at}"), "is in none of its tables"));
        }
        Ok(Piece { len, ..piece })
    }

    /// Fills `buf` with what is in the file from `at` on.
    fn read_stored(&self, guest: u64, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        super::read(self.map.form(), &self.file, &format!("disk at byte {guest}"), at, buf)
    }

    /// Fills `buf` with what is on the disk from `at` on, which is in this unit.
    fn read_packed(&self, packed: Packed, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let unit = self.cache.get(packed.number, || self.unpack(packed))?;
        let start = at.checked_sub(packed.start).and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
        match range.and_then(|range| unit.get(range)) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => return Err(corrupt(self.map.form(), &format!("disk at byte {at}"), "lies past its unit's end")),
        }
        Ok(())
    }

    fn unpack(&self, packed: Packed) -> Result<Vec<u8>, ReadError> {
        let mut raw = vec![0; packed.packed_len];
        self.read_stored(packed.start, packed.at, &mut raw)?;
        let what = format!("compressed data of the disk's byte {} at byte {}", packed.start, packed.at);
        unpack(self.map.form(), &what, packed.method, &raw, packed.least..=packed.len)
    }
}

impl<M: Map> Bytes for Mapped<M> {
    fn len(&self) -> u64 {
        self.map.len()
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end.0 > self.len()) {
            return Err(past_the_end(offset, buf.len()));
        }
        let (mut at, mut rest) = (offset.0, buf);
        while !rest.is_empty() {
            let piece = self.find(at, rest.len() as u64)?;
            let len = usize::try_from(piece.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (now, later) = rest.split_at_mut(len);
            match piece.place {
                Place::Zero => now.fill(0),
                Place::Stored(stored) => self.read_stored(at, stored, now)?,
                Place::Packed(packed) => self.read_packed(packed, at, now)?,
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }
}

impl<M: Map> Sparse for Mapped<M> {
    fn data_from(&self, mut at: u64) -> u64 {
        while at < self.len() {
            match self.find(at, u64::MAX) {
                Ok(Piece { len, place: Place::Zero }) => at = at.saturating_add(len),
                _ => return at,
            }
        }
        self.len()
    }
}
