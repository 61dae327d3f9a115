//! installBootloader: the patterns of real boards come out right; what would spoil an image is told before it is made.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::judge::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run};
use crate::support::oracle;
use crate::support::tree::{Contents, Entry};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Where the ESP starts unless told otherwise.
const FIRST: u64 = 16 * MIB;

/// The firmware that stands for a real one; no two of its blocks are alike.
fn firmware(seed: u64, len: u64) -> Contents {
    Contents::Pattern { seed, len }
}

fn bytes(contents: &Contents) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(contents.len()).unwrap()];
    contents.fill(0, &mut bytes);
    bytes
}

/// A closure with the firmware of `files` in its store path `firmware`, and a script that finds that in `$firmware`.
fn board(files: &[(&str, Contents)], script: &str, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let script = format!("firmware=$(echo \"$SANE_IMAGE_STORE_ROOT\"/nix/store/*-firmware)\n{script}");
    ClosureBuilder::new()
        .path("data", Entry::file("x"))
        .path("firmware", Entry::dir(files.iter().map(|(name, contents)| (*name, Entry::of(contents.clone())))))
        .spec(move |spec| {
            spec["installBootloader"] = json!(script);
            change(spec);
        })
        .write()
}

/// That `contents` stand in the image at a byte, and nothing but zeros around them as far as `free` reaches.
#[track_caller]
fn assert_stands(image: &Path, at: u64, contents: &Contents, free: std::ops::Range<u64>) {
    let image = File::open(image).unwrap();
    let mut found = vec![0; usize::try_from(free.end - free.start).unwrap()];
    image.read_exact_at(&mut found, free.start).unwrap();
    let index = |byte: u64| usize::try_from(byte - free.start).unwrap();
    let (from, to) = (index(at), index(at + contents.len()));
    assert!(found[from..to] == bytes(contents), "not the firmware");
    assert!(found[..from].iter().chain(&found[to..]).all(|&byte| byte == 0), "more than the firmware");
}

// ---- boards

/// Allwinner: at 8 KiB, where the entries usually are.
#[test]
fn pinephone() {
    let uboot = firmware(1, 700 * KIB + 13);
    let script = "dd if=$firmware/u-boot-sunxi-with-spl.bin of=$out/nixos.img bs=1024 seek=8 conv=notrunc";
    let closure = board(&[("u-boot-sunxi-with-spl.bin", uboot.clone())], script, |spec| {
        spec["extraGPTPadding"] = json!(16 * MIB - KIB);
        spec["firstPartGap"] = Value::Null;
    });
    let built = Built::new(&closure, &[]);
    judge(&closure, &built);
    assert_eq!(built.layout["entriesOffset"], 16 * MIB);
    assert_eq!(built.boot().offset, 17 * MIB);
    assert_stands(&built.image, 8 * KIB, &uboot, KIB..16 * MIB);
    // dd has said how much it copied; twice would be confusing.
    assert_eq!(built.run.stderr.matches("records in").count(), 1, "{}", built.run.stderr);
}

/// Rockchip: at sectors 64 and 16384, both before the ESP.
#[test]
fn rockchip() {
    let (idbloader, uboot) = (firmware(2, 180 * KIB), firmware(3, MIB + 7));
    let script = "\
        dd if=$firmware/idbloader.img of=$out/nixos.img seek=64 conv=notrunc\n\
        dd if=$firmware/u-boot.itb of=$out/nixos.img seek=16384 conv=notrunc";
    let files = [("idbloader.img", idbloader.clone()), ("u-boot.itb", uboot.clone())];
    let closure = board(&files, script, |_| ());
    let built = Built::new(&closure, &[]);
    judge(&closure, &built);
    assert_eq!(built.boot().offset, FIRST);
    assert_stands(&built.image, 64 * 512, &idbloader, 17 * KIB..8 * MIB);
    assert_stands(&built.image, 16384 * 512, &uboot, 8 * MIB..FIRST);
}

/// Raspberry Pi: firmware is files of the ESP, and nothing is installed.
#[test]
fn raspberry_pi() {
    let (start, fixup) = (firmware(4, 2 * MIB), firmware(5, 7 * KIB));
    let config = Contents::Bytes(b"arm_64bit=1\nenable_uart=1\nkernel=u-boot-rpi4.bin\n".to_vec());
    let files = [("start4.elf", start), ("fixup4.dat", fixup), ("config.txt", config)];
    let tree = Entry::dir(files.iter().map(|(name, contents)| (*name, Entry::of(contents.clone()))));
    let builder = ClosureBuilder::new().path("firmware", tree);
    let path = builder.store_path("firmware").to_owned();
    let closure = builder.spec(move |spec| spec["extraBootFiles"] = json!([path])).write();
    let built = Built::new(&closure, &[]);
    judge(&closure, &built);
    let image = File::open(&built.image).unwrap();
    let mut gap = vec![0; usize::try_from(FIRST - 17 * KIB).unwrap()];
    image.read_exact_at(&mut gap, 17 * KIB).unwrap();
    assert!(gap.iter().all(|&byte| byte == 0));
    if let Some(found) = oracle::fat_files(&built.image, built.boot()) {
        let wanted = files.map(|(name, contents)| (name.into(), bytes(&contents)));
        assert!(found == wanted.into(), "{:?}", found.keys());
    }
}

