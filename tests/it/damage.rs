//! Every oracle that passes our images fails them once they are damaged: otherwise its word would mean nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::judge::{expected, numbered};
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::Built;
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tool::need;
use crate::support::tree::{Contents, Entry};

fn image() -> (Closure, Built) {
    let contents = Contents::Pattern { seed: 9, len: 100_000 };
    let tree = Entry::dir([("file", Entry::of(contents)), ("many", numbered(1_000, |_| Entry::symlink("x")))]);
    let closure = ClosureBuilder::new().path("data", tree).write();
    let built = Built::new(&closure, &[]);
    (closure, built)
}

fn flip(built: &Built, offset: u64) {
    let image = File::options().read(true).write(true).open(&built.image).unwrap();
    let mut byte = [0];
    image.read_exact_at(&mut byte, offset).unwrap();
    image.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// A number in dumpe2fs's first mention of `what`, such as "Inode table at 433-688".
fn block_of(built: &Built, what: &str) -> Option<u64> {
    let said = oracle::dumpe2fs(&built.image, built.nix()).expect_clean()?;
    let (_, after) = said.split_once(what).unwrap_or_else(|| panic!("no {what:?} in {said}"));
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn of_ext4_is_seen_by_e2fsck() {
    let (_closure, built) = image();
    let start = built.nix().offset;
    let place = |what, offset| block_of(&built, what).map(|block| start + block * 4096 + offset);
    let inode = |number: u64, offset: u64| place("Inode table at ", (number - 1) * 256 + offset);
    let places = [
        ("superblock: free blocks", Some(start + 1024 + 12)),
        ("group descriptor: inode table", Some(start + 4096 + 8)),
        ("block bitmap", place("Block bitmap at ", 3000)),
        ("inode bitmap", place("Inode bitmap at ", 1)),
        ("root inode: mode", inode(2, 0)),
        ("journal inode: first extent", inode(8, 40 + 12 + 8)),
        ("lost+found inode: time", inode(11, 16)),
        ("the tree's inodes: checksum", inode(20, 0x7c)),
    ];
    for (what, offset) in places {
        let Some(offset) = offset else { continue };
        oracle::e2fsck(&built.image, built.nix()).expect_clean();
        flip(&built, offset);
        println!("{what}");
        oracle::e2fsck(&built.image, built.nix()).expect_damage();
        flip(&built, offset);
    }
}

/// Each block of each directory, linear or of an htree, and the journal's superblock.
#[test]
fn of_directories_is_seen_by_e2fsck() {
    let (closure, built) = image();
    if !need("debugfs") {
        return;
    }
    let many = format!("/nix/store/{}/many", closure.path("data").base_name());
    for (file, blocks) in [("<2>", 1), (many.as_str(), 5), ("<8>", 1)] {
        let said = oracle::debugfs(&built.image, built.nix(), &format!("blocks {file}")).expect_clean().unwrap();
        let found: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        for block in found.iter().take(blocks) {
            // An entry's inode number in a directory; the block size in the journal's superblock.
            let offset = built.nix().offset + block * 4096 + if file == "<8>" { 14 } else { 0 };
            flip(&built, offset);
            println!("{file} block {block}");
            oracle::e2fsck(&built.image, built.nix()).expect_damage();
            flip(&built, offset);
        }
    }
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
}

/// No filesystem checker reads contents; the comparison with the closure does.
#[test]
fn of_contents_is_seen_by_comparison() {
    let (closure, built) = image();
    let path = closure.path("data").path.as_str();
    let ranges = built.layout["storePaths"].as_array().unwrap();
    let range = ranges.iter().find(|range| range["path"] == path).unwrap();
    flip(&built, range["offset"].as_u64().unwrap() + 99_999);
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        let differences = expected(&closure, "nix/store").differences(mount.path());
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].contains("/file: byte 99999"), "{differences:?}");
    }
}

#[test]
fn of_the_partition_tables_is_seen_by_sgdisk() {
    let (_closure, built) = image();
    let size = built.image.metadata().unwrap().len();
    for (what, offset) in [("header", 512 + 72), ("entries", 1024 + 33), ("backup header", size - 512 + 24)] {
        flip(&built, offset);
        println!("{what}");
        oracle::sgdisk(&built.image, 512).expect_damage();
        flip(&built, offset);
    }
    oracle::sgdisk(&built.image, 512).expect_clean();
}

#[test]
fn of_fat_is_seen_by_fsck() {
    let (_closure, built) = image();
    let start = built.boot().offset;
    for (what, offset) in [("backup boot sector", 6 * 512 + 17), ("first FAT", 32 * 512 + 8)] {
        let reserved = {
            let mut sectors = [0; 2];
            File::open(&built.image).unwrap().read_exact_at(&mut sectors, start + 14).unwrap();
            u64::from(u16::from_le_bytes(sectors))
        };
        let offset = if what == "first FAT" { reserved * 512 + 8 } else { offset };
        flip(&built, start + offset);
        println!("{what}");
        oracle::fsck_fat(&built.image, built.boot()).expect_damage();
        flip(&built, start + offset);
    }
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
}
