//! btrfs alone: subvolumes, compression, and the life of the filesystem after us, judged by btrfs check and the kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::judge::{build_btrfs, expected_btrfs, judge_btrfs, numbered};
use crate::property;
use crate::support::closure::{Closure, ClosureBuilder, NIX_UUID};
use crate::support::image::{Built, build_command, run};
use crate::support::mount::{Access, Mount, MountPoint};
use crate::support::oracle::{self, whole};
use crate::support::tool::{self, need, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;

/// Files that compress and files that do not, around all limits of inline contents, units and sectors.
fn assorted() -> Entry {
    let lens = [1, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 131_071, 131_072, 131_073, 262_144, 1_000_000];
    let noise = lens.map(|len| (format!("noise-{len}"), Entry::of(Contents::Pattern { seed: len, len })));
    let prose = lens.map(|len| (format!("text-{len}"), Entry::file(text(len))));
    let zeros = lens.map(|len| (format!("zeros-{len}"), Entry::of(Contents::zeros(len))));
    let mixed =
        (0..5).flat_map(|i| [text(200_000), vec![0; 90_000], noise_bytes(i, 300_000)]).flatten().collect::<Vec<_>>();
    let more = [("mixed".to_owned(), Entry::file(mixed)), ("empty".to_owned(), Entry::file(""))];
    Entry::dir(noise.into_iter().chain(prose).chain(zeros).chain(more))
}

fn text(len: u64) -> Vec<u8> {
    (0..len).map(|i| b"all work and no play "[usize::try_from((i + i / 999) % 21).unwrap()]).collect()
}

fn noise_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Contents::Pattern { seed, len: len as u64 }.fill(0, &mut bytes);
    bytes
}

fn closure() -> Closure {
    let tree = Entry::dir([("assorted", assorted()), ("many", numbered(700, |i| Entry::file(i.to_string())))]);
    ClosureBuilder::new().path("tree", tree).write()
}

/// The bare filesystem of `closure` in a directory.
fn filesystem(dir: &Path, closure: &Closure, options: &[&str]) -> std::path::PathBuf {
    let image = dir.join("nix.img");
    build_btrfs(closure, options, &image, &[]);
    image
}

/// Names of 255 bytes that all have one hash: what a bit of a name changes in its hash is the same whatever the others
/// are, so that bits are found whose changes cancel out.
fn many_names_of_one_hash(count: usize) -> Vec<Vec<u8>> {
    let hash = crc32c::crc32c;
    let plain = vec![b'a'; 255];
    // Each row: what is left of a change, and which places make it.
    let mut rows: Vec<(u32, u64)> = Vec::new();
    let mut same: Vec<u64> = Vec::new();
    for place in 0..60 {
        let mut name = plain.clone();
        name[place] = b'b';
        let (mut change, mut places) = (hash(&name) ^ hash(&plain), 1u64 << place);
        for (pivot, of) in &rows {
            if change & (1 << (31 - pivot.leading_zeros())) != 0 {
                (change, places) = (change ^ pivot, places ^ of);
            }
        }
        if change == 0 {
            same.push(places);
        } else {
            rows.push((change, places));
            rows.sort_by_key(|(change, _)| std::cmp::Reverse(*change));
        }
    }
    let name = |number: usize| {
        let chosen = same.iter().enumerate().filter(|(i, _)| number >> i & 1 == 1);
        let places = chosen.fold(0, |all, (_, places)| all ^ places);
        (0..255).map(|place| if place < 60 && places >> place & 1 == 1 { b'b' } else { b'a' }).collect()
    };
    let names: Vec<Vec<u8>> = (0..count).map(name).collect();
    assert!(names.iter().all(|name| hash(name) == hash(&names[0])));
    names
}

