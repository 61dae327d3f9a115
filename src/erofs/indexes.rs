//! The indexes of compressed contents: a map header, then an index for each block of the file, in packs. Pure.
//!
//! Pieces start at blocks of the file, so that the offset of every head is 0. Only an end of the file within a block has
//! another: it is written as the head of an extent without bytes, as mkfs.erofs does it. A piece that is not compressed is
//! an extent for each of its blocks, since kernels expect no more than a block of those.

use zerocopy::IntoBytes;

use super::BlockIndex;
use super::compress::PIECE_BLOCKS;
use super::format::{BLOCK_SIZE, DataLayout, MapHeader, advise, compacted, lcluster};
use crate::copy::Form;

/// The layout of an inode with these indexes.
pub const LAYOUT: DataLayout = DataLayout::CompressedCompact;

/// The bytes between a multiple of 32 and the first pack: an inode has 32 or 64 bytes, and the map header follows.
const FIRST_PACK_OFFSET: usize = size_of::<MapHeader>();
/// How many indexes come before the first pack of [`compacted::PACK_2B`].
const BEFORE: u64 = {
    let (indexes, bytes) = compacted::PACK_4B;
    let (_, alignment) = compacted::PACK_2B;
    ((alignment - FIRST_PACK_OFFSET) / bytes * indexes) as u64
};

/// How a piece is stored: its form, and how many blocks it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// Compressed or not.
    pub form: Form,
    /// The blocks that it takes, at least 1.
    pub blocks: u8,
}

const _: () = assert!(PIECE_BLOCKS <= u8::MAX as usize && PIECE_BLOCKS < lcluster::D0_CBLKCNT as usize);

/// The length of the map header and the indexes of a file of `size` bytes, in bytes.
pub fn len(size: u64) -> u64 {
    let count = size.div_ceil(BLOCK_SIZE);
    let packs = |(indexes, bytes): (usize, usize), count: u64| count.div_ceil(indexes as u64) * bytes as u64;
    let dense = dense(count);
    size_of::<MapHeader>() as u64 + packs(compacted::PACK_2B, dense) + packs(compacted::PACK_4B, count - dense)
}

/// How many of `count` indexes are in packs of 2 bytes an index.
fn dense(count: u64) -> u64 {
    let after = count.saturating_sub(BEFORE);
    after - after % compacted::PACK_2B.0 as u64
}

/// The map header and the indexes of a file of `size` bytes, whose `pieces` lie one after the other from `start` on.
///
/// `algorithm` is the number of the method.
pub fn encode(size: u64, start: BlockIndex, pieces: impl Iterator<Item = StoredPiece>, algorithm: u8) -> Vec<u8> {
    let header = MapHeader {
        reserved1: 0.into(),
        idata_size: 0.into(),
        advise: (advise::COMPACTED_2B | advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2).into(),
        algorithmtype: algorithm,
        clusterbits: 0,
    };
    let mut out = header.as_bytes().to_vec();
    let count = size.div_ceil(BLOCK_SIZE);
    let mut indexes = Indexes { size, block: start, pieces, current: None, at: 0 }.peekable();
    let mut written = 0;
    while indexes.peek().is_some() {
        let is_dense = (BEFORE..BEFORE + dense(count)).contains(&written);
        let (len, bytes) = if is_dense { compacted::PACK_2B } else { compacted::PACK_4B };
        let pack: Vec<_> = indexes.by_ref().take(len).collect();
        written += pack.len() as u64;
        put_pack(&pack, (len, bytes), &mut out);
    }
    out
}

/// What the index of a block of the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    /// An extent begins `offset` bytes into the block.
    Head { kind: u16, offset: u16, block: BlockIndex },
    /// The second block of an extent, whose physical cluster has so many blocks; the next extent is `next` blocks later.
    Count { blocks: u16 },
    /// A later block of an extent.
    NonHead { before: u16, next: u16 },
}

/// The indexes of a file, in order.
struct Indexes<I> {
    size: u64,
    /// Where the next piece begins.
    block: BlockIndex,
    pieces: I,
    current: Option<Current>,
    /// The block of the file that comes next.
    at: u64,
}

/// A piece whose indexes are being given.
#[derive(Clone, Copy)]
struct Current {
    piece: StoredPiece,
    /// Where it is stored.
    block: BlockIndex,
    /// Its first block in the file.
    first: u64,
    /// One past its last block in the file that has no other head.
    end: u64,
}

