//! The blocks of a directory and the entries in them.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/directory.rst`.

use super::super::checksum::Checksum;
use super::super::format::{self, DIRECTORY_TAIL_TYPE, DirectoryEntry, DirectoryTail, HtreeCount, HtreeTail, incompat};
use super::{Disk, Inode, Mapping, Shape, Sums, parse};
use crate::read::ReadError;

/// Bytes of an entry before its name.
const HEAD: usize = 8;
/// Where the counts of an htree root stand: after `.`, `..` and the root info.
pub(in crate::ext4) const ROOT_COUNTS: usize = 32;
/// Where the counts of an inner htree node stand: after an unused entry.
pub(in crate::ext4) const NODE_COUNTS: usize = 8;

/// What a block of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ext4) enum BlockKind {
    /// Entries.
    Leaf,
    /// The root of an htree, which looks like a leaf with `.` and `..`.
    Root,
    /// A node between root and leaves, which looks like a leaf with one unused entry.
    Node,
}

/// An entry in use or not.
#[derive(Clone, Copy, Debug)]
pub(in crate::ext4) struct RawEntry<'a> {
    /// Its place in the block.
    pub(in crate::ext4) at: usize,
    /// 0: not in use.
    pub(in crate::ext4) inode: u32,
    pub(in crate::ext4) file_type: u8,
    pub(in crate::ext4) name: &'a [u8],
}

/// The entries of a block, up to the first that cannot be one.
pub(in crate::ext4) struct Entries<'a> {
    block: &'a [u8],
    at: usize,
    inodes: u32,
    has_types: bool,
}

impl Shape {
    /// The entries of a block of a directory.
    pub(in crate::ext4) fn entries<'a>(&self, block: &'a [u8]) -> Entries<'a> {
        Entries { block, at: 0, inodes: self.inodes, has_types: self.has_incompat(incompat::FILETYPE) }
    }

    /// What block `logical` of a directory is.
    pub(in crate::ext4) fn block_kind(&self, directory: &Inode, logical: u64, block: &[u8]) -> BlockKind {
        if !directory.has(format::INODE_INDEX) {
            return BlockKind::Leaf;
        }
        match parse::<DirectoryEntry>(block) {
            _ if logical == 0 => BlockKind::Root,
            Some(first) if first.inode.get() == 0 && record_len(first.rec_len.get(), block.len()) == block.len() => {
                BlockKind::Node
            }
            _ => BlockKind::Leaf,
        }
    }

    /// What is wrong with a block's checksum.
    pub(in crate::ext4) fn directory_sum_problem(
        &self,
        directory: &Inode,
        kind: BlockKind,
        block: &[u8],
    ) -> Option<&'static str> {
        if self.sums != Sums::Crc32c {
            return None;
        }
        let owner = self.owner(directory.number, directory.on_disk.generation.get());
        let agrees = match kind {
            BlockKind::Leaf => leaf_sum_agrees(owner, block),
            BlockKind::Root => node_sum_agrees(owner, block, ROOT_COUNTS),
            BlockKind::Node => node_sum_agrees(owner, block, NODE_COUNTS),
        };
        match agrees {
            Some(true) => None,
            Some(false) => Some("has a wrong checksum"),
            None => Some("has no place for its checksum"),
        }
    }
}

/// The counts of an htree node, if they can be.
pub(in crate::ext4) fn htree_counts(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let counts: HtreeCount = parse(block.get(at..)?)?;
    let (limit, count) = (usize::from(counts.limit.get()), usize::from(counts.count.get()));
    let end = at.checked_add(limit.checked_mul(8)?)?;
    (1 <= count && count <= limit && end <= block.len()).then_some((limit, count))
}

fn leaf_sum_agrees(owner: Checksum, block: &[u8]) -> Option<bool> {
    let (summed, tail) = block.split_at_checked(block.len().checked_sub(size_of::<DirectoryTail>())?)?;
    let tail: DirectoryTail = parse(tail)?;
    let is_tail = tail.reserved_zero1.get() == 0 && tail.rec_len.get() == 12 && tail.reserved_ft == DIRECTORY_TAIL_TYPE;
    is_tail.then(|| owner.with(summed).value() == tail.checksum.get())
}

