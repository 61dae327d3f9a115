//! Decides every block of the filesystem, before a byte of metadata is written. Pure.
//!
//! Contents are placed first ([`Placement`]). From that follows what the trees of files and of checksums hold, and how
//! many nodes they have. The trees that describe the chunks and the trees themselves come last. Their numbers of nodes
//! depend on each other, so they are counted again until every tree has enough room.

use thiserror::Error;
use uuid::Uuid;

use super::devices::Device;
use super::files::Files;
use super::format::{LABEL_BYTES, group, kind, object};
use super::placement::{Extent, Placement};
use super::space::Chunks;
use super::tree::{Counter, Shape, TreeError};
use super::trees::Trees;
use super::volume::{Volume, Volumes};
use super::{allocation, roots};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::units::{ByteOffset, MIB};

/// The longest volume label, in bytes.
pub const LABEL_MAX: usize = LABEL_BYTES - 1;
/// The longest symlink target in bytes: the kernel's PATH_MAX without its closing NUL.
pub const SYMLINK_MAX: usize = 4095;

/// A tree that btrfs cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A symlink that the kernel could not read back.
    #[error("{path}: the symlink's target has {len} bytes; btrfs holds 1 to {SYMLINK_MAX}")]
    SymlinkLength {
        /// The link, from the filesystem's root.
        path: String,
        /// The target's length in bytes.
        len: usize,
    },
    /// Too many names in one directory have the same hash, so that no leaf holds them. That happens only on purpose.
    #[error(
        "{path}: too many names in it have the same hash (CRC-32C): they take {len} bytes, more than btrfs can hold; \
         rename some"
    )]
    Names {
        /// The directory, from the filesystem's root.
        path: String,
        /// What they take in bytes.
        len: usize,
    },
    /// A time with a second or more of nanoseconds.
    #[error("{path}: its time has {nanoseconds} nanoseconds; a time has fewer than 1,000,000,000; set another")]
    Time {
        /// The file, from the filesystem's root.
        path: String,
        /// The nanoseconds.
        nanoseconds: u32,
    },
    /// A tree that cannot be.
    #[error("the btrfs cannot be laid out: {0}")]
    Tree(#[from] TreeError),
    /// More than a file can hold.
    #[error(
        "the files and the free space asked for do not fit in any btrfs filesystem; lower nixFreeSpace or diskSize"
    )]
    TooLarge,
}

/// What the user chooses about a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The filesystem's UUID; all others are derived from it.
    pub uuid: Uuid,
    /// The volume label, at most [`LABEL_MAX`] bytes.
    pub label: String,
    /// Bytes to leave free for files yet to come.
    pub free_bytes: u64,
    /// What compressed contents are compressed with, as `btrfs_file_extent_item.compression` says it; 0 for nothing.
    pub compression: u8,
}

/// A filesystem with every block decided.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the user chose.
    pub parameters: Parameters,
    /// Where the contents of files are.
    pub placement: Placement,
    /// Where everything is.
    pub chunks: Chunks,
    /// Where the trees are.
    pub trees: Trees,
    /// The size of the filesystem in bytes.
    size: u64,
}

impl Layout {
    /// Lays out a filesystem around contents that are placed.
    ///
    /// # Errors
    /// If btrfs cannot hold a file, or all of them.
    pub fn new(volumes: &Volumes, mut placement: Placement, parameters: Parameters) -> Result<Self, LayoutError> {
        check_nodes(volumes.tree())?;
        let fixed = fixed_shapes(volumes, &placement, &parameters)?;
        let mut trees = Trees::new(all_shapes(&fixed, [(); 4].map(|()| Shape::of_leaves(1))));
        loop {
            let (system, metadata) = (trees.nodes(group::SYSTEM_DUP), trees.nodes(group::METADATA_DUP));
            let chunks = Chunks::new(system, metadata, placement.space, &placement.used);
            if !chunks.hold_chunk_tree(system) {
                return Err(LayoutError::TooLarge);
            }
            let size = size(&chunks, parameters.free_bytes).ok_or(LayoutError::TooLarge)?;
            let layout = Self { parameters: parameters.clone(), placement, chunks, trees, size };
            let counted = Trees::new(all_shapes(&fixed, layout.describing_shapes(volumes)?));
            // Numbers of nodes only grow with those of the others, so that this comes to an end.
            if counted.nodes(group::SYSTEM_DUP) == system && counted.nodes(group::METADATA_DUP) == metadata {
                return Ok(layout);
            }
            (trees, placement) = (counted, layout.placement);
        }
    }

    /// The same in a filesystem of at least `size` bytes. No tree counts what no chunk has.
    ///
    /// # Errors
    /// If a file could not be so large.
    pub fn grown(self, size: u64) -> Result<Self, LayoutError> {
        let size = size.checked_next_multiple_of(MIB).filter(|&size| i64::try_from(size).is_ok());
        Ok(Self { size: self.size.max(size.ok_or(LayoutError::TooLarge)?), ..self })
    }

    /// The shapes of the trees that describe the chunks and all nodes.
    fn describing_shapes(&self, volumes: &Volumes) -> Result<[Shape; 4], TreeError> {
        let device = self.device();
        Ok([
            count(|sink| device.put_chunks(sink, &self.chunks))?,
            count(|sink| allocation::put_extents(sink, &self.chunks, &self.trees, volumes, &self.placement))?,
            count(|sink| device.put_extents(sink, &self.chunks))?,
            count(|sink| allocation::put_free_space(sink, &self.chunks))?,
        ])
    }

