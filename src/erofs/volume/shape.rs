//! What the superblock says, limited to what the image can hold.
//!
//! Source: <https://erofs.docs.kernel.org>, "Core On-disk Format".

use std::ops::RangeInclusive;

use zerocopy::{FromZeros, IntoBytes};

use super::super::format::{
    self, COMPAT_NAMES, EXTSLOT_SIZE, INCOMPAT_NAMES, SLOT_SIZE, SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE,
    Superblock, algorithm, compat, incompat,
};
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

/// The sizes of blocks that are read, as powers of two. Kernels mount those that are not larger than their pages.
const BLOCK_BITS: RangeInclusive<u8> = 9..=16;
/// What a reader must know and we do.
const KNOWN: u32 = incompat::ZERO_PADDING
    | incompat::COMPR_CFGS
    | incompat::CHUNKED_FILE
    | incompat::COMPR_HEAD2
    | incompat::ZTAILPACKING
    | incompat::FRAGMENTS
    | incompat::XATTR_PREFIXES;

/// The measures of a filesystem.
#[derive(Clone, Debug)]
pub(in crate::erofs) struct Shape {
    pub(in crate::erofs) superblock: Superblock,
    /// Where the filesystem ends, in bytes; never past the image.
    pub(in crate::erofs) len: u64,
    /// A power of two, in bytes: 512 to 65,536.
    pub(in crate::erofs) block_size: u32,
    /// The power of two that it is.
    pub(in crate::erofs) block_bits: u8,
    /// Where the area of metadata starts, in bytes.
    pub(in crate::erofs) metadata: u64,
    /// The number of the root's inode.
    pub(in crate::erofs) root: u64,
    /// A bit for each method of compression that contents may have, as [`algorithm`] numbers them.
    pub(in crate::erofs) methods: u16,
}

fn corrupt(why: impl Into<String>) -> ReadError {
    ReadError::corrupt("superblock", why)
}

/// The superblock as it stands on disk.
pub(in crate::erofs) fn read_superblock(bytes: &dyn Bytes) -> Result<Superblock, ReadError> {
    let mut superblock = Superblock::new_zeroed();
    bytes.read_exact_at(ByteOffset(SUPERBLOCK_OFFSET as u64), superblock.as_mut_bytes())?;
    Ok(superblock)
}

impl Shape {
    /// Reads the superblock of an image.
    pub(in crate::erofs) fn open(bytes: &dyn Bytes) -> Result<Self, ReadError> {
        let s = read_superblock(bytes)?;
        if s.magic.get() != SUPERBLOCK_MAGIC {
            return Err(corrupt(format!("its magic is {:#010x}, not {SUPERBLOCK_MAGIC:#010x}", s.magic.get())));
        }
        check_features(&s)?;
        if !BLOCK_BITS.contains(&s.blkszbits) {
            return Err(corrupt(format!("blocks of 2^{} bytes", s.blkszbits)));
        }
        let block_size = 1_u32 << s.blkszbits;
        // Where the number is not known, it is 0.
        let len = match u64::from(s.blocks_lo.get()) {
            0 => bytes.len(),
            blocks => blocks.saturating_mul(block_size.into()),
        };
        if len > bytes.len() {
            return Err(corrupt(format!(
                "it says {} blocks of {block_size} bytes, but there are only {} bytes",
                s.blocks_lo,
                bytes.len()
            )));
        }
        let metadata = u64::from(s.meta_blkaddr.get()).saturating_mul(block_size.into());
        let root = u64::from(s.rootnid_2b.get());
        let methods = if s.feature_incompat.get() & incompat::COMPR_CFGS == 0 {
            1 << algorithm::LZ4
        } else {
            s.available_compr_algs.get()
        };
        let block_bits = s.blkszbits;
        Ok(Self { superblock: s, len, block_size, block_bits, metadata, root, methods })
    }

    pub(in crate::erofs) fn has_compat(&self, feature: u32) -> bool {
        self.superblock.feature_compat.get() & feature != 0
    }

    pub(in crate::erofs) fn has_incompat(&self, feature: u32) -> bool {
        self.superblock.feature_incompat.get() & feature != 0
    }

