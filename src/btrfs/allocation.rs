//! The items that say what is in use: extents and block groups, free space, checksums of data. Pure.
//!
//! Source: "Btrfs on-disk format", sections on the extent tree, the free space tree and the checksum tree.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::GENERATION;
use super::files::put_struct;
use super::format::{
    self, BlockGroupItem, DataExtent, ExtentItem, FreeSpaceInfo, Item, MetadataExtent, NODE_BYTES, group, kind, object,
};
use super::placement::Placement;
use super::space::{Chunks, Sector};
use super::tree::{Key, Sink};
use super::trees::Trees;
use super::volume::Volumes;
use crate::source::tree::NodeKind;

/// Checksums in one item: the kernel's limit, which leaves a leaf the room to split such an item in place.
const CHECKSUMS_PER_ITEM: usize = (NODE_BYTES - size_of::<format::Header>() - 2 * size_of::<Item>()) / 4 - 1;

/// Puts the items of the extent tree, by address: block groups, nodes of trees, extents of files.
pub fn put_extents(sink: &mut impl Sink, chunks: &Chunks, trees: &Trees, volumes: &Volumes, placement: &Placement) {
    let mut data = data_extents(volumes, placement).peekable();
    for chunk in chunks.iter() {
        let mut head = Some((Key::new(chunk.start.0, kind::BLOCK_GROUP_ITEM, chunk.len), *chunk));
        let mut put_head = |sink: &mut _, next: Key| {
            // The block group stands between what starts where it does and what starts later.
            if let Some((key, chunk)) = head.take_if(|(key, _)| *key < next) {
                put_block_group(sink, key, chunk.used, chunk.kind);
            }
        };
        match chunk.kind {
            group::DATA => {
                while let Some((key, extent)) = data.next_if(|(key, _)| key.objectid < chunk.end().0) {
                    put_head(sink, key);
                    put_struct(sink, key, &extent);
                }
            }
            _ => trees.nodes_of(chunk.kind, chunks, chunk.start, |address, owner, level| {
                let key = Key::new(address.0, kind::METADATA_ITEM, level.into());
                put_head(sink, key);
                put_struct(sink, key, &metadata_extent(owner));
            }),
        }
        put_head(sink, Key::new(u64::MAX, u8::MAX, u64::MAX));
    }
}

fn put_block_group(sink: &mut impl Sink, key: Key, used: u64, flags: u64) {
    let item =
        BlockGroupItem { used: used.into(), chunk_objectid: object::FIRST_CHUNK_TREE.into(), flags: flags.into() };
    put_struct(sink, key, &item);
}

fn extent_item(flags: u64) -> ExtentItem {
    ExtentItem { refs: 1.into(), generation: GENERATION.into(), flags: flags.into() }
}

fn metadata_extent(owner: u64) -> MetadataExtent {
    let item = extent_item(format::EXTENT_FLAG_TREE_BLOCK);
    MetadataExtent { item, kind: kind::TREE_BLOCK_REF, root: owner.into() }
}

/// The extents of all files, by address.
fn data_extents<'a>(volumes: &'a Volumes, placement: &'a Placement) -> impl Iterator<Item = (Key, DataExtent)> + 'a {
    volumes.tree().nodes().flat_map(move |node| {
        let size = if let NodeKind::File { size } = volumes.tree().kind(node) { size } else { 0 };
        let volume = volumes.around(node);
        placement.extents(node, size).map(move |extent| {
            let item = DataExtent {
                item: extent_item(format::EXTENT_FLAG_DATA),
                kind: kind::EXTENT_DATA_REF,
                root: volume.id.into(),
                objectid: volume.inode(node).into(),
                offset: extent.offset.into(),
                count: 1.into(),
            };
            (Key::new(extent.address.0, kind::EXTENT_ITEM, extent.stored), item)
        })
    })
}

/// Puts the items of the free space tree: what is free is the end of each block group.
pub fn put_free_space(sink: &mut impl Sink, chunks: &Chunks) {
    for chunk in chunks.iter() {
        let free = chunk.len - chunk.used;
        let info = FreeSpaceInfo { extent_count: u32::from(free > 0).into(), flags: 0.into() };
        put_struct(sink, Key::new(chunk.start.0, kind::FREE_SPACE_INFO, chunk.len), &info);
        if free > 0 {
            sink.put(Key::new(chunk.start.plus(chunk.used).0, kind::FREE_SPACE_EXTENT, free), 0, |_| {});
        }
    }
}

/// Puts the items of the checksum tree. `checksum` returns that of each sector.
pub fn put_checksums(sink: &mut impl Sink, placement: &Placement, checksum: &dyn Fn(Sector) -> u32) {
    let mut chunk_start = Sector(0);
    for &used in &placement.used {
        let end = chunk_start.0 + used;
        for first in (chunk_start.0..end).step_by(CHECKSUMS_PER_ITEM) {
            let sectors = first..end.min(first + CHECKSUMS_PER_ITEM as u64);
            let address = placement.space.address(Sector(first));
            let key = Key::new(object::EXTENT_CSUM, kind::EXTENT_CSUM, address.0);
            let count = usize::try_from(sectors.end - first).expect("at most what fits in an item");
            sink.put(key, count * size_of::<u32>(), |data| {
                for (slot, sector) in data.chunks_exact_mut(size_of::<u32>()).zip(sectors) {
                    slot.copy_from_slice(U32::new(checksum(Sector(sector))).as_bytes());
                }
            });
        }
        chunk_start.0 += placement.space.room(chunk_start);
    }
}
