//! Merges the host's own files from several places, and checks them. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use super::{Chown, FatMount, OwnEntry, OwnError, OwnFiles, OwnKind, Places};
use crate::output::Scratch;
use crate::source::tree::Attributes;
use crate::spec::{Location, Spec};

/// Directories that everybody must be able to enter, or little works.
const ENTERED_BY_ALL: [&str; 6] = ["/etc", "/home", "/nix", "/usr", "/var", "/var/lib"];
/// With which others read a file.
const OTHERS_READ: u16 = 0o044;
/// What everybody needs to enter a directory.
const OTHERS_ENTER: u16 = 0o001;

/// The host's own files while they are gathered.
pub(super) struct Gather<'a> {
    pub(super) places: Places<'a>,
    /// By place, so that a directory stands before what is in it.
    entries: BTreeMap<Location, OwnEntry>,
    problems: Vec<String>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(places: Places<'a>) -> Self {
        Self { places, entries: BTreeMap::new(), problems: Vec::new() }
    }

    /// Adds the empty directories that the spec asks for.
    pub(super) fn directories(&mut self, spec: &Spec) {
        let Spec { nix, btrfs, extra_directories, mounts, .. } = spec;
        let attributes = Attributes::of_root(0o755);
        let directory = |path: PathBuf, target: PathBuf, origin: String| {
            let location = Location::Nix(path.clone());
            (location, OwnEntry { path, target, kind: OwnKind::Directory, attributes, origin })
        };
        let subvolumes = btrfs.iter().flat_map(|btrfs| &btrfs.subvolumes).map(|subvolume| {
            let path = PathBuf::from(subvolume);
            let target = mounts.mount_point(&path).expect("there is a subvolume because it is mounted").to_owned();
            directory(path, target, format!("the subvolume {subvolume:?}"))
        });
        let extra = extra_directories.iter().map(|extra| {
            let path = self.places.reserved.root.join(extra);
            directory(path, nix.mount_point.join(extra), "extraDirectories".to_owned())
        });
        self.entries = subvolumes.chain(extra).collect();
    }

    /// Notes what is wrong.
    pub(super) fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Where a path of the running system is, if something of the host's own can be there. Otherwise that is noted.
    pub(super) fn locate(&mut self, target: &Path, origin: &str) -> Option<Location> {
        let located =
            self.places.mounts.locate(target).and_then(|location| match self.places.reserved.refusal(&location) {
                Some(problem) => Err(problem.to_owned()),
                None => Ok(location),
            });
        located.map_err(|problem| self.note(format!("{origin}: {} {problem}", target.display()))).ok()
    }

    /// Whether a directory is the store or on the way to it: it is there, and stays as it is.
    pub(super) fn leads_to_store(&self, target: &Path) -> bool {
        match self.places.mounts.locate(target) {
            Ok(Location::Nix(path)) => self.places.reserved.leads_to_store(&path),
            _ => self.places.store_dir.starts_with(target),
        }
    }

    /// Adds something at a place. Of a directory that comes twice, the later one counts.
    pub(super) fn add(&mut self, location: Location, entry: OwnEntry) {
        match self.entries.entry(location) {
            Entry::Vacant(place) => {
                place.insert(entry);
            }
            Entry::Occupied(mut place)
                if place.get().kind == OwnKind::Directory && entry.kind == OwnKind::Directory =>
            {
                place.insert(entry);
            }
            Entry::Occupied(place) => {
                let first = &place.get().origin;
                let problem =
                    format!("{}: comes from {first} and from {}; leave one out", entry.target.display(), entry.origin);
                self.problems.push(problem);
            }
        }
    }

    /// Gives a path and all below it to somebody.
    pub(super) fn chown(&mut self, chown: &Chown) {
        let mut found = false;
        for entry in self.entries.values_mut().filter(|entry| entry.target.starts_with(&chown.path)) {
            (entry.attributes.uid, entry.attributes.gid) = (chown.uid, chown.gid);
            found = true;
        }
        if !found {
            let path = chown.path.display();
            self.note(format!("--chown {path}: names no file of --extra-files or files; name one that is there"));
        }
    }

    /// All of them, and `scratch`, where some of them are.
    pub(super) fn finish(mut self, scratch: Option<Scratch>) -> Result<OwnFiles, OwnError> {
        let on_the_way: Vec<_> = self.entries.iter().filter_map(|(at, entry)| self.blocked(at, entry)).collect();
        let owned = self.entries.iter().filter(|(at, entry)| at.is_on_fat() && !is_roots(entry));
        let owned = owned.map(|(_, entry)| {
            let Attributes { uid, gid, .. } = entry.attributes;
            let target = entry.target.display();
            format!("{target}: cannot belong to {uid}:{gid}, because FAT has no owners; leave it to root")
        });
        let mut problems = std::mem::take(&mut self.problems);
        problems.extend(on_the_way.into_iter().chain(owned));
        if !problems.is_empty() {
            return Err(OwnError::Wrong(problems));
        }
        let warnings = self.entries.values().filter_map(warning).chain(self.exposed()).collect();
        let mut own = OwnFiles { warnings, _scratch: scratch, ..OwnFiles::default() };
        for (location, entry) in self.entries {
            match location {
                Location::Boot(_) => own.boot.push(entry),
                Location::Xbootldr(_) => own.xbootldr.push(entry),
                Location::Nix(_) => own.nix.push(entry),
            }
        }
        Ok(own)
    }

    /// The warnings about files on each FAT that only root should read: FAT has no modes.
    fn exposed(&self) -> impl Iterator<Item = String> {
        let boot = self.exposed_on(self.places.boot, |at| matches!(at, Location::Boot(_)));
        let xbootldr =
            self.places.xbootldr.and_then(|fat| self.exposed_on(fat, |at| matches!(at, Location::Xbootldr(_))));
        boot.into_iter().chain(xbootldr)
    }

    fn exposed_on(&self, fat: FatMount<'_>, is_there: impl Fn(&Location) -> bool) -> Option<String> {
        if granted(fat.options) == 0 {
            return None;
        }
        let is_exposed =
            |entry: &&OwnEntry| matches!(entry.kind, OwnKind::File { .. }) && entry.attributes.mode & OTHERS_READ == 0;
        let on_fat = self.entries.iter().filter(|(location, _)| is_there(location));
        let mut exposed = on_fat.map(|(_, entry)| entry).filter(is_exposed);
        let OwnEntry { target, attributes, .. } = exposed.next()?;
        let more = match exposed.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let (target, mode, mount) = (target.display(), attributes.mode, fat.mount_point.display());
        Some(format!(
            "{target}{more}: FAT has no modes, so everybody on the machine can read it, in spite of its mode \
             {mode:04o}; add \"umask=0077\" to fileSystems.\"{mount}\".options"
        ))
    }

    /// The problem if something on the way to a place is not a directory.
    fn blocked(&self, location: &Location, entry: &OwnEntry) -> Option<String> {
        let above = location.path().ancestors().skip(1);
        let above = above.filter_map(|above| self.entries.get(&location.beside(above)));
        let file = above.into_iter().find(|above| above.kind != OwnKind::Directory)?;
        let (target, above) = (entry.target.display(), file.target.display());
        Some(format!(
            "{target}: is from {}, but {above} is not a directory in {}; leave one out",
            entry.origin, file.origin
        ))
    }
}

/// Which of the rights of others to read files a mount of FAT grants. Of several masks the last counts.
fn granted(options: &[String]) -> u16 {
    let mut masks = options.iter().rev().filter_map(|option| {
        let mask = option.strip_prefix("umask=").or_else(|| option.strip_prefix("fmask="))?;
        u16::from_str_radix(mask, 8).ok()
    });
    OTHERS_READ & !masks.next().unwrap_or(0)
}

fn is_roots(entry: &OwnEntry) -> bool {
    (entry.attributes.uid, entry.attributes.gid) == (0, 0)
}

/// The warning about a directory: umask and mktemp make some that only their owner may enter.
fn warning(entry: &OwnEntry) -> Option<String> {
    let mode = entry.attributes.mode;
    let closed = entry.kind == OwnKind::Directory && mode & OTHERS_ENTER == 0;
    let closed = closed && ENTERED_BY_ALL.iter().any(|path| entry.target == Path::new(path));
    let (target, origin) = (entry.target.display(), &entry.origin);
    closed.then(|| {
        format!("{target}: nobody but its owner may enter it (mode {mode:04o}, from {origin}); chmod 755 it unless that is meant")
    })
}
