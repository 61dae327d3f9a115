//! An image whose store has a hash tree: what is on the disk, and that it proves the store.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Partition, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::reading::load;
use crate::support::tool::{need, run as run_tool, tool};
use crate::support::tree::Entry;

/// systemd's names of the types: `systemd-id128 show usr-x86-64 usr-x86-64-verity root-x86-64 root-x86-64-verity`.
const TYPES: [(&str, [&str; 2]); 2] = [
    ("/dev/mapper/usr", ["8484680c-9521-48c6-9c11-b0720656f69e", "77ff5f63-e7b6-4633-acf4-1565b864c0e6"]),
    ("/dev/mapper/root", ["4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"]),
];

/// A closure whose store is verified, as `device`, in a filesystem of this type.
fn closure(device: &'static str, fs_type: &'static str, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let large: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let data = Entry::dir([("large", Entry::file(large)), ("zeros", Entry::file(vec![0; 2 << 20]))]);
    let builder = ClosureBuilder::new().path("data", data);
    builder
        .spec(move |spec| {
            spec["verity"] = json!({ "architecture": "x86-64" });
            spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
            spec["fileSystems"]["/nix/store"] = json!({ "device": device, "fsType": fs_type, "options": ["ro"] });
            change(spec);
        })
        .write()
}

/// The description of the hash partition in `layout.json`.
fn verity(built: &Built) -> &Value {
    let partitions = built.layout["partitions"].as_array().unwrap();
    &partitions.iter().find(|part| part["role"] == "verity").unwrap()["verity"]
}

/// What `veritysetup verify` says of a data and a hash partition.
fn veritysetup(data: &[u8], hash: &[u8], root: &str) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let [data_file, hash_file] = ["data", "hash"].map(|name| scratch.path().join(name));
    fs::write(&data_file, data).unwrap();
    fs::write(&hash_file, hash).unwrap();
    tool("veritysetup").arg("verify").args([&data_file, &hash_file]).arg(root).output().unwrap().status.success()
}

#[test]
fn the_hash_tree_proves_the_store() {
    for (device, types) in TYPES {
        for fs_type in ["ext4", "btrfs", "erofs"] {
            let closure = closure(device, fs_type, |_| {});
            let built = Built::new(&closure, &["--verify"]);
            oracle::sgdisk(&built.image, 512).expect_clean();
            let partitions = built.layout["partitions"].as_array().unwrap();
            let [nix, hash] = &partitions[partitions.len() - 2..] else { panic!("two partitions") };
            assert_eq!([&nix["typeGuid"], &hash["typeGuid"]], types, "{device}");
            let described = verity(&built);
            let root = described["rootHash"].as_str().unwrap();
            // Discoverable Partitions Specification: the GUIDs are the halves of the root hash.
            let guids = [&nix["guid"], &hash["guid"]].map(|guid| guid.as_str().unwrap().replace('-', ""));
            assert_eq!(guids.concat(), root);
            let (data, size) = (described["dataSize"].as_u64().unwrap(), nix["size"].as_u64().unwrap());
            assert!(data == size || fs_type == "erofs" && data < size, "{fs_type}: {data} of {size}");
            if need("sgdisk") {
                let entry = String::from_utf8(run_tool(tool("sgdisk").arg("--info=2").arg(&built.image))).unwrap();
                assert!(entry.contains("Attribute flags: 1000000000000000"), "{entry}");
                assert!(entry.contains(&nix["guid"].as_str().unwrap().to_uppercase()), "{entry}");
            }
            if need("veritysetup") {
                let [mut data, tree] = [Role::Nix, Role::Hash].map(|role| load(&built.image, role.of(&built)));
                assert!(veritysetup(&data, &tree, root), "{device} {fs_type}");
                let middle = data.len() / 2;
                data[middle] ^= 1;
                assert!(!veritysetup(&data, &tree, root), "a flipped bit is not seen");
            }
        }
    }
}

enum Role {
    Nix,
    Hash,
}

impl Role {
    fn of(&self, built: &Built) -> Partition {
        match self {
            Self::Nix => built.nix(),
            Self::Hash => built.partition("verity"),
        }
    }
}

#[test]
fn compressed_contents_move_the_hash_tree() {
    let btrfs = closure("/dev/mapper/usr", "btrfs", |spec| {
        spec["fileSystems"]["/nix/store"]["options"] = json!(["ro", "compress=zstd"]);
    });
    let erofs = closure("/dev/mapper/usr", "erofs", |spec| spec["erofsCompression"] = "zstd".into());
    [btrfs, erofs].iter().for_each(moves_the_hash_tree);
}

fn moves_the_hash_tree(closure: &Closure) {
    let built = Built::new(closure, &["--verify"]);
    let planned =
        run(sane_image().args(["plan", "--json", "--store-root"]).arg(closure.root()).arg(closure.spec_path()));
    let planned: Value = serde_json::from_str(&planned.expect_success().stdout).unwrap();
    assert!(planned["size"].as_u64() > built.layout["size"].as_u64());
    let hash = planned["partitions"].as_array().unwrap().last().unwrap();
    // Nobody knows it yet.
    assert_eq!(hash["verity"]["rootHash"], Value::Null);
    if need("veritysetup") {
        let [data, tree] = ["nix", "verity"].map(|role| load(&built.image, built.partition(role)));
        assert!(veritysetup(&data, &tree, verity(&built)["rootHash"].as_str().unwrap()));
    }
}

