//! Where GRUB finds a directory of the image; pure.

use super::error::GrubError;
use crate::spec::{FsIdentifier, FsType};

/// What GRUB would take for something else, and gets a backslash.
///
/// The installer has the label from blkid, which knows of no `{}|&;`, and writes what is not ASCII as `M-C`: with such a
/// label its menu finds nothing.
const ESCAPED: &str = " \\\"'$`<>{}|&;";

/// Where a directory of the running system is on the image's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its partition in the GPT, from 1.
    pub number: u32,
    /// The format of its filesystem.
    pub fs: FsType,
    /// The filesystem's UUID as `blkid` prints it: lower case, `2178-694E` for FAT.
    pub uuid: String,
    /// The filesystem's label; may be empty.
    pub label: String,
    /// What the host names in `fileSystems`.
    pub device: String,
    /// The directory's path from the root of the filesystem, subvolumes included: it begins with a slash and does not
    /// end with one. Empty for the root itself.
    pub path: String,
    /// The path of the subvolume of a btrfs that is mounted there, from the filesystem's root, without a slash at either
    /// end; empty for the top level, and for other filesystems.
    pub subvolume: String,
}

/// How `grub.cfg` names a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    /// The command that finds its filesystem; may be empty.
    pub(super) search: String,
    /// Its path for GRUB, with the drive that was found, if one was looked for.
    pub(super) path: String,
}

impl Place {
    /// Whether files can be moved from one to the other: on a btrfs, each subvolume counts as a filesystem of its own.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        (self.number, &self.subvolume) == (other.number, &other.subvolume)
    }

    /// How `grub.cfg` names it. `drive` is the number of the variable for its drive.
    ///
    /// # Errors
    /// If the filesystem has no label by which it is to be found.
    pub(super) fn locate(&self, by: FsIdentifier, drive: u32) -> Result<Located, GrubError> {
        let path = self.path_for_grub();
        let Some(found_by) = self.found_by(by)? else { return Ok(Located { search: String::new(), path }) };
        let search = format!("search --set=drive{drive} {found_by}");
        Ok(Located { search, path: format!("($drive{drive}){path}") })
    }

    /// The installer puts the path below the mount point after the subvolume's own, and the former is at least a slash.
    fn path_for_grub(&self) -> String {
        let is_mount_point = self.path.trim_start_matches('/') == self.subvolume;
        if is_mount_point { format!("{}/", self.path) } else { self.path.clone() }
    }

    /// What `search` is told.
    ///
    /// With `provided`, the installer looks at the device that the kernel shows, which mount(8) has usually replaced by
    /// the likes of `/dev/sda2`. Such a name tells GRUB nothing. Here it is the device that the host names.
    fn found_by(&self, by: FsIdentifier) -> Result<Option<String>, GrubError> {
        let by_label = || match self.label.as_str() {
            "" => Err(GrubError::NoLabel { device: self.device.clone() }),
            label => Ok(Some(format!("--label {}", escaped(label)))),
        };
        let by_uuid = || Ok(Some(format!("--fs-uuid {}", self.uuid)));
        match by {
            FsIdentifier::Uuid => by_uuid(),
            FsIdentifier::Label => by_label(),
            FsIdentifier::Provided if self.device.starts_with("/dev/disk/by-uuid/") => by_uuid(),
            FsIdentifier::Provided if self.device.starts_with("/dev/disk/by-label/") => by_label(),
            FsIdentifier::Provided => Ok(None),
        }
    }
}

impl Located {
    /// What comes before a slash and a file's name.
    pub(super) fn prefix(&self) -> &str {
        if self.path == "/" { "" } else { &self.path }
    }
}

fn escaped(label: &str) -> String {
    let escape = |c: char| ESCAPED.contains(c).then_some('\\').into_iter().chain([c]);
    label.chars().flat_map(escape).collect()
}
