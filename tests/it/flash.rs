//! `flash`: what is on a device afterwards is what others find right, whatever was on it, and whoever stops it on the way
//! leaves no device that could be taken for a good one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sane_image::flash::{ImageSource, Locate};
use sane_image::formats::Format;
use sane_image::progress::Silent;
use sane_image::units::ByteOffset;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::containers::FORMS;
use crate::judge::expected;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::foreign::{mkfs_ext4, mkfs_fat, plain_tree};
use crate::support::image::{Built, Partition, Run, run, sane_image, with_signals};
use crate::support::mount::{Access, LoopDevice, Mount, MountPoint};
use crate::support::oracle::{self, whole};
use crate::support::slow::Slow;
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;
/// What is on a device that was used before.
const OLD: u8 = 0x55;

fn flash_command(source: &Path, device: &Path, arguments: &[&str]) -> Command {
    let mut command = sane_image();
    command.arg("flash").args([source, device]).arg("--yes").args(arguments);
    command
}

fn flash(source: &Path, device: &Path, arguments: &[&str]) -> Run {
    run(&mut flash_command(source, device, arguments)).expect_success()
}

#[track_caller]
fn assert_refused(command: &mut Command, code: i32, words: &[&str]) {
    assert_one_error(&run(command).expect_failure(code), words);
}

#[track_caller]
fn assert_one_error(run: &Run, words: &[&str]) {
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    words.iter().for_each(|word| assert!(errors[0].contains(word), "no {word:?} in {}", errors[0]));
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// A file full of what was there before.
fn used(directory: &Path, size: u64) -> PathBuf {
    let path = directory.join("used");
    let file = File::create(&path).unwrap();
    let bytes = vec![OLD; 1 << 20];
    for at in (0..size).step_by(1 << 20) {
        let len = usize::try_from((size - at).min(MIB)).unwrap();
        file.write_all_at(&bytes[..len], at).unwrap();
    }
    path
}

fn closure(sector_size: u64) -> Closure {
    let contents = |seed: u64, len: u64| Entry::of(Contents::Pattern { seed, len });
    ClosureBuilder::new()
        .path("large", contents(3, 9 * MIB + 77))
        .path("files", Entry::dir((0..300_u64).map(|i| (format!("file-{i}"), contents(i, 100 * i)))))
        .path("zeros", Entry::of(Contents::zeros(3 << 20)))
        .spec(move |spec| {
            spec["sectorSize"] = sector_size.into();
            spec["bootPartSize"] = (48 * MIB).max(sector_size * 70_000).into();
            spec["nixFreeSpace"] = (32 * MIB).into();
        })
        .write()
}

/// The partitions as `inspect` finds them.
fn partitions(disk: &Path) -> Vec<Partition> {
    let said = run(sane_image().args(["inspect", "--json"]).arg(disk)).expect_success().stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["problems"], json!([]));
    let number = |value: &Value| value.as_u64().unwrap();
    let partitions = said["partitions"].as_array().unwrap().iter().map(|partition| Partition {
        number: number(&partition["number"]),
        offset: number(&partition["offset"]),
        size: number(&partition["size"]),
    });
    partitions.collect()
}

/// Has every oracle judge a disk, or a device, that a closure's image was flashed to.
fn judge(disk: &Path, sector_size: u32, built: &Built, closure: &Closure, size: u64) {
    oracle::sgdisk(disk, sector_size).expect_clean();
    oracle::fdisk(disk, sector_size).expect_clean();
    run(sane_image().arg("verify").arg(disk)).expect_success();
    let found = partitions(disk);
    let [boot, nix] = found[..] else { panic!("{found:?}") };
    assert_eq!((boot, nix.offset), (built.boot(), built.nix().offset));
    // All but the table and less than a MiB is the partition's.
    let room = size - nix.offset;
    assert!(
        nix.size <= room - 34 * 512 && (nix.size + 2 * MIB > room || nix.size == built.nix().size),
        "{nix:?} {size}"
    );
    oracle::fsck_fat(disk, boot).expect_clean();
    oracle::e2fsck(disk, nix).expect_clean();
    if let Some(mount) = Mount::new(disk, nix, "ext4", Access::ReadOnly) {
        expected(closure, "nix/store").assert_equals(mount.path());
    }
}

// ---- devices and files

