//! Writes the metadata of a [`Layout`]. `copy` moves the contents of files.
//!
//! The region must be fresh: blocks that would hold only zeros are not written.

use std::io;

use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

use super::checksum::Checksum;
use super::format::{self, BLOCK_BYTES, BLOCK_SIZE, GroupDescriptor, Inode, Superblock};
use super::group::{self, Usage};
use super::inode::{self, Described};
use super::layout::{self, Layout};
use super::space::Run;
use super::{BlockIndex, InodeNumber, directory, journal};
use crate::disk::pages::PageBuffer;
use crate::disk::region::Region;
use crate::progress::{Cancel, Cancelled};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::units::ByteOffset;

/// Blocks are gathered into writes of up to this many bytes, in memory of this size for each kind of block.
const GATHER_BYTES: usize = 4 << 20;

/// The metadata could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The image file refused a write.
    #[error("writing ext4 metadata at block {block}: {source}")]
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

/// Writes everything of the filesystem but the contents of regular files into `out`, which it fills.
pub fn write(layout: &Layout, tree: &FileTree, out: &Region<'_>, cancel: &Cancel) -> Result<(), WriteError> {
    let writer = Writer { layout, tree, out, filesystem: Checksum::of_filesystem(layout.parameters.uuid.as_bytes()) };
    writer.inodes(cancel)?;
    writer.journal()?;
    writer.resize_maps()?;
    cancel.check()?;
    let descriptors = writer.groups()?;
    writer.superblocks(&descriptors)
}

struct Writer<'a> {
    layout: &'a Layout,
    tree: &'a FileTree,
    out: &'a Region<'a>,
    /// The checksum key of the filesystem.
    filesystem: Checksum,
}

