//! The files of one filesystem that will be made: names, kinds, sizes. Pure data, no I/O.
//!
//! The rest of [`source`](crate::source) makes it, and every layout reads it. Nodes stand in depth-first order, and the
//! names of each directory are sorted by bytes. So two hosts with the same files make the same tree, whatever the order
//! in their directories. A node costs 40 bytes and its name, so a million files fit in memory easily. Data that only a
//! few nodes have stands in separate tables.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use thiserror::Error;

use crate::times::Times;

/// The longest file name in bytes, on Linux and on every filesystem that we write.
pub const NAME_MAX: usize = 255;

/// A tree that cannot be built as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TreeError {
    /// A name that no directory can hold.
    #[error("{path}: {name:?} is not a valid file name")]
    InvalidName {
        /// The directory, from the tree's root.
        path: String,
        /// The name, made printable.
        name: String,
    },
    /// Two entries of one name, or entries added out of order.
    #[error("{path}: entry {name:?} comes twice or out of order")]
    Unsorted {
        /// The directory, from the tree's root.
        path: String,
        /// The later name, made printable.
        name: String,
    },
    /// More nodes or longer names than the tree's 32-bit indices can address.
    #[error("the tree has too many files: more than {} nodes or 4 GiB of names", u32::MAX)]
    TooLarge,
}

/// The index of a node in its [`FileTree`], in depth-first order; the root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

impl NodeIndex {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// As a plain index into a slice with one element per node.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Who owns a node, and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The permission bits with set-user-ID, set-group-ID and sticky: 0 to 0o7777.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Attributes {
    /// Root's, with these permissions.
    pub fn of_root(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// Who may do what with a directory of a store, or one on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryMode {
    /// 0555: inside a store path, where nothing may change.
    ReadOnly,
    /// 0755: the root, the way to the store, the extra directories.
    Writable,
}

/// Whether a regular file may be executed: the one permission that a store path records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executable {
    /// Mode 0555.
    Yes,
    /// Mode 0444.
    No,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind<'a> {
    /// A directory; see [`FileTree::children`].
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link and its target, any bytes but NUL.
    Symlink(&'a OsStr),
}

impl NodeKind<'_> {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// Where the contents of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A path of the host.
    Host(PathBuf),
    /// A path of the filesystem that the tree was read from.
    Image(PathBuf),
}

impl Origin {
    /// The path, wherever it is.
    pub fn into_path(self) -> PathBuf {
        match self {
            Self::Host(path) | Self::Image(path) => path,
        }
    }
}

/// A range of [`FileTree::text`].
#[derive(Clone, Copy, Debug)]
struct Text {
    start: u32,
    len: u16,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Directory { mode: DirectoryMode },
    File { size: u64, executable: Executable },
    Symlink { target: Text },
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    name: Text,
    parent: u32,
    /// One past the last node below this one: the next sibling, if there is one.
    end: u32,
}

/// A directory tree in canonical order. Immutable; made by [`TreeBuilder`].
#[derive(Clone, Debug)]
pub struct FileTree {
    nodes: Vec<Node>,
    /// Every name and every symlink target, end to end.
    text: Vec<u8>,
    /// Nodes whose contents come from a path of the host, sorted by index.
    origins: Vec<(NodeIndex, PathBuf)>,
    /// Whether all other nodes are those of a filesystem that exists.
    from_image: bool,
    /// Nodes that are not as a store has them, sorted by index.
    attributes: Vec<(NodeIndex, Attributes)>,
    /// Nodes whose times are not those of a store, sorted by index.
    times: Vec<(NodeIndex, Times)>,
    /// Nodes with flags, sorted by index.
    flags: Vec<(NodeIndex, u32)>,
}

impl FileTree {
    /// The number of nodes, the root included; at least 1.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the tree holds nothing but its root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// The number of regular files, and the sum of their sizes in bytes.
    pub fn file_totals(&self) -> (u64, u64) {
        self.nodes.iter().fold((0, 0), |(files, bytes), node| match node.kind {
            Kind::File { size, .. } => (files + 1, bytes + size),
            _ => (files, bytes),
        })
    }

