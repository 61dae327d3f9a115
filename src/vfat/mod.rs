//! The EFI system partition: a FAT32 filesystem laid out from a [`FileTree`](crate::source::tree::FileTree) and
//! written through the `fatfs` crate.
//!
//! [`VfatLayout`] decides everything and refuses all that FAT cannot hold; it is pure. [`write()`] then has
//! fatfs make the filesystem, and corrects what fatfs leaves short of the specification:
//!
//! - `.` and `..` get long names, and the `..` of a directory in the root points to cluster 2 instead of 0;
//! - the short alias of a name like `.env` starts with a space;
//! - the volume label's entry has no date, and the backup of the FSInfo sector is missing.
//!
//! fatfs hands out clusters in rising order and nothing is ever removed here, so that the layout knows every
//! cluster beforehand and the writer knows where to correct. What it finds there is checked first.
//!
//! [`reader`] reads, and [`check`](mod@check) judges, what anyone wrote: FAT12, FAT16 or FAT32.

mod cache;
pub mod check;
mod error;
mod geometry;
mod layout;
mod names;
pub mod reader;
mod volume;
mod writer;

#[cfg(test)]
mod tests;

pub use error::VfatError;
pub use layout::{VfatLayout, VfatParams};
pub use names::NameFault;
pub use writer::write;
