//! Where `/boot` lies, and whether the boot loaders that are asked for have the ESP that they need.

use std::path::{Path, PathBuf};

use super::fields::{Object, member_path};
use super::file_system::{BOOT, Mounts};
use super::partitions::{HybridEntry, PartitionName};
use crate::mounts::Location;

/// What needs an ESP.
pub(super) struct Wants<'a> {
    pub(super) systemd_boot: bool,
    pub(super) hybrid: Option<&'a [HybridEntry]>,
}

/// Where `/boot` lies in the image. If files are to be there, it has to.
pub(super) fn find(mounts: &Mounts, has_files: bool, top: &mut Object<'_>) -> Option<Location> {
    // Without these two, not all mounts are known. That was noted already.
    let (Some(_), Some(_)) = (&mounts.esp, &mounts.nix) else { return None };
    match mounts.table.locate(Path::new(BOOT)) {
        Ok(Location::Boot(path)) if path.components().next().is_some() => {
            let path = member_path(&top.member("fileSystems"), BOOT);
            let remedy = format!("remove {path}, or mount the ESP itself there");
            top.note(path, "is a directory of the ESP", remedy);
            None
        }
        Ok(location) => Some(location),
        Err(problem) => {
            if has_files {
                let path = member_path(&top.member("fileSystems"), BOOT);
                let remedy = format!("set {path} to a vfat filesystem, and efiSysMountPoint to {BOOT:?}");
                top.note(path, format!("has files of boot loaders, but {problem}"), remedy);
            }
            None
        }
    }
}

/// Notes what needs an ESP, if there is none. `esp` is where it is mounted, as far as that could be read.
pub(super) fn check_esp(esp: Option<&Option<PathBuf>>, wants: &Wants<'_>, top: &mut Object<'_>) {
    let Some(None) = esp else { return };
    let path = top.member("efiSysMountPoint");
    let remedy = format!("set {path} to the mount point of a vfat filesystem");
    if wants.systemd_boot {
        top.note(path.clone(), "is null, but systemdBoot needs an ESP", remedy.clone());
    }
    if wants.hybrid.unwrap_or_default().iter().any(|entry| entry.partition == PartitionName::Boot) {
        top.note(path, "is null, but hybridMbr names the partition \"boot\"", remedy);
    }
}
