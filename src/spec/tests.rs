//! Tests of specs, good and bad, and of all messages about the bad ones.

mod files;
mod mounts;
mod uki;
mod updates;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::uuid;

use super::*;
use crate::mounts::Mount;
use crate::store::Registration;
use crate::units::PageSize;

const TOPLEVEL: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05";
const NIX_UUID: &str = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";

/// The type of a swap partition, as users may write it.
const SWAP: &str = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F";

/// A spec of nothing but what is required.
fn minimal() -> Value {
    json!({
        "version": 1,
        "toplevel": TOPLEVEL,
        "closureInfo": "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-closure-info",
        "fileSystems": {
            "/boot": { "device": "/dev/disk/by-uuid/2178-694E", "fsType": "vfat" },
            "/": { "device": NIX_UUID, "fsType": "ext4", "options": ["noatime"] },
        },
    })
}

/// The minimal spec with the value at the JSON pointer's place set, its parent being there.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = minimal();
    set(&mut spec, pointer, value);
    spec
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(key.replace("~1", "/"), value);
}

fn good(spec: &Value) -> Spec {
    parse(&spec.to_string()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// All errors of a spec, a line each.
fn bad(spec: &Value) -> String {
    parse(&spec.to_string()).expect_err("a bad spec").to_string()
}

/// The one error that each of `values` gives in the place of `pointer`, a line each.
fn each_bad<const N: usize>(pointer: &str, values: [Value; N]) -> String {
    let lines = values.map(|value| bad(&with(pointer, value)));
    assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:#?}");
    lines.join("\n")
}

#[test]
fn what_is_left_out_has_its_default() {
    let store_dir = StoreDir::new("/nix/store").unwrap();
    let expected = Spec {
        name: "nixos".into(),
        toplevel: StorePath::from_absolute_path(TOPLEVEL, &store_dir).unwrap(),
        store_dir,
        closure_info: "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-closure-info".into(),
        esp: Some(FileSystem {
            mount_point: "/boot".into(),
            fs_type: FsType::Vfat,
            device: Device::FsUuid(FsUuid::VolumeId(0x2178_694e)),
            options: vec![],
        }),
        xbootldr: None,
        boot: Some(Location::Boot("".into())),
        nix: FileSystem {
            mount_point: "/".into(),
            fs_type: FsType::Ext4,
            device: Device::FsUuid(FsUuid::Uuid(uuid!("0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11"))),
            options: vec!["noatime".into()],
        },
        btrfs: None,
        verity: None,
        updates: None,
        erofs_compression: None,
        store_in_nix: "nix/store".into(),
        populate_cmd: None,
        systemd_boot: None,
        grub: None,
        limine: None,
        uki: None,
        extra_boot_files: vec![],
        extra_directories: vec![],
        files: vec![],
        mounts: MountTable::new(vec![("/".into(), Mount::Nix("".into())), ("/boot".into(), Mount::Boot)]),
        sector_size: SectorSize::B512,
        extra_gpt_padding: 0,
        first_part_gap: 16_759_808,
        boot_part_size: 536_870_912,
        esp_size: 67_108_864,
        nix_free_space: 536_870_912,
        disk_size: None,
        extra_partitions: vec![],
        hybrid_mbr: vec![],
        nix_database: None,
        install_bootloader: None,
        warnings: vec![],
    };
    assert_eq!(good(&minimal()), expected);
}

/// The first partition starts at 16 MiB, whatever lies before.
#[test]
fn the_default_gap_fills_up_to_16_mib() {
    for (sector_size, padding, gap) in [
        (512, 0, (16 << 20) - 34 * 512),
        (4096, 0, (16 << 20) - 6 * 4096),
        (512, 8 << 20, (8 << 20) - 34 * 512),
        (512, 16 << 20, 0),
    ] {
        let mut spec = minimal();
        set(&mut spec, "/sectorSize", json!(sector_size));
        set(&mut spec, "/extraGPTPadding", json!(padding));
        assert_eq!(good(&spec).first_part_gap, gap, "{sector_size} {padding}");
    }
}

#[test]
fn every_field_is_read() {
    let mut spec = minimal();
    for (key, value) in [
        ("/name", json!("host")),
        ("/populateCmd", json!("/nix/store/…/populate -g 5")),
        ("/extraBootFiles", json!(["/nix/store/firmware"])),
        ("/extraDirectories", json!(["/var/log", "/home", "/var/log", "/nix", "/nix/store", "/nix/store/.links"])),
        ("/sectorSize", json!(4096)),
        ("/extraGPTPadding", json!(16_773_120)),
        ("/firstPartGap", json!(null)),
        ("/bootPartSize", json!(1)),
        ("/nixFreeSpace", json!(0)),
        ("/diskSize", json!(4_u64 << 30)),
        ("/systemdBoot", json!({ "efiStub": "/nix/store/systemd" })),
        ("/extraPartitions", json!([{ "name": "swap", "typeGuid": SWAP, "size": 1 }])),
        ("/hybridMbr", json!([{ "partition": "boot", "type": 12 }])),
        ("/installBootloader", json!("dd if=u-boot.bin of=$out/host.img")),
    ] {
        set(&mut spec, key, value);
    }
    let spec = good(&spec);
    assert_eq!(spec.name, "host");
    assert_eq!(spec.populate_cmd.as_deref(), Some("/nix/store/…/populate -g 5"));
    assert_eq!(spec.extra_boot_files, [PathBuf::from("/nix/store/firmware")]);
    assert_eq!(spec.extra_directories, ["home", "nix/store/.links", "var/log"].map(PathBuf::from));
    assert_eq!(spec.sector_size, SectorSize::B4096);
    assert_eq!((spec.extra_gpt_padding, spec.first_part_gap), (16_773_120, 0));
    assert_eq!((spec.boot_part_size, spec.nix_free_space, spec.disk_size), (1, 0, Some(4 << 30)));
    assert_eq!(spec.install_bootloader.as_deref(), Some("dd if=u-boot.bin of=$out/host.img"));
}

#[test]
fn the_nearest_filesystem_holds_the_store() {
    let mut spec = minimal();
    let nix = json!({ "device": "/dev/disk/by-label/nix", "fsType": "ext4" });
    for (mount_point, store_in_nix) in [("/", "nix/store"), ("/nix", "store"), ("/nix/store", "")] {
        spec["fileSystems"][mount_point] = nix.clone();
        let spec = good(&spec);
        assert_eq!(spec.nix.mount_point, PathBuf::from(mount_point));
        assert_eq!(spec.store_in_nix, PathBuf::from(store_in_nix));
    }

    let mut spec = with("/fileSystems/~1data", nix);
    spec["storeDir"] = json!("/data/nix/store");
    spec["toplevel"] = json!(TOPLEVEL.replace("/nix", "/data/nix"));
    spec["extraDirectories"] = json!(["/data/nix/var", "/data/nix"]);
    let spec = good(&spec);
    assert_eq!((spec.nix.mount_point, spec.store_in_nix), ("/data".into(), "nix/store".into()));
    assert_eq!(spec.extra_directories, [PathBuf::from("nix/var")]);
}

#[test]
fn other_filesystems_are_not_judged() {
    let entries = [
        json!({ "device": "tmpfs", "fsType": "tmpfs", "options": ["size=1G"] }),
        json!({ "device": null, "fsType": "btrfs" }),
        json!({}),
    ];
    for entry in entries {
        good(&with("/fileSystems/~1home", entry));
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let spec = json!({
        "version": 1,
        "name": "../nixos",
        "toplevel": "/run/current-system",
        "fileSystems": {
            "/": { "device": "/dev/sda2", "fsType": "xfs", "options": [1, "noatime"], "label": "x" },
            "/home": { "device": 5 },
            "/srv": 7,
        },
        "extraDirectories": ["var", "/lost+found", 9],
        "sectorSize": 520,
        "extraGPTPadding": 1.5,
        "firstPartGap": -1,
        "extraGptPadding": 512,
    });
    insta::assert_snapshot!(bad(&spec), @r#"
    name: "../nixos" is not a plain file name; set name to a plain file name such as "nixos"
    toplevel: "/run/current-system" is not directly in the store /nix/store; set toplevel to the path of config.system.build.toplevel
    closureInfo: is missing; set closureInfo to the path of a pkgs.closureInfo
    fileSystems."/boot": is missing; set fileSystems."/boot" to a vfat filesystem, or efiSysMountPoint to null for a disk without an ESP
    fileSystems."/".fsType: "xfs" is not supported; set fileSystems."/".fsType to "ext4", "btrfs" or "erofs"
    fileSystems."/".device: "/dev/sda2" is not in /dev/disk/by-uuid, by-label, by-partuuid or by-partlabel; set fileSystems."/".device to "/dev/disk/by-uuid/XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX", where X are hexadecimal digits
    fileSystems."/".options[0]: invalid type: integer `1`, expected a string; set fileSystems."/".options[0] to a string
    fileSystems."/".label: is not a known field; remove it, or use one of: fsType, device, options
    fileSystems."/home".device: invalid type: integer `5`, expected a string; set fileSystems."/home".device to a string or null
    fileSystems."/srv": 7 is not an object; set fileSystems."/srv" to an object
    extraDirectories[0]: "var" is not an absolute path; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[1]: "/lost+found" collides with "lost+found", which every image has there; set extraDirectories[1] to a directory on the nix filesystem
    extraDirectories[2]: invalid type: integer `9`, expected a string; set extraDirectories[2] to a directory on the nix filesystem
    sectorSize: 520 is not a sector size of disks; set sectorSize to 512 or 4096
    extraGPTPadding: 1.5 is not a whole number from 0 to 9223372036854775807; set extraGPTPadding to a multiple of sectorSize
    firstPartGap: -1 is not a whole number from 0 to 9223372036854775807; set firstPartGap to a number of bytes or null
    extraGptPadding: is not a known field; did you mean extraGPTPadding?
    "#);
}

#[test]
fn a_mistyped_field_is_told_once() {
    let mut spec = minimal();
    for (old, new) in [("toplevel", "topLevel"), ("closureInfo", "closureinfos")] {
        let value = spec.as_object_mut().unwrap().remove(old).unwrap();
        spec[new] = value;
    }
    spec["bootPartsize"] = json!(1);
    spec["colour"] = json!(1);
    spec["flavour"] = json!(1);
    spec["fileSystems"]["/boot"]["fstype"] = json!("vfat");
    spec["fileSystems"]["/boot"].as_object_mut().unwrap().remove("fsType");
    insta::assert_snapshot!(bad(&spec), @r#"
    fileSystems."/boot".fstype: is not a known field; did you mean fsType?
    bootPartsize: is not a known field; did you mean bootPartSize?
    closureinfos: is not a known field; did you mean closureInfo?
    colour: is not a known field; remove it, or use one of: version, name, storeDir, toplevel, closureInfo, efiSysMountPoint, xbootldrMountPoint, verity, fileSystems, erofsCompression, populateCmd, systemdBoot, grub, limine, uki, extraBootFiles, extraDirectories, files, nixDatabase, sectorSize, extraGPTPadding, firstPartGap, bootPartSize, espSize, nixFreeSpace, diskSize, extraPartitions, hybridMbr, updates, installBootloader
    flavour: is not a known field; remove it
    topLevel: is not a known field; did you mean toplevel?
    "#);
}

#[test]
fn text_that_is_no_spec_is_told_alone() {
    insta::assert_snapshot!(parse("").unwrap_err(), @"cannot be read: EOF while parsing a value at line 1 column 0; let the NixOS module write the spec, or correct it there");
    insta::assert_snapshot!(parse("[]").unwrap_err(), @"is not a JSON object; let the NixOS module write the spec, or correct it there");
    insta::assert_snapshot!(parse("{} {}").unwrap_err(), @"cannot be read: trailing characters at line 1 column 4; let the NixOS module write the spec, or correct it there");
    insta::assert_snapshot!(parse("{\n \"name\": \"a\"\n \"version\": 1 }").unwrap_err(), @"cannot be read: expected `,` or `}` at line 3 column 2; let the NixOS module write the spec, or correct it there");
    insta::assert_snapshot!(parse(r#"{ "fileSystems": { "/": {}, "/boot": {}, "/": {} } }"#).unwrap_err(), @r#"fileSystems: cannot be read: the key "/" comes twice at line 1 column 44; let the NixOS module write the spec, or correct it there"#);
    insta::assert_snapshot!(parse(r#"{ "a": [{ "b": 1, "b": 1 }] }"#).unwrap_err(), @r#"a[0]: cannot be read: the key "b" comes twice at line 1 column 21; let the NixOS module write the spec, or correct it there"#);
}

#[test]
fn another_version_is_told_alone() {
    insta::assert_snapshot!(bad(&json!({ "version": 2, "nonsense": true })), @"version: 2 is not a version that this program reads; it reads only version 1; set version to 1 and write the rest for that version");
    insta::assert_snapshot!(bad(&json!({ "version": "1" })), @r#"version: "1" is not a version that this program reads; it reads only version 1; set version to 1 and write the rest for that version"#);
    insta::assert_snapshot!(bad(&json!({})), @"version: is missing; set version to 1 and write the rest for that version");
}

#[test]
fn what_is_required_must_be_there() {
    insta::assert_snapshot!(bad(&json!({ "version": 1 })), @"
    toplevel: is missing; set toplevel to the path of config.system.build.toplevel
    closureInfo: is missing; set closureInfo to the path of a pkgs.closureInfo
    fileSystems: is missing; set fileSystems to config.fileSystems
    ");
    insta::assert_snapshot!(bad(&with("/fileSystems", json!({}))), @r#"
    fileSystems."/boot": is missing; set fileSystems."/boot" to a vfat filesystem, or efiSysMountPoint to null for a disk without an ESP
    fileSystems: has no filesystem that holds /nix/store; set fileSystems."/" to an ext4, btrfs or erofs filesystem
    "#);
    insta::assert_snapshot!(bad(&with("/fileSystems/~1boot", json!({}))), @r#"
    fileSystems."/boot".fsType: is missing; set fileSystems."/boot".fsType to "vfat"
    fileSystems."/boot".device: is missing; set fileSystems."/boot".device to "/dev/disk/by-uuid/XXXX-XXXX", where X are hexadecimal digits
    "#);
    insta::assert_snapshot!(bad(&with("/fileSystems/~1/device", json!(null))), @r#"fileSystems."/".device: invalid type: null, expected a string; set fileSystems."/".device to "/dev/disk/by-uuid/XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX", where X are hexadecimal digits"#);
}

#[test]
fn names_and_paths() {
    let names = ["", ".", "..", "a/b", "a\nb", &"n".repeat(252)].map(|name| json!(name));
    insta::assert_snapshot!(each_bad("/name", names), @r#"
    name: "" is not a plain file name; set name to a plain file name such as "nixos"
    name: "." is not a plain file name; set name to a plain file name such as "nixos"
    name: ".." is not a plain file name; set name to a plain file name such as "nixos"
    name: "a/b" is not a plain file name; set name to a plain file name such as "nixos"
    name: "a\nb" is not a plain file name; set name to a plain file name such as "nixos"
    name: is 252 bytes long; with ".img", a file name has at most 255; set name to a plain file name such as "nixos"
    "#);
    let store_dirs = ["", "/", "nix/store", "/nix/store/"].map(|dir| json!(dir));
    insta::assert_snapshot!(each_bad("/storeDir", store_dirs), @r#"
    storeDir: "" is not an absolute path free of empty, "." and ".." components; set storeDir to a path such as "/nix/store"
    storeDir: "/" is not an absolute path free of empty, "." and ".." components; set storeDir to a path such as "/nix/store"
    storeDir: "nix/store" is not an absolute path free of empty, "." and ".." components; set storeDir to a path such as "/nix/store"
    storeDir: "/nix/store/" is not an absolute path free of empty, "." and ".." components; set storeDir to a path such as "/nix/store"
    "#);
    insta::assert_snapshot!(each_bad("/storeDir", [json!(null), json!("/gnu/store")]), @r#"
    storeDir: invalid type: null, expected a string; set storeDir to a path such as "/nix/store"
    toplevel: "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05" is not directly in the store /gnu/store; set toplevel to the path of config.system.build.toplevel
    "#);
    let toplevels = ["/etc", "/nix/store/system", &format!("{TOPLEVEL}/init")].map(|path| json!(path));
    insta::assert_snapshot!(each_bad("/toplevel", toplevels), @r#"
    toplevel: "/etc" is not directly in the store /nix/store; set toplevel to the path of config.system.build.toplevel
    toplevel: "/nix/store/system" does not start with a hash of 32 digits (0-9, a-z without e, o, t, u) and a dash; set toplevel to the path of config.system.build.toplevel
    toplevel: "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05/init" is not directly in the store /nix/store; set toplevel to the path of config.system.build.toplevel
    "#);
    insta::assert_snapshot!(each_bad("/closureInfo", [json!("closure-info"), json!(["/nix"])]), @r#"
    closureInfo: "closure-info" is not an absolute path; set closureInfo to the path of a pkgs.closureInfo
    closureInfo: invalid type: sequence, expected a string; set closureInfo to the path of a pkgs.closureInfo
    "#);
    insta::assert_snapshot!(each_bad("/extraBootFiles", [json!(["/a", "b"]), json!("/a"), json!([null])]), @r#"
    extraBootFiles[1]: "b" is not an absolute path; set extraBootFiles[1] to an absolute path
    extraBootFiles: invalid type: string "/a", expected a sequence; set extraBootFiles to a list of strings
    extraBootFiles[0]: invalid type: null, expected a string; set extraBootFiles[0] to an absolute path
    "#);
    insta::assert_snapshot!(each_bad("/populateCmd", [json!(" "), json!("a\0b"), json!(true)]), @"
    populateCmd: is empty; set populateCmd to a shell command or null
    populateCmd: holds a NUL character; set populateCmd to a shell command or null
    populateCmd: invalid type: boolean `true`, expected a string; set populateCmd to a shell command or null
    ");
    insta::assert_snapshot!(each_bad("/installBootloader", [json!(""), json!([])]), @"
    installBootloader: is empty; set installBootloader to a shell command or null
    installBootloader: invalid type: sequence, expected a string; set installBootloader to a shell command or null
    ");
}

#[test]
fn sizes() {
    let numbers =
        || [json!(-1), json!(0.5), json!(1e30), json!(u64::MAX), json!(1_u64 << 63), json!("512M"), json!("much")];
    insta::assert_snapshot!(each_bad("/nixFreeSpace", numbers()), @r#"
    nixFreeSpace: -1 is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    nixFreeSpace: 0.5 is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    nixFreeSpace: 1e+30 is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    nixFreeSpace: 18446744073709551615 is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    nixFreeSpace: 9223372036854775808 is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    nixFreeSpace: "512M" is a text, where 536870912 is the number of bytes; set nixFreeSpace to a number of bytes
    nixFreeSpace: "much" is not a whole number from 0 to 9223372036854775807; set nixFreeSpace to a number of bytes
    "#);
    let texts =
        ["536870912", "1.5 GiB", "8 GB", "64kB", "1t", "0.0001K", "1.2.3G", "99999P", "G"].map(|text| json!(text));
    insta::assert_snapshot!(each_bad("/bootPartSize", texts), @r#"
    bootPartSize: "536870912" is a text, where 536870912 is the number of bytes; set bootPartSize to a number of bytes
    bootPartSize: "1.5 GiB" is a text, where 1610612736 is the number of bytes; set bootPartSize to a number of bytes
    bootPartSize: "8 GB" is a text, where 8000000000 is the number of bytes; set bootPartSize to a number of bytes
    bootPartSize: "64kB" is a text, where 64000 is the number of bytes; set bootPartSize to a number of bytes
    bootPartSize: "1t" is a text, where 1099511627776 is the number of bytes; set bootPartSize to a number of bytes
    bootPartSize: "0.0001K" is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    bootPartSize: "1.2.3G" is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    bootPartSize: "99999P" is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    bootPartSize: "G" is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    "#);
    insta::assert_snapshot!(each_bad("/bootPartSize", [json!(0), json!(-1), json!(null)]), @"
    bootPartSize: is zero; set bootPartSize to a number of bytes
    bootPartSize: -1 is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    bootPartSize: null is not a whole number from 0 to 9223372036854775807; set bootPartSize to a number of bytes
    ");
    let odd = [json!(0), json!(512), json!(1_000_000_000), json!(MAX_SIZE), json!("8G")];
    insta::assert_snapshot!(each_bad("/diskSize", odd), @r#"
    diskSize: is zero; set diskSize to a number of bytes in whole MiB, or null
    diskSize: 512 is not a whole number of MiB; 1048576 would be; set diskSize to a number of bytes in whole MiB, or null
    diskSize: 1000000000 is not a whole number of MiB; 999292928 or 1000341504 would be; set diskSize to a number of bytes in whole MiB, or null
    diskSize: 9223372036854775807 is not a whole number of MiB; 9223372036853727232 or 9223372036854775808 would be; set diskSize to a number of bytes in whole MiB, or null
    diskSize: "8G" is a text, where 8589934592 is the number of bytes; set diskSize to a number of bytes in whole MiB, or null
    "#);
    insta::assert_snapshot!(each_bad("/firstPartGap", [json!(-1), json!(false)]), @"
    firstPartGap: -1 is not a whole number from 0 to 9223372036854775807; set firstPartGap to a number of bytes or null
    firstPartGap: false is not a whole number from 0 to 9223372036854775807; set firstPartGap to a number of bytes or null
    ");
    insta::assert_snapshot!(each_bad("/sectorSize", [json!(0), json!(513), json!(-512), json!("512")]), @r#"
    sectorSize: 0 is not a sector size of disks; set sectorSize to 512 or 4096
    sectorSize: 513 is not a sector size of disks; set sectorSize to 512 or 4096
    sectorSize: -512 is not a sector size of disks; set sectorSize to 512 or 4096
    sectorSize: "512" is not a sector size of disks; set sectorSize to 512 or 4096
    "#);
    insta::assert_snapshot!(each_bad("/extraGPTPadding", [json!(511), json!(-512)]), @"
    extraGPTPadding: 511 is not a multiple of sectorSize, which is 512; set extraGPTPadding to a multiple of sectorSize
    extraGPTPadding: -512 is not a whole number from 0 to 9223372036854775807; set extraGPTPadding to a multiple of sectorSize
    ");
    let mut spec = with("/sectorSize", json!(4096));
    spec["extraGPTPadding"] = json!(512);
    insta::assert_snapshot!(bad(&spec), @"extraGPTPadding: 512 is not a multiple of sectorSize, which is 4096; set extraGPTPadding to a multiple of sectorSize");
}

#[test]
fn sums_of_sizes() {
    let mut spec = with("/nixFreeSpace", json!(MAX_SIZE - 2));
    spec["firstPartGap"] = json!(null);
    spec["bootPartSize"] = json!(2);
    good(&spec);
    spec["bootPartSize"] = json!(3);
    insta::assert_snapshot!(bad(&spec), @"nixFreeSpace: is over 9223372036854775807 bytes together with extraGPTPadding, firstPartGap, bootPartSize; set nixFreeSpace to fewer bytes");
    for key in ["firstPartGap", "bootPartSize"] {
        spec[key] = json!(MAX_SIZE);
    }
    insta::assert_snapshot!(bad(&spec), @"firstPartGap: is over 9223372036854775807 bytes together with extraGPTPadding, bootPartSize, nixFreeSpace; set firstPartGap to fewer bytes");
}

#[test]
fn file_systems() {
    insta::assert_snapshot!(each_bad("/fileSystems/~1boot/fsType", [json!("ext4"), json!("auto")]), @r#"
    fileSystems."/boot".fsType: "ext4" cannot be booted by firmware; set fileSystems."/boot".fsType to "vfat"
    fileSystems."/boot".fsType: "auto" cannot be booted by firmware; set fileSystems."/boot".fsType to "vfat"
    "#);
    insta::assert_snapshot!(each_bad("/fileSystems/~1/fsType", ["xfs", "vfat"].map(|t| json!(t))), @r#"
    fileSystems."/".fsType: "xfs" is not supported; set fileSystems."/".fsType to "ext4", "btrfs" or "erofs"
    fileSystems."/".fsType: "vfat" is not supported; set fileSystems."/".fsType to "ext4", "btrfs" or "erofs"
    "#);
    insta::assert_snapshot!(each_bad("/fileSystems/~1/options", [json!("noatime"), json!([true])]), @r#"
    fileSystems."/".options: invalid type: string "noatime", expected a sequence; set fileSystems."/".options to a list of strings
    fileSystems."/".options[0]: invalid type: boolean `true`, expected a string; set fileSystems."/".options[0] to a string
    "#);
    insta::assert_snapshot!(each_bad("/fileSystems/~1home", [json!("x"), json!({ "options": 1 }), json!({ "a": 1 })]), @r#"
    fileSystems."/home": "x" is not an object; set fileSystems."/home" to an object
    fileSystems."/home".options: invalid type: integer `1`, expected a sequence; set fileSystems."/home".options to a list of strings
    fileSystems."/home".a: is not a known field; remove it, or use one of: fsType, device, options
    "#);

    let mut spec = minimal();
    spec["fileSystems"]["/boot"]["device"] = json!("/dev/disk/by-label/same");
    spec["fileSystems"]["/"]["device"] = json!("/dev/disk/by-label/same");
    insta::assert_snapshot!(bad(&spec), @r#"fileSystems."/".device: is the same as that of /boot; set fileSystems."/".device to another filesystem's"#);

    let mut spec = with("/storeDir", json!("/boot/store"));
    spec["toplevel"] = json!(TOPLEVEL.replace("/nix", "/boot"));
    insta::assert_snapshot!(bad(&spec), @r#"storeDir: "/boot/store" lies on the boot filesystem; set storeDir to a directory outside /boot"#);
}

#[test]
fn extra_directories() {
    let directory = |path: &str| json!([path]);
    let malformed = ["var", "", "/", "/var/", "/var//log", "/./var", "/var/../etc", "/a\0"];
    insta::assert_snapshot!(each_bad("/extraDirectories", malformed.map(directory)), @r#"
    extraDirectories[0]: "var" is not an absolute path; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "" is not an absolute path; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/" has an empty component; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/var/" has an empty component; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/var//log" has an empty component; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/./var" has a "." or ".." component; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/var/../etc" has a "." or ".." component; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/a\0" has a NUL character; set extraDirectories[0] to a directory on the nix filesystem
    "#);
    good(&with("/extraDirectories", json!([format!("/{}", "n".repeat(255))])));
    let too_long = bad(&with("/extraDirectories", json!([format!("/{}", "n".repeat(256))])));
    assert!(too_long.contains("has a component of over 255 bytes"), "{too_long}");

    let inside = format!("{TOPLEVEL}/etc");
    let taken = [TOPLEVEL, &inside, "/lost+found", "/lost+found/x", "/nix-path-registration"];
    insta::assert_snapshot!(each_bad("/extraDirectories", taken.map(directory)), @r#"
    extraDirectories[0]: "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05" is a store path or inside one; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05/etc" is a store path or inside one; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/lost+found" collides with "lost+found", which every image has there; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/lost+found/x" collides with "lost+found", which every image has there; set extraDirectories[0] to a directory on the nix filesystem
    extraDirectories[0]: "/nix-path-registration" collides with "nix-path-registration", which every image has there; set extraDirectories[0] to a directory on the nix filesystem
    "#);

    let mut spec = with("/fileSystems/~1nix", json!({ "device": "/dev/disk/by-label/nix", "fsType": "ext4" }));
    spec["extraDirectories"] = json!(["/nix/var", "/var", "/nixos", "/"]);
    insta::assert_snapshot!(bad(&spec), @r#"
    extraDirectories[1]: "/var" is outside the nix filesystem, which is mounted at /nix; set extraDirectories[1] to a directory on the nix filesystem
    extraDirectories[2]: "/nixos" is outside the nix filesystem, which is mounted at /nix; set extraDirectories[2] to a directory on the nix filesystem
    extraDirectories[3]: "/" has an empty component; set extraDirectories[3] to a directory on the nix filesystem
    "#);
}

#[test]
fn the_closure_holds_the_toplevel() {
    let spec = good(&minimal());
    let toplevel = Registration {
        path: spec.toplevel.clone(),
        nar_hash: [0; 32],
        nar_size: 120,
        deriver: None,
        references: vec![],
    };
    let closure = Closure::new(vec![spec.toplevel.clone()], vec![toplevel]).unwrap();
    assert_eq!(spec.check_closure(&closure), Ok(()));
    insta::assert_snapshot!(spec.check_closure(&Closure::default()).unwrap_err(), @r#"toplevel: "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-25.05" is not in the closure of closureInfo; set closureInfo to pkgs.closureInfo with toplevel among its rootPaths"#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "/dev/disk/by-(uuid|label|partlabel)/.*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_change_of_a_character_panics(at in 0..minimal().to_string().len(), character in "[ -~]") {
        let mut json = minimal().to_string();
        json.replace_range(at..=at, &character);
        let _ = parse(&json);
    }

    #[test]
    fn each_error_is_one_line(at in 0..FIELDS.len(), value in any_json()) {
        if let Err(errors) = parse(&with(FIELDS[at], value).to_string()) {
            prop_assert!(!errors.as_slice().is_empty());
            prop_assert_eq!(errors.to_string().lines().count(), errors.as_slice().len());
        }
    }
}

/// Every place where a value can be.
const FIELDS: [&str; 18] = [
    "/version",
    "/name",
    "/storeDir",
    "/toplevel",
    "/closureInfo",
    "/fileSystems",
    "/fileSystems/~1boot",
    "/fileSystems/~1boot/device",
    "/fileSystems/~1boot/fsType",
    "/fileSystems/~1/options",
    "/populateCmd",
    "/extraBootFiles",
    "/extraDirectories",
    "/sectorSize",
    "/extraGPTPadding",
    "/firstPartGap",
    "/bootPartSize",
    "/installBootloader",
];

#[test]
fn systemd_boot() {
    let stub = json!("/nix/store/systemd/lib/systemd/boot/efi");
    let minimal = SystemdBoot {
        efi_stub: stub.as_str().unwrap().into(),
        timeout: Some(5),
        editor: true,
        console_mode: "keep".into(),
        device_tree: None,
        distro_name: "NixOS".into(),
        boot_counting_tries: None,
        reboot_for_bitlocker: false,
        extra_files: vec![],
    };
    assert_eq!(good(&with("/systemdBoot", json!({ "efiStub": stub }))).systemd_boot, Some(minimal));
    assert_eq!(good(&with("/systemdBoot", json!(null))).systemd_boot, None);
    let all = json!({
        "efiStub": stub, "timeout": null, "editor": false, "consoleMode": "max", "deviceTree": "/nix/store/dtb",
        "distroName": "Snow OS", "bootCountingTries": 3, "rebootForBitlocker": true,
        "extraFiles": { "loader/entries/x.conf": "/nix/store/x", "efi/m.efi": "/nix/store/m" },
    });
    let all_read = SystemdBoot {
        efi_stub: stub.as_str().unwrap().into(),
        timeout: None,
        editor: false,
        console_mode: "max".into(),
        device_tree: Some("/nix/store/dtb".into()),
        distro_name: "Snow OS".into(),
        boot_counting_tries: Some(3),
        reboot_for_bitlocker: true,
        extra_files: vec![
            ("efi/m.efi".into(), "/nix/store/m".into()),
            ("loader/entries/x.conf".into(), "/nix/store/x".into()),
        ],
    };
    assert_eq!(good(&with("/systemdBoot", all)).systemd_boot, Some(all_read));
    let wrong = json!({
        "timeout": "menu-force", "editor": 0, "consoleMode": 1, "distroName": "a\nb", "bootCountingTries": -1,
        "extraFiles": { "/a": "/b", "a/../b": "/b", "c": "c", "efi/NixOS/.Extra-Files/x": "/x",
            "Loader/random-seed": "/x" }, "sortKey": "x",
    });
    insta::assert_snapshot!(bad(&with("/systemdBoot", wrong)), @r#"
    systemdBoot.efiStub: is missing; set systemdBoot.efiStub to lib/systemd/boot/efi of the host's systemd
    systemdBoot.timeout: invalid type: string "menu-force", expected a JSON number; set systemdBoot.timeout to a number of seconds or null
    systemdBoot.editor: invalid type: integer `0`, expected a boolean; set systemdBoot.editor to true or false
    systemdBoot.consoleMode: invalid type: integer `1`, expected a string; set systemdBoot.consoleMode to one of 0, 1, 2, 5, auto, max, keep
    systemdBoot.distroName: "a\nb" is not a title; set systemdBoot.distroName to a title of one line
    systemdBoot.bootCountingTries: -1 is not a whole number from 0 to 4294967295; set systemdBoot.bootCountingTries to a whole number or null
    systemdBoot.extraFiles."/a": has an empty component; use another path from the root of the ESP, such as EFI/tools/shell.efi
    systemdBoot.extraFiles."Loader/random-seed": would give all machines the same random numbers; use another path from the root of the ESP, such as EFI/tools/shell.efi
    systemdBoot.extraFiles."a/../b": has a "." or ".." component; use another path from the root of the ESP, such as EFI/tools/shell.efi
    systemdBoot.extraFiles.c: "c" is not an absolute path; set systemdBoot.extraFiles.c to the absolute path of a file
    systemdBoot.extraFiles."efi/NixOS/.Extra-Files/x": is where the installer keeps its list of extra files; use another path from the root of the ESP, such as EFI/tools/shell.efi
    systemdBoot.sortKey: is not a known field; remove it, or use one of: efiStub, timeout, editor, consoleMode, deviceTree, distroName, bootCountingTries, rebootForBitlocker, extraFiles
    "#);
}

#[test]
fn extra_partitions_have_bytes_or_a_size() {
    let spec = good(&with(
        "/extraPartitions",
        json!([
            { "name": "a/b", "typeGuid": SWAP, "contents": "/x", "place": "beforeBoot", "attributes": "0x015a000000000000" },
            { "name": "swap", "typeGuid": SWAP, "size": 4096, "uuid": NIX_UUID.rsplit('/').next(), "attributes": 5 },
        ]),
    ));
    let swap = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
    let first = ExtraPartition {
        name: "a/b".into(),
        type_guid: swap,
        guid: None,
        attributes: 1 << 56 | 5 << 52 | 10 << 48,
        size: None,
        contents: Some("/x".into()),
        swap: None,
        place: Place::BeforeBoot,
    };
    let second = ExtraPartition {
        name: "swap".into(),
        guid: Some(uuid!("0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11")),
        attributes: 5,
        size: Some(4096),
        contents: None,
        swap: Some(Swap::default()),
        place: Place::AfterBoot,
        ..first.clone()
    };
    assert_eq!(spec.extra_partitions, [first, second]);

    let bad_ones = json!([
        { "name": "boot", "typeGuid": SWAP, "size": 1 },
        { "name": "x", "typeGuid": "swap", "size": 0, "uuid": "00000000-0000-0000-0000-000000000000" },
        { "name": "y", "typeGuid": SWAP },
        { "name": "y", "typeGuid": SWAP, "contents": "x", "attributes": "0x+1", "place": "end" },
        { "name": " z", "typeGuid": SWAP, "contents": "/x", "attributes": -1, "sise": 1 },
        7,
    ]);
    insta::assert_snapshot!(bad(&with("/extraPartitions", bad_ones)), @r#"
    extraPartitions[0].name: "boot" is the name of another partition; set extraPartitions[0].name to another
    extraPartitions[1].typeGuid: "swap" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX; set extraPartitions[1].typeGuid to the GUID of a partition type
    extraPartitions[1].uuid: "00000000-0000-0000-0000-000000000000" has the nil UUID, which stands for none; set extraPartitions[1].uuid to a UUID or null
    extraPartitions[1].size: is zero; set extraPartitions[1].size to a number of bytes or null
    extraPartitions[2]: has neither a size nor contents; set extraPartitions[2].size to a number of bytes, or extraPartitions[2].contents to a file
    extraPartitions[3].attributes: "0x+1" is not a whole number from 0 to 0xffffffffffffffff; set extraPartitions[3].attributes to 64 bits as a number or as "0x…"
    extraPartitions[3].contents: "x" is not an absolute path; set extraPartitions[3].contents to the absolute path of a file, or null
    extraPartitions[3].place: "end" is not a place; set extraPartitions[3].place to "beforeBoot" or "afterBoot"
    extraPartitions[4].name: " z" has a space at an end of its label; set extraPartitions[4].name to a name of 1 to 36 characters
    extraPartitions[4].attributes: -1 is not a whole number from 0 to 0xffffffffffffffff; set extraPartitions[4].attributes to 64 bits as a number or as "0x…"
    extraPartitions[4].sise: is not a known field; did you mean size?
    extraPartitions[5]: 7 is not an object; set extraPartitions[5] to an object
    "#);
}

/// What `swapDevice` says decides identities, as that of a filesystem does.
#[test]
fn swap_areas_are_known_by_their_device() {
    let partition = |more: Value| {
        let mut partition = json!({ "name": "swap", "typeGuid": SWAP, "size": 1 });
        partition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        partition
    };
    let device = |link: &str| json!({ "swapDevice": format!("/dev/disk/{link}") });
    let read = |more: Value| {
        let [found] =
            <[_; 1]>::try_from(good(&with("/extraPartitions", json!([partition(more)]))).extra_partitions).unwrap();
        (found.guid, found.swap)
    };
    let uuid = uuid!("9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28");
    let plain = Some(Swap::default());
    assert_eq!(read(json!({})), (None, plain.clone()));
    assert_eq!(read(json!({ "swap": false })), (None, None));
    assert_eq!(read(device(&format!("by-uuid/{uuid}"))), (None, Some(Swap { uuid: Some(uuid), ..Swap::default() })));
    assert_eq!(read(device("by-label/a\\x20b")), (None, Some(Swap { label: "a b".into(), ..Swap::default() })));
    assert_eq!(read(device(&format!("by-partuuid/{uuid}"))), (Some(uuid), plain.clone()));
    let large = Some(Swap { page_size: PageSize::new(16384).unwrap(), ..Swap::default() });
    assert_eq!(read(json!({ "swapPageSize": 16384 })), (None, large));
    let bad_pages = [json!(512), json!(12288), json!("16K"), json!(-4096), json!(4096.5)];
    let bad_pages = bad_pages.map(|size| partition(json!({ "swapPageSize": size })));
    insta::assert_snapshot!(each_bad("/extraPartitions", bad_pages.map(|partition| json!([partition]))), @r#"
    extraPartitions[0].swapPageSize: 512 is not the size of Linux's pages in bytes; set extraPartitions[0].swapPageSize to 4096, 8192, 16384, 32768 or 65536
    extraPartitions[0].swapPageSize: 12288 is not the size of Linux's pages in bytes; set extraPartitions[0].swapPageSize to 4096, 8192, 16384, 32768 or 65536
    extraPartitions[0].swapPageSize: "16K" is not the size of Linux's pages in bytes; set extraPartitions[0].swapPageSize to 4096, 8192, 16384, 32768 or 65536
    extraPartitions[0].swapPageSize: -4096 is not the size of Linux's pages in bytes; set extraPartitions[0].swapPageSize to 4096, 8192, 16384, 32768 or 65536
    extraPartitions[0].swapPageSize: 4096.5 is not the size of Linux's pages in bytes; set extraPartitions[0].swapPageSize to 4096, 8192, 16384, 32768 or 65536
    "#);
    assert_eq!(read(device("by-partlabel/swap")), (None, plain));

    let bad_ones = json!([
        partition(json!({ "swap": true, "contents": "/x", "name": "a" })),
        partition(json!({ "swap": false, "swapDevice": "/dev/disk/by-label/b", "name": "b" })),
        partition(json!({ "swapDevice": "/dev/disk/by-label/0123456789abcdef", "name": "c" })),
        partition(json!({ "swapDevice": "/dev/sda2", "swap": "yes", "name": "d" })),
        partition(json!({ "swapDevice": "/dev/disk/by-partlabel/f", "name": "e" })),
        partition(json!({ "swapDevice": format!("/dev/disk/by-partuuid/{uuid}"), "name": "f", "uuid": SWAP })),
    ]);
    insta::assert_snapshot!(bad(&with("/extraPartitions", bad_ones)), @r#"
    extraPartitions[0].swap: is true, but the partition has contents; set extraPartitions[0].swap to null or false, or extraPartitions[0].contents to null
    extraPartitions[1].swapDevice: names a swap area, but swap is false; set extraPartitions[1].swap to null or true, or extraPartitions[1].swapDevice to null
    extraPartitions[2].swapDevice: "/dev/disk/by-label/0123456789abcdef" has a label of 16 bytes; a swap area holds 15; set extraPartitions[2].swapDevice to a path such as "/dev/disk/by-label/swap", or null
    extraPartitions[3].swap: invalid type: string "yes", expected a boolean; set extraPartitions[3].swap to true, false or null
    extraPartitions[3].swapDevice: "/dev/sda2" is not in /dev/disk/by-uuid, by-label, by-partuuid or by-partlabel; set extraPartitions[3].swapDevice to a path such as "/dev/disk/by-label/swap", or null
    extraPartitions[4].name: "e" is not what swapDevice says; set extraPartitions[4].name to "f", or leave it out
    extraPartitions[5].uuid: "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" is not what swapDevice says; set extraPartitions[5].uuid to "9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28" or null
    "#);
}

#[test]
fn an_mbr_names_few_partitions() {
    let named = |entries: Value| {
        let mut spec = with("/extraPartitions", json!([{ "name": "data", "typeGuid": SWAP, "size": 1 }]));
        set(&mut spec, "/hybridMbr", entries);
        spec
    };
    let entries =
        json!([{ "partition": "data", "type": "0x83" }, { "partition": "boot", "type": 12, "bootable": true }]);
    let data = HybridEntry { partition: PartitionName::Extra(0), kind: 0x83, activity: Activity::Inactive };
    let boot = HybridEntry { partition: PartitionName::Boot, kind: 12, activity: Activity::Active };
    assert_eq!(good(&named(entries)).hybrid_mbr, [data, boot]);

    let one = |partition: &str, kind: Value| json!({ "partition": partition, "type": kind });
    let entries = json!([one("date", json!(256)), one("nix", json!("0xee")), one("nix", json!(0))]);
    let other = json!([one("nix", json!(1)), one("nix", json!("0x05")), one("nix", json!("0x0f"))]);
    let active = |partition: &str| json!({ "partition": partition, "type": 12, "bootable": true });
    let two_active = json!([active("boot"), active("data")]);
    let twice = json!([one("nix", json!(1)), one("nix", json!(1))]);
    let many = json!([one("boot", json!(1)), one("nix", json!(1)), one("data", json!(1)), one("data", json!(1))]);
    insta::assert_snapshot!([entries, other, two_active, twice, many].map(|entries| bad(&named(entries))).join("\n"), @r#"
    hybridMbr[0].partition: "date" is not a partition of the image; set hybridMbr[0].partition to "boot", "nix" or the name of an extra partition
    hybridMbr[0].type: 256 is not a whole number from 0 to 0xff; set hybridMbr[0].type to a type of the MBR such as "0x0c"
    hybridMbr[1].type: 0xee is the type of the entry that stands for the GPT; set hybridMbr[1].type to a type of the MBR such as "0x0c"
    hybridMbr[2].type: 0 stands for an unused entry; set hybridMbr[2].type to a type of the MBR such as "0x0c"
    hybridMbr[1].type: 0x05 is the type of an extended partition, whose contents are a table of partitions; set hybridMbr[1].type to a type of the MBR such as "0x0c"
    hybridMbr[2].type: 0x0f is the type of an extended partition, whose contents are a table of partitions; set hybridMbr[2].type to a type of the MBR such as "0x0c"
    hybridMbr[1].bootable: is a second active entry besides hybridMbr[0]; with two active entries a BIOS boots neither; set hybridMbr[1].bootable to false
    hybridMbr[1].partition: is named twice; set hybridMbr[1].partition to another
    hybridMbr: names more than the 3 partitions for which an MBR has room beside the GPT; set hybridMbr to a list of objects
    "#);
}
