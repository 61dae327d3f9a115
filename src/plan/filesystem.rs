//! The filesystems as the plan needs to know them.

use crate::source::tree::{FileTree, NodeIndex};
use crate::units::ByteOffset;
use crate::{btrfs, erofs, ext4};

/// A tree together with its layout.
#[derive(Clone, Copy, Debug)]
pub struct Laid<'a, Layout> {
    /// The files.
    pub tree: &'a FileTree,
    /// Where they go.
    pub layout: &'a Layout,
}

/// The filesystem with the store, laid out.
#[derive(Clone, Copy, Debug)]
pub struct NixFilesystem<'a> {
    /// The files.
    pub tree: &'a FileTree,
    /// The directory that is mounted where the spec has the filesystem of the store.
    pub root: NodeIndex,
    /// Where they go.
    pub layout: NixLayout<'a>,
}

/// The layout of that, in the format that the spec names.
#[derive(Clone, Copy, Debug)]
pub enum NixLayout<'a> {
    /// As an ext4.
    Ext4(&'a ext4::layout::Layout),
    /// As a btrfs.
    Btrfs(&'a btrfs::layout::Layout),
    /// As an EROFS, which is full.
    Erofs(&'a erofs::layout::Layout),
}

impl NixFilesystem<'_> {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self.layout {
            NixLayout::Ext4(layout) => layout.size(),
            NixLayout::Btrfs(layout) => layout.size(),
            NixLayout::Erofs(layout) => layout.size(),
        }
    }

    /// Bytes free for more files.
    pub fn free_bytes(&self) -> u64 {
        match self.layout {
            NixLayout::Ext4(layout) => layout.free_bytes(),
            NixLayout::Btrfs(layout) => layout.free_bytes(),
            NixLayout::Erofs(_) => 0,
        }
    }

    /// From the first to past the last byte of the contents of all files below `node`, or `None` if they have none of their
    /// own: what is among the metadata has other files' contents around it.
    pub fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        match self.layout {
            NixLayout::Ext4(layout) => layout.byte_range(self.tree, node),
            NixLayout::Btrfs(layout) => layout.byte_range(self.tree, node),
            NixLayout::Erofs(layout) => layout.byte_range(self.tree, node),
        }
    }
}
