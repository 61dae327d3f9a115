//! Where in a filesystem the store is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::read::resolve::Mounted;
use crate::read::{Entered, FileId, FileSystem, Format, Kind, ReadError};
use crate::store::path::{StoreDir, check_base_name};
use crate::store::registration::IMAGE_FILE_NAME;

/// Where the store is in the running system, unless a registration says otherwise.
const STORE_DIR: &str = "/nix/store";
/// Directories that are looked into, one and two levels down: no image has as many above its store.
const MAX_DIRECTORIES: usize = 4096;

/// The place of a store. All paths are from the filesystem's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLocation {
    /// What the running system mounts: the filesystem's root, or a subvolume of it.
    pub root: PathBuf,
    /// The store directory.
    pub store: PathBuf,
    /// The registration for the first boot, if it is there.
    pub registration: Option<PathBuf>,
    /// Where the store is in the running system.
    pub store_dir: StoreDir,
}

impl StoreLocation {
    /// Where the running system mounts `root`.
    pub fn mount_point(&self) -> PathBuf {
        let inside = self.store.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let mut mount_point = self.store_dir.as_path().to_owned();
        for _ in inside {
            mount_point.pop();
        }
        mount_point
    }
}

impl Mounted for StoreLocation {
    fn inside(&self, absolute: &Path) -> Option<PathBuf> {
        if let Ok(rest) = absolute.strip_prefix(self.store_dir.as_path()) {
            return Some(join(&self.store, rest));
        }
        absolute.strip_prefix(self.mount_point()).ok().map(|rest| join(&self.root, rest))
    }
}

/// Finds the store: at the filesystem's root, or else in a directory of it, or one further down, as subvolumes are.
/// On each level, what has a registration comes before what has only a store.
///
/// # Errors
/// Whatever is wrong with the root directory, or on the way to where a store is looked for first. What is wrong further
/// down counts as no store.
pub fn locate(fs: &dyn FileSystem) -> Result<Option<StoreLocation>, ReadError> {
    // An ESP can hold files under names of store paths, but no store: FAT has no links.
    if fs.summary().format == Format::Vfat {
        return Ok(None);
    }
    fs.list(Path::new(""))?;
    let mut search = Search { fs, met: Entered::default(), stores: BTreeMap::new() };
    let mut level = vec![PathBuf::new()];
    for depth in 0..3 {
        let mut found = Vec::new();
        for root in &level {
            match search.locate_in(root) {
                Err(error) if depth == 0 => return Err(error),
                located => found.extend(located.ok().flatten()),
            }
        }
        let best = found.iter().find(|location| location.registration.is_some()).or(found.first());
        if let Some(location) = best {
            return Ok(Some(location.clone()));
        }
        level = level.iter().flat_map(|directory| search.directories(directory)).take(MAX_DIRECTORIES).collect();
    }
    Ok(None)
}

/// What the search has looked at: no directory twice, however many names lead to it.
struct Search<'a> {
    fs: &'a dyn FileSystem,
    /// Directories whose own directories were listed.
    met: Entered,
    /// Whether a directory has the name of a store path in it.
    stores: BTreeMap<FileId, bool>,
}

impl Search<'_> {
    /// The store in what the running system would mount at `root`.
    fn locate_in(&mut self, root: &Path) -> Result<Option<StoreLocation>, ReadError> {
        let fs = self.fs;
        let registration = root.join(IMAGE_FILE_NAME);
        let registration = (kind(fs, &registration)? == Some(Kind::File)).then_some(registration);
        let registered = registration.as_deref().and_then(|path| registered_store_dir(fs, path));
        let Some(store_dir) = registered.or_else(|| StoreDir::new(STORE_DIR).ok()) else { return Ok(None) };
        let mut stores = Vec::new();
        for path in places(root, &store_dir) {
            if kind(fs, &path)? == Some(Kind::Directory) {
                stores.push(path);
            }
        }
        let mut found = stores.iter().find(|path| self.is_store(path));
        if registration.is_some() {
            // A registration is never far from its store, even if that is empty.
            found = found.or(stores.first());
        }
        let found = found.cloned();
        Ok(found.map(|store| StoreLocation { root: root.to_owned(), store, registration, store_dir }))
    }

    /// Whether a directory has the name of a store path in it.
    fn is_store(&mut self, directory: &Path) -> bool {
        let is_path = &mut |name: &OsStr| name.to_str().is_some_and(|name| check_base_name(name).is_ok());
        let mut look = || self.fs.any_name(directory, is_path).unwrap_or(false);
        match self.fs.id(directory) {
            Ok(Some(id)) => *self.stores.entry(id).or_insert_with(look),
            Ok(None) => look(),
            Err(_) => false,
        }
    }

    /// The directories in a directory, but none that was listed before.
    fn directories(&mut self, directory: &Path) -> Vec<PathBuf> {
        if !self.fs.id(directory).is_ok_and(|id| self.met.enter(id)) {
            return Vec::new();
        }
        let entries = self.fs.list(directory).unwrap_or_default();
        let directories = entries.into_iter().filter(|entry| entry.metadata.kind == Kind::Directory);
        directories.map(|entry| directory.join(entry.name)).collect()
    }
}

