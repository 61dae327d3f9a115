//! An existing image: a disk with a partition table, or the bare filesystem of one partition; in a file or on a block
//! device.
//!
//! The commands that look into images start here: [`Image::open`], then [`Image::find`] a partition, then
//! [`open_filesystem`] or [`check_filesystem`] on its bytes. [`store::locate`] finds the store in a filesystem,
//! [`outside`] the files that are not in it, and [`known::read`] what Nix knows of it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use uuid::{Uuid, uuid};

use crate::container::Container;
use crate::disk::table::{MbrEntry, MbrTable, Table};
use crate::read::{Bytes, FileSystem, Opener, ReadError, Window};
use crate::units::{ByteOffset, SectorSize};
use crate::verity::Area;

mod database;
mod disk;
mod foreign;
mod format;
pub mod known;
mod map;
pub mod outside;
mod part;
mod place;
pub mod sealed;
pub mod store;

pub use disk::Disk;
pub(crate) use disk::open_input;
use disk::whole;
pub use format::{check_filesystem, open_filesystem, recognise};
pub use map::{is_a_cd, map};
pub use part::{BadPartName, PartName};
pub use place::file_at;

/// The type of an EFI system partition.
pub const ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);

/// The same in an MBR.
const MBR_ESP: u8 = 0xef;
/// An extended boot loader partition (Boot Loader Specification, UAPI.1).
const EXTENDED_BOOT: Uuid = uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172");
/// The same in an MBR.
const MBR_EXTENDED_BOOT: u8 = 0xea;

/// An open image.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Window,
    container: Option<Container>,
    table: Option<Table>,
    mbr: Option<MbrTable>,
    partitions: Vec<Partition>,
}

/// A part of an image that can hold a filesystem.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number in the table, from 1; 1 in a bare image.
    pub number: u32,
    /// Its name in the table. It may hold anything: to be escaped.
    pub name: String,
    /// What it is for; nil in a bare image and in an MBR.
    pub type_guid: Uuid,
    /// Its identity; nil in a bare image and in an MBR.
    pub guid: Uuid,
    /// The attribute bits of its entry in a GPT; none elsewhere.
    pub attributes: u64,
    /// Of a partition in an MBR, its entry.
    pub mbr: Option<MbrEntry>,
    /// Where the table says that it starts.
    pub offset: ByteOffset,
    /// The bytes that the table gives it, which need not all be there.
    pub size: u64,
    format: Option<crate::read::Format>,
    bytes: Window,
}

impl Partition {
    /// The format of its filesystem, by its magic only, or `None` if it cannot be read here.
    pub fn format(&self) -> Option<crate::read::Format> {
        self.format
    }

    /// Whether firmware looks for programs here.
    pub fn is_esp(&self) -> bool {
        self.type_guid == ESP || self.mbr.is_some_and(|entry| entry.kind == MBR_ESP)
    }

    /// Whether it is an extended boot loader partition, in which systemd-boot looks for kernels besides the ESP.
    pub fn is_xbootldr(&self) -> bool {
        self.type_guid == EXTENDED_BOOT || self.mbr.is_some_and(|entry| entry.kind == MBR_EXTENDED_BOOT)
    }

    /// The bytes of it that exist.
    pub fn bytes(&self) -> Window {
        self.bytes.clone()
    }

    /// Opens its filesystem.
    ///
    /// # Errors
    /// If it has no filesystem that can be read, or whatever is wrong with it.
    pub fn open(&self) -> Result<Box<dyn crate::read::FileSystem>, ReadError> {
        let format = self.format.ok_or_else(|| {
            let number = self.number;
            ReadError::Unsupported(match sealed::find(self) {
                Some(_) => format!(
                    "partition {number} has the dm-verity hashes of another partition, and no files; name the partition \
                     with the data"
                ),
                None => format!("partition {number} has no FAT, ext4, btrfs or erofs that could be read"),
            })
        })?;
        open_filesystem(format, Arc::new(self.bytes()))
    }
}

impl Opener for Partition {
    fn open(&self) -> Result<Box<dyn FileSystem>, ReadError> {
        Self::open(self)
    }

    fn file(&self) -> Option<(&File, ByteOffset)> {
        self.bytes.file()
    }
}

