//! GRUB, the boot loader of PCs: started by a BIOS from sector 0 and the BIOS boot partition, by UEFI from the ESP, and by
//! either from one image. It finds its menu in an ext4, a btrfs or a FAT, and kernels there or in the store.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::console::watch_and_type;
use crate::guest::{Arch, Esp, Root, SPECIALISATION, Variant, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{boot_by, build};
use crate::support::closure::ClosureBuilder;
use crate::support::image::{run, sane_image};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run as run_tool, tool};

const BIOS: &str = "/usr/lib/grub/i386-pc";
const EFI: &str = "/usr/lib/grub/x86_64-efi";
/// So that the menu is on the serial line, as a host's `boot.loader.grub.extraConfig`.
const ON_SERIAL: &str = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n";
/// What a terminal sends for the arrow that goes down.
const DOWN: &str = "\x1b[B";

/// The closure with GRUB for these firmwares, or `None` where GRUB is not here, which has been told.
fn with_grub(root: Root, esp: Esp, firmwares: &[Firmware], timeout: u32) -> Option<ClosureBuilder> {
    let modules = |firmware, path| firmwares.contains(&firmware).then_some(path);
    let (bios, efi) = (modules(Firmware::Bios, BIOS), modules(Firmware::Uefi, EFI));
    let missing = bios.iter().chain(&efi).find(|path| !Path::new(path).exists());
    let is_here = missing.is_none_or(|path| skip(Lack::Other(format!("no {path} (grub-pc-bin, grub-efi-amd64-bin)"))));
    if !need("grub-mkimage") || !is_here {
        return None;
    }
    let found = run_tool(tool("sh").args(["-c", "command -v grub-mkimage"]));
    let mkimage = PathBuf::from(String::from_utf8(found).unwrap().trim_end());
    let closure = closure_with(Arch::X86_64, root, Variant { esp, ..Variant::default() }, |closure| closure)?;
    Some(closure.spec(move |spec| {
        spec["grub"] = json!({
            "mkimage": mkimage, "bios": bios, "efi": efi, "timeout": timeout, "extraConfig": ON_SERIAL,
            "efiSysMountPoint": esp.mount_point().unwrap_or("/boot"), "devices": ["/dev/vda"],
        });
    }))
}

/// Each of the firmwares boots one image by way of GRUB's menu.
fn boots(root: Root, esp: Esp, firmwares: &[Firmware]) {
    let Some(closure) = with_grub(root, esp, firmwares, 1) else { return };
    boot_by(firmwares, &format!("grub-{}-{esp:?}", root.name()), closure, &["GNU GRUB"]);
}

/// `/boot/grub` and the store lie on one filesystem, which GRUB takes kernels from.
#[test]
fn bios_without_an_esp_ext4() {
    boots(Root::Ext4, Esp::Nowhere, &[Firmware::Bios]);
}

/// `/boot` and the store are in two subvolumes, so that kernels are copied.
#[test]
fn bios_without_an_esp_subvolumes() {
    boots(Root::Subvolumes, Esp::Nowhere, &[Firmware::Bios]);
}

#[test]
fn bios_and_uefi_from_one_esp_ext4() {
    boots(Root::Ext4, Esp::Boot, &[Firmware::Bios, Firmware::Uefi]);
}

#[test]
fn bios_and_uefi_from_one_esp_btrfs() {
    boots(Root::Btrfs, Esp::Boot, &[Firmware::Bios, Firmware::Uefi]);
}

#[test]
fn bios_and_uefi_with_boot_beside_the_store_ext4() {
    boots(Root::Ext4, Esp::BootEfi, &[Firmware::Bios, Firmware::Uefi]);
}

#[test]
fn bios_and_uefi_with_boot_beside_the_store_subvolumes() {
    boots(Root::Subvolumes, Esp::BootEfi, &[Firmware::Bios, Firmware::Uefi]);
}

/// The second entry of the menu.
#[test]
fn a_specialisation_is_chosen_in_the_menu() {
    let machine = Machine::new(Arch::X86_64, Firmware::Bios);
    let Some(closure) = with_grub(Root::Ext4, Esp::Nowhere, &[Firmware::Bios], 60).filter(|_| machine.need()) else {
        return;
    };
    let (closure, built) = build(closure);
    let mut command = machine.command(&built.image, Writes::Forgotten);
    let run = watch_and_type("grub-specialisation", &mut command, &[(&format!("({SPECIALISATION}"), DOWN)]);
    run.expect_said(&[&format!("-{SPECIALISATION}/init\n"), " calm=1"]);
    run.expect_good(closure.paths.len());
}

/// Boot code is in no filesystem; verify finds what is wrong with it all the same.
#[test]
fn a_damaged_core_image_is_found() {
    let Some(closure) = with_grub(Root::Ext4, Esp::Nowhere, &[Firmware::Bios], 1) else { return };
    let (_, built) = build(closure);
    let partition = &built.layout["partitions"][0];
    assert_eq!(partition["role"], "biosBoot");
    let disk = File::options().write(true).open(&built.image).unwrap();
    disk.write_all_at(&[0; 4096], partition["offset"].as_u64().unwrap() + 8192).unwrap();
    let verified = run(sane_image().arg("verify").arg(&built.image)).expect_failure(1);
    assert!(verified.stdout.contains("GRUB's core image differs from core.img at byte 8192"), "{}", verified.stdout);
}
