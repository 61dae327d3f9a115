//! Writes an image that exists in another form. Any program may have made the image.
//!
//! [`Original::open`] takes every image that the commands that look into images take. It also takes any other disk;
//! then all of it counts as contents. The bytes of the new file depend only on the disk in the old one.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;
use uuid::Uuid;

use crate::build::OutputFile;
use crate::copy::Means;
use crate::formats::{self, Existing, Format, FormatError, Making, Source, bmap};
use crate::image::{self, Disk, Image};
use crate::map::ImageMap;
use crate::output::{OutputError, Privacy};
use crate::progress::Progress;
use crate::read::{Bytes, ReadError, Window, escape};
use crate::spec::identity;
use crate::units::ByteOffset;
use crate::units::SectorSize;

/// The unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// Forms of disks that are not read: where their magic stands, the magic, their name, and what reads them.
const PACKED: [(usize, &[u8], &str, &str); 8] = [
    (0, b"\x1f\x8b", "gzip", "gzip -d"),
    (0, b"\xfd7zXZ\0", "xz", "xz -d"),
    (0, b"BZh", "bzip2", "bzip2 -d"),
    (0, b"\x04\x22\x4d\x18", "LZ4", "lz4 -d"),
    (0, b"PK\x03\x04", "zip", "unzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    (0, b"QED\0", "QED", "qemu-img convert -O raw"),
    (64, b"\x7f\x10\xda\xbe", "VDI", "qemu-img convert -O raw"),
];

/// Why an image is not converted.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new file cannot be where it is wanted.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The new form cannot be made.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// What the new form is to be.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The form.
    pub format: Format,
    /// The level of compression, where there is a choice.
    pub level: i32,
    /// Whether a file gets a block map beside it.
    pub block_map: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The size of the disk in bytes.
    pub disk: u64,
    /// The size of the file in bytes.
    pub size: u64,
    /// What the file takes of the filesystem that it is on, in bytes.
    pub allocated: u64,
    /// The block map beside it, and how many bytes of the disk it has.
    pub block_map: Option<(PathBuf, u64)>,
}

/// An image that is to be converted.
#[derive(Debug)]
pub struct Original {
    path: PathBuf,
    image: Option<Image>,
    existing: Existing,
    identity: Uuid,
    sector_size: SectorSize,
    privacy: Privacy,
}

impl Original {
    /// Opens the image in a file or on a block device, and looks for what is free in it, on up to `threads` threads.
    ///
    /// # Errors
    /// If it cannot be read, is in a container with errors of its own, or has no bytes.
    pub fn open(path: &Path, threads: NonZeroUsize, progress: &dyn Progress) -> Result<Self, ReadError> {
        let disk = Disk::open(path)?.bytes;
        if disk.is_empty() {
            return Err(ReadError::Unsupported("the image has no bytes".to_owned()));
        }
        let image = Image::find_on(disk.clone())?;
        if image.is_none() {
            refuse_packed(&disk)?;
        }
        progress.stage("looking for free space", 0, 0);
        let map = match &image {
            Some(image) if !is_in_use(path, progress) => image::map(image, threads),
            _ => ImageMap::unknown(disk.len()),
        };
        Ok(Self {
            path: path.to_owned(),
            identity: identity(image.as_ref(), disk.len()),
            sector_size: sector_size(image.as_ref()),
            existing: Existing::new(disk, map).with_known_zeros(),
            privacy: privacy(path)?,
            image,
        })
    }

    /// The disk in it.
    pub fn source(&self) -> &Existing {
        &self.existing
    }

    /// The disk as an image, if it has a partition table or a filesystem.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// Whether it is a CD or a DVD as well: what looks like a partition of it may be anything.
    pub fn is_a_cd(&self) -> bool {
        self.image.as_ref().is_some_and(image::is_a_cd)
    }

    /// Whether only its owner may read what is made of it.
    pub fn is_private(&self) -> bool {
        self.privacy == Privacy::Owner
    }

    /// Writes it to `out`, in this form. The file appears when it is whole.
    ///
    /// # Errors
    /// If the image cannot be read, there is no such form of it, or the file cannot be made.
    pub fn to_file(&self, form: Form, out: &Path, means: Means<'_>) -> Result<Converted, ConvertError> {
        self.check(form.format)?;
        let block_map = form.block_map.then(|| block_map_of(out));
        block_map.iter().map(PathBuf::as_path).chain([out]).try_for_each(|out| self.refuse_itself(out))?;
        let output = OutputFile::open(out, self.privacy)?;
        let map_output = block_map.as_ref().map(|map| OutputFile::open(map, self.privacy)).transpose()?;
        let making = self.making(form, means);
        formats::write(form.format, &self.existing, output.file(), making)?;
        if let Some(map) = &map_output {
            bmap::write(&self.existing, &mut map.file(), making)?;
        }
        means.progress.stage("writing out", 0, 0);
        means.cancel.check().map_err(FormatError::from)?;
        let made = output.file().metadata().map_err(FormatError::Write)?;
        match map_output {
            Some(map) => output.publish_after(map)?,
            None => output.publish()?,
        }
        let map = self.existing.map();
        Ok(Converted {
            disk: map.size(),
            size: made.len(),
            allocated: made.blocks().saturating_mul(BLOCK),
            block_map: block_map.map(|path| (path, bmap::mapped_bytes(map))),
        })
    }

