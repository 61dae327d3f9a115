//! A disk in a file or on a device, whatever it holds.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::container::{self, Container};
use crate::output::kind_name;
use crate::read::{ReadError, Window, escape};
use crate::units::ByteOffset;

/// The bytes of a disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// All of them.
    pub bytes: Window,
    /// The container that it is in.
    pub container: Option<Container>,
}

impl Disk {
    /// Opens the disk in a file or on a block device; in a file it may be in a [container].
    ///
    /// # Errors
    /// If it cannot be read, or is in a container with errors of its own.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Open { path: escape::path(path), source };
        let file = open_input(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(failed(ErrorKind::IsADirectory.into()));
        }
        // The contents of a device are the disk that its firmware sees.
        if kind.is_file() { Self::in_file(file) } else { Ok(Self { bytes: whole(file)?, container: None }) }
    }

    /// The disk in an open file, which may be in a container.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn in_file(file: File) -> Result<Self, ReadError> {
        let file = whole(file)?;
        let container = container::open(&file)?;
        Ok(Self { bytes: container.as_ref().map_or(file, |container| container.disk.clone()), container })
    }
}

/// Opens a file, a block device or a directory. Anything else has no bytes to choose from, and a pipe without a writer
/// would be waited for without end.
pub(crate) fn open_input(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() || kind.is_block_device() {
        return Ok(file);
    }
    let why = format!("is a {}; name a file or a block device", kind_name(kind));
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

/// All of a file or a block device.
pub(super) fn whole(mut file: File) -> Result<Window, ReadError> {
    // A block device's metadata has no length.
    let len = file.seek(SeekFrom::End(0)).map_err(|source| ReadError::Io { offset: ByteOffset(0), len: 0, source })?;
    Ok(Window::new(file, len))
}
