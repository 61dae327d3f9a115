//! The errors of signing.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::add::AddError;
use crate::output::OutputError;
use crate::progress::Cancelled;
use crate::read::ReadError;

/// Why nothing is signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image has nothing to sign.
    #[error(
        "has no programs for UEFI (*.efi on an ESP or XBOOTLDR partition); name an image that boots by UEFI, or a program"
    )]
    NoPrograms,
    /// The image cannot be written again, or has no room.
    #[error(transparent)]
    Add(#[from] AddError),
    /// The result cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// There is no tool.
    #[error(
        "neither sbsign nor systemd-sbsign is installed; install sbsigntool or systemd 257 or later, or run it in \
         `nix shell nixpkgs#sbsigntool`"
    )]
    NoTool,
    /// The tool that was asked for is not there.
    #[error("--tool {name}: is not installed; name sbsign, systemd-sbsign, or the path of one of them")]
    NotInstalled {
        /// As the user wrote it.
        name: String,
    },
    /// It is not known how to run a tool.
    #[error("--tool {name}: is neither sbsign nor systemd-sbsign; no other tool is known")]
    UnknownTool {
        /// As the user wrote it.
        name: String,
    },
    /// The program is not whole.
    #[error("{program}: {why}; get it once more, or build it again")]
    Program {
        /// The program that was to be signed.
        program: String,
        /// What is wrong with it.
        why: String,
    },
    /// The tool failed.
    #[error("{program}: {} did not sign it: {said}", tool.display())]
    Tool {
        /// The program that was to be signed.
        program: String,
        /// The tool.
        tool: PathBuf,
        /// The end of what it printed.
        said: String,
    },
    /// The tool said that it signed, and did not.
    #[error("{program}: {} {problem}; use another version of it", tool.display())]
    Wrong {
        /// The program that was to be signed.
        program: String,
        /// The tool.
        tool: PathBuf,
        /// What it did.
        problem: &'static str,
    },
    /// The certificate is not one.
    #[error("--certificate {}: {problem}; give an X.509 certificate in PEM form, whose first line is -----BEGIN CERTIFICATE-----", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key cannot be read.
    #[error("--key {}: cannot be read: {source}; give the private key of the certificate, in PEM form", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file of the key has none.
    #[error("--key {}: holds no private key in PEM form; give the file in which a line ends in PRIVATE KEY-----", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A pipe, which can be read only once.
    #[error(
        "{option} {}: is no regular file, and it is read again for each program; write it to a file, such as one in \
         /dev/shm, and remove that afterwards",
        path.display()
    )]
    NoFile {
        /// The option.
        option: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// The key is that of another certificate.
    #[error("--key {}: is not the key of {}; no firmware would take such a signature, so give the two that belong together", key.display(), certificate.display())]
    OtherKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// A file of the host.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is not a place for programs.
    #[error("programs cannot be written to a temporary directory: {0}; set TMPDIR to one with room for them")]
    Scratch(#[source] io::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl SignError {
    /// Whether it is about the image or program, whatever it is to be signed with.
    pub fn is_of_image(&self) -> bool {
        match self {
            Self::Read(_) | Self::NoPrograms | Self::Program { .. } | Self::Tool { .. } | Self::Wrong { .. } => true,
            Self::Add(error) => error.is_of_image() || matches!(error, AddError::Build(_)),
            _ => false,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}
