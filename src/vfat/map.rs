//! The use of every byte of a laid-out filesystem. Pure.

use super::geometry::{FIRST_CLUSTER, RESERVED_SECTORS};
use super::layout::VfatLayout;
use crate::map::{Held, MapBuilder};
use crate::source::tree::{FileTree, NodeKind};

/// The extents of the filesystem, from its own first byte on. The clusters that it does not list are free.
pub fn map(layout: &VfatLayout, tree: &FileTree) -> MapBuilder {
    let geometry = layout.geometry();
    let mut map = MapBuilder::default();
    map.add(0..RESERVED_SECTORS * geometry.sector_size, Held::Metadata);
    let entries = |cluster| geometry.fat_entries(cluster);
    let free =
        entries(FIRST_CLUSTER + layout.used_clusters()).into_iter().zip(entries(FIRST_CLUSTER + geometry.clusters));
    for (start, (free, past)) in entries(0).into_iter().zip(free) {
        map.add(start.0..free.0, Held::Metadata);
        // A FAT marks free clusters with zeros.
        map.add(free.0..past.0, Held::Zeros);
        // Entries of clusters that there are not say that.
        map.add(past.0..start.0 + geometry.fat_bytes, Held::Metadata);
    }
    for node in tree.nodes() {
        match tree.kind(node) {
            NodeKind::Directory => {
                for &cluster in layout.directory_clusters(node) {
                    let start = geometry.cluster_offset(cluster).0;
                    map.add(start..start + geometry.cluster_size, Held::Metadata);
                }
            }
            NodeKind::File { size: size @ 1.. } => {
                let start = geometry.cluster_offset(layout.place(node).cluster).0;
                map.add(start..start + geometry.clusters_for(size) * geometry.cluster_size, Held::Contents);
            }
            NodeKind::File { .. } | NodeKind::Symlink(_) => {}
        }
    }
    map
}
