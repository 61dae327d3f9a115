//! EROFS, judged by the kernel and by erofs-utils: sizes at the edges of blocks and of what follows an inode, random trees,
//! damage, the store at other places.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::judge::{build_erofs, expected_erofs, judge_erofs, numbered};
use crate::property::tree;
use crate::support::closure::{Closure, ClosureBuilder, NIX_UUID};
use crate::support::image::{Built, build_command, run};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, field, whole};
use crate::support::tree::{Contents, Entry};

/// A block has room for an inode of 32 bytes and this many bytes after it.
const INLINE_MAX: u64 = 4096 - 32;

/// Around each size that is stored in another way than the one before it.
fn edges() -> impl Iterator<Item = u64> {
    let ends = [0, 1, 31, 32, 33, 64, 2016, 2048, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 4064 - 31, 4095];
    (0..3).flat_map(move |blocks| ends.map(|end| blocks * 4096 + end))
}

#[test]
fn files_and_links_at_the_edges_of_blocks() {
    let files = edges().map(|len| (format!("file-{len}"), Entry::of(Contents::Pattern { seed: len, len })));
    let links = edges().filter(|len| (1..=4095).contains(len));
    let links = links.map(|len| (format!("link-{len}"), Entry::symlink("t".repeat(usize::try_from(len).unwrap()))));
    judge_erofs(&ClosureBuilder::new().path("edges", Entry::dir(files.chain(links))).write());
}

/// Directories whose bytes end around the end of what follows an inode, and of a block.
#[test]
fn directories_at_the_edges_of_blocks() {
    // `.` and `..` take 27 bytes, and each name 12 more than its length.
    let directory = |len: u64| {
        let left = usize::try_from(len - 27).unwrap();
        let (full, rest) = (left / 100, left % 100);
        let last = if rest < 13 { 100 + rest } else { rest };
        let names =
            (0..full - usize::from(rest < 13)).map(|i| format!("{i:0>88}")).chain([format!("{:z>1$}", "", last - 12)]);
        (format!("directory-{len}"), Entry::dir(names.map(|name| (name, Entry::symlink("x")))))
    };
    let sizes = (INLINE_MAX - 3..INLINE_MAX + 4).chain(4090..4100).chain([300, 8100, 8160, 8190]);
    judge_erofs(&ClosureBuilder::new().path("directories", Entry::dir(sizes.map(directory))).write());
}

/// Names that come before `.` and between it and `..`.
#[test]
fn names_around_the_dots() {
    let names = ["!", "-", "-z", ".-", ".!", "..-", "...", ".a", "/".repeat(0).as_str(), "a"].map(str::to_owned);
    let names = names.into_iter().filter(|name| !name.is_empty());
    judge_erofs(&ClosureBuilder::new().path("dots", Entry::dir(names.map(|name| (name, Entry::file("x"))))).write());
}

/// So many small files that their inodes are in several groups.
#[test]
fn many_small_files() {
    let file = |i: usize| Entry::of(Contents::Pattern { seed: i as u64, len: (i as u64 * 7919) % 5000 });
    judge_erofs(&ClosureBuilder::new().path("many", numbered(4_000, file)).write());
}

#[test]
fn random_trees() {
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let trees = prop::collection::vec(tree(), 0..4);
    let run = runner.run(&trees, |trees| {
        let paths = trees.into_iter().zip(0..);
        let closure = paths.fold(ClosureBuilder::new(), |builder, (tree, i)| builder.path(&format!("path-{i}"), tree));
        judge_erofs(&closure.write());
        Ok(())
    });
    run.unwrap();
}

/// The store is where the host mounts it: as a filesystem of its own, in one, and through a bind mount.
#[test]
fn the_store_at_other_places() {
    let device = format!("/dev/disk/by-uuid/{NIX_UUID}");
    let erofs = json!({ "device": device, "fsType": "erofs", "options": ["ro"] });
    let tmpfs = json!({ "device": "none", "fsType": "tmpfs" });
    let boot = json!({ "device": "/dev/disk/by-uuid/5A4E-1111", "fsType": "vfat" });
    let bind = json!({ "device": "/usr/nix/store", "options": ["bind"] });
    for (mounts, store) in [
        (json!({ "/": tmpfs, "/boot": boot, "/nix/store": erofs }), ""),
        (json!({ "/": tmpfs, "/boot": boot, "/nix": erofs }), "store"),
        (json!({ "/": tmpfs, "/boot": boot, "/usr": erofs, "/nix/store": bind }), "nix/store"),
    ] {
        let tree = Entry::dir([("file", Entry::file("in the store"))]);
        let closure = ClosureBuilder::new().path("path", tree).spec(move |spec| spec["fileSystems"] = mounts).write();
        let built = Built::new(&closure, &[]);
        oracle::fsck_erofs(&built.image, built.nix(), None).expect_clean();
        if let Some(mount) = Mount::new(&built.image, built.nix(), "erofs", Access::ReadOnly) {
            expected_erofs(&closure, store).assert_equals(mount.path());
        }
    }
}

