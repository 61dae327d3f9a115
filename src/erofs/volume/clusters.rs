//! Compressed files: the extents that their logical clusters tell of.
//!
//! A file is cut into logical clusters of one size. Each has an index, which says whether and where an extent begins in
//! it, and where the physical cluster is that holds the extent. Source: the notes in [`format`](super::super::format), and
//! what the kernel's `fs/erofs/zmap.c` takes and refuses.

use super::super::format::{
    CLUSTER_BITS_MASK, CLUSTER_FRAGMENT, DataLayout, MapHeader, PCLUSTER_MAX, advise, algorithm, lcluster,
};
use super::indexes::{Indexes, Lcluster};
use super::mapping::{Claim, Extent, Mapping, Place};
use super::unpack::Method;
use super::{Disk, Inode, align, corrupt, unsupported};
use crate::read::ReadError;

/// The most bytes that a physical cluster may unpack to: kernels take no more.
const MOST_UNPACKED: u64 = 12 << 20;
/// The largest logical clusters: an offset in one has 16 bits.
const MOST_BITS: u32 = 16;
/// The bits of `advise` that are known here.
const KNOWN: u16 = advise::COMPACTED_2B
    | advise::BIG_PCLUSTER_1
    | advise::BIG_PCLUSTER_2
    | advise::INLINE_PCLUSTER
    | advise::INTERLACED_PCLUSTER
    | advise::FRAGMENT_PCLUSTER;

/// What the header of a file's indexes says.
#[derive(Clone, Copy, Debug)]
struct Header {
    advise: u16,
    /// The methods of HEAD1 and HEAD2, as the format numbers them.
    algorithms: [u8; 2],
    /// Logical clusters have 2^this bytes.
    bits: u32,
    /// Bytes of the physical cluster behind the indexes.
    inline: u16,
    /// Where the end of the file is in the packed inode.
    fragment: u32,
}

/// An extent whose end is not known yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The logical cluster that it begins in.
    lcluster: u64,
    start: u64,
    kind: u16,
    block: u32,
    partial: bool,
    /// Blocks of the physical cluster, where they are told.
    blocks: Option<u32>,
}

impl Header {
    fn has(&self, bit: u16) -> bool {
        self.advise & bit != 0
    }

    /// Whether physical clusters of this kind of head may have more than one block.
    fn is_big(&self, kind: u16) -> bool {
        self.has(if kind == lcluster::HEAD1 { advise::BIG_PCLUSTER_1 } else { advise::BIG_PCLUSTER_2 })
    }
}

impl Disk<'_> {
    pub(super) fn map_clusters(&self, inode: &Inode, claim: Claim<'_>) -> Result<Mapping, ReadError> {
        let at = align(inode.end, 8);
        let header: MapHeader =
            self.parse(at)?.ok_or_else(|| corrupt(inode.nid, "has its map outside the filesystem"))?;
        let after = at.saturating_add(size_of::<MapHeader>() as u64);
        let structures = inode.start..after;
        if header.clusterbits & CLUSTER_FRAGMENT != 0 {
            let raw = zerocopy::transmute!(header);
            let place = Place::Fragment(u64::from_le_bytes(raw) & !(1 << 63));
            let extents = vec![Extent { start: 0, end: inode.size, place }];
            return Ok(Mapping { extents, structures, problems: Vec::new() });
        }
        let is_full = inode.layout == DataLayout::CompressedFull;
        let header = self.header(inode, &header, is_full)?;
        let count = inode.size.div_ceil(1 << header.bits);
        let indexes = if is_full {
            Indexes::full(after.saturating_add(8), count)
        } else {
            let (has_2b, is_big) = (header.has(advise::COMPACTED_2B), header.has(advise::BIG_PCLUSTER_1));
            let counts = (count, self.shape.blocks_of(inode.size));
            Indexes::compact(after, counts, header.bits, has_2b, is_big)
                .ok_or_else(|| unsupported(inode.nid, format!("a logical cluster of 2^{} bytes", header.bits)))?
        };
        let mut reading = Reading {
            disk: *self,
            inode,
            header,
            tail: indexes.end(),
            at: 0,
            open: None,
            expected: 0,
            mapping: Mapping { structures: inode.start..indexes.end(), ..Mapping::default() },
        };
        self.each_lcluster(inode, &indexes, |lcluster| reading.take(lcluster, claim))?;
        reading.finish(claim)
    }

    fn header(&self, inode: &Inode, header: &MapHeader, is_full: bool) -> Result<Header, ReadError> {
        let advised = header.advise.get();
        if is_full && advised & advise::EXTENTS != 0 {
            return Err(unsupported(inode.nid, "a map of extents of any length"));
        }
        if advised & !KNOWN != 0 {
            return Err(unsupported(inode.nid, format!("the advice {advised:#x}")));
        }
        let bits = u32::from(self.shape.block_bits).saturating_add(u32::from(header.clusterbits & CLUSTER_BITS_MASK));
        if bits > MOST_BITS || header.clusterbits & !(CLUSTER_BITS_MASK | CLUSTER_FRAGMENT) != 0 {
            return Err(unsupported(inode.nid, format!("a logical cluster of 2^{bits} bytes")));
        }
        let header = Header {
            advise: advised,
            algorithms: [header.algorithmtype & 15, header.algorithmtype >> 4],
            bits,
            inline: if advised & advise::INLINE_PCLUSTER == 0 { 0 } else { header.idata_size.get() },
            fragment: u32::from(header.idata_size.get()) << 16 | u32::from(header.reserved1.get()),
        };
        if !is_full && header.has(advise::BIG_PCLUSTER_1) != header.has(advise::BIG_PCLUSTER_2) {
            return Err(corrupt(
                inode.nid,
                "says that only one kind of its clusters may be big, which packed indexes cannot",
            ));
        }
        if header.inline > 0 && header.has(advise::FRAGMENT_PCLUSTER) {
            return Err(corrupt(inode.nid, "has its end both behind its indexes and in the packed inode"));
        }
        Ok(header)
    }
}

