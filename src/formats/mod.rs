//! Writes a disk as a file in one of several forms. The source must know what the disk holds.
//!
//! A [`Source`] is a disk: its [`ImageMap`] says what each byte is, and its readers give the bytes (zeros for free
//! space). If a form has its places known beforehand ([`Places`]), they are laid out, and the engines of `copy` fill
//! them. If a form compresses, its units are made in the order of the disk (`ordered`), on all cores.
//!
//! The bytes of a file depend only on the disk, not on threads or a clock. `container` reads these files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;
use uuid::Uuid;

pub use crate::copy::Places;
use crate::copy::{CopyError, Means, Summary};
use crate::map::ImageMap;
use crate::progress::Cancelled;
use crate::read::ReadError;
use crate::units::SectorSize;

pub mod bmap;
mod by_hand;
mod deflate;
mod existing;
mod format;
mod gce;
mod limits;
mod ordered;
mod qcow2;
mod raw;
#[cfg(test)]
mod sample;
mod slice;
#[cfg(test)]
mod tests;
mod vhd;
mod vhdx;
mod vmdk;
mod zst;

pub(crate) use by_hand::fill as fill_by_hand;
pub use existing::Existing;
pub(crate) use existing::write_data;
pub use slice::Slice;

pub use format::Format;

/// How to make a file of some form.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// The level of compression, where there is a choice.
    pub level: i32,
    /// What identifies the disk: identities that a form needs are derived from it.
    pub identity: Uuid,
    /// The size of the disk's sectors, for forms that store it.
    pub sector_size: SectorSize,
    /// How to move bytes, where to report progress, and whether to stop.
    pub means: Means<'a>,
}

/// Writes the disk into `to`, an empty file, and returns how its bytes were copied.
///
/// # Errors
/// If the disk cannot be read, the file cannot be written, or there is no such file of that form.
pub fn write(format: Format, source: &dyn Source, to: &File, making: Making<'_>) -> Result<Filled, FormatError> {
    match format {
        Format::Raw => {
            let size = source.map().size();
            to.set_len(size).map_err(FormatError::Write)?;
            source.fill(to, &Places::same(size), making.means)
        }
        Format::Qcow2 => qcow2::plain::write(source, to, making),
        Format::Qcow2Zstd => qcow2::packed::write(source, to, making).map(|()| None),
        Format::Zst | Format::Vmdk | Format::Gce => {
            stream(format, source, &mut BufWriter::with_capacity(1 << 20, to), making).map(|()| None)
        }
        Format::Vhd => vhd::write(source, to, making),
        Format::Vhdx => vhdx::write(source, to, making),
    }
}

/// Writes the disk to a stream, from its first byte to its last one.
///
/// # Errors
/// Those of [`write`](fn@write), and a form that cannot be streamed.
pub fn stream(
    format: Format,
    source: &dyn Source,
    to: &mut (dyn Write + Send),
    making: Making<'_>,
) -> Result<(), FormatError> {
    match format {
        Format::Raw => raw::stream(source, to, making)?,
        Format::Zst => zst::stream(source, to, making)?,
        Format::Vmdk => vmdk::stream(source, to, making)?,
        Format::Gce => gce::stream(source, to, making)?,
        Format::Qcow2 | Format::Qcow2Zstd | Format::Vhd | Format::Vhdx => {
            return Err(limits::impossible(format, "it cannot be written to a pipe"));
        }
    }
    to.flush().map_err(FormatError::Write)
}

/// Why a form cannot be made.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The files that the disk is made of cannot be read, or the form cannot be written.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The disk cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The form cannot be written.
    #[error("cannot be written: {0}")]
    Write(#[source] io::Error),
    /// There is no such file of this form.
    #[error("{form}: {why}")]
    Impossible {
        /// The form.
        form: Format,
        /// What is wrong with it, and what helps.
        why: String,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// How bytes were copied to places known beforehand, as far as that is known.
pub type Filled = Option<Summary>;

/// A disk, or what a plan says of one.
pub trait Source: Sync {
    /// What is where.
    fn map(&self) -> &ImageMap;

    /// What one thread reads with.
    ///
    /// # Errors
    /// If nothing can be read.
    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError>;

    /// Brings all data to its places in `to`, where zeros are: zeros may be left out. What has data has a place.
    ///
    /// # Errors
    /// If something cannot be read or written, or the user asked to stop.
    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError>;

    /// The file whose contents have byte `at` of the disk, for messages; `None` if there is none, or nobody knows.
    fn file_at(&self, at: u64) -> Option<PathBuf> {
        let _ = at;
        None
    }
}

/// Reads a disk.
pub trait Reader {
    /// Fills `buffer` with what is in `range`, which lies within the disk and is as long; with zeros where it is free.
    ///
    /// `buffer` is one byte longer than that: what is in that byte afterwards means nothing.
    ///
    /// # Errors
    /// If that cannot be read.
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError>;
}
