//! The errors of laying out systemd-boot.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// systemd-boot cannot be laid out.
#[derive(Debug, Error)]
pub enum SystemdBootError {
    /// There is no bootspec.
    #[error("{}: cannot be read: {source}; it describes the system to systemd-boot; set boot.bootspec.enable = true", path.display())]
    NoBootspec {
        /// Where it should be.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bootspec is not one.
    #[error("{}: {problem}; no boot entry can be made from it; it must be a bootspec of version 1", path.display())]
    Malformed {
        /// The bootspec.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// systemd-boot does not exist for such machines.
    #[error("{}: there is no systemd-boot for {system}; use boot.loader.generic-extlinux-compatible", path.display())]
    UnknownSystem {
        /// The bootspec.
        path: PathBuf,
        /// Its system, such as "mips-linux".
        system: String,
    },
    /// systemd-boot itself is missing.
    #[error("systemdBoot.efiStub: {} has no {wanted}, only {found}; set it to lib/systemd/boot/efi of the host's systemd", directory.display())]
    NoLoader {
        /// The directory.
        directory: PathBuf,
        /// The file looked for.
        wanted: String,
        /// What is there instead.
        found: String,
    },
    /// What the installer on the machine would not find a name for.
    #[error("{}: leads to {}, outside the store; the files of a boot entry must be in it", path.display(), target.display())]
    OutsideStore {
        /// The file.
        path: PathBuf,
        /// Where it really is.
        target: PathBuf,
    },
    /// A program that systemd-boot would not list.
    #[error("{}: is not a unified kernel image (a program for UEFI with a section .linux); name it otherwise than *.efi if it is not meant to be booted", path.display())]
    NotUnified {
        /// The file.
        path: PathBuf,
    },
}
