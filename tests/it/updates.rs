//! Two slots for updates, and the files of a version, which systemd-sysupdate puts into the empty one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Partition, Run, build_command, run};
use crate::support::oracle;
use crate::support::tool::{self, need, tool};
use crate::support::tree::Entry;

const MIB: u64 = 1 << 20;
const KERNEL: usize = 3 * 4096 + 77;

/// What stands for a unified kernel image.
fn kernel(version: &str) -> Vec<u8> {
    let mut bytes = version.repeat(KERNEL).into_bytes();
    bytes.truncate(KERNEL);
    bytes
}

/// A system of this version, with what `change` makes of its spec.
fn closure(version: &'static str, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let name = format!("host_{version}+3.efi");
    let kernel = Entry::dir([("EFI", Entry::dir([("Linux", Entry::dir([(name, Entry::file(kernel(version)))]))]))]);
    let files = Entry::dir([("version", Entry::file(version)), ("zeros", Entry::file(vec![0; 300_000]))]);
    let builder = ClosureBuilder::new().path("kernel", kernel).path("files", files);
    let boot = builder.store_path("kernel").to_owned();
    builder
        .spec(move |spec| {
            spec["extraBootFiles"] = json!([boot]);
            spec["updates"] = json!({ "name": "host", "version": version });
            spec["fileSystems"]["/"]["device"] = json!(format!("/dev/disk/by-partlabel/host_{version}"));
            change(spec);
        })
        .write()
}

/// The same, whose store has a hash tree.
fn sealed(version: &'static str) -> Closure {
    closure(version, |spec| {
        spec["verity"] = json!({ "architecture": "x86-64" });
        spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
        spec["fileSystems"]["/nix/store"] = json!({ "device": "/dev/mapper/usr", "fsType": "ext4", "options": ["ro"] });
    })
}

