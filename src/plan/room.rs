//! The number of further generations of the system for which there is room where kernels are: on the ESP, or on XBOOTLDR.

use std::ffi::OsStr;

use serde::Serialize;

use super::Laid;
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::units::MIB;
use crate::vfat::VfatLayout;

/// Where boot loaders' installers keep what each generation has of its own: systemd-boot's kernels and initrds, unified
/// kernel images, the kernels, initrds and device trees of extlinux.
const KEPT_BY_GENERATION: [&[&str]; 3] = [&["EFI", "nixos"], &["EFI", "Linux"], &["nixos"]];
/// systemd-boot's entries; those that start with [`ENTRY_PREFIX`] are the installer's.
const ENTRIES: [&str; 2] = ["loader", "entries"];
const ENTRY_PREFIX: &[u8] = b"nixos-";
/// The list that systemd-boot's installer keeps of files that belong to no generation.
const MARKERS: &str = ".extra-files";

/// What a generation takes of the ESP, and what is left. Sizes are in bytes and count whole clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootRoom {
    /// What this generation has there for itself; 0 if there is nothing that is known to be a generation's.
    pub generation_size: u64,
    /// How many more of that size there is room for; `null` if that is not known.
    pub more_generations: Option<u64>,
}

/// No kernel is smaller: what takes less is a test's.
const KERNEL_MIN: u64 = MIB;

impl BootRoom {
    pub(super) fn new(boot: &Laid<'_, VfatLayout>) -> Self {
        let Laid { tree, layout } = boot;
        let clusters = |node| match tree.kind(node) {
            NodeKind::File { size } => size.next_multiple_of(layout.cluster_size()),
            _ => 0,
        };
        let generation_size = kept(tree).into_iter().map(clusters).sum();
        Self { generation_size, more_generations: layout.free_bytes().checked_div(generation_size) }
    }
}

impl BootRoom {
    /// How many more generations have room, if this generation has files that were measured.
    pub fn for_people(&self) -> Option<u64> {
        self.more_generations.filter(|_| self.generation_size >= KERNEL_MIN)
    }

    /// The warning for an ESP of `size` bytes that has no room for the next generation.
    pub fn warning(&self, size: u64) -> Option<String> {
        let Self { generation_size, more_generations: Some(0) } = *self else { return None };
        // The free bytes are fewer than one generation: with one more of them, there is room.
        let enough = size.saturating_add(generation_size).next_multiple_of(MIB);
        Some(format!(
            "/boot has no room for another generation: this one takes {} MiB and less is free, so the first \
             update would fail; set bootPartSize to {enough} at least",
            generation_size.div_ceil(MIB)
        ))
    }
}

/// The files of a generation. Those of others would have other names, whatever they share.
fn kept(tree: &FileTree) -> Vec<NodeIndex> {
    let find = |path: &[&str]| tree.find(path.iter().map(OsStr::new));
    let markers = find(&["EFI", "nixos", MARKERS]);
    let is_marker = |node: &NodeIndex| markers.is_some_and(|top| tree.subtree(top).any(|other| other == *node));
    let files = KEPT_BY_GENERATION.into_iter().filter_map(find).flat_map(|top| tree.subtree(top));
    let entries = find(&ENTRIES).into_iter().flat_map(|top| tree.children(top));
    let entries = entries.filter(|&node| tree.name(node).as_encoded_bytes().starts_with(ENTRY_PREFIX));
    files.filter(|node| !is_marker(node)).chain(entries).collect()
}
