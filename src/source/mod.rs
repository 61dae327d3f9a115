//! Where the files of an image come from: the closure's store paths and the boot-populate commands.
//!
//! Takes a [`Spec`](crate::spec) and gives one [`tree::FileTree`] a filesystem.

pub mod boot;
pub mod closure;
pub mod command;
mod links;
pub mod raw;
pub mod tree;
