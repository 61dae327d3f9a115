//! `build --format`: files of every form hold the disk of the raw image, byte for byte, however they were made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sane_image::disk::holes::{self, Before};
use sane_image::formats::Format;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::convert::bmap_copy;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Run, build_command, run, sane_image};
use crate::support::mount::MountPoint;
use crate::support::oracle;
use crate::support::tool::{need, need_root, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;

/// Files of all kinds: small and large, with holes, of zeros, of what cannot be compressed, and empty ones.
pub(crate) fn closure(change: impl FnOnce(&mut Value, &str) + 'static) -> Closure {
    let small = (0..300).map(|i| (format!("small-{i}"), Entry::file(format!("number {i}\n").repeat(i))));
    let chunks = BTreeMap::from([(5 * MIB + 100, vec![1; 9000]), (11 * MIB - 1, vec![2])]);
    let builder = ClosureBuilder::new()
        .path("small", Entry::dir(small))
        .path("noise", Entry::of(Contents::Pattern { seed: 7, len: 9 * MIB + 4097 }))
        .path("holes", Entry::of(Contents::Sparse { len: 11 * MIB, chunks }))
        .path("zeros", Entry::of(Contents::zeros(3 * MIB)))
        .path("text", Entry::dir([("all", Entry::file("the same again ".repeat(400_000))), ("none", Entry::file(""))]))
        .path("link", Entry::Symlink(vec![b'x'; 300]))
        .path("firmware", Entry::of(Contents::Pattern { seed: 8, len: 70_001 }));
    let firmware = builder.store_path("firmware").to_owned();
    builder
        .spec(move |spec| {
            spec["populateCmd"] = json!("mkdir -p files/boot; seq 300000 > files/boot/kernel; true");
            change(spec, &firmware);
        })
        .write()
}

pub(crate) fn of_type(fs_type: &'static str, options: &'static str) -> impl Fn(&mut Value, &str) + Copy + 'static {
    move |spec, _| {
        spec["fileSystems"]["/"]["fsType"] = fs_type.into();
        spec["fileSystems"]["/"]["options"] = json!([options]);
    }
}

/// Partitions with contents, with a swap area, with nothing; sectors of 4096 bytes.
pub(crate) fn with_more_partitions(spec: &mut Value, firmware: &str) {
    const SWAP: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
    const OTHER: &str = "fe3a2a5d-4f32-41a7-b725-accc3285a309";
    spec["sectorSize"] = 4096.into();
    spec["bootPartSize"] = (300 * MIB).into();
    spec["extraPartitions"] = json!([
        { "name": "swap", "typeGuid": SWAP, "size": 5 * MIB },
        { "name": "firmware", "typeGuid": OTHER, "size": 2 * MIB, "contents": firmware, "place": "beforeBoot" },
        { "name": "data", "typeGuid": OTHER, "size": 40 * MIB },
    ]);
}

/// A boot loader in the gap before the first partition.
pub(crate) fn with_bootloader(spec: &mut Value, _: &str) {
    spec["installBootloader"] = json!("seq 9000 | dd of=\"$out/nixos.img\" bs=1024 seek=64 conv=notrunc status=none");
}

fn file(out: &Path, format: Format) -> PathBuf {
    out.join(format!("nixos{}", format.suffix()))
}

fn build(closure: &Closure, out: &Path, formats: &[Format], more: &[&str]) -> Run {
    let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
    let names = names.join(",");
    let arguments: Vec<_> = ["--format", &names].into_iter().chain(more.iter().copied()).collect();
    run(&mut build_command(&closure.spec_path(), closure.root(), out, &arguments))
}

/// All forms but the raw image, in sets that can lie in one directory.
const SETS: [&[Format]; 3] =
    [&[Format::Zst, Format::Qcow2, Format::Vmdk, Format::Vhd, Format::Vhdx], &[Format::Qcow2Zstd], &[Format::Gce]];

/// Whether there are disks with such sectors in files of a form.
fn has(format: Format, sector_size: &Value) -> bool {
    *sector_size != 4096 || !matches!(format, Format::Vmdk | Format::Vhd | Format::Gce)
}

/// That a file has the raw image's disk, as other programs read it.
#[track_caller]
fn assert_holds(format: Format, file: &Path, raw: &Path, sector_size: &Value) {
    match format {
        Format::Raw => assert_eq!(file, raw),
        Format::Zst => oracle::zstd(file, raw).expect_clean().map_or((), drop),
        Format::Gce => oracle::gce(file, raw).expect_clean().map_or((), drop),
        _ => {
            let name = match format {
                Format::Vhd => "vpc",
                Format::Vhdx => "vhdx",
                Format::Vmdk => "vmdk",
                _ => "qcow2",
            };
            // QEMU has no check of fixed VHDs, and no VHDX with sectors of 4096 bytes.
            if format == Format::Vhdx && *sector_size == 4096 {
                return;
            }
            if format != Format::Vhd {
                oracle::qemu_img_check(file, name).expect_clean();
            }
            oracle::qemu_img_compare(raw, file, name).expect_clean();
        }
    }
}

