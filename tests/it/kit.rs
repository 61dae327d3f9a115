//! Tests of the test kit: what it makes is true, and what it trusts can fail.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::Partition;
use crate::support::mount::{Access, LoopDevice, Mount};
use crate::support::nar::NarHash;
use crate::support::oracle::{self, Verdict, field, whole};
use crate::support::skip::{Lack, Skipped, summary};
use crate::support::tool::{need, run, slice, tool};
use crate::support::tree::{Contents, Entry, Host, index, set_mtime};
use crate::support::walk::Expected;

const MIB: u64 = 1 << 20;

/// A bit of everything.
fn sample() -> Entry {
    let chunks = BTreeMap::from([(5, b"five".to_vec()), (2 * MIB - 1, b"across blocks".to_vec())]);
    Entry::dir([
        ("bin", Entry::dir([("run", Entry::executable("#!/bin/sh\n")), ("again", Entry::symlink("run"))])),
        ("data", Entry::of(Contents::Pattern { seed: 7, len: 2 * MIB + 13 })),
        ("empty", Entry::file("")),
        ("none", Entry::dir([] as [(&str, Entry); 0])),
        ("sparse", Entry::of(Contents::Sparse { len: 3 * MIB + 1, chunks })),
        ("twin-a", Entry::file("the same")),
        ("twin-b", Entry::file("the same")),
    ])
}

fn expected(closure: &Closure) -> Expected<'_> {
    let paths = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    Expected::ext4().directory("var/log").registration(&closure.registration()).store("nix/store", paths)
}

// ---- closures

#[test]
fn nar_hash_agrees_with_nix_nar() {
    let closure = ClosureBuilder::new().path("sample", sample()).write();
    let path = closure.path("sample");
    let mut nar = Vec::new();
    nix_nar::Encoder::new(closure.on_host(&path.path)).unwrap().read_to_end(&mut nar).unwrap();
    assert_eq!(nar.len() as u64, path.hash.size);
    assert_eq!(<[u8; 32]>::from(Sha256::digest(&nar)), path.hash.digest);
}

#[test]
fn nar_hash_agrees_with_nix() {
    let name = b"\xff\xfe not UTF-8 \x01";
    let long = [b'n'; 255];
    let odd = Entry::dir([(name.as_slice(), Entry::file("x")), (long.as_slice(), Entry::symlink([b't'; 4095]))]);
    let closure = ClosureBuilder::new().path("sample", sample()).path("odd", odd).write();
    for path in &closure.paths {
        let Some(hash) = oracle::nix_hash(&closure.on_host(&path.path)) else { return };
        assert_eq!(path.hash.hex(), hash, "{}", path.name);
    }
}

#[test]
fn nix_takes_the_closure() {
    let closure = ClosureBuilder::new()
        .path("a", sample())
        .referring("b", Entry::file("b"), &["a"])
        .referring("c", Entry::symlink("/dangling"), &["a", "b"])
        .write();
    let registration = closure.on_host(&closure.info).join("registration");
    oracle::nix_store(closure.root(), &registration).expect_clean();
    let victim = closure.on_host(&closure.path("b").path);
    fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
    fs::write(&victim, "B").unwrap();
    oracle::nix_store(closure.root(), &registration).expect_damage();
}

#[test]
fn hash_ignores_the_host() {
    let canonical = ClosureBuilder::new().path("sample", sample()).write();
    for host in [Host::umask(0o077), Host::umask(0o002).with_links(), Host { file_mode: 0o604, ..Host::CANONICAL }] {
        let other = ClosureBuilder::new().path("sample", sample()).host(host).write();
        let [tree, same] = [&canonical, &other].map(|c| Entry::read(&c.on_host(&c.path("sample").path)).unwrap());
        assert_eq!(NarHash::of(&tree), canonical.path("sample").hash);
        assert_eq!(tree, same);
        assert_eq!(canonical.spec, other.spec);
    }
}

