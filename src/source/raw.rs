//! The raw contents of a partition: one file of the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::links::{self, Unresolved};
use crate::spec::ExtraPartition;
use crate::store::StoreRoot;

/// Contents that make no partition. `index` is that of `extraPartitions`.
#[derive(Debug, Error)]
pub enum RawError {
    /// The file could not be examined.
    #[error("extraPartitions[{index}].contents: {}: cannot be read: {source}", path.display())]
    Io {
        /// Of the partition.
        index: usize,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is a directory, for example.
    #[error("extraPartitions[{index}].contents: {}: is not a regular file; name the file in it that holds the partition's bytes", path.display())]
    NotAFile {
        /// Of the partition.
        index: usize,
        /// What is there.
        path: PathBuf,
    },
    /// There is nothing in it, and no size is given.
    #[error("extraPartitions[{index}].contents: {}: is empty; set extraPartitions[{index}].size", path.display())]
    Empty {
        /// Of the partition.
        index: usize,
        /// The file.
        path: PathBuf,
    },
    /// It does not fit.
    #[error("extraPartitions[{index}].contents: {}: has {found} bytes, but the partition has {size}; set extraPartitions[{index}].size to at least {found}, or to null", path.display())]
    TooLarge {
        /// Of the partition.
        index: usize,
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The size asked for, in bytes.
        size: u64,
    },
}

/// The bytes of a partition, found and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawContents {
    /// Where they are, and how many; nothing where the partition is empty.
    pub file: Option<(PathBuf, u64)>,
    /// The size of the partition in bytes, not zero.
    pub size: u64,
}

impl RawContents {
    /// Looks for the contents of the partition at `index` of the spec.
    ///
    /// # Errors
    /// If they are no file, or do not fit into the partition.
    pub fn find(index: usize, partition: &ExtraPartition, store_root: &StoreRoot) -> Result<Self, RawError> {
        let Some(contents) = &partition.contents else {
            return Ok(Self { file: None, size: partition.size.unwrap_or_default() });
        };
        let io = |path: PathBuf, source: io::Error| RawError::Io { index, path, source };
        let path = links::find(store_root, contents).map_err(|unresolved| match unresolved {
            Unresolved::Missing(_) => io(contents.clone(), io::ErrorKind::NotFound.into()),
            Unresolved::Loop => io(contents.clone(), Errno::LOOP.into()),
            Unresolved::Io(path, source) => io(path, source),
        })?;
        let found = measure(index, &path)?;
        let size = partition.size.unwrap_or(found);
        match (found, size) {
            (0, 0) => Err(RawError::Empty { index, path }),
            _ if found > size => Err(RawError::TooLarge { index, path, found, size }),
            _ => Ok(Self { file: Some((path, found)), size }),
        }
    }
}

fn measure(index: usize, path: &Path) -> Result<u64, RawError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(RawError::NotAFile { index, path: path.to_owned() }),
        Err(source) => Err(RawError::Io { index, path: path.to_owned(), source }),
    }
}
