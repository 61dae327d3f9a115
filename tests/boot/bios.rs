//! A BIOS starts GRUB from sector 0 and the BIOS boot partition; GRUB finds its menu in an ext4, a btrfs or a FAT.
//!
//! Put together by hand: the core image and its place are the library's, the rest of the disk is an image with the
//! partitions that it takes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sane_image::grub::{Boot, BootCode, Request, bios_core, embed};
use sane_image::spec::FsType;
use sane_image::units::Lba;
use serde_json::json;

use crate::console::watch;
use crate::guest::{Arch, INITRD, KERNEL, Root, SYSTEM, closure};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::build;
use crate::support::closure::ClosureBuilder;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run, tool};
use crate::support::tree::Entry;

const MODULES: &str = "/usr/lib/grub/i386-pc";
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
/// The first sector of the first partition.
const FIRST: Lba = Lba(2048);

/// What holds GRUB's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Esp,
    Nix,
}

/// GRUB's modules and lists, as `grub-install` has them in /boot/grub.
fn modules() -> Entry {
    let files = fs::read_dir(MODULES).unwrap().map(|entry| entry.unwrap().path());
    let is_meant = |path: &PathBuf| path.extension().is_some_and(|end| end == "mod" || end == "lst");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    Entry::dir(files.filter(is_meant).map(|path| (name(&path), Entry::file(fs::read(&path).unwrap()))))
}

/// A menu of one entry, on the serial line. `find` tells where GRUB finds a file of the store.
fn menu(closure: &ClosureBuilder, find: impl Fn(&str) -> String) -> String {
    let system = closure.store_path(SYSTEM);
    let kernel = find(&format!("{}/bzImage", closure.store_path(KERNEL)));
    let initrd = find(&format!("{}/initrd", closure.store_path(INITRD)));
    let console = Arch::X86_64.console();
    // The partition is found by a file: the menu may be in another.
    format!(
        "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\nset timeout=1\n\
         menuentry 'NixOS' {{\n  search --no-floppy --set=root --file {kernel}\n  \
         linux {kernel} init={system}/init console={console} panic=-1 loglevel=4 calm=0\n  initrd {initrd}\n}}\n"
    )
}

/// The closure with GRUB's files in `holder`, and where they are: partition, filesystem, directory.
fn with_grub(closure: ClosureBuilder, root: Root, holder: Holder) -> (ClosureBuilder, (u32, FsType, String)) {
    let (fs, top) = match root {
        Root::Ext4 => (FsType::Ext4, "/nix"),
        // The subvolume that is mounted at /nix.
        Root::Btrfs => (FsType::Btrfs, "/@nix"),
    };
    let find = |path: &str| path.replacen("/nix", top, 1);
    let grub = Entry::dir([("grub.cfg", Entry::file(menu(&closure, find))), ("i386-pc", modules())]);
    let closure = closure.path("grub", Entry::dir([("grub", grub)]));
    let path = closure.store_path("grub").to_owned();
    let place = match holder {
        Holder::Nix => (3, fs, find(&path)),
        Holder::Esp => (2, FsType::Vfat, String::new()),
    };
    let is_in_esp = holder == Holder::Esp;
    let closure = closure.spec(move |spec| {
        if is_in_esp {
            spec["extraBootFiles"] = json!([path]);
        }
    });
    (closure, place)
}

fn boot_code(boot: Boot<'_>) -> BootCode {
    let found = run(tool("sh").args(["-c", "command -v grub-mkimage"]));
    let mkimage = PathBuf::from(String::from_utf8(found).unwrap().trim_end());
    let request = Request { mkimage: &mkimage, modules: Path::new(MODULES), boot, extra: &[] };
    let core = bios_core(request).unwrap();
    embed(&fs::read(Path::new(MODULES).join("boot.img")).unwrap(), &core.bytes, FIRST).unwrap()
}

fn boots(root: Root, holder: Holder) {
    let machine = Machine::new(Arch::X86_64, Firmware::Bios);
    let is_here = need("grub-mkimage") && (Path::new(MODULES).exists() || skip(Lack::other("no grub-pc-bin")));
    if !is_here || !machine.need() {
        return;
    }
    let Some(closure) = closure(machine.arch, root) else { return };
    let (closure, (number, fs, path)) = with_grub(closure, root, holder);
    let code = boot_code(Boot { number, fs, path: &path });
    let scratch = tempfile::tempdir().unwrap();
    let partition = scratch.path().join("partition");
    fs::write(&partition, &code.partition).unwrap();
    let partition = json!([{
        "name": "bios", "typeGuid": BIOS_BOOT, "size": 1 << 20, "contents": partition, "place": "beforeBoot",
    }]);
    let (closure, built) = build(closure.spec(|spec| spec["extraPartitions"] = partition));
    assert_eq!(built.layout["partitions"][0]["offset"], FIRST.0 * 512);
    File::options().write(true).open(&built.image).unwrap().write_all_at(&code.mbr, 0).unwrap();
    let row = format!("bios-grub-{}-{holder:?}", root.name());
    let run = watch(&row, &mut machine.command(&built.image, Writes::Forgotten));
    run.expect_good(closure.paths.len());
    run.expect_said(&["GNU GRUB", &format!("stage 1: {}/init\n", closure.toplevel)]);
}

#[test]
fn grub_bios_from_ext4() {
    boots(Root::Ext4, Holder::Nix);
}

#[test]
fn grub_bios_from_btrfs() {
    boots(Root::Btrfs, Holder::Nix);
}

#[test]
fn grub_bios_from_fat() {
    boots(Root::Ext4, Holder::Esp);
}
