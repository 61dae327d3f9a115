//! Swap partitions: equal to the byte to those of mkswap, and found as the host's `swapDevices` look for them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Partition, build_command, run, sane_image};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{self, need, need_root, text, tool};

const MIB: u64 = 1 << 20;
const SWAP: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
/// Of a home directory: nobody expects a filesystem there yet.
const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";
const UUID: &str = "9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28";

/// A swap partition of 6 MiB with `more` fields.
fn swap(more: Value) -> Value {
    let mut partition = json!({ "name": "swap", "typeGuid": SWAP, "size": 5 * MIB + 1 });
    partition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    partition
}

fn closure(partitions: Value) -> Closure {
    ClosureBuilder::new().spec(move |spec| spec["extraPartitions"] = partitions).write()
}

/// The partition `partition` of layout.json.
fn place(partition: &Value) -> Partition {
    let number = partition["number"].as_u64().unwrap();
    Partition { number, offset: partition["offset"].as_u64().unwrap(), size: partition["size"].as_u64().unwrap() }
}

/// An image with one extra partition, what layout.json says of that, and a copy of it.
fn built(partition: Value) -> (Built, Value, tempfile::NamedTempFile) {
    let closure = closure(json!([partition]));
    let built = Built::new(&closure, &["--verify"]);
    judge::judge(&closure, &built);
    let found = built.layout["partitions"][1].clone();
    let slice = tool::slice(&built.image, place(&found));
    (built, found, slice)
}

fn expect_zeros(path: &Path) {
    assert!(fs::read(path).unwrap().iter().all(|&byte| byte == 0), "{} is not empty", path.display());
}

#[test]
fn a_swap_partition_is_what_mkswap_makes() {
    for (device, label) in [
        (Value::Null, ""),
        (json!("/dev/disk/by-label/sw\u{e4}p\\x20one"), "sw\u{e4}p one"),
        (json!("/dev/disk/by-label/0123456789abcde"), "0123456789abcde"),
        (json!(format!("/dev/disk/by-uuid/{UUID}")), ""),
        (json!(format!("/dev/disk/by-partuuid/{UUID}")), ""),
        (json!("/dev/disk/by-partlabel/swap"), ""),
    ] {
        let (_, found, ours) = built(swap(json!({ "swapDevice": device })));
        let device = device.as_str().unwrap_or_default();
        let uuid = found["swap"]["uuid"].as_str().unwrap();
        assert_eq!(found["swap"]["label"], label);
        assert_eq!(uuid == UUID, device.contains("by-uuid"), "{found}");
        assert_eq!(found["guid"] == UUID, device.contains("by-partuuid"), "{found}");
        if !need("mkswap") {
            return;
        }
        let theirs = tempfile::NamedTempFile::new().unwrap();
        theirs.as_file().set_len(6 * MIB).unwrap();
        let mut mkswap = tool("mkswap");
        mkswap.args(["--uuid", uuid]);
        if !label.is_empty() {
            mkswap.args(["--label", label]);
        }
        tool::run(mkswap.arg(theirs.path()));
        assert!(fs::read(ours.path()).unwrap() == fs::read(theirs.path()).unwrap(), "{device}");
    }
}

/// For kernels with larger pages, such as that of the Raspberry Pi 5.
#[test]
fn pages_are_as_large_as_is_asked_for() {
    for page_size in [8 << 10, 16 << 10, 32 << 10, 64 << 10] {
        let (built, found, ours) = built(swap(json!({ "swapPageSize": page_size })));
        assert_eq!(found["swap"]["pageSize"], page_size);
        let report = tool::run(sane_image().args(["inspect", "--json"]).arg(&built.image));
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["partitions"][1]["swap"]["pageSize"], page_size, "{report}");
        if !need("mkswap") {
            return;
        }
        let theirs = tempfile::NamedTempFile::new().unwrap();
        theirs.as_file().set_len(6 * MIB).unwrap();
        let mut mkswap = tool("mkswap");
        mkswap.args(["--uuid", found["swap"]["uuid"].as_str().unwrap(), "--pagesize", &page_size.to_string()]);
        tool::run(mkswap.arg(theirs.path()));
        assert!(fs::read(ours.path()).unwrap() == fs::read(theirs.path()).unwrap(), "{page_size}");
    }
}

#[test]
fn others_know_a_swap_partition() {
    let (_, found, ours) = built(swap(json!({ "swapDevice": "/dev/disk/by-label/swap" })));
    let uuid = found["swap"]["uuid"].as_str().unwrap();
    if need("blkid") {
        let said = tool::run(tool("blkid").args(["--probe", "--output", "export"]).arg(ours.path()));
        let said = String::from_utf8(said).unwrap();
        for line in ["LABEL=swap", &format!("UUID={uuid}"), "VERSION=1", "TYPE=swap"] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
    }
    if need("swaplabel") {
        let said = String::from_utf8(tool::run(tool("swaplabel").arg(ours.path()))).unwrap();
        assert!(said.contains("LABEL: swap\n") && said.contains(uuid), "{said}");
    }
}