impl<I: Iterator<Item = StoredPiece>> Indexes<I> {
    /// The next piece, if there is one.
    fn begin(&mut self) -> Option<Current> {
        let piece = self.pieces.next()?;
        let (block, first) = (self.block, self.at);
        self.block.0 += u64::from(piece.blocks);
        let whole = self.size / BLOCK_SIZE;
        let all = self.size.div_ceil(BLOCK_SIZE);
        let end = (first + PIECE_BLOCKS as u64).min(if piece.form == Form::Packed { whole } else { all });
        Some(Current { piece, block, first, end })
    }
}

impl<I: Iterator<Item = StoredPiece>> Iterator for Indexes<I> {
    type Item = Index;

    fn next(&mut self) -> Option<Index> {
        if self.at >= self.size.div_ceil(BLOCK_SIZE) {
            return None;
        }
        if self.current.is_none_or(|current| self.at == current.end) {
            self.current = self.begin();
        }
        let before = self.current.map_or(0, |current| short(self.at - current.first));
        let index = match self.current {
            // The end of the file: all pieces are behind us.
            None => Index::Head { kind: lcluster::PLAIN, offset: short(self.size % BLOCK_SIZE), block: self.block },
            Some(Current { piece: StoredPiece { form: Form::Raw, .. }, block, .. }) => {
                Index::Head { kind: lcluster::PLAIN, offset: 0, block: BlockIndex(block.0 + u64::from(before)) }
            }
            Some(Current { block, .. }) if before == 0 => Index::Head { kind: lcluster::HEAD1, offset: 0, block },
            Some(Current { piece, .. }) if before == 1 => Index::Count { blocks: piece.blocks.into() },
            Some(Current { end, .. }) => Index::NonHead { before, next: short(end - self.at) },
        };
        self.at += 1;
        Some(index)
    }
}

fn short(value: u64) -> u16 {
    u16::try_from(value).expect("no more than a piece or a block has")
}

/// Appends a pack of `len` indexes in `bytes` bytes; the last one of a file may have fewer.
fn put_pack(pack: &[Index], (len, bytes): (usize, usize), out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes - size_of::<u32>(), 0);
    let width = (bytes - size_of::<u32>()) * 8 / len;
    for (number, index) in pack.iter().enumerate() {
        let is_last = number + 1 == len;
        let (kind, low) = match *index {
            Index::Head { kind, offset, .. } => (kind, offset),
            Index::Count { blocks } => (lcluster::NONHEAD, lcluster::D0_CBLKCNT | blocks),
            Index::NonHead { next, .. } if is_last => (lcluster::NONHEAD, next),
            Index::NonHead { before, .. } => (lcluster::NONHEAD, before),
        };
        let value = u32::from(kind) << compacted::OFFSET_BITS | u32::from(low);
        let at = number * width;
        // At most 14 or 16 bits, from any of the 8 of the first byte on.
        let value = (value << (at % 8)).to_le_bytes();
        for (byte, value) in out[start..].iter_mut().skip(at / 8).zip(value) {
            *byte |= value;
        }
    }
    out.extend_from_slice(&base(pack).to_le_bytes());
}

