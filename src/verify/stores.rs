//! The stores of an image, each with its registration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::registered::{self, Compared, Extra, Others};
use super::{Fault, Place, Report, StoreFault, StoreReport, describe};
use crate::image::known::{self, Database, Known, Listed};
use crate::image::{Image, Partition, store};
use crate::read::{FileSystem, Format, ReadError, escape};
use crate::store::Registration;

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
        let Some(format) = partition.format().filter(|format| format.can_hold_store()) else { continue };
        let place = Place::Partition(partition.number);
        let found = partition.open().and_then(|fs| Ok((store::locate(fs.as_ref())?, fs)));
        match found {
            Ok((Some(location), fs)) => {
                stores.extend(read_store(image, partition, format, fs.as_ref(), &location, given, report))
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
    image: &Image,
    partition: &'a Partition,
    format: Format,
    fs: &dyn FileSystem,
    location: &store::StoreLocation,
    given: Option<&[Registration]>,
    report: &mut Report,
) -> Option<Store<'a>> {
    let number = partition.number;
    let place = Place::Partition(number);
    let known = known::read(image, number, fs, location);
    tell_known(&known, number, location, given, report);
    let expected = given.map(<[_]>::to_vec).or_else(|| known.all())?;
    let names = match names(fs, &location.store) {
        Ok(names) => names,
        Err(error) => {
            report.faults.push(fault(place, &location.store, describe(&error)));
            return None;
        }
    };
    let others = if location.store == location.root { Others::Any } else { Others::None };
    let extra = match (&known.database, given) {
        (None, _) => Extra::Nothing,
        _ if location.is_database_pristine() => Extra::Nothing,
        (Some(_), Some(_)) => Extra::ByProducts,
        (Some(_), None) => Extra::Anything,
    };
    let Compared { to_hash: registrations, faults, unregistered } =
        registered::compare(expected, &names, others, extra);
    let directory = location.store.clone();
    let shown = escape::path(&directory);
    let store_fault = |StoreFault { name, why }| {
        // The name is escaped already.
        let what = if directory.as_os_str().is_empty() { name.clone() } else { format!("{shown}/{name}") };
        Fault { place, is_of_store: true, what, why, store_path: Some(name) }
    };
    report.faults.extend(faults.into_iter().map(store_fault));
    report.notes.extend(note_unregistered(number, &shown, &unregistered));
    report.stores.push(StoreReport {
        partition: number,
        store: shown,
        registered_in: sources(&known, given),
        paths: registrations.len() as u64,
        unregistered: unregistered.len() as u64,
        files: 0,
        bytes: 0,
        nar_bytes: 0,
    });
    let (entries, max_entries) = (AtomicU64::new(0), fs.summary().max_entries);
    Some(Store { partition, format, directory, registrations, entries, max_entries })
}

fn fault(place: Place, what: &Path, why: String) -> Fault {
    Fault { place, is_of_store: true, what: escape::path(what), why, store_path: None }
}

/// Reports what is wrong with what the image says of its own store.
fn tell_known(
    known: &Known,
    partition: u32,
    location: &store::StoreLocation,
    given: Option<&[Registration]>,
    report: &mut Report,
) {
    let place = Place::Partition(partition);
    if known.is_empty() && given.is_none() {
        let why = "has no nix-path-registration beside it, and no database of Nix; pass a registration with \
                   --registration";
        report.faults.push(fault(place, &location.store, why.to_owned()));
    }
    let compared = |listed: &Listed, difference: fn(&[Registration], &[Registration]) -> Option<String>| {
        listed.registrations.as_ref().map_or_else(|why| Some(why.clone()), |own| difference(own, given?))
    };
    if let Some(listed) = &known.registration {
        let why = compared(listed, registered::first_difference);
        report.faults.extend(why.map(|why| fault(place, &listed.path, why)));
    }
    if let Some(Database { partition, listed, waiting }) = &known.database {
        let place = Place::Partition(*partition);
        let why = compared(listed, registered::first_missing);
        report.faults.extend(why.map(|why| fault(place, &listed.path, why)));
        report.notes.extend(waiting.iter().map(|(path, len)| {
            let path = escape::path(path);
            let read =
                if listed.registrations.is_ok() { "it was read with them" } else { "it cannot be read with them" };
            format!("partition {partition}: {path}: {len} bytes are not in the database yet; {read}")
        }));
        let both = known.registration.as_ref().and_then(|own| own.registrations.as_deref().ok());
        let both = both.zip(listed.registrations.as_deref().ok()).filter(|_| location.is_database_pristine());
        if let Some(why) = both.and_then(|(registration, own)| registered::first_difference(own, registration)) {
            let why = why.replace(registered::GIVEN, "nix-path-registration");
            report.faults.push(fault(place, &listed.path, why));
        } else if let Some(path) = known.contradiction() {
            let why =
                format!("has another hash or size of {path} than nix-path-registration, which the next boot loads");
            report.faults.push(fault(place, &listed.path, why));
        }
    }
}

/// The files with the registration, escaped.
fn sources(known: &Known, given: Option<&[Registration]>) -> Vec<String> {
    if given.is_some() {
        return vec!["--registration".to_owned()];
    }
    let database = known.database.as_ref().map(|database| &database.listed);
    let listed = database.into_iter().chain(&known.registration);
    listed.filter(|listed| listed.registrations.is_ok()).map(|listed| escape::path(&listed.path)).collect()
}

fn note_unregistered(partition: u32, store: &str, unregistered: &[String]) -> Option<String> {
    let first = unregistered.first()?;
    let more = match unregistered.len() {
        1 => String::new(),
        count => format!(" and {} more", count.saturating_sub(1)),
    };
    Some(format!(
        "partition {partition}: {store}: {first}{more}: not valid in the database, so Nix treats it as garbage"
    ))
}

/// The names in the store, escaped; a name that is no store path is still none afterwards.
fn names(fs: &dyn FileSystem, store: &Path) -> Result<BTreeSet<String>, ReadError> {
    Ok(fs.list(store)?.iter().map(|entry| escape::name(&entry.name)).collect())
}
