//! The blocks that are in use. If two owners claim one block, both are found.

use std::collections::BTreeMap;

use super::faults::MOST;

/// At most this many owners of a block are reported.
const MOST_OWNERS: usize = 8;

/// Who claims a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The superblock, or its copy, of a group.
    Superblock(u32),
    /// The descriptors, or their copy, in a group.
    Descriptors(u32),
    /// The block bitmap of a group.
    BlockBitmap(u32),
    /// The inode bitmap of a group.
    InodeBitmap(u32),
    /// The inode table of a group.
    InodeTable(u32),
    /// The block that guards against mounting twice.
    Mmp,
    /// An inode: contents, map or attributes.
    Inode(u32),
}

/// A bit for each block, and the blocks that were claimed again.
#[derive(Debug)]
pub(super) struct Claims {
    bits: Vec<u64>,
    /// The owners of blocks that were claimed again; all of them once they are looked for.
    twice: BTreeMap<u64, Vec<Owner>>,
    /// Whether owners of the blocks in `twice` are looked for, and nothing is claimed any more.
    looking: bool,
}

impl Claims {
    pub(super) fn new(blocks: u64) -> Self {
        let words = usize::try_from(blocks.div_ceil(64)).unwrap_or(0);
        Self { bits: vec![0; words], twice: BTreeMap::new(), looking: false }
    }

    /// Claims blocks for `owner`; returns whether they were all free.
    pub(super) fn claim(&mut self, first: u64, blocks: u64, owner: Owner) -> bool {
        let end = first.saturating_add(blocks);
        if self.looking {
            let owners = self.twice.range_mut(first..end).map(|(_, owners)| owners);
            owners.filter(|owners| owners.len() < MOST_OWNERS).for_each(|owners| owners.push(owner));
            return true;
        }
        let mut free = true;
        let mut at = first;
        while at < end {
            let len = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - len)) << (at % 64);
            let Some(word) = self.bits.get_mut(usize::try_from(at / 64).unwrap_or(usize::MAX)) else { return false };
            let again = *word & mask;
            *word |= mask;
            if again != 0 {
                free = false;
                self.claimed_again(at - at % 64, again);
            }
            at += len;
        }
        free
    }

    /// Remembers the blocks of `bits`, counted from `base`.
    fn claimed_again(&mut self, base: u64, bits: u64) {
        for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
            if self.twice.len() < MOST {
                self.twice.entry(base + bit).or_default();
            }
        }
    }

    /// Whether a block is in use.
    pub(super) fn contains(&self, block: u64) -> bool {
        let word = usize::try_from(block / 64).ok().and_then(|index| self.bits.get(index));
        word.is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    /// How many blocks of a range are in use.
    pub(super) fn count(&self, range: std::ops::Range<u64>) -> u64 {
        let mut count = 0;
        let mut at = range.start;
        while at < range.end {
            let len = (64 - at % 64).min(range.end - at);
            let word = usize::try_from(at / 64).ok().and_then(|index| self.bits.get(index)).copied().unwrap_or(0);
            count += u64::from(((word >> (at % 64)) & (u64::MAX >> (64 - len))).count_ones());
            at += len;
        }
        count
    }

    /// Whether any block was claimed twice; from now on owners are looked for.
    pub(super) fn look_for_owners(&mut self) -> bool {
        self.looking = true;
        !self.twice.is_empty()
    }

    /// Whether a block was claimed twice.
    pub(super) fn is_twice(&self, block: u64) -> bool {
        self.twice.contains_key(&block)
    }

    /// The blocks claimed twice, each with its owners.
    pub(super) fn take_twice(&mut self) -> BTreeMap<u64, Vec<Owner>> {
        std::mem::take(&mut self.twice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_twice_is_known_with_its_owners() {
        let mut claims = Claims::new(1000);
        let all = [(0, 1, Owner::Superblock(0)), (60, 200, Owner::Inode(12)), (259, 5, Owner::Inode(13))];
        let free = all.map(|(first, blocks, owner)| claims.claim(first, blocks, owner));
        assert_eq!(free, [true, true, false]);
        assert_eq!(claims.count(0..1000), 1 + 204);
        assert!(!claims.contains(59) && claims.contains(60) && claims.contains(263) && !claims.contains(264));
        assert!(claims.look_for_owners());
        for (first, blocks, owner) in all {
            claims.claim(first, blocks, owner);
        }
        assert_eq!(claims.take_twice(), BTreeMap::from([(259, vec![Owner::Inode(12), Owner::Inode(13)])]));
    }

    #[test]
    fn no_block_past_the_end_is_claimed() {
        let mut claims = Claims::new(100);
        assert!(!claims.claim(127, 2, Owner::Mmp));
        assert!(!claims.claim(u64::MAX - 1, 2, Owner::Mmp));
    }
}
