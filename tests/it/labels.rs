//! Labels as udev spells them: libblkid, which udev asks, is the oracle.

use std::process::Command;

use proptest::prelude::*;
use sane_image::spec::{self, Device};
use serde_json::{Value, json};

use crate::support::closure::ClosureBuilder;
use crate::support::image::Built;
use crate::support::mount::{Access, LoopDevice};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run, tool};

/// A spec whose store is on the ext4 that this path leads to.
fn spec(device: &str) -> Value {
    json!({
        "version": 1,
        "toplevel": "/nix/store/00000000000000000000000000000000-system",
        "closureInfo": "/nix/store/00000000000000000000000000000000-closure-info",
        "fileSystems": {
            "/boot": { "device": "/dev/disk/by-uuid/1234-ABCD", "fsType": "vfat" },
            "/": { "device": device, "fsType": "ext4" },
        },
    })
}

/// What libblkid tells udev under `key`.
fn blkid(key: &str, command: &mut Command) -> String {
    let told = String::from_utf8(run(command)).unwrap();
    let value = told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key}: {told}")).to_owned()
}

/// The path as udev spells it is accepted and means `label`; the label as it is has the right spelling in its error.
fn assert_spelled(folder: &str, label: &str, spelled: &str) {
    let path = |name: &str| format!("/dev/disk/{folder}/{name}");
    let device = spec::parse(&spec(&path(spelled)).to_string()).unwrap().nix.device;
    let meant = match folder {
        "by-label" => Device::Label(label.to_owned()),
        _ => Device::PartLabel(label.to_owned()),
    };
    assert_eq!(device, meant, "{spelled}");
    // A backslash could be the start of an escape.
    if spelled != label && !label.contains('\\') {
        let error = spec::parse(&spec(&path(label)).to_string()).unwrap_err().to_string();
        assert!(error.contains(&format!("to {:?}", path(spelled))), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn labels_are_spelled_as_libblkid_does(label in "[!-~a-zäß日𝄞]([ -~a-zé]{0,5}[!-~日𝄞])?") {
        if need("blkid") && need("mkfs.ext4") && label.len() <= 16 {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(1 << 20).unwrap();
            run(tool("mkfs.ext4").args(["-q", "-O", "^has_journal", "-L", &label]).arg(image.path()));
            let spelled = blkid("ID_FS_LABEL_ENC", tool("blkid").args(["-p", "-o", "udev"]).arg(image.path()));
            assert_spelled("by-label", &label, &spelled);
        }
    }
}

/// What a spec asks for is what udev then finds.
#[test]
fn images_have_the_labels_that_are_looked_for() {
    if !need("blkid") {
        return;
    }
    for (boot, nix, fs_type) in
        [("MY\\x20ESP\\x21", "n\\x28ix\\x29", "ext4"), ("Esp\\x24", "\\x22öß\\x5c日\\x22", "btrfs")]
    {
        let closure = ClosureBuilder::new()
            .spec(move |spec| {
                let filesystems = &mut spec["fileSystems"];
                filesystems["/boot"]["device"] = json!(format!("/dev/disk/by-label/{boot}"));
                filesystems["/"]["device"] = json!(format!("/dev/disk/by-label/{nix}"));
                filesystems["/"]["fsType"] = json!(fs_type);
            })
            .write();
        let built = Built::new(&closure, &[]);
        for (partition, label) in [(built.boot(), boot), (built.nix(), nix)] {
            let (offset, size) = (partition.offset.to_string(), partition.size.to_string());
            let mut command = tool("blkid");
            command.args(["-p", "-o", "udev", "-O", &offset, "-S", &size]).arg(&built.image);
            assert_eq!(blkid("ID_FS_LABEL_ENC", &mut command), label);
        }
    }
}

/// The same for names of partitions, which libblkid tells of a partition's device alone.
#[test]
fn images_have_the_partition_names_that_are_looked_for() {
    const SECTOR: u64 = 512;
    let names = ["EFI\\x20(x)".replace("(x)", "\\x28x\\x29"), "a\\x2fb\\x5cä𝄞\\x24".to_owned()];
    if !need("blkid") || !need("addpart") || !need_root() {
        return;
    }
    let [boot, nix] = names.clone();
    let closure = ClosureBuilder::new()
        .spec(move |spec| {
            spec["fileSystems"]["/boot"]["device"] = json!(format!("/dev/disk/by-partlabel/{boot}"));
            spec["fileSystems"]["/"]["device"] = json!(format!("/dev/disk/by-partlabel/{nix}"));
        })
        .write();
    let built = Built::new(&closure, &[]);
    let Some(disk) = LoopDevice::of_disk(&built.image, 512, Access::ReadOnly) else { return };
    for (partition, (number, name)) in [built.boot(), built.nix()].iter().zip((1..).zip(names)) {
        let number = format!("{number}");
        let [start, len] = [partition.offset, partition.size].map(|bytes| (bytes / SECTOR).to_string());
        run(tool("addpart").arg(disk.path()).args([&number, &start, &len]));
        let device = format!("{}p{number}", disk.path().display());
        if !std::path::Path::new(&device).exists() && !skip(Lack::other("no devices of partitions")) {
            return;
        }
        let told = tool("blkid").args(["-p", "-o", "udev", &device]).output().unwrap();
        run(tool("delpart").arg(disk.path()).arg(&number));
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.lines().any(|line| line == format!("ID_PART_ENTRY_NAME={name}")), "{name}: {told}");
    }
}