/// Builds a host in all forms, together and each alone.
fn assert_forms(change: impl Fn(&mut Value, &str) + Copy + 'static) {
    for set in SETS {
        let closure = closure(move |spec, firmware| {
            change(spec, firmware);
            if set.contains(&Format::Gce) {
                // Which the raw image shall have, too.
                spec["diskSize"] = (1 << 30).into();
            }
        });
        let sector_size = &closure.spec["sectorSize"];
        let set: Vec<_> = set.iter().copied().filter(|format| has(*format, sector_size)).collect();
        let dir = TempDir::new().unwrap();
        let (together, alone) = (dir.path().join("together"), dir.path().join("alone"));
        build(&closure, &together, &[&[Format::Raw], &set[..]].concat(), &["--verify"]).expect_success();
        for format in set {
            let made = file(&together, format);
            assert_holds(format, &made, &file(&together, Format::Raw), sector_size);
            build(&closure, &alone, &[format], &["--jobs", "5"]).expect_success();
            assert!(same(&made, &file(&alone, format)), "{format} is another one with --jobs 5");
            assert_eq!(fs::read_dir(&alone).unwrap().count(), 2, "{format} and layout.json");
            fs::remove_dir_all(&alone).unwrap();
        }
    }
}

#[test]
fn every_form_holds_an_ext4() {
    assert_forms(of_type("ext4", "noatime"));
}

#[test]
fn every_form_holds_more_partitions() {
    assert_forms(with_more_partitions);
}

#[test]
fn every_form_holds_what_an_installer_wrote() {
    assert_forms(with_bootloader);
}

#[test]
fn every_form_holds_a_btrfs() {
    assert_forms(of_type("btrfs", "noatime"));
}

#[test]
fn every_form_holds_a_compressed_btrfs() {
    assert_forms(of_type("btrfs", "compress=zstd:1"));
}

fn same(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(|path| File::open(path).unwrap());
    let len = one.metadata().unwrap().len();
    len == other.metadata().unwrap().len() && holes::differences(Before::File(&one), &other, 0..len).unwrap().is_empty()
}

/// What a test makes of a spec, and the firmware's store path.
type Change = Box<dyn Fn(&mut Value, &str)>;

/// A card that is full of something else is right after `bmaptool copy`, which writes nothing where the disk is free.
#[test]
fn old_bytes_of_a_card_do_not_show() {
    if !need_root() || !need("bmaptool") {
        return;
    }
    let hosts: [(&str, Change); 4] = [
        ("ext4", Box::new(of_type("ext4", "noatime"))),
        ("btrfs", Box::new(of_type("btrfs", "compress=zstd:1"))),
        ("ext4", Box::new(with_bootloader)),
        (
            "ext4",
            Box::new(|spec, firmware| {
                with_more_partitions(spec, firmware);
                spec["sectorSize"] = 512.into();
            }),
        ),
    ];
    for (fs_type, host) in hosts {
        let closure = closure(move |spec, firmware| host(spec, firmware));
        let built = Built::new(&closure, &["--format", "raw,zst", "--bmap", "--verify"]);
        let map = built.image.with_extension("img.bmap");
        let size = fs::metadata(&built.image).unwrap().len();
        for format in [Format::Raw, Format::Zst] {
            let Some((copied, disk)) = bmap_copy(&file(built.image.parent().unwrap(), format), &map, size) else {
                return;
            };
            assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
            let card = disk.path().join("disk");
            assert!(!same(&card, &built.image), "nothing was left alone");
            oracle::sgdisk(&card, 512).expect_clean();
            oracle::fsck_fat(&card, built.boot()).expect_clean();
            match fs_type {
                "ext4" => oracle::e2fsck(&card, built.nix()).expect_clean(),
                _ => oracle::btrfs_check(&card, built.nix()).expect_clean(),
            };
            run(sane_image().arg("verify").arg(&card)).expect_success();
            run(sane_image().arg("diff").arg(&built.image).arg(&card)).expect_success();
        }
    }
}

/// What the judges of this test are worth.
#[test]
fn a_wrong_byte_is_seen() {
    let closure = closure(|_, _| {});
    let dir = TempDir::new().unwrap();
    build(&closure, dir.path(), &[Format::Raw, Format::Zst, Format::Qcow2], &[]).expect_success();
    let raw = file(dir.path(), Format::Raw);
    for format in [Format::Zst, Format::Qcow2] {
        let path = file(dir.path(), format);
        let made = File::options().read(true).write(true).open(&path).unwrap();
        // In the middle of what the disk holds.
        let at = made.metadata().unwrap().len() / 2;
        let mut byte = [0];
        made.read_exact_at(&mut byte, at).unwrap();
        made.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
        match format {
            Format::Zst => oracle::zstd(&path, &raw).expect_damage(),
            _ => oracle::qemu_img_compare(&raw, &path, "qcow2").expect_damage(),
        }
    }
    // The first entry of the table of blocks of counts.
    let qcow2 = File::options().write(true).open(file(dir.path(), Format::Qcow2)).unwrap();
    qcow2.write_all_at(&[0; 8], 1 << 16).unwrap();
    oracle::qemu_img_check(&file(dir.path(), Format::Qcow2), "qcow2").expect_damage();
}

