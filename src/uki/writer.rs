//! Writes a unified kernel image, and a root hash into one.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::command_line::HASH_DIGITS;
use super::layout::Layout;
use crate::progress::Cancel;

/// As much of a file as is copied between two looks at whether the user asked to stop, in bytes.
const STEP: u64 = 16 << 20;

/// What a new section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// All of a file that is this long, in bytes.
    File(&'a Path, u64),
}

impl Content<'_> {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a unified kernel image to the start of `out`. `contents` are those of the new sections, in their order.
///
/// # Errors
/// If a file cannot be read, or is shorter than it was; if `out` cannot be written to; [`ErrorKind::Interrupted`] if the
/// user asked to stop.
pub fn write(layout: &Layout, contents: &[Content<'_>], out: &mut File, cancel: &Cancel) -> io::Result<()> {
    out.write_all(&layout.head)?;
    let mut at = layout.head.len() as u64;
    for (content, &offset) in contents.iter().zip(&layout.offsets) {
        pad(out, offset.saturating_sub(at))?;
        match content {
            Content::Bytes(bytes) => out.write_all(bytes)?,
            Content::File(path, len) => copy(path, *len, out, cancel)?,
        }
        at = offset + content.len();
    }
    pad(out, layout.size.saturating_sub(at))
}

fn copy(path: &Path, len: u64, out: &mut File, cancel: &Cancel) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut left = len;
    while left > 0 {
        cancel.check().map_err(|_| io::Error::from(ErrorKind::Interrupted))?;
        let copied = io::copy(&mut Read::by_ref(&mut file).take(left.min(STEP)), out)?;
        if copied == 0 {
            let problem = format!("{} became shorter while it was copied", path.display());
            return Err(io::Error::new(ErrorKind::UnexpectedEof, problem));
        }
        left -= copied;
    }
    Ok(())
}

fn pad(out: &mut File, len: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(len), out).map(drop)
}

/// Where the digits of a root hash are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashPlace {
    /// In bytes from the start.
    pub offset: u64,
    /// In bytes: [`HASH_DIGITS`].
    pub len: usize,
}

/// A unified kernel image that was made for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeUki {
    /// Its file until then.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Where it has zeros in the place of a root hash, if it is to have one.
    pub hash: Option<HashPlace>,
}

impl MadeUki {
    /// Writes a root hash into its place. The length of the file stays as it is.
    ///
    /// # Errors
    /// If it has no place for it, `digits` are not as many as that has, or the file cannot be written to.
    pub fn set_root_hash(&self, digits: &str) -> io::Result<()> {
        let place = self.hash.filter(|place| place.len == digits.len() && digits.len() == HASH_DIGITS);
        let place = place.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "has no place for this root hash"))?;
        File::options().write(true).open(&self.path)?.write_all_at(digits.as_bytes(), place.offset)
    }
}
