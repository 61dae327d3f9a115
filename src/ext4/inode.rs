//! What each kind of node looks like in the inode table. Pure.
//!
//! All times are second 1 of the epoch, as in a Nix store, unless the tree gives a node other times.

use zerocopy::IntoBytes;

use super::checksum::Checksum;
use super::clock;
use super::extent::{self, ExtentTree};
use super::format::{self, BLOCK_SIZE, Inode, SECTOR_SIZE};
use super::layout::{Layout, Placement};
use super::{InodeNumber, geometry::Geometry};
use crate::source::tree::{Attributes, FileTree, NodeIndex, NodeKind};
use crate::times::Times;

/// The time of everything that ext4 has for itself, in seconds since the epoch: what Nix gives to store files.
pub const TIME: u32 = 1;
/// The owner and the group of what ext4 has for itself.
const ROOT: [u32; 2] = [0, 0];
/// A directory with more links than this has a link count of 1, "unknown" (dir_nlink).
const LINK_MAX: usize = 65_000;

/// What an inode's `i_block` holds.
pub enum BlockField {
    /// The root of an extent tree.
    Extents([u8; 60]),
    /// Bytes of another meaning: a fast symlink's target, a block map, zeros.
    Raw([u8; 60]),
}

/// The parts of an inode in which inodes differ.
pub struct Description {
    /// Type and permissions.
    pub mode: u16,
    /// The numbers of the owner and the group.
    pub owner: [u32; 2],
    /// When it was made, changed and read; no time is out of `clock`'s range.
    pub times: Times,
    /// Names that lead here.
    pub links: u16,
    /// The length of the contents in bytes.
    pub size: u64,
    /// Blocks that it owns, those of its extent tree included.
    pub blocks: u64,
    /// Flags besides [`format::INODE_EXTENTS`].
    pub flags: u32,
    /// The map to its blocks, or what stands in the map's place.
    pub block: BlockField,
}

impl Description {
    /// The inode as it stands in the table, checksum included.
    pub fn encode(&self, filesystem: Checksum, number: InodeNumber) -> Inode {
        let sectors = self.blocks * (BLOCK_SIZE / SECTOR_SIZE);
        let (block, extents) = match self.block {
            BlockField::Extents(root) => (root, format::INODE_EXTENTS),
            BlockField::Raw(bytes) => (bytes, 0),
        };
        let mut inode: Inode = zerocopy::FromZeros::new_zeroed();
        inode.mode = self.mode.into();
        let [uid, gid] = self.owner;
        (inode.uid, inode.gid) = (half(uid).into(), half(gid).into());
        (inode.uid_high, inode.gid_high) = (half(uid >> 16).into(), half(gid >> 16).into());
        inode.size_lo = low(self.size).into();
        inode.size_high = low(self.size >> 32).into();
        clock::put(&mut inode, self.times);
        inode.links_count = self.links.into();
        inode.blocks_lo = low(sectors).into();
        inode.blocks_high = u16::try_from(sectors >> 32).expect("a file has under 2^33 blocks of 8 sectors").into();
        inode.flags = (self.flags | extents).into();
        inode.block = block;
        inode.extra_isize = format::EXTRA_ISIZE.into();
        let checksum = filesystem.of_inode(number).with(inode.as_bytes());
        inode.checksum_lo = checksum.low().into();
        inode.checksum_hi = checksum.high().into();
        inode
    }
}

/// An inode, and the blocks of its extent tree if that has outgrown it.
pub struct Described {
    /// The inode's own parts.
    pub description: Description,
    /// Tree blocks to write.
    pub tree: ExtentTree,
}

/// The inode of a node of the tree.
pub fn of_node(layout: &Layout, tree: &FileTree, node: NodeIndex, owner: Checksum) -> Described {
    let placement = layout.placement(node);
    let extents = extents(layout, placement, owner);
    let root = BlockField::Extents(extents.root);
    let blocks = u64::from(placement.blocks());
    let Attributes { mode, uid, gid } = tree.attributes(node);
    let (times, kept) = (tree.times(node), tree.flags(node));
    let description = match tree.kind(node) {
        NodeKind::Directory => Description {
            mode: format::MODE_DIRECTORY | mode,
            owner: [uid, gid],
            times,
            links: directory_links(tree, node),
            size: u64::from(placement.data().blocks) * BLOCK_SIZE,
            blocks,
            flags: kept | if placement.data().blocks > 1 { format::INODE_INDEX } else { 0 },
            block: root,
        },
        NodeKind::File { size } => Description {
            mode: format::MODE_REGULAR | mode,
            owner: [uid, gid],
            times,
            links: 1,
            size,
            blocks,
            flags: kept,
            block: root,
        },
        NodeKind::Symlink(target) => Description {
            mode: format::MODE_SYMLINK | mode,
            owner: [uid, gid],
            times,
            links: 1,
            size: target.len() as u64,
            blocks,
            flags: kept,
            block: if blocks == 0 { BlockField::Raw(padded(target.as_encoded_bytes())) } else { root },
        },
    };
    Described { description, tree: extents }
}

