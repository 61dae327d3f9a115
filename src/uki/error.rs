//! The errors of laying out a unified kernel image.

use thiserror::Error;

/// A unified kernel image that cannot be laid out. The caller says of which stub.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UkiError {
    /// The stub has no headers of a program.
    #[error("is no program for UEFI (a PE32 or PE32+ file); use linux*.efi.stub of systemd")]
    NotPe,
    /// The stub is a program, but not for UEFI.
    #[error("is a program for another system than UEFI (subsystem {subsystem}); use linux*.efi.stub of systemd")]
    NotEfi {
        /// The number of the system.
        subsystem: u16,
    },
    /// The headers contradict each other.
    #[error("has damaged headers: {problem}; use another copy of the stub")]
    Damaged {
        /// What is wrong.
        problem: &'static str,
    },
    /// The stub is shorter than its headers say.
    #[error("has {len} bytes, but its sections end at byte {end}; it is cut off, use another copy of the stub")]
    Truncated {
        /// Its length in bytes.
        len: u64,
        /// Where its sections end.
        end: u64,
    },
    /// A signature would be void, and is where sections have to go.
    #[error(
        "is signed, and a signed program cannot get sections; use the unsigned stub, and sign the image with `sane-image sign`"
    )]
    Signed,
    /// The stub has what is to be added.
    #[error("has a section {name} already; it is a unified kernel image, use the bare stub")]
    HasSection {
        /// The section.
        name: String,
    },
    /// There is no place for the headers of the new sections.
    #[error(
        "has room for the headers of {room} more sections, but {wanted} are needed; use the stub of a newer systemd"
    )]
    NoRoom {
        /// How many there can be.
        room: usize,
        /// How many there are to be.
        wanted: usize,
    },
    /// Offsets in the file have 32 bits.
    #[error("would be a program of over 4 GiB with its kernel and initrd; make the initrd smaller")]
    TooLarge,
}
