//! The place of the store on the host while an image is built.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::StoreDir;

/// The variable by which commands run on the user's behalf find the root.
const VARIABLE: &str = "SANE_IMAGE_STORE_ROOT";

/// The store as the host has it: in its own place, or below a root directory as in a chroot store.
#[derive(Clone, Debug)]
pub struct StoreRoot {
    store_dir: StoreDir,
    root: Option<PathBuf>,
}

impl StoreRoot {
    /// The store `store_dir`, to be found below `root` if that is given, which must be absolute and free of symlinks.
    pub fn new(store_dir: StoreDir, root: Option<PathBuf>) -> Self {
        Self { store_dir, root }
    }

    /// What is added to the environment of commands run on the user's behalf: the root, if there is one.
    pub fn environment(&self) -> Vec<(&'static str, &OsStr)> {
        self.root.iter().map(|root| (VARIABLE, root.as_os_str())).collect()
    }

    /// The store's own path in the running system.
    pub fn store_dir(&self) -> &Path {
        self.store_dir.as_path()
    }

    /// Where on the host to find `path`: store paths are below the root, all others where they say.
    pub fn locate(&self, path: &Path) -> PathBuf {
        self.root_of(path).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The directory that stands for `/` for an absolute path.
    pub fn root_of(&self, path: &Path) -> &Path {
        self.root.as_deref().filter(|_| path.starts_with(self.store_dir())).unwrap_or(Path::new("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_store_paths_move() {
        let store = StoreDir::new("/nix/store").unwrap();
        let root = StoreRoot::new(store.clone(), Some(PathBuf::from("/chroot")));
        assert_eq!(root.locate(Path::new("/nix/store/x/y")), Path::new("/chroot/nix/store/x/y"));
        assert_eq!(root.locate(Path::new("/tmp/x")), Path::new("/tmp/x"));
        assert_eq!(root.locate(Path::new("/nix/storehouse")), Path::new("/nix/storehouse"));
        assert_eq!(StoreRoot::new(store, None).locate(Path::new("/nix/store/x")), Path::new("/nix/store/x"));
    }
}
