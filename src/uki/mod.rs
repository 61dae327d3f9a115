//! A unified kernel image: one program for UEFI with a kernel, an initrd and a command line in it (UAPI.5, "Unified Kernel
//! Image"). It is systemd's stub with sections added.
//!
//! The program does this itself, and does not run ukify(1): ukify needs Python and pefile in the derivation, and the root
//! hash of dm-verity must come into the command line after everything else is laid out. So the command line has a place of
//! fixed length for it, which [`Layout`] knows before a byte of the store is written. The same inputs give the same bytes,
//! which are those of ukify.
//!
//! The kernel and the initrd are never in memory as a whole.

mod command_line;
mod error;
pub mod format;
mod layout;
#[cfg(test)]
pub(crate) mod sample;
mod sbat;
mod stub;
mod writer;

pub use self::command_line::{CommandLine, HASH_DIGITS, root_hash};
pub use self::error::UkiError;
pub use self::layout::{Layout, NewSection};
pub use self::writer::{Content, HashPlace, MadeUki, write};

#[cfg(test)]
mod tests;
