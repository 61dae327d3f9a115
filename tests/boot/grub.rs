//! GRUB, started by UEFI, reads extlinux.conf: the way of x86_64 without systemd-boot.
//!
//! Not by U-Boot: Debian's for x86_64 (2023.01) hands the kernel an initrd of no bytes.

use std::fs;

use crate::extlinux::with_extlinux;
use crate::guest::{Arch, Root, closure, fixture_path};
use crate::machine::{Firmware, Machine};
use crate::row::boot;
use crate::support::closure::ClosureBuilder;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run, tool};
use crate::support::tree::Entry;

/// What it takes to find, read and start what extlinux.conf names, and to talk on the serial line.
const MODULES: &str = "part_gpt fat search search_fs_file syslinuxcfg normal linux minicmd serial terminal echo test";

/// GRUB as one file that UEFI starts, or `None` where it is not here, which has been told.
fn grub() -> Option<Vec<u8>> {
    let modules = std::path::Path::new("/usr/lib/grub/x86_64-efi/syslinuxcfg.mod");
    if !need("grub-mkstandalone") || !(modules.exists() || skip(Lack::other("no grub-efi-amd64-bin"))) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("BOOTX64.EFI");
    let mut command = tool("grub-mkstandalone");
    command.args(["--format=x86_64-efi", "--locales=", "--fonts=", "--themes="]);
    command.arg(format!("--install-modules={MODULES}")).arg(format!("--modules={MODULES}"));
    run(command.arg("--output").arg(&file).arg(format!("boot/grub/grub.cfg={}", fixture_path("grub.cfg").display())));
    Some(fs::read(file).unwrap())
}

/// The closure with a boot partition for UEFI and, in it, what U-Boot would read.
fn with_grub(closure: ClosureBuilder, grub: &[u8]) -> ClosureBuilder {
    let boot = Entry::dir([("BOOT", Entry::dir([("BOOTX64.EFI", Entry::file(grub))]))]);
    let closure = with_extlinux(closure).path("grub-efi", Entry::dir([("EFI", boot)]));
    let directory = closure.store_path("grub-efi").to_owned();
    closure.spec(|spec| spec["extraBootFiles"] = [directory].as_slice().into())
}

fn boots(root: Root) {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let (Some(grub), Some(closure)) = (grub(), closure(machine.arch, root)) else { return };
    boot(&format!("grub-extlinux-{}", root.name()), machine, with_grub(closure, &grub));
}

#[test]
fn grub_x86_64_ext4() {
    boots(Root::Ext4);
}

#[test]
fn grub_x86_64_btrfs() {
    boots(Root::Btrfs);
}
