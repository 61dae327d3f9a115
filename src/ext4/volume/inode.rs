//! Inodes, of 128 bytes or more.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/inodes.rst`.

use zerocopy::little_endian::U32;

use super::super::clock;
use super::super::format::{self, Inode as OnDisk, ro_compat};
use super::{Disk, Shape, Sums, parse};
use crate::read::{Kind, Metadata, ReadError};
use crate::times::{Times, Timestamp};

/// Where `i_checksum_lo` stands.
const SUM_LOW: usize = 0x7c;
/// Where `i_checksum_hi` stands.
const SUM_HIGH: usize = 0x82;

/// An inode as it stands in the table, with what its checksum says.
#[derive(Clone, Debug)]
pub(in crate::ext4) struct Inode {
    pub(in crate::ext4) number: u32,
    pub(in crate::ext4) on_disk: OnDisk,
    /// Whether the checksum agrees; true where there is none.
    pub(in crate::ext4) intact: bool,
    /// Bytes of fields past the classic 128.
    extra: usize,
}

impl Shape {
    /// Reads an inode from its bytes in the table.
    pub(in crate::ext4) fn inode(&self, number: u32, raw: &[u8]) -> Option<Inode> {
        let mut wide = [0; size_of::<OnDisk>()];
        wide.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
        let on_disk: OnDisk = parse(&wide)?;
        let extra = if raw.len() > Inode::CLASSIC { usize::from(on_disk.extra_isize.get()) } else { 0 };
        let intact = self.sums != Sums::Crc32c || self.inode_sum_agrees(number, &on_disk, extra, raw);
        Some(Inode { number, on_disk, intact, extra })
    }

    fn inode_sum_agrees(&self, number: u32, inode: &OnDisk, extra: usize, raw: &[u8]) -> bool {
        let mut raw = raw.to_vec();
        // The upper half is there if the fields past the classic inode reach it.
        let has_high = extra >= SUM_HIGH + 2 - Inode::CLASSIC;
        for at in [Some(SUM_LOW), has_high.then_some(SUM_HIGH)].into_iter().flatten() {
            if let Some(field) = raw.get_mut(at..at + 2) {
                field.fill(0);
            }
        }
        let sum = self.owner(number, inode.generation.get()).with(&raw);
        sum.low() == inode.checksum_lo.get() && (!has_high || sum.high() == inode.checksum_hi.get())
    }
}

impl Disk<'_> {
    /// Reads an inode from its table.
    ///
    /// # Errors
    /// If there is no such inode, or its table lies past the end. Its checksum is only noted.
    pub(in crate::ext4) fn inode(&self, number: u32) -> Result<Inode, ReadError> {
        let missing = || ReadError::corrupt(format!("inode {number}"), "there is no such inode");
        self.shape().inode(number, &self.raw_inode(number)?).ok_or_else(missing)
    }

    /// The bytes of an inode in its table.
    pub(in crate::ext4) fn raw_inode(&self, number: u32) -> Result<Vec<u8>, ReadError> {
        let missing = || ReadError::corrupt(format!("inode {number}"), "there is no such inode");
        let shape = self.shape();
        let (group, index) = shape.locate(number).ok_or_else(missing)?;
        let table = self.descriptor(group).ok_or_else(missing)?.inode_table;
        let mut raw = vec![0; shape.inode_size.into()];
        self.read_at(table, u64::from(index).saturating_mul(shape.inode_size.into()), &mut raw)?;
        Ok(raw)
    }
}

impl Inode {
    /// The bytes that every inode has.
    pub(in crate::ext4) const CLASSIC: usize = 128;

    /// The mode's type bits.
    pub(in crate::ext4) fn kind(&self) -> u16 {
        self.on_disk.mode.get() & format::MODE_TYPE
    }

    pub(in crate::ext4) fn is_directory(&self) -> bool {
        self.kind() == format::MODE_DIRECTORY
    }

    pub(in crate::ext4) fn has(&self, flag: u32) -> bool {
        self.on_disk.flags.get() & flag != 0
    }

