//! The use of every block of a laid-out filesystem. Pure.

use std::ops::Range;

use super::BlockIndex;
use super::format::BLOCK_SIZE;
use super::layout::Layout;
use crate::map::{Held, MapBuilder};

/// The extents of the filesystem, from its own first byte on. All others of its blocks are free.
pub fn map(layout: &Layout) -> MapBuilder {
    let mut map = MapBuilder::default();
    let bytes = |blocks: Range<BlockIndex>| blocks.start.0 * BLOCK_SIZE..blocks.end.0 * BLOCK_SIZE;
    map.add(0..BLOCK_SIZE, Held::Metadata);
    map.add(bytes(layout.metadata()), Held::Metadata);
    map.add(bytes(layout.contents()), Held::Contents);
    map
}