#[test]
fn used_devices_are_right_whatever_was_on_them() {
    for sector_size in [512_u32, 4096] {
        let closure = closure(sector_size.into());
        let built = Built::new(&closure, &[]);
        let image = fs::metadata(&built.image).unwrap().len();
        for more in [0, u64::from(sector_size), 7 * MIB + 3 * 4096 + if sector_size == 512 { 512 } else { 0 }] {
            let size = image + more;
            let used = used(built.scratch(), size);
            let Some(device) = LoopDevice::of_disk(&used, sector_size, Access::ReadWrite) else { return };
            let said = flash(&built.image, device.path(), &[]);
            assert!(
                said.stdout.contains("read back and compared") && said.stdout.lines().count() == 1,
                "{}",
                said.stdout
            );
            drop(device);
            judge(&used, sector_size, &built, &closure, size);
            if more == 0 {
                assert!(same_where_read(&used, &built.image), "{sector_size}");
            }
        }
    }
}

/// Whether a disk has all that `convert` takes for used of an image: its raw copies are compared.
fn same_where_read(disk: &Path, image: &Path) -> bool {
    let [one, other] = [disk, image].map(|disk| {
        let raw = disk.with_extension("raw");
        run(sane_image().arg("convert").arg(disk).args(["--format", "raw", "--out"]).arg(&raw)).expect_success();
        let bytes = fs::read(&raw).unwrap();
        fs::remove_file(&raw).unwrap();
        bytes
    });
    one == other
}

#[test]
fn files_are_made_and_written_in_place() {
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let at = |name: &str| built.scratch().join(name);
    let image = fs::read(&built.image).unwrap();
    let said = flash(&built.image, &at("new"), &[]).stdout;
    assert!(said.starts_with(&format!("{}: ", at("new").display())), "{said}");
    assert!(fs::read(at("new")).unwrap() == image);
    assert!(fs::metadata(at("new")).unwrap().blocks() * 512 < image.len() as u64 / 2, "free space is holes");
    // Too short a file gets the image's size, a longer one keeps its own, whatever number that is.
    fs::write(at("new"), vec![OLD; 5_000_000]).unwrap();
    let node = fs::metadata(at("new")).unwrap().ino();
    flash(&built.image, &at("new"), &["--no-verify"]);
    assert!(fs::read(at("new")).unwrap() == image && fs::metadata(at("new")).unwrap().ino() == node);
    let size = image.len() as u64 + 5 * MIB + 1536;
    let odd = used(built.scratch(), size);
    flash(&built.image, &odd, &["--jobs", "1"]);
    judge(&odd, 512, &built, &closure, size);
    // --size: the partition ends there at the latest, and a new file is as large.
    let limit = image.len() as u64 + 3 * MIB;
    flash(&built.image, &odd, &["--size", &limit.to_string()]);
    let end = |disk: &Path| partitions(disk).last().map(|last| last.offset + last.size).unwrap();
    assert!((limit - MIB..=limit).contains(&end(&odd)));
    oracle::sgdisk(&odd, 512).expect_clean();
    flash(&built.image, &at("sized"), &["--size", &limit.to_string()]);
    assert_eq!(fs::metadata(at("sized")).unwrap().len(), limit);
    oracle::sgdisk(&at("sized"), 512).expect_clean();
}

#[test]
fn every_form_is_a_source() {
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let (packed, card) = (built.scratch().join("packed"), built.scratch().join("card"));
    let size = fs::metadata(&built.image).unwrap().len();
    let mut wanted = None;
    let mut same = |what: &str| {
        flash(&packed, &card, &["--size", &(size + 9 * MIB).to_string()]);
        let bytes = fs::read(&card).unwrap();
        assert!(*wanted.get_or_insert_with(|| bytes.clone()) == bytes, "{what}");
        fs::remove_file(&card).unwrap();
    };
    for format in Format::ALL.into_iter().filter(|format| size.is_multiple_of(format.unit())).map(Format::name) {
        // A gzipped tar is read by nobody here.
        if format != "gce" {
            run(sane_image().arg("convert").arg(&built.image).args(["--format", format, "--out"]).arg(&packed))
                .expect_success();
            same(format);
        }
    }
    if need("qemu-img") {
        for (arguments, ..) in FORMS {
            run_tool(tool("qemu-img").args(["convert", "-f", "raw"]).args(arguments).args([&built.image, &packed]));
            // The fixed VHD of qemu-img has a size of its own.
            if !arguments.contains(&"vpc") {
                same(&arguments.join(" "));
            }
        }
    }
}