    /// The type that a directory entry gives such an inode, or `None` if it has none.
    pub(in crate::ext4) fn entry_type(&self) -> Option<u8> {
        Some(match self.kind() {
            format::MODE_REGULAR => format::TYPE_REGULAR,
            format::MODE_DIRECTORY => format::TYPE_DIRECTORY,
            format::MODE_CHARACTER => format::TYPE_CHARACTER,
            format::MODE_BLOCK => format::TYPE_BLOCK,
            format::MODE_PIPE => format::TYPE_PIPE,
            format::MODE_SOCKET => format::TYPE_SOCKET,
            format::MODE_SYMLINK => format::TYPE_SYMLINK,
            _ => return None,
        })
    }

    /// In bytes.
    pub(in crate::ext4) fn size(&self) -> u64 {
        u64::from(self.on_disk.size_high.get()) << 32 | u64::from(self.on_disk.size_lo.get())
    }

    /// The block of extended attributes, or 0.
    pub(in crate::ext4) fn xattr_block(&self) -> u64 {
        u64::from(self.on_disk.file_acl_high.get()) << 32 | u64::from(self.on_disk.file_acl_lo.get())
    }

    /// What `i_blocks` says, in sectors of 512 bytes.
    pub(in crate::ext4) fn sectors(&self, shape: &Shape) -> u64 {
        let low = u64::from(self.on_disk.blocks_lo.get());
        if !shape.has_ro_compat(ro_compat::HUGE_FILE) {
            return low;
        }
        let blocks = u64::from(self.on_disk.blocks_high.get()) << 32 | low;
        let unit =
            if self.has(format::INODE_HUGE_FILE) { u64::from(shape.block_size) / format::SECTOR_SIZE } else { 1 };
        blocks.saturating_mul(unit)
    }

    /// Whether a link's target stands in the inode itself: it owns no blocks but that of its attributes.
    pub(in crate::ext4) fn is_fast_symlink(&self, shape: &Shape) -> bool {
        let attributes = if self.xattr_block() == 0 { 0 } else { u64::from(shape.block_size) / format::SECTOR_SIZE };
        self.kind() == format::MODE_SYMLINK
            && !self.has(format::INODE_INLINE_DATA)
            && self.sectors(shape).saturating_sub(attributes) == 0
    }

    /// The target of a fast symlink, if its length can be.
    pub(in crate::ext4) fn fast_target(&self) -> Option<&[u8]> {
        let len = usize::try_from(self.size()).ok()?;
        self.on_disk.block.get(..len).filter(|target| (1..60).contains(&target.len()))
    }

    /// What a [`FileSystem`](crate::read::FileSystem) says of it, or `None` if its type does not exist.
    pub(in crate::ext4) fn metadata(&self) -> Option<Metadata> {
        let inode = &self.on_disk;
        let kind = match self.entry_type()? {
            format::TYPE_REGULAR => Kind::File,
            format::TYPE_DIRECTORY => Kind::Directory,
            format::TYPE_SYMLINK => Kind::Symlink,
            _ => Kind::Special,
        };
        Some(Metadata {
            kind,
            permissions: inode.mode.get() & 0o7777,
            uid: u32::from(inode.uid_high.get()) << 16 | u32::from(inode.uid.get()),
            gid: u32::from(inode.gid_high.get()) << 16 | u32::from(inode.gid.get()),
            len: self.size(),
            mtime: self.times().modification.seconds,
        })
    }

    /// Its times. What an inode is too short for is that of a store.
    pub(in crate::ext4) fn times(&self) -> Times {
        let inode = &self.on_disk;
        // Fields past the classic inode are there if the extra bytes reach their ends.
        let extra = |end: usize, field: U32| if self.extra >= end { field.get() } else { 0 };
        let birth = clock::decode(inode.crtime.get(), extra(24, inode.crtime_extra));
        Times {
            access: clock::decode(inode.atime.get(), extra(16, inode.atime_extra)),
            change: clock::decode(inode.ctime.get(), extra(8, inode.ctime_extra)),
            modification: clock::decode(inode.mtime.get(), extra(12, inode.mtime_extra)),
            birth: if self.extra >= 20 { birth } else { Timestamp::STORE },
        }
    }

    /// The number of its project, if it has one.
    pub(in crate::ext4) fn project(&self) -> Option<u32> {
        Some(self.on_disk.projid.get()).filter(|&project| project != 0 && self.extra >= 32)
    }

    /// Where its fields end in the table; attributes can stand after them.
    pub(in crate::ext4) fn end(&self) -> usize {
        Self::CLASSIC.saturating_add(self.extra)
    }
}