    /// All nodes, in canonical (depth-first, name-sorted) order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeIndex> + use<> {
        (0..self.node_count()).map(NodeIndex)
    }

    /// The entries of a directory in order of their names; nothing for other kinds.
    pub fn children(&self, directory: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        let end = self.node(directory).end;
        let first = Some(directory.0 + 1).filter(|&i| i < end);
        std::iter::successors(first, move |&i| Some(self.nodes[i as usize].end).filter(|&next| next < end))
            .map(NodeIndex)
    }

    /// The nodes of the subtree under `node`, itself first, in canonical order.
    pub fn subtree(&self, node: NodeIndex) -> impl DoubleEndedIterator<Item = NodeIndex> + use<> {
        (node.0..self.node(node).end).map(NodeIndex)
    }

    /// The name of a node in its directory; the root's is empty.
    pub fn name(&self, node: NodeIndex) -> &OsStr {
        OsStr::from_bytes(self.text(self.node(node).name))
    }

    /// What the node is.
    pub fn kind(&self, node: NodeIndex) -> NodeKind<'_> {
        match self.node(node).kind {
            Kind::Directory { .. } => NodeKind::Directory,
            Kind::File { size, .. } => NodeKind::File { size },
            Kind::Symlink { target } => NodeKind::Symlink(OsStr::from_bytes(self.text(target))),
        }
    }

    /// Who owns the node, and its permissions: root, and what follows from its kind, unless it was given others.
    pub fn attributes(&self, node: NodeIndex) -> Attributes {
        if let Ok(found) = self.attributes.binary_search_by_key(&node, |(node, _)| *node) {
            return self.attributes[found].1;
        }
        Attributes::of_root(match self.node(node).kind {
            Kind::Directory { mode: DirectoryMode::ReadOnly } | Kind::File { executable: Executable::Yes, .. } => 0o555,
            Kind::Directory { mode: DirectoryMode::Writable } => 0o755,
            Kind::File { executable: Executable::No, .. } => 0o444,
            Kind::Symlink { .. } => 0o777,
        })
    }

    /// The times of the node: [`Times::STORE`], unless it was given others.
    pub fn times(&self, node: NodeIndex) -> Times {
        let found = self.times.binary_search_by_key(&node, |(node, _)| *node);
        found.map_or(Times::STORE, |found| self.times[found].1)
    }

    /// The flags of the node, as the format that it is written in has them: none, unless it was given some.
    pub fn flags(&self, node: NodeIndex) -> u32 {
        self.flags.binary_search_by_key(&node, |(node, _)| *node).map_or(0, |found| self.flags[found].1)
    }

    /// The directory that holds the node; the root's is itself.
    pub fn parent(&self, node: NodeIndex) -> NodeIndex {
        NodeIndex(self.node(node).parent)
    }

    /// The node's path from the tree's root, without a leading slash; empty for the root.
    pub fn path(&self, node: NodeIndex) -> PathBuf {
        self.path_below(NodeIndex::ROOT, PathBuf::new(), node)
    }

    /// Where on the host the contents of `node` lie, or `None` for what exists only in the image.
    pub fn source_path(&self, node: NodeIndex) -> Option<PathBuf> {
        let after = self.origins.partition_point(|(start, _)| *start <= node);
        let (origin, path) = self.origins.get(after.checked_sub(1)?)?;
        (node.0 < self.node(*origin).end).then(|| self.path_below(*origin, path.clone(), node))
    }

    /// Where the contents of `node` come from, or `None` for what exists only in the image that is made.
    pub fn origin(&self, node: NodeIndex) -> Option<Origin> {
        let host = self.source_path(node).map(Origin::Host);
        host.or_else(|| self.from_image.then(|| Origin::Image(self.path(node))))
    }

    /// Whether `node` is `directory` or anywhere below it.
    pub fn is_under(&self, directory: NodeIndex, node: NodeIndex) -> bool {
        (directory.0..self.node(directory).end).contains(&node.0)
    }

    /// The node at `path`, given as names from the root, or `None` if there is none.
    pub fn find<'a>(&self, path: impl IntoIterator<Item = &'a OsStr>) -> Option<NodeIndex> {
        self.find_below(NodeIndex::ROOT, path)
    }

    /// The node at `path`, given as names from a directory, or `None` if there is none.
    pub fn find_below<'a>(&self, directory: NodeIndex, path: impl IntoIterator<Item = &'a OsStr>) -> Option<NodeIndex> {
        path.into_iter()
            .try_fold(directory, |directory, name| self.children(directory).find(|&child| self.name(child) == name))
    }

    fn path_below(&self, top: NodeIndex, top_path: PathBuf, node: NodeIndex) -> PathBuf {
        let mut names = Vec::new();
        let mut at = node;
        while at != top {
            names.push(self.name(at));
            at = self.parent(at);
        }
        let mut path = top_path;
        path.extend(names.iter().rev());
        path
    }

    fn node_count(&self) -> u32 {
        u32::try_from(self.nodes.len()).expect("TreeBuilder keeps the number of nodes in 32 bits")
    }

    fn node(&self, node: NodeIndex) -> &Node {
        &self.nodes[node.as_usize()]
    }

    fn text(&self, text: Text) -> &[u8] {
        &self.text[text.start as usize..][..usize::from(text.len)]
    }
}