impl Writer<'_> {
    /// Every inode, and the blocks that belong to it: directories, extent trees, long symlinks.
    fn inodes(&self, cancel: &Cancel) -> Result<(), WriteError> {
        let mut table = InodeTable { writer: self, gather: Gather::new(self.out), block: [0; BLOCK_BYTES], at: 0 };
        let mut directories = Gather::new(self.out);
        let mut others = Gather::new(self.out);
        let root = inode::of_node(self.layout, self.tree, NodeIndex::ROOT, self.owner(format::INODE_ROOT));
        table.put(format::INODE_ROOT, &root, &mut others)?;
        table.put_description(format::INODE_RESIZE, &inode::of_resize(self.layout))?;
        let journal = inode::of_journal(self.layout, self.owner(format::INODE_JOURNAL));
        table.put(format::INODE_JOURNAL, &journal, &mut others)?;
        let lost_and_found = inode::of_lost_and_found(self.layout, self.owner(format::INODE_FIRST));
        table.put(format::INODE_FIRST, &lost_and_found, &mut others)?;
        self.lost_and_found(&mut directories)?;
        for node in self.tree.nodes() {
            let InodeNumber(number) = layout::inode_of(node);
            if node != NodeIndex::ROOT {
                let described = inode::of_node(self.layout, self.tree, node, self.owner(number));
                table.put(number, &described, &mut others)?;
            }
            match self.tree.kind(node) {
                NodeKind::Directory => {
                    cancel.check()?;
                    self.directory(node, &mut directories)?;
                }
                NodeKind::Symlink(target) => self.long_symlink(node, target.as_encoded_bytes(), &mut others)?,
                NodeKind::File { .. } => {}
            }
        }
        table.finish()?;
        directories.flush()?;
        others.flush()
    }

    fn directory(&self, node: NodeIndex, gather: &mut Gather<'_>) -> Result<(), WriteError> {
        let directory = layout::directory(self.tree, node);
        let shape = directory.shape(self.layout.hash_seed()).expect("the layout refused directories this large");
        let bytes = directory.encode(&shape, self.owner(directory.inode.0));
        self.put_run(gather, self.layout.placement(node).data(), &bytes)
    }

    fn lost_and_found(&self, gather: &mut Gather<'_>) -> Result<(), WriteError> {
        let (own, root) = (InodeNumber(format::INODE_FIRST), InodeNumber(format::INODE_ROOT));
        let owner = self.owner(own.0);
        let directory = directory::Directory { inode: own, parent: root, entries: Vec::new() };
        let run = self.layout.lost_and_found.data();
        let mut bytes = directory.encode(&directory::Shape::Linear, owner);
        (1..run.blocks).for_each(|_| bytes.extend_from_slice(&directory::empty_block(owner)));
        self.put_run(gather, run, &bytes)
    }

    /// Writes a symlink's target, unless it stands in the inode.
    fn long_symlink(&self, node: NodeIndex, target: &[u8], gather: &mut Gather<'_>) -> Result<(), WriteError> {
        let run = self.layout.placement(node).data();
        if run.blocks == 0 {
            return Ok(());
        }
        let mut block = [0; BLOCK_BYTES];
        block[..target.len()].copy_from_slice(target);
        self.put_run(gather, run, &block)
    }

    fn put_run(&self, gather: &mut Gather<'_>, run: Run, bytes: &[u8]) -> Result<(), WriteError> {
        for (offset, block) in (0..run.blocks).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            gather.put(self.layout.space.block(run.skip(offset).start), block)?;
        }
        Ok(())
    }

    fn journal(&self) -> Result<(), WriteError> {
        let run = self.layout.journal.data();
        write_at(self.out, self.layout.space.block(run.start), 0, &journal::superblock(run.blocks))
    }

    fn resize_maps(&self) -> Result<(), WriteError> {
        let (double_indirect, reserved) = inode::resize_maps(&self.layout.geometry);
        write_at(self.out, self.layout.resize_map, 0, &addresses(&double_indirect))?;
        let first = self.layout.geometry.first_reserved_descriptor();
        let mut gather = Gather::new(self.out);
        for (i, backups) in (0..).zip(&reserved) {
            gather.put(first.plus(i), &addresses(backups))?;
        }
        gather.flush()
    }

    /// Writes both bitmaps of every group and returns the descriptors.
    fn groups(&self) -> Result<Vec<GroupDescriptor>, WriteError> {
        let geometry = &self.layout.geometry;
        let directories = group::directory_counts(geometry, self.tree);
        let mut descriptors = Vec::with_capacity(directories.len());
        let mut groups = geometry.groups();
        group::block_bitmaps(self.layout, |group, block_bitmap, free_blocks| {
            let (_, metadata) = groups.next().expect("one bitmap a group");
            let used_inodes = group::used_inodes(self.layout, group);
            let inode_bitmap = group::inode_bitmap(used_inodes, geometry.inodes_per_group);
            let usage = Usage {
                free_blocks,
                used_inodes,
                directories: directories[group as usize],
                block_bitmap: self.filesystem.with(block_bitmap),
                inode_bitmap: self.filesystem.with(&inode_bitmap[..geometry.inodes_per_group as usize / 8]),
            };
            descriptors.push(group::descriptor(geometry, (group, metadata), &usage, self.filesystem));
            write_at(self.out, metadata.block_bitmap, 0, block_bitmap)?;
            write_at(self.out, metadata.inode_bitmap, 0, &inode_bitmap)
        })?;
        Ok(descriptors)
    }

    /// The primary superblock and descriptors, and their backups.
    fn superblocks(&self, descriptors: &[GroupDescriptor]) -> Result<(), WriteError> {
        let geometry = &self.layout.geometry;
        for group in geometry.backup_groups().chain([0]) {
            let start = geometry.group_start(group);
            let offset = if group == 0 { format::SUPERBLOCK_OFFSET } else { 0 };
            write_at(self.out, start.plus(1), 0, descriptors.as_bytes())?;
            write_at(self.out, start, offset, self.superblock(group).as_bytes())?;
        }
        Ok(())
    }

    /// The superblock as it stands in `group`.
    fn superblock(&self, group: u32) -> Superblock {
        let Layout { geometry, parameters, space, used, .. } = self.layout;
        let blocks = BlockIndex(geometry.block_count);
        let free_blocks = BlockIndex(space.blocks() - used.0);
        let mut s = Superblock::new_zeroed();
        s.inodes_count = geometry.inode_count().into();
        (s.blocks_count_lo, s.blocks_count_hi) = (blocks.low().into(), blocks.high().into());
        (s.free_blocks_count_lo, s.free_blocks_count_hi) = (free_blocks.low().into(), free_blocks.high().into());
        s.free_inodes_count = (geometry.inode_count() - self.layout.used_inodes()).into();
        // 2^(10 + 2) = 4096 bytes.
        (s.log_block_size, s.log_cluster_size) = (2.into(), 2.into());
        s.blocks_per_group = format::BLOCKS_PER_GROUP.into();
        s.clusters_per_group = format::BLOCKS_PER_GROUP.into();
        s.inodes_per_group = geometry.inodes_per_group.into();
        s.wtime = inode::TIME.into();
        s.mkfs_time = inode::TIME.into();
        s.lastcheck = inode::TIME.into();
        // No check by number of mounts.
        s.max_mnt_count = u16::MAX.into();
        s.magic = format::SUPERBLOCK_MAGIC.into();
        s.state = format::STATE_CLEAN.into();
        s.errors = format::ERRORS_CONTINUE.into();
        s.rev_level = format::REVISION_DYNAMIC.into();
        s.first_ino = format::INODE_FIRST.into();
        s.inode_size = 256.into();
        // The field has 16 bits; backups in later groups wrap, as e2fsprogs has them.
        #[allow(clippy::cast_possible_truncation, reason = "as above")]
        let group_nr = group as u16;
        s.block_group_nr = group_nr.into();
        s.feature_compat = format::FEATURE_COMPAT.into();
        s.feature_incompat = format::FEATURE_INCOMPAT.into();
        s.feature_ro_compat = format::FEATURE_RO_COMPAT.into();
        s.uuid = parameters.uuid.into_bytes();
        s.volume_name[..parameters.label.len()].copy_from_slice(parameters.label.as_bytes());
        let reserved = u16::try_from(geometry.reserved_descriptor_blocks).expect("at most 1024");
        s.reserved_gdt_blocks = reserved.into();
        s.hash_seed = self.layout.hash_seed().0.map(Into::into);
        s.def_hash_version = format::HASH_HALF_MD4;
        s.desc_size = 64.into();
        s.default_mount_opts = format::DEFAULT_MOUNT_OPTIONS.into();
        (s.min_extra_isize, s.want_extra_isize) = (format::EXTRA_ISIZE.into(), format::EXTRA_ISIZE.into());
        s.flags = format::FLAGS_SIGNED_HASH.into();
        // 2^4 = 16 groups.
        s.log_groups_per_flex = 4;
        s.checksum_type = format::CHECKSUM_CRC32C;
        self.back_up_journal(&mut s);
        let summed = size_of::<Superblock>() - size_of_val(&s.checksum);
        s.checksum = Checksum::EMPTY.with(&s.as_bytes()[..summed]).value().into();
        s
    }

    /// Names the journal and keeps a copy of its inode's map, from which e2fsck can restore it.
    fn back_up_journal(&self, s: &mut Superblock) {
        let owner = self.owner(format::INODE_JOURNAL);
        let inode = inode::of_journal(self.layout, owner).description.encode(self.filesystem, InodeNumber(0));
        s.journal_inum = format::INODE_JOURNAL.into();
        s.jnl_backup_type = format::JOURNAL_BACKUP_BLOCKS;
        let (words, _) = inode.block.as_chunks::<4>();
        for (field, word) in s.jnl_blocks.iter_mut().zip(words) {
            *field = u32::from_le_bytes(*word).into();
        }
        s.jnl_blocks[15] = inode.size_high;
        s.jnl_blocks[16] = inode.size_lo;
    }

    fn owner(&self, inode: u32) -> Checksum {
        self.filesystem.of_inode(InodeNumber(inode))
    }
}

