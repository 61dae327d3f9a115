//! All files below a directory, in order, even if the image is damaged on purpose.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Entry, FileId, FileSystem, Kind, Metadata, ReadError, escape};

/// Directories within each other, beyond what any closure has.
pub const MAX_DEPTH: usize = 1024;

/// Directories that were entered. A directory has one place only: one that is met again leads to itself, or stands in
/// two places, and so on down, which can make more paths than anybody can count.
#[derive(Clone, Debug, Default)]
pub struct Entered(BTreeSet<FileId>);

impl Entered {
    /// Notes a directory; returns whether it is new.
    pub fn enter(&mut self, id: Option<FileId>) -> bool {
        id.is_none_or(|id| self.0.insert(id))
    }
}

/// What is wrong with a directory that is entered again.
pub const ENTERED_AGAIN: &str = "is a directory that was met before at another path; it may contain itself";

/// A file met on a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From the filesystem's root.
    pub path: PathBuf,
    /// What it is.
    pub metadata: Metadata,
    /// Directories between the walk's start and it: 0 for an entry of the start itself.
    pub depth: usize,
}

/// The walk through a directory: a directory comes before its entries, entries come sorted by the bytes of their names.
/// The start itself is left out.
///
/// A directory that cannot be read gives an error in the place of its entries, and the walk goes on; so does one that
/// was met before, so that no listing is kept twice. A tree with more entries than
/// [`max_entries`](super::Summary::max_entries), or deeper than [`MAX_DEPTH`], gives an error too; the former ends the
/// walk.
pub struct Walk<'a> {
    fs: &'a dyn FileSystem,
    /// Directories that are being walked: each with what is left of it, last entry first.
    stack: Vec<Level>,
    /// Entries that may still come.
    left: u64,
    /// The directory to go into before anything else.
    next: Option<PathBuf>,
    /// Which one that is, if that is known already.
    next_id: Option<FileId>,
    entered: Entered,
}

struct Level {
    directory: PathBuf,
    entries: Vec<Entry>,
}

/// Walks through the directory `from`.
pub fn walk<'a>(fs: &'a dyn FileSystem, from: &Path) -> Walk<'a> {
    walk_after(fs, from, Entered::default())
}

/// Walks through the directory `from`, but into none that `entered` has.
pub fn walk_after<'a>(fs: &'a dyn FileSystem, from: &Path, entered: Entered) -> Walk<'a> {
    let (stack, left) = (Vec::new(), fs.summary().max_entries);
    Walk { fs, stack, left, next: Some(from.to_owned()), next_id: None, entered }
}

impl Walk<'_> {
    /// Leaves out the entries of the directory that came last.
    pub fn skip_directory(&mut self) {
        self.next = None;
    }

    /// All directories that were entered, for another walk that must not meet them.
    pub fn into_entered(self) -> Entered {
        self.entered
    }

    fn enter(&mut self, directory: PathBuf) -> Result<(), ReadError> {
        let corrupt = |why| Err(ReadError::corrupt(format!("directory {}", escape::path(&directory)), why));
        if self.stack.len() >= MAX_DEPTH {
            return corrupt(format!("is deeper than {MAX_DEPTH} directories"));
        }
        let id = match self.next_id.take() {
            None => self.fs.id(&directory)?,
            known => known,
        };
        if !self.entered.enter(id) {
            return corrupt(ENTERED_AGAIN.to_owned());
        }
        let mut entries = self.fs.list(&directory)?;
        entries.reverse();
        self.stack.push(Level { directory, entries });
        Ok(())
    }

    fn pop(&mut self) -> Option<Entry> {
        while let Some(level) = self.stack.last_mut() {
            match level.entries.pop() {
                Some(entry) => return Some(entry),
                None => self.stack.pop(),
            };
        }
        None
    }

    fn end(&mut self) -> ReadError {
        self.stack.clear();
        let most = self.fs.summary().max_entries;
        ReadError::corrupt(
            "directory tree",
            format!("has more than {most} entries, which is all the image has room for"),
        )
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(directory) = self.next.take()
            && let Err(error) = self.enter(directory)
        {
            return Some(Err(error));
        }
        let Entry { name, id, metadata } = self.pop()?;
        let Some(left) = self.left.checked_sub(1) else { return Some(Err(self.end())) };
        self.left = left;
        let depth = self.stack.len().saturating_sub(1);
        let path = self.stack.last().map(|level| level.directory.join(&name)).unwrap_or_default();
        if metadata.kind == Kind::Directory {
            (self.next, self.next_id) = (Some(path.clone()), id);
        }
        Some(Ok(Found { path, metadata, depth }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;

    fn paths(walk: Walk<'_>) -> Vec<String> {
        walk.map(|found| found.map_or_else(|e| e.to_string(), |found| found.path.display().to_string())).collect()
    }

    #[test]
    fn directories_come_before_their_entries() {
        let fs = Fake::new().file("b/z", "").file("b.c", "").file("a/b/c", "").directory("a/a");
        assert_eq!(paths(walk(&fs, Path::new(""))), ["a", "a/a", "a/b", "a/b/c", "b", "b/z", "b.c"]);
        assert_eq!(paths(walk(&fs, Path::new("a"))), ["a/a", "a/b", "a/b/c"]);
        let depths: Vec<_> = walk(&fs, Path::new("a")).map(|found| found.unwrap().depth).collect();
        assert_eq!(depths, [0, 0, 1]);
    }

    #[test]
    fn a_directory_can_be_left_out() {
        let fs = Fake::new().file("a/b/c", "").file("d", "");
        let mut walk = walk(&fs, Path::new(""));
        assert_eq!(walk.next().unwrap().unwrap().path, Path::new("a"));
        walk.skip_directory();
        assert_eq!(paths(walk), ["d"]);
    }

    #[test]
    fn what_cannot_be_read_does_not_hide_the_rest() {
        let fs = Fake::new().file("a/b", "").file("c/d", "").broken("a");
        assert_eq!(paths(walk(&fs, Path::new(""))), ["a", "corrupt directory a: broken", "c", "c/d"]);
        assert_eq!(paths(walk(&fs, Path::new("none"))), ["none: no such file"]);
    }

    #[test]
    fn a_directory_is_entered_once() {
        let fs = Fake::new().file("a/f", "").looping("a/self", "a").looping("b", "a").file("c/f", "");
        let again = |path: &str| format!("corrupt directory {path}: {ENTERED_AGAIN}");
        assert_eq!(
            paths(walk(&fs, Path::new(""))),
            ["a", "a/f", "a/self", &again("a/self"), "b", &again("b"), "c", "c/f"]
        );
        let mut first = walk(&fs, Path::new("a"));
        assert_eq!(first.by_ref().count(), 3);
        assert_eq!(paths(walk_after(&fs, Path::new("b"), first.into_entered())), [again("b")]);
    }

    #[test]
    fn no_tree_is_larger_or_deeper_than_can_be() {
        let fs = (0..9).fold(Fake::new(), |fs, n| fs.file(format!("{n}"), "")).max_entries(5);
        let found = paths(walk(&fs, Path::new("")));
        assert_eq!(
            found.last().unwrap(),
            "corrupt directory tree: has more than 5 entries, which is all the image has room for"
        );
        assert_eq!(found.len(), 6);
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        let found = paths(walk(&Fake::new().directory(deep), Path::new("")));
        assert_eq!(found.len(), MAX_DEPTH + 1);
        assert!(found.last().unwrap().ends_with("is deeper than 1024 directories"), "{}", found.last().unwrap());
    }
}
