//! An image as others find it: a disk with a partition table, or one partition's bare filesystem; in a file or on a
//! block device.
//!
//! The commands that look into images start here: [`Image::open`], then [`Image::find`] a partition, then
//! [`open_filesystem`] or [`check_filesystem`] on its bytes; [`store::locate`] tells where in a filesystem the store is,
//! and [`known::read`] what Nix knows of it.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::table::Table;
use crate::read::{Bytes, ReadError, Window, escape};
use crate::units::ByteOffset;

mod database;
mod format;
pub mod known;
mod part;
pub mod store;

pub use format::{check_filesystem, open_filesystem, recognise};
pub use part::{BadPartName, PartName};

/// The type of an EFI system partition.
pub const ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);

/// An open image.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Window,
    table: Option<Table>,
    partitions: Vec<Partition>,
}

/// A part of an image that can hold a filesystem.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number in the table, from 1; 1 in a bare image.
    pub number: u32,
    /// Its name in the table. It may hold anything: to be escaped.
    pub name: String,
    /// What it is for; nil in a bare image.
    pub type_guid: Uuid,
    /// Its identity; nil in a bare image.
    pub guid: Uuid,
    /// Where the table says that it starts.
    pub offset: ByteOffset,
    /// The bytes that the table gives it, which need not all be there.
    pub size: u64,
    format: Option<crate::read::Format>,
    bytes: Window,
}

impl Partition {
    /// The format of its filesystem, by its magic alone, or `None` if it is no format that can be read here.
    pub fn format(&self) -> Option<crate::read::Format> {
        self.format
    }

    /// What is there of its bytes.
    pub fn bytes(&self) -> Window {
        self.bytes.clone()
    }

    /// Opens its filesystem.
    ///
    /// # Errors
    /// If it has no filesystem that can be read, or whatever is wrong with it.
    pub fn open(&self) -> Result<Box<dyn crate::read::FileSystem>, ReadError> {
        let format = self.format.ok_or_else(|| {
            ReadError::Unsupported(format!("partition {} has no FAT, ext4 or btrfs that could be read", self.number))
        })?;
        open_filesystem(format, Arc::new(self.bytes()))
    }
}

impl Image {
    /// Opens the image in a file or on a block device.
    ///
    /// # Errors
    /// If it cannot be read, or has neither a partition table nor a filesystem. What is wrong with the table is not
    /// an error but among its [`faults`](Table::faults).
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Open { path: escape::path(path), source };
        let mut file = File::open(path).map_err(failed)?;
        // A block device's metadata tells no length.
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Self::from_bytes(Window::new(file, len))
    }

    fn from_bytes(bytes: Window) -> Result<Self, ReadError> {
        let table = Table::read(&bytes)?;
        let format = recognise(&bytes);
        match table {
            // A filesystem may lie upon what is left of a table.
            Some(table) if table.is_certain() || format.is_none() => {
                let partitions = table.partitions().iter().map(|entry| {
                    let (offset, size) = entry.extent(table.sector_size);
                    let bytes = clip(&bytes, offset, size);
                    let format = recognise(&bytes);
                    let (name, number) = (entry.name.clone(), entry.number);
                    let (type_guid, guid) = (entry.type_guid, entry.guid);
                    Partition { number, name, type_guid, guid, offset, size, format, bytes }
                });
                Ok(Self { partitions: partitions.collect(), bytes, table: Some(table) })
            }
            _ if format.is_some() => Ok(Self { partitions: vec![Partition::bare(&bytes, format)], bytes, table: None }),
            _ => Err(ReadError::Unsupported(
                "the image has neither a GUID partition table nor a FAT, ext4 or btrfs filesystem".to_owned(),
            )),
        }
    }

    /// All its bytes.
    pub fn bytes(&self) -> Window {
        self.bytes.clone()
    }

    /// The partition table, or `None` if this is a bare partition.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// The partitions by number; of a bare image itself, as number 1.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition that a user means.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], or whatever keeps a number from being a partition.
    pub fn find(&self, part: &PartName) -> Result<&Partition, ReadError> {
        part::find(self, part)
    }
}

impl Partition {
    fn bare(bytes: &Window, format: Option<crate::read::Format>) -> Self {
        Self {
            number: 1,
            name: String::new(),
            type_guid: Uuid::nil(),
            guid: Uuid::nil(),
            offset: ByteOffset(0),
            size: bytes.len(),
            format,
            bytes: bytes.clone(),
        }
    }
}

/// What there is of a range.
fn clip(bytes: &Window, offset: ByteOffset, size: u64) -> Window {
    let start = offset.0.min(bytes.len());
    let len = size.min(bytes.len().saturating_sub(start));
    bytes.slice(ByteOffset(start), len).unwrap_or_else(|| bytes.clone())
}
