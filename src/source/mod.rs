//! Where the files of an image come from: the closure's store paths, the boot-populate commands, the host's own files.
//!
//! Takes a [`Spec`](crate::spec) and gives one [`tree::FileTree`] a filesystem.

pub mod boot;
pub mod closure;
pub mod command;
mod links;
pub mod own;
pub mod raw;
mod skeleton;
pub mod tree;
