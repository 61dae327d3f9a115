//! Finds bytes that two inodes claim.

use super::{Checker, Subject};

/// Bytes that something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The inode; the superblock has none.
    pub(super) owner: Option<u64>,
    pub(super) kind: Kind,
}

/// What bytes are taken for, and so who may have them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A structure: nobody.
    Structure,
    /// Blocks of contents: others, from the same first one on.
    Blocks,
    /// Blocks of a file in chunks: all such files, as chunks of several sizes can be made of the same blocks.
    Chunk,
}

impl Checker<'_> {
    /// Tells of bytes that two have, but may not share.
    pub(super) fn check_overlaps(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        taken.sort_unstable_by_key(|one| (one.start, one.kind, one.end, one.owner));
        // Those that end last so far: of the chunks, and of all else.
        let (mut chunk, mut other): (Option<Taken>, Option<Taken>) = (None, None);
        for one in taken {
            for before in [chunk, other].into_iter().flatten().filter(|before| before.end > one.start) {
                if !may_share(before, one) {
                    let why = format!("claimed by {} and by {}", owner(before), owner(one));
                    self.tell(Subject::Bytes(one.start, before.end.min(one.end)), why);
                }
            }
            let last = if one.kind == Kind::Chunk { &mut chunk } else { &mut other };
            if last.is_none_or(|before| one.end > before.end) {
                *last = Some(one);
            }
        }
    }
}

fn may_share(one: Taken, other: Taken) -> bool {
    match (one.kind, other.kind) {
        (Kind::Structure, _) | (_, Kind::Structure) => false,
        (Kind::Chunk, Kind::Chunk) => true,
        _ => one.start == other.start,
    }
}

fn owner(taken: Taken) -> String {
    taken.owner.map_or_else(|| "the superblock".to_owned(), |nid| format!("inode {nid}"))
}