/// Builds a [`FileTree`] by walking it in order: enter a directory, add its entries sorted by name, leave.
///
/// Refuses names that are out of order, so that no caller can leak a host's directory order.
#[derive(Debug)]
pub struct TreeBuilder {
    tree: FileTree,
    /// The directories that are entered and not yet left, the root first, each with its last entry.
    open: Vec<(NodeIndex, Option<NodeIndex>)>,
}

impl TreeBuilder {
    /// A tree of nothing but a root directory, which is entered.
    pub fn new(root: DirectoryMode) -> Self {
        let name = Text { start: 0, len: 0 };
        let root = Node { kind: Kind::Directory { mode: root }, name, parent: 0, end: 1 };
        let (origins, attributes, times, flags) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let tree =
            FileTree { nodes: vec![root], text: Vec::new(), origins, from_image: false, attributes, times, flags };
        Self { tree, open: vec![(NodeIndex::ROOT, None)] }
    }

    /// A tree as [`new`](Self::new) makes it, whose nodes without an origin of their own have that path in a filesystem
    /// that exists.
    pub fn from_image(root: DirectoryMode) -> Self {
        let mut builder = Self::new(root);
        builder.tree.from_image = true;
        builder
    }

    /// Adds a directory to the current one and enters it.
    pub fn enter(&mut self, name: &OsStr, mode: DirectoryMode) -> Result<NodeIndex, TreeError> {
        let node = self.push(name, Kind::Directory { mode })?;
        self.open.push((node, None));
        Ok(node)
    }

    /// Leaves the current directory for its parent.
    ///
    /// # Panics
    /// If the current directory is the root: a mistake of the caller.
    pub fn leave(&mut self) {
        assert!(self.open.len() > 1, "the root directory is never left");
        self.open.pop();
    }

    /// Adds a regular file of `size` bytes to the current directory.
    pub fn file(&mut self, name: &OsStr, size: u64, executable: Executable) -> Result<NodeIndex, TreeError> {
        self.push(name, Kind::File { size, executable })
    }

    /// Adds a symbolic link to the current directory.
    pub fn symlink(&mut self, name: &OsStr, target: &OsStr) -> Result<NodeIndex, TreeError> {
        let target = self.push_text(target.as_bytes())?;
        self.push(name, Kind::Symlink { target })
    }

    /// Says that `node` and all below it come from `source` on the host.
    ///
    /// Origins do not nest: the last one at or before a node is the one that counts.
    pub fn set_origin(&mut self, node: NodeIndex, source: PathBuf) {
        debug_assert!(self.tree.origins.last().is_none_or(|(last, _)| *last < node));
        self.tree.origins.push((node, source));
    }

    /// Gives the newest node, or the root, other attributes than a store has.
    pub fn set_attributes(&mut self, node: NodeIndex, attributes: Attributes) {
        debug_assert!(self.tree.attributes.last().is_none_or(|(last, _)| *last < node));
        if self.tree.attributes(node) != attributes {
            self.tree.attributes.push((node, attributes));
        }
    }

    /// Gives the newest node, or the root, other times than a store has.
    pub fn set_times(&mut self, node: NodeIndex, times: Times) {
        debug_assert!(self.tree.times.last().is_none_or(|(last, _)| *last < node));
        if times != Times::STORE {
            self.tree.times.push((node, times));
        }
    }

    /// Gives the newest node, or the root, flags of the format that it is written in.
    pub fn set_flags(&mut self, node: NodeIndex, flags: u32) {
        debug_assert!(self.tree.flags.last().is_none_or(|(last, _)| *last < node));
        if flags != 0 {
            self.tree.flags.push((node, flags));
        }
    }

