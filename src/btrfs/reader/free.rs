//! The free bytes of a btrfs: those bytes of the device that are in no copy of any extent. Nobody reads them before
//! writing them.
//!
//! The extent tree says what is in use. It must agree with the block groups and the superblock about the sum; otherwise
//! nothing counts as free. Superblocks, and everything before the first possible chunk, are never free.

use std::collections::BTreeMap;
use std::ops::Range;

use zerocopy::FromBytes;

use super::Reader;
use crate::btrfs::format::{BlockGroupItem, DEVICE_RESERVED, SUPERBLOCK_OFFSETS, Superblock, kind, object};
use crate::btrfs::tree::Key;
use crate::read::ranges::{self, Used};
use crate::read::{Bytes, ReadError};

impl<B: Bytes> Reader<B> {
    /// The free ranges; none if there is a log, which a mount replays.
    pub(super) fn free_ranges(&self) -> Result<Vec<Range<u64>>, ReadError> {
        let superblock = &self.disk.superblock;
        if superblock.log_root.get() != 0 {
            return Ok(Vec::new());
        }
        let size = superblock.total_bytes.get().min(superblock.dev_item.total_bytes.get()).min(self.disk.bytes.len());
        let at = |start: u64, len: u64| start..start.saturating_add(len);
        let mut used = Vec::from(SUPERBLOCK_OFFSETS.map(|start| at(start, size_of::<Superblock>() as u64)));
        used.push(0..DEVICE_RESERVED);
        let extents = self.extents()?;
        for chunk in &self.disk.chunks {
            let first = extents.list().partition_point(|extent| extent.end <= chunk.start);
            for extent in extents.list().iter().skip(first).take_while(|extent| extent.start < chunk.end()) {
                let (start, end) = (extent.start.max(chunk.start), extent.end.min(chunk.end()));
                let (within, len) = (start.saturating_sub(chunk.start), end.saturating_sub(start));
                used.extend(chunk.copies.iter().map(|copy| at(copy.saturating_add(within), len)));
            }
        }
        Ok(ranges::gaps(&ranges::union(used), 0..size))
    }

    /// The logical addresses that are in use.
    fn extents(&self) -> Result<Used, ReadError> {
        let (mut extents, mut at) = (Used::default(), 0);
        let mut by_chunk: BTreeMap<u64, u64> = BTreeMap::new();
        self.visit(object::EXTENT_TREE, Key::default(), &mut |key, _| {
            let len = match key.kind {
                kind::EXTENT_ITEM => key.offset,
                kind::METADATA_ITEM => self.disk.node_size() as u64,
                _ => return Ok(true),
            };
            let corrupt = |why: &str| ReadError::corrupt(format!("extent {}", key.objectid), why);
            let chunk = self.disk.chunk_of(key.objectid, len).ok_or_else(|| corrupt("is in no chunk"))?;
            if key.objectid < at || len == 0 {
                return Err(corrupt("overlaps another one, or has no bytes"));
            }
            at = key.objectid.saturating_add(len);
            extents.add(key.objectid..at);
            let sum = by_chunk.entry(chunk.start).or_default();
            *sum = sum.saturating_add(len);
            Ok(true)
        })?;
        self.check_sums(&by_chunk)?;
        Ok(extents)
    }

    /// Checks that the block groups and the superblock agree on how much is used.
    fn check_sums(&self, by_chunk: &BTreeMap<u64, u64>) -> Result<(), ReadError> {
        let mut all = 0_u64;
        for chunk in &self.disk.chunks {
            let found = by_chunk.get(&chunk.start).copied().unwrap_or(0);
            all = all.saturating_add(found);
            let key = Key::new(chunk.start, kind::BLOCK_GROUP_ITEM, chunk.len);
            let item = self.item(self.group_tree(), key)?;
            let item = item.and_then(|item| BlockGroupItem::read_from_bytes(&item).ok());
            let said = item.map(|item| item.used.get());
            if said != Some(found) {
                let why = format!("does not say that {found} bytes are used, but extents use them");
                return Err(ReadError::corrupt(format!("block group {}", chunk.start), why));
            }
        }
        let said = self.disk.superblock.bytes_used.get();
        if said == all {
            return Ok(());
        }
        Err(ReadError::corrupt("superblock", format!("says that {said} bytes are used, but {all} are")))
    }
}
