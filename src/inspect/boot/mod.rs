//! What a machine finds when it boots: boot loaders, their entries, and whether the files exist that these name.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::report::{BootEntry, BootReport, Configuration, EfiProgram, FileReport, Loader, Place};
use super::size::human;
use super::{chain, filesystem, shown};
use crate::image::store::StoreLocation;
use crate::read::resolve::{AtRoot, Last, Mounted};
use crate::read::{Entry, FileSystem, Kind, ReadError, escape, resolve};

mod extlinux;
mod glob;
mod grub;
mod limine;
mod loader;
mod pe;
mod version;

/// No configuration of a boot loader is larger.
const MAX_TEXT: usize = 1 << 20;
/// No file with a single entry is larger.
const MAX_ENTRY_TEXT: usize = 1 << 14;
/// As many entries as are looked at.
const MAX_ENTRIES: usize = 1000;
/// As many initrds of an entry as are looked at.
const MAX_INITRDS: usize = 16;
/// As many overlays of an entry as are looked at.
const MAX_OVERLAYS: usize = 64;
/// No path is longer, as in Linux.
const MAX_PATH: usize = 4096;

/// The filesystem with the store, where `init=` leads to.
pub(super) struct NixFs<'a> {
    pub(super) partition: u32,
    pub(super) fs: &'a dyn FileSystem,
    pub(super) location: Option<StoreLocation>,
}

/// How boot loaders count partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// By a GUID partition table.
    Gpt,
    /// By an MBR.
    Mbr,
    /// There is none to count.
    None,
}

/// A partition with a filesystem.
pub(super) struct Volume<'a> {
    pub(super) number: u32,
    /// Its identity in a GUID partition table; nil elsewhere.
    pub(super) guid: Uuid,
    pub(super) fs: &'a dyn FileSystem,
}

/// All that boot loaders can read of an image.
pub(super) struct Parts<'a> {
    pub(super) numbering: Numbering,
    /// By number.
    pub(super) volumes: Vec<Volume<'a>>,
    /// The partition that firmware looks at.
    pub(super) boot: Option<u32>,
    /// The extended boot loader partition.
    pub(super) extended: Option<u32>,
    pub(super) nix: Option<NixFs<'a>>,
}

impl<'a> Parts<'a> {
    fn volume(&self, number: Option<u32>) -> Option<&Volume<'a>> {
        self.volumes.iter().find(|volume| Some(volume.number) == number)
    }

    fn boot_fs(&self, number: Option<u32>) -> Option<BootFs<'_>> {
        let Volume { number, fs, .. } = self.volume(number)?;
        Some(BootFs { partition: *number, fs: *fs, nix: self.nix.as_ref() })
    }

    /// The boot partition, the extended one, then all others by number.
    fn in_order(&self) -> impl Iterator<Item = &Volume<'a>> {
        let first = [self.boot, self.extended];
        let rest = self.volumes.iter().filter(move |volume| !first.contains(&Some(volume.number)));
        first.into_iter().filter_map(|number| self.volume(number)).chain(rest)
    }
}

/// The filesystem that a boot loader reads.
struct BootFs<'a> {
    partition: u32,
    fs: &'a dyn FileSystem,
    nix: Option<&'a NixFs<'a>>,
}

/// Files in a directory.
#[derive(Default)]
struct Files {
    /// Not more than are looked at.
    files: Vec<(PathBuf, Entry)>,
    /// What is to be said of all others.
    more: Option<String>,
}

/// What is said of a configuration or of a directory.
fn too_many(place: &Path) -> String {
    format!("{}: it has more entries than are looked at here", shown(place))
}

/// As many paths of a boot entry as are looked at.
fn few<'p>(mut paths: impl Iterator<Item = &'p str>, most: usize, id: &str, notes: &mut Vec<String>) -> Vec<&'p str> {
    let few = paths.by_ref().take(most).collect();
    if paths.next().is_some() {
        notes.push(format!("boot entry {id}: it names more files than are looked at here"));
    }
    few
}

/// All that firmware and boot loaders would look at, or `None` if there is nothing.
pub(super) fn examine(parts: &Parts<'_>, problems: &mut Vec<String>) -> Option<BootReport> {
    let extended = parts.boot_fs(parts.extended);
    let boot = parts.boot_fs(parts.boot).map(|boot| by_firmware(&boot, extended.as_ref(), problems));
    let found = boot.filter(|found| !found.is_empty()).or_else(|| {
        let nix = parts.boot_fs(parts.nix.as_ref().map(|nix| nix.partition))?;
        Some(by_firmware(&nix, None, problems))
    });
    let mut found = found.filter(|found| !found.is_empty()).unwrap_or_default();
    for examine in [grub::examine, limine::examine] {
        examine(parts, &mut found).unwrap_or_else(|error| problems.push(chain(&error)));
    }
    (!found.is_empty()).then_some(found)
}

/// What is found in the one partition at which firmware and simple boot loaders look.
fn by_firmware(boot: &BootFs<'_>, extended: Option<&BootFs<'_>>, problems: &mut Vec<String>) -> BootReport {
    let partition = boot.partition;
    let mut found = BootReport { partition, ..BootReport::default() };
    let mut tell = |error: ReadError| problems.push(format!("partition {partition}: {}", chain(&error)));
    loader::examine(boot, extended, &mut found).unwrap_or_else(&mut tell);
    extlinux::examine(boot, &mut found).unwrap_or_else(&mut tell);
    found
}

