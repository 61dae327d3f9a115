//! Writes results. A file is made without its final name, and gets that name only when it is complete.
//!
//! First the destination is checked ([`Target`], [`Directory`]). If something exists there that is no regular file, it
//! is refused before any work is done. Then a [`Pending`] file is written. It has no name, if the filesystem can make
//! such a file; then nothing is left of it, however the program ends. Otherwise it is a hidden file. At the end it is
//! written out to the disk, linked under a hidden name and renamed. Files that need names earlier, for scripts of
//! users, lie in a hidden [`Scratch`] directory. Hidden files are locked. The next run removes those that no living
//! process has locked (`abandoned`).

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::directory::Directory;
pub use self::nameless::{can_link, link_at, open_at};
pub use self::page::Page;
pub use self::pending::{Pending, Privacy, publish};
pub use self::scratch::Scratch;
pub use self::target::{Target, kind_name};

mod abandoned;
mod directory;
mod nameless;
mod page;
mod pending;
mod scratch;
mod target;

/// What the names of files and directories that are not finished start with.
const HIDDEN: &str = ".sane-image-";

/// The output cannot be made where the user wants it.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The existing file cannot be written.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The output, as the user named it.
        path: PathBuf,
        /// What it is, and what to do.
        why: String,
    },
    /// The operating system says no.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, such as "cannot be made".
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl OutputError {
    /// The error that `path`, as the user named it, cannot be an output.
    pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), why: why.into() }
    }

    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
