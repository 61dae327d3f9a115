//! Disks whose partition table is the MBR's: what is in them is what sfdisk and mke2fs put there, in every command.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::support::foreign::{mkfs_ext4, mkfs_fat};
use crate::support::image::{run, sane_image};
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::set_mtime;

/// The empty file's path and what is registered of it.
const PATH: &str = "nix/store/0q43idch209zsdngl8yl79x0y79aajib-empty";
/// The NAR of an empty file, by `nix-store --dump FILE | sha256sum`, in Nix's base 32.
const NAR: &str = "0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p";
const CONF: &str = "DEFAULT a\nLABEL a\n  LINUX ../nixos/kernel\n  INITRD ../nixos/initrd\n";

/// A Raspberry Pi's disk as nixpkgs makes them: firmware's FAT, then the root, which has the store and what boots.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("nix/store")).unwrap();
    fs::write(at(PATH), "").unwrap();
    fs::set_permissions(at(PATH), fs::Permissions::from_mode(0o444)).unwrap();
    set_mtime(&at(PATH), 1).unwrap();
    fs::write(at("nix-path-registration"), format!("/{PATH}\nsha256:{NAR}\n112\n\n0\n")).unwrap();
    fs::create_dir_all(at("boot/extlinux")).unwrap();
    fs::create_dir_all(at("boot/nixos")).unwrap();
    fs::write(at("boot/extlinux/extlinux.conf"), CONF).unwrap();
    fs::write(at("boot/nixos/kernel"), "kernel").unwrap();
    fs::write(at("boot/nixos/initrd"), "initrd").unwrap();
    root
}

