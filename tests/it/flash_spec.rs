//! `flash` of a spec: what is on the device is what `build` makes, laid out for it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use sane_image::disk::holes::{self, Before};
use serde_json::{Value, json};

use crate::forms::{closure, of_type, with_bootloader, with_more_partitions};
use crate::support::closure::Closure;
use crate::support::image::{Built, Partition, Run, run, sane_image};
use crate::support::mount::{Access, LoopDevice, Mount};
use crate::support::oracle;
use crate::support::tool::need_root;

const MIB: u64 = 1 << 20;

/// What a test makes of a spec, and the type of the filesystem of the store.
type Host = (&'static str, fn(&mut Value, &str));

const HOSTS: [Host; 5] = [
    ("ext4", |spec, firmware| of_type("ext4", "noatime")(spec, firmware)),
    ("btrfs", |spec, firmware| of_type("btrfs", "noatime")(spec, firmware)),
    ("btrfs", |spec, firmware| of_type("btrfs", "compress=zstd:1")(spec, firmware)),
    ("ext4", with_bootloader),
    ("ext4", |spec, firmware| {
        with_more_partitions(spec, firmware);
        spec["sectorSize"] = 512.into();
    }),
];

/// Of these, no filesystem grows.
const SEALED: [Host; 2] = [("ext4", |spec, _| sealed("ext4", spec)), ("erofs", |spec, _| sealed("erofs", spec))];

fn sealed(fs_type: &str, spec: &mut Value) {
    spec["verity"] = json!({ "architecture": "x86-64" });
    spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
    spec["fileSystems"]["/nix/store"] = json!({ "device": "/dev/mapper/usr", "fsType": fs_type, "options": ["ro"] });
}

fn flash(closure: &Closure, device: &Path, more: &[&str]) -> Command {
    let mut command = sane_image();
    command.arg("flash").arg(closure.spec_path()).arg(device).arg("--yes");
    command.arg("--store-root").arg(closure.root()).args(more);
    command
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(|path| File::open(path).unwrap());
    let len = one.metadata().unwrap().len();
    assert_eq!(len, other.metadata().unwrap().len());
    assert!(holes::differences(Before::File(&one), &other, 0..len).unwrap().is_empty());
}

/// A disk of `size` bytes that was used for something else.
fn used(path: &Path, size: u64) {
    std::io::copy(&mut std::io::repeat(0x55).take(size), &mut File::create(path).unwrap()).unwrap();
}

/// A file is as large as it has to be, and then as large as it is.
#[test]
fn a_file_has_the_image_in_it() {
    for (_, host) in HOSTS.into_iter().chain(SEALED) {
        let closure = closure(host);
        let built = Built::new(&closure, &[]);
        let file = built.scratch().join("card.img");
        let size = fs::metadata(&built.image).unwrap().len();
        let first = run(&mut flash(&closure, &file, &[])).expect_success();
        assert!(first.stdout.contains("read back and compared"), "{}", first.stdout);
        // The contents of a btrfs that is compressed take less than can be known before.
        let made = fs::metadata(&file).unwrap().len();
        if made == size {
            assert_same(&file, &built.image);
        }
        // Over other bytes of the same size, and of a smaller one.
        for old in [size, 5 * MIB] {
            used(&file, old);
            run(&mut flash(&closure, &file, &[])).expect_success();
            if old == size || made == size {
                assert_same(&file, &built.image);
            }
        }
        judge(&file, &closure);
    }
}

fn judge(disk: &Path, closure: &Closure) {
    let registration = closure.root().join("registration-of-the-closure");
    fs::write(&registration, closure.registration()).unwrap();
    oracle::sgdisk(disk, 512).expect_clean();
    run(sane_image().arg("verify").arg(disk).arg("--registration").arg(&registration)).expect_success();
}

/// The partitions of a disk as sfdisk has them.
fn partitions(disk: &Path) -> Vec<Partition> {
    let said = run(sane_image().args(["inspect", "--json"]).arg(disk)).expect_success().stdout;
    let report: Value = serde_json::from_str(&said).unwrap();
    let parts = report["partitions"].as_array().unwrap();
    let number = |part: &Value, name: &str| part[name].as_u64().unwrap();
    let all = parts.iter().map(|part| Partition {
        number: number(part, "number"),
        offset: number(part, "offset"),
        size: number(part, "size"),
    });
    all.collect()
}

/// Old bytes do not show, the nix filesystem has all that is left, and the backup table is at the very end.
#[test]
fn a_used_device_has_all_of_it() {
    if !need_root() {
        return;
    }
    for (fs_type, host) in HOSTS {
        let closure = closure(host);
        let directory = tempfile::tempdir().unwrap();
        let card = directory.path().join("card");
        let size = 600 * MIB + 3 * 512;
        used(&card, size);
        let Some(device) = LoopDevice::of_disk(&card, 512, Access::ReadWrite) else { return };
        let said = run(&mut flash(&closure, device.path(), &[])).expect_success();
        assert!(said.stderr.contains("What will be on it:"), "{}", said.stderr);
        judge(device.path(), &closure);
        let parts = partitions(device.path());
        drop(device);
        let nix = *parts.iter().max_by_key(|part| part.offset).unwrap();
        assert_eq!(nix.offset + nix.size, 599 * MIB, "the last MiB has the backup of the table");
        let mut header = [0; 8];
        File::open(&card).unwrap().read_exact_at(&mut header, size - 512).unwrap();
        assert_eq!(&header, b"EFI PART");
        match fs_type {
            "ext4" => oracle::e2fsck(&card, nix).expect_clean(),
            _ => oracle::btrfs_check(&card, nix).expect_clean(),
        };
        let boot = parts.iter().find(|part| part.size == 512 * MIB || part.size == 300 * MIB);
        boot.into_iter().for_each(|boot| drop(oracle::fsck_fat(&card, *boot).expect_clean()));
        if let Some(mount) = Mount::new(&card, nix, fs_type, Access::ReadWrite) {
            fs::write(mount.path().join("a-new-file"), vec![7; 20 << 20]).unwrap();
        }
        match fs_type {
            "ext4" => oracle::e2fsck(&card, nix).expect_clean(),
            _ => oracle::btrfs_check(&card, nix).expect_clean(),
        };
    }
}

/// The room for partitions may be less than the device; what a spec says of the disk's size does not count.
#[test]
fn sizes_that_are_asked_for() {
    let closure = closure(|spec, _| spec["diskSize"] = (2000 * MIB).into());
    let directory = tempfile::tempdir().unwrap();
    let card = directory.path().join("card.img");
    File::create(&card).unwrap().set_len(900 * MIB).unwrap();
    run(&mut flash(&closure, &card, &["--size", "800000000"])).expect_success();
    judge(&card, &closure);
    let end = partitions(&card).iter().map(|part| part.offset + part.size).max().unwrap();
    assert_eq!(end, 800_000_000 / MIB * MIB - MIB);
    assert_eq!(fs::metadata(&card).unwrap().len(), 900 * MIB);
}

/// Who sees the file sees the keys in it.
#[test]
fn private_files_are_on_it() {
    let closure = closure(|_, _| ());
    let directory = tempfile::tempdir().unwrap();
    let [files, card] = ["files", "card.img"].map(|name| directory.path().join(name));
    fs::create_dir_all(files.join("etc/ssh")).unwrap();
    fs::write(files.join("etc/ssh/key"), "secret").unwrap();
    let extra = ["--extra-files", files.to_str().unwrap(), "--chown", "/etc/ssh/key", "7:8"];
    let mode = || fs::metadata(&card).unwrap().permissions().mode() & 0o777;
    run(&mut flash(&closure, &card, &extra)).expect_success();
    assert_eq!(mode(), 0o600);
    // Also if it was there before, for everybody to read.
    fs::set_permissions(&card, fs::Permissions::from_mode(0o644)).unwrap();
    run(&mut flash(&closure, &card, &extra)).expect_success();
    assert_eq!(mode(), 0o600);
    let key = run(sane_image().arg("cat").arg(&card).args(["nix", "/etc/ssh/key"])).expect_success();
    assert_eq!(key.stdout, "secret");
    judge(&card, &closure);
}

#[track_caller]
fn assert_refused(run: Run, code: i32, words: &[&str]) {
    let said = run.expect_failure(code).stderr;
    for word in words {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let closure = closure(|spec, _| {
        let script =
            "[ -n \"$SANE_IMAGE_REHEARSAL\" ] || printf x | dd of=\"$out/nixos.img\" bs=1 seek=65536 conv=notrunc";
        spec["installBootloader"] = json!(script);
    });
    let directory = tempfile::tempdir().unwrap();
    let card = directory.path().join("card.img");
    assert_refused(run(&mut flash(&closure, &card, &[])), 1, &["wrote nothing in the rehearsal", "build an image"]);
    assert!(!card.exists());
    run(&mut flash(&closure, &card, &["--no-bootloader"])).expect_success();
    // A file that is there is not touched by what fails before.
    let before = fs::read(&card).unwrap();
    let size = ["--size", "50000000"];
    assert_refused(run(&mut flash(&closure, &card, &size)), 1, &["card.img: the device has 50000000 bytes", "too few"]);
    let mut without_yes = flash(&closure, &card, &[]);
    without_yes.args(["--format", "raw"]);
    assert_refused(run(&mut without_yes), 2, &["--format"]);
    let mut unasked = sane_image();
    unasked.arg("flash").arg(closure.spec_path()).arg(&card).arg("--store-root").arg(closure.root());
    assert_refused(run(&mut unasked), 2, &["card.img", "--yes"]);
    assert!(fs::read(&card).unwrap() == before);
    let Some(device) = LoopDevice::of_disk(&card, 4096, Access::ReadWrite) else { return };
    assert_refused(run(&mut flash(&closure, device.path(), &[])), 1, &["sectors of 4096 bytes", "sectorSize = 4096"]);
    drop(device);
    assert!(fs::read(&card).unwrap() == before);
}

/// A file of the store that changes under the hands is told, and a file that was not there is not there.
#[test]
fn a_store_that_changes_is_told() {
    let closure = closure(|_, _| ());
    let path = closure.on_host(&format!("/nix/store/{}", closure.path("noise").base_name()));
    let directory = tempfile::tempdir().unwrap();
    let card = directory.path().join("card.img");
    let mut missing = flash(&closure, &card, &[]);
    fs::remove_file(&path).unwrap();
    assert_refused(run(&mut missing), 1, &["noise"]);
    assert!(!card.exists());
}
