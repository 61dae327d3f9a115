//! A disk in a file or on a device, whatever it holds.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::Path;

use crate::container::{self, Container};
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
        let file = File::open(path).map_err(failed)?;
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

/// All of a file or a block device.
pub(super) fn whole(mut file: File) -> Result<Window, ReadError> {
    // A block device's metadata has no length.
    let len = file.seek(SeekFrom::End(0)).map_err(|source| ReadError::Io { offset: ByteOffset(0), len: 0, source })?;
    Ok(Window::new(file, len))
}