/// A disk as a script of sfdisk says, with the files' bytes at the partitions' places, which are in sectors.
fn disk(script: &str, sectors: u64, contents: &[(&Path, u64)]) -> Option<NamedTempFile> {
    // mke2fs gives files to whoever owns the tree that it copies.
    if !need("sfdisk") || !need_root() {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(sectors * 512).unwrap();
    let mut sfdisk =
        tool("sfdisk").args(["-q", "--no-reread"]).arg(image.path()).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    for (file, at) in contents {
        image.as_file().write_all_at(&fs::read(file).unwrap(), at * 512).unwrap();
    }
    Some(image)
}

pub(crate) fn sd_image() -> Option<(TempDir, NamedTempFile)> {
    let (root, firmware) = (root(), tempfile::tempdir().unwrap());
    fs::write(firmware.path().join("config.txt"), "arm_64bit=1\n").unwrap();
    let (ext4, fat) = (mkfs_ext4(root.path(), &["-L", "NIXOS_SD"])?, mkfs_fat(firmware.path(), "32")?);
    let script =
        "label: dos\nlabel-id: 0x2178694e\n\nstart=16384, size=131072, type=b\nstart=147456, type=83, bootable\n";
    let image = disk(script, 147_456 + (64 << 11), &[(fat.path(), 16_384), (ext4.path(), 147_456)])?;
    Some((root, image))
}

fn inspect(image: &Path) -> Value {
    serde_json::from_str(&run(sane_image().args(["inspect", "--json"]).arg(image)).stdout).unwrap()
}

/// Each partition's place, size and type by sfdisk.
fn listed(image: &Path) -> Vec<(u64, u64, u64, String, bool)> {
    let said: Value = serde_json::from_slice(&run_tool(tool("sfdisk").arg("-J").arg(image))).unwrap();
    let partitions = said["partitiontable"]["partitions"].as_array().unwrap().iter().map(|p| {
        // A p stands between where the disk's name ends in a digit.
        let number = p["node"].as_str().unwrap().strip_prefix(image.to_str().unwrap()).unwrap().trim_start_matches('p');
        let sectors = |key: &str| p[key].as_u64().unwrap() * 512;
        let kind = p["type"].as_str().unwrap().to_owned();
        (number.parse().unwrap(), sectors("start"), sectors("size"), kind, p["bootable"] == true)
    });
    // An extended partition has nothing of its own.
    partitions.filter(|(.., kind, _)| !["5", "f", "85"].contains(&kind.as_str())).collect()
}

fn agrees_with_sfdisk(image: &Path) {
    let report = inspect(image);
    let ours = report["partitions"].as_array().unwrap().iter().map(|p| {
        let number = |key: &str| p[key].as_u64().unwrap();
        let kind = format!("{:x}", p["mbr"]["type"].as_u64().unwrap());
        (number("number"), number("offset"), number("size"), kind, p["mbr"]["active"] == true)
    });
    assert_eq!(ours.collect::<Vec<_>>(), listed(image));
    let mut at = 0;
    for region in report["regions"].as_array().unwrap() {
        assert_eq!(region["offset"], at);
        at += region["size"].as_u64().unwrap();
    }
    assert_eq!(at, report["size"].as_u64().unwrap());
}

#[test]
fn an_sd_image_is_read_by_every_command() {
    let Some((root, image)) = sd_image() else { return };
    agrees_with_sfdisk(image.path());
    let report = inspect(image.path());
    assert_eq!((&report["problems"], &report["warnings"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!(report["mbr"]["signature"], "2178694e");
    assert_eq!(report["boot"]["partition"], 2);
    assert_eq!(report["boot"]["entries"][0]["kernel"]["found"]["path"], "boot/nixos/kernel");
    assert_eq!(report["partitions"][1]["filesystem"]["store"]["registration"]["paths"], 1);
    let said = run(sane_image().arg("inspect").arg(image.path())).expect_success().stdout;
    assert!(said.contains("MBR, sectors of 512 bytes, disk identifier 2178694e"), "{said}");
    assert!(said.contains("partition UUID 2178694e-02, active"), "{said}");

    let of = |command: &str, arguments: &[&str]| {
        run(sane_image().arg(command).arg(image.path()).args(arguments)).expect_success().stdout
    };
    assert_eq!(of("ls", &["boot"]), "config.txt\n");
    assert_eq!(of("cat", &["nix", "boot/extlinux/extlinux.conf"]), CONF);
    assert_eq!(of("cat", &["1", "config.txt"]), "arm_64bit=1\n");
    assert!(of("verify", &[]).contains("right: MBR, vfat, ext4; 1 store path"), "{}", of("verify", &[]));
    let out = tempfile::tempdir().unwrap();
    of("extract", &["nix", "boot", "--out", out.path().to_str().unwrap()]);
    assert_eq!(fs::read(out.path().join("boot/nixos/initrd")).unwrap(), b"initrd");

    let Some(other) = mkfs_ext4(root.path(), &["-L", "OTHER"]) else { return };
    let changed = NamedTempFile::new().unwrap();
    fs::copy(image.path(), changed.path()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(changed.path()).unwrap();
    file.write_all_at(&fs::read(other.path()).unwrap(), 147_456 * 512).unwrap();
    file.write_all_at(&[0x0c], 446 + 4).unwrap();
    of("diff", &[image.path().to_str().unwrap()]);
    let differs = run(sane_image().arg("diff").args([image.path(), changed.path()])).expect_failure(1).stdout;
    assert!(differs.contains("0b → 0c") && differs.contains("NIXOS_SD → OTHER"), "{differs}");
}

#[test]
fn logical_partitions_have_the_numbers_of_linux() {
    let root = root();
    let Some(ext4) = mkfs_ext4(root.path(), &[]) else { return };
    let script = "label: dos\nstart=2048, size=2048, type=82\nstart=8192, size=400000, type=f\nstart=408192, type=8e\n\
                  start=10240, size=2048, type=83\nstart=14336, size=131072, type=83\nstart=147456, size=4096, type=7\n";
    let Some(image) = disk(script, 500_000, &[(ext4.path(), 14_336)]) else { return };
    agrees_with_sfdisk(image.path());
    let read = |part: &str| run(sane_image().arg("ls").arg(image.path()).args([part, PATH]));
    for part in ["6", "nix"] {
        assert_eq!(read(part).expect_success().stdout, format!("{PATH}\n"));
    }
    assert!(read("5").expect_failure(1).stderr.contains("partition 5 has no FAT, ext4, btrfs or erofs"));
    // Partition 5 promises a filesystem of Linux, and may get one as long as it is empty.
    run(sane_image().arg("verify").arg(image.path())).expect_success();
    image.as_file().write_all_at(b"x", 10_240 * 512).unwrap();
    let said = run(sane_image().arg("verify").arg(image.path())).expect_failure(1).stdout;
    assert!(said.contains("partition 5: filesystem: holds no FAT, ext4, btrfs or erofs"), "{said}");
    let number = |sectors: u32| sectors.to_le_bytes();
    // The record of partition 6 leads back to the first, which stands for partition 7 then.
    let record = 12_288 * 512;
    let file = fs::OpenOptions::new().read(true).write(true).open(image.path()).unwrap();
    let mut entry = [0; 16];
    file.read_exact_at(&mut entry, record + 446 + 16).unwrap();
    assert_eq!(entry[4], 5, "sfdisk has the record elsewhere");
    file.write_all_at(&number(0), record + 446 + 16 + 8).unwrap();
    for command in ["verify", "inspect"] {
        let said = run(sane_image().arg(command).arg(image.path())).expect_failure(1).stdout;
        assert!(said.contains("was met before: the chain leads in a circle"), "{said}");
    }
}

/// Sector 0 of a filesystem may hold anything.
#[test]
fn a_fat_and_a_gpt_are_no_mbr() {
    let tree = tempfile::tempdir().unwrap();
    let Some(fat) = mkfs_fat(tree.path(), "16") else { return };
    let file = fs::OpenOptions::new().write(true).open(fat.path()).unwrap();
    file.write_all_at(&[0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0], 446).unwrap();
    assert_eq!(inspect(fat.path())["mbr"], Value::Null);
    let Some(gpt) = disk("label: gpt\nsize=2048\n", 8192, &[]) else { return };
    let report = inspect(gpt.path());
    assert_eq!((&report["mbr"], report["table"].is_object()), (&Value::Null, true));
}
