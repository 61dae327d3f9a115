//! Nix's database of the image's store paths: its files, and where the image has them.
//!
//! Where Nix itself looks for it, if that is on the filesystem of the store and can be written. Otherwise at the root of
//! that filesystem, from where the running system copies it.

use std::fs;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::{OwnEntry, OwnKind};
use crate::source::links::{self, Unresolved};
use crate::source::tree::Attributes;
use crate::spec::{Location, Spec};
use crate::store::StoreRoot;
use crate::store::registration::IMAGE_DATABASE;

/// Where Nix has its database in the running system.
const NIX_DATABASE: &str = "/nix/var/nix/db";
/// The files of a database that nobody uses: itself, and the version of what is in it.
const FILES: [&str; 2] = ["db.sqlite", "schema"];
/// Changes that are not in it yet.
const PENDING: [&str; 2] = ["db.sqlite-wal", "db.sqlite-journal"];
/// As Nix makes its own.
const MODE: u16 = 0o644;

/// Adds the files of the spec's `nixDatabase`, if there is one, or notes what is wrong with them.
pub(super) fn add(gather: &mut Gather<'_>, spec: &Spec, store_root: &StoreRoot) {
    let Some(source) = &spec.nix_database else { return };
    let note = |gather: &mut Gather<'_>, path: &Path, problem: &str| {
        let remedy = "set nixDatabase to a directory with a db.sqlite and a schema of Nix, or to null";
        gather.note(format!("nixDatabase: {}: {problem}; {remedy}", path.display()));
    };
    let directory = match links::find(store_root, source) {
        Ok(directory) => directory,
        Err(Unresolved::Io(path, error)) => return note(gather, &path, &format!("cannot be read: {error}")),
        Err(Unresolved::Missing(path)) => return note(gather, &path, "is not there"),
        Err(Unresolved::Loop) => return note(gather, source, "leads in a circle"),
    };
    if let Some(path) = PENDING.iter().map(|name| directory.join(name)).find(|path| path.exists()) {
        return note(gather, &path, "has changes that are not in the database yet");
    }
    let (location, target) = place(spec);
    for name in FILES {
        let path = directory.join(name);
        let size = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() > 0 => metadata.len(),
            Ok(_) => return note(gather, &path, "is no file, or empty"),
            Err(error) => return note(gather, &path, &format!("cannot be read: {error}")),
        };
        let location = location.beside(&location.path().join(name));
        gather.add(
            location.clone(),
            OwnEntry {
                path: location.path().to_owned(),
                target: target.join(name),
                kind: OwnKind::File { source: path, size },
                attributes: Attributes::of_root(MODE),
                origin: "nixDatabase".to_owned(),
            },
        );
    }
}

/// The directory of the database in the image, and in the running system.
fn place(spec: &Spec) -> (Location, PathBuf) {
    match spec.mounts.locate(Path::new(NIX_DATABASE)) {
        Ok(natural @ Location::Nix(_)) if !spec.nix.is_read_only() => (natural, NIX_DATABASE.into()),
        _ => {
            let root = spec.reserved().root;
            (Location::Nix(root.join(IMAGE_DATABASE)), spec.nix.mount_point.join(IMAGE_DATABASE))
        }
    }
}