#[test]
fn hosts_are_as_told() {
    let host = Host { directory_mode: 0o1750, ..Host::umask(0o027).with_links() };
    let closure = ClosureBuilder::new().path("sample", sample()).host(host).write();
    let top = closure.on_host(&closure.path("sample").path);
    let metadata = |path: &str| fs::symlink_metadata(top.join(path)).unwrap();
    assert_eq!(metadata("").mode() & 0o7777, 0o1750);
    assert_eq!(metadata("bin/run").mode() & 0o7777, 0o750);
    assert_eq!(metadata("twin-a").mode() & 0o7777, 0o640);
    assert_eq!(metadata("twin-a").ino(), metadata("twin-b").ino());
    assert_ne!(metadata("twin-a").mtime(), 1);
    assert!(metadata("sparse").blocks() * 512 < MIB, "holes are kept");

    let closure = ClosureBuilder::new().path("sample", sample()).write();
    let top = closure.on_host(&closure.path("sample").path);
    for (path, mode) in [("", 0o555), ("bin/run", 0o555), ("twin-a", 0o444), ("bin/again", 0o777)] {
        let metadata = fs::symlink_metadata(top.join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()), (mode, 1, 0), "{path}");
    }
}

#[test]
fn specs_can_be_changed() {
    let closure = ClosureBuilder::new().spec(|spec| spec["sectorSize"] = 4096.into()).write();
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(closure.spec_path()).unwrap()).unwrap();
    assert_eq!(spec["sectorSize"], 4096);
    assert_eq!(spec["toplevel"], closure.toplevel);
    assert_eq!(closure.paths.len(), 1);
}

#[test]
fn contents_are_the_same_in_any_blocks() {
    let chunks = BTreeMap::from([(0, vec![1; 3]), (10, vec![2; 20]), (30, vec![3])]);
    for contents in [Contents::Pattern { seed: 3, len: 50 }, Contents::Sparse { len: 50, chunks }] {
        let mut all = [9; 50];
        contents.fill(0, &mut all);
        for start in 0..50 {
            for end in start..=50 {
                let mut part = vec![9; end - start];
                contents.fill(start as u64, &mut part);
                assert_eq!(part, all[start..end], "{start}..{end} of {contents:?}");
            }
        }
    }
}

// ---- slices

#[test]
fn slices_keep_bytes_and_holes() {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(64 * MIB).unwrap();
    for at in [MIB, 8 * MIB - 100, 16 * MIB, 40 * MIB] {
        image.as_file().write_all_at(&[0xa5; 5000], at).unwrap();
    }
    let partition = Partition { number: 1, offset: 8 * MIB, size: 16 * MIB };
    let slice = slice(image.path(), partition);
    let mut wanted = vec![0; index(partition.size)];
    image.as_file().read_exact_at(&mut wanted, partition.offset).unwrap();
    assert!(fs::read(slice.path()).unwrap() == wanted);
    assert!(slice.as_file().metadata().unwrap().blocks() * 512 < MIB);
}

// ---- oracles

#[test]
fn missing_tools_are_told() {
    const TEST: &str = "kit::missing_tools_are_told";
    const INNER: &str = "KIT_ASKS_FOR_A_MISSING_TOOL";
    if std::env::var_os(INNER).is_some() {
        assert!(!need("no-such-tool"));
        return;
    }
    for (required, succeeds) in [("0", true), ("1", false)] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST, "--show-output"]).env(INNER, "").env("SANE_IMAGE_REQUIRE_ORACLES", required);
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), succeeds, "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("SKIPPED")).collect();
        let line = "SKIPPED in part or whole: 1 test. Not installed: no-such-tool (1). -- --show-output names them.";
        assert_eq!(lines, if succeeds { vec![line] } else { vec![] }, "{said}");
        let named = String::from_utf8_lossy(&output.stdout).contains("skipped in part: no-such-tool not installed");
        assert_eq!(named, succeeds, "{output:?}");
    }
}

