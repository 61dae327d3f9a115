//! The place of everything on an ESP. Pure.
//!
//! Each new cluster has the next number. A directory gets its first cluster together with its own entry, and another
//! one whenever an entry needs it. So files that are near in the tree are near on the disk.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::VfatError;
use super::geometry::{FIRST_CLUSTER, Geometry};
use super::names;
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
#[cfg(test)]
use crate::units::ByteOffset;
use crate::units::{MIB, SectorSize, align_up};

/// Bytes of a directory entry.
pub(super) const ENTRY: u32 = 32;
/// The most entries of a directory: FAT limits directories to 2 MiB.
const ENTRIES_MAX: u32 = 65_536;
/// The entries for `.` and `..`.
const DOT_ENTRIES: u32 = 2;
/// How many files a "does not fit" names.
const LARGEST: usize = 10;

/// The options of an ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfatParams {
    /// The size of the filesystem in bytes: a multiple of the sector size.
    pub size: u64,
    /// The disk's sector size.
    pub sector_size: SectorSize,
    /// The volume id, shown as `XXXX-XXXX`.
    pub volume_id: u32,
    /// The volume label: up to 11 ASCII characters; empty for none.
    pub label: String,
}

/// Where the parts of a node lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The first cluster of its contents, or 0 if it has none.
    pub(super) cluster: u32,
}

/// A directory's clusters in order, and the number of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Directory {
    clusters: Vec<u32>,
    entries: u32,
}

/// An ESP of which every block is decided, and which is known to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfatLayout {
    params: VfatParams,
    label: Option<[u8; 11]>,
    geometry: Geometry,
    used_clusters: u32,
    /// One a node of the tree.
    places: Vec<Place>,
    directories: BTreeMap<NodeIndex, Directory>,
}

impl VfatLayout {
    /// Lays out `tree`, in which every symlink was resolved.
    ///
    /// # Errors
    /// If FAT cannot hold the tree (an illegal name, a collision, a symlink, a file or directory too large), if
    /// `params` make no FAT32 filesystem, or if the tree does not fit into it.
    pub fn new(tree: &FileTree, params: &VfatParams) -> Result<Self, VfatError> {
        let label = padded_label(&params.label)?;
        let geometry = Geometry::new(params.size, params.sector_size)?;
        let entries = check_tree(tree, label.is_some())?;
        let used = clusters_of(tree, &entries, &geometry);
        let used_clusters = match u32::try_from(used) {
            Ok(used) if used <= geometry.clusters => used,
            _ => return Err(does_not_fit(tree, &entries, params, &geometry, used)?),
        };
        let placer = Placer::new(tree, &geometry, label.is_some());
        let (places, directories) = placer.place();
        Ok(Self { params: params.clone(), label, geometry, used_clusters, places, directories })
    }

    /// The size of the filesystem in bytes.
    pub fn size(&self) -> u64 {
        self.params.size
    }

    /// The unit of allocation in bytes.
    pub fn cluster_size(&self) -> u64 {
        self.geometry.cluster_size
    }

    /// The number of clusters in all.
    pub fn clusters(&self) -> u32 {
        self.geometry.clusters
    }

    /// The number of clusters that stay free.
    pub fn free_clusters(&self) -> u32 {
        self.geometry.clusters - self.used_clusters
    }

    /// The clusters of files and directories, in bytes.
    pub fn used_bytes(&self) -> u64 {
        u64::from(self.used_clusters) * self.geometry.cluster_size
    }

    /// The clusters that stay free, in bytes.
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.free_clusters()) * self.geometry.cluster_size
    }

    pub(super) fn params(&self) -> &VfatParams {
        &self.params
    }

    pub(super) fn label(&self) -> Option<[u8; 11]> {
        self.label
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The number of clusters in use.
    pub(super) fn used_clusters(&self) -> u32 {
        self.used_clusters
    }

    pub(super) fn place(&self, node: NodeIndex) -> Place {
        self.places[node.as_usize()]
    }

    /// The clusters of `directory`, in order.
    pub(super) fn directory_clusters(&self, directory: NodeIndex) -> &[u32] {
        &self.directories[&directory].clusters
    }

    /// Where entry number `entry` of `directory` lies.
    #[cfg(test)]
    pub(super) fn entry_offset(&self, directory: NodeIndex, entry: u32) -> ByteOffset {
        let at = u64::from(entry) * u64::from(ENTRY);
        let cluster = usize::try_from(at / self.geometry.cluster_size).expect("a directory has at most 2 MiB");
        let start = self.geometry.cluster_offset(self.directories[&directory].clusters[cluster]);
        ByteOffset(start.0 + at % self.geometry.cluster_size)
    }
}

