//! The disk image as a whole: its partition table, and a window for each partition to be written through.

pub mod gpt;
pub mod holes;
pub mod mbr;
pub mod memory;
pub mod pages;
pub mod protected;
pub mod region;
pub mod resize;
pub mod table;

#[cfg(test)]
pub(crate) mod oracle;