#[test]
fn a_directory_whose_names_have_one_hash_is_named() {
    let names = many_names_of_one_hash(60).into_iter().map(|name| (String::from_utf8(name).unwrap(), Entry::file("")));
    let crowded = Entry::dir([("crowded", Entry::dir(names))]);
    let closure = ClosureBuilder::new().path("tree", crowded).spec(|spec| {
        spec["fileSystems"]["/"]["fsType"] = "btrfs".into();
        spec["fileSystems"]["/"]["options"] = json!([]);
    });
    let closure = closure.write();
    let path = format!("{}/crowded", closure.path("tree").path);
    let out = closure.root().join("out");
    let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1);
    let wanted = format!("{path}: too many names in it have the same hash (CRC-32C)");
    assert!(failed.stderr.contains(&wanted), "{}", failed.stderr);
}

#[test]
fn every_compression_is_read_back() {
    let closure = closure();
    for option in [
        "noatime",
        "compress",
        "compress=zstd",
        "compress=zstd:15",
        "compress-force=zstd:1",
        "compress=lzo",
        "compress=zlib:1",
        "compress=zlib:9",
        "compress=no",
    ] {
        println!("{option}");
        judge_btrfs(&closure, &[option]);
    }
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let closure = closure();
    let dir = tempfile::tempdir().unwrap();
    for option in ["noatime", "compress=zstd:3", "compress=lzo", "compress=zlib"] {
        let build = |jobs: &str| {
            let image = dir.path().join(jobs);
            build_btrfs(&closure, &[option], &image, &["--jobs", jobs]);
            fs::read(image).unwrap()
        };
        let one = build("1");
        assert!(one == build("2") && one == build("7"), "{option}");
    }
}

/// Compressed, an image is no larger than its plan said, and its partition is as large as its filesystem.
#[test]
fn a_whole_disk() {
    for options in [json!([]), json!(["compress=zstd:3"])] {
        let tree = assorted();
        let closure = ClosureBuilder::new()
            .path("tree", tree)
            .spec(move |spec| {
                spec["fileSystems"]["/"]["fsType"] = json!("btrfs");
                spec["fileSystems"]["/"]["options"] = options;
            })
            .write();
        let mut plan = crate::support::image::sane_image();
        plan.args(["plan", "--json"]).arg(closure.spec_path()).arg("--store-root").arg(closure.root());
        let planned: serde_json::Value = serde_json::from_str(&run(&mut plan).expect_success().stdout).unwrap();
        let built = Built::new(&closure, &[]);
        let size = built.image.metadata().unwrap().len();
        assert_eq!(built.layout["size"], size);
        assert!(planned["size"].as_u64().unwrap() >= size);
        assert_eq!(built.layout["partitions"][1]["filesystem"]["type"], "btrfs");
        oracle::sgdisk(&built.image, 512).expect_clean();
        oracle::btrfs_check(&built.image, built.nix()).expect_clean();
        if let Some(mount) = Mount::new(&built.image, built.nix(), "btrfs", Access::ReadOnly) {
            expected_btrfs(&closure, "nix/store").assert_equals(mount.path());
            let stat = rustix::fs::statvfs(mount.path()).unwrap();
            assert!(stat.f_bavail * stat.f_frsize >= 16 * MIB, "{} blocks", stat.f_bavail);
        }
    }
}

#[test]
fn subvolumes() {
    let mount = |options: &[&str]| json!({ "device": format!("/dev/disk/by-uuid/{NIX_UUID}"), "fsType": "btrfs", "options": options });
    let mounts = json!({
        "/": mount(&["subvol=@"]),
        "/nix": mount(&["subvol=/@nix", "compress=zstd"]),
        "/nix/var": mount(&["subvol=@nix/var"]),
        "/home": mount(&["subvol=deep/er/@home,noatime"]),
        "/top": mount(&["subvolid=5"]),
        "/whatever": { "device": "none", "fsType": "tmpfs", "options": ["subvol=no"] },
    });
    let closure = ClosureBuilder::new()
        .path("tree", assorted())
        .spec(move |spec| {
            let boot = spec["fileSystems"]["/boot"].clone();
            spec["fileSystems"] = mounts;
            spec["fileSystems"]["/boot"] = boot;
        })
        .write();
    let built = Built::new(&closure, &[]);
    oracle::btrfs_check(&built.image, built.nix()).expect_clean();
    let see = |options: &str| Mount::with_options(&built.image, built.nix(), "btrfs", Access::ReadOnly, options);
    if let Some(mount) = see("subvol=@nix") {
        expected_btrfs(&closure, "store").directory("var").assert_equals(mount.path());
    }
    for options in ["subvol=@", "subvol=deep/er/@home", "subvol=@nix/var"] {
        if let Some(mount) = see(options) {
            crate::support::walk::Expected::btrfs().assert_equals(mount.path());
        }
    }
    if let Some(mount) = see("subvolid=5") {
        assert!(mount.path().join("deep/er/@home").is_dir());
        let said = tool::run(tool("btrfs").args(["subvolume", "list"]).arg(mount.path()));
        let said = String::from_utf8(said).unwrap();
        let names: Vec<_> = said.lines().filter_map(|line| line.split_once(" path ")).map(|(_, name)| name).collect();
        assert_eq!(names, ["@", "@nix", "@nix/var", "deep/er/@home"]);
    }
}