#[test]
fn a_stream_is_the_file() {
    for fs_type in ["ext4", "btrfs"] {
        let closure = closure(of_type(fs_type, "noatime"));
        let dir = TempDir::new().unwrap();
        let streams = [Format::Raw, Format::Zst];
        build(&closure, dir.path(), &streams, &[]).expect_success();
        for format in streams {
            let mut command =
                build_command(&closure.spec_path(), closure.root(), Path::new("-"), &["--format", format.name()]);
            let output = command.current_dir(dir.path()).output().unwrap();
            assert!(output.status.success());
            assert!(output.stdout == fs::read(file(dir.path(), format)).unwrap(), "{fs_type}: another {format}");
        }
        assert!(!dir.path().join("-").exists());
    }
}

#[test]
fn a_stream_that_nobody_reads_to_its_end_has_failed() {
    let closure = closure(|_, _| {});
    let mut command = build_command(&closure.spec_path(), closure.root(), Path::new("-"), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the reader ended early"), "{said}");
}

#[test]
fn what_cannot_be_is_told() {
    let closure = closure(|_, _| {});
    let dir = TempDir::new().unwrap();
    let refused = |out: &Path, arguments: &[&str], why: &str| {
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), out, arguments)).expect_failure(2);
        assert!(run.stderr.contains(why), "{arguments:?}: {}", run.stderr);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?} left something");
    };
    let (out, stream) = (&dir.path().join("out"), Path::new("-"));
    refused(out, &["--format", "qcow"], "qcow2");
    refused(out, &["--format", "zst", "--level", "23"], "zst has levels from 1 to 22");
    refused(out, &["--format", "raw", "--level", "3"], "leave it out");
    refused(out, &["--format", "qcow2,qcow2+zstd"], "both files would be called <name>.qcow2");
    refused(out, &["--format", "gce,qcow2", "--only", "nix"], "--only writes a bare filesystem, not qcow2");
    refused(out, &["--format", "gce", "--level", "9", "--only", "nix"], "--level");
    refused(stream, &["--format", "qcow2"], "raw and zst");
    refused(stream, &["--format", "raw,zst"], "--out - takes one form");
    let large = dir.path().join("large.json");
    let mut spec = closure.spec.clone();
    spec["sectorSize"] = 4096.into();
    fs::write(&large, spec.to_string()).unwrap();
    let run_large = run(&mut build_command(&large, closure.root(), out, &["--format", "raw,vmdk"])).expect_failure(2);
    assert!(run_large.stderr.contains("vmdk has sectors of 512 bytes only") && !out.exists(), "{}", run_large.stderr);
    fs::remove_file(&large).unwrap();
    refused(out, &["--format", "qcow2", "--bmap"], "--bmap is for raw and zst");
    refused(stream, &["--bmap"], "--bmap writes a file beside the image");
    refused(stream, &["--verify"], "--verify");
    refused(stream, &["--only", "nix"], "--out - takes one form of the whole disk");
}

/// A disk too small for any form: a tmpfs of 4 MiB.
#[test]
fn a_full_disk_leaves_nothing() {
    if !need_root() || !need("mount") {
        return;
    }
    let closure = closure(|_, _| {});
    let point = TempDir::new().unwrap();
    let mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=4m", "none"], point.path());
    let tries = Format::ALL.map(|format| {
        let said = build(&closure, &point.path().join("out"), &[format], &[]);
        (format, said, fs::read_dir(point.path()).unwrap().count())
    });
    drop(mounted);
    for (format, run, left) in tries {
        let said = run.expect_failure(1).stderr;
        assert!(said.contains("No space left on device") && left == 0, "{format}: {left} left: {said}");
    }
}

/// A guest of QEMU reads the disk as it is.
#[test]
fn qemu_io_reads_what_is_there() {
    if !need("qemu-io") {
        return;
    }
    let closure = closure(|_, _| {});
    let dir = TempDir::new().unwrap();
    build(&closure, dir.path(), &[Format::Qcow2], &[]).expect_success();
    let mut io: Command = tool("qemu-io");
    io.args(["-r", "-f", "qcow2", "-c", "read -P 0 0 446", "-c", "read -v 510 2"]).arg(file(dir.path(), Format::Qcow2));
    let said = String::from_utf8(io.output().unwrap().stdout).unwrap();
    assert!(!said.contains("verification failed") && said.contains("55 aa"), "{said}");
}