#[test]
fn one_line_tells_what_is_missing() {
    assert_eq!(summary(&Skipped::new()), None);
    let tests = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let skipped = Skipped::from([
        (Lack::other("no /dev/shm"), tests(&["c"])),
        (Lack::program("btrfs"), tests(&["a", "b"])),
        (Lack::program("mdir"), tests(&["b"])),
        (Lack::Root, tests(&["a", "d", "e"])),
    ]);
    let line = "SKIPPED in part or whole: 5 tests. Not root: 3. Not installed: btrfs (2), mdir (1). Else: no /dev/shm (1). \
                -- --show-output names them.";
    assert_eq!(summary(&skipped).unwrap(), line);
}

#[track_caller]
fn assert_damage(what: &str, verdict: &Verdict) {
    assert!(!matches!(verdict, Verdict::Clean(_)), "damage of the {what} goes unseen: {verdict:?}");
}

/// Changes every bit of a byte.
fn flip(file: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

fn blank(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

/// An ext4 filesystem that mke2fs made, with the files of `directory`.
fn ext4(size: u64, directory: &Path) -> Option<NamedTempFile> {
    let image = blank(size);
    let made = need("mke2fs") && {
        let mut mke2fs = tool("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^orphan_file,^metadata_csum_seed", "-d"]);
        run(mke2fs.env("E2FSPROGS_FAKE_TIME", "1").arg(directory).arg(image.path()));
        true
    };
    made.then_some(image)
}

/// The same filesystem somewhere in the middle of a disk.
fn embedded(filesystem: &NamedTempFile) -> (NamedTempFile, Partition) {
    let size = filesystem.as_file().metadata().unwrap().len();
    let partition = Partition { number: 1, offset: 5 * MIB, size };
    let disk = blank(partition.offset + size + MIB);
    disk.as_file().write_all_at(&fs::read(filesystem.path()).unwrap(), partition.offset).unwrap();
    (disk, partition)
}

#[test]
fn e2fsck_sees_damage() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("file"), "contents").unwrap();
    let Some(filesystem) = ext4(64 * MIB, files.path()) else { return };
    oracle::e2fsck(filesystem.path(), whole(filesystem.path())).expect_clean();
    let Some(said) = oracle::dumpe2fs(filesystem.path(), whole(filesystem.path())).expect_clean() else { return };
    let block = |what: &str| {
        let (_, rest) = said.split_once(what).unwrap();
        4096 * rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap()
    };
    let places = [
        ("superblock", 1024 + 0x10),
        ("group descriptor", 4096),
        ("block bitmap", block("Block bitmap at ") + 100),
        ("inode bitmap", block("Inode bitmap at ") + 1),
        ("root inode", block("Inode table at ") + 256 + 4),
        ("last inode", block("Inode table at ") + 256 * 11 + 4),
    ];
    for (what, at) in places {
        let (disk, partition) = embedded(&filesystem);
        oracle::e2fsck(disk.path(), partition).expect_clean();
        flip(disk.path(), partition.offset + at);
        assert_damage(what, &oracle::e2fsck(disk.path(), partition));
    }
}

#[test]
fn e2fsck_sees_a_partition_that_is_too_small() {
    let files = tempfile::tempdir().unwrap();
    let Some(filesystem) = ext4(16 * MIB, files.path()) else { return };
    let (disk, partition) = embedded(&filesystem);
    oracle::e2fsck(disk.path(), Partition { size: partition.size - 4096, ..partition }).expect_damage();
}

#[test]
fn e2fsck_sees_what_is_no_filesystem() {
    let disk = blank(16 * MIB);
    oracle::e2fsck(disk.path(), whole(disk.path())).expect_damage();
    oracle::dumpe2fs(disk.path(), whole(disk.path())).expect_damage();
    oracle::debugfs(disk.path(), whole(disk.path()), "stat <2>").expect_damage();
    oracle::resize2fs(disk.path(), None).expect_damage();
    oracle::fsck_fat(disk.path(), whole(disk.path())).expect_damage();
    oracle::sgdisk(disk.path(), 512).expect_damage();
    oracle::fdisk(disk.path(), 512).expect_damage();
}

