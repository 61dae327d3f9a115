//! Disks of others and of our own whose last partition gets another size, judged by the tools of others.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use sane_image::disk::resize::{Resized, resize_last, resize_last_mbr};
use sane_image::image::Image;
use sane_image::read::Bytes;
use sane_image::units::ByteOffset;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, run, sane_image};
use crate::support::mount::{Access, LoopDevice};
use crate::support::oracle;
use crate::support::tool::{self, need, tool};
use crate::support::tree::index;

const MIB: u64 = 1 << 20;

fn blank(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

/// A disk of 64 MiB as a script of sfdisk says.
fn sfdisk(script: &str) -> NamedTempFile {
    let disk = blank(64 * MIB);
    let mut sfdisk = tool("sfdisk").arg("-q").arg(disk.path()).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    disk
}

/// A disk whose last partition has this size and nothing in it.
fn resized(old: &Path, number: u32, size: u64) -> NamedTempFile {
    let image = Image::open(old).unwrap();
    let disk = image.bytes();
    let resized = match (image.table(), image.mbr()) {
        (Some(table), _) => resize_last(&disk, table, number, size),
        (_, Some(mbr)) => resize_last_mbr(&disk, mbr, number, size),
        _ => panic!("no table"),
    };
    let Resized { disk_size, writes } = resized.unwrap();
    let new = blank(disk_size);
    let start = image.partitions().iter().find(|partition| partition.number == number).unwrap().offset;
    let mut head = vec![0; index(start.0)];
    disk.read_exact_at(ByteOffset(0), &mut head).unwrap();
    for (offset, bytes) in [(ByteOffset(0), head)].into_iter().chain(writes) {
        new.as_file().write_all_at(&bytes, offset.0).unwrap();
    }
    new
}

/// All that sfdisk tells of a disk, without its path.
fn told(disk: &Path) -> Value {
    let said = tool::run(tool("sfdisk").arg("-J").arg(disk));
    let said = String::from_utf8(said).unwrap().replace(disk.to_str().unwrap(), "disk");
    // A p stands between where the disk's name ends in a digit.
    let said = said.replace("diskp", "disk");
    serde_json::from_str::<Value>(&said).unwrap()["partitiontable"].clone()
}

/// That sfdisk tells of both disks the same but for the size of one partition.
fn differ_in_size_alone(old: &Path, new: &Path, number: u32, size: u64) {
    let (mut old, new) = (told(old), told(new));
    let node = format!("disk{number}");
    let mut partitions = old["partitions"].as_array_mut().unwrap().iter_mut();
    let last = partitions.find(|partition| partition["node"] == *node).unwrap();
    last["size"] = json!(size / 512);
    if old["label"] == "gpt" {
        old["lastlba"] = new["lastlba"].clone();
    }
    assert_eq!(old, new);
}

fn judge(new: &Path, sector_size: u32) {
    oracle::sgdisk(new, sector_size).expect_clean();
    oracle::fdisk(new, sector_size).expect_clean();
    if sector_size == 512 {
        oracle::sfdisk(new).expect_clean();
    }
    has_no_fault(new);
}

fn has_no_fault(disk: &Path) {
    let report = run(sane_image().args(["inspect", "--json"]).arg(disk)).expect_success();
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["problems"], json!([]));
}

#[test]
fn disks_of_sgdisk() {
    if !need("sgdisk") || !need("sfdisk") {
        return;
    }
    let parts = ["-n14:2048:+3M", "-t14:ef02", "-n15:8192:+8M", "-t15:ef00", "-n1:24576:+8M", "-t1:8304", "-A1:set:59"];
    let large = ["-S", "256", "-n1:2048:+4M", "-n2:0:+20M", "-c2:a name"];
    let hybrid = ["-n1:2048:+4M", "-n2:0:+20M", "-h", "1:2"];
    let whole = ["-n1:2048:+4M", "-n2:0:0", "-u2:11111111-2222-4333-8444-555555555555"];
    for (options, number) in [(&parts[..], 1), (&large, 2), (&hybrid, 2), (&whole, 2)] {
        let disk = blank(64 * MIB);
        tool::run(tool("sgdisk").args(options).arg(disk.path()));
        for size in [MIB, 60 * MIB, 3 << 30, 30 << 30] {
            let new = resized(disk.path(), number, size);
            judge(new.path(), 512);
            if !options.contains(&"-h") {
                differ_in_size_alone(disk.path(), new.path(), number, size);
            }
            // And back: but beyond 8 GB, head and cylinder of the MBR's entry are lost.
            if size < 8 << 30 {
                let again = resized(new.path(), number, 2 * MIB);
                let direct = resized(disk.path(), number, 2 * MIB);
                assert!(fs::read(direct.path()).unwrap() == fs::read(again.path()).unwrap(), "{options:?} {size}");
            }
        }
    }
}

#[test]
fn a_hybrid_of_sgdisk_names_the_partition_as_it_is() {
    if !need("sgdisk") || !need("sfdisk") {
        return;
    }
    let disk = blank(64 * MIB);
    tool::run(tool("sgdisk").args(["-n1:2048:+4M", "-n2:0:+20M", "-h", "2"]).arg(disk.path()));
    for size in [MIB, 40 * MIB, 20 << 30] {
        let new = resized(disk.path(), 2, size);
        // What sgdisk itself writes there for such a disk.
        let theirs = blank(new.as_file().metadata().unwrap().len());
        let part = format!("-n2:10240:{}", 10240 + size / 512 - 1);
        tool::run(tool("sgdisk").args(["-n1:2048:+4M", &part, "-h", "2"]).arg(theirs.path()));
        let mbr = |disk: &NamedTempFile| {
            let mut bytes = [0; 66];
            disk.as_file().read_exact_at(&mut bytes, 446).unwrap();
            bytes
        };
        assert_eq!(mbr(&new), mbr(&theirs), "{size}");
    }
}

