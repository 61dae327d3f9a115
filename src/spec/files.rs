//! `files`: the files that the host has on its filesystems besides the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fields::{Object, as_is};
use super::validate::{absolute_path, check_component};
use crate::mounts::{Location, MountTable};
use crate::store::path::check_base_name;
use crate::store::registration::IMAGE_FILE_NAME;

/// The highest number of a user or a group; the next one stands for none.
pub const ID_MAX: u32 = u32::MAX - 1;
/// The permission bits with set-user-ID, set-group-ID and sticky.
const MODE_MAX: u32 = 0o7777;

/// A file, a link or a directory of the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFile {
    /// Its JSON path.
    pub path: String,
    /// Where the running system has it: absolute, plain components.
    pub target: PathBuf,
    /// What it is.
    pub contents: Contents,
    /// Its permissions, 0 to 0o7777, unless they are to follow from what it is.
    pub mode: Option<u16>,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// What is at the place of an [`OwnFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A file of the host's, or a directory that is taken whole; absolute.
    Source(PathBuf),
    /// A file that holds this.
    Text(String),
    /// A symbolic link to this.
    Symlink(String),
    /// A directory.
    Directory,
}

/// Reads `files`, which have their places by `mounts`, outside of what is `reserved`, if that is known.
pub(super) fn read(top: &mut Object<'_>, mounts: &MountTable, reserved: Option<Reserved>) -> Option<Vec<OwnFile>> {
    let values: Vec<Value> = top.optional("files", "a list of objects", Vec::new(), as_is)?;
    let list = top.member("files");
    let read = values.into_iter().enumerate().map(|(i, value)| {
        let path = format!("{list}[{i}]");
        read_one(path.clone(), top.nested(path, value)?)
    });
    // All are read, so that all mistakes are reported, before a bad one makes the list void.
    let read: Vec<_> = read.collect();
    let files: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    if let Some(reserved) = reserved {
        check(&files, mounts, &reserved, top);
    }
    Some(files)
}

fn read_one(path: String, mut entry: Object<'_>) -> Option<OwnFile> {
    let target = entry.required("target", "a path such as \"/etc/motd\"", target);
    let source = entry.optional("source", "the absolute path of a file or a directory, or null", None, |text| {
        Option::<String>::map(text, absolute_path).transpose()
    });
    let text = entry.optional("text", "a text or null", None::<String>, as_is);
    let symlink = entry.optional("symlink", "the target of a symbolic link, or null", None, link_target);
    let directory = entry.optional("directory", "true or false", false, as_is::<bool>);
    let mode = entry.optional("mode", "octal digits such as \"0644\", or null", None, mode);
    let uid = entry.optional("uid", "the number of a user", Value::from(0), id);
    let gid = entry.optional("gid", "the number of a group", Value::from(0), id);
    let contents = match (source, text, symlink, directory) {
        (Some(source), Some(text), Some(symlink), Some(directory)) => {
            let all = [source.map(Contents::Source), text.map(Contents::Text), symlink.map(Contents::Symlink)];
            one_of(
                all.into_iter().flatten().chain(directory.then_some(Contents::Directory)).collect(),
                &path,
                &mut entry,
            )
        }
        _ => None,
    };
    if let (Some(Contents::Symlink(_)), Some(Some(_))) = (&contents, &mode) {
        let mode = entry.member("mode");
        let remedy = format!("remove {mode}");
        entry.note(mode, "is set for a symbolic link, which has no mode", remedy);
    }
    entry.finish();
    Some(OwnFile { path, target: target?, contents: contents?, mode: mode?, uid: uid?, gid: gid? })
}

/// The one thing that an entry says, or `None` after noting that it is none or several.
fn one_of(mut said: Vec<Contents>, path: &str, entry: &mut Object<'_>) -> Option<Contents> {
    let problem = match said.len() {
        1 => return said.pop(),
        0 => "has no contents",
        _ => "has contents more than once",
    };
    let remedy = format!("set exactly one of source, text, symlink and directory in {path}");
    entry.note(path.to_owned(), problem, remedy);
    None
}

