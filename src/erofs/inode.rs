//! What each kind of node looks like as an inode. Pure.

use zerocopy::{FromZeros, IntoBytes};

use super::format::{self, DataLayout, InodeCompact, InodeExtended};
use super::layout::Layout;
use crate::source::tree::{Attributes, FileTree, NodeIndex, NodeKind};
use crate::times::{Times, Timestamp};

/// The time that compact inodes have, and all that EROFS has for itself: what Nix gives to store files.
pub const EPOCH: Timestamp = Timestamp::STORE;

/// The two forms of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 32 bytes.
    Compact,
    /// 64 bytes.
    Extended,
}

impl Form {
    /// Its size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Compact => size_of::<InodeCompact>(),
            Self::Extended => size_of::<InodeExtended>(),
        }
    }
}

/// The form that a node with contents of `size` bytes needs.
pub fn form(tree: &FileTree, node: NodeIndex, size: u64) -> Form {
    let Attributes { uid, gid, .. } = tree.attributes(node);
    let has_short = |value: u32| u16::try_from(value).is_ok();
    let is_compact = u32::try_from(size).is_ok()
        && [uid, gid, links(tree, node)].into_iter().all(has_short)
        && tree.times(node).modification == EPOCH;
    if is_compact { Form::Compact } else { Form::Extended }
}

/// The inode of a node, as it stands on the disk.
pub fn encode(layout: &Layout, tree: &FileTree, node: NodeIndex) -> Vec<u8> {
    let shape = layout.shape(tree, node);
    let Attributes { mode, uid, gid } = tree.attributes(node);
    let mode = mode_type(tree.kind(node)) | mode;
    let ino = u32::try_from(node.as_usize()).map_or(u32::MAX, |index| index.saturating_add(1));
    let start = match shape.blocks {
        0 => format::NULL_ADDRESS,
        blocks if shape.indexes > 0 => u32::try_from(blocks).expect("the layout has fewer blocks"),
        1.. => u32::try_from(layout.start(node).0).expect("the layout has fewer blocks"),
    };
    let links = links(tree, node);
    match shape.form {
        Form::Compact => {
            let mut inode = InodeCompact::new_zeroed();
            inode.format = shape.layout.format().into();
            inode.mode = mode.into();
            inode.nb = half(links).into();
            inode.size = low(shape.size).into();
            (inode.u, inode.ino) = (start.into(), ino.into());
            (inode.uid, inode.gid) = (half(uid).into(), half(gid).into());
            inode.as_bytes().to_vec()
        }
        Form::Extended => {
            let Times { modification, .. } = tree.times(node);
            let mut inode = InodeExtended::new_zeroed();
            inode.format = (shape.layout.format() | format::FORMAT_EXTENDED).into();
            inode.mode = mode.into();
            inode.size = shape.size.into();
            (inode.u, inode.ino) = (start.into(), ino.into());
            (inode.uid, inode.gid) = (uid.into(), gid.into());
            inode.mtime = modification.seconds.cast_unsigned().into();
            inode.mtime_nsec = modification.nanoseconds.into();
            inode.nlink = links.into();
            inode.as_bytes().to_vec()
        }
    }
}

/// The layout of contents of which `inline` bytes follow the inode, uncompressed.
pub fn plain_layout(inline: usize) -> DataLayout {
    if inline > 0 { DataLayout::FlatInline } else { DataLayout::FlatPlain }
}

fn mode_type(kind: NodeKind<'_>) -> u16 {
    match kind {
        NodeKind::Directory => format::MODE_DIRECTORY,
        NodeKind::File { .. } => format::MODE_REGULAR,
        NodeKind::Symlink(_) => format::MODE_SYMLINK,
    }
}

/// Names that lead to a node: of a directory its name, its own `.` and the `..` of each directory in it.
fn links(tree: &FileTree, node: NodeIndex) -> u32 {
    if tree.kind(node) != NodeKind::Directory {
        return 1;
    }
    let directories = tree.children(node).filter(|&child| tree.kind(child) == NodeKind::Directory).count();
    u32::try_from(directories).map_or(u32::MAX, |directories| directories.saturating_add(2))
}

#[allow(clippy::cast_possible_truncation, reason = "the form was chosen so that it fits")]
fn low(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation, reason = "as above")]
fn half(value: u32) -> u16 {
    value as u16
}