#[test]
fn disks_of_sfdisk() {
    if !need("sfdisk") || !need("sgdisk") {
        return;
    }
    for last in ["size=8MiB, name=\"x y\", attrs=\"LegacyBIOSBootable\"", "size=+, name=z", "size=50MiB"] {
        let disk = sfdisk(&format!("label: gpt\nsize=4MiB\n{last}\n"));
        for size in [MIB, 20 * MIB, 12 << 30] {
            let new = resized(disk.path(), 2, size);
            judge(new.path(), 512);
            differ_in_size_alone(disk.path(), new.path(), 2, size);
        }
    }
}

#[test]
fn mbrs_of_sfdisk() {
    if !need("sfdisk") {
        return;
    }
    for (script, number) in [
        ("size=4MiB, type=c\nsize=8MiB, bootable\n", 2),
        ("size=4MiB, type=c\nsize=+, bootable\n", 2),
        ("start=20480, size=8MiB\nstart=4096, size=1MiB\n", 1),
        (
            "start=2048, size=8192, type=5\nstart=10240, size=16384\nstart=26624, size=2048\n\
             start=28672, size=2048, bootable\nstart=4096, size=2048\n",
            4,
        ),
    ] {
        let disk = sfdisk(&format!("label: dos\nlabel-id: 0x2178694e\n{script}"));
        disk.as_file().write_all_at(&[0xc3; 440], 0).unwrap();
        for size in [MIB, 20 * MIB + 512, 12 << 30, 1 << 40] {
            let new = resized(disk.path(), number, size);
            // It counts all that is before partition 1 as taken, and the partitions there once more.
            if number != 1 {
                oracle::sfdisk(new.path()).expect_clean();
            }
            has_no_fault(new.path());
            // As sfdisk makes the same table.
            let theirs = blank(new.as_file().metadata().unwrap().len());
            let mut sfdisk = tool("sfdisk").arg("-q").arg(theirs.path()).stdin(Stdio::piped()).spawn().unwrap();
            let dump = String::from_utf8(tool::run(tool("sfdisk").arg("-d").arg(new.path()))).unwrap();
            sfdisk.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
            assert!(sfdisk.wait().unwrap().success());
            let mbr = |file: &File, from: usize, len: usize| {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, from as u64).unwrap();
                bytes
            };
            assert_eq!(mbr(new.as_file(), 440, 72), mbr(theirs.as_file(), 440, 72), "{script} {size}");
            assert_eq!(mbr(new.as_file(), 0, 440), vec![0xc3; 440]);
        }
    }
}

#[test]
fn sectors_of_4096_bytes() {
    if !need("sgdisk") {
        return;
    }
    let disk = blank(64 * MIB);
    let Some(device) = LoopDevice::of_disk(disk.path(), 4096, Access::ReadWrite) else { return };
    tool::run(tool("sgdisk").args(["-n1:256:+4M", "-n2:0:+20M"]).arg(device.path()));
    drop(device);
    for size in [MIB, 33 * MIB] {
        judge(resized(disk.path(), 2, size).path(), 4096);
    }
}

/// An image that was built with more room, and one whose room was made later: but for the filesystem they are the same.
#[test]
fn ours_are_what_another_build_gives() {
    let hybrid =
        json!([{ "partition": "boot", "type": "0x0c", "bootable": true }, { "partition": "nix", "type": 131 }]);
    let specs = [
        json!({}),
        json!({ "sectorSize": 4096, "bootPartSize": 260 * MIB }),
        json!({ "extraGPTPadding": 16 * MIB, "firstPartGap": 3 * MIB }),
        json!({ "firstPartGap": null, "hybridMbr": hybrid }),
        json!({ "sectorSize": 4096, "bootPartSize": 260 * MIB, "extraGPTPadding": 4096, "hybridMbr": hybrid }),
    ];
    for changes in specs {
        let build = |free: u64| {
            let changes = changes.clone();
            let builder = ClosureBuilder::new().spec(move |spec| {
                spec["nixFreeSpace"] = (free * MIB).into();
                let Value::Object(changes) = changes else { return };
                spec.as_object_mut().unwrap().extend(changes);
            });
            Built::new(&builder.write(), &[])
        };
        let (small, large) = (build(16), build(80));
        let pairs = [(&small, &large), (&large, &small), (&small, &small)];
        // A FAT32 of large sectors is large, and one look at it is enough.
        let looked_at = if changes["sectorSize"] == 4096 { 1 } else { pairs.len() };
        for (from, to) in pairs.into_iter().take(looked_at) {
            let nix = to.nix();
            let new = resized(&from.image, u32::try_from(nix.number).unwrap(), nix.size);
            judge(new.path(), changes["sectorSize"].as_u64().map_or(512, |size| u32::try_from(size).unwrap()));
            let [new, built] = [new.path(), &to.image].map(|path| fs::read(path).unwrap());
            assert_eq!(new.len(), built.len());
            // The ESP is before the nix partition, and the same in both.
            let (start, end) = (index(nix.offset), index(nix.offset + nix.size));
            assert!(new[..start] == built[..start] && new[end..] == built[end..], "{changes}");
        }
    }
}