#[test]
fn a_btrfs_gets_the_room() {
    let closure = ClosureBuilder::new()
        .path("large", Entry::of(Contents::Pattern { seed: 3, len: 9 * MIB + 77 }))
        .spec(|spec| {
            spec["fileSystems"]["/"]["fsType"] = "btrfs".into();
            spec["fileSystems"]["/"]["options"] = json!(["compress=zstd:1"]);
            spec["bootPartSize"] = (48 * MIB).into();
        })
        .write();
    let built = Built::new(&closure, &[]);
    // The kernel makes no btrfs of less than 256 MiB larger.
    let size = fs::metadata(&built.image).unwrap().len() + 300 * MIB + 512;
    let card = used(built.scratch(), 64 * MIB);
    File::options().write(true).open(&card).unwrap().set_len(size).unwrap();
    flash(&built.image, &card, &[]);
    oracle::sgdisk(&card, 512).expect_clean();
    let nix = partitions(&card)[1];
    assert!(nix.size >= built.nix().size + 298 * MIB);
    oracle::btrfs_check(&card, nix).expect_clean();
    if let Some(mount) = Mount::new(&card, nix, "btrfs", Access::ReadWrite) {
        run_tool(tool("btrfs").args(["filesystem", "resize", "max"]).arg(mount.path()));
    }
    oracle::btrfs_check(&card, nix).expect_clean();
}

#[test]
fn disks_of_others_fit_too() {
    if !need("sfdisk") || !need("sgdisk") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tree, boot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plain_tree(tree.path());
    fs::write(boot.path().join("config.txt"), "arm_64bit=1\n").unwrap();
    let (Some(fat), Some(ext4)) = (mkfs_fat(boot.path(), "32"), mkfs_ext4(tree.path(), &[])) else { return };
    let [fat_size, ext4_size] = [&fat, &ext4].map(|file| whole(file.path()).size);
    let (fat_at, ext4_at) = (MIB, (MIB + fat_size).next_multiple_of(MIB));
    let image = directory.path().join("disk");
    let script = format!(
        "start={}, size={}, type=c\nstart={}, size={}, type=83\n",
        fat_at / 512,
        fat_size / 512,
        ext4_at / 512,
        ext4_size / 512
    );
    for label in ["dos", "gpt"] {
        fs::write(&image, "").unwrap();
        let file = File::options().write(true).open(&image).unwrap();
        file.set_len((ext4_at + ext4_size).next_multiple_of(MIB) + MIB).unwrap();
        let script =
            if label == "gpt" { script.replace(", type=c", "").replace(", type=83", "") } else { script.clone() };
        let mut sfdisk =
            tool("sfdisk").args(["-q", "--label", label]).arg(&image).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        file.write_all_at(&fs::read(fat.path()).unwrap(), fat_at).unwrap();
        file.write_all_at(&fs::read(ext4.path()).unwrap(), ext4_at).unwrap();
        let card = used(directory.path(), (ext4_at + ext4_size).next_multiple_of(MIB) + 20 * MIB + 512);
        flash(&image, &card, &[]);
        oracle::sfdisk(&card).expect_clean();
        let [boot, root] = partitions(&card)[..] else { panic!("{label}") };
        assert!(root.offset + root.size >= fs::metadata(&card).unwrap().len() - 2 * MIB, "{label} {root:?}");
        oracle::fsck_fat(&card, boot).expect_clean();
        oracle::e2fsck(&card, root).expect_clean();
    }
    // Neither a table nor room to give: as it is.
    let card = used(directory.path(), ext4_size + 3 * MIB + 512);
    flash(ext4.path(), &card, &[]);
    oracle::e2fsck(&card, Partition { size: ext4_size, ..whole(&card) }).expect_clean();
    assert!(same_where_read(&card, &card));
}

