//! GRUB for BIOS and UEFI, compared with what `grub-install` itself makes of the same disk, byte for byte.
//!
//! `grub-install` sees a loop device with a GPT. Two things of a machine are replaced: `udevadm`, which not every machine
//! has and which tells where in /sys a partition is; and FAT, which not every kernel mounts: a tmpfs whose source is the
//! partition stands for it, and GRUB's own code finds the FAT in there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sane_image::grub::{Boot as Place, BootCode, Request, bios_core, efi_core, embed, embedded};
use sane_image::image::Image;
use sane_image::spec::FsType;
use sane_image::units::Lba;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::support::image::{run as run_ours, sane_image};
use crate::support::mount::{LoopDevice, MountPoint};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run, script, tool};

/// The first sector of the BIOS boot partition, and of partition 2.
const FIRST: [u64; 2] = [2048, 4096];
/// Where Debian has GRUB's modules.
const MODULES: &str = "/usr/lib/grub";

/// What holds /boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    Ext4,
    Btrfs,
    /// In the subvolume @.
    Subvolume,
    Fat,
}

impl Boot {
    fn place(self) -> Place<'static> {
        let (fs, path) = match self {
            Self::Ext4 => (FsType::Ext4, "/boot"),
            Self::Btrfs => (FsType::Btrfs, "/boot"),
            Self::Subvolume => (FsType::Btrfs, "/@/boot"),
            Self::Fat => (FsType::Vfat, ""),
        };
        Place { number: 2, fs, path }
    }
}

/// A disk, what `grub-install` left in /boot, and where that was.
struct Installed {
    image: NamedTempFile,
    boot: TempDir,
}

impl Installed {
    fn file(&self, path: &str) -> Vec<u8> {
        let path = self.boot.path().join(path);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn bytes(&self, first: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.image.as_file().read_exact_at(&mut bytes, first * 512).unwrap();
        bytes
    }
}

pub(crate) fn need_target(target: &str, package: &str) -> bool {
    let directory = Path::new(MODULES).join(target);
    directory.join("kernel.img").exists() || skip(Lack::Other(format!("{package} not installed")))
}

/// A program that says what udevadm does of the only thing that GRUB asks it: where a device is in /sys.
fn stand_in(directory: &Path) {
    let text = "#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\n\
                path=$(readlink -f /sys/class/block/${1#/dev/}) && echo ${path#/sys}\n";
    script(&directory.join("udevadm"), text);
}

/// Makes what holds /boot, and mounts it: the mounts, inner ones last, and where /boot is in them.
fn mounted(boot: Boot, device: &Path, point: &Path) -> (Vec<MountPoint>, PathBuf) {
    let node = device.as_os_str();
    let mount = |options: &str| MountPoint::new(["-o".as_ref(), options.as_ref(), node], point);
    match boot {
        Boot::Ext4 => {
            run(tool("mkfs.ext4").args(["-q", "-F"]).arg(device));
            (vec![mount("rw")], point.join("boot"))
        }
        Boot::Btrfs => {
            run(tool("mkfs.btrfs").args(["-q", "-f"]).arg(device));
            (vec![mount("rw")], point.join("boot"))
        }
        Boot::Subvolume => {
            run(tool("mkfs.btrfs").args(["-q", "-f"]).arg(device));
            let top = mount("rw");
            run(tool("btrfs").args(["subvolume", "create"]).arg(point.join("@")));
            drop(top);
            (vec![mount("subvol=@")], point.join("boot"))
        }
        Boot::Fat => {
            run(tool("mkfs.fat").args(["-F", "32"]).arg(device));
            (vec![MountPoint::new(["-t".as_ref(), "tmpfs".as_ref(), node], point)], point.to_owned())
        }
    }
}

/// Runs `grub-install` on a disk whose /boot is mounted at `directory`.
pub(crate) fn grub_install(target: &str, device: &Path, directory: &Path, arguments: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    stand_in(scratch.path());
    fs::create_dir_all(directory.join("grub")).unwrap();
    fs::write(directory.join("grub/device.map"), format!("(hd0) {}\n", device.display())).unwrap();
    let mut command = tool("grub-install");
    let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap().to_owned();
    let path = [scratch.path().as_os_str(), &path].join(&OsString::from(":"));
    command.env("PATH", path).arg(format!("--target={target}")).args(arguments);
    command.arg("--boot-directory").arg(directory);
    if target != "i386-pc" {
        command.arg("--efi-directory").arg(directory);
    }
    run(command.arg(device));
}

/// A new disk on which `grub-install` was run for `target`, or `None` where that cannot be, which has been told.
fn install(boot: Boot, target: &str, arguments: &[&str]) -> Option<Installed> {
    let programs = ["grub-install", "grub-mkimage", "sgdisk", "mkfs.ext4", "mkfs.btrfs", "btrfs", "mkfs.fat", "mount"];
    if !need_root() || !programs.iter().all(|program| need(program)) || !need_target("i386-pc", "grub-pc-bin") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(320 << 20).unwrap();
    let partition = |number: usize, last: &str| format!("--new={}:{}:{last}", number + 1, FIRST[number]);
    let types = ["--typecode=1:ef02", if boot == Boot::Fat { "--typecode=2:ef00" } else { "--typecode=2:8300" }];
    let partitions = [partition(0, "4095"), partition(1, "0")];
    run(tool("sgdisk").arg("--set-alignment=1").args(partitions).args(types).arg(image.path()));
    let device = LoopDevice::with_partitions(image.path(), 512)?;
    let scratch = tempfile::tempdir().unwrap();
    let point = scratch.path().join("mnt");
    fs::create_dir(&point).unwrap();
    let (mounts, directory) = mounted(boot, &device.partition(2), &point);
    grub_install(target, device.path(), &directory, arguments);
    let copy = tempfile::tempdir().unwrap();
    run(tool("cp").args(["-rT"]).args([&directory, copy.path()]));
    // The filesystem is on the disk before the disk is looked at.
    drop((mounts, device));
    Some(Installed { image, boot: copy })
}

pub(crate) fn mkimage() -> PathBuf {
    let found = run(tool("sh").args(["-c", "command -v grub-mkimage"]));
    PathBuf::from(String::from_utf8(found).unwrap().trim_end())
}

/// What we make of the same.
fn core(boot: Boot, target: &str, extra: &[String]) -> Vec<u8> {
    let (mkimage, modules, place) = (mkimage(), Path::new(MODULES).join(target), boot.place());
    let request = Request { mkimage: &mkimage, modules: &modules, boot: place, extra };
    let core = if target == "i386-pc" { bios_core(request) } else { efi_core(request) };
    core.unwrap().bytes
}

fn embedded(boot: Boot, extra: &[String]) -> (Vec<u8>, BootCode) {
    let boot_img = fs::read(Path::new(MODULES).join("i386-pc/boot.img")).unwrap();
    let core = core(boot, "i386-pc", extra);
    let code = embed(&boot_img, &core, Lba(FIRST[0])).unwrap();
    (core, code)
}

/// The first byte in which two differ, for a message that can be read.
fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let differs = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    differs.or((ours.len() != theirs.len()).then_some(ours.len().min(theirs.len())))
}