    /// Whether these bytes lie in the filesystem.
    pub(in crate::erofs) fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Where a block starts, in bytes.
    pub(in crate::erofs) fn block(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_size.into())
    }

    /// How far into its block a byte is.
    pub(in crate::erofs) fn within(&self, at: u64) -> u64 {
        at & u64::from(self.block_size.saturating_sub(1))
    }

    /// How many blocks so many bytes take.
    pub(in crate::erofs) fn blocks_of(&self, len: u64) -> u64 {
        len.div_ceil(self.block_size.into())
    }

    /// Where an inode starts, in bytes.
    pub(in crate::erofs) fn inode(&self, nid: u64) -> Option<u64> {
        nid.checked_mul(SLOT_SIZE)?.checked_add(self.metadata)
    }

    /// The number of the inode that holds the ends of files, if there is one.
    pub(in crate::erofs) fn packed(&self) -> Option<u64> {
        let nid = self.superblock.packed_nid.get();
        (self.has_incompat(incompat::FRAGMENTS) && nid != 0).then_some(nid)
    }

    /// The superblock's bytes with what belongs to it.
    pub(in crate::erofs) fn superblock_bytes(&self) -> std::ops::Range<u64> {
        let extensions = usize::from(self.superblock.sb_extslots).saturating_mul(EXTSLOT_SIZE);
        let end = SUPERBLOCK_OFFSET.saturating_add(SUPERBLOCK_SIZE).saturating_add(extensions);
        SUPERBLOCK_OFFSET as u64..end as u64
    }

    /// The features by their usual names, sorted.
    pub(in crate::erofs) fn features(&self) -> Vec<String> {
        let s = &self.superblock;
        let mut names = named(s.feature_compat.get(), &COMPAT_NAMES);
        names.extend(named(s.feature_incompat.get() & !incompat::COMPR_HEAD2, &INCOMPAT_NAMES));
        if self.has_incompat(incompat::COMPR_HEAD2) {
            names.push("compr_head2".to_owned());
        }
        names.sort();
        names
    }

    /// The checksum that the superblock should have, if it has one: over the rest of its block.
    pub(in crate::erofs) fn superblock_sum(&self, bytes: &dyn Bytes) -> Result<Option<u32>, ReadError> {
        if !self.has_compat(compat::SB_CHKSUM) {
            return Ok(None);
        }
        let block = usize::try_from(self.block_size).unwrap_or(0);
        // Blocks of up to 1024 bytes end before the superblock, or where it starts.
        let len = if block > SUPERBLOCK_OFFSET { block.saturating_sub(SUPERBLOCK_OFFSET) } else { block };
        let mut summed = vec![0; len];
        bytes.read_exact_at(ByteOffset(SUPERBLOCK_OFFSET as u64), &mut summed)?;
        summed.iter_mut().skip(4).take(4).for_each(|byte| *byte = 0);
        Ok(Some(format::checksum(&summed)))
    }
}

fn check_features(s: &Superblock) -> Result<(), ReadError> {
    let unsupported = |what: String| Err(ReadError::Unsupported(format!("erofs with {what}")));
    let unknown = s.feature_incompat.get() & !KNOWN;
    if unknown != 0 {
        return unsupported(named(unknown, &INCOMPAT_NAMES).join(", "));
    }
    if s.feature_incompat.get() & incompat::DEVICE_TABLE != 0 && s.extra_devices.get() != 0 {
        return unsupported(format!("data on {} other devices", s.extra_devices));
    }
    if s.dirblkbits != 0 {
        return unsupported(format!("directories in units of 2^{} blocks", s.dirblkbits));
    }
    Ok(())
}

fn named(features: u32, names: &[(u32, &str)]) -> Vec<String> {
    let bits = (0..32).map(|bit| 1_u32 << bit).filter(|bit| features & bit != 0);
    let name = |bit: u32| names.iter().find(|(known, _)| *known == bit).map(|(_, name)| (*name).to_owned());
    bits.map(|bit| name(bit).unwrap_or_else(|| format!("feature {bit:#x}"))).collect()
}
