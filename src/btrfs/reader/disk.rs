//! The lowest layer of the reader: the superblock, the chunks, and checked bytes at logical addresses.
//!
//! Source: "Btrfs on-disk format", sections on the superblock, chunks and nodes.

use std::ops::Range;
use std::sync::Arc;

use zerocopy::FromBytes;

use super::node::{Expected, Node};
use crate::btrfs::csum;
use crate::btrfs::format::{
    self, ChunkItem, DiskKey, SUPERBLOCK_OFFSETS, SYS_CHUNK_ARRAY_BYTES, Stripe, Superblock, kind, object,
};
use crate::btrfs::tree::Key;
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

/// The sizes of nodes that the kernel takes, in bytes.
const NODE_SIZES: Range<u32> = 4096..65537;
/// What this reader knows of the features that a reader must know.
const KNOWN_INCOMPAT: u64 = 0x77f;
/// `BTRFS_FEATURE_INCOMPAT_METADATA_UUID`: nodes bear another UUID than the filesystem.
const METADATA_UUID: u64 = 0x400;
/// The profile bits of a chunk (`BTRFS_BLOCK_GROUP_PROFILE_MASK`), besides [`DUP`].
const STRIPED: u64 = 0x7d8;
/// `BTRFS_BLOCK_GROUP_DUP`.
const DUP: u64 = 0x20;

/// A chunk: logical addresses and where their copies are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::btrfs) struct ChunkMap {
    /// Its first logical address.
    pub(in crate::btrfs) start: u64,
    /// Its length in bytes.
    pub(in crate::btrfs) len: u64,
    /// Its type and profile, as [`format::group`] has them.
    pub(in crate::btrfs) kind: u64,
    /// Where on the device each copy starts, in bytes.
    pub(in crate::btrfs) copies: Vec<u64>,
}

impl ChunkMap {
    /// One past its last logical address.
    pub(in crate::btrfs) fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A device with a btrfs, its chunks known.
pub(in crate::btrfs) struct Disk<B> {
    pub(in crate::btrfs) bytes: B,
    pub(in crate::btrfs) superblock: Superblock,
    /// By address; none overlaps another.
    pub(in crate::btrfs) chunks: Vec<ChunkMap>,
}

/// The superblock at one of its places, if it is one.
pub(in crate::btrfs) fn superblock_at(bytes: &dyn Bytes, at: u64) -> Result<Superblock, ReadError> {
    let mut block = [0; size_of::<Superblock>()];
    bytes.read_exact_at(ByteOffset(at), &mut block)?;
    let what = || format!("superblock at byte {at}");
    let superblock = Superblock::read_from_bytes(&block).map_err(|_| ReadError::corrupt(what(), "is cut short"))?;
    if superblock.magic != format::MAGIC {
        return Err(ReadError::corrupt(what(), "has no btrfs magic"));
    }
    if superblock.csum_type.get() != 0 {
        let name = ["crc32c", "xxhash64", "sha256", "blake2b"].get(usize::from(superblock.csum_type.get()));
        let name = name.map_or_else(|| format!("of type {}", superblock.csum_type), ToString::to_string);
        return Err(ReadError::Unsupported(format!("btrfs with checksums {name}; only crc32c is supported")));
    }
    let sum = block.get(size_of_val(&superblock.csum)..).map(csum::of_block);
    if sum.map(csum::field) != Some(superblock.csum) {
        return Err(ReadError::corrupt(what(), "has a wrong checksum"));
    }
    if superblock.bytenr.get() != at {
        return Err(ReadError::corrupt(what(), format!("says that it is at byte {}", superblock.bytenr)));
    }
    Ok(superblock)
}

/// The first superblock that is well, else what is wrong with the primary one.
fn best_superblock(bytes: &dyn Bytes) -> Result<Superblock, ReadError> {
    let primary = superblock_at(bytes, SUPERBLOCK_OFFSETS[0]);
    let Err(error @ ReadError::Corrupt(_)) = primary else { return primary };
    let mirrors = SUPERBLOCK_OFFSETS.iter().skip(1);
    mirrors.filter_map(|&at| superblock_at(bytes, at).ok()).next().ok_or(error)
}

impl<B: Bytes> Disk<B> {
    /// Reads the superblock and the chunk tree.
    pub(in crate::btrfs) fn open(bytes: B) -> Result<Self, ReadError> {
        let superblock = best_superblock(&bytes)?;
        check_geometry(&superblock)?;
        let chunks = system_chunks(&superblock, bytes.len())?;
        let mut disk = Self { bytes, superblock, chunks };
        let mut chunks = Vec::new();
        let root = super::Root {
            owner: object::CHUNK_TREE,
            address: disk.superblock.chunk_root.get(),
            level: disk.superblock.chunk_root_level,
        };
        let from = Key::new(object::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, 0);
        root.visit(&mut |at, expected| disk.node(at, expected).map(Arc::new), from, &mut |key, data| {
            if key.kind == kind::CHUNK_ITEM {
                chunks.push(chunk(key.offset, data, disk.bytes.len())?);
            }
            Ok(true)
        })?;
        if let Some((chunk, _)) = chunks.iter().zip(chunks.iter().skip(1)).find(|(a, b)| a.end() > b.start) {
            return Err(ReadError::corrupt(format!("chunk {}", chunk.start), "overlaps the next one"));
        }
        disk.chunks = chunks;
        Ok(disk)
    }

    /// The size of a node in bytes.
    pub(in crate::btrfs) fn node_size(&self) -> usize {
        usize::try_from(self.superblock.nodesize.get()).unwrap_or(0)
    }

