//! Writes the metadata of a [`Layout`], with the ends of files among it. `copy` moves the contents of files, and hands
//! those ends over.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

use super::format::{self, BLOCK_BYTES, BLOCK_SIZE, SUPERBLOCK_OFFSET, Superblock};
use super::group::Group;
use super::inode::EPOCH;
use super::layout::{Layout, Packed};
use super::{BlockIndex, compress};
use crate::disk::pages::PageBuffer;
use crate::disk::region::Region;
use crate::progress::{Cancel, Cancelled};
use crate::source::tree::{FileTree, NodeIndex};
use crate::units::ByteOffset;

/// The metadata could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The image file refused a write.
    #[error("writing EROFS metadata at block {block}: {source}")]
    Io {
        /// The first block of the write, within the filesystem.
        block: BlockIndex,
        /// What the operating system said.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Writes everything of the filesystem but the contents of regular files into `out`, which it fills. Where ends of files
/// are among the metadata, zeros are.
pub fn write(layout: &Layout, tree: &FileTree, out: &Region<'_>, cancel: &Cancel) -> Result<(), WriteError> {
    let writer = GroupWriter { layout, tree, out };
    for group in &layout.groups {
        cancel.check()?;
        let buffer = writer.encode(group);
        writer.write(group, &buffer)?;
    }
    write_superblock(layout, tree, out)
}

/// Writes groups as soon as all ends of files that belong to them have come.
pub struct Gathering<'a> {
    writer: GroupWriter<'a>,
    /// For each group, what has come so far.
    groups: Vec<Mutex<Gathered>>,
}

/// What has come of a group.
struct Gathered {
    /// The group as it is to be written, from the first end on until it is complete.
    buffer: Option<PageBuffer>,
    /// Ends that are still to come.
    left: usize,
}

impl<'a> Gathering<'a> {
    /// Nothing has come yet.
    pub fn new(layout: &'a Layout, tree: &'a FileTree, out: &'a Region<'a>) -> Self {
        let gathered = |group: &Group| Mutex::new(Gathered { buffer: None, left: group.ends });
        Self { writer: GroupWriter { layout, tree, out }, groups: layout.groups.iter().map(gathered).collect() }
    }

    /// Takes the end of a file that has one, once, from any thread.
    ///
    /// # Errors
    /// If the group that is complete with it cannot be written.
    pub fn put(&self, node: NodeIndex, end: &[u8]) -> Result<(), WriteError> {
        let GroupWriter { layout, tree, .. } = self.writer;
        let index = layout.group_of(node);
        let group = &layout.groups[index];
        let mut gathered = lock(&self.groups[index]);
        let buffer = gathered.buffer.get_or_insert_with(|| self.writer.encode(group));
        buffer.bytes_mut()[group.inline_at(layout, tree, node)..][..end.len()].copy_from_slice(end);
        gathered.left -= 1;
        let complete = if gathered.left == 0 { gathered.buffer.take() } else { None };
        drop(gathered);
        complete.map_or(Ok(()), |buffer| self.writer.write(group, &buffer))
    }

    /// Writes what needs no end of a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_others(&self, cancel: &Cancel) -> Result<(), WriteError> {
        let GroupWriter { layout, tree, out } = self.writer;
        for group in layout.groups.iter().filter(|group| group.ends == 0) {
            cancel.check()?;
            let buffer = self.writer.encode(group);
            self.writer.write(group, &buffer)?;
        }
        write_superblock(layout, tree, out)
    }
}

fn lock(gathered: &Mutex<Gathered>) -> MutexGuard<'_, Gathered> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
struct GroupWriter<'a> {
    layout: &'a Layout,
    tree: &'a FileTree,
    out: &'a Region<'a>,
}

impl GroupWriter<'_> {
    fn encode(&self, group: &Group) -> PageBuffer {
        let mut buffer = PageBuffer::new(group.bytes());
        group.encode(self.layout, self.tree, buffer.bytes_mut());
        buffer
    }

    fn write(&self, group: &Group, buffer: &PageBuffer) -> Result<(), WriteError> {
        write_at(self.out, group.start, &buffer.bytes()[..group.bytes()])
    }
}

fn write_at(out: &Region<'_>, block: BlockIndex, pages: &[u8]) -> Result<(), WriteError> {
    out.write_pages_at(ByteOffset(block.0 * BLOCK_SIZE), pages).map_err(|source| WriteError::Io { block, source })
}

fn write_superblock(layout: &Layout, tree: &FileTree, out: &Region<'_>) -> Result<(), WriteError> {
    let mut buffer = PageBuffer::new(BLOCK_BYTES);
    buffer.bytes_mut().copy_from_slice(&first_block(layout, tree));
    write_at(out, BlockIndex(0), buffer.bytes())
}

/// The block with the superblock.
fn first_block(layout: &Layout, tree: &FileTree) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut superblock = superblock(layout, tree);
    let put = |block: &mut [u8; BLOCK_BYTES], superblock: &Superblock| {
        block[SUPERBLOCK_OFFSET..][..format::SUPERBLOCK_SIZE].copy_from_slice(superblock.as_bytes());
    };
    if let Some(Packed { method, .. }) = &layout.packed {
        let config = compress::config(*method);
        block[SUPERBLOCK_OFFSET + format::SUPERBLOCK_SIZE..][..config.len()].copy_from_slice(&config);
    }
    put(&mut block, &superblock);
    superblock.checksum = format::checksum(&block[SUPERBLOCK_OFFSET..]).into();
    put(&mut block, &superblock);
    block
}

/// The superblock without its checksum.
fn superblock(layout: &Layout, tree: &FileTree) -> Superblock {
    let mut s = Superblock::new_zeroed();
    s.magic = format::SUPERBLOCK_MAGIC.into();
    s.feature_compat = (format::compat::SB_CHKSUM | format::compat::MTIME).into();
    s.blkszbits = format::BLOCK_BITS;
    let root = layout.nid(NodeIndex::ROOT).0;
    s.rootnid_2b = u16::try_from(root).expect("the root is in the first group").into();
    s.inos = (tree.len() as u64).into();
    s.epoch = EPOCH.seconds.cast_unsigned().into();
    s.fixed_nsec = EPOCH.nanoseconds.into();
    s.blocks_lo = u32::try_from(layout.blocks()).expect("the layout has fewer").into();
    s.meta_blkaddr = u32::try_from(layout.numbers_start().0).expect("the layout has fewer").into();
    s.uuid = layout.parameters.uuid.into_bytes();
    if let Some(Packed { method, .. }) = &layout.packed {
        use format::incompat::{BIG_PCLUSTER, COMPR_CFGS, ZERO_PADDING};
        s.feature_incompat = (ZERO_PADDING | COMPR_CFGS | BIG_PCLUSTER).into();
        s.available_compr_algs = (1 << compress::disk_id(*method)).into();
    }
    let label = layout.parameters.label.as_bytes();
    s.volume_name[..label.len()].copy_from_slice(label);
    s
}
