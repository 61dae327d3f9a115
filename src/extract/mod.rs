//! Copies files out of an image: into a directory, or as a tar.
//!
//! First a [`Plan`] is made: everything that is wanted, in order, with every name and every link checked. Then it is
//! written. So anything that would leave the destination is found before a byte is written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::progress::Cancelled;
use crate::read::{ReadError, escape};

mod archive;
mod directory;
mod links;
mod plan;

pub use archive::to_tar;
pub use directory::to_directory;
pub use links::Links;
pub use plan::{Item, Plan, plan};

/// At most this many refusals are reported one by one.
const TOLD: usize = 10;

/// Files that cannot be extracted.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// The image does not give them.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Names or links that would leave the destination: one line each, escaped.
    #[error("nothing is extracted: {}", tell(.0))]
    Refused(Vec<String>),
    /// Something at the destination cannot be written.
    #[error("{}: {what}", escape::path(.path))]
    Write {
        /// The file, as it is in the image.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The destination itself cannot be written.
    #[error("{}: cannot be written", .0.display())]
    Destination(PathBuf, #[source] io::Error),
    /// The tar cannot be written: what reads it is gone, as a rule.
    #[error("cannot write the tar")]
    Tar(#[source] io::Error),
    /// A signal came.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The first refusals, and how many more there are.
fn tell(refusals: &[String]) -> String {
    let mut lines: Vec<String> = refusals.iter().take(TOLD).cloned().collect();
    match refusals.len().saturating_sub(TOLD) {
        0 => {}
        more => lines.push(format!("… and {more} more")),
    }
    lines.join("\n")
}

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories that were asked for.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
}
