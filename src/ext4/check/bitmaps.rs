//! Compares bitmaps and counts with what was found, and checks the journal.

use super::inodes::bit;
use super::{Checker, Subject};
use crate::ext4::format::{self, GROUP_BLOCK_UNINIT, GROUP_INODE_UNINIT, compat};
use crate::ext4::volume::replay::Journal;
use crate::ext4::volume::{Descriptor, Sums};
use crate::read::ReadError;

impl Checker<'_> {
    /// The bitmaps and counts of all groups, and the superblock's own.
    pub(super) fn check_bitmaps(&mut self) -> Result<(), ReadError> {
        for group in 0..self.shape().groups {
            let Some(descriptor) = self.disk.descriptor(group).copied() else { continue };
            self.check_block_bitmap(group, &descriptor)?;
            self.check_inode_bitmap(group, &descriptor)?;
        }
        self.check_attribute_counts();
        self.check_totals();
        Ok(())
    }

    fn check_totals(&mut self) {
        let s = &self.shape().superblock;
        let blocks = u64::from(s.free_blocks_count_hi.get()) << 32 | u64::from(s.free_blocks_count_lo.get());
        let counts =
            [("blocks", blocks, self.free_blocks), ("inodes", s.free_inodes_count.get().into(), self.free_inodes)];
        // Kernels bring these up to date only as they unmount.
        let counts = counts.into_iter().filter(|_| !self.needs_recovery()).collect::<Vec<_>>();
        for (what, said, free) in counts.into_iter().filter(|(_, said, free)| said != free) {
            self.tell(Subject::Superblock, format!("says {said} free {what}, but there are {free}"));
        }
    }

    fn check_block_bitmap(&mut self, group: u32, descriptor: &Descriptor) -> Result<(), ReadError> {
        let shape = self.shape();
        let blocks = shape.group_blocks(group);
        let free = blocks.end.saturating_sub(blocks.start).saturating_sub(self.claims.count(blocks.clone()));
        self.free_blocks = self.free_blocks.saturating_add(free);
        if u64::from(descriptor.free_blocks) != free {
            let said = descriptor.free_blocks;
            self.tell(Subject::Group(group), format!("its descriptor says {said} free blocks, but there are {free}"));
        }
        if descriptor.flags & GROUP_BLOCK_UNINIT != 0 || !shape.holds(descriptor.block_bitmap, 1) {
            return Ok(());
        }
        let bitmap = self.disk.read_block(descriptor.block_bitmap)?;
        self.check_bitmap_sum(group, "block", (&bitmap, shape.blocks_per_group), descriptor.sums[0]);
        let mut found = Differences::default();
        for (index, block) in (0..).zip(blocks.clone()) {
            found.compare(block, bit(&bitmap, index), self.claims.contains(block));
        }
        self.tell_differences(group, "block", found);
        let count = u32::try_from(blocks.end.saturating_sub(blocks.start)).unwrap_or(u32::MAX);
        self.check_padding(group, "block", &bitmap, count);
        Ok(())
    }

    fn check_inode_bitmap(&mut self, group: u32, descriptor: &Descriptor) -> Result<(), ReadError> {
        let shape = self.shape();
        let per_group = shape.inodes_per_group;
        let base = group.saturating_mul(per_group).saturating_add(1);
        let in_use = |number: u32| self.seen(number).kind != 0 || number < shape.first_inode;
        let numbers = base..base.saturating_add(per_group);
        if group > 0 && descriptor.flags & GROUP_INODE_UNINIT != 0 && self.inodes.are_unknown(numbers.clone()) {
            self.check_unused_inodes(group, descriptor);
            return Ok(());
        }
        let used = numbers.clone().filter(|&number| in_use(number)).count() as u64;
        let directories = numbers.clone().filter(|&n| self.seen(n).kind == format::TYPE_DIRECTORY).count() as u64;
        let free = u64::from(per_group).saturating_sub(used);
        let bitmap = self.inode_bitmap(group)?;
        let mut found = Differences::default();
        for (index, number) in (0..).zip(numbers) {
            found.compare(number.into(), bit(&bitmap, index), in_use(number));
        }
        self.check_inode_counts(group, descriptor, free, directories);
        if shape.holds(descriptor.inode_bitmap, 1) {
            self.tell_differences(group, "inode", found);
            if descriptor.flags & GROUP_INODE_UNINIT == 0 {
                self.check_bitmap_sum(group, "inode", (&bitmap, per_group), descriptor.sums[1]);
                self.check_padding(group, "inode", &bitmap, per_group);
            }
        }
        Ok(())
    }

    /// A group none of whose inodes was ever used, so that it has no bitmap either.
    fn check_unused_inodes(&mut self, group: u32, descriptor: &Descriptor) {
        self.check_inode_counts(group, descriptor, self.shape().inodes_per_group.into(), 0);
    }

    fn check_inode_counts(&mut self, group: u32, descriptor: &Descriptor, free: u64, directories: u64) {
        self.free_inodes = self.free_inodes.saturating_add(free);
        for (what, said, is) in
            [("free inodes", descriptor.free_inodes, free), ("directories", descriptor.directories, directories)]
        {
            if u64::from(said) != is {
                self.tell(Subject::Group(group), format!("its descriptor says {said} {what}, but there are {is}"));
            }
        }
    }

    fn check_bitmap_sum(&mut self, group: u32, what: &str, (bitmap, bits): (&[u8], u32), said: u32) {
        let summed = usize::try_from(bits / 8).ok().and_then(|len| bitmap.get(..len)).unwrap_or_default();
        let sum = self.shape().seed.with(summed).value();
        // Short descriptors keep only half of it.
        let sum = if self.shape().descriptor_size < 64 { sum & 0xffff } else { sum };
        if self.shape().sums == Sums::Crc32c && sum != said {
            self.tell(Subject::Group(group), format!("its {what} bitmap has a wrong checksum"));
        }
    }

    /// Bits past the last block or inode of the group are set.
    fn check_padding(&mut self, group: u32, what: &str, bitmap: &[u8], used: u32) {
        let bits = u32::try_from(bitmap.len()).unwrap_or(0).saturating_mul(8);
        if (used..bits).any(|index| !bit(bitmap, index)) {
            self.tell(Subject::Group(group), format!("its {what} bitmap has clear bits past the group's end"));
        }
    }

    fn tell_differences(&mut self, group: u32, what: &str, found: Differences) {
        for (range, marked) in found.ranges {
            let which = match (range.start(), range.end()) {
                (first, last) if first == last => format!("{what} {first} is"),
                (first, last) => format!("{what}s {first} to {last} are"),
            };
            let why = if marked { "marked in use, but nothing uses" } else { "in use, but marked free" };
            let it = if !marked {
                ""
            } else if range.start() == range.end() {
                " it"
            } else {
                " them"
            };
            self.tell(Subject::Group(group), format!("{which} {why}{it}"));
        }
    }

    /// Blocks of attributes know how many inodes share them.
    fn check_attribute_counts(&mut self) {
        for (block, (said, used)) in std::mem::take(&mut self.attributes) {
            if said != used {
                let why = format!("holds the attributes of {used} inodes, but says {said}");
                self.tell(Subject::Block(block), why);
            }
        }
    }

    /// The journal, as far as it is not contents.
    pub(super) fn check_journal(&mut self) -> Result<(), ReadError> {
        let shape = self.shape();
        if !shape.has_compat(compat::HAS_JOURNAL) || shape.superblock.journal_inum.get() == 0 {
            return Ok(());
        }
        if !shape.superblock.jnl_blocks.iter().all(|word| word.get() == 0) {
            self.check_journal_backup()?;
        }
        match Journal::open(self.disk) {
            Err(ReadError::Corrupt(fault)) => self.tell(Subject::Journal, fault.why),
            Err(error) => return Err(error),
            Ok(journal) => {
                if !journal.intact() {
                    self.tell(Subject::Journal, "its superblock has a wrong checksum");
                }
                if journal.superblock.start.get() != 0 && !self.needs_recovery() {
                    self.tell(Subject::Journal, "it is not empty, but the superblock does not ask for a replay");
                }
                if journal.superblock.errno.get() != 0 {
                    self.tell(Subject::Journal, format!("it notes the error {}", journal.superblock.errno.get()));
                }
            }
        }
        Ok(())
    }

    /// The superblock keeps a copy of the journal's map.
    fn check_journal_backup(&mut self) -> Result<(), ReadError> {
        let superblock = &self.shape().superblock;
        let inode = self.disk.inode(superblock.journal_inum.get())?;
        let words = inode.on_disk.block.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let size = [inode.on_disk.size_high.get(), inode.on_disk.size_lo.get()];
        let kept = superblock.jnl_blocks.iter().map(|word| word.get());
        if superblock.jnl_backup_type == format::JOURNAL_BACKUP_BLOCKS && !kept.eq(words.chain(size)) {
            self.tell(Subject::Superblock, "its copy of the journal's map differs from the journal's inode");
        }
        Ok(())
    }
}

/// Where marks and use differ: ranges, and whether they are marked.
#[derive(Default)]
struct Differences {
    ranges: Vec<(std::ops::RangeInclusive<u64>, bool)>,
}

impl Differences {
    fn compare(&mut self, number: u64, marked: bool, used: bool) {
        if marked == used {
            return;
        }
        match self.ranges.last_mut() {
            Some((range, was)) if *was == marked && range.end().checked_add(1) == Some(number) => {
                *range = *range.start()..=number;
            }
            _ => self.ranges.push((number..=number, marked)),
        }
    }
}