#[test]
fn the_kernel_swaps_on_it() {
    if !need("losetup") || !need("swapon") || !need_root() {
        return;
    }
    let (_, _, ours) = built(swap(json!({})));
    let device = tool::run(tool("losetup").args(["--find", "--show"]).arg(ours.path()));
    let device = String::from_utf8(device).unwrap().trim().to_owned();
    let on = tool("swapon").arg(&device).output().unwrap();
    let swaps = fs::read_to_string("/proc/swaps").unwrap();
    let off = tool("swapoff").arg(&device).output().unwrap();
    tool::run(tool("losetup").args(["--detach", &device]));
    if text(&on).contains("Operation not permitted") {
        skip(Lack::other("swapon is not permitted"));
        return;
    }
    assert!(on.status.success() && off.status.success(), "{}{}", text(&on), text(&off));
    let line = swaps.lines().find(|line| line.starts_with(&format!("{device} "))).unwrap();
    assert_eq!(line.split_whitespace().nth(2), Some("6140"), "{swaps}");
}

#[test]
fn what_is_no_swap_area_is_left_alone() {
    // As a host has it that encrypts its swap with a new key at each boot.
    let random = json!({ "swap": false, "swapDevice": format!("/dev/disk/by-partuuid/{UUID}") });
    for partition in [swap(random), swap(json!({ "typeGuid": HOME }))] {
        let (_, found, ours) = built(partition);
        assert_eq!(found.get("swap"), None);
        expect_zeros(ours.path());
    }
    // Of any type, where it is asked for.
    let (_, found, _) = built(swap(json!({ "typeGuid": HOME, "swap": true })));
    assert_eq!(found["swap"]["label"], "");
}

#[test]
fn the_partition_is_named_after_the_device() {
    let partition = json!({ "typeGuid": SWAP, "size": MIB, "swapDevice": "/dev/disk/by-partlabel/my\\x20swap" });
    let (built, found, _) = built(partition);
    assert_eq!(found["name"], "my swap");
    let planned = run(sane_image().arg("inspect").arg(&built.image)).expect_success();
    assert!(planned.stdout.contains("2 \"my swap\""), "{}", planned.stdout);
}

#[test]
fn inspect_and_verify_know_swap() {
    let (built, found, _) = built(swap(json!({ "swapDevice": "/dev/disk/by-label/swap" })));
    let uuid = found["swap"]["uuid"].as_str().unwrap();
    let inspected = run(sane_image().arg("inspect").arg(&built.image)).expect_success();
    assert!(inspected.stdout.contains(&format!("  swap, label \"swap\", UUID {uuid}\n")), "{}", inspected.stdout);
    let inspected = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    let wanted = json!({ "label": "swap", "uuid": uuid, "size": 6 * MIB, "pageSize": 4096 });
    assert_eq!(inspected["partitions"][1]["swap"], wanted);
    assert_eq!(inspected["partitions"][0].get("swap"), None);

    let verified = run(sane_image().arg("verify").arg(&built.image)).expect_success();
    assert!(!verified.stderr.contains("partition 2"), "{}", verified.stderr);
    let image = OpenOptions::new().write(true).open(&built.image).unwrap();
    image.write_all_at(&2000_u32.to_le_bytes(), place(&found).offset + 1028).unwrap();
    let verified = run(sane_image().arg("verify").arg(&built.image));
    assert_eq!(verified.status.code(), Some(1));
    let told = format!("{}{}", verified.stdout, verified.stderr);
    assert!(told.contains("swap area") && told.contains("has 8196096 bytes, but the partition has 6291456"), "{told}");
}

#[test]
fn names_that_are_taken_are_refused() {
    let refused = |partitions: Value, wanted: &str| {
        let closure = closure(partitions);
        let out = closure.root().join("out");
        let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[]));
        assert!(!failed.status.success() && failed.stderr.contains(wanted), "{wanted}: {}", failed.stderr);
    };
    let label =
        |name: &str, label: &str| swap(json!({ "name": name, "swapDevice": format!("/dev/disk/by-label/{label}") }));
    refused(json!([label("a", "NIXOS_SYSTEM")]), "gives this swap area the label \"NIXOS_SYSTEM\", which a filesystem");
    refused(json!([label("a", "swap"), label("b", "swap")]), "extraPartitions[1].swapDevice: gives this swap area");
}