/// Where the store can be, seen from the mount points /, /nix and /nix/store.
fn places(root: &Path, store_dir: &StoreDir) -> Vec<PathBuf> {
    let parts: Vec<_> = store_dir.as_path().iter().skip(1).collect();
    (0..=parts.len()).map(|from| root.iter().chain(parts.iter().skip(from).copied()).collect()).collect()
}

/// One path below another, without a slash at the end where the second is empty.
fn join(above: &Path, below: &Path) -> PathBuf {
    above.iter().chain(below).collect()
}

/// The store directory of the first path in a registration.
fn registered_store_dir(fs: &dyn FileSystem, registration: &Path) -> Option<StoreDir> {
    let mut start = [0; 1024];
    let len = fs.open(registration).ok()?.read_at(0, &mut start).ok()?;
    let line = start.get(..len)?.split(|&byte| byte == b'\n').next()?;
    let (directory, base_name) = str::from_utf8(line).ok()?.rsplit_once('/')?;
    StoreDir::new(directory).ok().filter(|_| check_base_name(base_name).is_ok())
}

/// What is at a path, if anything is.
fn kind(fs: &dyn FileSystem, path: &Path) -> Result<Option<Kind>, ReadError> {
    match fs.metadata(path) {
        Ok(metadata) => Ok(Some(metadata.kind)),
        Err(ReadError::NotFound(_) | ReadError::NotADirectory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;

    const PATH: &str = "0q43idch209zsdngl8yl79x0y79aajib-a";

    fn find(fs: &Fake) -> Option<(String, String, Option<String>, String)> {
        let text = |path: &Path| path.display().to_string();
        let found = locate(fs).unwrap()?;
        let registration = found.registration.as_deref().map(text);
        Some((text(&found.root), text(&found.store), registration, text(&found.mount_point())))
    }

    fn place(
        root: &str,
        store: &str,
        registration: Option<&str>,
        mount: &str,
    ) -> Option<(String, String, Option<String>, String)> {
        Some((root.to_owned(), store.to_owned(), registration.map(str::to_owned), mount.to_owned()))
    }

    #[test]
    fn a_store_is_found_wherever_it_is_mounted() {
        for (store, mount) in [("nix/store", "/"), ("store", "/nix"), ("", "/nix/store")] {
            let fs = Fake::new().directory(Path::new(store).join(PATH)).directory("etc");
            assert_eq!(find(&fs), place("", store, None, mount));
            let fs = fs.file(IMAGE_FILE_NAME, format!("/nix/store/{PATH}\n"));
            assert_eq!(find(&fs), place("", store, Some(IMAGE_FILE_NAME), mount));
        }
        assert_eq!(find(&Fake::new().directory("nix/store")), None);
        assert_eq!(find(&Fake::new().file("a/b/c/d", "")), None);
    }

    #[test]
    fn a_registration_tells_the_store_directory() {
        let fs = Fake::new().file(IMAGE_FILE_NAME, format!("/gnu/store/{PATH}\n")).directory("store");
        assert_eq!(find(&fs), place("", "store", Some(IMAGE_FILE_NAME), "/gnu"));
        let fs = Fake::new().file(IMAGE_FILE_NAME, "").directory("nix/store");
        assert_eq!(find(&fs), place("", "nix/store", Some(IMAGE_FILE_NAME), "/"));
    }

    #[test]
    fn subvolumes_hold_stores_too() {
        let fs = Fake::new().directory("@/nix/store").directory(format!("@nix/store/{PATH}"));
        assert_eq!(find(&fs), place("@nix", "@nix/store", None, "/nix"));
        let fs = Fake::new().directory(format!("subvolumes/@store/{PATH}")).directory("a");
        assert_eq!(find(&fs), place("subvolumes/@store", "subvolumes/@store", None, "/nix/store"));
        let one = Fake::new().directory(format!("@a/nix/store/{PATH}")).directory(format!("@b/nix/store/{PATH}"));
        let both = one.file(format!("@b/{IMAGE_FILE_NAME}"), "");
        assert_eq!(find(&both), place("@b", "@b/nix/store", Some("@b/nix-path-registration"), "/"));
    }

    #[test]
    fn absolute_links_stay_inside() {
        let location = locate(&Fake::new().directory(format!("@nix/store/{PATH}"))).unwrap().unwrap();
        let inside = |path: &str| location.inside(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(inside("/nix/store/x/y").as_deref(), Some("@nix/store/x/y"));
        assert_eq!(inside("/nix/var").as_deref(), Some("@nix/var"));
        assert_eq!(inside("/etc/passwd"), None);
    }
}
