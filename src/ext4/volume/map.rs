//! The map from the blocks of a file to those of the disk: extent trees, and the older maps of ext2 and ext3.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/ifork.rst`.
//!
//! A map is read whole. The image limits its size, whatever the map says: the entries of an extent tree must rise, so
//! that none counts twice, and no map may have more blocks than there are.

use super::super::checksum::Checksum;
use super::super::format::{self, EXTENT_MAGIC, EXTENT_MAX_BLOCKS, Extent, ExtentHeader, ExtentIndex};
use super::{Disk, Inode, Sums, parse};
use crate::read::ReadError;

/// No extent tree is deeper.
const MAX_DEPTH: u16 = 5;
/// Bytes of a node's head and of each of its entries.
const ENTRY: usize = 12;
/// Entries that fit into the inode.
const ROOT_ENTRIES: usize = 4;
/// Blocks that an inode's classic map names itself.
const DIRECT: usize = 12;

/// Blocks that follow each other in the file and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ext4) struct Run {
    /// The first, counted in the file.
    pub(in crate::ext4) logical: u64,
    /// The first, on disk.
    pub(in crate::ext4) physical: u64,
    pub(in crate::ext4) blocks: u64,
    /// If not, they read as zeros.
    pub(in crate::ext4) written: bool,
}

impl Run {
    /// The block of the file after the last.
    pub(in crate::ext4) fn end(&self) -> u64 {
        self.logical.saturating_add(self.blocks)
    }
}

/// All blocks of a file.
#[derive(Debug, Default)]
pub(in crate::ext4) struct Mapping {
    /// The contents, in the order of the file.
    pub(in crate::ext4) runs: Vec<Run>,
    /// The blocks of the map itself.
    pub(in crate::ext4) nodes: Vec<u64>,
    /// What is wrong with it. Reading stops where the map makes no sense.
    pub(in crate::ext4) problems: Vec<String>,
}

impl Mapping {
    /// The blocks that the file owns.
    pub(in crate::ext4) fn blocks(&self) -> u64 {
        self.runs.iter().fold(self.nodes.len() as u64, |sum, run| sum.saturating_add(run.blocks))
    }

    /// The block of the file after the last that has a place.
    pub(in crate::ext4) fn end(&self) -> u64 {
        self.runs.last().map_or(0, Run::end)
    }

    /// The run that holds a block of the file, or else the first after it.
    pub(in crate::ext4) fn at_or_after(&self, logical: u64) -> Option<&Run> {
        self.from(logical).first()
    }

    /// The runs that do not end before a block of the file.
    pub(in crate::ext4) fn from(&self, logical: u64) -> &[Run] {
        self.runs.get(self.runs.partition_point(|run| run.end() <= logical)..).unwrap_or_default()
    }

    fn push(&mut self, run: Run) {
        if let Some(last) = self.runs.last_mut() {
            let follows = last.end() == run.logical && last.physical.saturating_add(last.blocks) == run.physical;
            if follows && last.written == run.written {
                last.blocks = last.blocks.saturating_add(run.blocks);
                return;
            }
        }
        self.runs.push(run);
    }
}

/// Why a walk ends early: a problem that was reported, or the image cannot be read.
enum Stop {
    Told,
    Read(ReadError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Disk<'_> {
    /// Reads the map of a file; `enter` says for each block of the map itself whether to read it.
    ///
    /// # Errors
    /// Only if the image cannot be read. Faults of the map are in the result.
    pub(in crate::ext4) fn map(&self, inode: &Inode, enter: &mut dyn FnMut(u64) -> bool) -> Result<Mapping, ReadError> {
        let owner = self.shape().owner(inode.number, inode.on_disk.generation.get());
        let mut walk = Walk { disk: *self, owner, enter, mapping: Mapping::default(), next: 0, total: 0 };
        let result = if inode.has(format::INODE_EXTENTS) {
            walk.extent_root(&inode.on_disk.block)
        } else {
            walk.classic(&inode.on_disk.block)
        };
        match result {
            Err(Stop::Read(error)) => Err(error),
            Ok(()) | Err(Stop::Told) => Ok(walk.mapping),
        }
    }
}

struct Walk<'a> {
    disk: Disk<'a>,
    owner: Checksum,
    enter: &'a mut dyn FnMut(u64) -> bool,
    mapping: Mapping,
    /// The first block of the file that no entry has spoken of yet.
    next: u64,
    /// Blocks met so far, those of the map included.
    total: u64,
}

