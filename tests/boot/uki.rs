//! Unified kernel images that the program makes itself, started by firmware and by systemd-boot.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::console::watch;
use crate::guest::{Arch, Esp, INITRD, KERNEL, Root, Variant, arm64, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{build, mtool};
use crate::support::closure::ClosureBuilder;
use crate::support::image::{run, sane_image};
use crate::support::skip::{Lack, skip};
use crate::support::tree::Entry;
use crate::systemd_boot::with_systemd_boot;

/// The closure with a unified kernel image, or `None` where its stub is not here, which has been told.
pub(crate) fn with_uki(closure: ClosureBuilder, arch: Arch, tries: Option<u8>) -> Option<ClosureBuilder> {
    let (directory, file) = match arch {
        Arch::X86_64 => (PathBuf::from("/usr/lib/systemd/boot/efi"), "linuxx64.efi.stub"),
        Arch::Aarch64 => (arm64().join("usr/lib/systemd/boot/efi"), "linuxaa64.efi.stub"),
    };
    let Ok(stub) = fs::read(directory.join(file)) else {
        skip(Lack::Other(format!("no {file} (systemd-boot-efi)")));
        return None;
    };
    let release = "ID=nixos\nPRETTY_NAME=\"NixOS, unified\"\nVERSION_ID=26.05\n";
    let closure = closure
        .path("systemd-stub", Entry::dir([("stub", Entry::file(stub))]))
        .path("release", Entry::dir([("os-release", Entry::file(release))]));
    let of = |name: &str, file: &str| format!("{}/{file}", closure.store_path(name));
    let (stub, os_release) = (of("systemd-stub", "stub"), of("release", "os-release"));
    let (kernel, initrd) = (of(KERNEL, arch.kernel_file()), of(INITRD, "initrd"));
    Some(closure.spec(move |spec| {
        let init = format!("init={}/init", spec["toplevel"].as_str().unwrap());
        let cmdline = format!("{init} console={} panic=-1 loglevel=4 unified=alone", arch.console());
        spec["uki"] = json!({
            "stub": stub, "kernel": kernel, "initrd": initrd, "cmdline": cmdline, "osRelease": os_release,
            "uname": "6.1", "fileName": "nixos_1.efi", "tries": tries,
        });
    }))
}

fn uki_alone(arch: Arch) {
    let machine = Machine::new(arch, Firmware::Uefi);
    let variant = Variant { esp: Esp::BootEfi, ..Variant::default() };
    let closure = closure_with(arch, Root::Ext4, variant, |closure| closure);
    let Some(closure) = closure.and_then(|closure| with_uki(closure, arch, None)) else { return };
    if !machine.need() {
        return;
    }
    let (closure, built) = build(closure);
    let row = format!("uki-alone-{}", arch.system());
    let run = watch(&row, &mut machine.command(&built.image, Writes::Forgotten));
    run.expect_good(closure.paths.len());
    run.expect_said(&["unified=alone", &format!("stage 1: {}/init\n", closure.toplevel)]);
}

/// Firmware starts it by itself.
#[test]
fn alone_x86_64() {
    uki_alone(Arch::X86_64);
}

#[test]
fn alone_aarch64() {
    uki_alone(Arch::Aarch64);
}

/// systemd-boot finds it, takes it for the default, and counts the try.
#[test]
fn behind_systemd_boot_x86_64() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let closure = closure_with(machine.arch, Root::Ext4, Variant::default(), |closure| closure);
    let closure = closure.and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure.and_then(|closure| with_uki(closure, machine.arch, Some(3))) else { return };
    if !machine.need() {
        return;
    }
    let (closure, built) = build(closure);
    let entries = || {
        let report = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success().stdout;
        serde_json::from_str::<Value>(&report).unwrap()["boot"]["entries"].clone()
    };
    let entry = &entries()[0];
    assert_eq!(
        [&entry["id"], &entry["triesLeft"], &entry["default"]],
        [&json!("nixos_1.efi"), &json!(3), &json!(true)]
    );
    let run = watch("uki-systemd-boot", &mut machine.command(&built.image, Writes::Kept));
    run.expect_good(closure.paths.len());
    run.expect_said(&["unified=alone", &format!("stage 1: {}/init\n", closure.toplevel)]);
    assert_eq!(entries()[0]["triesLeft"], 2, "{}", run.console());
}

/// A damaged program does not boot: what boots is what was written.
#[test]
fn damaged() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let variant = Variant { esp: Esp::BootEfi, ..Variant::default() };
    let closure = closure_with(machine.arch, Root::Ext4, variant, |closure| closure);
    let Some(closure) = closure.and_then(|closure| with_uki(closure, machine.arch, None)) else { return };
    if !machine.need() || !crate::support::tool::need("mcopy") {
        return;
    }
    let (_, built) = build(closure);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("uki.efi");
    mtool("mcopy", &built, &["::/EFI/BOOT/BOOTX64.EFI", file.to_str().unwrap()]);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|window| window == b".linux").unwrap();
    bytes[at] = b'_';
    fs::write(&file, bytes).unwrap();
    mtool("mcopy", &built, &["-o", file.to_str().unwrap(), "::/EFI/BOOT/BOOTX64.EFI"]);
    watch("uki-damaged", &mut machine.command(&built.image, Writes::Forgotten)).expect_bad(&[]);
}
