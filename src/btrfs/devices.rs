//! The items that map logical addresses to the device and back. Pure.
//!
//! Source: "Btrfs on-disk format", sections on the chunk tree and the device tree.

use uuid::Uuid;
use zerocopy::IntoBytes;

use super::files::{join, put_struct};
use super::format::{ChunkItem, DevExtent, DevItem, DiskKey, SECTOR_SIZE, STRIPE_LEN, Stripe, group, kind, object};
use super::space::{Chunk, Chunks};
use super::tree::{Key, Sink};

/// The identifier of the one device.
const DEVICE: u64 = 1;

/// The identities of a device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The filesystem's UUID.
    pub filesystem: Uuid,
    /// The device's own UUID.
    pub uuid: Uuid,
    /// The chunk tree's UUID.
    pub chunk_tree: Uuid,
    /// Its size in bytes.
    pub size: u64,
}

impl Device {
    /// The device's description, which stands in the superblock too.
    pub fn item(&self, chunks: &Chunks) -> DevItem {
        let sector = u32::try_from(SECTOR_SIZE).expect("4096");
        let used: u64 = chunks.iter().map(|chunk| chunk.len * chunk.copies().count() as u64).sum();
        DevItem {
            devid: DEVICE.into(),
            total_bytes: self.size.into(),
            bytes_used: used.into(),
            io_align: sector.into(),
            io_width: sector.into(),
            sector_size: sector.into(),
            uuid: self.uuid.into_bytes(),
            fsid: self.filesystem.into_bytes(),
            ..DevItem::default()
        }
    }

    /// Puts the items of the chunk tree.
    pub fn put_chunks(&self, sink: &mut impl Sink, chunks: &Chunks) {
        put_struct(sink, Key::new(object::DEV_ITEMS, kind::DEV_ITEM, DEVICE), &self.item(chunks));
        for chunk in chunks.iter() {
            let bytes = self.chunk_item(chunk);
            sink.put(chunk_key(chunk), bytes.len(), |data| data.copy_from_slice(&bytes));
        }
    }

    /// Puts the items of the device tree.
    pub fn put_extents(&self, sink: &mut impl Sink, chunks: &Chunks) {
        let mut extents: Vec<_> = chunks.iter().flat_map(|chunk| chunk.copies().map(|start| (start, *chunk))).collect();
        extents.sort_unstable_by_key(|(start, _)| *start);
        for (start, chunk) in extents {
            let item = DevExtent {
                chunk_tree: object::CHUNK_TREE.into(),
                chunk_objectid: object::FIRST_CHUNK_TREE.into(),
                chunk_offset: chunk.start.0.into(),
                length: chunk.len.into(),
                chunk_tree_uuid: self.chunk_tree.into_bytes(),
            };
            put_struct(sink, Key::new(DEVICE, kind::DEV_EXTENT, start), &item);
        }
    }

    /// The system chunks as the superblock has them, by which a reader finds the chunk tree.
    pub fn system_chunks(&self, chunks: &Chunks) -> Vec<u8> {
        let system = chunks.iter().filter(|chunk| chunk.kind == group::SYSTEM_DUP);
        system.flat_map(|chunk| [chunk_key(chunk).to_disk().as_bytes(), &self.chunk_item(chunk)].concat()).collect()
    }

    fn chunk_item(&self, chunk: &Chunk) -> Vec<u8> {
        let stripes: Vec<_> = chunk.copies().map(|start| self.stripe(start)).collect();
        let stripe_len = u32::try_from(STRIPE_LEN).expect("64 KiB");
        let head = ChunkItem {
            length: chunk.len.into(),
            owner: object::EXTENT_TREE.into(),
            stripe_len: STRIPE_LEN.into(),
            kind: chunk.kind.into(),
            io_align: stripe_len.into(),
            io_width: stripe_len.into(),
            sector_size: u32::try_from(SECTOR_SIZE).expect("4096").into(),
            num_stripes: u16::try_from(stripes.len()).expect("one or two").into(),
            sub_stripes: 1.into(),
        };
        let mut bytes = vec![0; size_of::<ChunkItem>() + stripes.len() * size_of::<Stripe>()];
        join(&mut bytes, head.as_bytes(), stripes.as_bytes());
        bytes
    }

    fn stripe(&self, start: u64) -> Stripe {
        Stripe { devid: DEVICE.into(), offset: start.into(), dev_uuid: self.uuid.into_bytes() }
    }
}

fn chunk_key(chunk: &Chunk) -> Key {
    Key::new(object::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, chunk.start.0)
}

const _: () = assert!(size_of::<DiskKey>() + size_of::<ChunkItem>() + 2 * size_of::<Stripe>() == 129);