fn of_type(fs_type: &'static str) -> ClosureBuilder {
    let contents = Contents::Pattern { seed: 9, len: 100_000 };
    let tree = Entry::dir([("file", Entry::of(contents)), ("many", numbered(1_000, |_| Entry::symlink("x")))]);
    ClosureBuilder::new().path("data", tree).spec(move |spec| spec["fileSystems"]["/"]["fsType"] = json!(fs_type))
}

/// A disk of a given size has the same filesystem, with zeros after it.
#[test]
fn disks_of_a_given_size() {
    let [least, more] = [None, Some(400 << 20)].map(|size: Option<u64>| {
        let closure = of_type("erofs").spec(move |spec| spec["diskSize"] = json!(size)).write();
        let built = Built::new(&closure, &[]);
        oracle::fsck_erofs(&built.image, built.nix(), None).expect_clean();
        let bytes = fs::read(&built.image).unwrap();
        let start = usize::try_from(built.nix().offset).unwrap();
        bytes[start..start + usize::try_from(built.nix().size).unwrap()].to_vec()
    });
    assert!(more.len() > 300 << 20);
    let (start, rest) = more.split_at(least.len());
    assert!(start == least && rest.iter().all(|&byte| byte == 0));
}

#[test]
fn identities() {
    let closure = of_type("erofs").write();
    let image = closure.root().join("nix.img");
    build_erofs(&closure, &image, &[]);
    let Some(said) = oracle::dump_erofs(&image).expect_clean() else { return };
    let value = |name: &str| said.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    assert_eq!(value("Filesystem UUID:").as_deref(), Some(NIX_UUID), "{said}");
    assert_eq!(value("Filesystem magic number:").as_deref(), Some("0xE0F5E1E2"), "{said}");
    assert!(field(&said, "Filesystem blocks") * 4096 <= image.metadata().unwrap().len(), "{said}");
}

fn flip(image: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let image = fs::File::options().read(true).write(true).open(image).unwrap();
    let mut byte = [0];
    image.read_exact_at(&mut byte, offset).unwrap();
    image.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// The oracles see damage: of the superblock and of inodes by themselves, of all else by comparison.
#[test]
fn damage() {
    let closure = of_type("erofs").write();
    let image = closure.root().join("nix.img");
    build_erofs(&closure, &image, &[]);
    let bytes = fs::read(&image).unwrap();
    let root = u64::from(u16::from_le_bytes([bytes[1024 + 14], bytes[1024 + 15]]));
    let root = 4096 + root * 32;
    for (what, offset) in
        [("superblock: label", 1024 + 64), ("root inode: mode", root + 5), ("root inode: size", root + 11)]
    {
        println!("{what}");
        oracle::fsck_erofs(&image, whole(&image), None).expect_clean();
        flip(&image, offset);
        oracle::fsck_erofs(&image, whole(&image), None).expect_damage();
        flip(&image, offset);
    }
    flip(&image, 1024 + 3);
    oracle::dump_erofs(&image).expect_damage();
    flip(&image, 1024 + 3);
    // The last byte of the file's end, which follows its inode, and the first of its blocks.
    let mut contents = vec![0; 100_000];
    Contents::Pattern { seed: 9, len: 100_000 }.fill(0, &mut contents);
    for (what, at) in [("byte 99999", 99_999 / 4096 * 4096), ("byte 0", 0)] {
        let end = contents[at..].len().min(4096);
        let place = bytes.windows(end).position(|window| window == &contents[at..at + end]).unwrap();
        let byte = if what == "byte 0" { place } else { place + end - 1 };
        flip(&image, byte as u64);
        is_seen_by_comparison(&closure, &image, what);
        flip(&image, byte as u64);
    }
}

fn is_seen_by_comparison(closure: &Closure, image: &Path, what: &str) {
    let wanted = expected_erofs(closure, "nix/store");
    let mount = Mount::new(image, whole(image), "erofs", Access::ReadOnly);
    let extracted = oracle::extract_erofs(image, whole(image));
    for root in [mount.as_ref().map(Mount::path), extracted.as_ref().map(tempfile::TempDir::path)].into_iter().flatten()
    {
        let differences = wanted.differences(root);
        assert!(differences.len() == 1 && differences[0].contains(what), "{differences:?}");
    }
}

/// Without a raw image, other forms have the same bytes.
#[test]
fn forms_without_a_raw_image() {
    let closure = of_type("erofs").write();
    let built = Built::new(&closure, &[]);
    for format in ["zst", "qcow2"] {
        let out = built.scratch().join(format);
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--format", format])).expect_success();
        match format {
            "zst" => oracle::zstd(&out.join("nixos.img.zst"), &built.image).expect_clean(),
            _ => oracle::qemu_img_compare(&built.image, &out.join("nixos.qcow2"), "qcow2").expect_clean(),
        };
    }
}
