//! A unified kernel image that the toplevel offers, started by systemd-boot: one program with kernel, initrd and command
//! line in it, made as ukify(1) makes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::console::watch;
use crate::guest::{Arch, Root, Variant, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{build, mtool};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run, tool};
use crate::systemd_boot::with_systemd_boot;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// What only its own command line has.
const PARAMETER: &str = "unified=1";

/// Adds sections to the stub. Their addresses are those of systemd-stub(7), far enough apart for what is in them.
fn unify(kernel: &[u8], initrd: &[u8], command_line: &str) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let (image, line) = (scratch.path().join("image"), format!("{command_line} {PARAMETER}"));
    let sections: [(&str, u32, &[u8]); 4] = [
        (".osrel", 0x20000, b"ID=nixos\nPRETTY_NAME=\"NixOS, unified\"\n"),
        (".cmdline", 0x30000, line.as_bytes()),
        (".linux", 0x0200_0000, kernel),
        (".initrd", 0x0400_0000, initrd),
    ];
    let mut command = tool("objcopy");
    for (name, address, contents) in sections {
        add_section(&mut command, scratch.path(), name, address, contents);
    }
    run(command.args([Path::new(STUB), &image]));
    fs::read(image).unwrap()
}

fn add_section(command: &mut Command, scratch: &Path, name: &str, address: u32, contents: &[u8]) {
    let file = scratch.join(name);
    fs::write(&file, contents).unwrap();
    command.arg(format!("--add-section={name}={}", file.display()));
    command.arg(format!("--change-section-vma={name}={address:#x}"));
}

/// Files of the host's own on the ESP, which systemd-stub hands to what it starts.
fn credentials() -> Value {
    json!([
        { "target": "/boot/loader/credentials/all.cred", "text": "of all programs" },
        { "target": "/boot/EFI/Linux/nixos.efi.extra.d/one.cred", "text": "of this program" },
    ])
}

#[test]
fn of_the_toplevel_x86_64() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let has_stub = Path::new(STUB).exists() || skip(Lack::other("no linuxx64.efi.stub (systemd-boot-efi)"));
    if !machine.need() || !has_stub || !["objcopy", "mcopy"].iter().all(|tool| need(tool)) {
        return;
    }
    let variant = Variant { unify: Some(unify), ..Variant::default() };
    let closure = closure_with(machine.arch, Root::Ext4, variant, |closure| closure);
    let Some(closure) = closure.and_then(|closure| with_systemd_boot(closure, machine.arch)) else { return };
    let (closure, built) = build(closure.spec(|spec| spec["files"] = credentials()));
    // The default is the entry of the same system; a user would choose the other in the menu.
    let scratch = tempfile::tempdir().unwrap();
    let conf = scratch.path().join("loader.conf");
    fs::write(&conf, "timeout 0\ndefault nixos.efi\n").unwrap();
    mtool("mcopy", &built, &["-o", conf.to_str().unwrap(), "::/loader/loader.conf"]);
    let run = watch("unified-x86_64", &mut machine.command(&built.image, Writes::Forgotten));
    run.expect_good(closure.paths.len());
    run.expect_said(&[PARAMETER, &format!("stage 1: {}/init\n", closure.toplevel)]);
    run.expect_said(&["credential /.extra/global_credentials/all.cred: of all programs\n"]);
    run.expect_said(&["credential /.extra/credentials/one.cred: of this program\n"]);
}
