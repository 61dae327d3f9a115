//! Where `/boot` lies, and whether the boot loaders that are asked for have the ESP that they need.

use std::path::{Path, PathBuf};

use super::fields::{Object, member_path};
use super::file_system::{BOOT, Mounts};
use super::grub::Grub;
use super::partitions::{HybridEntry, PartitionName};
use crate::mounts::Location;
use crate::units::SectorSize;

/// What a spec asks for of that which boots a machine, as far as it could be read.
pub(super) struct AskedFor<'a> {
    pub(super) populate_cmd: bool,
    pub(super) extra_boot_files: bool,
    pub(super) systemd_boot: bool,
    pub(super) grub: Option<&'a Grub>,
    pub(super) hybrid_mbr: &'a [HybridEntry],
}

/// Where `/boot` lies in the image. If files are to be there, it has to.
pub(super) fn find(mounts: &Mounts, asked_for: &AskedFor<'_>, top: &mut Object<'_>) -> Option<Location> {
    // Without these, not all mounts are known. That was noted already.
    let (Some(_), Some(_), Some(_)) = (&mounts.esp, &mounts.xbootldr, &mounts.nix) else { return None };
    if let Some(grub) = asked_for.grub
        && let Err(problem) = mounts.table.locate(&grub.store_path)
    {
        let path = "grub.storePath".to_owned();
        let remedy = format!("set {path} to the store directory");
        top.note(path, format!("{} {problem}", grub.store_path.display()), remedy);
    }
    let has_files = asked_for.populate_cmd || asked_for.extra_boot_files || asked_for.grub.is_some();
    match mounts.table.locate(Path::new(BOOT)) {
        Ok(Location::Boot(path)) if path.components().next().is_some() => {
            let path = member_path(&top.member("fileSystems"), BOOT);
            let remedy = format!("remove {path}, or mount the ESP itself there");
            top.note(path, "is a directory of the ESP", remedy);
            None
        }
        Ok(Location::Xbootldr(path)) if path.components().next().is_some() => {
            let path = member_path(&top.member("fileSystems"), BOOT);
            let remedy = format!("remove {path}, or mount the XBOOTLDR partition itself there");
            top.note(path, "is a directory of the XBOOTLDR partition", remedy);
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
pub(super) fn check_esp(esp: Option<&Option<PathBuf>>, asked_for: &AskedFor<'_>, top: &mut Object<'_>) {
    let Some(None) = esp else { return };
    let path = top.member("efiSysMountPoint");
    let remedy = format!("set {path} to the mount point of a vfat filesystem");
    let names_esp = |entry: &HybridEntry| entry.partition == PartitionName::Boot;
    let problems = [
        (asked_for.systemd_boot, "is null, but systemdBoot needs an ESP"),
        (asked_for.grub.is_some_and(|grub| grub.efi.is_some()), "is null, but grub.efi needs an ESP"),
        (asked_for.hybrid_mbr.iter().any(names_esp), "is null, but hybridMbr names the partition \"boot\""),
    ];
    for (_, problem) in problems.into_iter().filter(|(is_wrong, _)| *is_wrong) {
        top.note(path.clone(), problem, remedy.clone());
    }
}

/// Notes an XBOOTLDR partition that nothing would look for: only systemd-boot does. `mount_point` is where it is, as far
/// as that could be read.
pub(super) fn check_xbootldr(mount_point: Option<&Option<PathBuf>>, asked_for: &AskedFor<'_>, top: &mut Object<'_>) {
    if let Some(Some(mount_point)) = mount_point
        && !asked_for.systemd_boot
    {
        let path = top.member("xbootldrMountPoint");
        let remedy = format!("set {path} to null, or systemdBoot");
        let problem =
            format!("is {:?}, but only systemdBoot looks for such a partition", mount_point.display().to_string());
        top.note(path, problem, remedy);
    }
}

/// Notes disks that no BIOS starts from: it knows sectors of 512 bytes only.
pub(super) fn check_sectors(sector_size: Option<SectorSize>, asked_for: &AskedFor<'_>, top: &mut Object<'_>) {
    if sector_size == Some(SectorSize::B4096) && asked_for.grub.is_some_and(|grub| grub.bios.is_some()) {
        let path = top.member("sectorSize");
        let remedy = format!("set {path} to 512, or grub.bios to null for a machine that starts by UEFI");
        top.note(path, "is 4096, but no BIOS starts from such a disk", remedy);
    }
}
