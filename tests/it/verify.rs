//! `verify` and `build --verify`: what is right passes, whatever is damaged is found and named.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::judge::{build_btrfs, numbered};
use crate::support::closure::{Closure, ClosureBuilder, registration};
use crate::support::image::{Built, Run, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{self, need, need_root, tool};
use crate::support::tree::{Contents, Entry, Host};

const MIB: u64 = 1 << 20;
/// Nowhere else in an image.
const NEEDLE: &[u8] = b"a needle that is nowhere else in the haystack";
const NOISE: Contents = Contents::Pattern { seed: 77, len: 300_000 };

fn tree() -> Entry {
    let mut hay = vec![b'-'; 20_000];
    hay[9_000..9_000 + NEEDLE.len()].copy_from_slice(NEEDLE);
    Entry::dir([
        ("bin", Entry::dir([("run", Entry::executable("#!/bin/sh\n")), ("again", Entry::symlink("run"))])),
        ("empty", Entry::file("")),
        ("hay", Entry::file(hay)),
        ("many", numbered(400, |i| Entry::file(i.to_string()))),
        ("noise", Entry::of(NOISE)),
        ("none", Entry::dir([] as [(&str, Entry); 0])),
        ("sparse", Entry::of(Contents::zeros(MIB + 7))),
    ])
}

fn closure() -> Closure {
    ClosureBuilder::new()
        .path("data-1.0", tree())
        .referring("file", Entry::file("only a file"), &["data-1.0"])
        .path("link", Entry::symlink("/nowhere"))
        .write()
}

fn verify(image: &Path, arguments: &[&str]) -> Run {
    run(sane_image().arg("verify").arg(image).args(arguments))
}

/// What `verify` says of an image that is not right: its lines.
fn faults(image: &Path, arguments: &[&str]) -> Vec<String> {
    let run = verify(image, arguments).expect_failure(1);
    assert!(run.stderr.contains("is not right"), "{}", run.stderr);
    run.stdout.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_fault(faults: &[String], parts: &[&str]) {
    let is_told = faults.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(is_told, "no line with all of {parts:?} in\n{}", faults.join("\n"));
}

/// The closure's btrfs by itself.
fn btrfs(closure: &Closure, options: &[&str]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("nix.img");
    build_btrfs(closure, options, &image, &[]);
    (dir, image)
}

fn flip(image: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(image).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x04], offset).unwrap();
}

/// Where these bytes are in a file.
fn find(image: &Path, bytes: &[u8]) -> Vec<u64> {
    let all = fs::read(image).unwrap();
    let mut found = Vec::new();
    let mut from = 0;
    // Holes are most of an image.
    while let Some(at) = all[from..].iter().position(|&byte| byte == bytes[0]) {
        from += at;
        if all[from..].starts_with(bytes) {
            found.push(from as u64);
        }
        from += 1;
    }
    found
}

fn start_of_noise() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    NOISE.fill(4096, &mut bytes);
    bytes
}

// ---- what is right

#[test]
fn images_of_ours_are_right() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let said = verify(&built.image, &[]).expect_success().stdout;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("right: GPT, vfat, ext4; 4 store paths, 409 files, "), "{said}");
}

#[test]
fn btrfs_of_ours_is_right() {
    let closure = closure();
    for options in [&[][..], &["compress=zstd:3"], &["compress=lzo"], &["subvol=@root"]] {
        let (_dir, image) = btrfs(&closure, options);
        let said = verify(&image, &[]).expect_success().stdout;
        assert!(said.contains("right: btrfs; 4 store paths, 409 files, "), "{options:?}: {said}");
    }
}

#[test]
fn the_given_registration_may_be_a_file_a_directory_or_standard_input() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let info = closure.on_host(&closure.info);
    for given in [info.clone(), info.join("registration")] {
        verify(&built.image, &["--registration", given.to_str().unwrap()]).expect_success();
    }
    let mut command = sane_image();
    command.arg("verify").arg(&built.image).args(["--registration", "-"]);
    run(command.stdin(File::open(info.join("registration")).unwrap())).expect_success();
}

#[test]
fn an_esp_by_itself_has_structures_only() {
    let dir = tempfile::tempdir().unwrap();
    let closure = closure();
    let image = dir.path().join("boot.img");
    run(&mut build_command(&closure.spec_path(), closure.root(), &image, &["--only", "boot"])).expect_success();
    let said = verify(&image, &[]).expect_success().stdout;
    assert!(said.contains("right: vfat in ") && said.contains("no store"), "{said}");
}

