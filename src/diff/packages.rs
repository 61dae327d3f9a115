//! What changed in the store, by package.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::version;

/// The digits of a store path's hash and the dash after them.
const HASH_PART: usize = 33;

/// What is known of a store path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFacts {
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The SHA-256 of its NAR, as far as it is registered.
    pub nar_hash: Option<[u8; 32]>,
}

/// The paths of a store by `<hash>-<name>`, escaped.
pub type Paths = BTreeMap<String, PathFacts>;

/// How two stores differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreDiff {
    /// Store paths that only the second has.
    pub added: Vec<String>,
    /// Store paths that only the first has.
    pub removed: Vec<String>,
    /// Store paths in both that are registered with different contents.
    pub altered: Vec<String>,
    /// The same by package, sorted by name.
    pub packages: Vec<PackageDiff>,
    /// Paths and bytes of NARs of the first.
    pub before: Totals,
    /// Paths and bytes of NARs of the second.
    pub after: Totals,
}

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Store paths.
    pub paths: u64,
    /// Bytes of their NARs.
    pub nar_bytes: u64,
}

/// What became of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Its newest version is newer than before.
    Upgraded,
    /// Its newest version is older than before.
    Downgraded,
    /// Its newest version is the same, but others or their number changed.
    Changed,
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// Its versions are the same, its store paths or their contents are not.
    Rebuilt,
}

/// How a package differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageDiff {
    /// Its name without hash and version.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Its versions before.
    pub before: Vec<Version>,
    /// Its versions now.
    pub after: Vec<Version>,
    /// Bytes of its NARs before: of the paths of this name, changed or not.
    pub bytes_before: u64,
    /// Bytes of its NARs now.
    pub bytes_after: u64,
}

/// A version, and how many store paths have it. Outputs other than the first are part of it: `3.0.8-bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As in the name; empty if there is none.
    pub version: String,
    /// Store paths of this name and version.
    pub paths: u64,
}

impl StoreDiff {
    /// Compares two stores.
    pub fn new(before: &Paths, after: &Paths) -> Self {
        let only = |one: &Paths, other: &Paths| one.keys().filter(|path| !other.contains_key(*path)).cloned().collect();
        let mut diff = Self {
            added: only(after, before),
            removed: only(before, after),
            altered: before.iter().filter_map(|(path, facts)| altered(path, *facts, after)).collect(),
            before: totals(before),
            after: totals(after),
            packages: Vec::new(),
        };
        let touched: BTreeSet<String> = [&diff.added, &diff.removed, &diff.altered]
            .into_iter()
            .flatten()
            .map(|path| name_and_version(path).0.to_owned())
            .collect();
        let [groups_before, groups_after] = [before, after].map(|paths| group(paths, &touched));
        let empty = Group::default();
        diff.packages = touched
            .into_iter()
            .map(|name| {
                let before = groups_before.get(&name).unwrap_or(&empty);
                let after = groups_after.get(&name).unwrap_or(&empty);
                package(name, before, after)
            })
            .collect();
        diff
    }

    /// Whether the stores are the same.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }
}

fn altered(path: &str, facts: PathFacts, after: &Paths) -> Option<String> {
    let now = after.get(path)?;
    let differs = match (facts.nar_hash, now.nar_hash) {
        (Some(one), Some(other)) if one != other => true,
        _ => facts.nar_size != now.nar_size,
    };
    differs.then(|| path.to_owned())
}

fn totals(paths: &Paths) -> Totals {
    let nar_bytes = paths.values().fold(0u64, |sum, facts| sum.saturating_add(facts.nar_size));
    Totals { paths: paths.len() as u64, nar_bytes }
}

/// The name and the version of `<hash>-<name>`.
fn name_and_version(path: &str) -> (&str, &str) {
    version::split(path.get(HASH_PART..).unwrap_or(path))
}

/// The store paths of one name.
#[derive(Default)]
struct Group {
    versions: BTreeMap<String, u64>,
    bytes: u64,
}

fn group(paths: &Paths, names: &BTreeSet<String>) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (path, facts) in paths {
        let (name, version) = name_and_version(path);
        if names.contains(name) {
            let group = groups.entry(name.to_owned()).or_default();
            group.bytes = group.bytes.saturating_add(facts.nar_size);
            let paths = group.versions.entry(version.to_owned()).or_default();
            *paths = paths.saturating_add(1);
        }
    }
    groups
}

