//! One side of a comparison: an image, or the closure that an image was made of.

use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::boot::EntryFacts;
use super::disk::{DiskFacts, FilesystemFacts, PartitionFacts, TableFacts};
use super::files::{FileFacts, Files};
use super::packages::{PathFacts, Paths};
use super::{Depth, FilesError};
use crate::image::known::{self, Known};
use crate::image::outside::Place;
use crate::image::sealed;
use crate::image::store::{self, StoreLocation};
use crate::image::{Image, PartName, Partition};
use crate::inspect::{self, BootEntry, FileReport};
use crate::progress::Cancel;
use crate::read::walk::walk_after;
use crate::read::{Entered, FileSystem, Format, Kind, ReadError, escape, walk};
use crate::store::Registration;
use crate::store::nar::{OWNER_EXECUTES, size};
use crate::store::path::{check_base_name, is_by_product};
use crate::swap;

/// One of the two that are compared.
#[derive(Clone, Debug)]
pub enum Side {
    /// An image.
    Image(Box<Image>),
    /// What is registered of a closure.
    Closure(Vec<Registration>),
}

impl Side {
    /// The disk, or `None` of a closure.
    pub(super) fn disk(&self) -> Option<DiskFacts> {
        match self {
            Self::Image(image) => Some(disk(image)),
            Self::Closure(_) => None,
        }
    }

    /// What can be booted, or `None` if there is neither a boot partition to tell nor an entry elsewhere.
    pub(super) fn boot(&self) -> Option<Vec<EntryFacts>> {
        let Self::Image(image) = self else { return None };
        let found = inspect::boot(image).map(|boot| boot.entries.iter().map(entry).collect());
        found.or_else(|| image.find(&PartName::Boot).ok().map(|_| Vec::new()))
    }

