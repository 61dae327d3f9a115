//! Runs the checks and hashes on all cores.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stores::Store;
use super::tree::{self, FileFault, Hashed, Surroundings};
use super::{Fault, Options, Place, Report};
use crate::image::{self, Partition};
use crate::progress::Cancelled;
use crate::read::{Bytes, FileSystem, escape};
use crate::store::Registration;
use crate::store::nar::NarHash;
use crate::threads;

/// A piece of work for one thread.
#[derive(Clone, Copy)]
enum Task {
    /// The structures of a filesystem.
    Check(usize),
    /// A path of a store.
    Hash { store: usize, path: usize },
}

/// What a task gave.
enum Outcome {
    Checked(Vec<Fault>),
    Hashed { store: usize, path: usize, hashed: Hashed },
}

/// Everything that all threads share.
struct Shared<'a> {
    checks: &'a [&'a Partition],
    stores: &'a [Store<'a>],
    options: Options<'a>,
    tasks: Vec<Task>,
    next: AtomicUsize,
}

/// Does all the work and adds what is found to the report.
pub(super) fn run(
    checks: &[&Partition],
    stores: Vec<Store<'_>>,
    options: Options<'_>,
    report: &mut Report,
) -> Result<(), Cancelled> {
    let total = stores.iter().flat_map(|store| &store.registrations).map(|registration| registration.nar_size);
    options.progress.stage("verifying", 0, total.fold(0, u64::saturating_add));
    let tasks = tasks(checks, &stores);
    let threads = options.jobs.get().min(tasks.len());
    let shared = Shared { checks, stores: &stores, options, tasks, next: AtomicUsize::new(0) };
    let outcomes = threads::together(threads, || shared.work()).into_iter().collect::<Result<Vec<_>, _>>()?;
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Outcome::Checked(faults) => report.faults.extend(faults),
            Outcome::Hashed { store, path, hashed } => {
                // Which of its paths were read is chance then.
                if let Some(store) = stores.get(store).filter(|store| !store.has_overrun()) {
                    report.add(store, path, hashed);
                }
            }
        }
    }
    report.faults.extend(stores.iter().filter(|store| store.has_overrun()).map(overrun));
    Ok(())
}

/// The checks, which cannot be split, then the store paths, the largest first, so that no thread is left with a large
/// one when all others are done.
fn tasks(checks: &[&Partition], stores: &[Store<'_>]) -> Vec<Task> {
    let mut hashes = Vec::new();
    for (store, found) in stores.iter().enumerate() {
        let paths = found.registrations.iter().enumerate();
        hashes.extend(paths.map(|(path, registration)| (registration.nar_size, Task::Hash { store, path })));
    }
    hashes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let checks = (0..checks.len()).map(Task::Check);
    checks.chain(hashes.into_iter().map(|(_, task)| task)).collect()
}

impl Shared<'_> {
    /// The part of one thread. Readers are not for several threads, so that each opens its own.
    fn work(&self) -> Result<Vec<Outcome>, Cancelled> {
        let mut outcomes = Vec::new();
        let mut buffer = Vec::new();
        let mut open: Option<(usize, Box<dyn FileSystem>)> = None;
        while let Some(task) = self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.options.cancel.check()?;
            match *task {
                Task::Check(index) => {
                    outcomes.extend(self.checks.get(index).map(|partition| check(partition, self.options.jobs)))
                }
                Task::Hash { store, path } => {
                    let Some(found) = self.stores.get(store) else { continue };
                    let Some(registration) = found.registrations.get(path) else { continue };
                    if open.as_ref().is_none_or(|(opened, _)| *opened != store) {
                        match open_store(found) {
                            Ok(fs) => open = Some((store, fs)),
                            Err(fault) => {
                                outcomes.push(Outcome::Checked(vec![fault]));
                                continue;
                            }
                        }
                    }
                    let Some((_, fs)) = &open else { continue };
                    let hashed = self.hash(fs.as_ref(), found, registration, &mut buffer)?;
                    outcomes.push(Outcome::Hashed { store, path, hashed });
                }
            }
        }
        Ok(outcomes)
    }

    fn hash(
        &self,
        fs: &dyn FileSystem,
        store: &Store<'_>,
        registration: &Registration,
        buffer: &mut Vec<u8>,
    ) -> Result<Hashed, Cancelled> {
        let Options { progress, cancel, .. } = self.options;
        let path = store.path_of(registration);
        let surroundings = Surroundings { fs, progress, cancel, entries: &store.entries };
        let hashed = tree::hash(surroundings, &path, registration.nar_size, buffer)?;
        progress.advance(0, registration.nar_size.saturating_sub(hashed.bytes));
        Ok(hashed)
    }
}