    /// Adds all entries of another tree's root to the current directory, after those already there.
    ///
    /// # Errors
    /// If the first of them does not sort after the current directory's last entry.
    pub fn append(&mut self, other: &FileTree) -> Result<(), TreeError> {
        let mut others = other.children(NodeIndex::ROOT).peekable();
        if let Some(&first) = others.peek() {
            self.check_name(other.name(first))?;
        }
        let last = others.last();
        let (directory, _) = self.current();
        let nodes = u32::try_from(self.tree.nodes.len()).map_err(|_| TreeError::TooLarge)?;
        let text = u32::try_from(self.tree.text.len()).map_err(|_| TreeError::TooLarge)?;
        let fits = |base: u32, more: usize| u32::try_from(more).ok().and_then(|more| base.checked_add(more));
        fits(nodes, other.nodes.len()).ok_or(TreeError::TooLarge)?;
        fits(text, other.text.len()).ok_or(TreeError::TooLarge)?;
        // The other root is dropped: its entry 1 becomes our entry `nodes`.
        let moved = |index: u32| index - 1 + nodes;
        let moved_text = |t: Text| Text { start: t.start + text, len: t.len };
        self.tree.nodes.extend(other.nodes.iter().skip(1).map(|node| Node {
            kind: match node.kind {
                Kind::Symlink { target } => Kind::Symlink { target: moved_text(target) },
                kind => kind,
            },
            name: moved_text(node.name),
            parent: if node.parent == 0 { directory.0 } else { moved(node.parent) },
            end: moved(node.end),
        }));
        self.tree.text.extend_from_slice(&other.text);
        for (node, source) in &other.origins {
            debug_assert_ne!(*node, NodeIndex::ROOT, "the dropped root can hold no origin");
            self.set_origin(NodeIndex(moved(node.0)), source.clone());
        }
        for (node, attributes) in other.attributes.iter().filter(|(node, _)| *node != NodeIndex::ROOT) {
            self.set_attributes(NodeIndex(moved(node.0)), *attributes);
        }
        for (node, times) in other.times.iter().filter(|(node, _)| *node != NodeIndex::ROOT) {
            self.set_times(NodeIndex(moved(node.0)), *times);
        }
        for (node, flags) in other.flags.iter().filter(|(node, _)| *node != NodeIndex::ROOT) {
            self.set_flags(NodeIndex(moved(node.0)), *flags);
        }
        if let Some(last) = last {
            self.set_last(NodeIndex(moved(last.0)));
        }
        self.extend_ends();
        Ok(())
    }

    /// The finished tree.
    pub fn finish(self) -> FileTree {
        self.tree
    }

    fn push(&mut self, name: &OsStr, kind: Kind) -> Result<NodeIndex, TreeError> {
        self.check_name(name)?;
        let index = u32::try_from(self.tree.nodes.len()).map_err(|_| TreeError::TooLarge)?;
        let end = index.checked_add(1).ok_or(TreeError::TooLarge)?;
        let name = self.push_text(name.as_bytes())?;
        let (directory, _) = self.current();
        self.tree.nodes.push(Node { kind, name, parent: directory.0, end });
        self.set_last(NodeIndex(index));
        self.extend_ends();
        Ok(NodeIndex(index))
    }

    fn push_text(&mut self, bytes: &[u8]) -> Result<Text, TreeError> {
        let start = u32::try_from(self.tree.text.len()).map_err(|_| TreeError::TooLarge)?;
        let len = u16::try_from(bytes.len()).map_err(|_| TreeError::TooLarge)?;
        start.checked_add(u32::from(len)).ok_or(TreeError::TooLarge)?;
        self.tree.text.extend_from_slice(bytes);
        Ok(Text { start, len })
    }

    fn check_name(&self, name: &OsStr) -> Result<(), TreeError> {
        let (directory, last) = self.current();
        let path = || format!("/{}", self.tree.path(directory).display());
        let bytes = name.as_bytes();
        let bad = bytes.is_empty() || bytes.len() > NAME_MAX || bytes.iter().any(|&b| b == 0 || b == b'/');
        if bad || bytes == b"." || bytes == b".." {
            return Err(TreeError::InvalidName { path: path(), name: name.display().to_string() });
        }
        match last.map(|last| self.tree.name(last).cmp(name)) {
            None | Some(Ordering::Less) => Ok(()),
            _ => Err(TreeError::Unsorted { path: path(), name: name.display().to_string() }),
        }
    }

    fn current(&self) -> (NodeIndex, Option<NodeIndex>) {
        *self.open.last().expect("the root is never left")
    }

    fn set_last(&mut self, node: NodeIndex) {
        self.open.last_mut().expect("the root is never left").1 = Some(node);
    }

