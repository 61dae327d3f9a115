//! The indexes of logical clusters, one after another, in both of their forms.
//!
//! Source: the notes on [`LclusterIndex`] and on [`compacted`](format::compacted).

use zerocopy::FromBytes;

use super::super::format::{self, LclusterIndex, compacted, lcluster};
use super::{Disk, Inode, corrupt};
use crate::read::ReadError;

/// How many indexes are read at once, in bytes: a multiple of all packs.
const STEP: u64 = 1 << 15;
/// Bits of the type of a logical cluster.
const TYPE_BITS: u32 = 2;
/// Bytes of the address at the end of a pack.
const ADDRESS_BYTES: usize = 4;

/// A logical cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lcluster {
    /// An extent begins here.
    Head {
        /// [`lcluster::PLAIN`], [`lcluster::HEAD1`] or [`lcluster::HEAD2`].
        kind: u16,
        /// Where in it.
        offset: u32,
        /// The first block of its physical cluster.
        block: u32,
        /// Whether it has only the start of what is there.
        partial: bool,
    },
    /// None does.
    Nonhead {
        /// How far back its head is.
        back: Option<u32>,
        /// How far on the next head is.
        ahead: Option<u32>,
        /// How many blocks the physical cluster of its head has.
        blocks: Option<u32>,
    },
}

/// A run of packs of one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Indexes in a pack, and its bytes.
    pack: (usize, usize),
    /// Where it starts, in bytes of the filesystem.
    at: u64,
    /// How many packs.
    packs: u64,
}

/// How the indexes of a file are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Indexes {
    Full { at: u64, count: u64 },
    Compact { runs: [Run; 3], count: u64, offset_bits: u32, is_big: bool },
}

impl Indexes {
    /// `count` indexes in their long form from `at` on.
    pub(super) fn full(at: u64, count: u64) -> Self {
        Self::Full { at, count }
    }

    /// `count` indexes in packs from `at` on, in clusters of 2^`bits` bytes, `blocks` blocks in all. `None` for clusters
    /// that packs cannot have.
    pub(super) fn compact(at: u64, (count, blocks): (u64, u64), bits: u32, has_2b: bool, is_big: bool) -> Option<Self> {
        // Indexes of 4 bytes come up to the first place where packs of 2 bytes an index may lie.
        let unit = compacted::PACK_2B.1 as u64;
        let before = (align_up(at, unit).checked_sub(at)? / 4).min(blocks);
        let (per_2b, per_4b) = (compacted::PACK_2B.0 as u64, compacted::PACK_4B.0 as u64);
        let in_2b = if has_2b { blocks.saturating_sub(before) / per_2b * per_2b } else { 0 };
        let most_bits = if in_2b > 0 { 12 } else { 14 };
        (bits <= most_bits).then_some(())?;
        let before_packs = before.div_ceil(per_4b);
        let after = blocks.saturating_sub(before).saturating_sub(in_2b);
        let first = Run { pack: compacted::PACK_4B, at, packs: before_packs };
        let second = Run { pack: compacted::PACK_2B, at: first.end(), packs: in_2b / per_2b };
        let third = Run { pack: compacted::PACK_4B, at: second.end(), packs: after.div_ceil(per_4b) };
        let offset_bits = bits.max(compacted::OFFSET_BITS);
        Some(Self::Compact { runs: [first, second, third], count, offset_bits, is_big })
    }

    /// One past their last byte in the filesystem.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Full { at, count } => at.saturating_add(count.saturating_mul(size_of::<LclusterIndex>() as u64)),
            Self::Compact { runs, .. } => runs.iter().map(|run| run.end()).max().unwrap_or(0),
        }
    }
}

impl Run {
    fn end(&self) -> u64 {
        self.at.saturating_add(self.packs.saturating_mul(self.pack.1 as u64))
    }
}

fn align_up(at: u64, unit: u64) -> u64 {
    super::align(at, unit)
}

