//! Where `/boot` lies, and whether the boot loaders that are asked for have the ESP that they need.

use std::path::{Path, PathBuf};

use super::fields::{Object, member_path};
use super::file_system::{BOOT, Mounts};
use super::grub::{self, Grub};
use super::limine::{self, Limine};
use super::partitions::{HybridEntry, PartitionName};
use super::systemd_boot::{self, SystemdBoot};
use super::uki::{self, Uki};
use super::{SHELL_COMMAND, validate};
use crate::mounts::Location;
use crate::units::SectorSize;

/// What boots a machine, as far as it could be read.
pub(super) struct Loaders {
    pub(super) populate_cmd: Option<String>,
    pub(super) systemd_boot: Option<SystemdBoot>,
    pub(super) grub: Option<Grub>,
    pub(super) limine: Option<Limine>,
    pub(super) uki: Option<Uki>,
    pub(super) extra_boot_files: Vec<PathBuf>,
}

impl Loaders {
    pub(super) fn read(top: &mut Object<'_>) -> Self {
        let populate_cmd = top.optional("populateCmd", SHELL_COMMAND, None, validate::command).flatten();
        let (systemd_boot, grub) = (systemd_boot::read(top).flatten(), grub::read(top).flatten());
        let (limine, uki) = (limine::read(top).flatten(), uki::read(top).flatten());
        let extra_boot_files = top.list("extraBootFiles", "an absolute path", validate::absolute_path);
        let extra_boot_files = extra_boot_files.unwrap_or_default();
        Self { populate_cmd, systemd_boot, grub, limine, uki, extra_boot_files }
    }
}

/// Where `/boot` lies in the image. If files are to be there, it has to.
pub(super) fn find(mounts: &Mounts, loaders: &Loaders, top: &mut Object<'_>) -> Option<Location> {
    // Without these, not all mounts are known. That was noted already.
    let (Some(_), Some(_), Some(_)) = (&mounts.esp, &mounts.xbootldr, &mounts.nix) else { return None };
    if let Some(grub) = &loaders.grub
        && let Err(problem) = mounts.table.locate(&grub.store_path)
    {
        let path = "grub.storePath".to_owned();
        let remedy = format!("set {path} to the store directory");
        top.note(path, format!("{} {problem}", grub.store_path.display()), remedy);
    }
    let has_files = loaders.populate_cmd.is_some() || !loaders.extra_boot_files.is_empty() || loaders.grub.is_some();
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
pub(super) fn check_esp(
    esp: Option<&Option<PathBuf>>,
    loaders: &Loaders,
    hybrid_mbr: Option<&[HybridEntry]>,
    top: &mut Object<'_>,
) {
    let path = top.member("efiSysMountPoint");
    check_limine(esp, loaders, top);
    let Some(None) = esp else { return };
    let remedy = format!("set {path} to the mount point of a vfat filesystem");
    let names_esp = |entry: &HybridEntry| entry.partition == PartitionName::Boot;
    let problems = [
        (loaders.systemd_boot.is_some(), "is null, but systemdBoot needs an ESP"),
        (loaders.grub.as_ref().is_some_and(|grub| grub.efi.is_some()), "is null, but grub.efi needs an ESP"),
        (loaders.limine.is_some(), "is null, but limine needs a vfat filesystem"),
        (loaders.uki.is_some(), "is null, but uki needs an ESP"),
        (hybrid_mbr.unwrap_or_default().iter().any(names_esp), "is null, but hybridMbr names the partition \"boot\""),
    ];
    for (_, problem) in problems.into_iter().filter(|(is_wrong, _)| *is_wrong) {
        top.note(path.clone(), problem, remedy.clone());
    }
}

/// Notes an XBOOTLDR partition that nothing would look for: only systemd-boot does. `mount_point` is where it is, as far
/// as that could be read.
pub(super) fn check_xbootldr(mount_point: Option<&Option<PathBuf>>, loaders: &Loaders, top: &mut Object<'_>) {
    if let Some(Some(mount_point)) = mount_point
        && loaders.systemd_boot.is_none()
    {
        let path = top.member("xbootldrMountPoint");
        let remedy = format!("set {path} to null, or systemdBoot");
        let problem =
            format!("is {:?}, but only systemdBoot looks for such a partition", mount_point.display().to_string());
        top.note(path, problem, remedy);
    }
}

/// Notes disks that no BIOS starts from: it knows sectors of 512 bytes only.
pub(super) fn check_sectors(sector_size: Option<SectorSize>, loaders: &Loaders, top: &mut Object<'_>) {
    let askers = [
        (loaders.grub.as_ref().is_some_and(|grub| grub.bios.is_some()), "grub.bios to null"),
        (loaders.limine.as_ref().is_some_and(|limine| limine.bios_support), "limine.biosSupport to false"),
    ];
    for (_, instead) in askers.into_iter().filter(|(asks, _)| sector_size == Some(SectorSize::B4096) && *asks) {
        let path = top.member("sectorSize");
        let remedy = format!("set {path} to 512, or {instead} for a machine that starts by UEFI");
        top.note(path, "is 4096, but no BIOS starts from such a disk", remedy);
    }
}

/// Notes where Limine cannot be with another boot loader, or where its installer would not look.
fn check_limine(esp: Option<&Option<PathBuf>>, loaders: &Loaders, top: &mut Object<'_>) {
    let Some(limine) = &loaders.limine else { return };
    let path = top.member("limine");
    let by_uefi = loaders.systemd_boot.is_some() || loaders.grub.as_ref().is_some_and(|grub| grub.efi.is_some());
    if limine.efi_support && by_uefi {
        let problem = "is for UEFI, which systemdBoot or grub.efi is already";
        top.note(path.clone(), problem, format!("leave one of them, or set {path}.efiSupport to false"));
    }
    if limine.bios_support && loaders.grub.as_ref().is_some_and(|grub| grub.bios.is_some()) {
        let problem = "is for a BIOS, which grub.bios is already";
        top.note(path.clone(), problem, format!("leave one of them, or set {path}.biosSupport to false"));
    }
    if let Some(Some(mount_point)) = esp
        && !limine.efi_support
        && mount_point != Path::new(BOOT)
    {
        let problem = format!("is for a BIOS alone, with files on {BOOT}, but the ESP is at {}", mount_point.display());
        top.note(path, problem, format!("set efiSysMountPoint to {BOOT:?}"));
    }
}
