//! Decides every block of the filesystem, before a byte is written. Pure.
//!
//! The stream of free blocks ([`Space`]) is filled in this order: the resize inode's map, the journal,
//! `lost+found`, all directories, then each file's contents in the tree's order, with its extent tree blocks after it. So a
//! store path's files are contiguous, and what is free is one stretch at the end.

use thiserror::Error;
use uuid::Uuid;

use super::directory::{Directory, Entry};
use super::format::{self, BLOCK_SIZE, BLOCKS_PER_GROUP, INODE_FIRST, INODE_ROOT};
use super::geometry::Geometry;
use super::hash::HashSeed;
use super::space::{Extent, Run, Space, StreamBlock};
use super::{BlockIndex, InodeNumber, clock, extent, journal};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::times::Timestamp;
use crate::units::ByteOffset;

/// The longest volume label, in bytes.
pub const LABEL_MAX: usize = 16;
/// The name of the directory for what a repair finds, as every ext4 has it.
pub const LOST_AND_FOUND: &str = "lost+found";
/// `lost+found` has room for finds beforehand, as mke2fs gives it: a full disk is when it is needed.
const LOST_AND_FOUND_BLOCKS: u32 = 4;
/// Targets up to this many bytes stand in the inode; longer ones take a block.
pub const FAST_SYMLINK_MAX: usize = 59;
/// The longest symlink target in bytes: a block with its closing NUL, and the kernel's PATH_MAX.
pub const SYMLINK_MAX: usize = 4095;

/// The most blocks of one file: file blocks have 32 bits, of which the tree blocks take their share.
const FILE_MAX_BLOCKS: u64 = (1 << 32) - (1 << 20);

/// A tree that ext4 cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The tree's root has an entry that every ext4 already has.
    #[error("/{LOST_AND_FOUND} is ext4's own directory; no file of an image can have its name")]
    LostAndFoundTaken,
    /// A symlink that the kernel could not read back.
    #[error("{path}: the symlink's target has {len} bytes; ext4 holds 1 to {SYMLINK_MAX}")]
    SymlinkLength {
        /// The link, from the filesystem's root.
        path: String,
        /// The target's length in bytes.
        len: usize,
    },
    /// A file beyond ext4's 32-bit file blocks.
    #[error("{path}: a file of {size} bytes is too large for ext4, which holds just under 16 TiB in one")]
    FileTooLarge {
        /// The file, from the filesystem's root.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A directory beyond what an htree of two levels can index.
    #[error("{path}: {entries} entries are too many for one ext4 directory")]
    TooManyEntries {
        /// The directory, from the filesystem's root.
        path: String,
        /// How many it has.
        entries: usize,
    },
    /// A time that an inode cannot store.
    #[error(
        "{path}: a time of {seconds} seconds and {nanoseconds} nanoseconds since 1970 cannot be stored by ext4, whose times run \
         from the end of 1901 to 2446; set another"
    )]
    Time {
        /// The file, from the filesystem's root.
        path: String,
        /// Seconds since 1970.
        seconds: i64,
        /// Nanoseconds after that second.
        nanoseconds: u32,
    },
    /// More blocks or inodes than 32-bit group and inode numbers can count.
    #[error("the files and the free space asked for do not fit in any ext4 filesystem; lower nixFreeSpace or diskSize")]
    TooLarge,
}

/// What the user chooses about a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The filesystem's UUID; directory hashes are seeded from it too.
    pub uuid: Uuid,
    /// The volume label, at most [`LABEL_MAX`] bytes.
    pub label: String,
    /// Bytes to leave free for files yet to come.
    pub free_bytes: u64,
}

/// Where one inode's blocks are: its contents, then its extent tree blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    run: Run,
    tree_blocks: u32,
}

impl Placement {
    /// The blocks of the extent tree outside the inode; usually none.
    pub fn tree(self) -> Run {
        self.run.skip(self.run.blocks - self.tree_blocks)
    }

    /// The blocks of the contents.
    pub fn data(self) -> Run {
        Run { blocks: self.run.blocks - self.tree_blocks, ..self.run }
    }

    /// All blocks that the inode owns.
    pub fn blocks(self) -> u32 {
        self.run.blocks
    }
}