#[test]
fn debugfs_reads_at_an_offset() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("file"), "contents").unwrap();
    let Some(filesystem) = ext4(16 * MIB, files.path()) else { return };
    let (disk, partition) = embedded(&filesystem);
    if let Some(said) = oracle::debugfs(disk.path(), partition, "cat file").expect_clean() {
        assert!(said.contains("contents"), "{said}");
    }
    oracle::debugfs(disk.path(), partition, "cat no-file").expect_damage();
}

#[test]
fn resize2fs_grows() {
    let files = tempfile::tempdir().unwrap();
    let Some(filesystem) = ext4(16 * MIB, files.path()) else { return };
    filesystem.as_file().set_len(64 * MIB).unwrap();
    oracle::resize2fs(filesystem.path(), None).expect_clean();
    oracle::e2fsck(filesystem.path(), whole(filesystem.path())).expect_clean();
    if let Some(said) = oracle::dumpe2fs(filesystem.path(), whole(filesystem.path())).expect_clean() {
        assert_eq!(field(&said, "Block count"), 64 * MIB / 4096);
    }
    oracle::resize2fs(filesystem.path(), Some(10)).expect_damage();
}

#[test]
fn fsck_fat_sees_damage() {
    if !need("mkfs.fat") || !need("mcopy") {
        return;
    }
    let image = blank(64 * MIB);
    run(tool("mkfs.fat").args(["-F", "32", "-s", "1"]).arg(image.path()));
    let partition = whole(image.path());
    let empty = oracle::fat_files(image.path(), partition).unwrap();
    assert!(empty.is_empty());
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), [7; 3 * 512]).unwrap();
    for name in ["::one", "::two"] {
        run(tool("mcopy").arg("-i").arg(image.path()).arg(file.path()).arg(name));
    }
    oracle::fsck_fat(image.path(), partition).expect_clean();
    let files = oracle::fat_files(image.path(), partition).unwrap();
    assert_eq!(files.into_iter().collect::<Vec<_>>(), ["one", "two"].map(|name| (name.into(), vec![7; 3 * 512])));

    let field = |at: u64, len: usize| {
        let mut bytes = [0; 4];
        image.as_file().read_exact_at(&mut bytes[..len], at).unwrap();
        u64::from(u32::from_le_bytes(bytes))
    };
    // BPB_RsvdSecCnt and BPB_FATSz32; the root directory is cluster 2, "one" is clusters 3 to 5, "two" 6 to 8.
    let (fat, fat_size) = (field(14, 2) * 512, field(36, 4) * 512);
    let cross_link = |image: &Path| {
        let file = File::options().write(true).open(image).unwrap();
        [fat, fat + fat_size].iter().for_each(|fat| file.write_all_at(&7_u32.to_le_bytes(), fat + 3 * 4).unwrap());
    };
    for what in ["boot sector", "backup boot sector", "one FAT of two", "cross-linked chains"] {
        let (disk, partition) = embedded(&image);
        oracle::fsck_fat(disk.path(), partition).expect_clean();
        let copy = slice(disk.path(), partition);
        match what {
            "boot sector" => flip(copy.path(), 13),
            "backup boot sector" => flip(copy.path(), 6 * 512 + 0x47),
            "one FAT of two" => flip(copy.path(), fat + 3 * 4),
            _ => cross_link(copy.path()),
        }
        assert_damage(what, &oracle::fsck_fat(copy.path(), whole(copy.path())));
    }
}