/// Boot code before the MBR's table, and firmware right behind the entries and right before the ESP: all that is free.
#[test]
fn whatever_is_free_may_be_written() {
    let script = "\
        put() { dd if=$firmware/code of=$out/nixos.img bs=1 seek=$1 count=$2 conv=notrunc status=none; }\n\
        put 0 446; put 17408 100; put 16777116 100";
    let closure = board(&[("code", firmware(6, 446))], script, |_| ());
    let built = Built::new(&closure, &[]);
    judge(&closure, &built);
    let code = bytes(&firmware(6, 446));
    let image = File::open(&built.image).unwrap();
    for (at, len) in [(0, 446), (17408, 100), (FIRST - 100, 100)] {
        let mut found = vec![0; len];
        image.read_exact_at(&mut found, at).unwrap();
        assert!(found == code[..len], "at {at}");
    }
}

// ---- what is refused

/// Builds and expects one error of installBootloader that says all of `words`, and nothing left behind. Returns it.
#[track_caller]
fn refused(closure: &Closure, words: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    // One that is there before, so that also the hidden files in it show.
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1);
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    assert!(errors[0].starts_with("sane-image: error: installBootloader: "), "{}", errors[0]);
    words.iter().for_each(|word| assert!(errors[0].contains(word), "no {word:?} in {}", errors[0]));
    let left: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    errors[0].to_owned()
}

/// A board whose loader of `len` bytes goes to byte `at`.
fn loader_at(at: u64, len: u64, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let script =
        format!("dd if=$firmware/loader of=$out/nixos.img bs=64K seek={at} oflag=seek_bytes conv=notrunc status=none");
    board(&[("loader", firmware(7, len))], &script, change)
}

/// The number of bytes that an error asks for.
fn least(error: &str) -> u64 {
    let (_, rest) = error.split_once("at least ").unwrap_or_else(|| panic!("no remedy in {error}"));
    rest.split_once(',').unwrap().0.parse().unwrap()
}

/// Refused as it is, and taken when the spec's `field` is what the error says.
#[track_caller]
fn assert_remedy(at: u64, len: u64, sector_size: u32, field: &'static str, words: &[&str]) {
    let sectors = move |spec: &mut Value| {
        spec["sectorSize"] = json!(sector_size);
        spec["bootPartSize"] = json!(if sector_size == 512 { 64 * MIB } else { 300 * MIB });
    };
    let error = refused(&loader_at(at, len, sectors), &[words, &[field]].concat());
    let remedy = least(&error);
    let remedied = loader_at(at, len, move |spec| {
        sectors(spec);
        spec[field] = json!(remedy);
    });
    let built = Built::new(&remedied, &[]);
    oracle::sgdisk(&built.image, sector_size).expect_clean();
    oracle::fdisk(&built.image, sector_size).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    assert_stands(&built.image, at, &firmware(7, len), at..at + len);
}

#[test]
fn entries_are_in_the_way() {
    let words = ["wrote bytes 8192 to 40959 ", "the entries of the partition table are (1024 to 17407)"];
    assert_remedy(8192, 32 * KIB, 512, "extraGPTPadding", &words);
}

#[test]
fn entries_of_large_sectors_are_in_the_way() {
    let words = ["wrote bytes 8192 to 40960 ", "the entries of the partition table are (8192 to 24575)"];
    assert_remedy(8192, 32 * KIB + 1, 4096, "extraGPTPadding", &words);
}

#[test]
fn a_loader_too_long_for_the_gap() {
    let at = 64 * 512;
    let words = [format!("wrote bytes 32768 to {} ", FIRST + 4999), "partition 1 (\"EFI System\") is".to_owned()];
    assert_remedy(at, FIRST - at + 5000, 512, "firstPartGap", &words.each_ref().map(String::as_str));
}

