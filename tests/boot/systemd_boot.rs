//! systemd-boot, started by UEFI: the way of PCs and servers.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::guest::{Arch, Root, arm64, closure};
use crate::machine::{Firmware, Machine};
use crate::row::boot;
use crate::support::closure::ClosureBuilder;
use crate::support::skip::{Lack, skip};
use crate::support::tree::Entry;

/// The closure with a boot partition for UEFI, or `None` where systemd-boot is not here, which has been told.
pub(crate) fn with_systemd_boot(closure: ClosureBuilder, arch: Arch) -> Option<ClosureBuilder> {
    let (directory, file) = match arch {
        Arch::X86_64 => (PathBuf::from("/usr/lib/systemd/boot/efi"), "systemd-bootx64.efi"),
        Arch::Aarch64 => (arm64().join("usr/lib/systemd/boot/efi"), "systemd-bootaa64.efi"),
    };
    let Ok(program) = fs::read(directory.join(file)) else {
        skip(Lack::Other(format!("no {file} (systemd-boot-efi)")));
        return None;
    };
    let closure = closure.path("systemd-efi", Entry::dir([(file, Entry::file(program))]));
    let efi_stub = closure.store_path("systemd-efi").to_owned();
    // No time for a menu: where it is seen, there is nothing to boot.
    Some(closure.spec(move |spec| spec["systemdBoot"] = json!({ "efiStub": efi_stub, "timeout": 0 })))
}

fn boots(arch: Arch, root: Root) {
    let machine = Machine::new(arch, Firmware::Uefi);
    let Some(closure) = closure(arch, root).and_then(|closure| with_systemd_boot(closure, arch)) else { return };
    boot(&format!("systemd-boot-{}-{}", arch.system(), root.name()), machine, closure);
}

#[test]
fn uefi_x86_64_ext4() {
    boots(Arch::X86_64, Root::Ext4);
}

#[test]
fn uefi_x86_64_btrfs() {
    boots(Arch::X86_64, Root::Btrfs);
}

#[test]
fn uefi_aarch64_ext4() {
    boots(Arch::Aarch64, Root::Ext4);
}

#[test]
fn uefi_aarch64_btrfs() {
    boots(Arch::Aarch64, Root::Btrfs);
}