/// A byte on a device is named by the file that it is in.
#[test]
fn files_are_found_by_their_bytes() {
    for fs_type in ["ext4", "btrfs"] {
        let closure = ClosureBuilder::new()
            .path("large", Entry::of(Contents::Pattern { seed: 3, len: 3 * MIB + 77 }))
            .path("other", Entry::of(Contents::Pattern { seed: 4, len: 2 * MIB + 77 }))
            .spec(move |spec| {
                spec["fileSystems"]["/"]["fsType"] = fs_type.into();
                spec["populateCmd"] = json!("f() { printf '%9000s' boots > kernel; }; f");
                spec["bootPartSize"] = (48 * MIB).into();
            })
            .write();
        let built = Built::new(&closure, &[]);
        let source = ImageSource::open(&built.image, NonZeroUsize::MIN, &Silent).unwrap();
        let image = fs::read(&built.image).unwrap();
        let boots = image.windows(5).position(|bytes| bytes == b"boots").unwrap() as u64;
        let mut other = vec![0; 2 << 20];
        Contents::Pattern { seed: 4, len: 2 * MIB + 77 }.fill(0, &mut other);
        let start = image.chunks(4096).position(|block| *block == other[..4096]).unwrap() as u64 * 4096;
        let store_path = &closure.path("other").path[1..];
        for (at, file) in [(boots, "kernel"), (start, store_path), (start + MIB + 5, store_path)] {
            let said = source.locate(ByteOffset(at)).unwrap();
            assert!(said.ends_with(&format!("), in {file}")), "{fs_type}: {said} at {at}");
        }
        assert!(!source.locate(ByteOffset(built.nix().offset)).unwrap().contains(", in "));
        assert_eq!(source.locate(ByteOffset(0)), None);
    }
}

// ---- what is refused

#[test]
fn what_cannot_be_written_to_is_told() {
    let built = crate::containers::example();
    let at = |name: &str| built.scratch().join(name);
    // Where nothing was, nothing is lost.
    let ask = |device: &Path| {
        let mut command = sane_image();
        command.arg("flash").args([&built.image, device]);
        command
    };
    run(&mut ask(&at("card"))).expect_success();
    assert_refused(&mut ask(&at("card")), 2, &["card: everything on it would be lost", "no terminal", "--yes"]);
    fs::remove_file(at("card")).unwrap();
    let refuse = |source: &Path, device: &Path, arguments: &[&str], code: i32, words: &[&str]| {
        assert_refused(&mut flash_command(source, device, arguments), code, words);
    };
    refuse(&built.image, Path::new("/dev/null"), &[], 1, &["/dev/null: is a character device"]);
    refuse(&built.image, built.scratch(), &[], 1, &["is a directory, not a disk; name a block device"]);
    refuse(&built.image, Path::new("/dev/sane-image-none"), &[], 1, &["there is no such device; leave DEVICE out"]);
    refuse(&built.image, &built.image, &[], 1, &["is the source itself"]);
    refuse(&at("none"), &at("card"), &[], 1, &["none"]);
    let small = ["--size", "1000000"];
    refuse(&built.image, &at("card"), &small, 1, &["card: the device has 1000000 bytes, ", " too few"]);
    let own = ["--extra-files", built.scratch().to_str().unwrap()];
    refuse(&built.image, &at("card"), &own, 2, &["sane-image add"]);
    assert!(!at("card").exists(), "nothing is left of what was made for it");
    let image = fs::read(&built.image).unwrap();
    assert!(image == fs::read(&built.image).unwrap());
    // A file that was there is as it was.
    fs::write(at("card"), "short").unwrap();
    refuse(&at("none"), &at("card"), &[], 1, &["none"]);
    assert_eq!(fs::read(at("card")).unwrap(), b"short");
}

