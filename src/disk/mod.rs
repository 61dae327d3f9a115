//! The disk image as a whole: its file, its partition table, and the windows through which each partition is written.

pub mod gpt;
pub mod holes;
pub mod image;
pub mod mbr;
pub mod pages;
pub mod protected;
pub mod region;
pub mod table;

#[cfg(test)]
pub(crate) mod oracle;
