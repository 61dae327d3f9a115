//! What is known about each inode.
//!
//! A filesystem can have more inodes than fit in memory, but nearly all are unused. So memory is taken in pages, and
//! only for inodes in use.

use std::ops::Range;

use crate::ext4::format::TYPE_DIRECTORY;

/// Inodes of a page.
const PAGE: usize = 1024;

/// What is known of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The type that entries must give it; 0 if it is not in use.
    pub(super) kind: u8,
    /// Whether its directory is not to be read: blocks of it were claimed before.
    pub(super) tangled: bool,
    /// `i_links_count`.
    pub(super) links: u16,
    /// Entries that lead to it, `.` and `..` included.
    pub(super) names: u32,
    /// The first directory that names it.
    pub(super) parent: u32,
    /// What `..` leads to.
    pub(super) dot_dot: u32,
}

/// All inodes, by number from 1.
#[derive(Debug)]
pub(super) struct Inodes {
    count: u32,
    pages: Vec<Option<Box<[Seen]>>>,
}

impl Inodes {
    /// `count` inodes of which nothing is known.
    pub(super) fn new(count: u32) -> Self {
        let pages = usize::try_from(count).unwrap_or(0).div_ceil(PAGE);
        Self { count, pages: vec![None; pages] }
    }

    /// The page of an inode, and its place there; `None` if there is no such inode.
    fn place(&self, number: u32) -> Option<(usize, usize)> {
        let index = number.checked_sub(1).filter(|&index| index < self.count)?;
        let index = usize::try_from(index).ok()?;
        Some((index / PAGE, index % PAGE))
    }

    /// What is known of an inode.
    pub(super) fn get(&self, number: u32) -> Seen {
        let place = self.place(number);
        let seen = place.and_then(|(page, index)| self.pages.get(page)?.as_ref()?.get(index));
        seen.copied().unwrap_or_default()
    }

    /// The same, to be changed; `None` if there is no such inode.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Seen> {
        let (page, index) = self.place(number)?;
        let page = self.pages.get_mut(page)?;
        page.get_or_insert_with(|| vec![Seen::default(); PAGE].into()).get_mut(index)
    }

    /// The numbers of all inodes in use, in order.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (u32, Seen)> + '_ {
        let pages = (0..).zip(&self.pages).filter_map(|(number, page)| Some((number, page.as_deref()?)));
        let numbered = pages.flat_map(|(page, inodes): (u32, _)| {
            let first = page.saturating_mul(u32::try_from(PAGE).unwrap_or(u32::MAX)).saturating_add(1);
            (first..=u32::MAX).zip(inodes.iter().copied())
        });
        numbered.filter(|(_, seen)| seen.kind != 0)
    }

    /// The numbers of all directories, in order.
    pub(super) fn directories(&self) -> Vec<u32> {
        self.in_use().filter(|(_, seen)| seen.kind == TYPE_DIRECTORY).map(|(number, _)| number).collect()
    }

    /// Whether nothing is known of any inode of a range.
    pub(super) fn are_unknown(&self, numbers: Range<u32>) -> bool {
        let page = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(0) / PAGE;
        let pages = page(numbers.start)..=page(numbers.end.saturating_sub(1));
        self.pages.get(pages).is_none_or(|pages| pages.iter().all(Option::is_none))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_use_takes_memory() {
        let mut inodes = Inodes::new(u32::MAX);
        assert!(inodes.get_mut(0).is_none() && inodes.get_mut(u32::MAX).is_some());
        for (number, kind) in [(2, TYPE_DIRECTORY), (1024, 1), (1025, 1), (4_000_000_000, TYPE_DIRECTORY)] {
            inodes.get_mut(number).unwrap().kind = kind;
        }
        assert_eq!(inodes.pages.iter().flatten().count(), 4);
        assert_eq!(inodes.in_use().map(|(number, _)| number).collect::<Vec<_>>(), [2, 1024, 1025, 4_000_000_000]);
        assert_eq!(inodes.directories(), [2, 4_000_000_000]);
        assert_eq!((inodes.get(1024).kind, inodes.get(3), inodes.get(0)), (1, Seen::default(), Seen::default()));
        assert!(inodes.are_unknown(2049..10_000) && !inodes.are_unknown(2048..2050) && !inodes.are_unknown(1..2));
    }

    #[test]
    fn there_are_no_more_than_there_are() {
        let mut inodes = Inodes::new(10);
        assert!(inodes.get_mut(10).is_some() && inodes.get_mut(11).is_none());
        assert!(Inodes::new(0).get_mut(1).is_none());
    }
}
