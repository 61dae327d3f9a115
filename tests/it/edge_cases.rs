//! Files, names and directories at the limits of the format, judged by e2fsck and the kernel.

use std::path::PathBuf;

use sane_image::ext4::hash::{HashSeed, NameHash};
use uuid::Uuid;

use crate::judge::{build_and_judge, numbered};
use crate::support::closure::{ClosureBuilder, NIX_UUID};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn symlinks_around_what_fits_in_an_inode() {
    let link = |len: usize| (format!("link-{len}"), Entry::symlink("t".repeat(len)));
    let tree = Entry::dir([1, 58, 59, 60, 61, 4095].map(link));
    build_and_judge(&ClosureBuilder::new().path("symlinks", tree).write());
}

#[test]
fn names_of_any_bytes_and_of_full_length() {
    let tree = Entry::dir([
        (b"plain".to_vec(), Entry::file("1")),
        (vec![b'n'; 255], Entry::file("2")),
        (vec![0xff; 255], Entry::dir([(vec![0x80; 255], Entry::file("3"))])),
        (b"\x01\xfe not utf-8 \n\\".to_vec(), Entry::symlink(b"\xff\xfe")),
        ("Főtanúsítvány".into(), Entry::file("4")),
    ]);
    build_and_judge(&ClosureBuilder::new().path("names", tree).write());
}

/// Names whose bytes are negative as signed characters, in a directory large enough to be looked up by hash.
#[test]
fn names_of_any_bytes_in_an_htree() {
    let name = |i: usize| [b"\xff\x80\xe1".repeat(i % 7), format!("\u{e9}{i}").into_bytes()].concat();
    let tree = Entry::dir((0..2_000).map(|i| (name(i), Entry::file(i.to_string()))));
    build_and_judge(&ClosureBuilder::new().path("names", tree).write());
}

#[test]
fn a_directory_of_100_000_entries() {
    let tree = Entry::dir([("large", numbered(100_000, |_| Entry::file("")))]);
    build_and_judge(&ClosureBuilder::new().path("entries", tree).write());
}

/// Names of full length, so that the htree needs inner nodes.
#[test]
fn a_directory_with_a_tree_of_two_levels() {
    let name = |i: usize| format!("{i:0>255}");
    let tree = Entry::dir((0..9_000).map(|i| (name(i), Entry::symlink("x"))));
    build_and_judge(&ClosureBuilder::new().path("two-levels", tree).write());
}

/// A directory in memory where there is one: a disk that discards each block when it is freed takes minutes to remove
/// 70,000 directories.
fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if tempfile::tempdir_in(&memory).is_ok() { memory } else { std::env::temp_dir() }
}

/// More links than i_links_count may say (dir_nlink).
#[test]
fn a_directory_of_70_000_subdirectories() {
    let tree = Entry::dir([("large", numbered(70_000, |_| Entry::Dir([].into())))]);
    build_and_judge(&ClosureBuilder::new().path("subdirectories", tree).write_in(&in_memory()));
}

/// Two names of one hash, the first at the end of a leaf and the second at the start of the next.
#[test]
fn colliding_names_on_both_sides_of_a_leaf() {
    /// Entries of 255-byte names in a leaf: 4084 bytes of 264 each.
    const PER_LEAF: usize = 15;
    let seed = HashSeed::from_bytes(Uuid::parse_str(NIX_UUID).unwrap().into_bytes());
    let mut names: Vec<(NameHash, String)> =
        (0..200_000).map(|i| format!("{i:c>255}")).map(|name| (seed.hash(name.as_bytes()), name)).collect();
    names.sort();
    let collides = |i: &usize| names[*i].0.major == names[i + 1].0.major;
    let pair = (PER_LEAF..names.len() - PER_LEAF).find(collides).expect("200,000 names collide somewhere");
    // The pair's first entry is the last of the first leaf.
    let chosen = &names[pair + 1 - PER_LEAF..pair + PER_LEAF];
    let tree = Entry::dir(chosen.iter().map(|(_, name)| (name, Entry::file(name))));
    build_and_judge(&ClosureBuilder::new().path("collisions", tree).write());
}

#[test]
fn files_around_a_block_and_around_an_extent() {
    let small = [0, 1, 4095, 4096, 4097].map(|len| (format!("{len}"), Contents::Pattern { seed: len, len }));
    let large = [128 * MIB - 1, 128 * MIB, 128 * MIB + 1].map(|len| (format!("{len}"), end_only(len)));
    let tree = Entry::dir(small.into_iter().chain(large).map(|(name, contents)| (name, Entry::of(contents))));
    build_and_judge(&ClosureBuilder::new().path("sizes", tree).write());
}

/// One file that spans forty block groups, and so needs an extent tree outside its inode, with data here and there.
#[test]
fn a_sparse_file_of_five_gibibytes() {
    let chunk = |at: u64| (at, format!("data at {at}").into_bytes());
    let places = [0, 4096 - 3, GIB - 1, 2 * GIB + 12_345, 5 * GIB - 100];
    let contents = Contents::Sparse { len: 5 * GIB, chunks: places.map(chunk).into() };
    let tree = Entry::dir([("sparse", Entry::of(contents)), ("after", Entry::file("after"))]);
    let built = build_and_judge(&ClosureBuilder::new().unhashed("sparse", tree).write());
    let allocated = std::os::unix::fs::MetadataExt::blocks(&built.image.metadata().unwrap()) * 512;
    assert!(allocated < 64 * MIB, "holes took {allocated} bytes of disk");
}

#[test]
fn two_hundred_directories_deep() {
    let tree = (0..200).fold(Entry::file("bottom"), |below, i| Entry::dir([(format!("level-{i}"), below)]));
    build_and_judge(&ClosureBuilder::new().path("deep", tree).write());
}

#[test]
fn a_store_path_that_is_a_file_or_a_link() {
    let closure = ClosureBuilder::new()
        .path("file", Entry::file("a file"))
        .path("program", Entry::executable("#!/bin/sh"))
        .path("link", Entry::symlink("/nix/store/elsewhere"))
        .path("empty", Entry::Dir([].into()));
    build_and_judge(&closure.write());
}

fn end_only(len: u64) -> Contents {
    Contents::Sparse { len, chunks: [(len - 3, b"end".to_vec())].into() }
}
