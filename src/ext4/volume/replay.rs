//! The blocks of a journal that was not emptied. A filesystem that was not cleanly unmounted is read as its next mount
//! would leave it.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/journal.rst`. Blocks are replayed up to the last transaction
//! that has a commit block. Blocks that the same or a later transaction revokes are left out.

use std::collections::BTreeMap;

use super::super::checksum::Checksum;
use super::super::format::{
    JOURNAL_BIT64, JOURNAL_COMMIT, JOURNAL_CSUM_V2, JOURNAL_CSUM_V3, JOURNAL_DESCRIPTOR, JOURNAL_FAST_COMMIT,
    JOURNAL_KNOWN, JOURNAL_MAGIC, JOURNAL_REVOKE, JOURNAL_SUPERBLOCK_V1, JOURNAL_SUPERBLOCK_V2, JournalSuperblock,
    TAG_ESCAPE, TAG_LAST, TAG_SAME_UUID,
};
use super::{Disk, Mapping, Overlay, Waiting, parse};
use crate::read::ReadError;

/// Bytes of a journal block's head: magic, type, transaction.
const HEAD: usize = 12;
/// The blocks of the area for fast commits where the superblock does not say.
const DEFAULT_FAST_BLOCKS: u32 = 256;
/// The first two bytes of an area of fast commits that is in use: the tag of its head.
const FAST_COMMIT_HEAD: [u8; 2] = 9u16.to_le_bytes();

pub(in crate::ext4) fn corrupt(why: impl Into<String>) -> ReadError {
    ReadError::corrupt("journal", why)
}

/// The journal of a filesystem.
pub(in crate::ext4) struct Journal {
    pub(in crate::ext4) superblock: JournalSuperblock,
    mapping: Mapping,
    incompat: u32,
    seed: Checksum,
    /// The log's first block and the one after its last.
    log: std::ops::Range<u32>,
}

/// A transaction's blocks: where each belongs, and where in the log it waits.
type Blocks = Vec<(u64, Waiting)>;

/// The blocks that a replay would write, and whether fast commits wait besides, which hold changes in a form of their
/// own.
pub(super) fn overlay(disk: Disk<'_>) -> Result<(Overlay, bool), ReadError> {
    let journal = Journal::open(disk)?;
    if journal.superblock.start.get() == 0 {
        return Ok((Overlay::new(), false));
    }
    journal.replay(disk)
}

impl Journal {
    /// Reads the journal's superblock.
    pub(in crate::ext4) fn open(disk: Disk<'_>) -> Result<Self, ReadError> {
        let number = disk.shape().superblock.journal_inum.get();
        if number == 0 {
            return Err(ReadError::Unsupported("ext4 with its journal on another device".to_owned()));
        }
        let inode = disk.inode(number)?;
        let mapping = disk.map(&inode, &mut |_| true)?;
        if let Some(problem) = mapping.problems.first() {
            return Err(ReadError::corrupt(format!("inode {number} (the journal)"), problem.clone()));
        }
        let first = mapping.runs.first().filter(|run| run.logical == 0 && run.written);
        let block = disk.read_block(first.ok_or_else(|| corrupt("it has no first block"))?.physical)?;
        let superblock: JournalSuperblock = parse(&block).ok_or_else(|| corrupt("it has no superblock"))?;
        let s = &superblock;
        let kind = s.blocktype.get();
        if s.magic.get() != JOURNAL_MAGIC || ![JOURNAL_SUPERBLOCK_V1, JOURNAL_SUPERBLOCK_V2].contains(&kind) {
            return Err(corrupt(format!("its superblock has the magic {:#x} and type {kind}", s.magic.get())));
        }
        let incompat = if kind == JOURNAL_SUPERBLOCK_V1 { 0 } else { superblock.features[1].get() };
        let last = s.maxlen.get();
        let fast = match s.num_fc_blocks.get() {
            _ if incompat & JOURNAL_FAST_COMMIT == 0 => 0,
            0 => DEFAULT_FAST_BLOCKS,
            blocks => blocks,
        };
        let log = s.first.get()..last.saturating_sub(fast);
        if s.blocksize.get() != disk.shape().block_size {
            return Err(corrupt(format!("its blocks have {} bytes", s.blocksize.get())));
        }
        if log.is_empty() || log.start == 0 || u64::from(last) > mapping.end() {
            return Err(corrupt(format!("its log has the blocks {}..{last} of {}", log.start, mapping.end())));
        }
        let seed = Checksum::EMPTY.with(&superblock.uuid);
        Ok(Self { superblock, mapping, incompat, seed, log })
    }

