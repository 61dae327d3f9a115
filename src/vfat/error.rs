//! The errors of an ESP. Each names the file and the remedy.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::names::NameFault;
use crate::progress::Cancelled;

/// An ESP that cannot be laid out or written.
///
/// Paths are those in the ESP, from its root, unless said otherwise.
#[derive(Debug, Error)]
pub enum VfatError {
    /// A name that FAT cannot hold.
    #[error("/{}: {fault}; rename this file of the boot partition", path.display())]
    Name {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with its name.
        fault: NameFault,
    },
    /// Two names in a directory that FAT takes for one.
    #[error(
        "/{} and /{} differ only in case, which FAT ignores; rename one of them",
        first.display(),
        second.display()
    )]
    CaseCollision {
        /// The one that sorts first.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file beyond FAT's 32-bit sizes.
    #[error("/{}: {size} bytes, but a file on FAT is at most {} bytes", path.display(), u32::MAX)]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    #[error("/{}: a symbolic link, which FAT cannot hold; put the file that it leads to in its place", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A directory beyond FAT's limit of 65,536 entries of 32 bytes; a long name takes several.
    #[error(
        "/{}: its names take {entries} directory entries, but FAT allows 65536; \
         shorten names or spread the files over more directories",
        path.display()
    )]
    DirectoryTooLarge {
        /// The directory.
        path: PathBuf,
        /// The entries that it would need.
        entries: u64,
    },
    /// A volume label that FAT cannot hold.
    #[error("volume label {label:?}: {reason}; name a label of at most 11 of A-Z, 0-9, space, - and _")]
    Label {
        /// The label asked for.
        label: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A filesystem size that is not a whole number of sectors.
    #[error("the boot partition's size of {size} bytes is not a multiple of its {sector_size}-byte sectors")]
    PartialSector {
        /// In bytes.
        size: u64,
        /// In bytes.
        sector_size: u64,
    },
    /// Too few clusters to be FAT32 in the eyes of every firmware.
    #[error(
        "the boot partition's {size} bytes are too small for FAT32 with {sector_size}-byte sectors; \
         raise bootPartSize to at least {at_least}"
    )]
    TooSmall {
        /// In bytes.
        size: u64,
        /// In bytes.
        sector_size: u64,
        /// The smallest size in bytes, a multiple of 1 MiB, that would do.
        at_least: u64,
    },
    /// More clusters than FAT32 can number.
    #[error(
        "a boot partition of {size} bytes is too large for FAT32 with clusters of {cluster_size} bytes; \
         lower bootPartSize"
    )]
    TooLarge {
        /// In bytes.
        size: u64,
        /// In bytes.
        cluster_size: u64,
    },
    /// More contents than space.
    #[error(
        "the boot partition of {size} bytes is too small by {missing} bytes; raise bootPartSize to at least {at_least} \
         or have fewer files in it. The largest:{}",
        Largest(largest)
    )]
    DoesNotFit {
        /// The filesystem's size in bytes.
        size: u64,
        /// The clusters that are missing, in bytes.
        missing: u64,
        /// The smallest size in bytes, a multiple of 1 MiB, that would do.
        at_least: u64,
        /// The ten largest files and their sizes in bytes, largest first.
        largest: Vec<(PathBuf, u64)>,
    },
    /// A file of the tree that comes from nowhere on the host.
    #[error("/{}: a file without contents to copy", path.display())]
    NoSource {
        /// The file.
        path: PathBuf,
    },
    /// A file of the host that cannot be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The path on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of an image that cannot be read.
    #[error("/{}: cannot be read from the image: {source}", path.display())]
    Image {
        /// The file, from the root of its filesystem.
        path: PathBuf,
        /// What is wrong.
        source: crate::read::ReadError,
    },
    /// A file of the host that changed after it was scanned.
    #[error("{}: changed while the image was built: {expected} bytes before, {found} now", path.display())]
    SourceChanged {
        /// The path on the host.
        path: PathBuf,
        /// The size in the tree, in bytes.
        expected: u64,
        /// The size met, in bytes.
        found: u64,
    },
    /// The image cannot be written.
    #[error("cannot write the boot partition ({doing})")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The writer did otherwise than the layout foresaw: a mistake of this program.
    #[error("the boot partition is not as planned ({what}); this is a bug of sane-image, please report it")]
    Unplanned {
        /// The difference.
        what: String,
    },
    /// Stopped by a signal.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl VfatError {
    /// Whether the size asked for will not do.
    pub fn is_bad_size(&self) -> bool {
        matches!(
            self,
            Self::PartialSector { .. } | Self::TooSmall { .. } | Self::TooLarge { .. } | Self::DoesNotFit { .. }
        )
    }

    /// For `map_err`: an I/O error on the image while `doing` something.
    pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Files and sizes, a line each.
pub(crate) struct Largest<'a>(pub(crate) &'a [(PathBuf, u64)]);

impl fmt::Display for Largest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, size)| {
            f.write_char('\n')?;
            write!(f, "  {size:>12}  /{}", path.display())
        })
    }
}
