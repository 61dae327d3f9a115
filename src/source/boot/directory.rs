//! `/boot` as a directory of the filesystem of the store. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::BOOT;
use super::error::PopulateError;
use crate::source::own::{OwnEntry, OwnKind};
use crate::source::tree::{Attributes, FileTree, NodeKind};

/// Where GRUB's configuration is, which may hold hashes of passwords: nixpkgs' installer closes it to others, too.
const GRUB: &str = "grub";

/// Where a directory comes from that boot loaders need.
const MADE: &str = "the files of boot loaders";

/// The entries of `tree`, which is `/boot`, and lies at `place` of the filesystem of the store.
pub(super) fn entries(tree: &FileTree, place: &Path) -> Vec<OwnEntry> {
    let nodes = tree.nodes().filter(|_| !tree.is_empty());
    let entries = nodes.filter_map(|node| {
        let path = tree.path(node);
        let source = tree.source_path(node).unwrap_or_default();
        let origin = tree.source_path(node).map_or(MADE.to_owned(), |path| path.display().to_string());
        let (kind, mode) = match tree.kind(node) {
            NodeKind::Directory if path == Path::new(GRUB) => (OwnKind::Directory, 0o700),
            NodeKind::Directory => (OwnKind::Directory, 0o755),
            NodeKind::File { size } => (OwnKind::File { source, size }, 0o644),
            NodeKind::Symlink { .. } => return None,
        };
        let (place, target) = (plain(&place.join(&path)), plain(&Path::new(BOOT).join(&path)));
        Some(OwnEntry { path: place, target, kind, attributes: Attributes::of_root(mode), origin })
    });
    entries.collect()
}

/// The host's own files over those of boot loaders, each directory before what is in it. Directories of boot loaders keep
/// their modes: who lays a file into `/boot/grub` does not open it to others.
///
/// # Errors
/// If one has a file where the other has a directory.
pub fn beneath(boot: &[OwnEntry], own: &[OwnEntry]) -> Result<Vec<OwnEntry>, PopulateError> {
    let mut entries: BTreeMap<&Path, &OwnEntry> = BTreeMap::new();
    for entry in boot.iter().chain(own) {
        match entries.get(entry.path.as_path()) {
            Some(under) if is_directory(under) != is_directory(entry) => return Err(disagree(under, entry)),
            Some(under) if is_directory(under) => {}
            _ => {
                entries.insert(&entry.path, entry);
            }
        }
    }
    for entry in entries.values() {
        let above = entry.path.ancestors().skip(1).filter_map(|path| entries.get(path));
        if let Some(file) = above.into_iter().find(|above| !is_directory(above)) {
            return Err(disagree(file, entry));
        }
    }
    Ok(entries.into_values().cloned().collect())
}

fn is_directory(entry: &OwnEntry) -> bool {
    entry.kind == OwnKind::Directory
}

fn disagree(one: &OwnEntry, other: &OwnEntry) -> PopulateError {
    let (file, directory) = if is_directory(one) { (other, one) } else { (one, other) };
    let path = file.target.clone();
    PopulateError::FileAndDirectory { path, file: (&file.origin).into(), directory: (&directory.origin).into() }
}

/// Without the slash at the end that joining nothing leaves.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}
