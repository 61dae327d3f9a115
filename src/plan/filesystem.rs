//! The filesystem of the store as the plan needs to know it, whatever its format.

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

/// A laid-out filesystem with the store, whatever its format.
pub trait NixFilesystem {
    /// The files.
    fn tree(&self) -> &FileTree;
    /// The directory that is mounted where the spec has the filesystem of the store.
    fn root(&self) -> NodeIndex;
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Bytes free for more files.
    fn free_bytes(&self) -> u64;
    /// From the first to past the last byte of the contents of all files below `node`, if they have any of their own.
    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)>;
}

impl NixFilesystem for Laid<'_, ext4::layout::Layout> {
    fn tree(&self) -> &FileTree {
        self.tree
    }

    fn root(&self) -> NodeIndex {
        NodeIndex::ROOT
    }

    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn free_bytes(&self) -> u64 {
        self.layout.free_bytes()
    }

    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        self.layout.byte_range(self.tree, node)
    }
}

impl NixFilesystem for Laid<'_, erofs::layout::Layout> {
    fn tree(&self) -> &FileTree {
        self.tree
    }

    fn root(&self) -> NodeIndex {
        NodeIndex::ROOT
    }

    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn free_bytes(&self) -> u64 {
        0
    }

    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        self.layout.byte_range(self.tree, node)
    }
}

impl NixFilesystem for (&btrfs::volume::Volumes, &btrfs::layout::Layout) {
    fn tree(&self) -> &FileTree {
        self.0.tree()
    }

    fn root(&self) -> NodeIndex {
        self.0.store().root
    }

    fn size(&self) -> u64 {
        self.1.size()
    }

    fn free_bytes(&self) -> u64 {
        self.1.free_bytes()
    }

    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        self.1.byte_range(self.0.tree(), node)
    }
}