    fn sums(&self) -> bool {
        self.incompat & (JOURNAL_CSUM_V2 | JOURNAL_CSUM_V3) != 0
    }

    /// Whether the superblock's checksum agrees.
    pub(in crate::ext4) fn intact(&self) -> bool {
        use zerocopy::IntoBytes;
        let mut summed = self.superblock.clone();
        summed.checksum = 0.into();
        !self.sums() || Checksum::EMPTY.with(summed.as_bytes()).value() == self.superblock.checksum.get()
    }

    /// The place of a block of the log.
    fn place(&self, block: u32) -> Option<u64> {
        let run = self.mapping.at_or_after(block.into()).filter(|run| run.logical <= block.into())?;
        run.physical.checked_add(u64::from(block).checked_sub(run.logical)?)
    }

    /// The block of the log after this one: the first follows the last.
    fn after(&self, block: u32) -> u32 {
        Some(block.saturating_add(1)).filter(|next| self.log.contains(next)).unwrap_or(self.log.start)
    }

    fn read(&self, disk: Disk<'_>, block: u32) -> Result<Vec<u8>, ReadError> {
        disk.read_block(self.place(block).ok_or_else(|| corrupt(format!("its block {block} has no place")))?)
    }

    fn replay(&self, disk: Disk<'_>) -> Result<(Overlay, bool), ReadError> {
        if self.incompat & !JOURNAL_KNOWN != 0 {
            return Err(ReadError::Unsupported(format!("a journal with the features {:#x}", self.incompat)));
        }
        if !self.log.contains(&self.superblock.start.get()) {
            return Err(corrupt(format!("it starts at its block {}", self.superblock.start.get())));
        }
        let mut scan = Scan { journal: self, disk, written: Blocks::new(), revoked: BTreeMap::new(), steps: 0 };
        let (mut block, mut sequence) = (self.superblock.start.get(), self.superblock.sequence.get());
        let mut committed: Vec<(u32, Blocks)> = Vec::new();
        let mut revoked: BTreeMap<u64, u32> = BTreeMap::new();
        while let Some(next) = scan.transaction(block, sequence)? {
            let number = u32::try_from(committed.len()).unwrap_or(u32::MAX);
            committed.push((number, std::mem::take(&mut scan.written)));
            revoked.extend(std::mem::take(&mut scan.revoked).into_keys().map(|block| (block, number)));
            (block, sequence) = (next, sequence.wrapping_add(1));
        }
        let mut overlay = Overlay::new();
        for (number, blocks) in committed {
            overlay.extend(blocks.into_iter().filter(|(at, _)| revoked.get(at).is_none_or(|&last| last < number)));
        }
        Ok((overlay, self.has_fast_commits(disk, sequence)?))
    }

    /// Whether fast commits follow the last transaction, so that the next one would be `sequence`. Those that an ordinary
    /// commit has overtaken count no more. Their area starts one block after the log's end.
    fn has_fast_commits(&self, disk: Disk<'_>, sequence: u32) -> Result<bool, ReadError> {
        if self.incompat & JOURNAL_FAST_COMMIT == 0 {
            return Ok(false);
        }
        let area = self.read(disk, self.log.end.saturating_add(1))?;
        let transaction = area.get(8..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw));
        Ok(area.starts_with(&FAST_COMMIT_HEAD) && transaction == sequence)
    }
}

/// A transaction as it is read.
struct Scan<'a> {
    journal: &'a Journal,
    disk: Disk<'a>,
    written: Blocks,
    revoked: BTreeMap<u64, ()>,
    /// Blocks of the log that were read: never more than it has.
    steps: u32,
}