/// A filesystem with every block decided.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the user chose.
    pub parameters: Parameters,
    /// Where the fixed metadata lies.
    pub geometry: Geometry,
    /// Where everything else may lie.
    pub space: Space,
    /// The block of addresses that makes the reserved descriptor blocks a file.
    pub resize_map: BlockIndex,
    /// The journal.
    pub journal: Placement,
    /// `lost+found`.
    pub lost_and_found: Placement,
    /// Each node of the tree.
    nodes: Vec<Placement>,
    /// The end of what is used of the stream.
    pub used: StreamBlock,
}

impl Layout {
    /// Lays out a tree in the smallest filesystem that holds it and leaves the free space asked for.
    ///
    /// # Errors
    /// If ext4 cannot hold a file, a directory, or all of them.
    pub fn new(tree: &FileTree, parameters: Parameters) -> Result<Self, LayoutError> {
        Self::at_least(0, tree, &demands(tree, hash_seed(&parameters))?, parameters)
    }

    /// Lays out a tree in the largest filesystem of at most `size` bytes, or in the smallest that holds it if that is
    /// larger.
    ///
    /// It may be smaller than `size`: a last group that had no room for more than its own metadata is left out, as mke2fs
    /// does it.
    ///
    /// # Errors
    /// If ext4 cannot hold a file, a directory, or all of them.
    pub fn within(size: u64, tree: &FileTree, parameters: Parameters) -> Result<Self, LayoutError> {
        let demands = demands(tree, hash_seed(&parameters))?;
        let blocks = size / BLOCK_SIZE;
        let whole_groups = blocks - blocks % u64::from(BLOCKS_PER_GROUP);
        for least in [blocks, whole_groups] {
            let layout = Self::at_least(least, tree, &demands, parameters.clone())?;
            if layout.size() <= size {
                return Ok(layout);
            }
        }
        Self::at_least(0, tree, &demands, parameters)
    }

    /// The smallest filesystem of at least `least` blocks.
    fn at_least(least: u64, tree: &FileTree, demands: &[u32], parameters: Parameters) -> Result<Self, LayoutError> {
        let free_blocks = parameters.free_bytes.div_ceil(BLOCK_SIZE);
        let inodes = u64::from(inode_of_index(tree.len()).ok_or(LayoutError::TooLarge)?.0);
        let min_inodes = inodes + inodes.div_ceil(10);
        let mut block_count = free_blocks.max(least);
        loop {
            let geometry = Geometry::at_least(block_count, min_inodes).ok_or(LayoutError::TooLarge)?;
            let layout = Self::place(geometry, tree, demands, parameters.clone());
            let needed = layout.used.0.checked_add(free_blocks).ok_or(LayoutError::TooLarge)?;
            match needed.checked_sub(layout.space.blocks()) {
                None | Some(0) => return Ok(layout),
                // A larger filesystem has more metadata too, so this never overshoots.
                Some(missing) => {
                    block_count = layout.geometry.block_count.checked_add(missing).ok_or(LayoutError::TooLarge)?;
                }
            }
        }
    }

    /// Fills the stream, maybe past the end of what the geometry has.
    fn place(geometry: Geometry, tree: &FileTree, demands: &[u32], parameters: Parameters) -> Self {
        let space = geometry.free_space();
        let mut allocator = Allocator { space: &space, at: StreamBlock(0) };
        let resize_map = allocator.contiguous(1);
        let journal = allocator.place(journal::blocks(geometry.block_count));
        let lost_and_found = allocator.place(LOST_AND_FOUND_BLOCKS);
        let mut nodes = vec![Placement::default(); demands.len()];
        let is_directory = |node: &NodeIndex| matches!(tree.kind(*node), NodeKind::Directory);
        let (directories, others): (Vec<_>, Vec<_>) = tree.nodes().partition(is_directory);
        for node in directories.into_iter().chain(others) {
            nodes[node.as_usize()] = allocator.place(demands[node.as_usize()]);
        }
        let used = allocator.at;
        let resize_map = space.block(resize_map.start);
        Self { parameters, geometry, space, resize_map, journal, lost_and_found, nodes, used }
    }