impl Disk<'_> {
    /// Calls `visit` with each logical cluster of a file, in order.
    pub(super) fn each_lcluster(
        &self,
        inode: &Inode,
        indexes: &Indexes,
        mut visit: impl FnMut(Lcluster) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if !self.shape.holds(indexes.end(), 0) {
            return Err(corrupt(inode.nid, "has indexes of its contents that do not fit into the filesystem"));
        }
        match indexes {
            Indexes::Full { at, .. } => self.each_part(*at, indexes.end(), |part| {
                let (indexes, _) = part.as_chunks::<{ size_of::<LclusterIndex>() }>();
                indexes
                    .iter()
                    .filter_map(|raw| LclusterIndex::read_from_bytes(raw).ok())
                    .map(full)
                    .try_for_each(&mut visit)
            }),
            Indexes::Compact { runs, count, offset_bits, is_big } => {
                let mut left = *count;
                let mut one = Vec::new();
                for run in runs {
                    self.each_part(run.at, run.end(), |part| {
                        for pack in part.chunks_exact(run.pack.1) {
                            one.clear();
                            unpack(pack, run.pack.0, *offset_bits, *is_big, &mut one);
                            for lcluster in one.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                                visit(*lcluster)?;
                            }
                            left = left.saturating_sub(one.len() as u64);
                        }
                        Ok(())
                    })?;
                }
                Ok(())
            }
        }
    }

    /// Calls `visit` with the bytes of a range, part by part.
    fn each_part(
        &self,
        mut at: u64,
        end: u64,
        mut visit: impl FnMut(&[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        while at < end {
            let len = STEP.min(end.saturating_sub(at));
            visit(&self.slice(at, len)?.unwrap_or_default())?;
            at = at.saturating_add(len);
        }
        Ok(())
    }
}

fn full(index: LclusterIndex) -> Lcluster {
    let advise = index.advise.get();
    let u = index.u.get();
    match advise & lcluster::TYPE_MASK {
        lcluster::NONHEAD => {
            let (back, ahead) = (u & 0xffff, u >> 16);
            let count = u32::from(lcluster::D0_CBLKCNT);
            let is_count = back & count != 0;
            Lcluster::Nonhead {
                back: (!is_count).then_some(back),
                ahead: Some(ahead),
                blocks: is_count.then_some(back & !count),
            }
        }
        kind => Lcluster::Head {
            kind,
            offset: index.clusterofs.get().into(),
            block: u,
            partial: advise & lcluster::PARTIAL_REF != 0,
        },
    }
}

/// The indexes in a pack.
fn unpack(pack: &[u8], count: usize, offset_bits: u32, is_big: bool, output: &mut Vec<Lcluster>) {
    let Some((bits, address)) = pack.split_last_chunk::<ADDRESS_BYTES>() else { return };
    let base = u32::from_le_bytes(*address);
    let width = bits.len().saturating_mul(8) / count.max(1);
    let count_bit = u32::from(lcluster::D0_CBLKCNT);
    // Blocks of the physical clusters so far, and whether the index before is a head.
    let (mut blocks, mut after_head) = (u32::from(!is_big), false);
    for index in 0..count {
        let value = bits_at(pack, index.saturating_mul(width));
        let low = value & ((1 << offset_bits) - 1);
        let kind = (value >> offset_bits) & ((1 << TYPE_BITS) - 1);
        let kind = u16::try_from(kind).unwrap_or(0);
        if kind != format::lcluster::NONHEAD {
            output.push(Lcluster::Head { kind, offset: low, block: base.wrapping_add(blocks), partial: false });
            blocks = blocks.saturating_add(1);
            after_head = true;
            continue;
        }
        let counted = (low & count_bit != 0).then_some(low & !count_bit);
        if let Some(counted) = counted.filter(|_| is_big) {
            blocks = blocks.saturating_sub(after_head.into()).saturating_add(counted);
        }
        let is_last = index.saturating_add(1) == count;
        let distance = Some(low).filter(|_| counted.is_none());
        output.push(Lcluster::Nonhead {
            back: distance.filter(|_| !is_last),
            ahead: distance.filter(|_| is_last),
            blocks: counted,
        });
        after_head = false;
    }
}

/// The bits of a pack from `bit` on: at least 16.
fn bits_at(pack: &[u8], bit: usize) -> u32 {
    let bytes = pack.iter().skip(bit / 8).take(4);
    let value = bytes.zip([0_u32, 8, 16, 24]).fold(0_u32, |value, (byte, shift)| value | u32::from(*byte) << shift);
    value >> (bit % 8)
}