/// The children of `directory` in the order in which they have their entries: that of the tree, but for names that look like
/// short aliases, which come first.
pub(super) fn creation_order(tree: &FileTree, directory: NodeIndex) -> Vec<NodeIndex> {
    let mut children: Vec<_> = tree.children(directory).collect();
    children.sort_by_cached_key(|&child| tree.name(child).to_str().map(names::creation_rank));
    children
}

/// Checks all that does not depend on the filesystem's size. Returns the number of entries of each directory, by node.
fn check_tree(tree: &FileTree, has_label: bool) -> Result<Vec<u32>, VfatError> {
    let mut entries = vec![0; tree.len()];
    for node in tree.nodes() {
        match tree.kind(node) {
            NodeKind::Symlink(_) => return Err(VfatError::Symlink { path: tree.path(node) }),
            NodeKind::File { size } if size > u64::from(u32::MAX) => {
                return Err(VfatError::FileTooLarge { path: tree.path(node), size });
            }
            NodeKind::File { .. } => {}
            NodeKind::Directory => entries[node.as_usize()] = check_directory(tree, node, has_label)?,
        }
    }
    Ok(entries)
}

/// Checks the names in a directory. Returns the number of its entries.
fn check_directory(tree: &FileTree, directory: NodeIndex, has_label: bool) -> Result<u32, VfatError> {
    let mut seen = BTreeMap::new();
    let mut entries = u64::from(own_entries(directory, has_label));
    for child in tree.children(directory) {
        let name = names::check(tree.name(child)).map_err(|fault| VfatError::Name { path: tree.path(child), fault })?;
        if let Some(first) = seen.insert(names::folded(name), child) {
            return Err(VfatError::CaseCollision { first: tree.path(first), second: tree.path(child) });
        }
        entries += u64::from(names::long_entries(name)) + 1;
    }
    u32::try_from(entries)
        .ok()
        .filter(|&n| n <= ENTRIES_MAX)
        .ok_or_else(|| VfatError::DirectoryTooLarge { path: tree.path(directory), entries })
}

/// The entries of a directory before those of its children.
fn own_entries(directory: NodeIndex, has_label: bool) -> u32 {
    if directory == NodeIndex::ROOT { u32::from(has_label) } else { DOT_ENTRIES }
}

/// The number of clusters that `tree` takes.
fn clusters_of(tree: &FileTree, entries: &[u32], geometry: &Geometry) -> u64 {
    let clusters = |node: NodeIndex| match tree.kind(node) {
        NodeKind::Directory => geometry.clusters_for(u64::from(entries[node.as_usize()]) * u64::from(ENTRY)).max(1),
        NodeKind::File { size } => geometry.clusters_for(size),
        NodeKind::Symlink(_) => 0,
    };
    tree.nodes().map(clusters).sum()
}

/// The error that `tree`, which takes `used` clusters, does not fit, with the size that would do.
fn does_not_fit(
    tree: &FileTree,
    entries: &[u32],
    params: &VfatParams,
    geometry: &Geometry,
    used: u64,
) -> Result<VfatError, VfatError> {
    let missing = (used - u64::from(geometry.clusters)) * geometry.cluster_size;
    let mut at_least = params.size;
    let mut lacking = missing;
    while lacking > 0 {
        at_least = at_least.checked_add(lacking).and_then(|size| align_up(size, MIB)).unwrap_or(u64::MAX - (MIB - 1));
        let larger = Geometry::new(at_least, params.sector_size)?;
        let more = clusters_of(tree, entries, &larger).saturating_sub(u64::from(larger.clusters));
        lacking = more * larger.cluster_size;
    }
    Ok(VfatError::DoesNotFit { size: params.size, missing, at_least, largest: largest_files(tree) })
}