/// What a system does with its filesystem: writes, snapshots, balances, grows, scrubs.
#[test]
fn lived_in() {
    let closure =
        ClosureBuilder::new().path("tree", assorted()).spec(|spec| spec["nixFreeSpace"] = json!(600 * MIB)).write();
    for options in [&[][..], &["compress=zstd:3"]] {
        let dir = tempfile::tempdir().unwrap();
        let image = filesystem(dir.path(), &closure, options);
        let grown = 4 * image.metadata().unwrap().len();
        File::options().write(true).open(&image).unwrap().set_len(grown).unwrap();
        {
            let Some(mount) = Mount::new(&image, whole(&image), "btrfs", Access::ReadWrite) else { return };
            let root = mount.path();
            let btrfs = |arguments: &[&str]| tool::run(tool("btrfs").args(arguments).current_dir(root));
            fs::write(root.join("large"), noise_bytes(1, 200 << 20)).unwrap();
            fs::create_dir(root.join("small")).unwrap();
            (0..2_000)
                .for_each(|i| fs::write(root.join(format!("small/{i}")), format!("{i}").repeat(i % 300)).unwrap());
            btrfs(&["subvolume", "snapshot", ".", "snapshot"]);
            fs::remove_file(root.join("large")).unwrap();
            fs::remove_dir_all(root.join("small")).unwrap();
            btrfs(&["filesystem", "sync", "."]);
            btrfs(&["balance", "start", "--full-balance", "."]);
            btrfs(&["filesystem", "resize", "max", "."]);
            let said = btrfs(&["scrub", "start", "-B", "."]);
            let said = String::from_utf8(said).unwrap();
            assert!(said.contains("no errors found"), "{said}");
            let stat = rustix::fs::statvfs(root).unwrap();
            assert_eq!(stat.f_blocks * stat.f_frsize, grown);
            expected_btrfs(&closure, "nix/store").assert_holds(root);
        }
        oracle::btrfs_check(&image, whole(&image)).expect_clean();
    }
}

/// Two names of one hash share an item.
#[test]
fn names_of_one_hash() {
    let mut seen = BTreeMap::new();
    // Long enough, and different enough, for crc32c to mix them up.
    let pairs = (0..300_000_u64).filter_map(|i| {
        let number = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = format!("{:x}-{:x}", number, number.wrapping_mul(number | 1).rotate_left(29));
        let hash = sane_image::btrfs::csum::of_name(name.as_bytes());
        seen.insert(hash, name.clone()).map(|first| [first, name])
    });
    let names: Vec<_> = pairs.take(20).flatten().collect();
    assert!(names.len() >= 2, "300,000 names collide somewhere");
    let tree = Entry::dir(names.iter().map(|name| (name, Entry::file(name))));
    judge_btrfs(&ClosureBuilder::new().path("collisions", tree).write(), &[]);
}