fn assert_embedded_as_by_grub_install(boot: Boot, extra: &[&str]) {
    let modules = format!("--modules={}", extra.join(" "));
    let Some(theirs) = install(boot, "i386-pc", &["--no-rs-codes", &modules]) else { return };
    let (core, code) = embedded(boot, &extra.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert_eq!(first_difference(&core, &theirs.file("grub/i386-pc/core.img")), None, "core.img");
    assert_eq!(first_difference(&code.mbr, &theirs.bytes(0, 440)), None, "sector 0");
    let mut ours = code.partition;
    ours.resize(usize::try_from(FIRST[1] - FIRST[0]).unwrap() * 512, 0);
    let mut partition = theirs.bytes(FIRST[0], ours.len());
    assert_eq!(first_difference(&ours, &partition), None, "BIOS boot partition");
    // The comparison is one.
    partition[20_000] ^= 1;
    assert_eq!(first_difference(&ours, &partition), Some(20_000));
}

#[test]
fn ext4_is_embedded_as_by_grub_install() {
    assert_embedded_as_by_grub_install(Boot::Ext4, &[]);
}

#[test]
fn btrfs_is_embedded_as_by_grub_install() {
    assert_embedded_as_by_grub_install(Boot::Btrfs, &[]);
}

#[test]
fn a_subvolume_is_embedded_as_by_grub_install() {
    assert_embedded_as_by_grub_install(Boot::Subvolume, &["luks", "lvm", "part_gpt"]);
}

#[test]
fn fat_is_embedded_as_by_grub_install() {
    assert_embedded_as_by_grub_install(Boot::Fat, &["nativedisk", "ahci"]);
}

#[test]
fn the_efi_program_is_that_of_grub_install() {
    if !need_target("x86_64-efi", "grub-efi-amd64-bin") {
        return;
    }
    let Some(theirs) = install(Boot::Fat, "x86_64-efi", &["--removable", "--no-nvram"]) else { return };
    let ours = core(Boot::Fat, "x86_64-efi", &[]);
    assert_eq!(first_difference(&ours, &theirs.file("EFI/BOOT/BOOTX64.EFI")), None);
    assert_ne!(first_difference(&ours, &core(Boot::Ext4, "x86_64-efi", &[])), None, "the prefix is in it");
}

#[test]
fn core_images_do_not_depend_on_where_they_are_made() {
    if !need("grub-mkimage") || !need_target("i386-pc", "grub-pc-bin") {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let modules = elsewhere.path().join("a directory/i386-pc");
    fs::create_dir_all(&modules).unwrap();
    for entry in fs::read_dir(Path::new(MODULES).join("i386-pc")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), modules.join(entry.file_name())).unwrap();
    }
    let (mkimage, place) = (mkimage(), Boot::Ext4.place());
    let request = Request { mkimage: &mkimage, modules: &modules, boot: place, extra: &[] };
    let there = bios_core(request).unwrap().bytes;
    assert_eq!(first_difference(&there, &core(Boot::Ext4, "i386-pc", &[])), None);
    let missing = Request { extra: &["no_such_module".to_owned()], ..request };
    let error = bios_core(missing).unwrap_err().to_string();
    assert!(error.contains("no_such_module.mod") && error.contains("grub-mkimage made no core image"), "{error}");
}

