//! What is taken for GRUB, and what is told of the rest.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::disk::oracle;
use crate::spec::parse;

fn spec(fields: &Value) -> String {
    let mut grub = json!({ "mkimage": "/nix/store/grub/bin/grub-mkimage" });
    grub.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({
        "version": 1,
        "toplevel": "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-26.05",
        "closureInfo": "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-closure-info",
        "fileSystems": {
            "/boot": { "device": "/dev/disk/by-uuid/2178-694E", "fsType": "vfat" },
            "/": { "device": "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11", "fsType": "ext4" },
        },
        "grub": grub,
    })
    .to_string()
}

fn good(fields: &Value) -> Grub {
    parse(&spec(fields)).unwrap_or_else(|errors| panic!("{errors}")).grub.unwrap()
}

fn bad(fields: &Value) -> String {
    parse(&spec(fields)).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_nixpkgs() {
    let grub = good(&json!({}));
    assert_eq!((grub.timeout, grub.timeout_style.as_str(), grub.default.as_str()), (Some(5), "menu", "0"));
    assert_eq!((grub.entry_options.as_str(), grub.configuration_limit), ("--class nixos --unrestricted", 100));
    assert_eq!((grub.fs_identifier, grub.state.full_name.as_str()), (FsIdentifier::Uuid, "grub"));
    assert_eq!((grub.font, grub.bios, grub.efi), (None, None, None));
    assert!(bad(&json!({ "mkimage": null })).contains("grub.mkimage: "));
}

#[test]
fn what_is_one_word_for_grub_is_taken() {
    for default in ["0", "saved", "\"1>2\"", "'NixOS - Default'", "NixOS\\ -\\ Default", "${chosen}", ""] {
        assert_eq!(good(&json!({ "default": default })).default, default);
    }
    for default in ["1>2", "NixOS - Default", "\"open", "it's", "a;b", "a\nb", "end\\", "#1"] {
        let error = bad(&json!({ "default": default }));
        assert!(error.starts_with("grub.default: ") && error.contains("is not one word for GRUB"), "{error}");
    }
}

/// A line for each word of up to four characters, of those that matter.
#[test]
fn grub_reads_all_that_is_taken_for_a_word() {
    if !oracle::available("grub-script-check") {
        return;
    }
    let mut words = vec![String::new()];
    for len in 1..=4 {
        let shorter: Vec<_> = words.iter().filter(|word| word.len() == len - 1).cloned().collect();
        words.extend(shorter.iter().flat_map(|word| "a\"'\\$;{}<#&".chars().map(move |c| format!("{word}{c}"))));
    }
    let check = |lines: &str| {
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(&script, lines).unwrap();
        oracle::run(Command::new("grub-script-check").arg(script.path())).status.success()
    };
    let taken: Vec<_> = words.into_iter().filter_map(|text| word(text).ok()).collect();
    let lines: String = taken.iter().map(|word| format!("set default={word}\n")).collect();
    assert!(taken.len() > 500 && check(&lines), "{} words", taken.len());
    assert!(!check(&format!("{lines}set default=a;;b\n")) && !check(&format!("{lines}set default='\n")));
}

/// The installer gets texts in attributes of XML, which lose them.
#[test]
fn tabulators_become_blanks() {
    let grub = good(&json!({ "extraConfig": "a\tb\r\nc", "entryOptions": null }));
    assert_eq!((grub.extra_config.as_str(), grub.entry_options.as_str()), ("a b \nc", ""));
}

#[test]
fn users_have_one_password() {
    let hash = "grub.pbkdf2.sha512.10000.AB.CD";
    let users = json!({ "root": { "hashedPassword": hash, "password": null }, "guest": { "password": "s3cret" } });
    let expected = [("guest", Password::Plain("s3cret".into())), ("root", Password::Hashed(hash.into()))];
    assert_eq!(good(&json!({ "users": users })).users, expected.map(|(name, password)| (name.to_owned(), password)));
    for (name, user, said) in [
        ("root", json!({}), "grub.users.root: has no password; set one of the two"),
        ("root", json!({ "hashedPassword": hash, "password": "a" }), "grub.users.root: has two passwords"),
        ("root", json!({ "hashedPassword": "$6$a" }), "grub.users.root.hashedPassword: is not a hash of GRUB"),
        ("root", json!({ "password": "Pa$$w0rd!" }), "grub.users.root.password: holds blanks, or a character"),
        ("a b", json!({ "password": "a" }), "grub.users.\"a b\": is not one word"),
        ("root", json!("secret"), "grub.users.root: \"secret\" is not an object"),
    ] {
        let error = bad(&json!({ "users": { name: user } }));
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let errors = bad(&json!({
        "bios": "/nix/store/grub/lib/grub/i386-efi",
        "efi": "lib/grub/x86_64-efi",
        "distroName": "Ni\"xOS",
        "timeout": -1,
        "timeoutStyle": "none",
        "configurationLimit": "5",
        "fsIdentifier": "partuuid",
        "extraEntries": "a\0",
        "entryOptions": "--class a\n--class b",
        "splashImage": "/nix/store/art/picture.p;ng",
        "splashMode": "tiled",
        "backgroundColor": "it's",
        "gfxmodeBios": "640x480;auto",
        "bootloaderId": "a/b",
        "devices": ["sda"],
        "grubEfi": "grub",
        "extraGrubInstallArgs": ["--modules=ahci", "--compress=xz"],
        "extraFiles": { "/memtest.bin": "/nix/store/memtest", "a": "b" },
        "colour": 1,
    }));
    insta::assert_snapshot!(errors, @r##"
    grub.bios: "/nix/store/grub/lib/grub/i386-efi" ends in no target for BIOS; set grub.bios to the modules of a grub package, such as lib/grub/i386-pc, or null
    grub.efi: "lib/grub/x86_64-efi" is not an absolute path; set grub.efi to the modules of a grub package, such as lib/grub/x86_64-efi, or null
    grub.bootloaderId: "a/b" is not a directory's name; set grub.bootloaderId to a directory's name
    grub.grubEfi: "grub" is not an absolute path; set grub.grubEfi to the path of a grub package or ""
    grub.devices[0]: "sda" is not an absolute path; set grub.devices[0] to a disk's absolute path or "nodev"
    grub.extraGrubInstallArgs[1]: "--compress=xz" is an argument that only grub-install knows; set grub.extraGrubInstallArgs[1] to "--modules=…", and leave out others: the image is made without grub-install
    grub.distroName: "Ni\"xOS" is not a title for GRUB, which has no ", \ or $; set grub.distroName to a title of one line
    grub.timeout: -1 is not a whole number from 0 to 4294967295; set grub.timeout to a number of seconds or null
    grub.timeoutStyle: "none" is not known; set grub.timeoutStyle to one of menu, countdown, hidden
    grub.configurationLimit: invalid type: string "5", expected a JSON number; set grub.configurationLimit to a whole number
    grub.fsIdentifier: "partuuid" is not known; set grub.fsIdentifier to one of uuid, label, provided
    grub.extraEntries: holds a NUL character; set grub.extraEntries to entries of GRUB as one text
    grub.entryOptions: "--class a\n--class b" has more than one line; set grub.entryOptions to options of menuentry, on one line
    grub.splashImage: "p;ng" is not the ending of a picture's name; set grub.splashImage to the absolute path of a file or null
    grub.splashMode: "tiled" is not known; set grub.splashMode to one of normal, stretch
    grub.backgroundColor: "it's" is not a colour; set grub.backgroundColor to a colour such as "#2F302F" or null
    grub.gfxmodeBios: "640x480;auto" is not one word for GRUB; set grub.gfxmodeBios to one word, with quotes around blanks and semicolons
    grub.extraFiles."/memtest.bin": has an empty component; use a path from efiSysMountPoint on, such as memtest.bin
    grub.extraFiles.a: "b" is not an absolute path; set grub.extraFiles.a to the absolute path of a file
    grub.colour: is not a known field; remove it, or use one of: mkimage, bios, efi, bootloaderId, efiInstallAsRemovable, efiSysMountPoint, fullName, fullVersion, grub, grubEfi, devices, extraGrubInstallArgs, distroName, timeout, timeoutStyle, default, configurationLimit, copyKernels, storePath, fsIdentifier, extraConfig, extraPerEntryConfig, extraEntries, extraEntriesBeforeNixOS, entryOptions, subEntryOptions, font, splashImage, splashMode, backgroundColor, theme, gfxmodeEfi, gfxmodeBios, gfxpayloadEfi, gfxpayloadBios, users, extraFiles
    "##);
}