#[test]
fn partition_tables_are_checked() {
    if !need("sgdisk") {
        return;
    }
    let disk = blank(64 * MIB);
    run(tool("sgdisk").args(["--new=1:2048:+16M", "--new=2:34816:+16M"]).arg(disk.path()));
    oracle::sgdisk(disk.path(), 512).expect_clean();
    oracle::fdisk(disk.path(), 512).expect_clean();
    let end = 64 * MIB;
    for (what, at) in [
        ("header", 512 + 16),
        ("entries", 1024 + 40),
        ("backup header", end - 512 + 16),
        ("backup entries", end - 33 * 512 + 40),
        ("protective MBR", 446 + 12),
    ] {
        flip(disk.path(), at);
        // Each has its blind spot, so an image goes to both.
        if what != "protective MBR" {
            assert_damage(what, &oracle::sgdisk(disk.path(), 512));
        }
        if what != "backup entries" {
            assert_damage(what, &oracle::fdisk(disk.path(), 512));
        }
        flip(disk.path(), at);
    }
    oracle::sgdisk(disk.path(), 512).expect_clean();
    oracle::fdisk(disk.path(), 512).expect_clean();
    disk.as_file().set_len(65 * MIB).unwrap();
    oracle::sgdisk(disk.path(), 512).expect_damage();
    oracle::fdisk(disk.path(), 512).expect_damage();
}

#[test]
fn sfdisk_sees_damage() {
    if !need("sfdisk") {
        return;
    }
    for (label, damage) in [("gpt", 512 + 16), ("gpt", 446 + 12), ("dos", 446 + 16 + 14), ("dos", 510)] {
        let disk = blank(64 * MIB);
        let mut sfdisk = tool("sfdisk").arg("-q").arg(disk.path()).stdin(Stdio::piped()).spawn().unwrap();
        let script = format!("label: {label}\nsize=16MiB\nsize=16MiB\n");
        sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        oracle::sfdisk(disk.path()).expect_clean();
        flip(disk.path(), damage);
        assert_damage(&format!("{label} at {damage}"), &oracle::sfdisk(disk.path()));
        flip(disk.path(), damage);
        disk.as_file().set_len(20 * MIB).unwrap();
        oracle::sfdisk(disk.path()).expect_damage();
    }
}

#[test]
fn partition_tables_of_large_sectors_are_checked() {
    if !need("sgdisk") {
        return;
    }
    let disk = blank(64 * MIB);
    let Some(device) = LoopDevice::of_disk(disk.path(), 4096, Access::ReadWrite) else { return };
    run(tool("sgdisk").arg("--new=1:256:+16M").arg(device.path()));
    drop(device);
    oracle::sgdisk(disk.path(), 4096).expect_clean();
    oracle::fdisk(disk.path(), 4096).expect_clean();
    flip(disk.path(), 4096 + 16);
    oracle::sgdisk(disk.path(), 4096).expect_damage();
    oracle::fdisk(disk.path(), 4096).expect_damage();
}

#[test]
fn qemu_img_sees_another_disk() {
    let (disk, other) = (blank(8 * MIB), blank(8 * MIB));
    [&disk, &other].iter().for_each(|disk| disk.as_file().write_all_at(b"the same", MIB).unwrap());
    oracle::qemu_img_compare(disk.path(), other.path(), "raw").expect_clean();
    flip(other.path(), 3 * MIB);
    oracle::qemu_img_compare(disk.path(), other.path(), "raw").expect_damage();
}

// ---- mounts and walks