#[test]
fn partitions_are_not_written_to() {
    let nix = FIRST + 64 * MIB;
    let words = [format!("wrote bytes {} to {} ", nix + 5, nix + 104), "partition 2 (\"Linux filesystem\")".to_owned()];
    refused(&loader_at(nix + 5, 100, |_| ()), &words.each_ref().map(String::as_str));
    // Among the ESP's files, and where it has none.
    for at in [FIRST + 3, FIRST + 60 * MIB] {
        let words = [format!("wrote bytes {at} to {} ", at + 4), "partition 1 (\"EFI System\")".to_owned()];
        refused(&loader_at(at, 5, |_| ()), &words.each_ref().map(String::as_str));
    }
}

/// Other partitions, with contents and without, and a hybrid MBR: each is protected, and none is taken for a write.
#[test]
fn extra_partitions_are_not_written_to() {
    let extra = |spec: &mut Value| {
        let raw = format!("{}/init", spec["toplevel"].as_str().unwrap());
        spec["extraPartitions"] = json!([
            { "name": "platform", "typeGuid": "fe3a2a5d-4f32-41a7-b725-accc3285a309", "contents": raw,
              "place": "beforeBoot" },
            { "name": "swap", "typeGuid": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "size": 8 * MIB },
        ]);
        spec["hybridMbr"] = json!([{ "partition": "boot", "type": "0x0c" }]);
    };
    let closure = loader_at(32 * KIB, 1000, extra);
    let built = Built::new(&closure, &[]);
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    assert_stands(&built.image, 32 * KIB, &firmware(7, 1000), 17 * KIB..FIRST);
    let swap = built.boot().offset + 64 * MIB;
    for (at, what) in [(FIRST, "partition 1 (\"platform\") is"), (swap, "partition 3 (\"swap\") is"), (463, "MBR")] {
        refused(&loader_at(at, 5, extra), &[&format!("wrote bytes {at} to {} ", at + 4), what]);
    }
}

#[test]
fn the_partition_tables_are_not_written_to() {
    // The size of the image is not known beforehand to the script; a script can find out.
    let backup = "printf x | dd of=$out/nixos.img bs=1 conv=notrunc status=none \
        seek=$(($(stat -c %s $out/nixos.img) - 33 * 512 + 4000))";
    refused(&board(&[], backup, |_| ()), &["the backup partition table is", "write before the first partition"]);
    refused(&loader_at(0, 512, |_| ()), &["wrote bytes 0 to 511 ", "table of the MBR is (446 to 511)", "bs=440"]);
    refused(&loader_at(600, 10, |_| ()), &["wrote bytes 600 to 609 ", "the header of the partition table is"]);
    let large = |spec: &mut Value| {
        spec["sectorSize"] = json!(4096);
        spec["bootPartSize"] = json!(300 * MIB);
    };
    refused(&loader_at(4096, 10, large), &["wrote bytes 4096 to 4105 ", "the header of the partition table is"]);
}

#[test]
fn large_sectors_leave_the_rest_of_the_first_free() {
    let closure = loader_at(512, 4096 - 512, |spec| {
        spec["sectorSize"] = json!(4096);
        spec["bootPartSize"] = json!(300 * MIB);
    });
    let built = Built::new(&closure, &[]);
    oracle::fdisk(&built.image, 4096).expect_clean();
    assert_stands(&built.image, 512, &firmware(7, 4096 - 512), 512..4096);
}

#[test]
fn dd_without_notrunc() {
    let script = "dd if=$firmware/loader of=$out/nixos.img bs=1024 seek=32 status=none";
    let closure = board(&[("loader", firmware(8, 1000))], script, |_| ());
    refused(&closure, &["left the image with 33768 bytes instead of ", "conv=notrunc"]);
    refused(&board(&[], "rm $out/nixos.img", |_| ()), &["cannot be compared"]);
}

#[test]
fn a_failing_script() {
    refused(
        &board(&[], "exit 7", |_| ()),
        &["the rehearsal, on an image", "no contents yet", "exit status 7", "SANE_IMAGE_REHEARSAL=1"],
    );
    let later = board(&[], "test -n \"$SANE_IMAGE_REHEARSAL\" || exit 8", |_| ());
    assert!(!refused(&later, &["failed with exit status 8"]).contains("rehearsal"));
}

/// What the script says before it fails is what its user needs.
#[test]
fn the_words_of_a_failed_rehearsal_are_told() {
    let out = TempDir::new().unwrap();
    let closure = board(&[], "echo no u-boot found >&2; exit 1", |_| ());
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), out.path(), &[])).expect_failure(1);
    assert!(run.stderr.lines().any(|line| line == "no u-boot found"), "{}", run.stderr);
}

