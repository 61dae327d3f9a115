//! The stores of an image, each with what is registered of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::registered::{self, Compared, Others};
use super::{Fault, Place, Report, StoreFault, StoreReport, describe};
use crate::image::{Image, Partition, store};
use crate::read::{FileSystem, Format, ReadError, escape};
use crate::store::registration::{parse_registration, store_dir_of};
use crate::store::{Registration, StoreDir};

/// The most bytes of a registration that are read from an image: those of 100,000 store paths.
const MAX_REGISTRATION: u64 = 64 << 20;

/// A store to be hashed.
pub(super) struct Store<'a> {
    pub partition: &'a Partition,
    pub format: Format,
    /// From the filesystem's root.
    pub directory: PathBuf,
    /// What is registered and there, sorted by path.
    pub registrations: Vec<Registration>,
    /// The entries of its directories that were read, and how many the image has room for.
    pub entries: AtomicU64,
    pub max_entries: u64,
}

impl Store<'_> {
    pub(super) fn place(&self) -> Place {
        Place::Partition(self.partition.number)
    }

    /// Whether its paths have more entries than there can be, so that not all of it was read.
    pub(super) fn has_overrun(&self) -> bool {
        self.entries.load(Ordering::Relaxed) > self.max_entries
    }

    pub(super) fn path_of(&self, registration: &Registration) -> PathBuf {
        self.directory.join(registration.path.base_name())
    }
}

/// Finds all stores. What is wrong with them but for their contents is reported.
pub(super) fn find<'a>(image: &'a Image, given: Option<&[Registration]>, report: &mut Report) -> Vec<Store<'a>> {
    let mut stores = Vec::new();
    for partition in image.partitions() {
        let Some(format @ (Format::Ext4 | Format::Btrfs)) = partition.format() else { continue };
        let place = Place::Partition(partition.number);
        let found = partition.open().and_then(|fs| Ok((store::locate(fs.as_ref())?, fs)));
        match found {
            Ok((Some(location), fs)) => {
                stores.extend(read_store(partition, format, fs.as_ref(), &location, given, report))
            }
            Ok((None, _)) => {}
            Err(error) => report.faults.push(Fault::of_error(place, "filesystem", error)),
        }
    }
    if stores.is_empty() && given.is_some_and(|given| !given.is_empty()) && report.stores.is_empty() {
        let what = "store".to_owned();
        let why = "no filesystem has the store that is registered".to_owned();
        let place = image.partitions().last().map_or(Place::Table, |partition| Place::Partition(partition.number));
        report.faults.push(Fault { place, is_of_store: true, what, why, store_path: None });
    }
    stores
}

/// The store at `location`, or `None` if there is nothing to compare it with.
fn read_store<'a>(
    partition: &'a Partition,
    format: Format,
    fs: &dyn FileSystem,
    location: &store::StoreLocation,
    given: Option<&[Registration]>,
    report: &mut Report,
) -> Option<Store<'a>> {
    let place = Place::Partition(partition.number);
    let mut fault = |what: &Path, why: String| {
        let what = escape::path(what);
        report.faults.push(Fault { place, is_of_store: true, what, why, store_path: None });
    };
    let own = location.registration.as_deref().map(|path| (path, read_registration(fs, path, &location.store_dir)));
    let own = match own {
        None if given.is_none() => {
            let why = "has no nix-path-registration beside it; give what is registered by --registration".to_owned();
            fault(&location.store, why);
            return None;
        }
        None => None,
        Some((path, Ok(own))) => {
            if let Some(difference) = given.and_then(|given| registered::first_difference(&own, given)) {
                fault(path, difference);
            }
            Some(own)
        }
        Some((path, Err(why))) => {
            fault(path, why);
            None
        }
    };
    let registrations = given.map(<[_]>::to_vec).or(own)?;
    let names = match names(fs, &location.store) {
        Ok(names) => names,
        Err(error) => {
            fault(&location.store, describe(&error));
            return None;
        }
    };
    let others = if location.store == location.root { Others::Any } else { Others::None };
    let Compared { to_hash: registrations, faults } = registered::compare(registrations, &names, others);
    let directory = location.store.clone();
    let shown = escape::path(&directory);
    let store_fault = |StoreFault { name, why }| {
        // The name is escaped already.
        let what = if directory.as_os_str().is_empty() { name.clone() } else { format!("{shown}/{name}") };
        Fault { place, is_of_store: true, what, why, store_path: Some(name) }
    };
    report.faults.extend(faults.into_iter().map(store_fault));
    report.stores.push(StoreReport {
        partition: partition.number,
        store: escape::path(&location.store),
        paths: registrations.len() as u64,
        files: 0,
        bytes: 0,
        nar_bytes: 0,
    });
    let (entries, max_entries) = (AtomicU64::new(0), fs.summary().max_entries);
    Some(Store { partition, format, directory, registrations, entries, max_entries })
}

/// The names in the store, escaped; a name that is no store path is still none afterwards.
fn names(fs: &dyn FileSystem, store: &Path) -> Result<BTreeSet<String>, ReadError> {
    Ok(fs.list(store)?.iter().map(|entry| escape::name(&entry.name)).collect())
}

/// The image's own registration, or why there is none that can be used.
fn read_registration(fs: &dyn FileSystem, path: &Path, store_dir: &StoreDir) -> Result<Vec<Registration>, String> {
    let bytes = read_all(fs, path).map_err(|error| describe(&error))?;
    let bytes = bytes.ok_or_else(|| format!("is larger than {MAX_REGISTRATION} bytes"))?;
    let store_dir = store_dir_of(&bytes).unwrap_or_else(|| store_dir.clone());
    parse_registration(&bytes, &store_dir).map_err(|error| error.to_string())
}

fn read_all(fs: &dyn FileSystem, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let len = fs.metadata(path)?.len;
    let Some(len) = usize::try_from(len).ok().filter(|_| len <= MAX_REGISTRATION) else { return Ok(None) };
    let mut bytes = vec![0; len];
    let got = fs.open(path)?.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}
