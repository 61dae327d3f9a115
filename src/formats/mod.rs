//! The forms in which a disk leaves the program: a file of each is made from what the disk holds, whoever knows that.
//!
//! A [`Source`] is a disk: its [`ImageMap`] tells what is where, and its readers give the bytes, zeros for what is free. A
//! form whose places are known beforehand ([`places`]) is laid out, and the source fills it by the engines of `copy`; one
//! that compresses is made unit by unit in the order of the disk ([`ordered`]), on all cores.
//!
//! The bytes of a file depend on nothing but the disk: not on threads, not on a clock. `container` reads them again.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;

use thiserror::Error;
use uuid::Uuid;

use crate::copy::{CopyError, Means};
use crate::map::ImageMap;
use crate::progress::Cancelled;
use crate::read::ReadError;
use crate::units::MIB;

pub mod bmap;
mod existing;
mod ordered;
mod places;
mod raw;
mod zst;

pub use existing::Existing;
pub use places::Places;

/// The form of a file with a disk in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The disk's bytes one after another.
    Raw,
    /// The same, compressed: zstd's seekable format.
    Zst,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Zst];

    /// As users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zst => "zst",
        }
    }

    /// What the name of such a file ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Raw => ".img",
            Self::Zst => ".img.zst",
        }
    }

    /// The bytes of which the size of the disk has to be a multiple.
    pub fn size_multiple(self) -> u64 {
        match self {
            Self::Raw | Self::Zst => MIB,
        }
    }

    /// The bytes of which the size of any disk in such a file is a multiple, whoever made that disk.
    pub fn unit(self) -> u64 {
        match self {
            Self::Raw | Self::Zst => 1,
        }
    }

    /// Whether such a file can be written from its first byte to its last one, so that a pipe will do.
    pub fn is_stream(self) -> bool {
        match self {
            Self::Raw | Self::Zst => true,
        }
    }

    /// Whether what such a file unpacks to can be written to a device by a [block map](bmap).
    pub fn has_block_map(self) -> bool {
        match self {
            Self::Raw | Self::Zst => true,
        }
    }

    /// The levels of compression that it has, if it is compressed and has a choice.
    pub fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Self::Zst => Some(1..=22),
            Self::Raw => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How to make a file of some form.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// The level of compression, where there is a choice.
    pub level: i32,
    /// What tells the disk from all others: identities that a form wants are derived from it.
    pub identity: Uuid,
    /// How to move bytes, whom to tell, and whether to stop.
    pub means: Means<'a>,
}

/// Writes the disk into `to`, an empty file.
///
/// # Errors
/// If the disk cannot be read, the file cannot be written, or there is no such file of that form.
pub fn write(format: Format, source: &dyn Source, to: &File, making: Making<'_>) -> Result<(), FormatError> {
    match format {
        Format::Raw => {
            let size = source.map().size();
            to.set_len(size).map_err(FormatError::Write)?;
            source.fill(to, &Places::same(size), making.means)
        }
        Format::Zst => stream(format, source, &mut BufWriter::with_capacity(MIB as usize, to), making),
    }
}

/// Writes the disk to whoever reads at the other end, from its first byte to its last one.
///
/// # Errors
/// As of [`write`](fn@write); and of a form that is no stream.
pub fn stream(
    format: Format,
    source: &dyn Source,
    to: &mut (dyn Write + Send),
    making: Making<'_>,
) -> Result<(), FormatError> {
    match format {
        Format::Raw => raw::stream(source, to, making)?,
        Format::Zst => zst::stream(source, to, making)?,
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
    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<(), FormatError>;
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
