//! What all readers of images share. They trust nothing in an image.
//!
//! Each format's `reader` implements [`FileSystem`]. The commands that look into images know only this trait. Readers
//! take any bytes at all. They return an error; they do not panic or loop for ever, and they ask for no more memory
//! than the size of the image justifies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::units::ByteOffset;

pub mod bytes;
pub mod error;
pub mod escape;
pub(crate) mod ranges;
pub mod resolve;
pub mod rest;
pub mod walk;

#[cfg(test)]
pub(crate) mod fake;

pub use bytes::{Bytes, Sparse, Window};
pub use error::{Fault, ReadError};
pub use resolve::resolve;
pub use rest::Rest;
pub use walk::{Entered, walk};

/// A filesystem that is read, never written.
///
/// Paths are relative to its root, without `.` and `..`; the root itself is the empty path. No method follows a
/// symbolic link. Not for several threads at once: each opens its own.
pub trait FileSystem {
    /// What the superblock says.
    fn summary(&self) -> &Summary;

    /// What a mount would replay, and is not seen here: a sentence with what to do. A filesystem that was not
    /// unmounted, or was copied while in use, can have it.
    fn waiting(&self) -> Option<&'static str> {
        None
    }

    /// The entries of a directory, sorted by name, without `.` and `..`.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::NotADirectory`], or whatever is wrong with the image.
    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError>;

    /// Whether a directory has a name that `is_meant` takes; nothing but names is read for that.
    ///
    /// # Errors
    /// As of [`list`](Self::list).
    fn any_name(&self, directory: &Path, is_meant: &mut dyn FnMut(&OsStr) -> bool) -> Result<bool, ReadError> {
        Ok(self.list(directory)?.iter().any(|entry| is_meant(&entry.name)))
    }

    /// What identifies a file.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], or whatever is wrong with the image.
    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError>;

    /// What is known about one file.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], or whatever is wrong with the image.
    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError>;

    /// The target of a symbolic link: at most 4096 bytes.
    ///
    /// # Errors
    /// If there is no such link, or whatever is wrong with the image.
    fn read_link(&self, path: &Path) -> Result<OsString, ReadError>;

    /// The times of one file, and what our writers cannot write of it.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], or whatever is wrong with the image.
    fn rest(&self, path: &Path) -> Result<Rest, ReadError>;

    /// What our writers cannot write of the filesystem as a whole, each as a short noun: "quotas", "a journal to
    /// replay". What matters only for speed and size is left out.
    ///
    /// # Errors
    /// Whatever is wrong with the image.
    fn obstacles(&self) -> Result<Vec<String>, ReadError>;

    /// The bytes of the filesystem that nobody reads before writing them: in order, and none touches the next. None if
    /// it is not certain what a mount would find free.
    ///
    /// # Errors
    /// If what the filesystem says of it contradicts itself, or whatever else is wrong with the image.
    fn free(&self) -> Result<Vec<Range<u64>>, ReadError>;

    /// The contents of a regular file.
    ///
    /// # Errors
    /// If there is no such regular file, or whatever is wrong with the image.
    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError>;
}

/// Opens one filesystem as often as asked: each thread needs its own.
pub trait Opener: Sync {
    /// Opens it.
    ///
    /// # Errors
    /// Whatever is wrong with the image.
    fn open(&self) -> Result<Box<dyn FileSystem>, ReadError>;

    /// The file that holds it, and where in that it starts, if it lies there as it is.
    fn file(&self) -> Option<(&File, ByteOffset)>;
}

/// A way to compress contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// zlib.
    Zlib,
    /// LZO.
    Lzo,
    /// zstd.
    Zstd,
}

/// How a part of a file is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// As it is, or as a hole.
    Raw,
    /// Compressed by itself, to these bytes.
    Packed(Vec<u8>),
    /// Compressed, but together with other parts.
    Shared,
}

/// The contents of a regular file.
pub trait Contents {
    /// Fills `buf` from `offset` bytes into the file, and returns how many bytes it got: fewer only at the file's end.
    ///
    /// # Errors
    /// Whatever is wrong with the image, checksums of contents included where the format has them.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError>;

    /// The first bytes from `offset` on that do not lie in a hole; none, at the end of all numbers, if all do. A hole
    /// reads as zeros, takes no room, and can be larger than all disks.
    fn stored(&self, offset: u64) -> Range<u64> {
        offset..u64::MAX
    }

    /// Where the bytes from `offset` on, `len` at least 1, lie together and as they are: as byte of the filesystem.
    fn lies(&self, offset: u64, len: u64) -> Option<ByteOffset> {
        let _ = (offset, len);
        None
    }

    /// How any of it is compressed, each way once.
    fn methods(&self) -> Vec<Method> {
        Vec::new()
    }

    /// How the `len` bytes from `offset` on are stored: all of what is compressed as one, where the format does so.
    ///
    /// # Errors
    /// As of [`read_at`](Self::read_at).
    fn stored_unit(&mut self, offset: u64, len: u64) -> Result<StoredAs, ReadError> {
        let _ = (offset, len);
        Ok(StoredAs::Raw)
    }
}

/// The format of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// ext2, ext3 or ext4.
    Ext4,
    /// btrfs on one device.
    Btrfs,
    /// EROFS on one device.
    Erofs,
}

impl Format {
    /// As in /etc/fstab: `vfat`, `ext4`, `btrfs` or `erofs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vfat => "vfat",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Erofs => "erofs",
        }
    }

    /// Whether it can hold a store.
    pub fn can_hold_store(self) -> bool {
        match self {
            Self::Ext4 | Self::Btrfs | Self::Erofs => true,
            Self::Vfat => false,
        }
    }
}

/// What a filesystem says about itself. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its format.
    pub format: Format,
    /// Its label, made UTF-8; empty if it has none.
    pub label: String,
    /// Its UUID as in `/dev/disk/by-uuid`.
    pub uuid: String,
    /// Its size.
    pub size: u64,
    /// Free for more files.
    pub free: u64,
    /// The unit of allocation.
    pub block_size: u32,
    /// Its features by their usual names, sorted.
    pub features: Vec<String>,
    /// No walk meets more entries than this: a bound that follows from the size of the image, not from its claims.
    pub max_entries: u64,
}

/// What identifies a file in its filesystem, whatever names lead to it: its subvolume, where there are such, and its
/// inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u64, pub u64);

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes of the name, without `/` and NUL.
    pub name: OsString,
    /// The file; `None` where no other name can lead to the same.
    pub id: Option<FileId>,
    /// What it names.
    pub metadata: Metadata,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket or a pipe: in no store, but in images of others.
    Special,
}

/// What a filesystem knows about a file besides its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// The lower 12 bits of its mode; 0755 or 0644 where the format has none.
    pub permissions: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of contents, or of a link's target; of a directory whatever the format says.
    pub len: u64,
    /// Seconds since 1970 of the last modification.
    pub mtime: i64,
}
