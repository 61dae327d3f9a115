//! Checks inodes one by one: the checksum, the type, the map to their blocks, and the sizes that they state.

use std::collections::BTreeSet;

use super::{Checker, Owner, Subject};
use crate::ext4::format::{self, XATTR_MAGIC, XattrHeader, compat, incompat};
use crate::ext4::volume::{Inode, Mapping, Sums, parse};
use crate::read::ReadError;

/// The inode of bad blocks: no file, but it owns blocks.
const INODE_BAD_BLOCKS: u32 = 1;
/// Bytes of an inode table that are read at once.
const TABLE_STEP: usize = 1 << 16;
/// The longest symbolic link, in bytes.
const LONGEST_LINK: u64 = 4096;

impl Checker<'_> {
    /// All inodes, group by group.
    pub(super) fn check_inodes(&mut self) -> Result<(), ReadError> {
        for group in 0..self.shape().groups {
            let marked = self.inode_bitmap(group)?;
            self.each_inode(group, |checker, inode| {
                let index = inode.number.saturating_sub(1) % checker.shape().inodes_per_group;
                checker.check_inode(inode, bit(&marked, index))
            })?;
        }
        Ok(())
    }

    /// The inode bitmap of a group; empty if no inode of it was ever used.
    pub(super) fn inode_bitmap(&self, group: u32) -> Result<Vec<u8>, ReadError> {
        match self.disk.descriptor(group) {
            Some(descriptor)
                if descriptor.flags & format::GROUP_INODE_UNINIT == 0
                    && self.shape().holds(descriptor.inode_bitmap, 1) =>
            {
                self.disk.read_block(descriptor.inode_bitmap)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Calls `visit` with each inode of a group that may be in use.
    fn each_inode(
        &mut self,
        group: u32,
        mut visit: impl FnMut(&mut Self, &Inode) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let shape = self.shape();
        let Some(descriptor) = self.disk.descriptor(group).copied() else { return Ok(()) };
        let initialised = descriptor.flags & format::GROUP_INODE_UNINIT == 0;
        if !initialised || !shape.holds(descriptor.inode_table, shape.table_blocks().into()) {
            return Ok(());
        }
        let unused = if shape.sums == Sums::None { 0 } else { descriptor.unused_inodes };
        let used = shape.inodes_per_group.saturating_sub(unused);
        let size = usize::from(shape.inode_size);
        let step = u32::try_from(TABLE_STEP / size.max(1)).unwrap_or(1).max(1);
        for first in (0..used).step_by(usize::try_from(step).unwrap_or(1)) {
            let count = step.min(used.saturating_sub(first));
            let mut raw = vec![0; usize::try_from(count).unwrap_or(0).saturating_mul(size)];
            let offset = u64::from(first).saturating_mul(shape.inode_size.into());
            self.disk.read_at(descriptor.inode_table, offset, &mut raw)?;
            let base = group.saturating_mul(shape.inodes_per_group).saturating_add(first).saturating_add(1);
            for (number, raw) in (base..).zip(raw.chunks_exact(size.max(1))) {
                if let Some(inode) = shape.inode(number, raw).filter(|_| raw.iter().any(|&byte| byte != 0)) {
                    visit(self, &inode)?;
                }
            }
        }
        Ok(())
    }

    fn check_inode(&mut self, inode: &Inode, marked: bool) -> Result<(), ReadError> {
        let number = inode.number;
        let subject = Subject::Inode(number);
        let (mode, links) = (inode.on_disk.mode.get(), inode.on_disk.links_count.get());
        let in_use = links > 0 || (marked && mode != 0);
        if !in_use && number != INODE_BAD_BLOCKS {
            return Ok(());
        }
        if !inode.intact && (in_use || mode != 0) {
            self.tell(subject, "has a wrong checksum");
        }
        if number == INODE_BAD_BLOCKS {
            return self.check_map(inode).map(|_| ());
        }
        let Some(kind) = inode.entry_type() else {
            self.tell(subject, format!("has the mode {mode:#o}, which is no type of file"));
            return Ok(());
        };
        if links == 0 && !inode.has(format::INODE_EA) && !self.needs_recovery() {
            self.tell(subject, "is marked in use, but has no links");
        }
        if let Some(seen) = self.seen_mut(number) {
            (seen.kind, seen.links) = (kind, links);
        }
        self.check_contents(inode)?;
        self.check_attributes(inode)
    }

    /// Checks that an inode's map and size fit its kind.
    fn check_contents(&mut self, inode: &Inode) -> Result<(), ReadError> {
        let subject = Subject::Inode(inode.number);
        match inode.kind() {
            format::MODE_REGULAR | format::MODE_DIRECTORY => {}
            format::MODE_SYMLINK if !inode.is_fast_symlink(self.shape()) => {}
            kind => {
                if kind == format::MODE_SYMLINK {
                    self.check_fast_link(inode);
                }
                self.check_sectors(inode, 0);
                return Ok(());
            }
        }
        if inode.has(format::INODE_INLINE_DATA) {
            self.tell(subject, "says that its contents are inline, but the filesystem has no inline contents");
            return Ok(());
        }
        let mapping = self.check_map(inode)?;
        if mapping.problems.is_empty() {
            self.check_sectors(inode, mapping.blocks());
            self.check_size(inode, &mapping);
        }
        Ok(())
    }

    fn check_fast_link(&mut self, inode: &Inode) {
        let target = inode.fast_target();
        if target.is_none_or(|target| target.contains(&0)) {
            let why = format!("is a link with a target of {} bytes, which is not there", inode.size());
            self.tell(Subject::Inode(inode.number), why);
        }
    }

    /// Reads the map and claims what it leads to.
    fn check_map(&mut self, inode: &Inode) -> Result<Mapping, ReadError> {
        let owner = Owner::Inode(inode.number);
        let claims = &mut self.claims;
        let mut free = true;
        let mapping = self.disk.map(inode, &mut |block| {
            let first = claims.claim(block, 1, owner);
            free &= first;
            first
        })?;
        for run in &mapping.runs {
            free &= self.claims.claim(run.physical, run.blocks, owner);
        }
        for problem in &mapping.problems {
            self.tell(Subject::Inode(inode.number), problem.clone());
        }
        if let Some(seen) = self.seen_mut(inode.number) {
            seen.tangled = !free;
        }
        Ok(mapping)
    }

    fn check_sectors(&mut self, inode: &Inode, blocks: u64) {
        // Values of attributes that have inodes of their own count too, in ways that vary.
        if self.shape().has_incompat(incompat::EA_INODE) {
            return;
        }
        let blocks = blocks.saturating_add(u64::from(inode.xattr_block() != 0));
        let sectors = blocks.saturating_mul(u64::from(self.shape().block_size) / format::SECTOR_SIZE);
        let said = inode.sectors(self.shape());
        if said != sectors {
            self.tell(Subject::Inode(inode.number), format!("says that it owns {said} sectors, but owns {sectors}"));
        }
    }

    fn check_size(&mut self, inode: &Inode, mapping: &Mapping) {
        let subject = Subject::Inode(inode.number);
        let (size, unit) = (inode.size(), u64::from(self.shape().block_size));
        let end = mapping.runs.iter().rfind(|run| run.written).map_or(0, |run| run.end());
        if inode.is_directory() {
            let dense = mapping.runs.iter().map(|run| run.blocks).sum::<u64>() == end;
            if !dense || end == 0 || end.saturating_mul(unit) != size {
                self.tell(subject, format!("is a directory of {size} bytes with {end} blocks"));
            }
        } else if inode.number != format::INODE_RESIZE && end > size.div_ceil(unit) {
            self.tell(subject, format!("has {end} blocks of contents, but {size} bytes"));
        } else if inode.kind() == format::MODE_SYMLINK && !(1..=LONGEST_LINK).contains(&size) {
            self.tell(subject, format!("is a link with a target of {size} bytes"));
        }
    }

    /// The block of extended attributes, which inodes may share.
    fn check_attributes(&mut self, inode: &Inode) -> Result<(), ReadError> {
        let block = inode.xattr_block();
        let subject = Subject::Inode(inode.number);
        if block == 0 {
            return Ok(());
        }
        if !self.shape().holds(block, 1) {
            self.tell(subject, format!("has its attributes at block {block}, outside the filesystem"));
            return Ok(());
        }
        if let Some((_, used)) = self.attributes.get_mut(&block) {
            *used = used.saturating_add(1);
            return Ok(());
        }
        self.claim(block, 1, Owner::Inode(inode.number));
        let bytes = self.disk.read_block(block)?;
        let Some(header) = parse::<XattrHeader>(&bytes).filter(|header| header.magic.get() == XATTR_MAGIC) else {
            self.tell(subject, format!("has no attributes at block {block}"));
            return Ok(());
        };
        self.attributes.insert(block, (header.refcount.get(), 1));
        if self.shape().sums == Sums::Crc32c
            && self.shape().attributes_sum(block, &bytes) != Some(header.checksum.get())
        {
            self.tell(subject, format!("has attributes with a wrong checksum at block {block}"));
        }
        Ok(())
    }

    /// Walks all inodes again, to find who else claims the blocks that were claimed twice.
    pub(super) fn claim_again(&mut self) -> Result<(), ReadError> {
        self.check_groups();
        let (mut entered, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        for group in 0..self.shape().groups {
            self.each_inode(group, |checker, inode| {
                let owner = Owner::Inode(inode.number);
                let has_map = inode.number == INODE_BAD_BLOCKS
                    || (checker.seen(inode.number).kind != 0
                        && [format::MODE_REGULAR, format::MODE_DIRECTORY, format::MODE_SYMLINK]
                            .contains(&inode.kind())
                        && !inode.is_fast_symlink(checker.shape()));
                if has_map {
                    let claims = &mut checker.claims;
                    let mapping = checker.disk.map(inode, &mut |block| {
                        claims.claim(block, 1, owner);
                        !claims.is_twice(block) || entered.insert(block)
                    })?;
                    for run in &mapping.runs {
                        checker.claims.claim(run.physical, run.blocks, owner);
                    }
                }
                // Sharing a block of attributes is no fault; sharing it with anything else is.
                let block = inode.xattr_block();
                if block != 0 && checker.seen(inode.number).kind != 0 && attributes.insert(block) {
                    checker.claims.claim(block, 1, owner);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether an inode is the filesystem's own, so that no directory names it.
    pub(super) fn is_hidden(&self, inode: u32) -> bool {
        let superblock = &self.shape().superblock;
        let own = [
            superblock.usr_quota_inum.get(),
            superblock.grp_quota_inum.get(),
            superblock.prj_quota_inum.get(),
            if self.shape().has_compat(compat::ORPHAN_FILE) { superblock.orphan_file_inum.get() } else { 0 },
        ];
        (inode < self.shape().first_inode && inode != format::INODE_ROOT) || own.contains(&inode)
    }
}

/// A bit of a bitmap; none past its end is set.
pub(super) fn bit(bitmap: &[u8], index: u32) -> bool {
    let byte = usize::try_from(index / 8).ok().and_then(|at| bitmap.get(at));
    byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}
