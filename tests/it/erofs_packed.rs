//! Compressed EROFS, judged by the kernel and by fsck.erofs.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::judge::{expected_erofs, numbered};
use crate::property;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, whole};
use crate::support::tool::{need, tool};
use crate::support::tree::{Contents, Entry};

const METHODS: [&str; 3] = ["lz4", "zstd", "zstd:19"];
/// The bytes that are compressed as one.
const PIECE: u64 = 256 << 10;

fn text(len: u64) -> Vec<u8> {
    (0..len).map(|i| b"all work and no play "[usize::try_from((i + i / 999) % 21).unwrap()]).collect()
}

fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    Contents::Pattern { seed, len }.fill(0, &mut bytes);
    bytes
}

/// Files that compress and files that do not, around all limits of blocks, ends and pieces.
fn assorted() -> Entry {
    let block = [1, 100, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 8128, 8160, 8192, 8193, 12_288, 24_576];
    let piece = [PIECE - 4096, PIECE - 1, PIECE, PIECE + 1, PIECE + 4096, PIECE + 5000, 4 * PIECE - 1, 4 * PIECE + 1];
    let lens: Vec<u64> = block.into_iter().chain(piece).collect();
    let named = |kind: &str, len: &u64| format!("{kind}-{len}");
    let noises = lens.iter().map(|len| (named("noise", len), Entry::file(noise(*len, *len))));
    let prose = lens.iter().map(|len| (named("text", len), Entry::file(text(*len))));
    let zeros = lens.iter().map(|len| (named("zeros", len), Entry::of(Contents::zeros(*len))));
    // Pieces of every kind beside one another, also in files that end with each.
    let kinds = [text(PIECE), noise(1, PIECE), vec![0; usize::try_from(PIECE).unwrap()], noise(2, 5000), text(5000)];
    let mixed = (0..5).map(|first| {
        let all: Vec<u8> = (0..9).flat_map(|i| kinds[(first + i) % 5].clone()).collect();
        (format!("mixed-{first}"), Entry::file(all))
    });
    let long = Entry::file((0..60).flat_map(|i| [text(PIECE), noise(i, 70_000)]).flatten().collect::<Vec<_>>());
    let more = [("empty".to_owned(), Entry::file("")), ("long".to_owned(), long)];
    Entry::dir(noises.chain(prose).chain(zeros).chain(mixed).chain(more))
}

fn closure() -> Closure {
    let tree = Entry::dir([
        ("assorted", assorted()),
        ("many", numbered(700, |i| Entry::file(i.to_string()))),
        ("link", Entry::symlink("t".repeat(3000))),
    ]);
    ClosureBuilder::new().path("tree", tree).write()
}

/// The bare filesystem of a closure as a compressed EROFS.
fn build(closure: &Closure, method: &str, image: &Path, arguments: &[&str]) {
    let mut spec = closure.spec.clone();
    let root = &mut spec["fileSystems"]["/"];
    root["fsType"] = "erofs".into();
    root["options"] = json!([]);
    spec["erofsCompression"] = method.into();
    let path = closure.root().join("spec-erofs.json");
    fs::write(&path, spec.to_string()).unwrap();
    let arguments = [&["--only", "nix"], arguments].concat();
    run(&mut build_command(&path, closure.root(), image, &arguments)).expect_success();
}

/// The kernel and, where it knows the method, fsck.erofs find the closure in the image and nothing else; and what we read
/// ourselves is what was registered.
fn judge(closure: &Closure, method: &str, image: &Path) {
    run(sane_image().arg("verify").arg(image)).expect_success();
    if let Some(mount) = Mount::new(image, whole(image), "erofs", Access::ReadOnly) {
        expected_erofs(closure, "nix/store").assert_equals(mount.path());
    }
    let extracted = knows(method).then(|| oracle::extract_erofs(image, whole(image))).flatten();
    if let Some(extracted) = extracted {
        expected_erofs(closure, "nix/store").assert_equals(extracted.path());
    }
}

/// Whether fsck.erofs knows a method; old versions do not know zstd.
fn knows(method: &str) -> bool {
    method == "lz4" || need("fsck.erofs") && knows_zstd()
}

fn knows_zstd() -> bool {
    let said = tool("fsck.erofs").arg("--help").output().unwrap();
    [said.stdout, said.stderr].concat().windows(4).any(|word| word == b"zstd")
}

