//! Checks the superblock, its copies, and the group descriptors.

use super::{Checker, Owner, Subject};
use crate::ext4::format::{Superblock, compat, incompat, ro_compat};
use crate::ext4::volume::{Descriptor, Shape, Sums};
use crate::read::ReadError;

/// `s_state`: errors were met.
const STATE_ERRORS: u16 = 2;
/// Features that a kernel turns on only in the primary superblock.
const LATE_INCOMPAT: u32 = incompat::RECOVER | incompat::EXTENTS | incompat::EA_INODE;
/// As [`LATE_INCOMPAT`].
const LATE_RO_COMPAT: u32 = ro_compat::LARGE_FILE | ro_compat::DIR_NLINK | ro_compat::ORPHAN_PRESENT;

impl Checker<'_> {
    /// The superblock itself and its copies.
    pub(super) fn check_superblocks(&mut self) -> Result<(), ReadError> {
        let shape = self.shape();
        let primary = &shape.superblock;
        self.check_superblock_sum(Subject::Superblock, primary);
        if self.needs_recovery() {
            let waiting = self.disk.volume.overlay.len();
            let rest = if self.disk.volume.fast_commits {
                "it has fast commits, too, and what they change is not checked; mount it once, or run e2fsck"
            } else {
                "everything else is checked as if they were replayed"
            };
            self.tell(Subject::Journal, format!("was not emptied: {waiting} blocks wait to be replayed; {rest}"));
        }
        let state = primary.state.get();
        if state & 1 == 0 && !self.needs_recovery() {
            self.tell(Subject::Superblock, "the filesystem was not cleanly unmounted");
        }
        if state & STATE_ERRORS != 0 {
            self.tell(Subject::Superblock, "the kernel has met errors in this filesystem");
        }
        for group in (1..shape.groups).filter(|&group| shape.has_superblock(group)) {
            self.check_backup(group)?;
        }
        Ok(())
    }

    fn check_superblock_sum(&mut self, subject: Subject, superblock: &Superblock) {
        let (should, is) = (Shape::superblock_sum(superblock), superblock.checksum.get());
        if self.shape().sums == Sums::Crc32c && should != is {
            self.tell(subject, format!("has the checksum {is:#010x}, should have {should:#010x}"));
        }
    }

    /// A copy must agree in what never changes, and so must the descriptors after it.
    fn check_backup(&mut self, group: u32) -> Result<(), ReadError> {
        let shape = self.shape();
        let backup = self.disk.superblock(group)?;
        let subject = Subject::Backup(group);
        if backup.magic != shape.superblock.magic {
            self.tell(subject, format!("has the magic {:#06x}", backup.magic.get()));
            return Ok(());
        }
        self.check_superblock_sum(subject, &backup);
        for (name, primary, copy) in lasting(&shape.superblock)
            .into_iter()
            .zip(lasting(&backup))
            .map(|((name, primary), (_, copy))| (name, primary, copy))
        {
            if primary != copy {
                self.tell(subject, format!("says {name} {copy}, the superblock {primary}"));
            }
        }
        if backup.uuid != shape.superblock.uuid {
            self.tell(subject, "has another UUID than the superblock");
        }
        self.check_backup_descriptors(group)
    }

    fn check_backup_descriptors(&mut self, group: u32) -> Result<(), ReadError> {
        let shape = self.shape();
        for index in 0..shape.classic_descriptor_blocks() {
            let block = shape.group_start(group).saturating_add(1).saturating_add(index.into());
            if !shape.holds(block, 1) {
                continue;
            }
            let bytes = self.disk.read_block(block)?;
            let first = index.saturating_mul(shape.descriptors_per_block());
            let raw = bytes.chunks_exact(shape.descriptor_size.into());
            for (of, raw) in (first..shape.groups).zip(raw) {
                let copy = shape.descriptor(of, raw);
                if !copy.intact && shape.sums == Sums::Crc32c {
                    self.tell(Subject::Backup(group), format!("its descriptor of group {of} has a wrong checksum"));
                } else if self.disk.descriptor(of).is_some_and(|primary| places(primary) != places(&copy)) {
                    self.tell(Subject::Backup(group), format!("its descriptor of group {of} names other places"));
                }
            }
        }
        Ok(())
    }

    /// The descriptors, and the blocks that the groups' own structures take.
    pub(super) fn check_groups(&mut self) {
        for group in 0..self.shape().groups {
            self.claim_superblock_area(group);
            let Some(descriptor) = self.disk.descriptor(group).copied() else { continue };
            if !descriptor.intact {
                self.tell(Subject::Group(group), "its descriptor has a wrong checksum");
            }
            let table = u64::from(self.shape().table_blocks());
            let places = [
                ("block bitmap", descriptor.block_bitmap, 1, Owner::BlockBitmap(group)),
                ("inode bitmap", descriptor.inode_bitmap, 1, Owner::InodeBitmap(group)),
                ("inode table", descriptor.inode_table, table, Owner::InodeTable(group)),
            ];
            for (what, first, blocks, owner) in places {
                self.claim_group_place(group, what, (first, blocks), owner);
            }
        }
        let mmp = self.shape().superblock.mmp_block.get();
        if self.shape().has_incompat(incompat::MMP) && self.shape().holds(mmp, 1) {
            self.claim(mmp, 1, Owner::Mmp);
        }
    }

    fn claim_group_place(&mut self, group: u32, what: &str, (first, blocks): (u64, u64), owner: Owner) {
        let shape = self.shape();
        let own = shape.group_blocks(group);
        let end = first.saturating_add(blocks);
        if !shape.holds(first, blocks) {
            self.tell(Subject::Group(group), format!("its {what} at block {first} lies outside the filesystem"));
        } else {
            if !shape.has_incompat(incompat::FLEX_BG) && (first < own.start || end > own.end) {
                self.tell(Subject::Group(group), format!("its {what} at block {first} lies outside the group"));
            }
            self.claim(first, blocks, owner);
        }
    }

    fn claim_superblock_area(&mut self, group: u32) {
        let shape = self.shape();
        let start = shape.group_start(group);
        let has_superblock = shape.has_superblock(group);
        if has_superblock {
            self.claim(start, 1, Owner::Superblock(group));
            // The resize inode owns the blocks kept for more descriptors.
            let reserved = if shape.has_compat(compat::RESIZE_INODE) {
                0
            } else {
                u64::from(shape.superblock.reserved_gdt_blocks.get())
            };
            let blocks = u64::from(shape.classic_descriptor_blocks()).saturating_add(reserved);
            self.claim(start.saturating_add(1), blocks, Owner::Descriptors(group));
        }
        // Under meta_bg the first, second and last group of as many as a block describes hold that block.
        let per_block = shape.descriptors_per_block();
        let (index, place) = (group.checked_div(per_block).unwrap_or(0), group.checked_rem(per_block).unwrap_or(0));
        let holds_copy = place <= 1 || place.saturating_add(1) == per_block;
        if index >= shape.classic_descriptor_blocks() && holds_copy {
            self.claim(start.saturating_add(has_superblock.into()), 1, Owner::Descriptors(group));
        }
    }
}

/// The fields that no use of the filesystem changes.
fn lasting(s: &Superblock) -> [(&'static str, u64); 10] {
    [
        ("block count", u64::from(s.blocks_count_hi.get()) << 32 | u64::from(s.blocks_count_lo.get())),
        ("inode count", s.inodes_count.get().into()),
        ("block size", s.log_block_size.get().into()),
        ("blocks per group", s.blocks_per_group.get().into()),
        ("inodes per group", s.inodes_per_group.get().into()),
        ("inode size", s.inode_size.get().into()),
        ("first inode", s.first_ino.get().into()),
        ("descriptor size", s.desc_size.get().into()),
        ("incompat features", (s.feature_incompat.get() & !LATE_INCOMPAT).into()),
        ("ro_compat features", (s.feature_ro_compat.get() & !LATE_RO_COMPAT).into()),
    ]
}

fn places(descriptor: &Descriptor) -> [u64; 3] {
    [descriptor.block_bitmap, descriptor.inode_bitmap, descriptor.inode_table]
}
