//! Finds the store in a filesystem.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::read::resolve::{Last, Mounted};
use crate::read::{Entered, FileId, FileSystem, Format, Kind, ReadError, resolve};
use crate::store::path::{StoreDir, check_base_name};
use crate::store::registration::{IMAGE_DATABASE, IMAGE_FILE_NAME};

/// Where the store is in the running system, unless a registration says otherwise.
const STORE_DIR: &str = "/nix/store";
/// Nix's database, from the directory that holds the store.
const DATABASE: &str = "var/nix/db/db.sqlite";
/// The same where the store is in another place: Nix has its state in /nix as a rule.
const USUAL_DATABASE: &str = "/nix/var/nix/db/db.sqlite";
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
    /// The database of the Nix that ran on it, if it is in the same tree.
    pub database: Option<PathBuf>,
    /// Where the store is in the running system.
    pub store_dir: StoreDir,
}

impl StoreLocation {
    /// Whether the database came with the image, for a system that cannot write to this filesystem: no Nix ran on it.
    pub fn is_database_pristine(&self) -> bool {
        self.database.as_ref().is_some_and(|path| *path == image_database(&self.root))
    }

    /// Whether a registration or a database is beside the store.
    pub fn is_known(&self) -> bool {
        self.registration.is_some() || self.database.is_some()
    }

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
/// On each level, what has a registration or a database comes before what has only a store.
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
    let mut search = Search::new(fs);
    let mut level = vec![PathBuf::new()];
    for depth in 0..3 {
        let mut found = Vec::new();
        for root in &level {
            match search.locate_in(root) {
                Err(error) if depth == 0 => return Err(error),
                located => found.extend(located.ok().flatten()),
            }
        }
        let best = found.iter().find(|location| location.is_known()).or(found.first());
        if let Some(location) = best {
            return Ok(Some(location.clone()));
        }
        level = level.iter().flat_map(|directory| search.directories(directory)).take(MAX_DIRECTORIES).collect();
    }
    Ok(None)
}

/// The directories that the search has visited: none twice, however many names it has.
struct Search<'a> {
    fs: &'a dyn FileSystem,
    /// Directories whose own directories were listed.
    met: Entered,
    /// Whether a directory has the name of a store path in it.
    stores: BTreeMap<FileId, bool>,
}

impl<'a> Search<'a> {
    fn new(fs: &'a dyn FileSystem) -> Self {
        Search { fs, met: Entered::default(), stores: BTreeMap::new() }
    }

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
        let at = |store: &PathBuf| {
            let (root, store) = (root.to_owned(), store.clone());
            let (registration, store_dir) = (registration.clone(), store_dir.clone());
            let location = StoreLocation { root, store, registration, database: None, store_dir };
            StoreLocation { database: database_in(fs, &location), ..location }
        };
        // Nor is a database, even if all that is valid by it is gone.
        let beside = || stores.iter().map(at).find(|location| location.database.is_some());
        Ok(found.map(at).or_else(beside))
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

/// The database in the tree of a store.
fn database_in(fs: &dyn FileSystem, location: &StoreLocation) -> Option<PathBuf> {
    let beside = location.store_dir.as_path().parent().map(|parent| parent.join(DATABASE));
    let places = beside.into_iter().chain([PathBuf::from(USUAL_DATABASE)]);
    let inside = places.filter_map(|absolute| location.inside(&absolute));
    let inside = inside.chain([image_database(&location.root)]);
    let mut files = inside.filter_map(|path| resolve(fs, location, &path, Last::Follow).ok());
    files.find(|(_, metadata)| metadata.kind == Kind::File).map(|(path, _)| path)
}

/// The database that an image brings for a system which copies it.
fn image_database(root: &Path) -> PathBuf {
    root.join(IMAGE_DATABASE).join("db.sqlite")
}

/// The first database of Nix in a filesystem, whatever store it is of: on the levels that [`locate`] looks at, for
/// systems that mount /nix or /nix/var by itself.
pub fn find_database(fs: &dyn FileSystem) -> Option<PathBuf> {
    const FROM_MOUNT_POINT: [&str; 3] = ["nix/var/nix/db/db.sqlite", DATABASE, "nix/db/db.sqlite"];
    let is_store_path = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| check_base_name(name).is_ok())
    };
    let mut search = Search::new(fs);
    let mut level = vec![PathBuf::new()];
    for depth in 0..3 {
        if depth > 0 {
            let below = level.iter().flat_map(|directory| search.directories(directory));
            level = below.filter(|path| !is_store_path(path)).take(MAX_DIRECTORIES).collect();
        }
        let mut places = level.iter().flat_map(|root| FROM_MOUNT_POINT.map(|path| root.join(path)));
        if let Some(path) = places.find(|path| matches!(kind(fs, path), Ok(Some(Kind::File)))) {
            return Some(path);
        }
    }
    None
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
    fn a_database_is_found_where_the_system_has_nix() {
        let find = |fs: &Fake| locate(fs).unwrap().unwrap().database.map(|path| path.display().to_string());
        for (store, database) in [("nix/store", "nix/var/nix/db/db.sqlite"), ("store", "var/nix/db/db.sqlite")] {
            let fs = Fake::new().directory(Path::new(store).join(PATH));
            assert_eq!(find(&fs), None);
            assert_eq!(find(&fs.file(database, "")).as_deref(), Some(database));
        }
        let subvolume = Fake::new().directory(format!("@a/store/{PATH}")).directory(format!("@nix/store/{PATH}"));
        let database = "@nix/var/nix/db/db.sqlite";
        assert_eq!(find(&subvolume.file(database, "")).as_deref(), Some(database));
        let linked = Fake::new().directory(format!("nix/store/{PATH}")).link("nix/var", "/state");
        assert_eq!(find(&linked.file("state/nix/db/db.sqlite", "")).as_deref(), Some("state/nix/db/db.sqlite"));
        let emptied = Fake::new().directory("nix/store").file("nix/var/nix/db/db.sqlite", "");
        assert_eq!(find(&emptied).as_deref(), Some("nix/var/nix/db/db.sqlite"));
        let alone = Fake::new().directory(PATH);
        assert_eq!(find(&alone.file("var/nix/db/db.sqlite", "")), None);
    }

    #[test]
    fn a_database_is_found_in_another_tree() {
        let find = |fs: &Fake| find_database(fs).map(|path| path.display().to_string());
        for path in ["nix/var/nix/db/db.sqlite", "@root/nix/var/nix/db/db.sqlite", "a/@var/nix/db/db.sqlite"] {
            let fs = Fake::new().directory(format!("@store/{PATH}")).file(path, "");
            assert_eq!(find(&fs).as_deref(), Some(path));
        }
        assert_eq!(find(&Fake::new().file(format!("{PATH}/var/nix/db/db.sqlite"), "")), None);
        assert_eq!(find(&Fake::new().directory("nix/var/nix/db/db.sqlite")), None);
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