#[test]
fn every_compression_is_read_back() {
    let closure = closure();
    let dir = tempfile::tempdir().unwrap();
    for method in METHODS {
        println!("{method}");
        let image = dir.path().join("nix.img");
        build(&closure, method, &image, &[]);
        judge(&closure, method, &image);
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let closure = closure();
    let dir = tempfile::tempdir().unwrap();
    for method in METHODS {
        let build = |jobs: &str| {
            let image = dir.path().join(jobs);
            build(&closure, method, &image, &["--jobs", jobs]);
            fs::read(image).unwrap()
        };
        let one = build("1");
        assert!(one == build("2") && one == build("7"), "{method}");
    }
}

/// Contents with stretches that compress and stretches that do not, of lengths around blocks and pieces.
fn contents() -> impl Strategy<Value = Entry> {
    let len = prop_oneof![0..5000_u64, 4090..4100_u64, Just(PIECE), PIECE - 2..PIECE + 3, 1..300_000_u64];
    let stretch = (0..3_u8, any::<u64>(), len).prop_map(|(kind, seed, len)| match kind {
        0 => text(len),
        1 => noise(seed, len),
        _ => vec![0; usize::try_from(len).unwrap()],
    });
    prop::collection::vec(stretch, 0..6).prop_map(|stretches| Entry::file(stretches.concat()))
}

#[test]
fn random_trees() {
    let tree = prop::collection::btree_map(property::name(), contents(), 0..30).prop_map(Entry::Dir);
    // Half of the files are around limits of compression, the others those of the other filesystems.
    let trees = prop::collection::vec(prop_oneof![tree, property::tree()], 0..3);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let check = |(trees, number): (Vec<Entry>, usize)| {
        let builder =
            trees.into_iter().zip(0..).fold(ClosureBuilder::new(), |b, (tree, i)| b.path(&format!("path-{i}"), tree));
        let closure = builder.write();
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("nix.img");
        build(&closure, METHODS[number], &image, &[]);
        judge(&closure, METHODS[number], &image);
        Ok(())
    };
    runner.run(&(trees, 0..METHODS.len()), check).unwrap();
}

/// A damaged physical cluster is seen by both judges.
#[test]
fn damage_is_seen() {
    let closure = ClosureBuilder::new().path("tree", Entry::dir([("text", Entry::file(text(200_000)))])).write();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("nix.img");
    build(&closure, "lz4", &image, &[]);
    let file = fs::File::options().read(true).write(true).open(&image).unwrap();
    // The first physical cluster is in the first block of contents, at whose end it ends.
    let mut block = [0; 4096];
    file.read_exact_at(&mut block, 4096).unwrap();
    let start = block.iter().position(|&byte| byte != 0).unwrap();
    block[start..].fill(0xff);
    file.write_all_at(&block, 4096).unwrap();
    oracle::fsck_erofs(&image, whole(&image), None).expect_damage();
    if let Some(mount) = Mount::new(&image, whole(&image), "erofs", Access::ReadOnly) {
        let path = mount.path().join(closure.path("tree").path.trim_start_matches('/')).join("text");
        assert!(fs::read(path).is_err());
    }
}

/// Compressed, an image is no larger than its plan said, and its partition is as large as its filesystem.
#[test]
fn a_whole_disk() {
    let closure = ClosureBuilder::new()
        .path("tree", assorted())
        .spec(|spec| {
            spec["fileSystems"]["/"]["fsType"] = json!("erofs");
            spec["fileSystems"]["/"]["options"] = json!([]);
            spec["erofsCompression"] = json!("zstd:1");
        })
        .write();
    let mut plan = sane_image();
    plan.args(["plan", "--json"]).arg(closure.spec_path()).arg("--store-root").arg(closure.root());
    let planned: serde_json::Value = serde_json::from_str(&run(&mut plan).expect_success().stdout).unwrap();
    let built = Built::new(&closure, &[]);
    let size = built.image.metadata().unwrap().len();
    assert_eq!(built.layout["size"], size);
    assert!(planned["size"].as_u64().unwrap() > size);
    if let Some(mount) = Mount::new(&built.image, built.nix(), "erofs", Access::ReadOnly) {
        expected_erofs(&closure, "nix/store").assert_equals(mount.path());
    }
}

#[test]
fn only_an_erofs_is_compressed_so() {
    let closure = ClosureBuilder::new()
        .path("tree", Entry::file("x"))
        .spec(|spec| spec["erofsCompression"] = json!("lz4"))
        .write();
    let out = closure.root().join("out");
    let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(2);
    let wanted = "erofsCompression: the filesystem with the store is no erofs; set erofsCompression to null, or fsType of \
                  that filesystem to \"erofs\"";
    assert!(failed.stderr.contains(wanted), "{}", failed.stderr);
}
