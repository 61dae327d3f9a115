//! The errors of laying out Limine.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::tool::ToolError;

/// Limine cannot be laid out.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// There is no bootspec.
    #[error("{}: cannot be read: {source}; it describes the system to Limine; set boot.bootspec.enable = true", path.display())]
    NoBootspec {
        /// Where it should be.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bootspec is not one, or tells what an image cannot have.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The bootspec.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Limine does not exist for such machines.
    #[error("{}: there is no Limine for {system}; set boot.loader.limine.enable to false", path.display())]
    UnknownSystem {
        /// The bootspec.
        path: PathBuf,
        /// Its system, such as "mips-linux".
        system: String,
    },
    /// Limine itself is missing.
    #[error("package: {} is not there; set limine.package to a limine package with biosSupport or efiSupport", path.display())]
    NoFile {
        /// The file looked for.
        path: PathBuf,
    },
    /// Limine's own program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}