#[test]
fn what_is_found_does_not_depend_on_the_threads() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    flip(&built.image, find(&built.image, NEEDLE)[0]);
    flip(&built.image, 512 + 60);
    let found = ["1", "2", "9"].map(|jobs| faults(&built.image, &["--jobs", jobs]));
    assert!(found[0].len() > 1 && found[0] == found[1] && found[1] == found[2], "{found:?}");
}

/// A tree as others' tools take it, with the closure's store in it.
fn host_tree(closure: &Closure) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    Host::CANONICAL.write_all(&store, closure.paths.iter().map(|path| (path.base_name(), &path.tree))).unwrap();
    root
}

fn mkfs_ext4(root: &Path) -> Option<(TempDir, PathBuf)> {
    if !need_root() || !need("mke2fs") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("ext4.img");
    File::create(&image).unwrap().set_len(64 * MIB).unwrap();
    tool::run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(root).arg(&image));
    Some((dir, image))
}

#[test]
fn images_of_others_are_right() {
    let closure = closure();
    let root = host_tree(&closure);
    let registration = closure.on_host(&closure.info).join("registration");
    let given = ["--registration", registration.to_str().unwrap()];
    let Some((_dir, ext4)) = mkfs_ext4(root.path()) else { return };
    let said = verify(&ext4, &given).expect_success().stdout;
    assert!(said.contains("right: ext4; 4 store paths, "), "{said}");
    assert_fault(&faults(&ext4, &[]), &["partition 1: nix/store: has no nix-path-registration"]);
}

#[test]
fn btrfs_of_others_is_right() {
    if !need_root() || !need("mkfs.btrfs") {
        return;
    }
    let closure = closure();
    let root = host_tree(&closure);
    let registration = closure.on_host(&closure.info).join("registration");
    let image = root.path().with_extension("img");
    File::create(&image).unwrap().set_len(256 * MIB).unwrap();
    tool::run(tool("mkfs.btrfs").args(["-q", "-f", "--rootdir"]).arg(root.path()).arg(&image));
    let run = verify(&image, &["--registration", registration.to_str().unwrap()]);
    fs::remove_file(&image).unwrap();
    let said = run.expect_success().stdout;
    assert!(said.contains("right: btrfs; 4 store paths, "), "{said}");
}

// ---- what is not right

#[test]
fn files_that_changed_are_found() {
    let closure = closure();
    let name = closure.path("data-1.0").base_name().to_owned();
    let built = Built::new(&closure, &[]);
    flip(&built.image, find(&built.image, NEEDLE)[0]);
    let found = faults(&built.image, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_fault(&found, &["partition 2: nix/store/", &name, "its NAR hashes to sha256:", "registered is sha256:"]);
}

/// btrfs knows the checksum of every sector, so that the file is known.
#[test]
fn files_of_btrfs_that_changed_are_found() {
    let closure = closure();
    let name = closure.path("data-1.0").base_name();
    for (options, needle) in [(&[][..], NEEDLE), (&["compress=zstd:3"], &start_of_noise())] {
        let (_dir, image) = btrfs(&closure, options);
        flip(&image, find(&image, needle)[0]);
        let file = if needle == NEEDLE { "hay" } else { "noise" };
        assert_fault(&faults(&image, &[]), &[&format!("partition 1: nix/store/{name}/{file}: "), "checksum"]);
    }
}

#[test]
fn inodes_and_directories_of_ext4_are_found() {
    let closure = closure();
    let name = closure.path("data-1.0").base_name().to_owned();
    let built = Built::new(&closure, &[]);
    let start = built.nix().offset;
    let ask = |what: &str, file: &str| {
        let said =
            oracle::debugfs(&built.image, built.nix(), &format!("{what} /nix/store/{name}/{file}")).expect_clean();
        said.map(|said| said.lines().filter(|line| !line.starts_with("debugfs")).collect::<Vec<_>>().join(" "))
    };
    let Some(inode) = ask("imap", "hay") else { return };
    let (_, place) = inode.split_once("located at block ").unwrap_or_else(|| panic!("{inode}"));
    let (block, offset) = place.split_once(", offset 0x").unwrap();
    let inode = block.parse::<u64>().unwrap() * 4096 + u64::from_str_radix(offset.trim(), 16).unwrap();
    let directory = ask("blocks", "many").unwrap();
    let directory = directory.split_whitespace().last().unwrap().parse::<u64>().unwrap() * 4096;
    for (at, part) in [(inode + 4, "hay"), (inode + 16, "hay"), (directory + 40, "many"), (directory + 2000, "many")] {
        flip(&built.image, start + at);
        let found = faults(&built.image, &[]);
        assert_fault(&found, &["partition 2: ", &name, part]);
        flip(&built.image, start + at);
    }
    verify(&built.image, &[]).expect_success();
}

#[test]
fn metadata_of_btrfs_is_found() {
    let closure = closure();
    for options in [&[][..], &["compress=zstd:3"]] {
        let (_dir, image) = btrfs(&closure, options);
        // Both copies of the leaves that name the file: either alone is found.
        let places = find(&image, b"entry-123");
        assert!(places.len() > 1, "{places:?}");
        for at in places {
            flip(&image, at);
            assert_fault(&faults(&image, &[]), &["partition 1: "]);
            flip(&image, at);
        }
        verify(&image, &[]).expect_success();
    }
}

#[test]
fn partition_tables_are_found() {
    let built = Built::new(&closure(), &[]);
    let size = fs::metadata(&built.image).unwrap().len();
    // The disk's GUID, a partition's first sector, its name; the same at the end.
    for at in [512 + 56, 1024 + 32, 1024 + 128 + 56, size - 512 + 56, size - 33 * 512 + 32, size - 32 * 512] {
        flip(&built.image, at);
        assert_fault(&faults(&built.image, &[]), &["partition table: "]);
        flip(&built.image, at);
    }
    verify(&built.image, &[]).expect_success();
}

#[test]
fn a_filesystem_that_nobody_knows_is_found() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let (boot, nix) = (built.boot(), built.nix());
    for (partition, at) in [(boot, 510), (nix, 1024 + 56)] {
        flip(&built.image, partition.offset + at);
        assert_fault(&faults(&built.image, &[]), &[&format!("partition {}: ", partition.number)]);
        flip(&built.image, partition.offset + at);
    }
}

