//! The subvolumes of a filesystem, and the place of each in another one. Pure.
//!
//! All files of a filesystem are one tree. In this tree a subvolume is a directory with everything below it, except
//! other subvolumes.

use std::ffi::OsStr;

use super::format::object;
use crate::source::tree::{FileTree, NodeIndex};
use crate::spec::around;

/// A subvolume, or the top level, which is one too.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its tree's identifier.
    pub id: u64,
    /// Its path from the top level, as in `subvol=`; empty for the top level.
    pub path: String,
    /// Its root directory.
    pub root: NodeIndex,
    /// The identifier of the subvolume that it is in; `None` for the top level.
    pub parent: Option<u64>,
}

impl Volume {
    /// The inode of one of its nodes.
    pub fn inode(&self, node: NodeIndex) -> u64 {
        object::FIRST_FREE + (node.as_usize() - self.root.as_usize()) as u64
    }
}

/// All subvolumes of a filesystem, by identifier.
#[derive(Clone, Debug)]
pub struct Volumes {
    tree: FileTree,
    all: Vec<Volume>,
    /// The one that holds the store.
    store: usize,
    /// The number of each node among the entries of its directory, from 0.
    numbers: Vec<u32>,
}

impl Volumes {
    /// The top level, whose files `tree` has, and the subvolumes at `paths` (plain components joined by slashes, sorted,
    /// none twice) in it; the store is in the one at `store_path`.
    ///
    /// # Panics
    /// If `store_path` is none of them, or `tree` lacks one of `paths`.
    pub fn new(tree: FileTree, store_path: &str, paths: &[String]) -> Self {
        Self::of(tree, store_path, paths.iter().cloned().zip(object::FIRST_FREE..).collect())
    }

    /// As [`new`](Self::new), of subvolumes that have their identifiers already: [`object::FIRST_FREE`] or more, none twice.
    ///
    /// # Panics
    /// Likewise.
    pub fn of(tree: FileTree, store_path: &str, subvolumes: Vec<(String, u64)>) -> Self {
        let paths: Vec<_> = subvolumes.iter().map(|(path, _)| path.clone()).collect();
        let mut list: Vec<_> = [(String::new(), object::FS_TREE)].into_iter().chain(subvolumes).collect();
        list.sort_unstable_by_key(|(_, id)| *id);
        let id = |path: &str| list.iter().find(|(other, _)| *other == path).map(|(_, id)| *id);
        let volume = |(path, own): &(String, u64)| {
            let names = path.split('/').filter(|name| !name.is_empty()).map(OsStr::new);
            let root = tree.find(names).expect("every subvolume has its directory");
            let parent = if path.is_empty() { None } else { id(around(&paths, path)) };
            Volume { id: *own, path: path.clone(), root, parent }
        };
        let all: Vec<_> = list.iter().map(volume).collect();
        let store = list.iter().position(|(path, _)| path == store_path).expect("the store has a subvolume");
        let numbers = entry_numbers(&tree);
        Self { tree, all, store, numbers }
    }

    /// All files.
    pub fn tree(&self) -> &FileTree {
        &self.tree
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

    /// The subvolumes directly in one, in the order of the tree.
    pub fn nested(&self, outer: &Volume) -> Vec<&Volume> {
        let mut nested: Vec<_> = self.all.iter().filter(|volume| volume.parent == Some(outer.id)).collect();
        nested.sort_unstable_by_key(|volume| volume.root);
        nested
    }

    /// The subvolume whose root directory a node is, the top level excepted.
    pub fn rooted_at(&self, node: NodeIndex) -> Option<&Volume> {
        self.all.iter().find(|volume| volume.root == node && volume.parent.is_some())
    }

    /// The subvolume that a node is in; its root is in itself.
    pub fn around(&self, node: NodeIndex) -> &Volume {
        let around = self.all.iter().filter(|volume| self.tree.is_under(volume.root, node));
        around.max_by_key(|volume| volume.root).expect("the top level is around everything")
    }

    /// The nodes of a subvolume, in the order of the tree.
    pub fn nodes(&self, volume: &Volume) -> impl Iterator<Item = NodeIndex> + '_ {
        let nested: Vec<_> = self.nested(volume).iter().map(|nested| nested.root).collect();
        let is_own = move |node: &NodeIndex| !nested.iter().any(|&root| self.tree.is_under(root, *node));
        self.tree.subtree(volume.root).filter(is_own)
    }

    /// The number of a node among the entries of its directory, from 0.
    pub fn number(&self, node: NodeIndex) -> u32 {
        self.numbers[node.as_usize()]
    }
}

fn entry_numbers(tree: &FileTree) -> Vec<u32> {
    let mut next = vec![0_u32; tree.len()];
    let number = |node| match node {
        NodeIndex::ROOT => 0,
        _ => {
            let next = &mut next[tree.parent(node).as_usize()];
            *next += 1;
            *next - 1
        }
    };
    tree.nodes().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tree::{DirectoryMode, TreeBuilder};

    /// A tree of nothing but the directories at `paths`, sorted, and all that leads to them.
    fn directories(paths: &[String]) -> FileTree {
        let mut builder = TreeBuilder::new(DirectoryMode::Writable);
        let mut open: Vec<&str> = Vec::new();
        for path in paths {
            let names: Vec<_> = path.split('/').collect();
            let common = open.iter().zip(&names).take_while(|(a, b)| a == b).count();
            (common..open.len()).for_each(|_| builder.leave());
            for name in &names[common..] {
                builder.enter(OsStr::new(name), DirectoryMode::Writable).unwrap();
            }
            open = names;
        }
        builder.finish()
    }

    fn volumes(store: &str, paths: &[&str]) -> Volumes {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        Volumes::new(directories(&paths), store, &paths)
    }

    fn describe(volumes: &Volumes) -> Vec<String> {
        let path = |volume: &Volume| {
            let inodes: Vec<_> = volumes.nodes(volume).map(|node| volume.inode(node).to_string()).collect();
            let place = volume.parent.map(|parent| format!(" in {parent}")).unwrap_or_default();
            format!("{} {:?}{place}: {}", volume.id, volume.path, inodes.join(" "))
        };
        volumes.iter().map(path).collect()
    }

    #[test]
    fn flat() {
        let volumes = volumes("@nix", &["@", "@home", "@nix"]);
        let lines = ["5 \"\": 256", "256 \"@\" in 5: 256", "257 \"@home\" in 5: 256", "258 \"@nix\" in 5: 256"];
        assert_eq!(describe(&volumes), lines);
        assert_eq!(volumes.store().id, 258);
    }

    #[test]
    fn nested() {
        let volumes = volumes("a", &["a", "a/b/c", "a/b/c/d", "ab", "x/y", "x/z"]);
        let lines = [
            "5 \"\": 256 262",
            "256 \"a\" in 5: 256 257",
            "257 \"a/b/c\" in 256: 256",
            "258 \"a/b/c/d\" in 257: 256",
            "259 \"ab\" in 5: 256",
            "260 \"x/y\" in 5: 256",
            "261 \"x/z\" in 5: 256",
        ];
        assert_eq!(describe(&volumes), lines);
        let innermost = volumes.get(258).unwrap().root;
        assert_eq!(volumes.around(innermost).id, 258);
        assert_eq!(volumes.around(volumes.tree().parent(innermost)).id, 257);
    }

    #[test]
    fn none() {
        let volumes = volumes("", &[]);
        assert_eq!(describe(&volumes), ["5 \"\": 256"]);
        assert_eq!(volumes.store().id, object::FS_TREE);
    }
}
