//! systemd-boot, started by UEFI: the way of PCs and servers.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::archive::archive;
use crate::console::watch;
use crate::guest::{Arch, Esp, INITRD, Root, Variant, arm64, closure, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{boot, build};
use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, run, sane_image};
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

/// The ESP at /boot/efi has all of systemd-boot's files, and /boot none.
#[test]
fn uefi_with_the_esp_at_boot_efi() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let variant = Variant { esp: Esp::BootEfi, ..Variant::default() };
    let closure = closure_with(machine.arch, Root::Subvolumes, variant, |closure| closure);
    let Some(closure) = closure.and_then(|closure| with_systemd_boot(closure, machine.arch)) else { return };
    boot("systemd-boot-at-boot-efi", machine, closure);
}

/// The ESP has no more than systemd-boot itself; what that starts is on XBOOTLDR, which is /boot.
#[test]
fn uefi_with_xbootldr() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let variant = Variant { esp: Esp::Xbootldr, ..Variant::default() };
    let closure = closure_with(machine.arch, Root::Ext4, variant, |closure| closure);
    let Some(closure) = closure.and_then(|closure| with_systemd_boot(closure, machine.arch)) else { return };
    boot("systemd-boot-xbootldr", machine, closure);
}

/// A secret behind the initrd, as --extra-files puts it there: the kernel unpacks both.
#[test]
fn an_initrd_with_another_behind_it() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let closure = closure(machine.arch, Root::Ext4).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure.filter(|_| machine.need()) else { return };
    let initrd = closure.store_path(INITRD).to_owned();
    let (closure, built) = build(closure);
    let report = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success().stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let place = report["boot"]["entries"][0]["initrds"][0]["found"]["path"].as_str().unwrap();
    let secret = Entry::dir([("credentials", Entry::dir([("own.cred", Entry::file("behind the initrd"))]))]);
    let mut both = fs::read(closure.on_host(&initrd).join("initrd")).unwrap();
    both.resize(both.len().next_multiple_of(4), 0);
    both.extend(archive(&[(b".extra".to_vec(), secret)].into()));
    let secrets = tempfile::tempdir().unwrap();
    let at = secrets.path().join("boot").join(place);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, both).unwrap();
    let built = Built::new(&closure, &["--extra-files", secrets.path().to_str().unwrap()]);
    let run = watch("systemd-boot-two-initrds", &mut machine.command(&built.image, Writes::Forgotten));
    run.expect_said(&["credential /.extra/credentials/own.cred: behind the initrd\n"]);
    // All is well but that the initrd on the ESP is not the store's.
    run.expect_said(&[&format!("FAULT /boot has no copy of {initrd}/initrd\n"), "VERDICT failed: stage 2: 1 faults"]);
}

#[test]
fn uefi_aarch64_ext4() {
    boots(Arch::Aarch64, Root::Ext4);
}

#[test]
fn uefi_aarch64_btrfs() {
    boots(Arch::Aarch64, Root::Btrfs);
}