impl Scan<'_> {
    /// Reads the transaction that starts at `block`, and returns where the next one starts; `None` if it is not
    /// complete.
    fn transaction(&mut self, mut block: u32, sequence: u32) -> Result<Option<u32>, ReadError> {
        loop {
            let log = &self.journal.log;
            if self.steps >= log.end.saturating_sub(log.start) {
                return Ok(None);
            }
            let bytes = self.journal.read(self.disk, block)?;
            let [magic, kind, number] = [0, 4, 8].map(|at| big_endian(&bytes, at).unwrap_or(0));
            self.steps = self.steps.saturating_add(1);
            if magic != JOURNAL_MAGIC || number != sequence {
                return Ok(None);
            }
            match kind {
                JOURNAL_DESCRIPTOR if self.tail_agrees(&bytes) => match self.descriptor(block, sequence, &bytes)? {
                    Some(next) => block = next,
                    None => return Ok(None),
                },
                JOURNAL_REVOKE if self.tail_agrees(&bytes) => {
                    self.revoke(&bytes);
                    block = self.journal.after(block);
                }
                JOURNAL_COMMIT if self.commit_agrees(&bytes) => return Ok(Some(self.journal.after(block))),
                _ => return Ok(None),
            }
        }
    }

    /// The checksum in the last four bytes of a descriptor or revocation block.
    fn tail_agrees(&self, bytes: &[u8]) -> bool {
        let Some((summed, tail)) = bytes.split_last_chunk::<4>() else { return false };
        !self.journal.sums() || self.journal.seed.with(summed).with(&[0; 4]).value() == u32::from_be_bytes(*tail)
    }

    fn commit_agrees(&self, bytes: &[u8]) -> bool {
        let parts = (bytes.get(..16), big_endian(bytes, 16), bytes.get(20..));
        let (Some(before), Some(sum), Some(after)) = parts else { return false };
        !self.journal.sums() || self.journal.seed.with(before).with(&[0; 4]).with(after).value() == sum
    }

    /// Takes in the blocks that a descriptor block announces; they follow it.
    fn descriptor(&mut self, at: u32, sequence: u32, bytes: &[u8]) -> Result<Option<u32>, ReadError> {
        let end = if self.journal.sums() { bytes.len().saturating_sub(4) } else { bytes.len() };
        let (mut offset, mut block) = (HEAD, self.journal.after(at));
        while let Some(tag) = bytes.get(offset..end).and_then(|rest| self.tag(rest)) {
            self.steps = self.steps.saturating_add(1);
            let place = self.journal.place(block).ok_or_else(|| corrupt("its log has a hole"))?;
            if let Some((sum, mask)) = tag.sum {
                let data = self.disk.read_block(place)?;
                let found = self.journal.seed.with(&sequence.to_be_bytes()).with(&data).value();
                if found & mask != sum {
                    return Ok(None);
                }
            }
            self.written.push((tag.block, Waiting { at: place, escaped: tag.flags & TAG_ESCAPE != 0 }));
            block = self.journal.after(block);
            offset = offset.saturating_add(tag.len);
            if tag.flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(Some(block))
    }

    fn tag(&self, raw: &[u8]) -> Option<Tag> {
        let incompat = self.journal.incompat;
        let wide = incompat & JOURNAL_BIT64 != 0;
        let low = u64::from(big_endian(raw, 0)?);
        let (flags, high, sum, len) = if incompat & JOURNAL_CSUM_V3 != 0 {
            (big_endian(raw, 4)?, big_endian(raw, 8)?, Some((big_endian(raw, 12)?, !0)), 16)
        } else {
            let word = big_endian(raw, 4)?;
            let has_sum = incompat & JOURNAL_CSUM_V2 != 0;
            let high = if wide { big_endian(raw, 8)? } else { 0 };
            let len = if wide { 12 } else { 8 };
            (word & 0xffff, high, has_sum.then_some((word >> 16, 0xffff)), if has_sum { len + 2 } else { len })
        };
        let len: usize = if flags & TAG_SAME_UUID == 0 { len + 16 } else { len };
        let block = if wide { u64::from(high) << 32 | low } else { low };
        Some(Tag { block, flags, sum, len }).filter(|tag| tag.len <= raw.len())
    }

    fn revoke(&mut self, bytes: &[u8]) {
        let used = big_endian(bytes, HEAD).and_then(|used| usize::try_from(used).ok()).unwrap_or(0);
        let list = bytes.get(HEAD + 4..used.min(bytes.len())).unwrap_or_default();
        if self.journal.incompat & JOURNAL_BIT64 == 0 {
            let blocks = list.as_chunks::<4>().0.iter();
            self.revoked.extend(blocks.map(|block| (u32::from_be_bytes(*block).into(), ())));
        } else {
            self.revoked.extend(list.as_chunks::<8>().0.iter().map(|block| (u64::from_be_bytes(*block), ())));
        }
    }
}

/// What a descriptor block says of one block.
struct Tag {
    block: u64,
    flags: u32,
    /// The checksum, and which of its bits there are.
    sum: Option<(u32, u32)>,
    len: usize,
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
