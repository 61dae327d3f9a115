//! An ext4 filesystem as it is found: any block size, any writer, any damage.
//!
//! The reader and the check use this. Our writer shares only the on-disk structures of [`format`](super::format) with
//! it, so that neither depends on the writer being right. Every number from the image is checked before it is used:
//! [`Shape`] against the size of the image, everything else against [`Shape`].

use std::collections::BTreeMap;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::checksum::Checksum;
use super::format::{GroupDescriptor, SUPERBLOCK_OFFSET, Superblock, incompat};
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

mod attributes;
pub(super) mod directory;
pub(super) mod inode;
pub(super) mod map;
pub(super) mod replay;
pub(super) mod shape;

pub(super) use inode::Inode;
pub(super) use map::Mapping;
pub(super) use shape::{Shape, Sums};

/// Blocks that stand, newer, in a journal that is to be replayed: by the block that each takes the place of.
pub(super) type Overlay = BTreeMap<u64, Waiting>;

/// A block in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The block of the journal, counted from the filesystem's start.
    at: u64,
    /// Whether its first four bytes, the journal's magic, were made zero.
    escaped: bool,
}

/// What is known of a filesystem once it is open.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) shape: Shape,
    pub(super) descriptors: Vec<Descriptor>,
    pub(super) overlay: Overlay,
    /// Whether the journal has changes besides, which are not seen.
    pub(super) fast_commits: bool,
}

/// What a group's descriptor says, and whether its checksum agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    pub(super) unused_inodes: u32,
    pub(super) flags: u16,
    /// Of the bitmaps: blocks, then inodes; 16 bits each if the descriptor is short.
    pub(super) sums: [u32; 2],
    pub(super) intact: bool,
}

/// A volume with its bytes.
#[derive(Clone, Copy)]
pub(super) struct Disk<'a> {
    pub(super) bytes: &'a dyn Bytes,
    pub(super) volume: &'a Volume,
}

/// The primary superblock as it stands on disk.
pub(super) fn read_superblock(bytes: &dyn Bytes) -> Result<Superblock, ReadError> {
    let mut superblock = Superblock::new_zeroed();
    bytes.read_exact_at(ByteOffset(SUPERBLOCK_OFFSET as u64), superblock.as_mut_bytes())?;
    Ok(superblock)
}

impl Volume {
    /// Reads the superblock, the descriptors and, where it is to be replayed, the journal.
    pub(super) fn open(bytes: &dyn Bytes) -> Result<Self, ReadError> {
        let shape = Shape::new(&read_superblock(bytes)?, bytes.len())?;
        let mut volume = Self { shape, descriptors: Vec::new(), overlay: Overlay::new(), fast_commits: false };
        volume.descriptors = Disk { bytes, volume: &volume }.read_descriptors()?;
        if volume.shape.has_incompat(incompat::RECOVER) {
            (volume.overlay, volume.fast_commits) = replay::overlay(Disk { bytes, volume: &volume })?;
            let disk = Disk { bytes, volume: &volume };
            let shape = Shape::new(&disk.superblock(0)?, bytes.len())?;
            volume.shape = shape;
            volume.descriptors = Disk { bytes, volume: &volume }.read_descriptors()?;
        }
        Ok(volume)
    }
}

impl Disk<'_> {
    pub(super) fn shape(&self) -> &Shape {
        &self.volume.shape
    }

    /// Reads whole blocks, as they are once the journal is replayed.
    pub(super) fn read_blocks(&self, first: u64, count: u32) -> Result<Vec<u8>, ReadError> {
        let len = u64::from(count).saturating_mul(self.shape().block_size.into());
        let mut blocks = vec![0; usize::try_from(len.min(self.bytes.len())).unwrap_or(0)];
        self.read_at(first, 0, &mut blocks)?;
        Ok(blocks)
    }

    /// Reads one block.
    pub(super) fn read_block(&self, block: u64) -> Result<Vec<u8>, ReadError> {
        self.read_blocks(block, 1)
    }

    /// Fills `buf` from `offset` bytes into a block, on into the blocks after it.
    pub(super) fn read_at(&self, block: u64, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let size = u64::from(self.shape().block_size);
        let start = block.checked_mul(size).and_then(|start| start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(buf.len() as u64));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= self.shape().bytes())) else {
            return Err(ReadError::corrupt(format!("block {block}"), "lies past the end of the filesystem"));
        };
        self.bytes.read_exact_at(ByteOffset(start), buf)?;
        self.overlay(start..end, buf)
    }

    /// Puts in place what the journal holds of a range of bytes.
    fn overlay(&self, range: std::ops::Range<u64>, buf: &mut [u8]) -> Result<(), ReadError> {
        let size = u64::from(self.shape().block_size);
        if self.volume.overlay.is_empty() || range.is_empty() {
            return Ok(());
        }
        for (&block, waiting) in self.volume.overlay.range(range.start / size..range.end.div_ceil(size)) {
            let mut newer = vec![0; self.shape().block_bytes()];
            self.bytes.read_exact_at(ByteOffset(waiting.at.saturating_mul(size)), &mut newer)?;
            if let Some(head) = newer.get_mut(..4).filter(|_| waiting.escaped) {
                head.copy_from_slice(&super::format::JOURNAL_MAGIC.to_be_bytes());
            }
            let at = block.saturating_mul(size);
            for (byte, value) in (at..).zip(newer) {
                let place = byte.checked_sub(range.start).and_then(|place| usize::try_from(place).ok());
                if let Some(target) = place.and_then(|place| buf.get_mut(place)) {
                    *target = value;
                }
            }
        }
        Ok(())
    }

    /// The superblock, or its copy, that stands at the start of a group.
    pub(super) fn superblock(&self, group: u32) -> Result<Superblock, ReadError> {
        let shape = self.shape();
        let mut superblock = Superblock::new_zeroed();
        let (block, offset) = if group == 0 {
            (
                SUPERBLOCK_OFFSET as u64 / u64::from(shape.block_size),
                SUPERBLOCK_OFFSET as u64 % u64::from(shape.block_size),
            )
        } else {
            (shape.group_start(group), 0)
        };
        self.read_at(block, offset, superblock.as_mut_bytes())?;
        Ok(superblock)
    }

    fn read_descriptors(&self) -> Result<Vec<Descriptor>, ReadError> {
        let per_block = self.shape().descriptors_per_block();
        let mut descriptors = Vec::new();
        for index in 0..self.shape().descriptor_blocks() {
            let block = self.read_block(self.shape().descriptor_block(index))?;
            let first = index.saturating_mul(per_block);
            let last = first.saturating_add(per_block).min(self.shape().groups);
            let raw = block.chunks_exact(self.shape().descriptor_size.into());
            descriptors.extend((first..last).zip(raw).map(|(group, raw)| self.shape().descriptor(group, raw)));
        }
        Ok(descriptors)
    }

    /// The descriptor of a group.
    pub(super) fn descriptor(&self, group: u32) -> Option<&Descriptor> {
        self.volume.descriptors.get(usize::try_from(group).ok()?)
    }
}

