//! Finds bytes that two inodes claim.

use super::{Checker, Subject};

/// Bytes that something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The inode; the superblock has none.
    pub(super) owner: Option<u64>,
    /// Whether these are blocks of contents, which others may share, and not a structure.
    pub(super) is_data: bool,
}

impl Checker<'_> {
    /// Tells of bytes that two have, unless both have them as contents and from the same byte on.
    pub(super) fn check_overlaps(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        taken.sort_unstable_by_key(|one| (one.start, !one.is_data, one.end, one.owner));
        let mut last: Option<Taken> = None;
        for one in taken {
            if let Some(before) = last.filter(|before| before.end > one.start) {
                let is_shared = before.is_data && one.is_data && before.start == one.start;
                if !is_shared && before != one {
                    let end = before.end.min(one.end);
                    let owner = |owner: Option<u64>| {
                        owner.map_or_else(|| "the superblock".to_owned(), |nid| format!("inode {nid}"))
                    };
                    let why = format!("claimed by {} and by {}", owner(before.owner), owner(one.owner));
                    self.tell(Subject::Bytes(one.start, end), why);
                }
            }
            if last.is_none_or(|before| one.end > before.end) {
                last = Some(one);
            }
        }
    }
}
