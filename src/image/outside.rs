//! The files of a filesystem that are outside its store: the host's own files, and what the machine has written since.

use std::path::Path;

use super::store::StoreLocation;
use crate::read::escape;
use crate::store::path::{check_base_name, is_by_product};
use crate::store::registration::IMAGE_DATABASE;

/// Where boot loaders have their files on a filesystem that is mounted at /.
const BOOT: &str = "boot";

/// What a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The store, with all that Nix makes in it.
    Store,
    /// What belongs to an image with a store: a directory that leads to the store, and the registration and the database
    /// beside it.
    Around,
    /// What boots. On an ESP, and here, nothing shows which files are the host's own.
    Boot,
    /// All else.
    Outside,
}

impl StoreLocation {
    /// What a path of the filesystem belongs to. Other names that lead to the store are not searched.
    pub fn place(&self, path: &Path) -> Place {
        let is_registration = self.registration.as_deref() == Some(path);
        if self.store.starts_with(path) || is_registration || path.starts_with(self.root.join(IMAGE_DATABASE)) {
            return Place::Around;
        }
        match path.strip_prefix(&self.store) {
            Ok(below) if self.store != self.root || is_of_store(below) => return Place::Store,
            _ => {}
        }
        let is_boot = self.mount_point() == Path::new("/") && path.starts_with(self.root.join(BOOT));
        if is_boot { Place::Boot } else { Place::Outside }
    }
}

/// Whether a path is one that Nix makes in a store: a filesystem that is mounted there has others beside them.
fn is_of_store(below: &Path) -> bool {
    let Some(name) = below.iter().next() else { return true };
    let name = escape::name(name);
    check_base_name(&name).is_ok() || is_by_product(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::store::locate;
    use crate::read::fake::Fake;

    const PATH: &str = "0q43idch209zsdngl8yl79x0y79aajib-a";

    fn places<const N: usize>(root: &str, store: &str, paths: [&str; N]) -> [Place; N] {
        let fs = Fake::new().directory(Path::new(store).join(PATH));
        let fs = fs.file(Path::new(root).join("nix-path-registration"), "");
        let location = locate(&fs).unwrap().unwrap();
        paths.map(|path| location.place(Path::new(path)))
    }

    #[test]
    fn what_is_outside_depends_on_where_the_store_is() {
        use Place::{Around, Boot, Outside, Store};
        let path = |store: &str| Path::new(store).join(PATH).join("bin/sh").display().to_string();
        let inside = path("nix/store");
        assert_eq!(
            places(
                "",
                "nix/store",
                [&inside, "nix/store/x", "nix", "nix/store", "nix-path-registration", "nix/var", "etc"]
            ),
            [Store, Store, Around, Around, Around, Outside, Outside]
        );
        assert_eq!(places("", "nix/store", ["boot/kernel", "boot", "booth"]), [Boot, Boot, Outside]);
        let inside = path("store");
        assert_eq!(places("", "store", [&inside, "boot", "nix/store/x", "var"]), [Store, Outside, Outside, Outside]);
        let inside = path("");
        assert_eq!(
            places("", "", [&inside, ".links/x", "x.lock", "lost+found", "nix-path-registration", ""]),
            [Store, Store, Store, Outside, Around, Around]
        );
        let inside = path("@nix/store");
        assert_eq!(
            places(
                "@nix",
                "@nix/store",
                [&inside, "@nix/nix-path-registration", "@nix/boot", "@home/a", "nix/store/x"]
            ),
            [Store, Around, Outside, Outside, Outside]
        );
        let inside = path("@store");
        assert_eq!(
            places("@store", "@store", [&inside, "@store/x", "@/x", "@store"]),
            [Store, Outside, Outside, Around]
        );
    }
}