/// What verify says of the boot code of an image, and of its notes what is about GRUB.
fn verified(image: &Path) -> Vec<String> {
    let report = run_ours(sane_image().arg("verify").arg(image).arg("--json"));
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let faults = report["faults"].as_array().unwrap().iter();
    let faults = faults.filter(|fault| fault["what"] == "boot code").map(|fault| fault["why"].as_str().unwrap());
    let notes = report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap());
    faults.chain(notes.filter(|note| note.contains("GRUB"))).map(str::to_owned).collect()
}

/// With redundancy, as `grub-install` leaves it by default.
#[test]
fn what_grub_install_leaves_is_read_and_any_damage_found() {
    for boot in [Boot::Ext4, Boot::Subvolume] {
        let Some(theirs) = install(boot, "i386-pc", &[]) else { return };
        let image = theirs.image.path();
        let (ours, core) = (embedded(boot, &[]), theirs.file("grub/i386-pc/core.img"));
        assert_eq!(first_difference(&ours.0, &core), None);
        let opened = Image::open(image).unwrap();
        let found = embedded::look(&opened.bytes(), opened.table(), None).unwrap();
        let stage = found.stage.clone().unwrap();
        assert_eq!((found.code, stage.first, stage.partition), (embedded::Code::Grub, Lba(FIRST[0]), Some(1)));
        assert!(found.faults.is_empty() && found.notes.is_empty(), "{found:?}");
        assert!(stage.redundancy > core.len() as u64, "{stage:?}");
        assert_eq!(found.differs_from_core(&opened.bytes(), &core).unwrap(), None);
        assert_eq!(verified(image), Vec::<String>::new());
        let inspected = run_ours(sane_image().arg("inspect").arg(image).arg("--json"));
        let report: Value = serde_json::from_str(&inspected.stdout).unwrap();
        let code = &report["bootCode"];
        assert_eq!((&code["of"], &code["partition"], &code["offset"]), (&"grub".into(), &1.into(), &(1 << 20).into()));
        let text = run_ours(sane_image().arg("inspect").arg(image)).stdout;
        assert!(text.contains("What a BIOS starts: GRUB, from partition 1, "), "{text}");
        // The code, the sector that it loads, the block list, the image.
        for at in [0x100, 0x5d, (1 << 20) + 0x1f5, (1 << 20) + 0x1fc, (1 << 20) + 0x1ff, (1 << 20) + 20_000] {
            let file = File::options().read(true).write(true).open(image).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert!(!verified(image).is_empty(), "byte {at:#x}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
}

/// Others' boot code, from their packages.
#[test]
fn syslinux_is_known_by_its_files() {
    let directory = Path::new("/usr/lib/syslinux/mbr");
    if !need("sgdisk") || !(directory.exists() || skip(Lack::other("syslinux-common not installed"))) {
        return;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    let create = |attributes: &str| {
        let mut command: Command = tool("sgdisk");
        run(command.args(["--clear", "--new=1:2048:0", attributes]).arg(image.path()));
    };
    create("--attributes=1:set:2");
    for (file, code, partition) in [
        ("gptmbr.bin", embedded::Code::SyslinuxGpt, Some(1)),
        ("mbr.bin", embedded::Code::SyslinuxMbr, None),
        ("altmbr.bin", embedded::Code::SyslinuxNumber, None),
    ] {
        image.as_file().write_all_at(&fs::read(directory.join(file)).unwrap(), 0).unwrap();
        let opened = Image::open(image.path()).unwrap();
        let found = embedded::look(&opened.bytes(), opened.table(), None).unwrap();
        assert_eq!((found.code, found.stage.and_then(|stage| stage.partition)), (code, partition), "{file}");
    }
}