fn package(name: String, before: &Group, after: &Group) -> PackageDiff {
    let [versions_before, versions_after] = [before, after].map(sorted);
    let newest = |versions: &[Version]| versions.last().map_or(String::new(), |version| version.version.clone());
    let change = if versions_before.is_empty() {
        Change::Added
    } else if versions_after.is_empty() {
        Change::Removed
    } else if versions_before == versions_after {
        Change::Rebuilt
    } else {
        match version::compare(&newest(&versions_before), &newest(&versions_after)) {
            Ordering::Less => Change::Upgraded,
            Ordering::Greater => Change::Downgraded,
            Ordering::Equal => Change::Changed,
        }
    };
    let (bytes_before, bytes_after) = (before.bytes, after.bytes);
    PackageDiff { name, change, before: versions_before, after: versions_after, bytes_before, bytes_after }
}

/// The versions, oldest first.
fn sorted(group: &Group) -> Vec<Version> {
    let versions = group.versions.iter().map(|(version, paths)| Version { version: version.clone(), paths: *paths });
    let mut versions: Vec<_> = versions.collect();
    versions.sort_by(|a, b| version::compare(&a.version, &b.version).then_with(|| a.version.cmp(&b.version)));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[(&str, u64)]) -> Paths {
        let digit = |i: usize| char::from_digit(u32::try_from(i).unwrap(), 10).unwrap();
        let path = |(i, (name, nar_size)): (usize, &(&str, u64))| {
            let (hash, name) = name.split_once(' ').unwrap_or(("", name));
            let hash = format!("{hash}{}", digit(i % 10).to_string().repeat(32 - hash.len()));
            (format!("{hash}-{name}"), PathFacts { nar_size: *nar_size, nar_hash: None })
        };
        names.iter().enumerate().map(path).collect()
    }

    fn lines(before: &[(&str, u64)], after: &[(&str, u64)]) -> Vec<String> {
        let diff = StoreDiff::new(&paths(before), &paths(after));
        let text = |versions: &[Version]| {
            let each = versions.iter().map(|version| format!("{}x{}", version.version, version.paths));
            each.collect::<Vec<_>>().join(" ")
        };
        let line = |p: &PackageDiff| {
            let (before, after) = (text(&p.before), text(&p.after));
            format!("{:?} {} {before} > {after} {} {}", p.change, p.name, p.bytes_before, p.bytes_after)
        };
        diff.packages.iter().map(line).collect()
    }

    #[test]
    fn packages_change_as_people_say() {
        let before = [("hello-2.9", 10), ("old", 1), ("gcc-13", 5), ("x-1", 3), ("same-1", 7), ("multi-1", 1)];
        let after = [
            ("hello-2.10", 12),
            ("new-1", 2),
            ("gcc-12", 4),
            ("b x-1", 3),
            ("same-1", 7),
            ("multi-1", 1),
            ("b multi-1-bin", 9),
        ];
        let mut kept_before = paths(&before);
        let mut kept_after = paths(&after);
        // The same path on both sides.
        for paths in [&mut kept_before, &mut kept_after] {
            paths.retain(|path, _| !path.contains("multi-1") || path.contains("-bin"));
            paths.insert(format!("{}-multi-1", "z".repeat(32)), PathFacts { nar_size: 1, nar_hash: None });
        }
        let diff = StoreDiff::new(&kept_before, &kept_after);
        let change = |name: &str| diff.packages.iter().find(|p| p.name == name).map(|p| p.change);
        assert_eq!(change("hello"), Some(Change::Upgraded));
        assert_eq!(change("gcc"), Some(Change::Downgraded));
        assert_eq!(change("old"), Some(Change::Removed));
        assert_eq!(change("new"), Some(Change::Added));
        assert_eq!(change("x"), Some(Change::Rebuilt));
        assert_eq!(change("same"), None);
        assert_eq!(change("multi"), Some(Change::Upgraded));
        assert_eq!((diff.before.paths, diff.after.paths), (6, 7));
        assert_eq!((diff.before.nar_bytes, diff.after.nar_bytes), (27, 38));
    }

    #[test]
    fn versions_are_counted_and_sizes_added_up() {
        assert_eq!(lines(&[("a-1", 1), ("a-1", 2), ("a-10", 4)], &[("c a-2", 8)]), ["Downgraded a 1x2 10x1 > 2x1 7 8"]);
        assert_eq!(lines(&[("a-1", 1)], &[("a-1", 1)]), [""; 0]);
    }

    #[test]
    fn contents_that_changed_under_one_name_are_seen() {
        let with = |nar_hash| [(format!("{}-a-1", "0".repeat(32)), PathFacts { nar_size: 1, nar_hash })].into();
        let diff = |one, other| StoreDiff::new(&with(one), &with(other));
        assert!(diff(Some([0; 32]), Some([0; 32])).is_empty());
        assert!(diff(None, Some([0; 32])).is_empty());
        let altered = diff(Some([1; 32]), Some([0; 32]));
        assert_eq!((altered.altered.len(), altered.packages[0].change), (1, Change::Rebuilt));
    }
}
