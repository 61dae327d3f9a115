//! What every byte of a laid-out filesystem is. Pure.

use super::format::{SUPERBLOCK_OFFSETS, Superblock, group};
use super::layout::Layout;
use crate::map::{Held, MapBuilder};

/// The extents of the filesystem, from its own first byte on. All else of it is free: the rest of each chunk, and what is
/// in none.
pub fn map(layout: &Layout) -> MapBuilder {
    let mut map = MapBuilder::default();
    for at in SUPERBLOCK_OFFSETS {
        let end = at + size_of::<Superblock>() as u64;
        if end <= layout.size() {
            map.add(at..end, Held::Metadata);
        }
    }
    for chunk in layout.chunks.iter() {
        let held = if chunk.kind == group::DATA { Held::Contents } else { Held::Metadata };
        // The used part of a chunk is its start, in chunks of nodes and in chunks of contents.
        chunk.copies().for_each(|copy| map.add(copy..copy + chunk.used, held));
    }
    map
}
