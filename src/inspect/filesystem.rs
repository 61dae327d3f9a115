//! One filesystem: what its superblock says, what is in it, and its store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::report::{
    DatabaseReport, FilesystemReport, OutsideReport, RegistrationReport, Report, StoreReport, Usage, ValidPaths,
    Waiting,
};
use super::{chain, shown};
use crate::image::Image;
use crate::image::known::{self, Database, Listed};
use crate::image::outside::Place;
use crate::image::store::{StoreLocation, locate};
use crate::read::walk::Found;
use crate::read::{FileSystem, Format, Kind, ReadError, escape, walk};
use crate::store::path::{check_base_name, is_by_product};

/// As many faults of one filesystem as are told one by one.
const MAX_PROBLEMS: usize = 100;

/// Reads all directories of `fs`. What cannot be read becomes a problem of `report`.
pub(super) fn examine(image: &Image, fs: &dyn FileSystem, number: u32, report: &mut Report) -> FilesystemReport {
    let mut problems: Vec<String> = fs.waiting().map(str::to_owned).into_iter().collect();
    let location = locate(fs).unwrap_or_else(|error| {
        problems.push(chain(&error));
        None
    });
    let summary = fs.summary();
    let mut examined = FilesystemReport {
        format: summary.format.name(),
        label: escape::text(&summary.label),
        uuid: escape::text(&summary.uuid),
        size: summary.size,
        used: summary.size.saturating_sub(summary.free),
        free: summary.free,
        block_size: summary.block_size,
        features: summary.features.iter().map(|feature| escape::text(feature)).collect(),
        files: 0,
        directories: 0,
        links: 0,
        special: 0,
        file_bytes: 0,
        contents: Vec::new(),
        store: None,
        outside_store: None,
    };
    count(fs, location.as_ref(), &mut examined, &mut problems);
    examined.store = location.map(|location| examine_store(image, number, fs, &location, &examined, &mut problems));
    problems.dedup();
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    if more > 0 {
        problems.push(format!("{more} more"));
    }
    report.problems.extend(problems.into_iter().map(|problem| format!("partition {number}: {problem}")));
    examined
}

fn count(
    fs: &dyn FileSystem,
    location: Option<&StoreLocation>,
    examined: &mut FilesystemReport,
    problems: &mut Vec<String>,
) {
    let store = location.map(|location| location.store.as_path());
    let mut contents: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    // Kernels lie on the third level of an ESP, and each is worth a name.
    let levels = if fs.summary().format == Format::Vfat { 3 } else { 2 };
    for found in walk(fs, Path::new("")) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                problems.push(chain(&error));
                continue;
            }
        };
        let (counter, bytes) = match found.metadata.kind {
            Kind::File => (&mut examined.files, found.metadata.len),
            Kind::Directory => (&mut examined.directories, 0),
            Kind::Symlink => (&mut examined.links, 0),
            Kind::Special => (&mut examined.special, 0),
        };
        *counter = counter.saturating_add(1);
        examined.file_bytes = examined.file_bytes.saturating_add(bytes);
        if let Some(location) = location {
            add_outside(examined.outside_store.get_or_insert_default(), &found, location);
        }
        if let Some(unit) = unit(&found.path, store, levels) {
            let (size, files) = contents.entry(unit).or_default();
            *size = size.saturating_add(bytes);
            *files = files.saturating_add(u64::from(found.metadata.kind != Kind::Directory));
        }
    }
    let usages = contents.into_iter().map(|(path, (size, files))| Usage { path: shown(&path), size, files });
    examined.contents = usages.collect();
    examined.contents.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
}

/// Counts a file if it is outside the store.
fn add_outside(outside: &mut OutsideReport, found: &Found, location: &StoreLocation) {
    let Found { path, metadata, .. } = found;
    if metadata.kind == Kind::Directory || location.place(path) != Place::Outside {
        return;
    }
    outside.files = outside.files.saturating_add(1);
    let size = if metadata.kind == Kind::File { metadata.len } else { 0 };
    outside.size = outside.size.saturating_add(size);
}

/// What a file is counted to: its store path; beside a store whatever is next to it; elsewhere what is on this level.
/// `None` for the directories that lead to the store.
fn unit(path: &Path, store: Option<&Path>, levels: usize) -> Option<PathBuf> {
    let levels = match store {
        Some(store) => path.iter().zip(store).take_while(|(one, other)| one == other).count().saturating_add(1),
        None => levels,
    };
    let is_above = store.is_some_and(|store| store.starts_with(path));
    (!is_above).then(|| path.iter().take(levels).collect())
}

