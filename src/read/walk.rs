//! All files below a directory, in order, however the image may lie about its directories.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Entry, FileSystem, Kind, Metadata, ReadError, escape};

/// Directories within each other, beyond what any closure has: a loop of directories ends here.
pub const MAX_DEPTH: usize = 1024;

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
/// The start itself does not come.
///
/// A directory that cannot be read gives an error in the place of its entries, and the walk goes on. A tree with more
/// entries than [`max_entries`](super::Summary::max_entries), or deeper than [`MAX_DEPTH`], gives an error too; the
/// former ends the walk.
pub struct Walk<'a> {
    fs: &'a dyn FileSystem,
    /// Directories that are being walked: each with what is left of it, last entry first.
    stack: Vec<Level>,
    /// Entries that may still come.
    left: u64,
    /// The directory to go into before anything else.
    next: Option<PathBuf>,
}

struct Level {
    directory: PathBuf,
    entries: Vec<Entry>,
}

/// Walks through the directory `from`.
pub fn walk<'a>(fs: &'a dyn FileSystem, from: &Path) -> Walk<'a> {
    Walk { fs, stack: Vec::new(), left: fs.summary().max_entries, next: Some(from.to_owned()) }
}

impl Walk<'_> {
    /// Leaves out the entries of the directory that came last.
    pub fn skip_directory(&mut self) {
        self.next = None;
    }

    fn enter(&mut self, directory: PathBuf) -> Result<(), ReadError> {
        if self.stack.len() >= MAX_DEPTH {
            let why = format!("is deeper than {MAX_DEPTH} directories; it may contain itself");
            return Err(ReadError::corrupt(format!("directory {}", escape::path(&directory)), why));
        }
        let mut entries = self.fs.list(&directory)?;
        entries.reverse();
        self.stack.push(Level { directory, entries });
        Ok(())
    }

    fn pop(&mut self) -> Option<(OsString, Metadata)> {
        while let Some(level) = self.stack.last_mut() {
            match level.entries.pop() {
                Some(entry) => return Some((entry.name, entry.metadata)),
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
        let (name, metadata) = self.pop()?;
        let Some(left) = self.left.checked_sub(1) else { return Some(Err(self.end())) };
        self.left = left;
        let depth = self.stack.len().saturating_sub(1);
        let path = self.stack.last().map(|level| level.directory.join(&name)).unwrap_or_default();
        if metadata.kind == Kind::Directory {
            self.next = Some(path.clone());
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
    fn loops_end() {
        let fs = Fake::new().file("a/f", "").looping("a/self", "a");
        let found = paths(walk(&fs, Path::new("")));
        assert!(found.iter().any(|line| line.contains("deeper than")), "{}", found.len());
        assert_eq!(found.len(), 2 * MAX_DEPTH, "f and self at each level");
        let fs = Fake::new().looping("a/x", "a").looping("a/y", "a").max_entries(5000);
        let found = paths(walk(&fs, Path::new("")));
        assert_eq!(
            found.last().unwrap(),
            "corrupt directory tree: has more than 5000 entries, which is all the image has room for"
        );
        assert!(found.len() < 2 * 5000 + 2);
    }
}
