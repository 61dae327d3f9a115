//! What changed in the files of two filesystems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::read::{Kind, Metadata};

/// A file as it is compared: times are not, which differ between any two FATs that people make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub metadata: Metadata,
    /// Of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Whether it is outside the store.
    pub is_outside: bool,
}

/// All files of a filesystem by their paths from its root, which is not among them.
pub type Files = BTreeMap<PathBuf, FileFacts>;

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What it is: a file, a directory, a link.
    Kind,
    /// Its permissions.
    Mode,
    /// Who owns it.
    Owner,
    /// Where a link leads.
    Target,
    /// The bytes in it.
    Contents,
}

impl Aspect {
    /// For people, and for the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Target => "target",
            Self::Contents => "contents",
        }
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// Only the second filesystem has it.
    Added,
    /// Only the first filesystem has it.
    Removed,
    /// Both have it, and it differs in these.
    Changed(Vec<Aspect>),
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiff {
    /// From the filesystem's root.
    pub path: PathBuf,
    /// What became of it.
    pub change: FileChange,
    /// What it was, if it was there.
    pub before: Option<Metadata>,
    /// What it is, if it is there.
    pub after: Option<Metadata>,
    /// Whether it is outside the store.
    pub is_outside: bool,
}

impl FileDiff {
    fn new(path: &Path, change: FileChange, before: &Files, after: &Files) -> Self {
        let (one, other) = (before.get(path), after.get(path));
        let is_outside = [one, other].into_iter().flatten().any(|facts| facts.is_outside);
        let [before, after] = [one, other].map(|facts| facts.map(|facts| facts.metadata));
        Self { path: path.to_owned(), change, before, after, is_outside }
    }
}

/// The differences between two lists of files, sorted by path, and the files whose contents have to be compared.
pub fn compare(before: &Files, after: &Files) -> (Vec<FileDiff>, Vec<PathBuf>) {
    let mut diffs = Vec::new();
    let mut unread = Vec::new();
    for (path, one) in before {
        match after.get(path) {
            None => diffs.push(FileDiff::new(path, FileChange::Removed, before, after)),
            Some(other) => {
                let aspects = aspects(one, other);
                if has_contents_to_read(one, other) {
                    unread.push(path.clone());
                }
                if !aspects.is_empty() {
                    diffs.push(FileDiff::new(path, FileChange::Changed(aspects), before, after));
                }
            }
        }
    }
    let added = after.keys().filter(|path| !before.contains_key(*path));
    diffs.extend(added.map(|path| FileDiff::new(path, FileChange::Added, before, after)));
    diffs.sort_by(|a, b| a.path.cmp(&b.path));
    (diffs, unread)
}

/// Adds the files whose contents turned out to differ.
pub fn add_contents(diffs: &mut Vec<FileDiff>, differing: &[PathBuf], before: &Files, after: &Files) {
    let known = diffs.len();
    for path in differing {
        let sorted = diffs.get_mut(..known).unwrap_or_default();
        let at = sorted.binary_search_by(|diff| diff.path.cmp(path)).ok();
        match at.and_then(|at| sorted.get_mut(at)) {
            Some(FileDiff { change: FileChange::Changed(aspects), .. }) => aspects.push(Aspect::Contents),
            Some(_) => {}
            None => diffs.push(FileDiff::new(path, FileChange::Changed(vec![Aspect::Contents]), before, after)),
        }
    }
    diffs.sort_by(|a, b| a.path.cmp(&b.path));
}

fn aspects(one: &FileFacts, other: &FileFacts) -> Vec<Aspect> {
    let (a, b) = (one.metadata, other.metadata);
    if a.kind != b.kind {
        return vec![Aspect::Kind];
    }
    let mut aspects = Vec::new();
    if a.permissions != b.permissions && a.kind != Kind::Symlink {
        aspects.push(Aspect::Mode);
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        aspects.push(Aspect::Owner);
    }
    if one.target != other.target {
        aspects.push(Aspect::Target);
    }
    if a.kind == Kind::File && a.len != b.len {
        aspects.push(Aspect::Contents);
    }
    aspects
}

fn has_contents_to_read(one: &FileFacts, other: &FileFacts) -> bool {
    let are_files = one.metadata.kind == Kind::File && other.metadata.kind == Kind::File;
    are_files && one.metadata.len == other.metadata.len && one.metadata.len > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: Kind, permissions: u16, len: u64, target: Option<&str>) -> FileFacts {
        let metadata = Metadata { kind, permissions, uid: 0, gid: 0, len, mtime: 1 };
        FileFacts { metadata, target: target.map(|target| target.as_bytes().to_vec()), is_outside: false }
    }

    fn files(files: &[(&str, FileFacts)]) -> Files {
        files.iter().map(|(path, facts)| (PathBuf::from(path), facts.clone())).collect()
    }

    #[test]
    fn files_differ_in_what_they_are() {
        let file = |permissions, len| facts(Kind::File, permissions, len, None);
        let link = |target| facts(Kind::Symlink, 0o777, 1, Some(target));
        let before = files(&[
            ("d", facts(Kind::Directory, 0o555, 4096, None)),
            ("d/gone", file(0o444, 1)),
            ("d/kind", file(0o444, 1)),
            ("d/link", link("x")),
            ("d/longer", file(0o444, 1)),
            ("d/mode", file(0o444, 1)),
            ("d/none", file(0o444, 0)),
            ("d/same", file(0o444, 1)),
        ]);
        let mut after = before.clone();
        after.remove(&PathBuf::from("d/gone"));
        after.extend(files(&[
            ("d/a", file(0o444, 1)),
            ("d/kind", link("x")),
            ("d/link", link("y")),
            ("d/longer", file(0o444, 2)),
            ("d/mode", file(0o555, 1)),
        ]));
        after.insert("d".into(), facts(Kind::Directory, 0o555, 8192, None));
        let (mut diffs, unread) = compare(&before, &after);
        assert_eq!(unread, [PathBuf::from("d/mode"), PathBuf::from("d/same")]);
        add_contents(&mut diffs, &["d/mode".into(), "d/same".into()], &before, &after);
        let modes = |diff: &FileDiff| [diff.before, diff.after].map(|facts| facts.map(|facts| facts.permissions));
        assert_eq!(modes(&diffs[0]), [None, Some(0o444)]);
        assert_eq!(modes(&diffs[5]), [Some(0o444), Some(0o555)]);
        let changes: Vec<_> = diffs.iter().map(|diff| (diff.path.to_str().unwrap(), diff.change.clone())).collect();
        assert_eq!(
            changes,
            [
                ("d/a", FileChange::Added),
                ("d/gone", FileChange::Removed),
                ("d/kind", FileChange::Changed(vec![Aspect::Kind])),
                ("d/link", FileChange::Changed(vec![Aspect::Target])),
                ("d/longer", FileChange::Changed(vec![Aspect::Contents])),
                ("d/mode", FileChange::Changed(vec![Aspect::Mode, Aspect::Contents])),
                ("d/same", FileChange::Changed(vec![Aspect::Contents])),
            ]
        );
        assert_eq!(compare(&before, &before.clone()).0, []);
    }

    #[test]
    fn owners_count() {
        let mut other = facts(Kind::File, 0o444, 0, None);
        other.metadata.uid = 1;
        assert_eq!(aspects(&facts(Kind::File, 0o444, 0, None), &other), [Aspect::Owner]);
    }
}