fn node_sum_agrees(owner: Checksum, block: &[u8], at: usize) -> Option<bool> {
    let (limit, count) = htree_counts(block, at)?;
    let tail: HtreeTail = parse(block.get(at.checked_add(limit.checked_mul(8)?)?..)?)?;
    let summed = block.get(..at.checked_add(count.checked_mul(8)?)?)?;
    let sum = owner.with(summed).with(&tail.reserved.get().to_le_bytes()).with(&[0; 4]);
    Some(sum.value() == tail.checksum.get())
}

/// The length of an entry: of 64 KiB, two bits more than the field has are kept in its lowest.
fn record_len(raw: u16, block_len: usize) -> usize {
    match usize::from(raw) {
        0 | 0xffff if block_len == 1 << 16 => block_len,
        raw if block_len == 1 << 16 => raw & !3 | (raw & 3) << 16,
        raw => raw,
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.block.get(at..).filter(|rest| !rest.is_empty())?;
        let entry = self.entry(at, rest);
        if entry.is_err() {
            self.at = self.block.len();
        }
        Some(entry)
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self, at: usize, rest: &'a [u8]) -> Result<RawEntry<'a>, String> {
        let head: DirectoryEntry = parse(rest).ok_or_else(|| format!("the entry at byte {at} has no room"))?;
        let len = record_len(head.rec_len.get(), self.block.len());
        let name_len = usize::from(head.name_len);
        let inode = head.inode.get();
        let needed = if inode == 0 { HEAD } else { HEAD.saturating_add(name_len) };
        if len < needed || len > rest.len() || !len.is_multiple_of(4) {
            return Err(format!("the entry at byte {at} is {len} bytes long for a name of {name_len}"));
        }
        if inode > self.inodes {
            return Err(format!("the entry at byte {at} leads to inode {inode}, which does not exist"));
        }
        self.at = at.saturating_add(len);
        let name = if inode == 0 { &[] } else { rest.get(HEAD..needed).unwrap_or_default() };
        Ok(RawEntry { at, inode, file_type: if self.has_types { head.file_type } else { 0 }, name })
    }
}

/// What is wrong with a name.
pub(in crate::ext4) fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        [] => Some("an empty name"),
        _ if name.contains(&0) => Some("a name with a NUL"),
        _ if name.contains(&b'/') => Some("a name with a slash"),
        _ => None,
    }
}

impl Disk<'_> {
    /// Calls `visit` with each block of a directory and its number in it, in order. The kernel reads them whether the map
    /// says that they were written or not.
    pub(in crate::ext4) fn directory_blocks(
        &self,
        mapping: &Mapping,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        for run in &mapping.runs {
            for (logical, physical) in (run.logical..run.end()).zip(run.physical..) {
                visit(logical, &self.read_block(physical)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_entries_are_those_of_large_blocks_too() {
        assert_eq!([record_len(12, 4096), record_len(4096, 4096)], [12, 4096]);
        assert_eq!(
            [record_len(12, 1 << 16), record_len(0, 1 << 16), record_len(0xffff, 1 << 16)],
            [12, 65_536, 65_536]
        );
    }

    /// One entry that the block ends within, one that is too short for its name, one that leads nowhere.
    #[test]
    fn entries_end_with_the_first_that_cannot_be() {
        let entries = |block: &[u8]| -> Vec<Result<u32, String>> {
            let entries = Entries { block, at: 0, inodes: 20, has_types: true };
            entries.take(9).map(|entry| entry.map(|entry| entry.inode)).collect()
        };
        let good = [&[12u8, 0, 0, 0, 12, 0, 1, 2, b'a', 0, 0, 0][..]].concat();
        assert_eq!(entries(&good), [Ok(12)]);
        for bad in [
            &[12u8, 0, 0, 0, 16, 0, 1, 2, b'a', 0, 0, 0][..],
            &[12, 0, 0, 0, 8, 0, 1, 2],
            &[21, 0, 0, 0, 8, 0, 0, 0],
            &[1, 0],
        ] {
            let found = entries(&[&good[..], bad].concat());
            assert!(matches!(found[..], [Ok(12), Err(_)]), "{found:?}");
        }
    }
}