/// Indexes being read.
struct Reading<'a> {
    disk: Disk<'a>,
    inode: &'a Inode,
    header: Header,
    /// Where the indexes end.
    tail: u64,
    /// The logical cluster that comes next.
    at: u64,
    open: Option<Open>,
    /// No head comes before this logical cluster, by what was told before.
    expected: u64,
    mapping: Mapping,
}

impl Reading<'_> {
    fn corrupt(&self, why: &str) -> ReadError {
        corrupt(self.inode.nid, format!("the index of its logical cluster {} {why}", self.at))
    }

    fn take(&mut self, lcluster: Lcluster, claim: Claim<'_>) -> Result<(), ReadError> {
        match lcluster {
            Lcluster::Head { kind, offset, block, partial } => {
                let cluster = 1_u64 << self.header.bits;
                let start = self.at.saturating_mul(cluster).saturating_add(offset.into());
                if u64::from(offset) >= cluster || start > self.inode.size || (self.open.is_none() && start != 0) {
                    return Err(self.corrupt(&format!("begins an extent at byte {start} of the file")));
                }
                if self.at < self.expected {
                    let why = format!("logical cluster {} has an extent, but the next was said to come later", self.at);
                    self.mapping.problems.push(why);
                }
                self.close(start, claim, false)?;
                // One that begins at the end has no bytes: it only says where the one before ends.
                if start < self.inode.size {
                    self.open = Some(Open { lcluster: self.at, start, kind, block, partial, blocks: None });
                }
            }
            Lcluster::Nonhead { back, ahead, blocks } => self.take_nonhead(back, ahead, blocks)?,
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn take_nonhead(&mut self, back: Option<u32>, ahead: Option<u32>, blocks: Option<u32>) -> Result<(), ReadError> {
        let Some(mut open) = self.open else { return Err(self.corrupt("has no head before it")) };
        let distance = self.at.saturating_sub(open.lcluster);
        if let Some(blocks) = blocks {
            let is_big = self.header.has(advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2);
            if distance != 1 || !is_big {
                return Err(self.corrupt("counts blocks, which is not its part"));
            }
            open.blocks = Some(blocks);
            self.open = Some(open);
        }
        // Distances do not get so large that they look like counts: then they lead to another of the same extent.
        if back.is_some_and(|back| back == 0 || u64::from(back) > distance) {
            return Err(self.corrupt("does not lead to its head"));
        }
        if let Some(ahead) = ahead {
            self.expected = self.expected.max(self.at.saturating_add(ahead.into()));
        }
        Ok(())
    }

    fn finish(mut self, claim: Claim<'_>) -> Result<Mapping, ReadError> {
        let end = self.inode.size;
        self.close(end, claim, true)?;
        if self.mapping.extents.last().is_none_or(|last| last.end != end) {
            return Err(corrupt(self.inode.nid, "has indexes that do not tell of all of its contents"));
        }
        Ok(self.mapping)
    }

    /// Ends the extent under way before byte `end` of the file.
    fn close(&mut self, end: u64, claim: Claim<'_>, is_finished: bool) -> Result<(), ReadError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // The last extent may be followed by one that has no bytes.
        let is_last = is_finished || end >= self.inode.size;
        let len = end.saturating_sub(open.start);
        if is_last && self.header.has(advise::FRAGMENT_PCLUSTER) {
            let high = if self.inode.layout == DataLayout::CompressedFull { u64::from(open.block) << 32 } else { 0 };
            let place = Place::Fragment(high | u64::from(self.header.fragment));
            // A file that is all fragment needs no extent of its own before it.
            self.mapping.push(Extent { start: open.start, end, place });
            return Ok(());
        }
        let (at, stored) = if is_last && self.header.inline > 0 {
            let len = u64::from(self.header.inline);
            self.disk.check_inline(self.inode, self.tail, len)?;
            self.mapping.structures.end = self.tail.saturating_add(len);
            (self.tail, len)
        } else {
            let blocks = self.blocks(&open)?;
            let (at, len) = (self.disk.shape.block(open.block.into()), self.disk.shape.block(blocks.into()));
            if len > PCLUSTER_MAX as u64 {
                return Err(unsupported(self.inode.nid, format!("a physical cluster of {len} bytes")));
            }
            self.disk.claim(self.inode, at, len, claim)?;
            (at, len)
        };
        if open.kind == lcluster::PLAIN {
            return self.plain(&open, end, at, stored);
        }
        if len > MOST_UNPACKED {
            return Err(unsupported(self.inode.nid, format!("{len} bytes in one physical cluster")));
        }
        let method = self.method(open.kind)?;
        let stored = u32::try_from(stored).unwrap_or(u32::MAX);
        let place = Place::Packed { at, stored, method, partial: open.partial };
        self.mapping.push(Extent { start: open.start, end, place });
        Ok(())
    }

    /// The blocks of a physical cluster.
    fn blocks(&self, open: &Open) -> Result<u32, ReadError> {
        match open.blocks.filter(|_| self.header.is_big(open.kind)) {
            Some(0) => Err(corrupt(self.inode.nid, format!("has no blocks for its logical cluster {}", open.lcluster))),
            Some(blocks) => Ok(blocks),
            None => {
                // What goes on in another logical cluster would tell of its blocks there.
                let goes_on = self.at.saturating_sub(open.lcluster) > 1 && self.header.is_big(open.kind);
                if goes_on {
                    let why = format!("does not tell the blocks of its logical cluster {}", open.lcluster);
                    return Err(corrupt(self.inode.nid, why));
                }
                Ok(1)
            }
        }
    }

    /// What is not compressed: as it is, or rotated so that each byte is where it is in its block of the file.
    fn plain(&mut self, open: &Open, end: u64, at: u64, stored: u64) -> Result<(), ReadError> {
        let (start, len) = (open.start, end.saturating_sub(open.start));
        if len > stored {
            return Err(corrupt(self.inode.nid, format!("has {len} bytes at byte {start} in a cluster of {stored}")));
        }
        if !self.header.has(advise::INTERLACED_PCLUSTER) {
            self.mapping.push(Extent { start, end, place: Place::Raw(at) });
            return Ok(());
        }
        let block = u64::from(self.disk.shape.block_size);
        if stored != block {
            return Err(unsupported(self.inode.nid, format!("a rotated cluster of {stored} bytes")));
        }
        let within = self.disk.shape.within(start);
        let middle = end.min(start.saturating_add(block.saturating_sub(within)));
        self.mapping.push(Extent { start, end: middle, place: Place::Raw(at.saturating_add(within)) });
        if middle < end {
            self.mapping.push(Extent { start: middle, end, place: Place::Raw(at) });
        }
        Ok(())
    }

    fn method(&self, kind: u16) -> Result<Method, ReadError> {
        let [first, second] = self.header.algorithms;
        let number = if kind == lcluster::HEAD1 { first } else { second };
        let method = match number {
            algorithm::LZ4 => Method::Lz4,
            algorithm::LZMA => Method::Lzma,
            algorithm::DEFLATE => Method::Deflate,
            algorithm::ZSTD => Method::Zstd,
            other => return Err(unsupported(self.inode.nid, format!("the compression method {other}"))),
        };
        if self.disk.shape.methods & 1 << number == 0 {
            let why = format!("is compressed with {}, which the superblock does not name", method.name());
            return Err(corrupt(self.inode.nid, why));
        }
        Ok(method)
    }
}
