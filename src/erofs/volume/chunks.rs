//! Files in chunks of one size, each at a place of its own.
//!
//! Source: <https://erofs.docs.kernel.org>, "Chunk-based Inode Layout".

use zerocopy::FromBytes;

use super::super::format::{CHUNK_BITS_MASK, CHUNK_INDEXES, ChunkIndex, NULL_ADDRESS, incompat};
use super::mapping::{Claim, Extent, Mapping, Place};
use super::{Disk, Inode, align, corrupt, unsupported};
use crate::read::ReadError;

/// How many places are read at once, in bytes.
const STEP: u64 = 1 << 16;
/// The size of a place without [`CHUNK_INDEXES`], in bytes.
const ADDRESS_BYTES: u64 = 4;

impl Disk<'_> {
    pub(super) fn map_chunks(&self, inode: &Inode, claim: Claim<'_>) -> Result<Mapping, ReadError> {
        if !self.shape.has_incompat(incompat::CHUNKED_FILE) {
            return Err(corrupt(inode.nid, "is in chunks, but the superblock does not say that such files exist"));
        }
        // The upper half is reserved.
        let format = u16::try_from(inode.u & 0xffff).unwrap_or(0);
        if format & !(CHUNK_BITS_MASK | CHUNK_INDEXES) != 0 {
            return Err(unsupported(inode.nid, format!("the format {format:#x} of chunks")));
        }
        let has_indexes = format & CHUNK_INDEXES != 0;
        let bits = u32::from(self.shape.block_bits).saturating_add(u32::from(format & CHUNK_BITS_MASK));
        let chunk = 1_u64.checked_shl(bits).unwrap_or(0).max(u64::from(self.shape.block_size));
        let unit = if has_indexes { size_of::<ChunkIndex>() as u64 } else { ADDRESS_BYTES };
        let (first, count) = (align(inode.end, unit), inode.size.div_ceil(chunk));
        let table = count.saturating_mul(unit);
        if !self.shape.holds(first, table) {
            return Err(corrupt(
                inode.nid,
                format!("has places of {count} chunks, but they do not fit into the filesystem"),
            ));
        }
        let mut mapping = Mapping { structures: inode.start..first.saturating_add(table), ..Mapping::default() };
        let (mut at, mut start) = (first, 0_u64);
        let table_end = first.saturating_add(table);
        while at < table_end {
            let len = STEP.min(table_end.saturating_sub(at));
            let part = self.slice(at, len)?.unwrap_or_default();
            for place in part.chunks_exact(usize::try_from(unit).unwrap_or(1)) {
                let end = start.saturating_add(chunk).min(inode.size);
                let place = match block_of(place, has_indexes) {
                    None => Place::Hole,
                    Some(block) => {
                        let byte = self.shape.block(block.into());
                        self.claim(inode, byte, end.saturating_sub(start), claim)?;
                        Place::Raw(byte)
                    }
                };
                mapping.push(Extent { start, end, place });
                start = end;
            }
            at = at.saturating_add(len);
        }
        Ok(mapping)
    }
}

/// The block of a chunk; none of a hole. There is one device only: its number has no bits then.
fn block_of(place: &[u8], has_indexes: bool) -> Option<u32> {
    let block = if has_indexes {
        ChunkIndex::read_from_bytes(place).ok()?.startblk_lo.get()
    } else {
        u32::from_le_bytes(place.try_into().ok()?)
    };
    (block != NULL_ADDRESS).then_some(block)
}
