//! Where the files of an image come from: the closure's store paths, the commands that fill the boot partition, and the
//! host's own files.
//!
//! Takes a [`Spec`](crate::spec) and makes one [`tree::FileTree`] for each filesystem.

pub mod boot;
pub mod closure;
pub mod command;
mod links;
pub mod own;
pub mod raw;
mod skeleton;
pub mod tree;
