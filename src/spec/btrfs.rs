//! What the mount options of a btrfs say about the image: its subvolumes, and how contents are compressed.
//!
//! Every entry of `fileSystems` on the store's device is a mount of the same filesystem. Its `subvol=` says which part.
//! Source: btrfs(5), mount options.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::fields::{Object, member_path};
use super::mount_options::Mounted;
use super::validate::check_component;
use crate::store::path::check_base_name;
use crate::store::registration::IMAGE_FILE_NAME;

/// A btrfs as its mounts need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Btrfs {
    /// The subvolume that holds the store, as path from the top level; empty for the top level itself.
    pub store_subvolume: String,
    /// The paths of all subvolumes from the top level: plain components joined by slashes; sorted, none twice.
    pub subvolumes: Vec<String>,
    /// How the store's files are compressed.
    pub compression: Option<Compression>,
}

/// How contents are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// DEFLATE at a level from 1 to 9.
    Zlib(u8),
    /// LZO.
    Lzo,
    /// zstd at a level from -15 to 15, but not 0; those below it are faster and weaker than 1.
    Zstd(i8),
}

/// The level of zlib and zstd if none is named: the kernel's.
const DEFAULT_LEVEL: i8 = 3;

impl Btrfs {
    /// The subvolumes directly in the one with the store, as paths from its root.
    pub fn nested_in_store(&self) -> Vec<&str> {
        let inside = self.subvolumes.iter().filter(|path| around(&self.subvolumes, path) == self.store_subvolume);
        inside.map(|path| below(&self.store_subvolume, path)).collect()
    }
}

/// The path of the innermost subvolume of `paths` around the one at `path`; empty for the top level.
pub fn around<'a>(paths: &'a [String], path: &str) -> &'a str {
    let outer =
        paths.iter().filter(|outer| path.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('/')));
    outer.max_by_key(|outer| outer.len()).map_or("", String::as_str)
}

/// The path of a subvolume from the root of one around it.
pub fn below<'a>(outer: &str, path: &'a str) -> &'a str {
    path.strip_prefix(outer).unwrap_or(path).trim_start_matches('/')
}