impl Shape {
    /// Reads the descriptor of `group`.
    pub(super) fn descriptor(&self, group: u32, raw: &[u8]) -> Descriptor {
        let mut wide = [0; size_of::<GroupDescriptor>()];
        wide.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
        let d: GroupDescriptor = zerocopy::transmute!(wide);
        let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let wide = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        Descriptor {
            block_bitmap: join(d.block_bitmap_lo.get(), d.block_bitmap_hi.get()),
            inode_bitmap: join(d.inode_bitmap_lo.get(), d.inode_bitmap_hi.get()),
            inode_table: join(d.inode_table_lo.get(), d.inode_table_hi.get()),
            free_blocks: wide(d.free_blocks_count_lo.get(), d.free_blocks_count_hi.get()),
            free_inodes: wide(d.free_inodes_count_lo.get(), d.free_inodes_count_hi.get()),
            directories: wide(d.used_dirs_count_lo.get(), d.used_dirs_count_hi.get()),
            unused_inodes: wide(d.itable_unused_lo.get(), d.itable_unused_hi.get()),
            flags: if self.sums == Sums::None { 0 } else { d.flags.get() },
            sums: [
                wide(d.block_bitmap_csum_lo.get(), d.block_bitmap_csum_hi.get()),
                wide(d.inode_bitmap_csum_lo.get(), d.inode_bitmap_csum_hi.get()),
            ],
            intact: self.descriptor_sum(group, raw).is_none_or(|sum| sum == d.checksum.get()),
        }
    }

    /// The checksum that a descriptor should have, if it has one.
    fn descriptor_sum(&self, group: u32, raw: &[u8]) -> Option<u16> {
        const AT: usize = 30;
        let (before, after) = (raw.get(..AT)?, raw.get(AT + 2..)?);
        match self.sums {
            Sums::None => None,
            Sums::Crc16 => {
                let sum = crc16(!0, &self.superblock.uuid);
                Some([&group.to_le_bytes(), before, after].iter().fold(sum, |sum, part| crc16(sum, part)))
            }
            Sums::Crc32c => Some(self.seed.with(&group.to_le_bytes()).with(before).with(&[0; 2]).with(after).low()),
        }
    }

    /// Where all checksums of what belongs to an inode start.
    pub(super) fn owner(&self, inode: u32, generation: u32) -> Checksum {
        self.seed.with(&inode.to_le_bytes()).with(&generation.to_le_bytes())
    }
}

/// CRC-16 with the polynomial x^16 + x^15 + x^2 + 1, lowest bit first: the checksum of descriptors under uninit_bg.
fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xa001 } else { sum >> 1 })
    })
}

/// Reads a structure from the start of `bytes`.
pub(super) fn parse<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-16/MODBUS, which is this one, for the digits 1 to 9.
    #[test]
    fn crc16_is_the_known_one() {
        assert_eq!(crc16(!0, b"123456789"), 0x4b37);
        assert_eq!(crc16(crc16(!0, b"1234"), b"56789"), 0x4b37);
    }

    #[test]
    fn no_superblock_is_believed_beyond_the_image() {
        let open = |bytes: Vec<u8>| Volume::open(&bytes).unwrap_err().to_string();
        assert_eq!(open(vec![0; 4096]), "corrupt superblock: its magic is 0x0000, not 0xef53");
        assert!(open(vec![0; 1500]).contains("cannot read 1024 bytes"));
        let mut bytes = vec![0; 4096];
        bytes[1024 + 0x38..][..2].copy_from_slice(&0xef53u16.to_le_bytes());
        bytes[1024 + 4..][..4].copy_from_slice(&5u32.to_le_bytes());
        assert!(open(bytes.clone()).contains("5 blocks of 1024 bytes, but there are only 4096 bytes"));
        bytes[1024 + 0x60] = 0x01;
        assert_eq!(open(bytes.clone()), "unsupported: ext4 with compression");
        bytes[1024 + 0x60] = 0;
        bytes[1024 + 0x18] = 7;
        assert!(open(bytes).contains("blocks of 2^(10 + 7) bytes"));
    }
}
