//! Where boot loaders have their files: on an ESP at `/boot`, beside an ESP that is mounted elsewhere, or with no ESP.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tool::{need, run as run_tool, tool};
use crate::support::tree::Entry;

/// Where the file of populateCmd comes to lie in `/boot`.
const CONF: &str = "extlinux/extlinux.conf";
const POPULATE: &str =
    "f() { mkdir -p extlinux Extlinux; echo one > extlinux/extlinux.conf; echo two > Extlinux/other; }; f";

/// A closure whose spec fills `/boot`, changed by `change`.
fn closure(change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let firmware = Entry::dir([("firmware", Entry::dir([("bin", Entry::file("firmware"))]))]);
    let builder = ClosureBuilder::new().path("firmware", firmware);
    let extra = builder.store_path("firmware").to_owned();
    builder
        .spec(move |spec| {
            spec["populateCmd"] = POPULATE.into();
            spec["extraBootFiles"] = json!([extra]);
            change(spec);
        })
        .write()
}

/// The closure on a disk without an ESP.
fn without_esp(change: impl FnOnce(&mut Value) + 'static) -> Closure {
    closure(|spec| {
        spec["efiSysMountPoint"] = Value::Null;
        spec["fileSystems"].as_object_mut().unwrap().remove("/boot");
        change(spec);
    })
}

/// The closure with its ESP at another place than `/boot`.
fn esp_at(mount_point: &'static str, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    closure(move |spec| {
        spec["efiSysMountPoint"] = mount_point.into();
        let mounts = spec["fileSystems"].as_object_mut().unwrap();
        let esp = mounts.remove("/boot").unwrap();
        mounts.insert(mount_point.to_owned(), esp);
        change(spec);
    })
}

/// What a partition of an image has at a path.
fn cat(built: &Built, part: &str, path: &str) -> String {
    run(sane_image().arg("cat").arg(&built.image).args([part, path])).expect_success().stdout
}

/// The roles of the partitions, in the order of the disk.
fn roles(built: &Built) -> Vec<&str> {
    built.layout["partitions"].as_array().unwrap().iter().map(|part| part["role"].as_str().unwrap()).collect()
}

fn verify(closure: &Closure, built: &Built) {
    let registration = closure.root().join(closure.info.trim_start_matches('/')).join("registration");
    run(sane_image().arg("verify").arg(&built.image).arg("--registration").arg(registration)).expect_success();
}

fn refusal(closure: &Closure) -> String {
    let out = closure.root().join("out");
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(2);
    assert!(!out.exists());
    run.stderr
}

#[test]
fn a_disk_without_an_esp_has_its_boot_files_beside_the_store() {
    let closure = without_esp(|_| {});
    let built = Built::new(&closure, &["--verify"]);
    assert_eq!(roles(&built), ["nix"]);
    assert_eq!(built.layout["boot"], Value::Null);
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    if need("sgdisk") {
        // By this mark, U-Boot looks for its menu there.
        let entry = run_tool(tool("sgdisk").arg("--info=1").arg(&built.image));
        assert!(String::from_utf8(entry).unwrap().contains("Attribute flags: 0000000000000004"));
    }
    assert_eq!(cat(&built, "nix", &format!("/boot/{CONF}")), "one\n");
    // It is no FAT: names that differ in their case are two.
    assert_eq!(cat(&built, "nix", "/boot/Extlinux/other"), "two\n");
    assert_eq!(cat(&built, "nix", "/boot/firmware/bin"), "firmware");
    verify(&closure, &built);
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        let mode = |path: &str| mode_of(&mount.path().join(path));
        assert_eq!((mode("boot"), mode(&format!("boot/{CONF}"))), (0o40755, 0o100_644));
    }
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().mode()
}

#[test]
fn boot_is_in_the_subvolume_that_the_root_is() {
    let closure = without_esp(|spec| {
        spec["fileSystems"]["/"]["fsType"] = "btrfs".into();
        spec["fileSystems"]["/"]["options"] = json!(["subvol=@root", "compress=zstd:1"]);
        let device = spec["fileSystems"]["/"]["device"].clone();
        spec["fileSystems"]["/nix"] = json!({ "device": device, "fsType": "btrfs", "options": ["subvol=@nix"] });
    });
    let built = Built::new(&closure, &["--verify"]);
    oracle::btrfs_check(&built.image, built.nix()).expect_clean();
    assert_eq!(cat(&built, "nix", &format!("/@root/boot/{CONF}")), "one\n");
    verify(&closure, &built);
}

#[test]
fn an_esp_elsewhere_leaves_boot_to_the_filesystem_of_the_store() {
    for mount_point in ["/boot/efi", "/efi"] {
        let closure = esp_at(mount_point, move |spec| {
            spec["files"] = json!([{ "target": format!("{mount_point}/EFI/own.efi"), "text": "own" }]);
        });
        let built = Built::new(&closure, &["--verify"]);
        assert_eq!(roles(&built), ["boot", "nix"]);
        assert_eq!(built.layout["partitions"][0]["filesystem"]["mountPoint"], mount_point);
        oracle::fsck_fat(&built.image, built.boot()).expect_clean();
        oracle::e2fsck(&built.image, built.nix()).expect_clean();
        assert_eq!(cat(&built, "nix", &format!("/boot/{CONF}")), "one\n");
        assert_eq!(cat(&built, "boot", "/EFI/own.efi"), "own");
        run(sane_image().arg("cat").arg(&built.image).args(["boot", &format!("/{CONF}")])).expect_failure(1);
    }
}

