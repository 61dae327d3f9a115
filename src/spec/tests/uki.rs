//! Tests of the field `uki`.

use super::*;

fn uki() -> Value {
    json!({
        "stub": "/nix/store/s/lib/systemd/boot/efi/linuxx64.efi.stub",
        "kernel": "/nix/store/k/bzImage",
        "initrd": "/nix/store/i/initrd",
        "cmdline": "init=/nix/store/x/init quiet",
        "osRelease": "/nix/store/o/os-release",
        "uname": "6.18.1",
        "deviceTree": null,
        "fileName": "nixos_1.efi",
        "tries": 3,
    })
}

#[test]
fn all_fields_are_read() {
    let read = good(&with("/uki", uki())).uki.unwrap();
    let expected = Uki {
        stub: "/nix/store/s/lib/systemd/boot/efi/linuxx64.efi.stub".into(),
        kernel: "/nix/store/k/bzImage".into(),
        initrd: "/nix/store/i/initrd".into(),
        cmdline: "init=/nix/store/x/init quiet".into(),
        os_release: "/nix/store/o/os-release".into(),
        uname: Some("6.18.1".into()),
        device_tree: None,
        file_name: "nixos_1.efi".into(),
        tries: Some(3),
    };
    assert_eq!(read, expected);
    assert_eq!(read.counted_name(), "nixos_1+3.efi");
    let mut least = uki();
    ["uname", "deviceTree", "fileName", "tries"]
        .iter()
        .for_each(|key| drop(least.as_object_mut().unwrap().remove(*key)));
    assert_eq!(good(&with("/uki", least)).uki.unwrap().counted_name(), "nixos.efi");
    assert_eq!(good(&with("/uki", Value::Null)).uki, None);
}

#[test]
fn names_must_be_ones_of_fat_and_of_systemd_boot() {
    let wrong = ["nixos", ".efi", "a/b.efi", "a:b.efi", "a\n.efi", "a+3.efi", "a+3-1.efi"];
    for name in wrong.map(str::to_owned).into_iter().chain([format!("{}.efi", "a".repeat(250))]) {
        let mut spec = with("/uki", uki());
        set(&mut spec, "/uki/fileName", json!(name));
        let told = bad(&spec);
        assert!(told.starts_with("uki.fileName: ") && told.lines().count() == 1, "{name:?}: {told}");
    }
    for name in ["a.efi", "nixos_1.2+git.efi", "NixOS 26.05.efi", "a+b-1.efi"] {
        let mut spec = with("/uki", uki());
        set(&mut spec, "/uki/fileName", json!(name));
        assert_eq!(good(&spec).uki.unwrap().file_name, name);
    }
}

#[test]
fn mistakes_are_told_at_their_places() {
    let mut spec = with("/uki", uki());
    set(&mut spec, "/uki/tries", json!(0));
    set(&mut spec, "/uki/cmdline", json!("a\nb"));
    set(&mut spec, "/uki/uname", json!(" "));
    set(&mut spec, "/uki/stub", json!("stub"));
    set(&mut spec, "/uki/kernle", json!("/k"));
    insta::assert_snapshot!(bad(&spec), @r#"
    uki.stub: "stub" is not an absolute path; set uki.stub to lib/systemd/boot/efi/linux<arch>.efi.stub of the host's systemd
    uki.cmdline: "a\nb" is not one line of text; set uki.cmdline to the kernel's parameters in one line, without the root hash
    uki.uname: is empty; set uki.uname to the kernel's version or null
    uki.tries: 0 is not a whole number from 1 to 255; set uki.tries to a whole number or null
    uki.kernle: is not a known field; did you mean kernel?
    "#);
    let mut spec = with("/uki", uki());
    set(&mut spec, "/efiSysMountPoint", Value::Null);
    let entries = spec["fileSystems"].as_object_mut().unwrap();
    entries.remove("/boot");
    insta::assert_snapshot!(bad(&spec), @"efiSysMountPoint: is null, but uki needs an ESP; set efiSysMountPoint to the mount point of a vfat filesystem");
}
