//! The disk image as a whole: its partition table, and the windows through which each partition is written.

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
