//! The superblock. A reader finds everything else from it. Pure.
//!
//! Source: "Btrfs on-disk format", section on the superblock.

use zerocopy::{FromZeros, IntoBytes};

use super::GENERATION;
use super::csum;
use super::format::{self, NODE_SIZE, RootBackup, SECTOR_SIZE, Superblock, compression, object};
use super::layout::Layout;

/// The superblock as it stands at byte `at` of the partition.
pub fn superblock(layout: &Layout, at: u64) -> Superblock {
    let Layout { parameters, chunks, trees, .. } = layout;
    let (root, chunk_root) = (trees.root(object::ROOT_TREE, chunks), trees.root(object::CHUNK_TREE, chunks));
    let node_size = u32::try_from(NODE_SIZE).expect("16 KiB");
    let sector_size = u32::try_from(SECTOR_SIZE).expect("4 KiB");
    let device = layout.device();
    let mut s = Superblock::new_zeroed();
    s.fsid = parameters.uuid.into_bytes();
    s.bytenr = at.into();
    s.flags = format::FLAG_WRITTEN.into();
    s.magic = format::MAGIC;
    s.generation = GENERATION.into();
    s.root = root.address.0.into();
    s.chunk_root = chunk_root.address.0.into();
    s.total_bytes = layout.size().into();
    s.bytes_used = bytes_used(layout).into();
    s.root_dir_objectid = object::ROOT_TREE_DIR.into();
    s.num_devices = 1.into();
    s.sectorsize = sector_size.into();
    s.nodesize = node_size.into();
    s.leafsize = node_size.into();
    s.stripesize = sector_size.into();
    s.chunk_root_generation = GENERATION.into();
    s.compat_ro_flags = format::FEATURE_COMPAT_RO.into();
    s.incompat_flags = (format::FEATURE_INCOMPAT | compression_feature(parameters.compression)).into();
    (s.root_level, s.chunk_root_level) = (root.level, chunk_root.level);
    s.dev_item = device.item(chunks);
    s.label[..parameters.label.len()].copy_from_slice(parameters.label.as_bytes());
    s.uuid_tree_generation = GENERATION.into();
    let system = device.system_chunks(chunks);
    s.sys_chunk_array[..system.len()].copy_from_slice(&system);
    s.sys_chunk_array_size = u32::try_from(system.len()).expect("one chunk").into();
    s.super_roots[0] = backup(layout);
    s.csum = csum::field(csum::of_block(&s.as_bytes()[size_of_val(&s.csum)..]));
    s
}

fn bytes_used(layout: &Layout) -> u64 {
    layout.chunks.iter().map(|chunk| chunk.used).sum()
}

/// What a reader has to know because of the compression.
fn compression_feature(method: u8) -> u64 {
    match method {
        compression::LZO => format::FEATURE_COMPRESS_LZO,
        compression::ZSTD => format::FEATURE_COMPRESS_ZSTD,
        _ => 0,
    }
}

/// The present state, for a kernel that finds the superblock's own roots damaged.
fn backup(layout: &Layout) -> RootBackup {
    let root = |owner| layout.trees.root(owner, &layout.chunks);
    let generation = GENERATION.into();
    let [tree, chunk, extent] = [object::ROOT_TREE, object::CHUNK_TREE, object::EXTENT_TREE].map(root);
    let [files, device, checksums] = [object::FS_TREE, object::DEV_TREE, object::CSUM_TREE].map(root);
    RootBackup {
        tree_root: tree.address.0.into(),
        tree_root_gen: generation,
        chunk_root: chunk.address.0.into(),
        chunk_root_gen: generation,
        extent_root: extent.address.0.into(),
        extent_root_gen: generation,
        fs_root: files.address.0.into(),
        fs_root_gen: generation,
        dev_root: device.address.0.into(),
        dev_root_gen: generation,
        csum_root: checksums.address.0.into(),
        csum_root_gen: generation,
        total_bytes: layout.size().into(),
        bytes_used: bytes_used(layout).into(),
        num_devices: 1.into(),
        tree_root_level: tree.level,
        chunk_root_level: chunk.level,
        extent_root_level: extent.level,
        fs_root_level: files.level,
        dev_root_level: device.level,
        csum_root_level: checksums.level,
        ..RootBackup::default()
    }
}