/// The host's own files come in the place of boot loaders', as they do on the ESP.
#[test]
fn own_files_replace_those_of_boot_loaders() {
    let closure = without_esp(|spec| {
        spec["files"] = json!([{ "target": format!("/boot/{CONF}"), "text": "own\n", "mode": "0600" }]);
    });
    let built = Built::new(&closure, &[]);
    assert_eq!(cat(&built, "nix", &format!("/boot/{CONF}")), "own\n");
    assert_eq!(cat(&built, "nix", "/boot/Extlinux/other"), "two\n");
    let closure = without_esp(|spec| spec["files"] = json!([{ "target": format!("/boot/{CONF}/x"), "text": "" }]));
    let out = closure.root().join("out");
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1);
    assert!(run.stderr.contains(&format!("/boot/{CONF}: is a file in")), "{}", run.stderr);
    let closure = without_esp(|spec| spec["files"] = json!([{ "target": "/boot/extlinux", "text": "" }]));
    let run = self::run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1);
    assert!(run.stderr.contains("and a directory in the files of boot loaders; leave one out"), "{}", run.stderr);
}

#[test]
fn each_form_of_output_has_what_the_image_has() {
    let closure = without_esp(|_| {});
    let built = Built::new(&closure, &[]);
    let nix = built.scratch().join("nix.img");
    run(&mut build_command(&closure.spec_path(), closure.root(), &nix, &["--only", "nix"])).expect_success();
    let slice = fs::read(&built.image).unwrap();
    let at = usize::try_from(built.nix().offset).unwrap();
    assert!(fs::read(&nix).unwrap() == slice[at..at + usize::try_from(built.nix().size).unwrap()]);
    let boot = built.scratch().join("boot.img");
    let none = run(&mut build_command(&closure.spec_path(), closure.root(), &boot, &["--only", "boot"]));
    assert!(none.expect_failure(2).stderr.contains("the image has no ESP"));
    assert!(!boot.exists());
    let out = built.scratch().join("zst");
    run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--format", "zst"])).expect_success();
    let raw = built.scratch().join("raw.img");
    run(sane_image().arg("convert").arg(out.join("nixos.img.zst")).arg("--format").arg("raw").arg("--out").arg(&raw))
        .expect_success();
    assert!(fs::read(&raw).unwrap() == slice);
}

#[test]
fn what_has_no_place_is_refused() {
    let said = |closure: Closure, text: &str| {
        let said = refusal(&closure);
        assert!(said.contains(text), "{said}");
    };
    said(
        without_esp(|spec| spec["systemdBoot"] = json!({ "efiStub": "/nix/store/systemd" })),
        "efiSysMountPoint: is null, but systemdBoot needs an ESP; set efiSysMountPoint to the mount point of a vfat filesystem",
    );
    said(
        without_esp(|spec| spec["hybridMbr"] = json!([{ "partition": "boot", "type": 12 }])),
        "efiSysMountPoint: is null, but hybridMbr names the partition \"boot\"",
    );
    said(
        closure(|spec| spec["efiSysMountPoint"] = "/efi".into()),
        "fileSystems.\"/efi\": is missing; set fileSystems.\"/efi\" to a vfat filesystem, or efiSysMountPoint to null",
    );
    let with_xbootldr = |mount_point: &'static str, change: fn(&mut Value)| {
        esp_at("/efi", move |spec| {
            spec["xbootldrMountPoint"] = mount_point.into();
            spec["systemdBoot"] = json!({ "efiStub": "/nix/store/systemd" });
            spec["fileSystems"]["/boot"] = json!({ "device": "/dev/disk/by-label/XBOOTLDR", "fsType": "vfat" });
            change(spec);
        })
    };
    said(with_xbootldr("/efi", |_| {}), "xbootldrMountPoint: \"/efi\" is where the ESP is");
    said(
        with_xbootldr("/xboot", |_| {}),
        "fileSystems.\"/xboot\": is missing; set fileSystems.\"/xboot\" to a vfat filesystem, or xbootldrMountPoint to null",
    );
    said(
        with_xbootldr("/boot", |spec| spec["systemdBoot"] = Value::Null),
        "xbootldrMountPoint: is \"/boot\", but only systemdBoot looks for such a partition; set xbootldrMountPoint to null",
    );
    said(
        with_xbootldr("/boot", |spec| {
            let device = spec["fileSystems"]["/efi"]["device"].clone();
            spec["fileSystems"]["/boot"]["device"] = device;
        }),
        "is the same as that of /efi",
    );
    said(
        with_xbootldr("/boot", |spec| spec["fileSystems"]["/boot"]["device"] = "/dev/disk/by-label/ESP".into()),
        "fileSystems.\"/boot\".device: gives this filesystem and /efi both the label \"ESP\"",
    );
    said(
        with_xbootldr("/boot", |spec| spec["fileSystems"]["/boot"]["fsType"] = "ext4".into()),
        "fileSystems.\"/boot\".fsType: \"ext4\" cannot be booted by firmware",
    );
    said(closure(|spec| spec["efiSysMountPoint"] = "efi".into()), "efiSysMountPoint: \"efi\" is not an absolute path");
    // The root is not in the image, so that there is no place for /boot.
    said(
        without_esp(|spec| {
            let nix = spec["fileSystems"].as_object_mut().unwrap().remove("/").unwrap();
            spec["fileSystems"]["/nix"] = nix;
            spec["fileSystems"]["/"] = json!({ "device": "none", "fsType": "tmpfs" });
        }),
        "fileSystems.\"/boot\": has files of boot loaders, but is on fileSystems.\"/\"",
    );
    said(
        esp_at("/efi", |spec| spec["fileSystems"]["/boot"] = json!({ "device": "/efi/EFI", "options": ["bind"] })),
        "fileSystems.\"/boot\": is a directory of the ESP",
    );
}
