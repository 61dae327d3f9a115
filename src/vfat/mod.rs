//! The EFI system partition: a FAT32 filesystem laid out from a [`FileTree`](crate::source::tree::FileTree).
//!
//! [`VfatLayout`] decides everything, and refuses everything that FAT cannot hold; it is pure. [`write()`] lets the
//! `fatfs` crate format an empty filesystem. It adds what the specification asks for and fatfs leaves out (the backup
//! of the FSInfo sector). Then it writes tables, directories and contents. Clusters are used in rising order.
//!
//! [`reader`] reads, and [`check`](mod@check) judges, filesystems made by any program: FAT12, FAT16 or FAT32.

mod alias;
mod cache;
pub mod check;
mod clock;
pub mod contents;
mod directory;
mod error;
mod format;
mod free;
mod geometry;
mod layout;
pub mod map;
mod names;
pub mod reader;
mod rest;
mod volume;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use error::Largest;
pub use error::VfatError;
pub use layout::{VfatLayout, VfatParams};
pub use names::NameFault;
pub use writer::{write, write_structures};