#[test]
fn devices_that_will_not_do_are_left_alone() {
    let built = crate::containers::example();
    let size = fs::metadata(&built.image).unwrap().len();
    let card = used(built.scratch(), size - 8 * MIB);
    let before = fs::read(&card).unwrap();
    let Some(device) = LoopDevice::of_disk(&card, 512, Access::ReadWrite) else { return };
    assert_refused(
        &mut flash_command(&built.image, device.path(), &[]),
        1,
        &[" too few: this needs ", "use a larger one"],
    );
    drop(device);
    let device = LoopDevice::of_disk(&card, 4096, Access::ReadWrite).unwrap();
    let words = ["sectors of 4096 bytes", "sectorSize = 4096"];
    assert_refused(&mut flash_command(&built.image, device.path(), &[]), 1, &words);
    drop(device);
    let device = LoopDevice::of_disk(&card, 512, Access::ReadOnly).unwrap();
    assert_refused(&mut flash_command(&built.image, device.path(), &[]), 1, &["is read-only"]);
    drop(device);
    assert!(fs::read(&card).unwrap() == before);
    let device = LoopDevice::of_disk(&built.image, 512, Access::ReadWrite).unwrap();
    assert_refused(&mut flash_command(&built.image, device.path(), &[]), 1, &["is the source itself"]);
    assert_refused(&mut flash_command(device.path(), &built.image, &[]), 1, &["is attached to"]);
    drop(device);
    let other = built.scratch().join("other.img");
    fs::copy(&built.image, &other).unwrap();
    if let Some(mount) = Mount::new(&other, built.nix(), "ext4", Access::ReadWrite) {
        assert_refused(
            &mut flash_command(&built.image, mount.device(), &[]),
            1,
            &["is mounted at", "first run `umount"],
        );
    }
}

// ---- what goes wrong on the way

/// A device on a filesystem that is full sooner or later.
#[test]
fn a_write_error_is_told_with_its_place_and_state() {
    if !need_root() || !need("mount") {
        return;
    }
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let size = fs::metadata(&built.image).unwrap().len();
    let directory = built.scratch().join("small");
    fs::create_dir(&directory).unwrap();
    let _mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=12m", "none"], &directory);
    let backing = directory.join("backing");
    File::create(&backing).unwrap().set_len(size).unwrap();
    let device = LoopDevice::of_disk(&backing, 512, Access::ReadWrite).unwrap();
    let words = [" at byte ", "is not usable: it has no partition table", "run the command again"];
    assert_refused(&mut flash_command(&built.image, device.path(), &[]), 1, &words);
    assert!(!has_table(device.path()));
    drop(device);
    // A file that is made for it goes again.
    fs::remove_file(&backing).unwrap();
    let words = ["No space left on device", "make room", "was removed; it did not exist before"];
    assert_refused(&mut flash_command(&built.image, &backing, &[]), 1, &words);
    assert!(!backing.exists());
}

fn has_table(disk: &Path) -> bool {
    let file = File::open(disk).unwrap();
    let starts = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes == *b"EFI PART"
    };
    let mut file = &file;
    let size = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    let found = starts(512) || starts(size - 512);
    let theirs = need("blkid").then(|| tool("blkid").args(["-p", "-s", "PTTYPE"]).arg(disk).output().unwrap().stdout);
    let theirs = theirs.map(|said| String::from_utf8_lossy(&said).contains("PTTYPE"));
    assert!(found || theirs != Some(true), "blkid finds a table");
    found
}

/// The signal that a program sends itself, told from one that somebody sent, by its exit code in a shell.
fn start(command: &mut Command) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Somebody pulls the plug, twenty times: no table is there before all else is.
#[test]
fn a_kill_at_any_moment_leaves_no_table() {
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let size = fs::metadata(&built.image).unwrap().len() + 5 * MIB;
    let card = used(built.scratch(), size);
    let device =
        if rustix::process::geteuid().is_root() { LoopDevice::of_disk(&card, 512, Access::ReadWrite) } else { None };
    let disk = device.as_ref().map_or(card.as_path(), LoopDevice::path);
    let started = Instant::now();
    flash(&built.image, disk, &[]);
    let whole = u64::try_from(started.elapsed().as_micros()).unwrap();
    let (mut state, mut found) = (0x5eed_u64, Vec::new());
    for _ in 0..20 {
        fs::write(&card, "").unwrap();
        used(built.scratch(), size);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (mut child, lines) = start(&mut flash_command(&built.image, disk, &[]));
        thread::sleep(Duration::from_micros((state >> 33) % whole));
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        let lines: Vec<_> = lines.collect();
        let killed = child.wait().unwrap().signal() == Some(9);
        let was_written = !killed || lines.iter().any(|line| line.contains("writing the partition table"));
        let has_table = has_table(disk);
        assert!(was_written || !has_table, "{lines:?}");
        if has_table && !lines.iter().any(|line| line.contains("writing the partition table")) {
            panic!("a table too early: {lines:?}");
        }
        if lines.iter().any(|line| line.contains("reading back")) {
            assert!(has_table);
            run(sane_image().arg("verify").arg(disk)).expect_success();
        }
        found.push(has_table);
    }
    println!("with a table: {found:?}");
    assert!(found.contains(&false));
    // And the next run makes it good.
    flash(&built.image, disk, &[]);
    drop(device);
    judge(&card, 512, &built, &closure, size);
}