/// The largest files and their sizes in bytes.
fn largest_files(tree: &FileTree) -> Vec<(PathBuf, u64)> {
    let size = |node| match tree.kind(node) {
        NodeKind::File { size } => Some((node, size)),
        _ => None,
    };
    let mut files: Vec<_> = tree.nodes().filter_map(size).collect();
    files.sort_by_key(|&(node, size)| (Reverse(size), node));
    files.iter().take(LARGEST).map(|&(node, size)| (tree.path(node), size)).collect()
}

/// The label as FAT stores it, padded with spaces; `None` if empty.
pub(super) fn padded_label(label: &str) -> Result<Option<[u8; 11]>, VfatError> {
    let fault = |reason| Err(VfatError::Label { label: label.to_owned(), reason });
    if label.is_empty() {
        return Ok(None);
    }
    if label.len() > 11 {
        return fault("it is longer than 11 bytes");
    }
    if label.starts_with(' ') || label.ends_with(' ') {
        return fault("it starts or ends with a space");
    }
    if label == "NO NAME" {
        return fault("it is what FAT calls a volume without a label");
    }
    if label.bytes().any(|b| !(b' '..=b'~').contains(&b) || b"\"*+,./:;<=>?[\\]|".contains(&b)) {
        return fault("it holds a character that FAT labels cannot hold");
    }
    let mut padded = [b' '; 11];
    padded[..label.len()].copy_from_slice(label.as_bytes());
    Ok(Some(padded))
}

/// Hands out clusters. The tree must fit.
struct Placer<'a> {
    tree: &'a FileTree,
    geometry: &'a Geometry,
    next_cluster: u32,
    places: Vec<Place>,
    directories: BTreeMap<NodeIndex, Directory>,
}

impl<'a> Placer<'a> {
    fn new(tree: &'a FileTree, geometry: &'a Geometry, has_label: bool) -> Self {
        let places = vec![Place::default(); tree.len()];
        let mut placer = Self { tree, geometry, next_cluster: FIRST_CLUSTER, places, directories: BTreeMap::new() };
        placer.begin(NodeIndex::ROOT, own_entries(NodeIndex::ROOT, has_label));
        placer
    }

    fn place(mut self) -> (Vec<Place>, BTreeMap<NodeIndex, Directory>) {
        self.fill(NodeIndex::ROOT);
        (self.places, self.directories)
    }

    /// Places all below `directory`.
    fn fill(&mut self, directory: NodeIndex) {
        for child in creation_order(self.tree, directory) {
            match self.tree.kind(child) {
                NodeKind::Directory => {
                    self.begin(child, DOT_ENTRIES);
                    self.add_entries(directory, child);
                    self.fill(child);
                }
                NodeKind::File { size } => {
                    self.add_entries(directory, child);
                    self.places[child.as_usize()].cluster = if size == 0 { 0 } else { self.next_cluster };
                    let clusters = self.geometry.clusters_for(size);
                    self.next_cluster += u32::try_from(clusters).expect("the tree fits");
                }
                NodeKind::Symlink(_) => unreachable!("the tree was checked"),
            }
        }
    }

    /// Gives a new directory its first cluster.
    fn begin(&mut self, directory: NodeIndex, entries: u32) {
        let cluster = self.take_cluster();
        self.places[directory.as_usize()].cluster = cluster;
        self.directories.insert(directory, Directory { clusters: vec![cluster], entries });
    }

    /// Adds the entries for `child` to its directory, which may take one more cluster.
    fn add_entries(&mut self, directory: NodeIndex, child: NodeIndex) {
        let name = self.tree.name(child).to_str().expect("the tree was checked");
        let more = names::long_entries(name) + 1;
        let at = &self.directories[&directory];
        let bytes = u64::from(at.entries + more) * u64::from(ENTRY);
        let growth = self.geometry.clusters_for(bytes) - at.clusters.len() as u64;
        let clusters: Vec<_> = (0..growth).map(|_| self.take_cluster()).collect();
        let at = self.directories.get_mut(&directory).expect("a directory begins before its entries");
        at.entries += more;
        at.clusters.extend(clusters);
    }

    fn take_cluster(&mut self) -> u32 {
        self.next_cluster += 1;
        self.next_cluster - 1
    }
}