/// The inode of the journal.
pub fn of_journal(layout: &Layout, owner: Checksum) -> Described {
    of_placement(layout, layout.journal, format::MODE_REGULAR | 0o600, 1, owner)
}

/// The inode of `lost+found`.
pub fn of_lost_and_found(layout: &Layout, owner: Checksum) -> Described {
    of_placement(layout, layout.lost_and_found, format::MODE_DIRECTORY | 0o700, 2, owner)
}

/// The inode that owns the reserved descriptor blocks and, through them, their backups.
///
/// Its double-indirect block lists the reserved blocks; each of those lists the blocks at the same place in the
/// backup groups. Source: the kernel's `Documentation/filesystems/ext4/special_inodes.rst` and `blockgroup.rst`.
pub fn of_resize(layout: &Layout) -> Description {
    const PER_BLOCK: u64 = format::ADDRESSES_PER_BLOCK as u64;
    /// Direct blocks, then what the indirect and the double-indirect block map: the file's nominal length.
    const NOMINAL_BLOCKS: u64 = 12 + PER_BLOCK + PER_BLOCK * PER_BLOCK;
    let reserved = u64::from(layout.geometry.reserved_descriptor_blocks);
    let copies = 1 + layout.geometry.backup_groups().count() as u64;
    let mut map = [0; 60];
    map[4 * format::BLOCK_MAP_DOUBLE_INDIRECT..][..4].copy_from_slice(&layout.resize_map.low().to_le_bytes());
    Description {
        mode: format::MODE_REGULAR | 0o600,
        owner: ROOT,
        times: Times::STORE,
        links: 1,
        size: NOMINAL_BLOCKS * BLOCK_SIZE,
        blocks: 1 + reserved * copies,
        flags: 0,
        block: BlockField::Raw(map),
    }
}

/// The blocks of addresses of the resize inode: the double-indirect block first, then the reserved blocks.
pub fn resize_maps(geometry: &Geometry) -> (Vec<u32>, Vec<Vec<u32>>) {
    let first = geometry.first_reserved_descriptor();
    let reserved = 0..geometry.reserved_descriptor_blocks;
    let mut double_indirect = vec![0; format::ADDRESSES_PER_BLOCK as usize];
    for i in reserved.clone() {
        let slot = (geometry.descriptor_blocks + i) % format::ADDRESSES_PER_BLOCK;
        double_indirect[slot as usize] = first.plus(u64::from(i)).low();
    }
    let backups: Vec<_> = geometry.backup_groups().map(|group| geometry.group_start(group)).collect();
    let list = |i| backups.iter().map(|start| start.plus(first.0 + u64::from(i)).low()).collect();
    (double_indirect, reserved.map(list).collect())
}

fn of_placement(layout: &Layout, placement: Placement, mode: u16, links: u16, owner: Checksum) -> Described {
    let tree = extents(layout, placement, owner);
    let description = Description {
        mode,
        owner: ROOT,
        times: Times::STORE,
        links,
        size: u64::from(placement.data().blocks) * BLOCK_SIZE,
        blocks: u64::from(placement.blocks()),
        flags: 0,
        block: BlockField::Extents(tree.root),
    };
    Described { description, tree }
}

fn extents(layout: &Layout, placement: Placement, owner: Checksum) -> ExtentTree {
    extent::build(&layout.space, placement.tree(), placement.data(), owner)
}

/// Its name, its own `.` and the `..` of each subdirectory; 1 where that is more than the field may say.
fn directory_links(tree: &FileTree, node: NodeIndex) -> u16 {
    let is_directory = |child: &NodeIndex| matches!(tree.kind(*child), NodeKind::Directory);
    let lost_and_found = usize::from(node == NodeIndex::ROOT);
    let links = 2 + lost_and_found + tree.children(node).filter(is_directory).count();
    u16::try_from(links).ok().filter(|_| links <= LINK_MAX).unwrap_or(1)
}

fn padded(target: &[u8]) -> [u8; 60] {
    let mut field = [0; 60];
    field[..target.len()].copy_from_slice(target);
    field
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half goes into another field")]
fn low(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half goes into another field")]
fn half(value: u32) -> u16 {
    value as u16
}