/// The inode tables, filled in order of inode numbers.
struct InodeTable<'a> {
    writer: &'a Writer<'a>,
    gather: Gather<'a>,
    /// The block of the table that the last inode stands in.
    block: [u8; BLOCK_BYTES],
    /// The last inode; 0 before the first.
    at: u32,
}

impl InodeTable<'_> {
    /// Adds an inode, and its tree blocks to `tree_blocks`.
    fn put(&mut self, number: u32, described: &Described, tree_blocks: &mut Gather<'_>) -> Result<(), WriteError> {
        for (place, block) in &described.tree.blocks {
            tree_blocks.put(*place, &block[..])?;
        }
        self.put_description(number, &described.description)
    }

    fn put_description(&mut self, number: u32, description: &inode::Description) -> Result<(), WriteError> {
        debug_assert!(number > self.at, "inodes come in order");
        if self.at > 0 && self.place(number).0 != self.place(self.at).0 {
            self.flush_block()?;
        }
        self.at = number;
        let (_, slot) = self.place(number);
        let inode: Inode = description.encode(self.writer.filesystem, InodeNumber(number));
        self.block[slot * format::INODE_SIZE..][..format::INODE_SIZE].copy_from_slice(inode.as_bytes());
        Ok(())
    }

    fn finish(mut self) -> Result<(), WriteError> {
        self.flush_block()?;
        self.gather.flush()
    }

    fn flush_block(&mut self) -> Result<(), WriteError> {
        let (block, _) = self.place(self.at);
        self.gather.put(block, &self.block)?;
        self.block.fill(0);
        Ok(())
    }

    /// The block of an inode, and its index in the block.
    fn place(&self, number: u32) -> (BlockIndex, usize) {
        let geometry = &self.writer.layout.geometry;
        let (group, index) = geometry.locate_inode(InodeNumber(number));
        let table = geometry.metadata(group).inode_table;
        let block = table.plus(u64::from(index / format::INODES_PER_BLOCK));
        (block, (index % format::INODES_PER_BLOCK) as usize)
    }
}