/// The fault of a store that is larger than its image.
fn overrun(store: &Store<'_>) -> Fault {
    let why = format!(
        "its paths have more than {} entries together, which is all the image has room for: a directory is in many \
         places; no contents are checked",
        store.max_entries
    );
    let what = escape::path(&store.directory);
    Fault { place: store.place(), is_of_store: true, what, why, store_path: None }
}

fn open_store(store: &Store<'_>) -> Result<Box<dyn FileSystem>, Fault> {
    let bytes: Arc<dyn Bytes> = Arc::new(store.partition.bytes());
    image::open_filesystem(store.format, bytes).map_err(|error| Fault::of_error(store.place(), "filesystem", error))
}

fn check(partition: &Partition, threads: NonZeroUsize) -> Outcome {
    let place = Place::Partition(partition.number);
    let Some(format) = partition.format() else { return Outcome::Checked(Vec::new()) };
    Outcome::Checked(match image::check_filesystem(format, &partition.bytes(), threads) {
        Ok(faults) => faults.into_iter().map(|fault| Fault::structure(place, fault)).collect(),
        Err(error) => vec![Fault::of_error(place, "filesystem", error)],
    })
}

impl Report {
    /// Judges what was read of a store path.
    fn add(&mut self, store: &Store<'_>, path: usize, hashed: Hashed) {
        let Some(registration) = store.registrations.get(path) else { return };
        let place = store.place();
        if let Some(counts) = self.stores.iter_mut().find(|counts| counts.partition == store.partition.number) {
            counts.files = counts.files.saturating_add(hashed.files);
            counts.bytes = counts.bytes.saturating_add(hashed.bytes);
            counts.nar_bytes = counts.nar_bytes.saturating_add(hashed.nar.map_or(0, |nar| nar.size));
        }
        let name = registration.path.base_name();
        let mut fault = |what: String, why: String| {
            let store_path = Some(name.to_owned());
            self.faults.push(Fault { place, is_of_store: true, what, why, store_path });
        };
        let whole = escape::path(&store.path_of(registration));
        if let Some(why) = hashed.nar.and_then(|nar| wrong_nar(nar, registration)) {
            fault(whole.clone(), why);
        }
        if hashed.is_too_large {
            fault(whole.clone(), format!("its NAR is larger than the {} bytes registered", registration.nar_size));
        }
        if hashed.more_faults > 0 {
            fault(whole, format!("{} more of its files cannot be read", hashed.more_faults));
        }
        for FileFault { file, why } in hashed.faults {
            fault(file, why);
        }
        if let Some((count, FileFault { file, why })) = hashed.uncanonical {
            let more = match count {
                1 => String::new(),
                _ => format!(" (and {} more files of this store path)", count.saturating_sub(1)),
            };
            fault(file, format!("not canonical: {why}{more}"));
        }
    }
}

/// The differences between a NAR and its registration.
fn wrong_nar(nar: NarHash, registration: &Registration) -> Option<String> {
    let Registration { nar_hash, nar_size, .. } = registration;
    if nar.size != *nar_size {
        return Some(format!("its NAR has {} bytes, registered are {nar_size}", nar.size));
    }
    let base32 = |digest: &[u8; 32]| nix_base32::to_nix_base32(digest);
    (nar.digest != *nar_hash).then(|| {
        let (found, registered) = (base32(&nar.digest), base32(nar_hash));
        format!("its NAR hashes to sha256:{found}, registered is sha256:{registered}")
    })
}