    /// Where a node's blocks are.
    pub fn placement(&self, node: NodeIndex) -> Placement {
        self.nodes[node.as_usize()]
    }

    /// The extents of a file's contents, in order; none for an empty file or a link that stands in its inode.
    pub fn contents(&self, node: NodeIndex) -> impl Iterator<Item = Extent> + '_ {
        self.space.extents(self.placement(node).data())
    }

    /// The size of the filesystem in bytes, a whole number of mebibytes.
    pub fn size(&self) -> u64 {
        self.geometry.block_count * BLOCK_SIZE
    }

    /// The bytes left free, at least what was asked for.
    pub fn free_bytes(&self) -> u64 {
        (self.space.blocks() - self.used.0) * BLOCK_SIZE
    }

    /// The inodes in use, the reserved ones included.
    pub fn used_inodes(&self) -> u32 {
        inode_of_index(self.nodes.len() - 1).map_or(u32::MAX, |last| last.0.max(INODE_FIRST))
    }

    /// The key of directory hashes.
    pub fn hash_seed(&self) -> HashSeed {
        hash_seed(&self.parameters)
    }

    /// From the first to past the last byte of the contents of all files below `node`, or `None` if they have none.
    ///
    /// Metadata of the filesystem may lie in between, contents of other files do not.
    pub fn byte_range(&self, tree: &FileTree, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        let has_contents =
            |node: &NodeIndex| !matches!(tree.kind(*node), NodeKind::Directory) && self.placement(*node).blocks() > 0;
        let mut nodes = tree.subtree(node).filter(has_contents);
        let first = nodes.next()?;
        let last = nodes.next_back().unwrap_or(first);
        let start = self.space.block(self.placement(first).run.start);
        let end = self.space.block(StreamBlock(self.placement(last).run.end().0 - 1)).plus(1);
        Some((ByteOffset(start.0 * BLOCK_SIZE), ByteOffset(end.0 * BLOCK_SIZE)))
    }
}

/// The inode of a node: the root's is fixed, all others follow `lost+found` in the tree's order.
pub fn inode_of(node: NodeIndex) -> InodeNumber {
    inode_of_index(node.as_usize()).expect("Layout::new checked the number of nodes")
}

fn inode_of_index(index: usize) -> Option<InodeNumber> {
    match index {
        0 => Some(InodeNumber(INODE_ROOT)),
        _ => u32::try_from(index).ok()?.checked_add(INODE_FIRST).map(InodeNumber),
    }
}

/// A directory of the tree with the inodes of its entries; the root's has `lost+found` too.
pub fn directory(tree: &FileTree, node: NodeIndex) -> Directory<'_> {
    let mut entries: Vec<_> = tree.children(node).map(|child| entry(tree, child)).collect();
    if node == NodeIndex::ROOT {
        let name = LOST_AND_FOUND.as_bytes();
        let inode = InodeNumber(INODE_FIRST);
        let at = entries.partition_point(|entry| entry.name < name);
        entries.insert(at, Entry { inode, file_type: format::TYPE_DIRECTORY, name });
    }
    Directory { inode: inode_of(node), parent: inode_of(tree.parent(node)), entries }
}

fn entry(tree: &FileTree, node: NodeIndex) -> Entry<'_> {
    let file_type = match tree.kind(node) {
        NodeKind::Directory => format::TYPE_DIRECTORY,
        NodeKind::File { .. } => format::TYPE_REGULAR,
        NodeKind::Symlink(_) => format::TYPE_SYMLINK,
    };
    Entry { inode: inode_of(node), file_type, name: tree.name(node).as_encoded_bytes() }
}

fn hash_seed(parameters: &Parameters) -> HashSeed {
    HashSeed::from_bytes(parameters.uuid.into_bytes())
}

/// How many blocks of contents each node has, whatever their place.
fn demands(tree: &FileTree, seed: HashSeed) -> Result<Vec<u32>, LayoutError> {
    if tree.children(NodeIndex::ROOT).any(|child| tree.name(child) == LOST_AND_FOUND) {
        return Err(LayoutError::LostAndFoundTaken);
    }
    tree.nodes().map(|node| demand(tree, node, seed)).collect()
}