#[test]
fn registrations_that_differ_are_found() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("registration");
    let arguments = ["--registration", given.to_str().unwrap()];
    let data = closure.path("data-1.0").base_name();
    let text = closure.registration();

    let without: String = {
        let mut paths = closure.paths.iter().filter(|path| path.name != "data-1.0");
        paths.by_ref().map(|path| registration(std::slice::from_ref(path))).collect()
    };
    fs::write(&given, &without).unwrap();
    let found = faults(&built.image, &arguments);
    assert_fault(&found, &["partition 2: nix/store/", data, "is in the store but not registered; referred to by "]);
    assert_fault(&found, &["partition 2: nix-path-registration: ", "which is not in the given registration"]);

    let other = ClosureBuilder::new().path("other", Entry::file("x")).write();
    fs::write(&given, text.clone() + &registration(std::slice::from_ref(other.path("other")))).unwrap();
    let found = faults(&built.image, &arguments);
    assert_fault(&found, &[other.path("other").base_name(), "is registered but missing"]);

    let hash = closure.path("data-1.0").hash;
    fs::write(&given, text.replace(&hash.base32(), &closure.path("file").hash.base32())).unwrap();
    assert_fault(&faults(&built.image, &arguments), &[data, "its NAR hashes to sha256:", &hash.base32()]);
    let size = |size: u64| text.replace(&format!("\n{}\n", hash.size), &format!("\n{size}\n"));
    fs::write(&given, size(hash.size + 8)).unwrap();
    assert_fault(&faults(&built.image, &arguments), &[data, "registered are"]);
    fs::write(&given, size(hash.size - 8)).unwrap();
    assert_fault(&faults(&built.image, &arguments), &[data, "larger than the"]);

    // The same hashes in another form are the same.
    let hex = closure.paths.iter().fold(text, |text, path| text.replace(&path.hash.base32(), &path.hash.hex()));
    fs::write(&given, hex).unwrap();
    verify(&built.image, &arguments).expect_success();

    fs::write(&given, "no registration\n").unwrap();
    let run = verify(&built.image, &arguments).expect_failure(1);
    assert!(run.stderr.contains("line 1") && run.stdout.is_empty(), "{run:?}");
}