/// Notes files that cannot be where they are to be. Those of a directory that is taken whole are judged when it is read.
fn check(files: &[OwnFile], mounts: &MountTable, reserved: &Reserved, top: &mut Object<'_>) {
    let mut seen: BTreeMap<Location, &OwnFile> = BTreeMap::new();
    for file in files {
        let target = format!("{}.target", file.path);
        let text = file.target.display().to_string();
        let located = mounts.locate(&file.target).and_then(|location| match reserved.refusal(&location) {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(location),
        });
        let location = match located {
            Ok(location) => location,
            Err(problem) => {
                let remedy = format!("set {target} to another path, or remove it");
                top.note(target, format!("{text:?} {problem}"), remedy);
                continue;
            }
        };
        if location.is_on_fat() {
            check_boot(file, top);
        }
        if let Some(first) = seen.get(&location) {
            let remedy = format!("remove {} or {}", first.path, file.path);
            top.note(target, format!("{text:?} is also the target of {}", first.path), remedy);
        } else {
            seen.insert(location, file);
        }
    }
    for (location, file) in &seen {
        if let Some(above) = ancestors(location).find_map(|above| seen.get(&above))
            && !matches!(above.contents, Contents::Directory | Contents::Source(_))
        {
            let remedy = format!("remove {} or {}", above.path, file.path);
            let problem =
                format!("{:?} is below {}, which is not a directory", file.target.display().to_string(), above.path);
            top.note(format!("{}.target", file.path), problem, remedy);
        }
    }
}

/// Notes what FAT cannot hold.
fn check_boot(file: &OwnFile, top: &mut Object<'_>) {
    let mut note = |key: &str, problem: &str, remedy: &str| {
        let path = format!("{}.{key}", file.path);
        let remedy = format!("{remedy} {path}");
        top.note(path, problem, remedy);
    };
    if file.uid != 0 {
        note("uid", "does not belong to root, but FAT has no owners", "remove");
    }
    if file.gid != 0 {
        note("gid", "does not belong to root's group, but FAT has no groups", "remove");
    }
    if let Contents::Symlink(_) = file.contents {
        note("symlink", "is a symbolic link, which FAT cannot hold", "set source or text instead of");
    }
}

/// The directories that lead to a place, but for the root.
fn ancestors(location: &Location) -> impl Iterator<Item = Location> + '_ {
    let above = location.path().ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    above.map(|path| location.beside(path))
}

/// The parts of the filesystem of the store that nothing of the host's own can be in, as paths from its tree's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// What is mounted where the store's filesystem is: a subvolume or the root.
    pub root: PathBuf,
    /// The store directory.
    pub store: PathBuf,
}

impl Reserved {
    /// Whether a directory is the store, or on the way to it.
    pub fn leads_to_store(&self, path: &Path) -> bool {
        self.store.starts_with(path)
    }

    /// Why nothing of the host's own can be at a place, as what follows its path in a sentence.
    pub fn refusal(&self, location: &Location) -> Option<&'static str> {
        let Location::Nix(path) = location else { return None };
        if self.leads_to_store(path) {
            return Some("leads to the store");
        }
        let below = path.strip_prefix(&self.store).ok().and_then(|below| below.iter().next());
        if below
            .is_some_and(|name| self.store != self.root || name.to_str().is_some_and(|n| check_base_name(n).is_ok()))
        {
            return Some("is in the store, which holds only the closure");
        }
        path.starts_with(self.root.join(IMAGE_FILE_NAME)).then_some("is where every image has its registration")
    }
}

/// An absolute path of plain components.
fn target(text: String) -> Result<PathBuf, String> {
    let names = text.strip_prefix('/').ok_or_else(|| format!("{text:?} is not an absolute path"))?;
    if names.is_empty() {
        return Err("is the root directory".to_owned());
    }
    names.split('/').try_for_each(check_component).map_err(|problem| format!("{text:?} has {problem}"))?;
    Ok(text.into())
}

fn link_target(text: Option<String>) -> Result<Option<String>, &'static str> {
    match text.as_deref() {
        Some("") => Err("is empty"),
        Some(target) if target.contains('\0') => Err("holds a NUL character"),
        _ => Ok(text),
    }
}

fn mode(text: Option<String>) -> Result<Option<u16>, String> {
    let Some(text) = text else { return Ok(None) };
    let is_octal = (3..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|&mode| is_octal && mode <= MODE_MAX);
    match mode.and_then(|mode| u16::try_from(mode).ok()) {
        Some(mode) => Ok(Some(mode)),
        None => Err(format!("{text:?} is not a mode from 000 to 7777")),
    }
}

fn id(value: Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|&number| number <= ID_MAX);
    number.ok_or_else(|| format!("{value} is not a whole number from 0 to {ID_MAX}"))
}
