//! Limine, started by a BIOS from sector 0 and the BIOS boot partition, by UEFI from the ESP, and by either from one image.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::console::watch;
use crate::guest::{Arch, Esp, Root, Variant, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{boot_by, build, mtool};
use crate::support::closure::ClosureBuilder;
use crate::support::limine::limine;
use crate::support::tool::{run as run_tool, tool};

/// So that the menu is on the serial line, too.
const ON_SERIAL: &str = "serial: yes";

/// The closure with Limine for these firmwares, or `None` where Limine is not here, which has been told.
fn with_limine(root: Root, esp: Esp, firmwares: &[Firmware], change: fn(&mut Value)) -> Option<ClosureBuilder> {
    let package = limine()?;
    let closure = closure_with(Arch::X86_64, root, Variant { esp, ..Variant::default() }, |closure| closure)?;
    let [bios, efi] = [Firmware::Bios, Firmware::Uefi].map(|firmware| firmwares.contains(&firmware));
    Some(closure.spec(move |spec| {
        spec["limine"] = json!({
            "package": package, "tool": package.join("bin/limine"), "biosSupport": bios, "efiSupport": efi,
            "timeout": 1, "extraConfig": ON_SERIAL,
        });
        change(&mut spec["limine"]);
    }))
}

/// Each of the firmwares boots one image.
fn boots(root: Root, esp: Esp, firmwares: &[Firmware]) {
    let Some(closure) = with_limine(root, esp, firmwares, |_| ()) else { return };
    boot_by(firmwares, &format!("limine-{}-{esp:?}", root.name()), closure, &[]);
}

#[test]
fn bios_ext4() {
    boots(Root::Ext4, Esp::Boot, &[Firmware::Bios]);
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
fn uefi_with_the_esp_at_boot_efi() {
    boots(Root::Ext4, Esp::BootEfi, &[Firmware::Uefi]);
}

/// Limine's program takes the configuration that is in the image, and stops at any other.
#[test]
fn uefi_with_an_enrolled_configuration() {
    let enroll = |limine: &mut Value| {
        limine["enrollConfig"] = true.into();
        limine["panicOnChecksumMismatch"] = true.into();
    };
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let Some(closure) = with_limine(Root::Ext4, Esp::Boot, &[Firmware::Uefi], enroll).filter(|_| machine.need()) else {
        return;
    };
    let (_, built) = boot_by(&[Firmware::Uefi], "limine-enrolled", closure, &[]);
    let scratch = tempfile::tempdir().unwrap();
    let other = scratch.path().join("limine.conf");
    let mut text = mtool("mtype", &built, &["::/limine/limine.conf"]);
    text.extend(b"\n# another\n");
    fs::write(&other, text).unwrap();
    mtool("mcopy", &built, &["-o", other.to_str().unwrap(), "::/limine/limine.conf"]);
    let run = watch("limine-enrolled-another", &mut machine.command(&built.image, Writes::Forgotten));
    run.expect_bad(&["CHECKSUM MISMATCH FOR CONFIG FILE"]);
}

/// What the image has for a BIOS is what `limine bios-install` puts onto the disk itself.
#[test]
fn boot_code_is_what_bios_install_writes() {
    let Some(closure) = with_limine(Root::Ext4, Esp::Boot, &[Firmware::Bios], |_| ()) else { return };
    let (_, built) = build(closure.spec(|spec| {
        spec["extraPartitions"] = json!([{
            "name": "first", "typeGuid": "fe3a2a5d-4f32-41a7-b725-accc3285a309", "size": 3 << 20, "place": "beforeBoot",
        }]);
    }));
    let partition = &built.layout["partitions"][1];
    assert_eq!((&partition["role"], &partition["number"]), (&json!("biosBoot"), &json!(2)));
    let copy = built.image.with_extension("installed");
    fs::copy(&built.image, &copy).unwrap();
    let disk = File::options().write(true).open(&copy).unwrap();
    disk.write_all_at(&[0; 440], 0).unwrap();
    disk.write_all_at(&vec![0; 1 << 20], partition["offset"].as_u64().unwrap()).unwrap();
    assert_ne!(fs::read(&copy).unwrap(), fs::read(&built.image).unwrap());
    let limine: PathBuf = limine().unwrap().join("bin/limine");
    run_tool(tool(limine.to_str().unwrap()).arg("bios-install").arg(&copy).arg("2"));
    assert!(fs::read(&copy).unwrap() == fs::read(&built.image).unwrap(), "bios-install changes the image");
}
