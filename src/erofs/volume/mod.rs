//! An EROFS as it is found: any block size, any writer, any damage.
//!
//! The reader and the check use this. Our writer shares only the on-disk structures of [`format`](super::format) with
//! it, so that neither depends on the writer being right. Every number from the image is checked before it is used:
//! what [`Shape`] has, when the superblock is read, and each place against the length of the image.

use zerocopy::FromBytes;

use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

pub(super) mod attributes;
pub(super) mod chunks;
pub(super) mod clusters;
pub(super) mod directory;
pub(super) mod indexes;
pub(super) mod inode;
mod lz4;
pub(super) mod mapping;
pub(super) mod shape;
pub(super) mod stream;
pub(super) mod unpack;

pub(super) use inode::Inode;
pub(super) use mapping::{Extent, Place};
pub(super) use shape::Shape;
pub(super) use stream::{Fragments, Stream};

/// A filesystem with its bytes.
#[derive(Clone, Copy)]
pub(super) struct Disk<'a> {
    pub(super) bytes: &'a dyn Bytes,
    pub(super) shape: &'a Shape,
}

impl Disk<'_> {
    /// Fills `buf` from a byte of the filesystem. The caller has made sure that it lies there, or an error says so.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.bytes.read_exact_at(ByteOffset(at), buf)
    }

    /// The `len` bytes from `at` on, if the filesystem has them: no more memory is asked for than that.
    pub(super) fn slice(&self, at: u64, len: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(len) = usize::try_from(len).ok().filter(|_| self.shape.holds(at, len)) else { return Ok(None) };
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Reads a structure.
    pub(super) fn parse<T: FromBytes>(&self, at: u64) -> Result<Option<T>, ReadError> {
        Ok(self.slice(at, size_of::<T>() as u64)?.and_then(|bytes| T::read_from_bytes(&bytes).ok()))
    }
}

/// An inode in which something is wrong.
pub(super) fn corrupt(nid: u64, why: impl Into<String>) -> ReadError {
    ReadError::corrupt(inode_name(nid), why)
}

/// An inode that has something that is not known here.
pub(super) fn unsupported(nid: u64, what: impl AsRef<str>) -> ReadError {
    ReadError::Unsupported(format!("{}: {} is not supported", inode_name(nid), what.as_ref()))
}

/// An inode by the number that the format's own tools use.
pub(super) fn inode_name(nid: u64) -> String {
    format!("inode {nid}")
}

/// The same error, with what `name` says in the place of the number of the inode that [`corrupt`] and [`unsupported`]
/// were told.
pub(super) fn located(error: ReadError, nid: u64, name: impl FnOnce() -> String) -> ReadError {
    match error {
        ReadError::Corrupt(fault) if fault.what == inode_name(nid) => ReadError::corrupt(name(), fault.why),
        ReadError::Unsupported(text) => match text.strip_prefix(&format!("{}: ", inode_name(nid))) {
            Some(what) => ReadError::Unsupported(format!("{}: {what}", name())),
            None => ReadError::Unsupported(text),
        },
        other => other,
    }
}

/// The first multiple of `unit`, a power of two, that is not below `at`.
pub(super) fn align(at: u64, unit: u64) -> u64 {
    at.checked_next_multiple_of(unit).unwrap_or(u64::MAX)
}
