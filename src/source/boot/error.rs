//! The errors of making a boot tree.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::grub::error::GrubError;
use super::limine::error::LayoutError;
use super::systemd_boot::error::SystemdBootError;
use super::uki::UkiLayoutError;
use crate::progress::Cancelled;
use crate::source::command::CommandError;
use crate::source::tree::TreeError;

/// A boot tree that cannot be made.
#[derive(Debug, Error)]
pub enum PopulateError {
    /// There is not a place to make boot files in.
    #[error("cannot make boot files in a temporary directory: {0}; set TMPDIR to one that can be written to")]
    Scratch(#[source] io::Error),
    /// populateCmd did not succeed.
    #[error("populateCmd: {0}")]
    Command(#[source] CommandError),
    /// A file that could not be examined or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An entry of extraBootFiles that has no contents to be merged.
    #[error("extraBootFiles: {}: is not a directory; name the directory that the file is in", path.display())]
    NotADirectory {
        /// The entry.
        path: PathBuf,
    },
    /// A directory where a file is wanted.
    #[error("{}: is a directory; name a file in it", path.display())]
    NotAFile {
        /// The directory.
        path: PathBuf,
    },
    /// A symbolic link to nothing.
    #[error("{}: leads to {}, which does not exist; FAT has no links, so each must lead to a file", link.display(), target.display())]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// What is missing.
        target: PathBuf,
    },
    /// A symbolic link that leads to itself, by way of others perhaps.
    #[error("{}: leads in a circle; FAT has no links, so each must lead to a file", link.display())]
    LinkLoop {
        /// The link.
        link: PathBuf,
    },
    /// A symbolic link to a directory.
    #[error("{}: leads to the directory {}; FAT has no links, so put its files there instead", link.display(), target.display())]
    LinkToDirectory {
        /// The link.
        link: PathBuf,
        /// The directory.
        target: PathBuf,
    },
    /// A file of a kind that FAT cannot hold.
    #[error("{}: is a {kind}, which FAT cannot hold; leave it out", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Two different files of one path.
    #[error("{}: comes from {} and, with other contents, from {}; leave one out", path.display(), first.display(), second.display())]
    Conflict {
        /// Where the running system has it.
        path: PathBuf,
        /// Where it came from first.
        first: PathBuf,
        /// Where it comes from too.
        second: PathBuf,
    },
    /// A file and a directory of one path.
    #[error("{}: is a file in {} and a directory in {}; leave one out", path.display(), file.display(), directory.display())]
    FileAndDirectory {
        /// Where the running system has it.
        path: PathBuf,
        /// The file.
        file: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// A seed of random numbers, which would be the same on all machines.
    #[error(
        "{}: from {}, would give all machines the same random numbers; leave it out, the first boot makes one",
        path.display(),
        source_path.display()
    )]
    RandomSeed {
        /// Where the running system has it.
        path: PathBuf,
        /// Where it came from.
        source_path: PathBuf,
    },
    /// systemd-boot could not be added.
    #[error("systemdBoot: {0}")]
    SystemdBoot(#[from] SystemdBootError),
    /// GRUB could not be added.
    #[error("grub: {0}")]
    Grub(#[from] GrubError),
    /// Limine could not be added.
    #[error("limine: {0}")]
    Limine(#[from] LayoutError),
    /// The unified kernel image could not be made.
    #[error("uki: {0}")]
    Uki(#[from] UkiLayoutError),
    /// The files make no tree.
    #[error("boot files: {0}")]
    Tree(#[from] TreeError),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What the operating system said of a path.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PopulateError + use<> {
    let path = path.to_owned();
    |source| PopulateError::Io { path, source }
}