/// Reads `mounts` of one filesystem, of which the first has the store, at `in_nix` from its root. Tells which subvolume each
/// shows, too.
pub(super) fn read(mounts: &[Mounted<'_>], in_nix: &Path, top: &mut Object<'_>) -> (Btrfs, Vec<(PathBuf, String)>) {
    let found: Vec<_> = mounts.iter().map(|mounted| (subvolume(mounted, top), mounted.path.clone())).collect();
    let roots = found.iter().zip(mounts);
    let roots = roots.map(|((name, _), mounted)| (mounted.mount_point.to_owned(), name.clone().unwrap_or_default()));
    let roots = roots.collect();
    let store_subvolume = found.first().and_then(|(name, _)| name.clone()).unwrap_or_default();
    let mut subvolumes: Vec<_> = found.into_iter().filter_map(|(name, path)| Some((name?, path))).collect();
    subvolumes.retain(|(name, _)| !name.is_empty());
    subvolumes.sort();
    subvolumes.dedup_by(|a, b| a.0 == b.0);
    let (names, paths): (Vec<_>, Vec<_>) = subvolumes.into_iter().unzip();
    let compression = mounts.first().and_then(compression);
    let btrfs = Btrfs { store_subvolume, subvolumes: names, compression };
    for (name, path) in btrfs.subvolumes.iter().zip(paths) {
        if let Some(problem) = btrfs.collision(name, in_nix) {
            let options = member_path(&path, "options");
            let remedy = format!("set {options} to mount another subvolume");
            top.note(options, format!("the subvolume {name:?} {problem}"), remedy);
        }
    }
    (btrfs, roots)
}

/// Notes extra directories, paths in the store's filesystem, that would lie in another subvolume than the store's.
pub(super) fn check_extra_directories(btrfs: Option<&Btrfs>, extra: &[PathBuf], top: &mut Object<'_>) {
    for nested in btrfs.into_iter().flat_map(Btrfs::nested_in_store) {
        if let Some(directory) =
            extra.iter().find(|directory| directory.starts_with(nested) && *directory != Path::new(nested))
        {
            let problem =
                format!("{:?} lies in the subvolume {nested:?}, not in the store's", directory.display().to_string());
            top.note(top.member("extraDirectories"), problem, "move it to files, as a directory".to_owned());
        }
    }
}

impl Btrfs {
    /// What is wrong with a subvolume that is in the way of the store. The store is at `in_nix` in its own subvolume.
    fn collision(&self, name: &str, in_nix: &Path) -> Option<String> {
        if name == self.store_subvolume || around(&self.subvolumes, name) != self.store_subvolume {
            return None;
        }
        let path = Path::new(below(&self.store_subvolume, name));
        // A store that is its filesystem's root has other things beside its paths.
        let in_store = !in_nix.as_os_str().is_empty() && path.starts_with(in_nix);
        let names_store_path =
            path.iter().next().and_then(OsStr::to_str).is_some_and(|name| check_base_name(name).is_ok());
        if in_nix.starts_with(path) || in_store || in_nix.as_os_str().is_empty() && names_store_path {
            return Some("would lie above the store or inside it".to_owned());
        }
        path.starts_with(IMAGE_FILE_NAME)
            .then(|| format!("collides with {IMAGE_FILE_NAME:?}, which every image has there"))
    }
}

/// The path of the subvolume that a mount shows, empty for the top level; `None` after noting a mistake.
fn subvolume(mounted: &Mounted<'_>, top: &mut Object<'_>) -> Option<String> {
    let mut name = None;
    let mut is_good = true;
    for option in &mounted.options {
        let found = match (option.key, option.value) {
            ("subvol", Some(value)) => subvolume_path(value).map(Some),
            ("subvolid", Some("0" | "5")) => Ok(Some(String::new())),
            ("subvolid", Some(id)) => Err(format!(
                "\"subvolid={id}\" names a subvolume by a number that is known only when the filesystem is finished"
            )),
            ("subvol" | "subvolid", None) => Err(format!("{:?} has no value", option.key)),
            _ => Ok(None),
        };
        let found = match (found, &name) {
            (Ok(Some(other)), Some(first)) if other != *first => Err("names a second subvolume".to_owned()),
            (found, _) => found,
        };
        match found {
            Ok(Some(found)) => name = Some(found),
            Ok(None) => {}
            Err(problem) => {
                let remedy = format!("set {} to \"subvol=NAME\", or remove it", option.path);
                top.note(option.path.clone(), problem, remedy);
                is_good = false;
            }
        }
    }
    is_good.then(|| name.unwrap_or_default())
}

/// How a mount compresses new files; the last option counts, as it does for the kernel.
fn compression(mounted: &Mounted<'_>) -> Option<Compression> {
    let options = mounted.options.iter().filter(|option| matches!(option.key, "compress" | "compress-force"));
    options.filter_map(|option| parse_compression(option.value)).next_back().flatten()
}

/// The value of `subvol=`: with or without a slash before it.
fn subvolume_path(value: &str) -> Result<String, String> {
    let names = value.trim_matches('/');
    if names.is_empty() && !value.is_empty() {
        return Ok(String::new());
    }
    match names.split('/').try_for_each(check_component) {
        Ok(()) => Ok(names.to_owned()),
        Err(problem) => Err(format!("\"subvol={value}\" has {problem}")),
    }
}

/// The value of `compress`, as the kernel takes it: no compression is one, too.
///
/// Since Linux 6.15 a level beyond those that there are counts as the nearest, and 0 as none.
pub(super) fn parse_compression(value: Option<&str>) -> Option<Option<Compression>> {
    let Some(value) = value else { return Some(Some(Compression::Zlib(DEFAULT_LEVEL.unsigned_abs()))) };
    let (method, level) = value.split_once(':').map_or((value, None), |(method, level)| (method, Some(level)));
    let level = level.map_or(Some(0), parse_level)?;
    let level = |least: i8, most: i8| match level {
        0 => DEFAULT_LEVEL,
        level => i8::try_from(level.clamp(least.into(), most.into())).unwrap_or(DEFAULT_LEVEL),
    };
    match method {
        "zstd" => Some(Some(Compression::Zstd(level(-15, 15)))),
        "zlib" => Some(Some(Compression::Zlib(level(1, 9).unsigned_abs()))),
        "lzo" => Some(Some(Compression::Lzo)),
        "no" | "none" if value == method => Some(None),
        _ => None,
    }
}

/// A decimal number, with a sign or without.
fn parse_level(text: &str) -> Option<i32> {
    text.parse().ok()
}
