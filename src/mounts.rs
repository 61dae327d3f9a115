//! Finds the place of a path of the running system: the filesystem of the image, and the place in it. Pure.

use std::path::{Path, PathBuf};

/// The most bind mounts on the way from a path to where it lies: more lead in a circle.
pub(crate) const BINDS_MAX: usize = 16;

/// A place in a filesystem of the image, as path from the root of its tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// On the ESP.
    Boot(PathBuf),
    /// On the XBOOTLDR partition.
    Xbootldr(PathBuf),
    /// On the filesystem of the store; of a btrfs, from its top level.
    Nix(PathBuf),
}

impl Location {
    /// The place in its filesystem.
    pub fn path(&self) -> &Path {
        let (Self::Boot(path) | Self::Xbootldr(path) | Self::Nix(path)) = self;
        path
    }

    /// Another place in the same filesystem.
    #[must_use]
    pub fn beside(&self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Boot(_) => Self::Boot(path),
            Self::Xbootldr(_) => Self::Xbootldr(path),
            Self::Nix(_) => Self::Nix(path),
        }
    }

    /// Whether its filesystem is a FAT, which knows no owners, modes and links.
    pub fn is_on_fat(&self) -> bool {
        !matches!(self, Self::Nix(_))
    }
}

/// What the running system mounts somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// The ESP.
    Boot,
    /// The XBOOTLDR partition.
    Xbootldr,
    /// The filesystem of the store, or what lies at this path from its root: a subvolume.
    Nix(PathBuf),
    /// What another path has.
    Bind(PathBuf),
    /// Another filesystem, in words.
    Elsewhere(String),
}

/// All mounts of the running system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<(PathBuf, Mount)>,
    origin: Origin,
}

/// Where the mounts come from, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// `fileSystems` of a spec: other filesystems than those that boot and that of the store are not in the image.
    #[default]
    Spec,
    /// An image that exists, which may have more partitions.
    Image,
}

impl MountTable {
    /// The mounts that a spec names: mount points, which are absolute, and what is there. Of two with one mount point the
    /// later one counts.
    pub fn new(mounts: Vec<(PathBuf, Mount)>) -> Self {
        Self { mounts, origin: Origin::Spec }
    }

    /// The same of the mounts that an image names itself.
    pub fn of_image(mounts: Vec<(PathBuf, Mount)>) -> Self {
        Self { mounts, origin: Origin::Image }
    }

    /// The mount points and what is there, in no order but that of their making.
    pub fn mounts(&self) -> &[(PathBuf, Mount)] {
        &self.mounts
    }

    /// Where the running system has what is at `path` of the filesystem of the store, if it mounts just that.
    pub fn mount_point(&self, path: &Path) -> Option<&Path> {
        let found = self.mounts.iter().find(|(_, mount)| matches!(mount, Mount::Nix(root) if root == path));
        found.map(|(mount_point, _)| mount_point.as_path())
    }

    /// Where an absolute path of plain components lies.
    ///
    /// # Errors
    /// That it lies on no filesystem of the image, as what follows the path in a sentence.
    pub fn locate(&self, path: &Path) -> Result<Location, String> {
        let mut path = path.to_owned();
        for _ in 0..BINDS_MAX {
            let above = self.mounts.iter().filter(|(mount_point, _)| path.starts_with(mount_point));
            let Some((mount_point, mount)) = above.max_by_key(|(mount_point, _)| mount_point.components().count())
            else {
                return Err(self.origin.nowhere().to_owned());
            };
            let rest = path.strip_prefix(mount_point).unwrap_or(Path::new("")).to_owned();
            match mount {
                Mount::Boot => return Ok(Location::Boot(rest)),
                Mount::Xbootldr => return Ok(Location::Xbootldr(rest)),
                Mount::Nix(root) => return Ok(Location::Nix(plain(&root.join(rest)))),
                Mount::Bind(other) => path = plain(&other.join(rest)),
                Mount::Elsewhere(what) => {
                    return Err(self.origin.elsewhere(mount_point, what));
                }
            }
        }
        Err("is on a bind mount that leads in a circle".to_owned())
    }
}

impl Origin {
    fn nowhere(self) -> &'static str {
        match self {
            Self::Spec => "is on no filesystem of fileSystems",
            Self::Image => "is on no filesystem that the image is known to mount",
        }
    }

    fn elsewhere(self, mount_point: &Path, what: &str) -> String {
        match self {
            Self::Spec => {
                format!("is on fileSystems.\"{}\" ({what}), which is not in the image", mount_point.display())
            }
            // Escaped: it comes from the image.
            Self::Image => {
                format!("is on {mount_point:?} ({what}), which is neither the image's boot nor its nix filesystem")
            }
        }
    }
}

/// Without the slash at the end that a join with an empty path leaves.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(mounts: &[(&str, Mount)]) -> MountTable {
        MountTable::new(mounts.iter().map(|(at, mount)| (PathBuf::from(at), mount.clone())).collect())
    }

    #[test]
    fn the_innermost_mount_counts() {
        let table = table(&[
            ("/", Mount::Nix("@".into())),
            ("/boot", Mount::Boot),
            ("/home", Mount::Nix("@home".into())),
            ("/var", Mount::Elsewhere("tmpfs".to_owned())),
            ("/var/lib", Mount::Bind("/home/state".into())),
            ("/a", Mount::Bind("/b".into())),
            ("/b", Mount::Bind("/a".into())),
        ]);
        let nix = |path: &str| Ok(Location::Nix(path.into()));
        let locate = |path: &str| table.locate(Path::new(path));
        assert_eq!(locate("/etc/x"), nix("@/etc/x"));
        assert_eq!(locate("/bootx"), nix("@/bootx"));
        assert_eq!(locate("/boot/x"), Ok(Location::Boot("x".into())));
        assert_eq!(locate("/home"), nix("@home"));
        assert_eq!(locate("/var/lib/x"), nix("@home/state/x"));
        assert_eq!(locate("/var/x").unwrap_err(), "is on fileSystems.\"/var\" (tmpfs), which is not in the image");
        assert_eq!(locate("/a/x").unwrap_err(), "is on a bind mount that leads in a circle");
        let of_image = MountTable::of_image(table.mounts().to_vec());
        let told = "is on \"/var\" (tmpfs), which is neither the image's boot nor its nix filesystem";
        assert_eq!(of_image.locate(Path::new("/var/x")).unwrap_err(), told);
    }

    #[test]
    fn without_a_root() {
        let table = table(&[("/nix", Mount::Nix("".into()))]);
        assert_eq!(table.locate(Path::new("/nix/x")), Ok(Location::Nix("x".into())));
        assert_eq!(table.locate(Path::new("/x")).unwrap_err(), "is on no filesystem of fileSystems");
    }
}