/// Gathers blocks that follow one another on disk into large writes.
struct Gather<'a> {
    out: &'a Region<'a>,
    start: BlockIndex,
    buffer: PageBuffer,
    /// Bytes in the buffer.
    filled: usize,
}

impl<'a> Gather<'a> {
    fn new(out: &'a Region<'a>) -> Self {
        Self { out, start: BlockIndex(0), buffer: PageBuffer::new(GATHER_BYTES), filled: 0 }
    }

    fn put(&mut self, place: BlockIndex, block: &[u8]) -> Result<(), WriteError> {
        let next = self.start.plus((self.filled / BLOCK_BYTES) as u64);
        if place != next || self.filled == GATHER_BYTES {
            self.flush()?;
            self.start = place;
        }
        self.buffer.bytes_mut()[self.filled..][..block.len()].copy_from_slice(block);
        self.filled += block.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let blocks = &self.buffer.bytes()[..self.filled];
        self.filled = 0;
        if is_zero(blocks) {
            return Ok(());
        }
        let (block, at) = (self.start, ByteOffset(self.start.0 * BLOCK_SIZE));
        self.out.write_pages_at(at, blocks).map_err(|source| WriteError::Io { block, source })
    }
}

fn write_at(out: &Region<'_>, block: BlockIndex, offset: usize, bytes: &[u8]) -> Result<(), WriteError> {
    if is_zero(bytes) {
        return Ok(());
    }
    let at = ByteOffset(block.0 * BLOCK_SIZE + offset as u64);
    out.write_all_at(at, bytes).map_err(|source| WriteError::Io { block, source })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Block numbers as a block of a classic block map holds them.
fn addresses(blocks: &[u32]) -> [u8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    for (slot, block) in bytes.chunks_exact_mut(4).zip(blocks) {
        slot.copy_from_slice(&block.to_le_bytes());
    }
    bytes
}
