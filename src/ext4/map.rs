//! The use of every block of a laid-out filesystem. Pure.

use super::format::BLOCK_SIZE;
use super::geometry::Geometry;
use super::group;
use super::layout::Layout;
use super::space::Run;
use super::{BlockIndex, format};
use crate::map::{Held, MapBuilder};
use crate::source::tree::{FileTree, NodeKind};

/// The extents of the filesystem, from its own first byte on. All others of its blocks are free.
///
/// The kernel reads inode tables and the journal before it writes them: there zeros have to be zeros.
pub fn map(layout: &Layout, tree: &FileTree) -> MapBuilder {
    let mut blocks = Blocks::default();
    fixed(layout, &mut blocks);
    blocks.add(layout.resize_map, 1, Held::Metadata);
    let journal = layout.journal.data();
    blocks.add_run(layout, journal, Held::Zeros);
    blocks.add_run(layout, Run { blocks: 1, ..journal }, Held::Metadata);
    blocks.add_run(layout, layout.journal.tree(), Held::Metadata);
    blocks.add_run(layout, layout.lost_and_found.data(), Held::Metadata);
    for node in tree.nodes() {
        let placement = layout.placement(node);
        let is_file = matches!(tree.kind(node), NodeKind::File { .. });
        blocks.add_run(layout, placement.data(), if is_file { Held::Contents } else { Held::Metadata });
        blocks.add_run(layout, placement.tree(), Held::Metadata);
    }
    blocks.0
}

/// Superblocks, descriptors, bitmaps and inode tables.
fn fixed(layout: &Layout, blocks: &mut Blocks) {
    let geometry: &Geometry = &layout.geometry;
    for (group, metadata) in geometry.groups() {
        let start = geometry.group_start(group);
        let area = u64::from(geometry.superblock_area(group));
        // Only the first reserved descriptors have something in them: addresses of the others.
        let written = if group == 0 { area } else { area.min(1 + u64::from(geometry.descriptor_blocks)) };
        blocks.add(start, written, Held::Metadata);
        blocks.add(start.plus(written), area - written, Held::Zeros);
        blocks.add(metadata.block_bitmap, 1, Held::Metadata);
        blocks.add(metadata.inode_bitmap, 1, Held::Metadata);
        let used = u64::from(group::used_inodes(layout, group).div_ceil(format::INODES_PER_BLOCK));
        blocks.add(metadata.inode_table, used, Held::Metadata);
        blocks.add(metadata.inode_table.plus(used), u64::from(geometry.inode_table_blocks()) - used, Held::Zeros);
    }
}

#[derive(Default)]
struct Blocks(MapBuilder);

impl Blocks {
    fn add(&mut self, first: BlockIndex, blocks: u64, held: Held) {
        self.0.add(first.0 * BLOCK_SIZE..(first.0 + blocks) * BLOCK_SIZE, held);
    }

    fn add_run(&mut self, layout: &Layout, run: Run, held: Held) {
        for extent in layout.space.extents(run) {
            self.add(extent.physical, u64::from(extent.blocks), held);
        }
    }
}
