//! What the image says is registered of its store. It is in the `nix-path-registration` that the first boot loads, and
//! in the database of the Nix that ran on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::database::{self, Files};
use super::store::{self, StoreLocation};
use super::{Image, Partition};
use crate::read::{FileSystem, Format, Kind, ReadError};
use crate::store::registration::{parse_registration, store_dir_of};
use crate::store::{Registration, StoreDir, StorePath};

/// The most bytes of a registration that are read from an image: those of 100,000 store paths.
const MAX_REGISTRATION: u64 = 64 << 20;
/// The most bytes of each file of a database: those of 500,000 store paths.
const MAX_DATABASE: u64 = 512 << 20;

/// What is registered of a store.
#[derive(Debug, Default)]
pub struct Known {
    /// What the next boot loads into the database; it deletes this file then.
    pub registration: Option<Listed>,
    /// What Nix knows now.
    pub database: Option<Database>,
}

/// A list of registered paths.
#[derive(Debug)]
pub struct Listed {
    /// The file, from its filesystem's root.
    pub path: PathBuf,
    /// What is in it, or why it cannot be read: escaped.
    pub registrations: Result<Vec<Registration>, String>,
}

/// A database of Nix.
#[derive(Debug)]
pub struct Database {
    /// The partition that has it: not always the store's.
    pub partition: u32,
    /// The file and what is in it.
    pub listed: Listed,
    /// Files beside it with changes that are not in it yet, and their sizes. What is in it was read with them.
    pub waiting: Vec<(PathBuf, u64)>,
}

impl Known {
    /// Whether neither is there.
    pub fn is_empty(&self) -> bool {
        self.registration.is_none() && self.database.is_none()
    }

    /// Everything that is registered: what the database says of a path comes before what the registration says. `None` if
    /// neither can be read.
    pub fn all(&self) -> Option<Vec<Registration>> {
        match (self.loaded(), self.listed()) {
            (Some(one), None) | (None, Some(one)) => Some(one.to_vec()),
            (None, None) => None,
            (Some(database), Some(registration)) => {
                // Not a map: a path that one of them registers twice stays twice.
                let valid: BTreeSet<_> = database.iter().map(|one| &one.path).collect();
                let others = registration.iter().filter(|one| !valid.contains(&one.path));
                Some(database.iter().chain(others).cloned().collect())
            }
        }
    }

    /// Where database and registration contradict each other: what the next boot would change.
    pub fn contradiction(&self) -> Option<&StorePath> {
        let loaded: BTreeMap<_, _> = self.loaded()?.iter().map(|one| (&one.path, one)).collect();
        let is_other = |a: &Registration, b: &Registration| (a.nar_hash, a.nar_size) != (b.nar_hash, b.nar_size);
        let listed = self.listed()?.iter();
        let mut others = listed.filter(|one| loaded.get(&one.path).is_some_and(|other| is_other(one, other)));
        others.next().map(|one| &one.path)
    }

    fn listed(&self) -> Option<&[Registration]> {
        self.registration.as_ref()?.registrations.as_deref().ok()
    }

    fn loaded(&self) -> Option<&[Registration]> {
        self.database.as_ref()?.listed.registrations.as_deref().ok()
    }
}

/// Reads what is registered of the store at `location` in `fs`, the filesystem of `partition`.
pub fn read(image: &Image, partition: u32, fs: &dyn FileSystem, location: &StoreLocation) -> Known {
    let registration = location.registration.clone().map(|path| {
        let registrations = read_registration(fs, &path, &location.store_dir);
        Listed { path, registrations }
    });
    let store_dir = &location.store_dir;
    let database = match &location.database {
        Some(path) => Some(read_database(fs, partition, path, store_dir)),
        None => read_elsewhere(image, partition, fs, store_dir),
    };
    Known { registration, database }
}

/// The database of a store that is mounted by itself.
fn read_elsewhere(image: &Image, own: u32, fs: &dyn FileSystem, store_dir: &StoreDir) -> Option<Database> {
    if let Some(path) = store::find_database(fs) {
        return Some(read_database(fs, own, &path, store_dir));
    }
    let is_other =
        |partition: &&Partition| partition.number != own && partition.format().is_some_and(Format::can_hold_store);
    image.partitions().iter().filter(is_other).find_map(|partition| {
        let fs = partition.open().ok()?;
        // A database beside another store is that one's.
        let has_store = store::locate(fs.as_ref()).ok()?.is_some();
        let path = store::find_database(fs.as_ref()).filter(|_| !has_store)?;
        Some(read_database(fs.as_ref(), partition.number, &path, store_dir))
    })
}

fn read_database(fs: &dyn FileSystem, partition: u32, path: &Path, store_dir: &StoreDir) -> Database {
    let mut waiting = Vec::new();
    let mut read_beside = |suffix: &str| -> Result<Vec<u8>, String> {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let beside = PathBuf::from(name);
        if !fs.metadata(&beside).is_ok_and(|metadata| metadata.kind == Kind::File && metadata.len > 0) {
            return Ok(Vec::new());
        }
        let contents = read_all(fs, &beside, MAX_DATABASE)?;
        waiting.push((beside, contents.len() as u64));
        Ok(contents)
    };
    let [journal, log] = ["-journal", "-wal"].map(&mut read_beside);
    let registrations = read_files(read_all(fs, path, MAX_DATABASE), journal, log, store_dir);
    Database { partition, listed: Listed { path: path.to_owned(), registrations }, waiting }
}

fn read_files(
    database: Result<Vec<u8>, String>,
    journal: Result<Vec<u8>, String>,
    log: Result<Vec<u8>, String>,
    store_dir: &StoreDir,
) -> Result<Vec<Registration>, String> {
    let files = Files { database: database?, journal: journal?, log: log? };
    database::read(files, store_dir).map_err(|error| error.to_string())
}

fn read_registration(fs: &dyn FileSystem, path: &Path, store_dir: &StoreDir) -> Result<Vec<Registration>, String> {
    let bytes = read_all(fs, path, MAX_REGISTRATION)?;
    let store_dir = store_dir_of(&bytes).unwrap_or_else(|| store_dir.clone());
    parse_registration(&bytes, &store_dir).map_err(|error| error.to_string())
}

/// All of a file, but not more than `most` bytes or than the filesystem has room for.
fn read_all(fs: &dyn FileSystem, path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let most = most.min(fs.summary().size);
    let len = fs.metadata(path).map_err(|error| describe(&error))?.len;
    match usize::try_from(len).ok().filter(|_| len <= most) {
        Some(len) => read_up_to(fs, path, len).map_err(|error| describe(&error)),
        None => Err(format!("has {len} bytes; at most {most} are read")),
    }
}

fn read_up_to(fs: &dyn FileSystem, path: &Path, len: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; len];
    let got = fs.open(path)?.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// An error and its causes in one line.
fn describe(error: &ReadError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