impl BootReport {
    fn is_empty(&self) -> bool {
        self.firmware.is_empty() && self.configurations.is_empty() && self.entries.is_empty()
    }

    /// Adds the configuration of a boot loader that looks at all partitions.
    fn configure(&mut self, loader: Loader, at: (u32, &Path), default: Option<String>, timeout: Option<String>) {
        let (partition, place) = at;
        if self.is_empty() {
            self.partition = partition;
        }
        let partition = (self.partition != partition).then_some(partition);
        let path = shown(place);
        self.configurations.push(Configuration { loader, partition, path, default, preferred: None, timeout });
    }
}

impl BootFs<'_> {
    /// The place of a path as boot loaders write it.
    fn place(&self, path: &str) -> Result<PathBuf, ReadError> {
        if path.len() > MAX_PATH {
            return Err(ReadError::NotFound(format!("a path of {} bytes", path.len())));
        }
        let path = path.replace('\\', "/");
        resolve(self.fs, &AtRoot, Path::new(&path), Last::Follow).map(|(place, _)| place)
    }

    /// The files of a directory whose names in lower case are wanted, with their places; none if it is not there.
    fn files(&self, path: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Files, ReadError> {
        let listed = self.place(path).and_then(|place| self.fs.list(&place).map(|entries| (place, entries)));
        let (directory, entries) = match listed {
            Ok(listed) => listed,
            Err(ReadError::NotFound(_) | ReadError::NotADirectory(_)) => return Ok(Files::default()),
            Err(error) => return Err(error),
        };
        let is_one = |entry: &Entry| {
            entry.metadata.kind == Kind::File && is_wanted(&entry.name.to_string_lossy().to_ascii_lowercase())
        };
        let mut found = entries.into_iter().filter(is_one).map(|entry| (directory.join(&entry.name), entry));
        let files = found.by_ref().take(MAX_ENTRIES).collect();
        Ok(Files { files, more: found.next().map(|_| too_many(&directory)) })
    }

    /// A configuration's text and place; `None` if it is not there.
    fn text(&self, path: &str, notes: &mut Vec<String>) -> Result<Option<(PathBuf, String)>, ReadError> {
        let place = match self.place(path) {
            Ok(place) => place,
            Err(ReadError::NotFound(_) | ReadError::NotADirectory(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = self.text_at(&place, MAX_TEXT, notes)?;
        Ok(Some((place, text)))
    }

    /// The first `most` bytes of a text.
    fn text_at(&self, place: &Path, most: usize, notes: &mut Vec<String>) -> Result<String, ReadError> {
        let mut bytes = filesystem::read_up_to(self.fs, place, most.saturating_add(1) as u64)?;
        if bytes.len() > most {
            bytes.truncate(most);
            notes.push(format!("{}: only its first {} are looked at here", shown(place), human(most as u64)));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file that an entry names.
    fn file(&self, path: &str) -> FileReport {
        let found = self.place(path).ok().and_then(|place| {
            let metadata = self.fs.metadata(&place).ok()?;
            let size = if metadata.kind == Kind::Directory { 0 } else { metadata.len };
            Some(Place { partition: self.partition, path: shown(&place), size })
        });
        FileReport { path: escape::text(path), found }
    }

    /// The program that the kernel's parameters name as the first one.
    fn init(&self, options: &str) -> Option<FileReport> {
        let path = options.split_whitespace().filter_map(|word| word.strip_prefix("init=")).next_back()?;
        let path = path.get(..MAX_PATH).unwrap_or(path);
        let found = self.nix.and_then(|nix| {
            let inside = match &nix.location {
                Some(location) => location.inside(Path::new(path))?,
                None => AtRoot.inside(Path::new(path))?,
            };
            let mounted: &dyn Mounted = nix.location.as_ref().map_or(&AtRoot, |location| location);
            let (place, metadata) = resolve(nix.fs, mounted, &inside, Last::Follow).ok()?;
            let is_file = metadata.kind == Kind::File;
            is_file.then(|| Place { partition: nix.partition, path: shown(&place), size: metadata.len })
        });
        Some(FileReport { path: escape::text(path), found })
    }
}

/// The same of one partition, of which the others are known.
#[cfg(test)]
fn examine_alone(
    partition: u32,
    fs: &dyn FileSystem,
    extended: Option<(u32, &dyn FileSystem)>,
    nix: Option<&NixFs<'_>>,
    problems: &mut Vec<String>,
) -> Option<BootReport> {
    let more = extended.into_iter().chain(nix.map(|nix| (nix.partition, nix.fs)));
    let volume = |(number, fs)| Volume { number, guid: Uuid::nil(), fs };
    let volumes = std::iter::once((partition, fs)).chain(more).map(volume).collect();
    let nix = nix.map(|nix| NixFs { partition: nix.partition, fs: nix.fs, location: nix.location.clone() });
    let extended = extended.map(|(number, _)| number);
    examine(&Parts { numbering: Numbering::Gpt, volumes, boot: Some(partition), extended, nix }, problems)
}