    /// The chunk that holds all of a range of logical addresses.
    pub(in crate::btrfs) fn chunk_of(&self, address: u64, len: u64) -> Option<&ChunkMap> {
        let after = self.chunks.partition_point(|chunk| chunk.start <= address);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        (address.checked_add(len)? <= chunk.end()).then_some(chunk)
    }

    /// Where on the device the copies of a range are.
    pub(in crate::btrfs) fn copies(&self, address: u64, len: u64) -> Result<Vec<u64>, ReadError> {
        let chunk = self.chunk_of(address, len).ok_or_else(|| {
            ReadError::corrupt(format!("address {address}"), format!("no chunk holds the {len} bytes there"))
        })?;
        let within = address.saturating_sub(chunk.start);
        Ok(chunk.copies.iter().map(|copy| copy.saturating_add(within)).collect())
    }

    /// Reads `buf` from the first copy of an address for which `is_well` holds.
    pub(in crate::btrfs) fn read(
        &self,
        address: u64,
        buf: &mut [u8],
        is_well: &dyn Fn(&[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut error = None;
        for copy in self.copies(address, buf.len() as u64)? {
            let read = self.bytes.read_exact_at(ByteOffset(copy), buf).and_then(|()| is_well(buf));
            match read {
                Ok(()) => return Ok(()),
                Err(e) => error = error.or(Some(e)),
            }
        }
        Err(error.unwrap_or_else(|| ReadError::corrupt(format!("address {address}"), "has no copy")))
    }

    /// Reads a node, from its first copy that is well.
    pub(in crate::btrfs) fn node(&self, address: u64, expected: Expected) -> Result<Node, ReadError> {
        let mut bytes = vec![0; self.node_size()];
        self.read(address, &mut bytes, &|bytes| self.check_node(bytes, address, expected))?;
        Ok(Node::new(bytes))
    }

    /// Whether these bytes are the node at an address.
    pub(in crate::btrfs) fn check_node(&self, bytes: &[u8], address: u64, expected: Expected) -> Result<(), ReadError> {
        let uuid = match self.superblock.incompat_flags.get() & METADATA_UUID {
            0 => self.superblock.fsid,
            _ => self.superblock.metadata_uuid,
        };
        super::node::problem(bytes, address, &uuid, expected).map_or(Ok(()), |why| {
            Err(ReadError::corrupt(format!("node {address} of tree {}", super::tree_name(expected.owner)), why))
        })
    }
}

fn check_geometry(superblock: &Superblock) -> Result<(), ReadError> {
    let unsupported = |what: String| Err(ReadError::Unsupported(format!("btrfs with {what}")));
    let unknown = superblock.incompat_flags.get() & !KNOWN_INCOMPAT;
    if unknown != 0 {
        return unsupported(format!("the features {}", super::features::names(unknown, 0).join(", ")));
    }
    if superblock.num_devices.get() != 1 {
        return unsupported(format!("{} devices", superblock.num_devices));
    }
    if u64::from(superblock.sectorsize.get()) != format::SECTOR_SIZE {
        return unsupported(format!("sectors of {} bytes", superblock.sectorsize));
    }
    let node_size = superblock.nodesize.get();
    if !NODE_SIZES.contains(&node_size) || !node_size.is_power_of_two() {
        return Err(ReadError::corrupt("superblock", format!("has nodes of {node_size} bytes")));
    }
    Ok(())
}

/// The chunks that hold the chunk tree, from the superblock.
fn system_chunks(superblock: &Superblock, device: u64) -> Result<Vec<ChunkMap>, ReadError> {
    let cut = || ReadError::corrupt("superblock", "has system chunks that are cut short");
    let len = usize::try_from(superblock.sys_chunk_array_size.get()).unwrap_or(usize::MAX);
    if len > SYS_CHUNK_ARRAY_BYTES {
        return Err(cut());
    }
    let mut rest = superblock.sys_chunk_array.get(..len).ok_or_else(cut)?;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (key, data) = DiskKey::read_from_prefix(rest).map_err(|_| cut())?;
        let (head, _) = ChunkItem::read_from_prefix(data).map_err(|_| cut())?;
        let stripes = usize::from(head.num_stripes.get()).saturating_mul(size_of::<Stripe>());
        let len = size_of::<ChunkItem>().saturating_add(stripes);
        chunks.push(chunk(key.offset.get(), data.get(..len).ok_or_else(cut)?, device)?);
        rest = data.get(len..).ok_or_else(cut)?;
    }
    chunks.sort_unstable_by_key(|chunk| chunk.start);
    Ok(chunks)
}

/// A chunk from its item.
fn chunk(start: u64, data: &[u8], device: u64) -> Result<ChunkMap, ReadError> {
    let what = || format!("chunk {start}");
    let corrupt = |why: &str| ReadError::corrupt(what(), why);
    let (head, rest) = ChunkItem::read_from_prefix(data).map_err(|_| corrupt("is cut short"))?;
    let (kind, len) = (head.kind.get(), head.length.get());
    if kind & STRIPED != 0 {
        return Err(ReadError::Unsupported(format!("{}: profile {:#x}, for several devices", what(), kind & STRIPED)));
    }
    let copies = if kind & DUP == 0 { 1 } else { 2 };
    if usize::from(head.num_stripes.get()) != copies {
        return Err(corrupt("has another number of copies than its profile"));
    }
    let stripes = <[Stripe]>::ref_from_prefix_with_elems(rest, copies).map_err(|_| corrupt("is cut short"))?;
    let copies: Vec<u64> = stripes.0.iter().map(|stripe| stripe.offset.get()).collect();
    let is_inside = |copy: &u64| copy.checked_add(len).is_some_and(|end| end <= device);
    if len == 0 || start.checked_add(len).is_none() || !copies.iter().all(is_inside) {
        return Err(corrupt("ends past the device"));
    }
    Ok(ChunkMap { start, len, kind, copies })
}