#[test]
fn all_forms_have_the_same_disk() {
    let closure = closure("/dev/mapper/usr", "ext4", |_| {});
    let built = Built::new(&closure, &["--format", "raw,zst,qcow2,vhdx"]);
    let raw = fs::read(&built.image).unwrap();
    for form in ["img.zst", "qcow2", "vhdx"] {
        let out = built.scratch().join("again.img");
        let image = built.image.with_file_name(format!("nixos.{form}"));
        run(sane_image().arg("convert").arg(&image).args(["--format", "raw", "--out"]).arg(&out)).expect_success();
        assert!(fs::read(&out).unwrap() == raw, "{form}");
        fs::remove_file(&out).unwrap();
    }
}

/// Where every byte of the store is known, no file is made that is as long as the disk.
#[test]
fn each_form_alone_is_the_same_disk() {
    if !need("prlimit") {
        return;
    }
    for (fs_type, is_known) in [("ext4", true), ("erofs", true), ("btrfs", false)] {
        let closure = closure("/dev/mapper/usr", fs_type, |_| {});
        let built = Built::new(&closure, &[]);
        let raw = fs::read(&built.image).unwrap();
        for (form, suffix) in [("zst", "img.zst"), ("qcow2", "qcow2")] {
            let out = built.scratch().join(form);
            let build = build_command(&closure.spec_path(), closure.root(), &out, &["--format", form]);
            let mut limited = tool("prlimit");
            limited.arg("--fsize=100000000").arg(build.get_program()).args(build.get_args());
            assert_eq!(limited.output().unwrap().status.success(), is_known, "{fs_type} {form}");
            if is_known {
                let image = built.scratch().join("again.img");
                let convert = ["--format", "raw", "--out"];
                let made = out.join(format!("nixos.{suffix}"));
                run(sane_image().arg("convert").arg(made).args(convert).arg(&image)).expect_success();
                assert!(fs::read(&image).unwrap() == raw, "{fs_type} {form}");
            }
        }
    }
}

/// Free space is not read, but the hash tree proves it: a block map leaves out nothing that a used device has to get.
#[test]
fn a_used_device_gets_all_that_is_proved() {
    for fs_type in ["ext4", "btrfs", "erofs"] {
        let closure = closure("/dev/mapper/usr", fs_type, |_| {});
        let built = Built::new(&closure, &["--bmap"]);
        let image = fs::read(&built.image).unwrap();
        let mut device = vec![0x55; image.len()];
        let map = fs::read_to_string(built.image.with_extension("img.bmap")).unwrap();
        for range in map.lines().filter(|line| line.contains("<Range")) {
            let blocks = range.split(['>', '<']).nth(2).unwrap().trim();
            let (first, last) = blocks.split_once('-').unwrap_or((blocks, blocks));
            let [first, last] = [first, last].map(|block| block.parse::<usize>().unwrap());
            let bytes = first * 4096..image.len().min((last + 1) * 4096);
            device[bytes.clone()].copy_from_slice(&image[bytes]);
        }
        let path = built.scratch().join("device");
        fs::write(&path, device).unwrap();
        run(sane_image().arg("verify").arg(&path)).expect_success();
    }
}

#[test]
fn the_rest_of_the_disk_stays_free() {
    let size: u64 = 3 << 30;
    let closure = closure("/dev/mapper/usr", "ext4", move |spec| spec["diskSize"] = size.into());
    let built = Built::new(&closure, &["--verify"]);
    assert_eq!(fs::metadata(&built.image).unwrap().len(), size);
    oracle::sgdisk(&built.image, 512).expect_clean();
    let hash = built.layout["partitions"].as_array().unwrap().last().unwrap();
    assert!(hash["offset"].as_u64().unwrap() + hash["size"].as_u64().unwrap() < size / 2);
}

fn refusal(closure: &Closure, arguments: &[&str]) -> String {
    let out = closure.root().join("out");
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_failure(2);
    assert!(!Path::new(&out).exists());
    run.stderr
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let told = refusal(&closure("/dev/disk/by-label/store", "ext4", |_| {}), &[]);
    assert!(
        told.contains("set fileSystems.\"/nix/store\".device to \"/dev/mapper/usr\" or \"/dev/mapper/root\""),
        "{told}"
    );
    let told = refusal(&closure("/dev/mapper/usr", "ext4", |spec| spec["verity"] = Value::Null), &[]);
    assert!(told.contains("\"/dev/mapper/usr\" is there only with verity; set verity"), "{told}");
    let told =
        refusal(&closure("/dev/mapper/usr", "ext4", |spec| spec["verity"]["architecture"] = "amd64".into()), &[]);
    assert!(told.contains("verity.architecture: \"amd64\" is no architecture"), "{told}");
    let writable = |spec: &mut Value| spec["fileSystems"]["/nix/store"]["options"] = json!([]);
    let told = refusal(&closure("/dev/mapper/usr", "ext4", writable), &[]);
    assert!(told.contains("add \"ro\" to fileSystems.\"/nix/store\".options"), "{told}");
}