#[test]
fn what_is_random_is_refused() {
    let places = [(20_000, 64), (FIRST - 64, 64), (0, 440)];
    for (at, len) in places {
        let script =
            format!("head -c {len} /dev/urandom | dd of=$out/nixos.img bs=1 seek={at} conv=notrunc status=none");
        let error = refused(&board(&[], &script, |_| ()), &["wrote different bytes when it ran again, from byte "]);
        let (_, rest) = error.split_once("from byte ").unwrap();
        let byte: u64 = rest.split_once(' ').unwrap().0.parse().unwrap();
        assert!((at..at + len).contains(&byte), "{error}");
    }
}

/// What is written in one of the two runs only, in both ways; and what hits a table in the real run only.
#[test]
fn runs_that_differ_are_refused() {
    let write = "printf x | dd of=$out/nixos.img bs=1 conv=notrunc status=none seek=";
    for word in ["-n", "-z"] {
        let script = format!("if [ {word} \"$SANE_IMAGE_REHEARSAL\" ]; then {write}9000000; fi");
        refused(&board(&[], &script, |_| ()), &["wrote different bytes when it ran again, from byte 9000000 "]);
    }
    for (at, what) in [(450, "MBR"), (2000, "entries"), (FIRST + 600, "partition 1")] {
        let script = format!("if [ -z \"$SANE_IMAGE_REHEARSAL\" ]; then {write}{at}; fi");
        refused(&board(&[], &script, |_| ()), &[&format!("wrote bytes {at} to {at} "), what]);
    }
}

/// The store's file vanishes once everything is planned: the copy would fail, but what is wrong with the script comes first.
#[test]
fn errors_come_before_the_copy() {
    let vanish = "for file in \"$SANE_IMAGE_STORE_ROOT\"/nix/store/*-firmware/loader; do
        chmod +w \"${file%/*}\"; rm \"$file\"; done";
    let script = "printf x | dd of=$out/nixos.img bs=1 seek=2000 conv=notrunc status=none";
    let spoilt = |script: &str| board(&[("loader", firmware(9, 2 * MIB))], &format!("{vanish}\n{script}"), |_| ());
    refused(&spoilt(script), &["the entries of the partition table are"]);
    // And without that mistake, the copy of what is gone since the rehearsal does fail.
    let closure = spoilt("true");
    let out = TempDir::new().unwrap();
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), out.path(), &[])).expect_failure(1);
    assert!(run.stderr.contains("No such file") && !run.stderr.contains("installBootloader:"), "{}", run.stderr);
}

// ---- the rehearsal

/// What the script finds in each of its runs, and that the rehearsal's own outputs go with it.
#[test]
fn the_script_is_told_which_run_it_is() {
    let script = "\
        test -s $out/layout.json\n\
        echo \"${SANE_IMAGE_REHEARSAL:-no} $(stat -c %s $out/nixos.img)\" >> \"$SANE_IMAGE_STORE_ROOT/runs\"\n\
        echo x > \"$out/spl-${SANE_IMAGE_REHEARSAL:-real}\"";
    let closure = board(&[], script, |_| ());
    let built = Built::new(&closure, &[]);
    judge(&closure, &built);
    let size = &built.layout["size"];
    let runs = fs::read_to_string(closure.root().join("runs")).unwrap();
    assert_eq!(runs, format!("1 {size}\nno {size}\n"));
    let mut names: Vec<_> =
        fs::read_dir(built.image.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["layout.json", "nixos.img", "spl-real"]);
    for arguments in [&["--no-bootloader"][..], &["--only", "boot"], &["--only", "nix"]] {
        fs::remove_file(closure.root().join("runs")).ok();
        let out = built.scratch().join(arguments.concat());
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_success();
        assert!(!closure.root().join("runs").exists(), "{arguments:?}");
    }
}

/// The image of a compressed btrfs becomes smaller than planned; what was rehearsed holds for it all the same.
#[test]
fn compressed_contents() {
    let script = "dd if=$firmware/loader of=$out/nixos.img seek=64 conv=notrunc status=none";
    let compressed = |script: &str| {
        let loader = Contents::Bytes(vec![7; 9 << 20]);
        board(&[("loader", loader)], script, |spec| {
            let root = &mut spec["fileSystems"]["/"];
            root["fsType"] = json!("btrfs");
            root["options"] = json!(["compress=zstd:1"]);
        })
    };
    let closure = compressed(script);
    let built = Built::new(&closure, &[]);
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::btrfs_check(&built.image, built.nix()).expect_clean();
    assert_stands(&built.image, 32 * KIB, &Contents::Bytes(vec![7; 9 << 20]), 17 * KIB..FIRST);
    let nix = script.replace("seek=64", "seek=200000");
    refused(&compressed(&nix), &["partition 2 (\"Linux filesystem\")"]);
}