    /// Writes it to `to` as it is made, in a form that is a [stream](Format::is_stream).
    ///
    /// # Errors
    /// If the image cannot be read, there is no such form of it, or it cannot be written.
    pub fn to_stream(&self, form: Form, to: &mut (dyn Write + Send), means: Means<'_>) -> Result<(), ConvertError> {
        self.check(form.format)?;
        formats::stream(form.format, &self.existing, to, self.making(form, means))?;
        Ok(to.flush().map_err(FormatError::Write)?)
    }

    /// Writes the disk's own bytes to an empty file that is open to be read and written.
    ///
    /// # Errors
    /// If the image cannot be read, or the file cannot be written.
    pub fn to_raw(&self, file: &fs::File, means: Means<'_>) -> Result<(), ConvertError> {
        let form = Form { format: Format::Raw, level: Format::Raw.default_level(), block_map: false };
        formats::write(form.format, &self.existing, file, self.making(form, means))?;
        Ok(())
    }

    fn making<'a>(&self, form: Form, means: Means<'a>) -> Making<'a> {
        Making { level: form.level, identity: self.identity, sector_size: self.sector_size, means }
    }

    /// Refuses a disk of a size that no file of this form can have. It is not made larger here: its backup table would no
    /// more be at its end.
    fn check(&self, form: Format) -> Result<(), FormatError> {
        let (size, multiple) = (self.existing.map().size(), form.unit());
        if size.is_multiple_of(multiple) {
            return Ok(());
        }
        let fits = size.checked_next_multiple_of(multiple).unwrap_or(size);
        let why = format!(
            "the disk has {size} bytes, and this form holds a multiple of {multiple} bytes only; make a raw image of it, \
             lengthen that by `truncate -s {fits}`, move the backup of its table to the end by `sgdisk -e` if it has a \
             GPT, and convert that"
        );
        Err(FormatError::Impossible { form, why })
    }

    /// Refuses an output that is the image.
    fn refuse_itself(&self, out: &Path) -> Result<(), OutputError> {
        let id = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if id(out).is_some_and(|out| id(&self.path) == Some(out)) {
            return Err(OutputError::refused(out, "is the image itself; give another name"));
        }
        Ok(())
    }
}

/// Refuses a file in a form that is not read here: its bytes would be taken for those of a raw disk.
fn refuse_packed(disk: &Window) -> Result<(), ReadError> {
    let mut start = [0; 80];
    let len = usize::try_from(disk.len()).map_or(start.len(), |len| len.min(start.len()));
    disk.read_exact_at(ByteOffset(0), start.get_mut(..len).unwrap_or_default())?;
    let found = PACKED.iter().find(|(at, magic, ..)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map_or(Ok(()), |(_, _, name, remedy)| {
        Err(ReadError::Unsupported(format!("the image is in a {name} file; make a raw image of it with `{remedy}`")))
    })
}

/// `FILE.bmap`, where bmaptool looks for it.
fn block_map_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".bmap");
    name.into()
}

/// Whether the image is on a device that is mounted or otherwise in use: its filesystems may change at any moment. The
/// user is warned.
fn is_in_use(path: &Path, progress: &dyn Progress) -> bool {
    let is_device = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let is_in_use = is_device && rustix::fs::open(path, flags, Mode::empty()).is_err_and(|error| error == Errno::BUSY);
    if is_in_use {
        let path = escape::path(path);
        progress.warn(&format!(
            "{path}: is in use, and changes during the copy may be incomplete; unmount it, and convert again"
        ));
    }
    is_in_use
}

/// Whoever may not read the image may not read what is made of it.
fn privacy(path: &Path) -> Result<Privacy, ReadError> {
    let read = fs::metadata(path).map_err(|source| ReadError::Open { path: escape::path(path), source })?;
    Ok(if read.mode() & 0o004 == 0 { Privacy::Owner } else { Privacy::Usual })
}

/// The sector size of the disk's table.
fn sector_size(image: Option<&Image>) -> SectorSize {
    let of_gpt = || Some(image?.table()?.sector_size);
    let of_mbr = || Some(image?.mbr()?.sector_size);
    of_gpt().or_else(of_mbr).unwrap_or_default()
}

/// What identifies a disk: its GUID, or the identities of its filesystems, or its size.
fn identity(image: Option<&Image>, size: u64) -> Uuid {
    let header = image.and_then(Image::table).and_then(|table| table.header());
    if let Some(guid) = header.map(|header| header.disk_guid).filter(|guid| !guid.is_nil()) {
        return guid;
    }
    let signature = image.and_then(Image::mbr).map_or(0, |mbr| mbr.signature);
    let mut seed = format!("disk of {size} bytes, signature {signature:08x}");
    for partition in image.map(Image::partitions).unwrap_or_default() {
        if let Ok(filesystem) = partition.open() {
            seed.push_str(&format!(", {}: {}", partition.number, filesystem.summary().uuid));
        }
    }
    Uuid::new_v5(&identity::NAMESPACE, seed.as_bytes())
}