    /// The one device.
    pub fn device(&self) -> Device {
        let derive = |what: &str| Uuid::new_v5(&self.parameters.uuid, what.as_bytes());
        Device {
            filesystem: self.parameters.uuid,
            uuid: derive("device"),
            chunk_tree: derive("chunk tree"),
            size: self.size,
        }
    }

    /// The size of the filesystem in bytes, a whole number of mebibytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes left free for files, at least what was asked for.
    pub fn free_bytes(&self) -> u64 {
        self.chunks.free_data() + (self.size - self.chunks.end)
    }

    /// The extents of a file's contents.
    pub fn extents(&self, tree: &FileTree, node: NodeIndex) -> impl Iterator<Item = Extent> + '_ {
        let size = if let NodeKind::File { size } = tree.kind(node) { size } else { 0 };
        self.placement.extents(node, size)
    }

    /// From the first to past the last byte of the contents of all files below `node`, or `None` if none is outside the trees.
    ///
    /// Metadata of the filesystem may lie in between, contents of other files do not.
    pub fn byte_range(&self, tree: &FileTree, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        let mut extents = tree.subtree(node).flat_map(|node| self.extents(tree, node));
        let first = extents.next()?;
        let last = extents.last().unwrap_or(first);
        Some((ByteOffset(first.address.0), ByteOffset(last.address.0 + last.stored)))
    }
}

/// The size in bytes of a filesystem with these chunks and so much free.
fn size(chunks: &Chunks, free_bytes: u64) -> Option<u64> {
    let unallocated = free_bytes.saturating_sub(chunks.free_data()).checked_next_multiple_of(MIB)?;
    chunks.end.checked_add(unallocated).filter(|&size| i64::try_from(size).is_ok())
}

/// The shapes of the trees that do not depend on where any tree is.
fn fixed_shapes(
    volumes: &Volumes,
    placement: &Placement,
    parameters: &Parameters,
) -> Result<Vec<(u64, Shape)>, LayoutError> {
    let mut shapes = Vec::new();
    for volume in volumes.iter() {
        let files = Files::of(volumes, volume, placement, parameters.compression);
        let shape =
            count(|sink| files.put_all(sink, &|_, _| {})).map_err(|error| name_directory(volumes, volume, error))?;
        shapes.push((volume.id, shape));
    }
    shapes.push((object::CSUM_TREE, count(|sink| allocation::put_checksums(sink, placement, &|_| 0))?));
    shapes.push((object::UUID_TREE, count(|sink| roots::put_uuids(sink, parameters.uuid, volumes))?));
    shapes.push((object::DATA_RELOC_TREE, count(roots::put_relocation)?));
    // Its items are as many and as long, wherever they point.
    let owners = shapes.iter().map(|(owner, _)| *owner);
    let others = [object::CHUNK_TREE, object::EXTENT_TREE, object::DEV_TREE, object::FREE_SPACE_TREE];
    let placeholders = Trees::new(owners.chain(others).map(|owner| (owner, Shape::of_leaves(1))));
    let chunks = Chunks::new(1, placeholders.nodes(group::METADATA_DUP), placement.space, &placement.used);
    let root = count(|sink| roots::put_roots(sink, parameters.uuid, volumes, &placeholders, &chunks))?;
    shapes.insert(0, (object::ROOT_TREE, root));
    Ok(shapes)
}

/// Says which directory cannot have its names.
fn name_directory(volumes: &Volumes, volume: &Volume, error: TreeError) -> LayoutError {
    match error {
        TreeError::TooLong { key, len } if key.kind == kind::DIR_ITEM => {
            let node = volumes.nodes(volume).find(|&node| volume.inode(node) == key.objectid);
            let path = node.map_or_else(Default::default, |node| volumes.tree().path(node));
            LayoutError::Names { path: format!("/{}", path.display()), len }
        }
        other => LayoutError::Tree(other),
    }
}

/// All shapes in the order of the trees' places: those describing, then those fixed.
fn all_shapes(fixed: &[(u64, Shape)], describing: [Shape; 4]) -> Vec<(u64, Shape)> {
    let owners = [object::CHUNK_TREE, object::EXTENT_TREE, object::DEV_TREE, object::FREE_SPACE_TREE];
    owners.into_iter().zip(describing).chain(fixed.iter().cloned()).collect()
}

fn count(put: impl FnOnce(&mut Counter)) -> Result<Shape, TreeError> {
    let mut counter = Counter::default();
    put(&mut counter);
    counter.finish()
}

fn check_nodes(tree: &FileTree) -> Result<(), LayoutError> {
    for node in tree.nodes() {
        if let Some(time) = tree.times(node).all().into_iter().find(|time| !time.is_valid()) {
            let path = format!("/{}", tree.path(node).display());
            return Err(LayoutError::Time { path, nanoseconds: time.nanoseconds });
        }
        if let NodeKind::Symlink(target) = tree.kind(node)
            && !(1..=SYMLINK_MAX).contains(&target.len())
        {
            let path = format!("/{}", tree.path(node).display());
            return Err(LayoutError::SymlinkLength { path, len: target.len() });
        }
    }
    Ok(())
}