fn demand(tree: &FileTree, node: NodeIndex, seed: HashSeed) -> Result<u32, LayoutError> {
    let path = || format!("/{}", tree.path(node).display());
    if let Some(time) = tree.times(node).all().into_iter().find(|time| !clock::holds(*time)) {
        let Timestamp { seconds, nanoseconds } = time;
        return Err(LayoutError::Time { path: path(), seconds, nanoseconds });
    }
    match tree.kind(node) {
        NodeKind::Directory => {
            let directory = directory(tree, node);
            let shape = directory.shape(seed);
            shape
                .map(|shape| shape.blocks())
                .map_err(|_| LayoutError::TooManyEntries { path: path(), entries: directory.entries.len() })
        }
        NodeKind::File { size } => {
            let blocks = size.div_ceil(BLOCK_SIZE);
            let blocks = u32::try_from(blocks).ok().filter(|_| blocks <= FILE_MAX_BLOCKS);
            blocks.ok_or_else(|| LayoutError::FileTooLarge { path: path(), size })
        }
        NodeKind::Symlink(target) => match target.len() {
            1..=FAST_SYMLINK_MAX => Ok(0),
            len @ ..=SYMLINK_MAX if len > 0 => Ok(1),
            len => Err(LayoutError::SymlinkLength { path: path(), len }),
        },
    }
}

/// Hands out the stream from its start.
struct Allocator<'a> {
    space: &'a Space,
    at: StreamBlock,
}

impl Allocator<'_> {
    fn contiguous(&mut self, blocks: u32) -> Run {
        let run = Run { start: self.at, blocks };
        self.at = run.end();
        run
    }

    /// Places `data_blocks` of contents with the tree blocks that their extents turn out to need.
    fn place(&mut self, data_blocks: u32) -> Placement {
        let tree_blocks = extent::tree_blocks(self.space, Run { start: self.at, blocks: data_blocks });
        Placement { run: self.contiguous(data_blocks + tree_blocks), tree_blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tree::{DirectoryMode, TreeBuilder};
    use crate::units::MIB;

    fn parameters(free_bytes: u64) -> Parameters {
        Parameters { uuid: Uuid::from_u128(1), label: String::new(), free_bytes }
    }

    /// The metadata of a last group that is left out: bitmaps, inode table, superblock and descriptors.
    const GROUP_METADATA: u64 = 16 * MIB;

    #[test]
    fn a_given_size_is_filled_as_far_as_groups_can() {
        let tree = TreeBuilder::new(DirectoryMode::Writable).finish();
        let least = Layout::new(&tree, parameters(50 * MIB)).unwrap().size();
        let mut smaller = 0;
        // A group that starts a flexible group, one with a backup of many descriptors, and others.
        let starts = [least / MIB, 512, 1024, 16 * 128, 25 * 128, 3 * 16 * 128];
        for size in starts.iter().flat_map(|start| (0..20).map(move |more| (start + more) * MIB)) {
            let layout = Layout::within(size, &tree, parameters(50 * MIB)).unwrap();
            assert!(layout.size() <= size && size - layout.size() <= GROUP_METADATA, "{size}: {}", layout.size());
            assert!(layout.free_bytes() >= 50 * MIB, "{size}");
            smaller += u64::from(layout.size() < size);
        }
        assert!(smaller > 4, "{smaller} sizes have a last group that is left out");
        // If the size is too small, the filesystem is larger than it: nothing is cut off.
        assert_eq!(Layout::within(least - MIB, &tree, parameters(50 * MIB)).unwrap().size(), least);
    }

    #[test]
    fn a_larger_journal_does_not_take_what_is_to_be_free() {
        let tree = TreeBuilder::new(DirectoryMode::Writable).finish();
        for free in (0..1100 * MIB).step_by(23 << 20) {
            let least = Layout::new(&tree, parameters(free)).unwrap().size();
            for size in [least, least + MIB, least + 2 * MIB] {
                let layout = Layout::within(size, &tree, parameters(free)).unwrap();
                assert!((least..=size).contains(&layout.size()) && layout.free_bytes() >= free, "{free} in {size}");
            }
        }
    }
}