#[test]
fn what_nix_would_not_have_made_is_found() {
    let closure = closure();
    let root = host_tree(&closure);
    let data = closure.path("data-1.0").base_name();
    let store = root.path().join("nix/store");
    let path = store.join(data);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path.join("hay"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(path.join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(store.join(closure.path("link").base_name())).unwrap();
    fs::write(store.join("stray\n"), "").unwrap();
    let registration = closure.on_host(&closure.info).join("registration");
    let Some((_dir, image)) = mkfs_ext4(root.path()) else { return };
    let found = faults(&image, &["--registration", registration.to_str().unwrap()]);
    assert_fault(&found, &[data, "/empty: not canonical: mode 0755, not 0444 or 0555", "(and 1 more files"]);
    assert_fault(&found, &[data, "its NAR is larger than the", "registered"]);
    assert_fault(&found, &[closure.path("link").base_name(), "is registered but missing"]);
    assert_fault(&found, &["nix/store/stray\\n: is in the store but is not a store path"]);
}

#[test]
fn machines_read_the_same() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let json = |run: Run| serde_json::from_str::<Value>(&run.stdout).unwrap();
    let right = json(verify(&built.image, &["--json"]).expect_success());
    assert_eq!((&right["right"], &right["version"]), (&true.into(), &1.into()));
    assert_eq!(right["stores"][0]["paths"], 4);
    let total: u64 = closure.paths.iter().map(|path| path.hash.size).sum();
    assert_eq!(right["stores"][0]["narBytes"], total);
    flip(&built.image, find(&built.image, NEEDLE)[0]);
    let wrong = json(verify(&built.image, &["--json"]).expect_failure(1));
    assert_eq!(wrong["right"], false);
    assert_eq!(wrong["faults"][0]["storePath"], closure.path("data-1.0").base_name());
    assert_eq!(wrong["faults"][0]["partition"], 2);
}

/// Whatever bit is wrong, the program says yes or no.
#[test]
fn no_damage_makes_it_fall_over() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let clean = fs::read(&built.image).unwrap();
    let used: Vec<usize> = (0..clean.len()).filter(|&at| clean[at] != 0).collect();
    let file = File::options().write(true).open(&built.image).unwrap();
    let mut seen = 0;
    for round in 0..60usize {
        let at = used[(round * 7_919 + round * round * 104_729) % used.len()];
        file.write_all_at(&[clean[at] ^ (1 << (round % 8))], at as u64).unwrap();
        let run = verify(&built.image, &[]);
        assert!(matches!(run.status.code(), Some(0 | 1)), "byte {at}: {run:?}");
        seen += usize::from(!run.status.success());
        file.write_all_at(&clean[at..=at], at as u64).unwrap();
    }
    // What is not seen lies in the ESP's programs, in backups of superblocks or behind the ends of things.
    assert!(seen > 40, "{seen} of 60 are seen");
}

#[test]
fn what_is_no_image_is_an_error() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (path, wanted) in [
        (empty.path(), "neither a partition table (GPT or MBR) nor"),
        (Path::new("/dev/null"), "/dev/null: cannot be opened: is a character device; name a file or a block device"),
    ] {
        let run = verify(path, &[]).expect_failure(1);
        assert!(run.stderr.contains(wanted), "{}", run.stderr);
    }
}

// ---- build --verify

#[test]
fn what_is_built_can_be_proved_at_once() {
    let closure = closure();
    let built = Built::new(&closure, &["--verify"]);
    assert!(built.run.stdout.contains("\nverified: right: GPT, vfat, ext4; 4 store paths, "), "{}", built.run.stdout);
    let dir = tempfile::tempdir().unwrap();
    for (part, said) in [("boot", "verified: right: vfat; no store"), ("nix", "verified: right: ext4; 4 store paths")] {
        let arguments = ["--verify", "--only", part];
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &dir.path().join(part), &arguments));
        assert!(run.expect_success().stdout.contains(said));
    }
}

#[test]
fn what_is_built_as_btrfs_can_be_proved_at_once() {
    let closure = closure();
    let (_dir, plain) = btrfs(&closure, &["compress=zstd:1"]);
    let proved = plain.with_file_name("proved.img");
    build_btrfs(&closure, &["compress=zstd:1"], &proved, &["--verify"]);
    assert!(fs::read(plain).unwrap() == fs::read(proved).unwrap());
}

#[test]
fn what_is_not_right_gets_no_name() {
    let closure = ClosureBuilder::new().unhashed("lie", Entry::file("x")).write();
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["--verify"][..], &["--verify", "--only", "nix"]] {
        let out = dir.path().join("out");
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_failure(1);
        assert!(run.stderr.contains(closure.path("lie").base_name()), "{}", run.stderr);
        assert!(run.stderr.contains("has faults"), "{}", run.stderr);
        assert!(!out.exists());
    }
    Built::new(&closure, &[]);
}
