//! The use of every block of a laid-out filesystem. Pure.

use super::format::BLOCK_SIZE;
use super::layout::Layout;
use crate::map::{Held, MapBuilder};

/// The extents of the filesystem, from its own first byte on. All others of its blocks are free.
pub fn map(layout: &Layout) -> MapBuilder {
    let mut map = MapBuilder::default();
    let contents = layout.contents_start().0 * BLOCK_SIZE;
    map.add(0..contents, Held::Metadata);
    map.add(contents..layout.blocks() * BLOCK_SIZE, Held::Contents);
    map
}