    /// Every directory that is still open now ends after the newest node.
    fn extend_ends(&mut self) {
        let end = self.tree.node_count();
        for (directory, _) in &self.open {
            self.tree.nodes[directory.as_usize()].end = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::Timestamp;

    fn os(s: &str) -> &OsStr {
        OsStr::new(s)
    }

    fn sample() -> FileTree {
        let mut b = TreeBuilder::new(DirectoryMode::Writable);
        let a = b.enter(os("a"), DirectoryMode::ReadOnly).unwrap();
        b.set_origin(a, PathBuf::from("/host/a"));
        b.file(os("x"), 3, Executable::Yes).unwrap();
        b.enter(os("y"), DirectoryMode::ReadOnly).unwrap();
        b.symlink(os("l"), os("../x")).unwrap();
        b.leave();
        b.leave();
        b.file(os("b"), 5, Executable::No).unwrap();
        b.finish()
    }

    fn paths(tree: &FileTree) -> Vec<String> {
        tree.nodes().map(|n| tree.path(n).display().to_string()).collect()
    }

    #[test]
    fn nodes_stand_depth_first() {
        let tree = sample();
        assert_eq!(paths(&tree), ["", "a", "a/x", "a/y", "a/y/l", "b"]);
        let top: Vec<_> = tree.children(NodeIndex::ROOT).map(|n| tree.name(n).to_owned()).collect();
        assert_eq!(top, ["a", "b"]);
        assert_eq!(tree.children(NodeIndex(2)).count(), 0);
        assert_eq!(tree.subtree(NodeIndex(1)).count(), 4);
    }

    #[test]
    fn sources_follow_the_origin() {
        let tree = sample();
        let link = tree.find([os("a"), os("y"), os("l")]).unwrap();
        assert_eq!(tree.source_path(link), Some(PathBuf::from("/host/a/y/l")));
        assert_eq!(tree.source_path(NodeIndex(5)), None);
        assert_eq!(tree.source_path(NodeIndex::ROOT), None);
    }

    #[test]
    fn append_keeps_order_and_origins() {
        let mut b = TreeBuilder::new(DirectoryMode::Writable);
        b.enter(os("store"), DirectoryMode::Writable).unwrap();
        b.append(&sample()).unwrap();
        b.file(os("c"), 0, Executable::No).unwrap();
        b.leave();
        let tree = b.finish();
        assert_eq!(
            paths(&tree),
            ["", "store", "store/a", "store/a/x", "store/a/y", "store/a/y/l", "store/b", "store/c"]
        );
        assert_eq!(tree.source_path(NodeIndex(5)), Some(PathBuf::from("/host/a/y/l")));
        assert_eq!(tree.kind(NodeIndex(5)), NodeKind::Symlink(os("../x")));
        assert_eq!(tree.parent(NodeIndex(4)), NodeIndex(2));
    }

    fn at(seconds: i64) -> Times {
        let time = Timestamp { seconds, nanoseconds: 7 };
        Times { access: time, change: time, modification: Timestamp::STORE, birth: time }
    }

    #[test]
    fn times_are_those_of_a_store_but_where_set() {
        let mut inner = TreeBuilder::new(DirectoryMode::Writable);
        inner.set_times(NodeIndex::ROOT, at(10));
        let x = inner.file(os("x"), 0, Executable::No).unwrap();
        inner.set_times(x, at(11));
        let y = inner.file(os("y"), 0, Executable::No).unwrap();
        inner.set_times(y, Times::STORE);
        let inner = inner.finish();
        assert_eq!(inner.times.len(), 2, "nothing is kept of what a store has");
        assert_eq!([NodeIndex::ROOT, x, y].map(|node| inner.times(node)), [at(10), at(11), Times::STORE]);

        let mut outer = TreeBuilder::new(DirectoryMode::Writable);
        let a = outer.enter(os("a"), DirectoryMode::Writable).unwrap();
        outer.set_times(a, at(-5));
        outer.append(&inner).unwrap();
        outer.leave();
        let b = outer.file(os("b"), 0, Executable::No).unwrap();
        outer.set_times(b, at(i64::MAX));
        let tree = outer.finish();
        let found: Vec<_> =
            tree.nodes().map(|node| (tree.path(node).display().to_string(), tree.times(node))).collect();
        let wanted = [("", Times::STORE), ("a", at(-5)), ("a/x", at(11)), ("a/y", Times::STORE), ("b", at(i64::MAX))];
        assert_eq!(found, wanted.map(|(path, times)| (path.to_owned(), times)));
    }

    #[test]
    fn disorder_and_bad_names_are_refused() {
        let mut b = TreeBuilder::new(DirectoryMode::Writable);
        b.file(os("b"), 0, Executable::No).unwrap();
        for name in ["a", "b"] {
            assert!(matches!(b.file(os(name), 0, Executable::No), Err(TreeError::Unsorted { .. })));
        }
        assert!(matches!(b.append(&sample()), Err(TreeError::Unsorted { .. })));
        for name in ["", ".", "..", "x/y", "x\0y", &"n".repeat(256)] {
            assert!(matches!(b.file(os(name), 0, Executable::No), Err(TreeError::InvalidName { .. })), "{name:?}");
        }
        b.file(os(&"n".repeat(255)), 0, Executable::No).unwrap();
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node>() <= 40, "{}", size_of::<Node>());
    }
}
