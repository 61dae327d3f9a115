//! The subvolumes of a filesystem, and where each is in another. Pure.
//!
//! A subvolume stands where its parent's tree has an empty directory: that directory becomes the entry that leads
//! into the subvolume.

use std::ffi::OsStr;

use super::format::object;
use crate::source::tree::{DirectoryMode, FileTree, NodeIndex, TreeBuilder, TreeError};
use crate::spec::{around, below};

/// A subvolume, or the top level, which is one too.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its tree's identifier.
    pub id: u64,
    /// Its path from the top level, as in `subvol=`; empty for the top level.
    pub path: String,
    /// Its files.
    pub tree: FileTree,
    /// The nodes of `tree` that are subvolumes, with their identifiers; sorted.
    pub nested: Vec<(NodeIndex, u64)>,
    /// Where it is; `None` for the top level.
    pub parent: Option<Parent>,
}

/// Where a subvolume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The identifier of the subvolume that it is in.
    pub id: u64,
    /// The directory entry in that one's tree.
    pub node: NodeIndex,
}

impl Volume {
    /// The identifier of the subvolume that a node stands for, if it is one.
    pub fn subvolume(&self, node: NodeIndex) -> Option<u64> {
        let found = self.nested.binary_search_by_key(&node, |(node, _)| *node);
        found.ok().map(|index| self.nested[index].1)
    }
}

/// All subvolumes of a filesystem, by identifier.
#[derive(Clone, Debug)]
pub struct Volumes {
    all: Vec<Volume>,
    /// The one that holds the store.
    store: usize,
}

impl Volumes {
    /// The top level, the subvolumes at `paths` (plain components joined by slashes, sorted, none twice), and among
    /// all these the one at `store_path`, which has the files of `store_tree`.
    ///
    /// # Errors
    /// If the names make no tree.
    ///
    /// # Panics
    /// If `store_path` is none of them, or `store_tree` has no empty directory where another one is nested in it.
    pub fn new(store_tree: FileTree, store_path: &str, paths: &[String]) -> Result<Self, TreeError> {
        let ids = || object::FIRST_FREE..;
        let mut list: Vec<_> = paths.iter().map(String::as_str).zip(ids()).collect();
        list.insert(0, ("", object::FS_TREE));
        let mut store_tree = Some(store_tree);
        let store = list.iter().position(|(path, _)| *path == store_path).expect("the store has a subvolume");
        let volume = |(at, &(path, id)): (usize, &(&str, u64))| {
            let inner: Vec<_> =
                list.iter().filter(|(inner, _)| !inner.is_empty() && around(paths, inner) == path).collect();
            let names = |inner: &str| -> Vec<String> { below(path, inner).split('/').map(str::to_owned).collect() };
            let tree = match store_tree.take_if(|_| at == store) {
                Some(tree) => tree,
                None => directories(inner.iter().map(|(inner, _)| names(inner)).collect())?,
            };
            let find = |inner: &str| tree.find(names(inner).iter().map(OsStr::new));
            let mut nested: Vec<_> = inner
                .iter()
                .map(|(inner, id)| (find(inner).expect("every subvolume has its directory"), *id))
                .collect();
            nested.sort_unstable();
            Ok(Volume { id, path: path.to_owned(), tree, nested, parent: None })
        };
        let mut all = list.iter().enumerate().map(volume).collect::<Result<Vec<_>, TreeError>>()?;
        let places: Vec<_> = all
            .iter()
            .flat_map(|parent| parent.nested.iter().map(|&(node, id)| (id, Parent { id: parent.id, node })))
            .collect();
        for volume in &mut all {
            volume.parent = places.iter().find(|(id, _)| *id == volume.id).map(|(_, parent)| *parent);
        }
        Ok(Self { all, store })
    }

    /// By identifier, the top level first.
    pub fn iter(&self) -> impl Iterator<Item = &Volume> {
        self.all.iter()
    }

    /// The one that holds the store.
    pub fn store(&self) -> &Volume {
        &self.all[self.store]
    }

    /// The one of this identifier.
    pub fn get(&self, id: u64) -> Option<&Volume> {
        self.all.iter().find(|volume| volume.id == id)
    }
}

/// A tree of nothing but directories.
fn directories(mut paths: Vec<Vec<String>>) -> Result<FileTree, TreeError> {
    paths.sort();
    let mut builder = TreeBuilder::new(DirectoryMode::Writable);
    let mut open: &[String] = &[];
    for path in &paths {
        let common = open.iter().zip(path).take_while(|(a, b)| a == b).count();
        (common..open.len()).for_each(|_| builder.leave());
        for name in &path[common..] {
            builder.enter(OsStr::new(name), DirectoryMode::Writable)?;
        }
        open = path;
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(store: &str, paths: &[&str]) -> Volumes {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        let nested = paths.iter().filter(|path| around(&paths, path) == store && *path != store);
        let nested = nested.map(|path| below(store, path).split('/').map(str::to_owned).collect()).collect();
        Volumes::new(directories(nested).unwrap(), store, &paths).unwrap()
    }

    fn describe(volumes: &Volumes) -> Vec<String> {
        let path = |volume: &Volume| {
            let place = volume.parent.map(|parent| {
                let outer = volumes.get(parent.id).unwrap();
                format!(" at {} of {}", outer.tree.path(parent.node).display(), parent.id)
            });
            format!("{} {:?}{}", volume.id, volume.path, place.unwrap_or_default())
        };
        volumes.iter().map(path).collect()
    }

    #[test]
    fn flat() {
        let volumes = volumes("@nix", &["@", "@home", "@nix"]);
        let lines = ["5 \"\"", "256 \"@\" at @ of 5", "257 \"@home\" at @home of 5", "258 \"@nix\" at @nix of 5"];
        assert_eq!(describe(&volumes), lines);
        assert_eq!(volumes.store().id, 258);
    }

    #[test]
    fn nested() {
        let volumes = volumes("a", &["a", "a/b/c", "a/b/c/d", "ab", "x/y", "x/z"]);
        let lines = [
            "5 \"\"",
            "256 \"a\" at a of 5",
            "257 \"a/b/c\" at b/c of 256",
            "258 \"a/b/c/d\" at d of 257",
            "259 \"ab\" at ab of 5",
            "260 \"x/y\" at x/y of 5",
            "261 \"x/z\" at x/z of 5",
        ];
        assert_eq!(describe(&volumes), lines);
    }

    #[test]
    fn none() {
        let volumes = volumes("", &[]);
        assert_eq!(describe(&volumes), ["5 \"\""]);
        assert_eq!(volumes.store().id, object::FS_TREE);
    }
}
