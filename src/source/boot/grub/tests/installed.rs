//! What grub-install leaves, and where.

use serde_json::{Value, json};

use super::host::{ART, Files, GRUB, Host, TOPLEVEL, boot_in_nix, esp, grub, nix};

/// A package of GRUB for BIOS and UEFI.
fn host() -> Host {
    let host = Host::new();
    for target in ["i386-pc", "x86_64-efi", "i386-efi"] {
        for name in ["normal.mod", "ext2.mod", "moddep.lst", "modinfo.sh", "fdt.lst", "kernel.img", "config.h"] {
            host.file(&format!("{GRUB}/lib/grub/{target}/{name}"), name);
        }
    }
    for name in ["boot.img", "efiemu32.o", "diskboot.img", "lzma_decompress.img"] {
        host.file(&format!("{GRUB}/lib/grub/i386-pc/{name}"), name);
    }
    for name in ["share/grub/unicode.pf2", "share/grub/ascii.pf2", "share/locale/de/LC_MESSAGES/grub.mo"] {
        host.file(&format!("{GRUB}/{name}"), name);
    }
    host.file(&format!("{GRUB}/share/locale/eo/LC_MESSAGES/other.mo"), "");
    host
}

fn fields(change: Value) -> Value {
    let mut fields = json!({
        "bios": format!("{GRUB}/lib/grub/i386-pc"),
        "efi": format!("{GRUB}/lib/grub/x86_64-efi"),
    });
    fields.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    fields
}

fn paths(files: &Files) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

const KERNELS: [&str; 2] = [
    "kernels/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12-bzImage",
    "kernels/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12-initrd",
];

const BOOT: [&str; 18] = [
    "grub/fonts/unicode.pf2",
    "grub/grub.cfg",
    "grub/grubenv",
    "grub/i386-pc/boot.img",
    "grub/i386-pc/core.img",
    "grub/i386-pc/efiemu32.o",
    "grub/i386-pc/ext2.mod",
    "grub/i386-pc/moddep.lst",
    "grub/i386-pc/modinfo.sh",
    "grub/i386-pc/normal.mod",
    "grub/locale/de.mo",
    "grub/state",
    "grub/x86_64-efi/core.efi",
    "grub/x86_64-efi/ext2.mod",
    "grub/x86_64-efi/grub.efi",
    "grub/x86_64-efi/moddep.lst",
    "grub/x86_64-efi/modinfo.sh",
    "grub/x86_64-efi/normal.mod",
];
const PROGRAMS: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "EFI/NixOS-boot/grubx64.efi"];

#[test]
fn both_firmwares_have_their_files_on_one_filesystem() {
    let laid_out = host().lay_out(fields(json!({}))).unwrap();
    assert_eq!(paths(&laid_out.boot), [&PROGRAMS[..], &BOOT, &KERNELS].concat());
    for path in
        ["grub/i386-pc/core.img", "grub/x86_64-efi/core.efi", "grub/x86_64-efi/grub.efi"].iter().chain(&PROGRAMS)
    {
        assert_eq!(laid_out.text(path), "core", "{path}");
    }
    let environment = laid_out.text("grub/grubenv");
    assert_eq!((environment.len(), environment.trim_end_matches('#').lines().count()), (1024, 2));
}

#[test]
fn an_esp_apart_has_programs_and_extra_files() {
    let host = host();
    host.file(&format!("{ART}/memtest.efi"), "memtest");
    let wanted = fields(json!({
        "efiInstallAsRemovable": true, "efiSysMountPoint": "/efi",
        "extraFiles": { "tools/memtest.efi": format!("{ART}/memtest.efi") },
    }));
    let laid_out = host.lay_out_as(&grub(wanted), TOPLEVEL, [&boot_in_nix(), &nix()], true).unwrap();
    assert_eq!(paths(&laid_out.boot), BOOT);
    assert_eq!(paths(&laid_out.esp), ["EFI/BOOT/BOOTX64.EFI", "tools/memtest.efi"]);
    assert!(laid_out.text("grub/grub.cfg").contains("  linux ($drive2)/nix/store/1q43"));
    let error = host.error(fields(json!({
        "efiSysMountPoint": "/efi", "extraFiles": { "memtest.efi": format!("{ART}/memtest.efi") },
    })));
    assert!(error.contains("extraFiles: /efi is not on the image"), "{error}");
}

#[test]
fn programs_are_called_as_the_firmware_wants() {
    let wanted = json!({ "efi": format!("{GRUB}/lib/grub/i386-efi"), "bootloaderId": "Snow" });
    let laid_out = host().lay_out(wanted).unwrap();
    let programs: Vec<_> = laid_out.boot.keys().filter(|path| path.starts_with("EFI/")).collect();
    assert_eq!(programs, ["EFI/BOOT/BOOTIA32.EFI", "EFI/Snow/grub.efi", "EFI/Snow/grubia32.efi"]);
}

/// As for the installer where `device = "nodev"`: somebody else's GRUB shows the menu.
#[test]
fn a_menu_alone_has_no_files_of_grub() {
    let laid_out = Host::new().lay_out(json!({})).unwrap();
    assert_eq!(paths(&laid_out.boot), [&["grub/grub.cfg", "grub/state"], &KERNELS[..]].concat());
}

#[test]
fn a_package_without_modules_or_core_is_named() {
    let host = Host::new();
    host.file(&format!("{GRUB}/lib/grub/i386-pc/moddep.lst"), "");
    let error = host.error(json!({ "bios": format!("{GRUB}/lib/grub/i386-pc") }));
    assert!(error.contains("/lib/grub/i386-pc: has no normal.mod"), "{error}");
    host.file(&format!("{GRUB}/lib/grub/x86_64-efi"), "");
    let error = host.error(json!({ "efi": format!("{GRUB}/lib/grub/x86_64-efi") }));
    assert!(error.contains("grub: efi: ") && error.contains("x86_64-efi is not a directory"), "{error}");
}

#[test]
fn labels_are_found_whatever_is_in_them() {
    let mut place = esp();
    place.label = "a b;c$".to_owned();
    let wanted = grub(json!({ "fsIdentifier": "label" }));
    let host = Host::new();
    let laid_out = host.lay_out_as(&wanted, TOPLEVEL, [&place, &nix()], false).unwrap();
    assert!(laid_out.text("grub/grub.cfg").contains("search --set=drive1 --label a\\ b\\;c\\$\n"));
    place.label.clear();
    let error = host.lay_out_as(&wanted, TOPLEVEL, [&place, &nix()], false).unwrap_err().to_string();
    assert!(error.contains("has no label; set boot.loader.grub.fsIdentifier"), "{error}");
}