/// Damage to trees and to contents is seen; otherwise the oracle's word would mean nothing.
#[test]
fn damage_is_seen_by_btrfs_check() {
    let closure = closure();
    let dir = tempfile::tempdir().unwrap();
    let image = filesystem(dir.path(), &closure, &[]);
    oracle::btrfs_check(&image, whole(&image)).expect_clean();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let flip = |offset: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    };
    // Both copies of a node, or the kernel would take the other.
    let node = |number: u64| vec![9 * MIB + number * 16_384 + 4_000, 36 * MIB + number * 16_384 + 4_000];
    for (what, places) in [
        ("superblock", vec![(64 << 10) + 0x70]),
        ("chunk tree", vec![MIB + 200, 5 * MIB + 200]),
        ("first node", node(0)),
        ("second node", node(1)),
        ("contents", vec![65 * MIB + 10_000]),
    ] {
        places.iter().for_each(|&place| flip(place));
        println!("{what}");
        oracle::btrfs_check(&image, whole(&image)).expect_damage();
        places.iter().for_each(|&place| flip(place));
    }
    oracle::btrfs_check(&image, whole(&image)).expect_clean();
}

#[test]
fn random_trees() {
    let options = prop::sample::select(vec!["noatime", "compress=zstd:3", "compress=lzo", "compress=zlib:6"]);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let trees = prop::collection::vec(property::tree(), 0..4);
    runner
        .run(&(trees, options), |(trees, option)| {
            let named = trees.into_iter().zip(0..);
            let builder = named.fold(ClosureBuilder::new(), |b, (tree, i)| b.path(&format!("path-{i}"), tree));
            judge_btrfs(&builder.write(), &[option]);
            Ok(())
        })
        .unwrap();
}

/// No larger than what mkfs.btrfs makes of the same files.
#[test]
fn no_larger_than_mkfs() {
    if !need("mkfs.btrfs") {
        return;
    }
    let closure = ClosureBuilder::new()
        .path("tree", assorted())
        .path("large", Entry::of(Contents::Pattern { seed: 1, len: 300 << 20 }))
        .spec(|spec| spec["nixFreeSpace"] = json!(0))
        .write();
    let dir = tempfile::tempdir().unwrap();
    let ours = filesystem(dir.path(), &closure, &[]).metadata().unwrap().len();
    let theirs = dir.path().join("mkfs.img");
    File::create(&theirs).unwrap();
    let mut mkfs = tool("mkfs.btrfs");
    tool::run(mkfs.args(["-q", "--shrink", "--rootdir"]).arg(closure.root().join("nix")).arg(&theirs));
    let theirs = theirs.metadata().unwrap().len();
    assert!(ours <= theirs, "{ours} bytes, mkfs.btrfs {theirs}");
}

/// Reflink gives the same bytes, though nobody writes what is shared.
#[test]
fn shared_extents() {
    if !tool::need_root() || !need("mkfs.xfs") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (disk, point) = (scratch.path().join("xfs.img"), scratch.path().join("mnt"));
    File::create(&disk).unwrap().set_len(400 << 20).unwrap();
    fs::create_dir(&point).unwrap();
    tool::run(tool("mkfs.xfs").arg("-q").arg(&disk));
    let mounted = MountPoint::new(["-o".as_ref(), "loop".as_ref(), disk.as_os_str()], &point);
    let images = std::panic::catch_unwind(|| {
        let closure = ClosureBuilder::new().path("tree", assorted()).write_in(&point);
        ["reflink", "buffered"].map(|engine| {
            let image = point.join(engine);
            build_btrfs(&closure, &[], &image, &["--io", engine]);
            fs::read(image).unwrap()
        })
    });
    drop(mounted);
    let [shared, written] = images.unwrap();
    assert!(shared == written);
}

/// At their JSON path, all at once.
#[test]
fn bad_options_are_told() {
    let closure = closure();
    let mut spec = closure.spec.clone();
    spec["fileSystems"]["/"]["fsType"] = json!("btrfs");
    spec["fileSystems"]["/"]["options"] = json!(["subvolid=257", "compress=zstd:x"]);
    let path = closure.root().join("bad.json");
    fs::write(&path, spec.to_string()).unwrap();
    let out = closure.root().join("out");
    let run = run(&mut build_command(&path, closure.root(), &out, &[])).expect_failure(2);
    assert!(run.stderr.contains(r#"fileSystems."/".options[0]: "subvolid=257""#), "{}", run.stderr);
    assert!(run.stderr.contains(r#"fileSystems."/".options[1]: "compress=zstd:x""#), "{}", run.stderr);
}