/// A device of 4 MB/s is done with what it has in its hands soon after the signal, and says how it is left.
#[test]
fn a_stop_is_soon_and_tells_the_state() {
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let size = fs::metadata(&built.image).unwrap().len();
    let card = used(built.scratch(), size);
    let Some(device) = LoopDevice::of_disk(&card, 512, Access::ReadWrite) else { return };
    for (stage, state, has) in [("writing:", "no partition table", false), ("reading back", "was not compared", true)] {
        let slow = if has { (4 << 20, u64::MAX >> 1) } else { (u64::MAX >> 1, 4 << 20) };
        let Some(slow) = Slow::new(device.path(), slow.0, slow.1) else { return };
        let command = with_signals(&flash_command(&built.image, device.path(), &[]), "--default-signal=INT,TERM");
        let (mut child, mut lines) = start(&mut slow.command(&command));
        assert!(lines.by_ref().any(|line| line.contains(stage)), "{stage}");
        thread::sleep(Duration::from_millis(500));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let last = lines.last().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(2), "{last}");
        assert!(last.contains("stopped by signal 2; ") && last.contains(state), "{last}");
        assert_eq!(has_table(device.path()), has);
    }
}

/// A bit that turns on the device between writing and reading is found, named and not left to be booted from.
#[test]
fn a_device_that_forgets_is_found_out() {
    let closure = closure(512);
    let built = Built::new(&closure, &[]);
    let size = fs::metadata(&built.image).unwrap().len();
    let card = used(built.scratch(), size);
    let Some(device) = LoopDevice::of_disk(&card, 512, Access::ReadWrite) else { return };
    let Some(slow) = Slow::new(device.path(), 8 << 20, u64::MAX >> 1) else { return };
    let large = &closure.path("large").path;
    let ranges = built.layout["storePaths"].as_array().unwrap();
    let range = ranges.iter().find(|range| range["path"] == large.as_str()).unwrap();
    let at = built.nix().offset + range["offset"].as_u64().unwrap() + 9 * MIB;
    // Said from the partition's start or the disk's: the byte of the contents is what counts.
    let place = place_of(&built, &closure, at);
    let mut command = slow.command(&flash_command(&built.image, device.path(), &[]));
    let (mut child, mut lines) = start(&mut command);
    assert!(lines.by_ref().any(|line| line.contains("reading back")));
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(&card).unwrap();
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 4], place).unwrap();
    let error = lines.find(|line| line.contains("error")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let inside = place - built.nix().offset;
    let wanted = format!("byte {place} (byte {inside} of partition 2 (\"Linux filesystem\"), in {}", &large[1..]);
    assert!(error.contains(&wanted) && error.contains("was wiped again"), "{error}\n{wanted}");
    assert!(!has_table(device.path()));
}

/// A byte of the file `large` late in the disk, whichever start `at` counts from.
fn place_of(built: &Built, closure: &Closure, at: u64) -> u64 {
    let mut contents = vec![0; 9 << 20];
    Contents::Pattern { seed: 3, len: closure.path("large").hash.size }.fill(0, &mut contents);
    let image = File::open(&built.image).unwrap();
    [at, at - built.nix().offset]
        .into_iter()
        .find(|&place| {
            let mut found = vec![0; 4096];
            image.read_exact_at(&mut found, place - 9 * MIB).is_ok() && found == contents[..4096]
        })
        .expect("the file lies where the layout says")
}

/// A reader of standard error that goes away, and nobody's rights, are no excuse for half a card.
#[test]
fn nobody_reads_what_root_alone_may() {
    let built = crate::containers::example();
    let card: TempDir = tempfile::tempdir().unwrap();
    let at = card.path().join("card");
    fs::set_permissions(&built.image, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    flash(&built.image, &at, &[]);
    assert_eq!(fs::metadata(&at).unwrap().mode() & 0o777, 0o600);
    let mut child = flash_command(&built.image, &at, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stderr.take().unwrap().read_exact(&mut first).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(fs::read(&at).unwrap() == fs::read(&built.image).unwrap());
}