/// A filesystem as an image ought to hold it, made by mke2fs.
fn filesystem_of(closure: &Closure) -> Option<NamedTempFile> {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    fs::create_dir_all(root.path().join("var/log")).unwrap();
    let trees = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    Host::CANONICAL.write_all(&store, trees).unwrap();
    let registration = root.path().join("nix-path-registration");
    fs::write(&registration, closure.registration()).unwrap();
    fs::set_permissions(&registration, Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    for path in ["", "nix", "nix/store", "var", "var/log", "nix-path-registration"] {
        set_mtime(&root.path().join(path), 1).unwrap();
    }
    ext4(64 * MIB, root.path())
}

#[test]
fn walk_sees_every_difference() {
    let closure = ClosureBuilder::new().path("sample", sample()).write();
    let Some(filesystem) = filesystem_of(&closure) else { return };
    let (disk, partition) = embedded(&filesystem);
    let Some(mount) = Mount::new(disk.path(), partition, "ext4", Access::ReadWrite) else { return };
    // mke2fs gives the root and lost+found the time of their making and the mode of its -d argument.
    for path in ["", "lost+found"] {
        set_mtime(&mount.path().join(path), 1).unwrap();
    }
    expected(&closure).assert_equals(mount.path());

    let top = mount.path().join("nix/store").join(closure.path("sample").base_name());
    let at = |path: &str| top.join(path);
    let same_time = |path: &Path| set_mtime(path, 1).unwrap();
    let byte = File::options().write(true).open(at("data")).unwrap();
    byte.write_all_at(b"!", MIB + 77).unwrap();
    same_time(&at("data"));
    fs::set_permissions(at("bin"), Permissions::from_mode(0o755)).unwrap();
    set_mtime(&at("bin/run"), 2).unwrap();
    chown(at("bin/run"), Some(7), None).unwrap();
    fs::remove_file(at("bin/again")).unwrap();
    symlink("ruN", at("bin/again")).unwrap();
    same_time(&at("bin/again"));
    fs::remove_dir(at("none")).unwrap();
    fs::write(at("none"), "").unwrap();
    fs::remove_file(at("empty")).unwrap();
    fs::hard_link(at("twin-a"), mount.path().join("var/log/extra")).unwrap();
    File::options().write(true).open(at("sparse")).unwrap().set_len(3 * MIB).unwrap();

    let found = expected(&closure).differences(mount.path());
    let base = format!("/nix/store/{}", closure.path("sample").base_name());
    let seen = |path: &str, what: &str| {
        assert!(found.iter().any(|line| line.starts_with(path) && line.contains(what)), "{path} {what}: {found:#?}");
    };
    seen(&format!("{base}/data:"), &format!("byte {} is 0x21", MIB + 77));
    seen(&format!("{base}/bin:"), "mode is 0755, should be 0555");
    seen(&format!("{base}/bin/run:"), "mtime is (2, 0)");
    seen(&format!("{base}/bin/run:"), "owner is (7, 0)");
    seen(&format!("{base}/bin/again:"), "target is \"ruN\"");
    seen(&format!("{base}/none:"), "kind is \"a file\"");
    seen(&format!("{base}/empty:"), "is missing");
    seen(&format!("{base}/twin-a:"), "nlink is 2");
    seen(&format!("{base}/sparse:"), "size is 3145728");
    seen(&format!("{base}:"), "mtime");
    seen("/var/log/extra:", "should not exist");
    seen("/var/log:", "mtime");
    let unchanged = found.iter().filter(|line| line.contains("twin-b") || line.contains("nix-path-registration"));
    assert_eq!(unchanged.count(), 0, "{found:#?}");
}

#[test]
fn mounts_leave_nothing_behind() {
    let files = tempfile::tempdir().unwrap();
    let Some(filesystem) = ext4(16 * MIB, files.path()) else { return };
    let (disk, partition) = embedded(&filesystem);
    let Some(mount) = Mount::new(disk.path(), partition, "ext4", Access::ReadOnly) else { return };
    let mount_point = mount.path().to_owned();
    assert!(mount_point.join("lost+found").is_dir());
    assert!(fs::write(mount_point.join("file"), "").is_err());
    drop(mount);
    assert!(!mount_point.exists());
    let attached = run(tool("losetup").arg("--associated").arg(disk.path()));
    assert_eq!(String::from_utf8(attached).unwrap(), "");
}

#[test]
fn loop_devices_end_where_the_partition_does() {
    let disk = blank(8 * MIB);
    let partition = Partition { number: 1, offset: MIB, size: 3 * MIB };
    disk.as_file().write_all_at(b"start", MIB).unwrap();
    let Some(device) = LoopDevice::of_partition(disk.path(), partition, Access::ReadOnly) else { return };
    let mut bytes = Vec::new();
    File::open(device.path()).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, partition.size);
    assert!(bytes.starts_with(b"start"));
}