fn read(path: &Path, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn unpacked(path: &Path) -> Vec<u8> {
    zstd::decode_all(File::open(path).unwrap()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The partition with this role, as layout.json has it.
fn described<'a>(built: &'a Built, role: &str) -> &'a Value {
    let partitions = built.layout["partitions"].as_array().unwrap();
    partitions.iter().find(|partition| partition["role"] == role).unwrap()
}

#[test]
fn a_second_slot_is_like_the_first_and_empty() {
    let closure = closure("1", |_| {});
    let built = Built::new(&closure, &[]);
    judge::judge(&closure, &built);
    let (nix, slot) = (described(&built, "nix"), described(&built, "slot"));
    assert_eq!((&nix["name"], &slot["name"]), (&json!("host_1"), &json!("_empty")));
    assert_eq!((&nix["size"], &nix["typeGuid"]), (&slot["size"], &slot["typeGuid"]));
    assert_ne!(nix["guid"], slot["guid"]);
    assert_eq!(slot["filesystem"], Value::Null);
    let Partition { offset, size, .. } = built.partition("slot");
    assert!(read(&built.image, offset, size).iter().all(|&byte| byte == 0));
    if need("fdisk") {
        let listed = tool::run(tool("fdisk").args(["-o", "Device,Attrs", "-l"]).arg(&built.image));
        let listed = String::from_utf8(listed).unwrap();
        assert_eq!(listed.lines().filter(|line| line.ends_with(" GUID:60")).count(), 2, "{listed}");
    }
}

#[test]
fn the_files_of_a_version_are_what_is_on_the_disk() {
    for arguments in [&["--split"][..], &["--split", "--format", "qcow2"], &["--split=only", "--level", "19"]] {
        let closure = closure("1.2-3", |_| {});
        let built = Built::new(&closure, &[]);
        let out = built.scratch().join("split");
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_success();
        let files = ["SHA256SUMS", "host_1.2-3.efi", "host_1.2-3.store.raw.zst", "layout.json"];
        let image = match arguments {
            ["--split"] => Some("nixos.img"),
            ["--split", ..] => Some("nixos.qcow2"),
            _ => None,
        };
        assert_eq!(names(&out), files.into_iter().chain(image).collect::<Vec<_>>());
        assert!(fs::read(out.join(files[1])).unwrap() == kernel("1.2-3"));
        let store = unpacked(&out.join(files[2]));
        let nix = built.nix();
        let slot = read(&built.image, nix.offset, nix.size);
        let (data, rest) = slot.split_at(store.len());
        assert!(store == data && rest.len() > data.len() / 3 && rest.iter().all(|&byte| byte == 0));
        let sum = |name: &str| {
            let hash = Sha256::digest(fs::read(out.join(name)).unwrap());
            hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + " *" + name + "\n"
        };
        assert_eq!(fs::read_to_string(out.join(files[0])).unwrap(), sum(files[1]) + &sum(files[2]));
        tool::run(tool("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&out));
        if need("zstd") {
            tool::run(tool("zstd").arg("--test").arg(out.join(files[2])));
        }
    }
}

#[test]
fn a_disk_has_room_behind_the_slots() {
    let size = 512 * MIB;
    let closure = closure("1", move |spec| {
        spec["diskSize"] = json!(size);
        spec["updates"]["slotSize"] = json!(100 * MIB);
    });
    let built = Built::new(&closure, &[]);
    judge::judge(&closure, &built);
    assert_eq!(fs::metadata(&built.image).unwrap().len(), size);
    assert_eq!([built.nix().size, built.partition("slot").size], [100 * MIB; 2]);
    oracle::sgdisk(&built.image, 512).expect_clean();
}

#[test]
fn what_has_no_room_is_told() {
    let refused = |change: fn(&mut Value), arguments: &[&str]| -> Run {
        let closure = closure("1", change);
        let out = closure.root().join("out");
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_failure(2);
        assert!(!out.exists());
        run
    };
    let told = |change, arguments: &[&str], parts: &[&str]| {
        let said = refused(change, arguments).stderr;
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    told(|spec| spec["updates"]["slotSize"] = json!(MIB), &[], &["updates.slotSize: 1048576 bytes are too few"]);
    told(
        |spec| spec["diskSize"] = json!(100 * MIB),
        &[],
        &["diskSize: 104857600 bytes are too few", "or updates.slotSize to fewer bytes"],
    );
    told(|spec| spec["updates"] = Value::Null, &["--split"], &["the spec has no updates"]);
    told(|_| {}, &["--split=only", "--format", "raw"], &["--split=only makes no disk"]);
    told(|_| {}, &["--split=only", "--verify"], &["--split=only makes none"]);
    told(|_| {}, &["--split=only", "--bmap"], &["--bmap is for raw and zst"]);
}

/// Moves a disk of version 1 to version 2 and 3, as a machine that runs does.
#[test]
fn systemd_takes_the_files() {
    let built = Built::new(&closure("1", |_| {}), &[]);
    let disk = built.image.as_path();
    let esp = built.scratch().join("esp");
    fs::create_dir(&esp).unwrap();
    for (version, role, other) in [("2", "slot", "host_1"), ("3", "nix", "host_2")] {
        let out = release(&closure(version, |_| {}), &built);
        let kinds = [("store", "host_@v.store.raw.zst", "host_@v", "linux-generic")];
        let Some(mut sysupdate) = tool::sysupdate(&transfers(built.scratch(), disk, &out, &esp, &kinds)) else {
            return;
        };
        tool::run(&mut sysupdate);
        let store = unpacked(&out.join(format!("host_{version}.store.raw.zst")));
        assert!(read(disk, built.partition(role).offset, store.len() as u64) == store);
        assert!(fs::read(esp.join(format!("host_{version}+3-0.efi"))).unwrap() == kernel(version));
        if !need("sgdisk") {
            continue;
        }
        let listed = tool::run(tool("sgdisk").arg("--print").arg(disk));
        let listed = String::from_utf8(listed).unwrap();
        assert!(
            listed.contains(&format!("  host_{version}\n")) && listed.contains(&format!("  {other}\n")),
            "{listed}"
        );
        assert!(fs::read(esp.join(format!("host_{version}+3-0.efi"))).unwrap() == kernel(version));
    }
    assert_eq!(names(&esp), ["host_2+3-0.efi", "host_3+3-0.efi"]);
    oracle::sgdisk(disk, 512).expect_clean();
}

/// The empty partitions get the GUIDs by which systemd finds the next version: the halves of its root hash.
#[test]
fn systemd_takes_a_store_with_its_hashes() {
    let built = Built::new(&sealed("1"), &[]);
    let disk = built.image.as_path();
    let esp = built.scratch().join("esp");
    fs::create_dir(&esp).unwrap();
    let out = release(&sealed("2"), &built);
    let layout: Value = serde_json::from_slice(&fs::read(out.join("layout.json")).unwrap()).unwrap();
    let partitions = layout["partitions"].as_array().unwrap();
    let of_role = |role: &str| partitions.iter().find(|partition| partition["role"] == role).unwrap();
    let kinds = [
        ("verity", "host_@v_@u.verity.raw.zst", "host_@v_verity", "usr-x86-64-verity"),
        ("store", "host_@v_@u.store.raw.zst", "host_@v", "usr-x86-64"),
    ];
    let Some(mut sysupdate) = tool::sysupdate(&transfers(built.scratch(), disk, &out, &esp, &kinds)) else { return };
    tool::run(&mut sysupdate);
    if !need("sfdisk") || !need("veritysetup") {
        return;
    }
    let table = tool::run(tool("sfdisk").arg("--json").arg(disk));
    let table: Value = serde_json::from_slice(&table).unwrap();
    let listed = table["partitiontable"]["partitions"].as_array().unwrap();
    let entry = |name: &str| listed.iter().find(|entry| entry["name"] == name).unwrap();
    let mut parts = Vec::new();
    for (role, name) in [("nix", "host_2"), ("verity", "host_2_verity")] {
        let (wanted, found) = (of_role(role), entry(name));
        let is_same = |key: &str, listed: &str| {
            wanted[key].as_str().unwrap().eq_ignore_ascii_case(found[listed].as_str().unwrap())
        };
        assert!(is_same("guid", "uuid") && is_same("typeGuid", "type"), "{found}");
        assert_eq!(found["attrs"], "GUID:60", "{found}");
        let sectors = |key: &str| found[key].as_u64().unwrap() * 512;
        let path = built.scratch().join(role);
        fs::write(&path, read(disk, sectors("start"), sectors("size"))).unwrap();
        parts.push(path);
    }
    for name in ["host_1", "host_1_verity"] {
        assert_eq!(entry(name)["attrs"], "GUID:60");
    }
    let root = ["nix", "verity"].map(|role| of_role(role)["guid"].as_str().unwrap().replace('-', "")).concat();
    let verified =
        |root: &str| tool("veritysetup").arg("verify").args(&parts).arg(root).output().unwrap().status.success();
    assert!(verified(&root), "{root}");
    assert!(!verified(&root.chars().rev().collect::<String>()), "another root hash");
}

/// Nothing is copied before it is known that there is no place for the files.
#[test]
fn what_is_in_the_way_is_told_at_once() {
    let closure = sealed("1");
    for name in ["SHA256SUMS", "host_1.efi"] {
        let out = closure.root().join("out");
        fs::create_dir_all(out.join(name)).unwrap();
        let split = ["--split"];
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &split)).expect_failure(1);
        assert!(run.stderr.contains(name) && run.stderr.contains("is a directory"), "{}", run.stderr);
        assert!(!run.stderr.contains("copying"), "{}", run.stderr);
        assert_eq!(names(&out), [name]);
        fs::remove_dir_all(&out).unwrap();
    }
}

/// What earlier builds of one version have left is told: a program that lists the directory may take it.
#[test]
fn other_files_of_the_version_are_told() {
    let closure = sealed("1");
    let out = closure.root().join("out");
    fs::create_dir(&out).unwrap();
    let old = "host_1_00000000-0000-4000-8000-000000000000.store.raw.zst";
    let other = "host_1_00000000-0000-4000-8000-000000000000.efi";
    [old, other, "host_2.store.raw.zst"].iter().for_each(|name| fs::write(out.join(name), "old").unwrap());
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--split=only"])).expect_success();
    let warnings: Vec<_> = run.stderr.lines().filter(|line| line.contains("systemd-sysupdate")).collect();
    assert!(matches!(warnings[..], [line] if line.contains(old) && line.ends_with("; remove it")), "{warnings:?}");
    assert!(names(&out).contains(&old.to_owned()));
}

/// The files of a version, beside an image.
fn release(closure: &Closure, built: &Built) -> PathBuf {
    let out = built.scratch().join(closure.spec["updates"]["version"].as_str().unwrap());
    run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--split=only"])).expect_success();
    out
}

/// What a machine would have in /etc/sysupdate.d: for partitions, the names of files, of partitions and of their type.
fn transfers(scratch: &Path, disk: &Path, source: &Path, esp: &Path, kinds: &[(&str, &str, &str, &str)]) -> PathBuf {
    let directory = scratch.join("sysupdate.d");
    fs::create_dir_all(&directory).unwrap();
    let from =
        |pattern: &str| format!("[Source]\nType=regular-file\nPath={}\nMatchPattern={pattern}\n", source.display());
    for (name, files, label, kind) in kinds {
        let target = format!(
            "[Target]\nType=partition\nPath={}\nMatchPattern={label}\nMatchPartitionType={kind}\nInstancesMax=2\n",
            disk.display()
        );
        fs::write(directory.join(format!("50-{name}.transfer")), from(files) + &target).unwrap();
    }
    let kernel = format!(
        "[Target]\nType=regular-file\nPath={}\nMatchPattern=host_@v+@l-@d.efi host_@v+@l.efi host_@v.efi\n\
         TriesLeft=3\nTriesDone=0\nInstancesMax=2\n",
        esp.display()
    );
    fs::write(directory.join("70-kernel.transfer"), from("host_@v.efi") + &kernel).unwrap();
    directory
}