    /// The store, or `None` if there is none.
    ///
    /// # Errors
    /// If the filesystem that holds it cannot be read.
    pub(super) fn store(&self) -> Result<Option<Paths>, PartitionError> {
        match self {
            Self::Closure(registrations) => Ok(Some(registered(registrations))),
            Self::Image(image) => {
                for partition in image.partitions() {
                    if !partition.format().is_some_and(Format::can_hold_store) {
                        continue;
                    }
                    let number = partition.number;
                    if let Some(paths) =
                        partition_store(image, partition).map_err(|error| PartitionError { number, error })?
                    {
                        return Ok(Some(paths));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// A partition that cannot be read.
#[derive(Debug)]
pub(super) struct PartitionError {
    pub(super) number: u32,
    pub(super) error: ReadError,
}

/// The store on a partition, if it has one.
fn partition_store(image: &Image, partition: &Partition) -> Result<Option<Paths>, ReadError> {
    let fs = partition.open()?;
    let Some(location) = store::locate(fs.as_ref())? else { return Ok(None) };
    let known = known::read(image, partition.number, fs.as_ref(), &location);
    paths(fs.as_ref(), &location, &known).map(Some)
}

/// What is known of an image's disk.
pub(super) fn disk(image: &Image) -> DiskFacts {
    let gpt = image.table().map(|table| TableFacts {
        size: table.disk_size,
        sector_size: table.sector_size.bytes(),
        kind: "GPT",
        guid: table.header().map(|header| header.disk_guid),
        signature: None,
    });
    let mbr = || {
        image.mbr().map(|mbr| TableFacts {
            size: mbr.disk_size,
            sector_size: mbr.sector_size.bytes(),
            kind: "MBR",
            guid: None,
            signature: Some(mbr.signature),
        })
    };
    DiskFacts { table: gpt.or_else(mbr), partitions: image.partitions().iter().map(partition).collect() }
}

fn partition(partition: &Partition) -> PartitionFacts {
    let filesystem = partition.open().ok().map(|fs| {
        let summary = fs.summary();
        FilesystemFacts {
            format: summary.format,
            label: escape::text(&summary.label),
            uuid: escape::text(&summary.uuid),
            size: summary.size,
            free: summary.free,
            block_size: summary.block_size,
            features: summary.features.iter().map(|feature| escape::text(feature)).collect(),
        }
    });
    let swap = match partition.format() {
        Some(_) => None,
        None => swap::find(&partition.bytes()).map(|area| (escape::text(&area.label), area.uuid)),
    };
    let verity = sealed::find(partition).map(|area| {
        let root = area.root(&partition.bytes()).ok().flatten();
        (root.map_or_else(|| "unknown".to_owned(), |root| root.to_string()), area.uuid)
    });
    PartitionFacts {
        number: partition.number,
        name: escape::text(&partition.name),
        type_guid: partition.type_guid,
        guid: partition.guid,
        mbr: partition.mbr.map(|entry| (entry.kind, entry.is_active)),
        offset: partition.offset.0,
        size: partition.size,
        filesystem,
        swap,
        verity,
    }
}

fn entry(entry: &BootEntry) -> EntryFacts {
    let file = |file: &FileReport| match &file.found {
        Some(place) => format!("{} ({} bytes)", file.path, place.size),
        None => format!("{} (missing)", file.path),
    };
    let files = |files: &mut dyn Iterator<Item = &FileReport>| files.map(file).collect::<Vec<_>>().join(", ");
    let facts = vec![
        ("version", entry.version.clone().unwrap_or_default()),
        ("default", if entry.default { "yes" } else { "no" }.to_owned()),
        ("kernel", files(&mut entry.kernel.iter())),
        ("initrds", files(&mut entry.initrds.iter())),
        ("deviceTree", files(&mut entry.device_tree.iter())),
        ("deviceTreeOverlays", files(&mut entry.device_tree_overlays.iter())),
        ("init", files(&mut entry.init.iter())),
        ("options", entry.options.clone()),
    ];
    let (id, title) = (entry.id.clone(), entry.title.clone().unwrap_or_default());
    EntryFacts { loader: entry.loader.name(), id, title, facts }
}

fn registered(registrations: &[Registration]) -> Paths {
    let facts = |registration: &Registration| {
        let Registration { nar_hash, nar_size, .. } = registration;
        let facts = PathFacts { nar_size: *nar_size, nar_hash: Some(*nar_hash) };
        (registration.path.base_name().to_owned(), facts)
    };
    registrations.iter().map(facts).collect()
}

/// What is in a store: as the store's registration says (`known`), or else as it is found. `verify` reports faults of
/// the registration.
fn paths(fs: &dyn FileSystem, location: &StoreLocation, known: &Known) -> Result<Paths, ReadError> {
    let is_used = known.database.is_some();
    let known = registered(&known.all().unwrap_or_default());
    let mut paths = Paths::new();
    let mut entered = Entered::default();
    for entry in fs.list(&location.store)? {
        let name = escape::name(&entry.name);
        if check_base_name(&name).is_err() {
            continue;
        }
        let facts = match known.get(&name) {
            Some(facts) => *facts,
            None if is_used && is_by_product(&name) => continue,
            None => {
                PathFacts { nar_size: nar_size(fs, &location.store.join(&entry.name), &mut entered)?, nar_hash: None }
            }
        };
        paths.insert(name, facts);
    }
    Ok(paths)
}

/// The bytes that the NAR of `path` would have: no contents are read for that.
///
/// # Errors
/// If it cannot be read, or has a directory that was `entered` before.
fn nar_size(fs: &dyn FileSystem, path: &Path, entered: &mut Entered) -> Result<u64, ReadError> {
    let mut total = size::MAGIC.saturating_add(node_size(fs.metadata(path)?));
    if fs.metadata(path)?.kind != Kind::Directory {
        return Ok(total);
    }
    let mut walk = walk_after(fs, path, std::mem::take(entered));
    for found in walk.by_ref() {
        let found = found?;
        let name = found.path.file_name().map_or(0, |name| name.len() as u64);
        total = total.saturating_add(size::entry(name)).saturating_add(node_size(found.metadata));
    }
    *entered = walk.into_entered();
    Ok(total)
}

fn node_size(metadata: crate::read::Metadata) -> u64 {
    match metadata.kind {
        Kind::File => size::file(metadata.permissions & OWNER_EXECUTES != 0, metadata.len),
        Kind::Directory => size::DIRECTORY,
        Kind::Symlink => size::symlink(metadata.len),
        Kind::Special => 0,
    }
}

/// The files of a filesystem whose store is at `location`, but only those outside the store for a summary. Without a
/// location, all are outside.
///
/// # Errors
/// The first thing that cannot be read.
pub(super) fn files(
    fs: &dyn FileSystem,
    location: Option<&StoreLocation>,
    depth: Depth,
    cancel: &Cancel,
) -> Result<Files, FilesError> {
    let mut files = Files::new();
    let mut walk = walk(fs, Path::new(""));
    while let Some(found) = walk.next() {
        cancel.check()?;
        let found = found?;
        let place = location.map_or(Place::Outside, |location| location.place(&found.path));
        if depth == Depth::Summary && place != Place::Outside {
            if place != Place::Around {
                walk.skip_directory();
            }
            continue;
        }
        let target = match found.metadata.kind {
            Kind::Symlink => Some(fs.read_link(&found.path)?.into_vec()),
            _ => None,
        };
        let is_outside = place == Place::Outside;
        files.insert(found.path, FileFacts { metadata: found.metadata, target, is_outside });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;

    #[test]
    fn sizes_are_those_that_verify_finds() {
        use crate::progress::Silent;
        use crate::verify::nar_of;
        let run = crate::read::Metadata { kind: Kind::File, permissions: 0o555, uid: 0, gid: 0, len: 3, mtime: 1 };
        let fs = Fake::new()
            .file("p/a", "text")
            .entry("p/bin/run", run, b"run")
            .link("p/link", "somewhere")
            .directory("p/none")
            .file("f", "x");
        for path in ["p", "f", "p/link"].map(Path::new) {
            let nar = nar_of(&fs, path, &Silent, &Cancel::new()).unwrap().unwrap();
            assert_eq!(nar_size(&fs, path, &mut Entered::default()).unwrap(), nar.size, "{}", path.display());
        }
    }

    #[test]
    fn what_is_not_registered_is_measured() {
        const PATH: &str = "0q43idch209zsdngl8yl79x0y79aajib-a";
        let fs = Fake::new().file(format!("nix/store/{PATH}"), "text").file("nix/store/.links", "");
        let location = store::locate(&fs).unwrap().unwrap();
        let found = paths(&fs, &location, &Known::default()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[PATH], PathFacts { nar_size: size::MAGIC + size::file(false, 4), nar_hash: None });
    }

    #[test]
    fn all_files_are_found() {
        let fs = Fake::new().file("a/b", "x").link("a/c", "b");
        let list = |fs: &Fake| files(fs, None, Depth::Files, &Cancel::new());
        let files = list(&fs).unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(files[Path::new("a/c")].target.as_deref(), Some(b"b".as_slice()));
        assert!(list(&fs.broken("a")).is_err());
    }

    #[test]
    fn a_summary_enters_no_store() {
        let path = "nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
        let fs =
            Fake::new().file(format!("{path}/b"), "").file("etc/key", "").file("boot/kernel", "").directory("nix/var");
        let location = store::locate(&fs).unwrap();
        let list = |fs: &Fake, depth| {
            let files = files(fs, location.as_ref(), depth, &Cancel::new()).ok()?;
            let outside = files.into_iter().filter(|(_, facts)| facts.is_outside);
            Some(outside.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>())
        };
        for depth in [Depth::Summary, Depth::Files] {
            assert_eq!(list(&fs, depth).unwrap(), ["etc", "etc/key", "nix/var"]);
        }
        let broken = fs.broken(path);
        assert_eq!(list(&broken, Depth::Summary).unwrap(), ["etc", "etc/key", "nix/var"]);
        assert_eq!(list(&broken, Depth::Files), None);
    }
}
