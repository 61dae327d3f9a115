//! The errors of reading an image. Corrupt, unsupported and unreadable are different errors.

use std::io;

use thiserror::Error;

use crate::units::ByteOffset;

/// Something cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The bytes are not what the format allows.
    #[error("corrupt {0}")]
    Corrupt(Fault),
    /// The bytes may be well, but this program does not know their meaning.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// There is no such file.
    #[error("{0}: no such file")]
    NotFound(String),
    /// There is no such partition.
    #[error("{0}")]
    NoPartition(String),
    /// Something below a path is wanted that has nothing below it.
    #[error("{0}: not a directory")]
    NotADirectory(String),
    /// A file of another kind is wanted.
    #[error("{path}: not a {wanted}")]
    WrongKind {
        /// The file, escaped for people.
        path: String,
        /// "regular file" or "symbolic link".
        wanted: &'static str,
    },
    /// The image cannot be opened.
    #[error("{path}: cannot be opened")]
    Open {
        /// The image, as the user named it.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The image itself cannot be read.
    #[error("cannot read {len} bytes at byte {offset}")]
    Io {
        /// Where.
        offset: ByteOffset,
        /// How many.
        len: u64,
        /// Why.
        source: io::Error,
    },
}

impl ReadError {
    /// A structure that is not what the format allows.
    pub fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt(Fault { what: what.into(), why: why.into() })
    }
}

/// One thing that is wrong: one line for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("{what}: {why}")]
pub struct Fault {
    /// The structure, by the numbers that the format's own tools use, and the file that it belongs to as far as that
    /// is known: `inode 12 (nix/store/…/bin/sh)`. Names are escaped for people.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}