impl Image {
    /// Opens the image in a file or on a block device; in a file it may be in a [container](crate::container).
    ///
    /// # Errors
    /// If it cannot be read, is in a container with errors of its own, or has neither a partition table nor a filesystem. What is wrong with the table is not
    /// an error but among its [`faults`](Table::faults).
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::on(Disk::open(path)?)
    }

    /// The image in an open file, whether it is in a container or not.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn in_file(file: File) -> Result<Self, ReadError> {
        Self::on(Disk::in_file(file)?)
    }

    fn on(Disk { bytes, container }: Disk) -> Result<Self, ReadError> {
        Ok(Self { container, ..Self::of_disk(bytes)? })
    }

    /// The image whose bytes are those of an open file.
    ///
    /// # Errors
    /// If it cannot be read, or has neither a partition table nor a filesystem.
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        Self::of_disk(whole(file)?)
    }

    /// The image whose bytes are a disk's.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file).
    pub fn of_disk(bytes: Window) -> Result<Self, ReadError> {
        Self::find_on(bytes)?.ok_or_else(|| {
            ReadError::Unsupported(
                "the image has neither a partition table (GPT or MBR) nor a FAT, ext4, btrfs or erofs filesystem"
                    .to_owned(),
            )
        })
    }

    /// The image whose bytes are a disk's, or `None` if that has neither a partition table nor a filesystem nor a
    /// dm-verity hash area.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn find_on(bytes: Window) -> Result<Option<Self>, ReadError> {
        let table = Table::read(&bytes)?;
        let format = recognise(&bytes);
        if table.is_none()
            && let Some(mbr) = find_mbr(&bytes, format)?
        {
            let partitions = mbr_partitions(&bytes, &mbr);
            return Ok(Some(Self { partitions, bytes, container: None, table: None, mbr: Some(mbr) }));
        }
        Ok(match table {
            // A filesystem may lie upon what is left of a table.
            Some(table) if table.is_certain() || format.is_none() => {
                let partitions = table.partitions().iter().map(|entry| {
                    let (offset, size) = entry.extent(table.sector_size);
                    let bytes = clip(&bytes, offset, size);
                    let format = recognise(&bytes);
                    let (name, number) = (entry.name.clone(), entry.number);
                    let (type_guid, guid, attributes) = (entry.type_guid, entry.guid, entry.attributes);
                    Partition { number, name, type_guid, guid, attributes, mbr: None, offset, size, format, bytes }
                });
                let partitions = partitions.collect();
                Some(Self { partitions, bytes, container: None, table: Some(table), mbr: None })
            }
            _ if format.is_some() || Area::find(&bytes).is_some() => Some(Self {
                partitions: vec![Partition::bare(&bytes, format)],
                bytes,
                container: None,
                table: None,
                mbr: None,
            }),
            _ => None,
        })
    }

    /// The container that it is in.
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// All its bytes: those of the disk, where it is in a container.
    pub fn bytes(&self) -> Window {
        self.bytes.clone()
    }

    /// The GUID partition table, or `None` if this is a bare partition or has an MBR.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// The partition table of an MBR, where that is the disk's.
    pub fn mbr(&self) -> Option<&MbrTable> {
        self.mbr.as_ref()
    }

    /// Whether this is one partition without a table around it.
    pub fn is_bare(&self) -> bool {
        self.table.is_none() && self.mbr.is_none()
    }

    /// The partitions by number; of a bare image itself, as number 1.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition that a user means.
    ///
    /// # Errors
    /// [`ReadError::NoPartition`], or whatever keeps a number from being a partition.
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
            attributes: 0,
            mbr: None,
            offset: ByteOffset(0),
            size: bytes.len(),
            format,
            bytes: bytes.clone(),
        }
    }
}

/// The MBR of a disk without a GPT, by the sector size that finds more filesystems. A FAT starts with a boot sector that
/// may look like one; what else there may be in sector 0 of a filesystem does not.
fn find_mbr(bytes: &Window, format: Option<crate::read::Format>) -> Result<Option<MbrTable>, ReadError> {
    if format == Some(crate::read::Format::Vfat) {
        return Ok(None);
    }
    let mut best: Option<(usize, MbrTable)> = None;
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let Some(mbr) = MbrTable::read(bytes, sector_size)? else { continue };
        let found = mbr_partitions(bytes, &mbr).iter().filter(|partition| partition.format.is_some()).count();
        if best.as_ref().is_none_or(|(most, _)| found > *most) {
            best = Some((found, mbr));
        }
    }
    Ok(best.map(|(_, mbr)| mbr))
}

fn mbr_partitions(bytes: &Window, mbr: &MbrTable) -> Vec<Partition> {
    let partition = |entry: &MbrEntry| {
        let (offset, size) = entry.extent(mbr.sector_size);
        let bytes = clip(bytes, offset, size);
        let format = recognise(&bytes);
        Partition {
            number: entry.number,
            name: String::new(),
            type_guid: Uuid::nil(),
            guid: Uuid::nil(),
            attributes: 0,
            mbr: Some(*entry),
            offset,
            size,
            format,
            bytes,
        }
    };
    mbr.partitions.iter().map(partition).collect()
}

/// The part of a range that exists.
fn clip(bytes: &Window, offset: ByteOffset, size: u64) -> Window {
    let start = offset.0.min(bytes.len());
    let len = size.min(bytes.len().saturating_sub(start));
    bytes.slice(ByteOffset(start), len).unwrap_or_else(|| bytes.clone())
}