impl Walk<'_> {
    fn tell(&mut self, problem: String) -> Stop {
        self.mapping.problems.push(problem);
        Stop::Told
    }

    fn extent_root(&mut self, root: &[u8]) -> Result<(), Stop> {
        let depth = parse::<ExtentHeader>(root).map_or(0, |header| header.depth.get());
        if depth > MAX_DEPTH {
            return Err(self.tell(format!("its extent tree is {depth} levels deep")));
        }
        self.extent_node(root, depth, "the root of its extent tree")
    }

    /// Reads the entries of a node whose bytes for head and entries are `node`.
    fn extent_node(&mut self, node: &[u8], depth: u16, what: &str) -> Result<(), Stop> {
        let Some(header) = parse::<ExtentHeader>(node) else {
            return Err(self.tell(format!("{what} has no head")));
        };
        let (entries, max) = (header.entries.get(), header.max.get());
        let room = (node.len() / ENTRY).saturating_sub(1);
        if header.magic.get() != EXTENT_MAGIC {
            return Err(self.tell(format!("{what} has the magic {:#06x}", header.magic.get())));
        }
        if header.depth.get() != depth {
            return Err(self.tell(format!("{what} says depth {} at depth {depth}", header.depth.get())));
        }
        // Only the root may be empty. It is the one that has room for four.
        if entries > max || usize::from(max) > room || (entries == 0 && (depth > 0 || room > ROOT_ENTRIES)) {
            return Err(self.tell(format!("{what} has {entries} of at most {max} entries, but has room for {room}")));
        }
        for raw in node.chunks_exact(ENTRY).skip(1).take(entries.into()) {
            if depth == 0 { self.extent(raw)? } else { self.extent_index(raw, depth)? }
        }
        Ok(())
    }

    fn extent(&mut self, raw: &[u8]) -> Result<(), Stop> {
        let Some(extent) = parse::<Extent>(raw) else { return Ok(()) };
        let len = extent.len.get();
        let written = len <= EXTENT_MAX_BLOCKS;
        let blocks = u64::from(if written { len } else { len.saturating_sub(EXTENT_MAX_BLOCKS) });
        let physical = u64::from(extent.start_hi.get()) << 32 | u64::from(extent.start_lo.get());
        let run = Run { logical: extent.block.get().into(), physical, blocks, written };
        if blocks == 0 || run.logical < self.next || run.end() > 1 << 32 {
            let (logical, next) = (run.logical, self.next);
            return Err(self.tell(format!("an extent of {blocks} blocks for block {logical} follows block {next}")));
        }
        self.next = run.end();
        self.place(run)
    }

    /// Takes a run in, if it lies in the filesystem.
    fn place(&mut self, run: Run) -> Result<(), Stop> {
        if !self.disk.shape().holds(run.physical, run.blocks) {
            let Run { logical, physical, blocks, .. } = run;
            let last = self.disk.shape().blocks.saturating_sub(1);
            return Err(self.tell(format!(
                "its {blocks} blocks from {logical} on are at block {physical}, outside the filesystem, which ends at \
                 block {last}"
            )));
        }
        self.total = self.total.saturating_add(run.blocks);
        if self.total > self.disk.shape().blocks {
            return Err(self.tell("its map leads to more blocks than there are".to_owned()));
        }
        self.mapping.push(run);
        Ok(())
    }

    fn extent_index(&mut self, raw: &[u8], depth: u16) -> Result<(), Stop> {
        let Some(index) = parse::<ExtentIndex>(raw) else { return Ok(()) };
        let place = u64::from(index.leaf_hi.get()) << 32 | u64::from(index.leaf_lo.get());
        let first = u64::from(index.block.get());
        if first < self.next {
            let next = self.next;
            return Err(self.tell(format!("an extent tree node for block {first} follows block {next}")));
        }
        self.next = first;
        let Some(block) = self.node(place)? else { return Ok(()) };
        let what = format!("extent tree block {place}");
        let end = block.len().saturating_sub(4) / ENTRY * ENTRY;
        let max = parse::<ExtentHeader>(&block).map_or(0, |header| usize::from(header.max.get()));
        // The checksum follows the last entry that there is room for.
        let summed = max.saturating_add(1).saturating_mul(ENTRY).min(end);
        if self.disk.shape().sums == Sums::Crc32c
            && let Some((summed, tail)) = block.split_at_checked(summed)
            && let Some(&sum) = tail.first_chunk()
            && self.owner.with(summed).value() != u32::from_le_bytes(sum)
        {
            self.tell(format!("{what} has a wrong checksum"));
        }
        let room = if self.disk.shape().sums == Sums::Crc32c { end } else { block.len() };
        self.extent_node(block.get(..room).unwrap_or_default(), depth.saturating_sub(1), &what)
    }

    /// Reads a block of the map; `None` if it is not to be gone into.
    fn node(&mut self, place: u64) -> Result<Option<Vec<u8>>, Stop> {
        if !self.disk.shape().holds(place, 1) {
            return Err(self.tell(format!("its map leads to block {place}, outside the filesystem")));
        }
        self.total = self.total.saturating_add(1);
        if self.total > self.disk.shape().blocks {
            return Err(self.tell("its map leads to more blocks than there are".to_owned()));
        }
        self.mapping.nodes.push(place);
        if !(self.enter)(place) {
            return Ok(None);
        }
        Ok(Some(self.disk.read_block(place)?))
    }

    /// Twelve blocks, then three trees of addresses of one, two and three levels.
    fn classic(&mut self, map: &[u8]) -> Result<(), Stop> {
        let per_block = u64::from(self.disk.shape().block_size) / 4;
        let spans = [1; DIRECT].into_iter().chain((1..=3).map(|level| per_block.saturating_pow(level)));
        for (address, span) in addresses(map).zip(spans) {
            self.classic_entry(address, span, per_block)?;
        }
        Ok(())
    }

    /// What one address leads to: `span` blocks of the file.
    fn classic_entry(&mut self, address: u32, span: u64, per_block: u64) -> Result<(), Stop> {
        let logical = self.next;
        let end = logical.saturating_add(span);
        if address != 0 && span == 1 {
            self.place(Run { logical, physical: address.into(), blocks: 1, written: true })?;
        } else if address != 0
            && let Some(block) = self.node(address.into())?
        {
            for address in addresses(&block) {
                self.classic_entry(address, span.checked_div(per_block).unwrap_or(1), per_block)?;
            }
        }
        self.next = end;
        Ok(())
    }
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}