/// The address of a pack: the block of its first head, less the blocks that the pack counts before that.
fn base(pack: &[Index]) -> u32 {
    let mut counted = 0;
    for index in pack {
        match *index {
            Index::Count { blocks } => counted += u64::from(blocks),
            Index::NonHead { .. } => {}
            Index::Head { block, .. } => {
                return u32::try_from(block.0 - counted).expect("the layout has checked its end");
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the index of block `lcn`: its type, its lower bits, its number in its pack, and the pack.
    fn at(bytes: &[u8], count: u64, lcn: u64) -> (u16, u16, usize, (usize, &[u8])) {
        let lcn = usize::try_from(lcn).unwrap();
        let (before, dense) = (usize::try_from(BEFORE).unwrap(), usize::try_from(dense(count)).unwrap());
        let (number, (len, size), start) = if lcn < before {
            (lcn, compacted::PACK_4B, 8)
        } else if lcn < before + dense {
            (lcn - before, compacted::PACK_2B, 8 + before * 4)
        } else {
            (lcn - before - dense, compacted::PACK_4B, 8 + before * 4 + dense * 2)
        };
        let pack = &bytes[start + number / len * size..][..size];
        let (kind, low) = bits(pack, len, number % len);
        (kind, low, number % len, (len, pack))
    }

    fn bits(pack: &[u8], len: usize, number: usize) -> (u16, u16) {
        let width = (pack.len() - 4) * 8 / len;
        let value = (0..width).map(|bit| {
            let at = number * width + bit;
            u16::from(pack[at / 8] >> (at % 8) & 1) << bit
        });
        let value: u16 = value.sum();
        (value >> 12 & 3, value & 0xfff)
    }

    /// The address of a head, counted as the kernel does it: backwards.
    fn address((len, pack): (usize, &[u8]), number: usize) -> u64 {
        let mut blocks = 0;
        let mut i = number;
        while i > 0 {
            i -= 1;
            let (kind, low) = bits(pack, len, i);
            if kind != lcluster::NONHEAD {
                blocks += 1;
            } else if low & lcluster::D0_CBLKCNT != 0 {
                blocks += u64::from(low & !lcluster::D0_CBLKCNT);
                i = i.saturating_sub(1);
            } else {
                assert!(low > 1);
                i = i.saturating_sub(usize::from(low) - 2);
            }
        }
        u64::from(u32::from_le_bytes(pack[pack.len() - 4..].try_into().unwrap())) + blocks
    }

    /// Each extent as the indexes give it: its start in the file, whether it is compressed, its block, how many it has.
    fn extents(bytes: &[u8], size: u64) -> Vec<(u64, bool, u64, u16)> {
        let count = size.div_ceil(BLOCK_SIZE);
        let mut extents = Vec::new();
        for lcn in 0..count {
            let (kind, low, number, pack) = at(bytes, count, lcn);
            let head = (0..=lcn).rev().find(|&lcn| at(bytes, count, lcn).0 != lcluster::NONHEAD).unwrap();
            if kind == lcluster::NONHEAD {
                let next = (lcn..count).find(|&lcn| at(bytes, count, lcn).0 != lcluster::NONHEAD).unwrap_or(count);
                match low {
                    _ if low & lcluster::D0_CBLKCNT != 0 => assert_eq!(lcn - head, 1),
                    _ if number + 1 == pack.0 => assert_eq!(u64::from(low), next - lcn),
                    _ => assert_eq!(u64::from(low), lcn - head),
                }
                continue;
            }
            let blocks = (lcn + 1 < count)
                .then(|| at(bytes, count, lcn + 1))
                .map_or(1, |(kind, low, ..)| if kind == lcluster::NONHEAD { low & !lcluster::D0_CBLKCNT } else { 1 });
            extents.push((lcn * BLOCK_SIZE + u64::from(low), kind == lcluster::HEAD1, address(pack, number), blocks));
        }
        extents
    }

    fn expected(size: u64, start: u64, pieces: &[StoredPiece]) -> Vec<(u64, bool, u64, u16)> {
        let mut expected = Vec::new();
        let mut block = start;
        for (number, piece) in pieces.iter().enumerate() {
            let offset = (number * PIECE_BLOCKS) as u64 * BLOCK_SIZE;
            match piece.form {
                Form::Packed => expected.push((offset, true, block, piece.blocks.into())),
                Form::Raw => {
                    expected
                        .extend((0..u64::from(piece.blocks)).map(|i| (offset + i * BLOCK_SIZE, false, block + i, 1)));
                }
            }
            block += u64::from(piece.blocks);
        }
        if pieces.last().unwrap().form == Form::Packed && !size.is_multiple_of(BLOCK_SIZE) {
            expected.push((size, false, block, 1));
        }
        expected
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_as_the_kernel_does(
            size in prop_oneof![4097..40_000_u64, 4097..3_000_000_u64, Just(131_072), Just(262_144), Just(262_145), Just(266_240)],
            start in 1..1_000_000_u64,
            kinds in proptest::collection::vec((any::<bool>(), 1..64_u8), 12),
        ) {
            let piece_bytes = PIECE_BLOCKS as u64 * BLOCK_SIZE;
            let pieces: Vec<_> = (0..size.div_ceil(piece_bytes)).zip(&kinds).map(|(number, &(packed, blocks))| {
                let raw = u8::try_from((size - number * piece_bytes).min(piece_bytes).div_ceil(BLOCK_SIZE)).unwrap();
                match packed && raw > 1 {
                    true => StoredPiece { form: Form::Packed, blocks: blocks.min(raw - 1) },
                    false => StoredPiece { form: Form::Raw, blocks: raw },
                }
            }).collect();
            let bytes = encode(size, BlockIndex(start), pieces.iter().copied(), 3);
            prop_assert_eq!(bytes.len() as u64, len(size));
            prop_assert_eq!(&bytes[..8], &[0, 0, 0, 0, 7, 0, 3, 0]);
            prop_assert_eq!(extents(&bytes, size), expected(size, start, &pieces));
        }
    }
}