fn examine_store(
    image: &Image,
    number: u32,
    fs: &dyn FileSystem,
    location: &StoreLocation,
    examined: &FilesystemReport,
    problems: &mut Vec<String>,
) -> StoreReport {
    let known = known::read(image, number, fs, location);
    // All that is directly in the store, as `fs` has it.
    let entries = fs.list(&location.store).unwrap_or_default();
    let registered: BTreeSet<String> =
        known.all().unwrap_or_default().iter().map(|one| one.path.base_name().to_owned()).collect();
    let hidden = |name: &std::ffi::OsStr| {
        let shown = escape::name(name);
        let is_of_nix = known.database.is_some() && is_by_product(&shown) && !registered.contains(&shown);
        // A filesystem that is the store has more in its root.
        let is_beside = location.store == location.root && check_base_name(&shown).is_err();
        name == ".links"
            || is_of_nix
            || is_beside
            || location.registration.as_deref() == Some(&location.store.join(name))
    };
    let names: BTreeSet<String> =
        entries.iter().filter(|entry| !hidden(&entry.name)).map(|entry| escape::name(&entry.name)).collect();
    let prefix =
        if location.store.as_os_str().is_empty() { String::new() } else { format!("{}/", shown(&location.store)) };
    let in_store = |usage: &&Usage| usage.path.strip_prefix(&prefix).is_some_and(|name| names.contains(name));
    let size = examined.contents.iter().filter(in_store).fold(0u64, |sum, usage| sum.saturating_add(usage.size));
    let (registration, registration_problem) = match known.registration.map(|listed| registration(&listed, &names)) {
        Some(Ok(registration)) => (Some(registration), None),
        Some(Err(problem)) => (None, Some(problem)),
        None => (None, None),
    };
    problems.extend(registration_problem.clone());
    StoreReport {
        path: shown(&location.store),
        store_dir: location.store_dir.to_string(),
        mount_point: shown(&location.mount_point()),
        paths: names.len() as u64,
        size,
        registration,
        registration_problem,
        database: known.database.map(|found| database(&found, &names, problems)),
    }
}

fn registration(listed: &Listed, names: &BTreeSet<String>) -> Result<RegistrationReport, String> {
    let (paths, ValidPaths { missing, unregistered, .. }) = compare(listed, names)?;
    Ok(RegistrationReport { path: shown(&listed.path), paths, missing, unregistered })
}

fn database(found: &Database, names: &BTreeSet<String>, problems: &mut Vec<String>) -> DatabaseReport {
    let Database { partition, listed, waiting } = found;
    let valid = compare(listed, names).map(|(_, valid)| valid).unwrap_or_else(|problem| {
        problems.push(problem);
        ValidPaths::default()
    });
    let waiting = waiting.iter().map(|(path, size)| Waiting { path: shown(path), size: *size });
    DatabaseReport { partition: *partition, path: shown(&listed.path), valid, waiting: waiting.collect() }
}

/// How many paths are listed, and how they compare with the `names` in the store; or why the list cannot be used.
fn compare(listed: &Listed, names: &BTreeSet<String>) -> Result<(u64, ValidPaths), String> {
    let registrations = listed.registrations.as_ref().map_err(|why| format!("{}: {why}", shown(&listed.path)))?;
    let registered: BTreeSet<_> = registrations.iter().map(|one| one.path.base_name().to_owned()).collect();
    let paths = registered.len() as u64;
    let valid = ValidPaths {
        paths: Some(paths),
        missing: registered.difference(names).cloned().collect(),
        unregistered: names.difference(&registered).cloned().collect(),
    };
    Ok((paths, valid))
}

/// The first bytes of a file.
pub(super) fn read_up_to(fs: &dyn FileSystem, path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut contents = fs.open(path)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while (bytes.len() as u64) < most {
        let len = contents.read_at(bytes.len() as u64, &mut buffer)?;
        if len == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..len).unwrap_or_default());
    }
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_to_what_people_know() {
        let unit = |path: &str, store: Option<&str>| {
            unit(Path::new(path), store.map(Path::new), 2).map(|unit| unit.display().to_string())
        };
        let store = Some("nix/store");
        assert_eq!(unit("nix/store/a/bin/sh", store).as_deref(), Some("nix/store/a"));
        assert_eq!(unit("nix/store/a", store).as_deref(), Some("nix/store/a"));
        assert_eq!(unit("nix/var/db/x", store).as_deref(), Some("nix/var"));
        assert_eq!(unit("etc/passwd", store).as_deref(), Some("etc"));
        assert_eq!(unit("nix/store", store), None);
        assert_eq!(unit("nix", store), None);
        assert_eq!(unit("a/bin/sh", Some("")).as_deref(), Some("a"));
        assert_eq!(unit("usr/lib/x/y", None).as_deref(), Some("usr/lib"));
        assert_eq!(unit("usr", None).as_deref(), Some("usr"));
    }
}
