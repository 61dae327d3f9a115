//! The blocks that are free for files, as one long stream.
//!
//! Fixed metadata (superblocks, descriptors, bitmaps, inode tables) lies in many places of the disk. Between them are
//! ranges of free blocks. Laid end to end, these ranges form a *stream*, in which everything else is placed one after
//! another. So a file is a single [`Run`] of the stream, two numbers. It becomes a list of extents only where it is
//! written. Pure.

use super::BlockIndex;
use super::format::EXTENT_MAX_BLOCKS;

/// A block counted along the stream, not along the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamBlock(pub u64);

/// Consecutive blocks of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub start: StreamBlock,
    /// How many there are.
    pub blocks: u32,
}

impl Run {
    /// One past the last block.
    pub fn end(self) -> StreamBlock {
        StreamBlock(self.start.0 + u64::from(self.blocks))
    }

    /// The run without its first `blocks` blocks.
    pub(crate) fn skip(self, blocks: u32) -> Self {
        Self { start: StreamBlock(self.start.0 + u64::from(blocks)), blocks: self.blocks - blocks }
    }
}

/// A piece of a run that is contiguous on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block, counted within the run.
    pub logical: u32,
    /// The first block on disk.
    pub physical: BlockIndex,
    /// The number of blocks: at least 1, at most [`EXTENT_MAX_BLOCKS`].
    pub blocks: u16,
}

/// A range of blocks on disk that holds no fixed metadata.
#[derive(Clone, Copy, Debug)]
struct FreeRange {
    first: BlockIndex,
    /// Where on the stream `first` is.
    stream: StreamBlock,
    blocks: u64,
}

/// The map from the stream to the disk.
///
/// Past the disk's end the stream goes on as if the disk were longer, so that a layout can find out how much
/// room it needs by trying; a finished layout stays within [`Space::blocks`].
#[derive(Clone, Debug)]
pub struct Space {
    ranges: Vec<FreeRange>,
    /// The blocks of the stream that the disk really has.
    blocks: u64,
}

impl Space {
    /// The blocks `0..block_count` without `used`: ranges of (first block, length), sorted and disjoint.
    pub fn new(block_count: u64, used: impl IntoIterator<Item = (BlockIndex, u64)>) -> Self {
        let mut space = Self { ranges: Vec::new(), blocks: 0 };
        let mut at = 0;
        for (first, blocks) in used {
            debug_assert!(first.0 >= at, "used ranges are sorted and disjoint");
            space.push(at, first.0);
            at = first.0 + blocks;
        }
        space.push(at, block_count);
        let first = BlockIndex(block_count.max(at));
        space.ranges.push(FreeRange { first, stream: StreamBlock(space.blocks), blocks: u64::MAX - space.blocks });
        space
    }

    fn push(&mut self, first: u64, end: u64) {
        if first < end {
            let stream = StreamBlock(self.blocks);
            self.ranges.push(FreeRange { first: BlockIndex(first), stream, blocks: end - first });
            self.blocks += end - first;
        }
    }

    /// The blocks of the stream that the disk has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Where a block of the stream is on disk.
    pub fn block(&self, block: StreamBlock) -> BlockIndex {
        let range = self.range_of(block);
        range.first.plus(block.0 - range.stream.0)
    }

    /// The extents of a run, in order.
    pub fn extents(&self, run: Run) -> impl Iterator<Item = Extent> + '_ {
        let mut rest = run;
        std::iter::from_fn(move || {
            if rest.blocks == 0 {
                return None;
            }
            let range = self.range_of(rest.start);
            let into = rest.start.0 - range.stream.0;
            let left = (range.blocks - into).min(u64::from(rest.blocks)).min(u64::from(EXTENT_MAX_BLOCKS));
            let blocks = u16::try_from(left).unwrap_or(EXTENT_MAX_BLOCKS);
            let extent = Extent { logical: run.blocks - rest.blocks, physical: range.first.plus(into), blocks };
            rest = rest.skip(u32::from(blocks));
            Some(extent)
        })
    }

    /// The disk's blocks from `start` of the stream on, as ranges of (first block, length).
    pub fn after(&self, start: StreamBlock) -> impl Iterator<Item = (BlockIndex, u64)> + '_ {
        let on_disk = self.ranges.split_last().map_or(&[][..], |(_, on_disk)| on_disk);
        on_disk.iter().filter_map(move |range| {
            let skipped = start.0.saturating_sub(range.stream.0);
            (skipped < range.blocks).then(|| (range.first.plus(skipped), range.blocks - skipped))
        })
    }

    fn range_of(&self, block: StreamBlock) -> &FreeRange {
        let after = self.ranges.partition_point(|range| range.stream <= block);
        &self.ranges[after.checked_sub(1).expect("the stream starts at 0")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        // Free: 2..10, 15..20, 100..100_000.
        let used = [(0, 2), (10, 5), (20, 80)].map(|(first, blocks)| (BlockIndex(first), blocks));
        Space::new(100_000, used)
    }

    #[test]
    fn a_run_splits_where_metadata_lies_and_at_the_longest_extent() {
        let space = space();
        assert_eq!(space.blocks(), 8 + 5 + 99_900);
        let extents: Vec<_> = space.extents(Run { start: StreamBlock(6), blocks: 40_000 }).collect();
        let expected = [(0, 8, 2), (2, 15, 5), (7, 100, 32_768), (32_775, 32_868, 7_225)];
        assert_eq!(
            extents,
            expected.map(|(logical, first, blocks)| Extent { logical, physical: BlockIndex(first), blocks })
        );
        assert_eq!(space.block(StreamBlock(7)), BlockIndex(9));
        assert_eq!(space.block(StreamBlock(8)), BlockIndex(15));
    }

    #[test]
    fn what_is_left_starts_inside_a_range() {
        let left: Vec<_> = space().after(StreamBlock(9)).collect();
        assert_eq!(left, [(BlockIndex(16), 4), (BlockIndex(100), 99_900)]);
        assert_eq!(space().after(StreamBlock(99_913)).count(), 0);
    }

    #[test]
    fn an_empty_run_has_no_extents() {
        assert_eq!(space().extents(Run::default()).count(), 0);
    }
}
