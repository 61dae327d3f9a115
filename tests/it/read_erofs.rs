//! Our reader and our check of EROFS: against the trees that mkfs.erofs was given, the kernel, damage, anything at all.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sane_image::erofs::format::{DIRENT_SIZE, InodeCompact, InodeExtended, SUPERBLOCK_OFFSET, Superblock};
use sane_image::read::{FileSystem, Kind, ReadError};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};
use zerocopy::FromBytes;

use crate::read_ext4;
use crate::support::image::{run as cli, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::whole;
use crate::support::reading::{self, differences, exercise, expect_sound, faults, window, with_flip};
use crate::support::tool::{need, run, tool};

/// What mkfs.erofs can do since version 1.5.
const MKFS: [&[&str]; 8] = [
    &[],
    &["-Eforce-inode-extended"],
    &["--chunksize=4096"],
    &["--chunksize=65536"],
    &["-zlz4"],
    &["-zlz4hc", "-C65536"],
    &["-zlz4hc", "-C65536", "-Eztailpacking"],
    // Versions since 1.9 write it as any other.
    &["-zlz4", "-Elegacy-compress"],
];

macro_rules! made {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../replay/bases/erofs-", $name, ".zst")) as &[u8])),*]
    };
}

/// What a newer one can do: images that `fuzz/make-bases` made, all of one tree.
const MADE: [(&str, &[u8]); 8] = made!("plain" "chunks" "lz4" "lz4hc" "zstd" "deflate" "fragments" "dedupe");

fn made(wanted: &str) -> Vec<u8> {
    let (_, packed) = MADE.iter().find(|(name, _)| *name == wanted).unwrap();
    let mut decoder = zstd::stream::read::Decoder::new(*packed).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}

fn in_file(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().write_all_at(bytes, 0).unwrap();
    file
}

fn open(bytes: Vec<u8>) -> Result<Box<dyn FileSystem>, ReadError> {
    sane_image::image::open_filesystem(sane_image::read::Format::Erofs, Arc::new(bytes))
}

/// As [`read_ext4::tree`], with contents that compress well, badly, and in parts.
fn tree() -> TempDir {
    let tree = read_ext4::tree();
    let prose: Vec<u8> = (0..40_000_u32).flat_map(|i| format!("{} ", i * i % 977).into_bytes()).collect();
    let noise: Vec<u8> = (0..100_000_u64).map(|i| (i * i).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let at = |name: &str| tree.path().join(name);
    fs::write(at("prose"), &prose).unwrap();
    fs::write(at("noise"), &noise).unwrap();
    fs::write(at("both"), [&prose[..50_000], &noise[..30_000], &[0; 90_000], &prose[..777]].concat()).unwrap();
    for len in [1, 4064, 4065, 4095, 4096, 4097, 8192, 65_536, 65_537] {
        fs::write(at(&format!("prose-{len}")), &prose[..len]).unwrap();
        fs::write(at(&format!("noise-{len}")), &noise[..len]).unwrap();
    }
    tree
}

fn agree_with_the_kernel(image: &Path, filesystem: &dyn FileSystem) {
    if let Some(mount) = Mount::new(image, whole(image), "erofs", Access::ReadOnly) {
        assert_eq!(differences(filesystem, mount.path()), [""; 0]);
    }
}

#[test]
fn images_of_mkfs_erofs() {
    if !need("mkfs.erofs") {
        return;
    }
    let tree = tree();
    for options in MKFS {
        println!("{options:?}");
        let image = NamedTempFile::new().unwrap();
        run(tool("mkfs.erofs").args(options).arg(image.path()).arg(tree.path()));
        expect_sound(image.path(), whole(image.path()));
        let filesystem = reading::open(Arc::new(window(image.path(), whole(image.path())))).unwrap();
        assert_eq!((filesystem.summary().free, filesystem.free().unwrap()), (0, Vec::new()));
        assert_eq!(differences(&*filesystem, tree.path()), [""; 0]);
        agree_with_the_kernel(image.path(), &*filesystem);
    }
}

/// The sums of all regular files, as sha256sum tells them.
fn sums(filesystem: &dyn FileSystem) -> String {
    let (found, errors) = reading::walk(filesystem, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let mut sums = String::new();
    for (path, _) in found.iter().filter(|(_, entry)| entry.metadata.kind == Kind::File) {
        let contents = reading::contents(filesystem, path, u64::MAX).unwrap();
        Sha256::digest(contents).iter().for_each(|byte| write!(sums, "{byte:02x}").unwrap());
        writeln!(sums, "  {}", path.display()).unwrap();
    }
    sums
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn images_of_a_newer_mkfs_erofs() {
    let expected = include_str!("../fixtures/erofs-sums");
    for (name, _) in MADE {
        println!("{name}");
        let bytes = made(name);
        assert_eq!(faults(&bytes), [""; 0]);
        let filesystem = open(bytes.clone()).unwrap();
        assert_eq!(sorted(&sums(&*filesystem)), sorted(expected));
        let attributes = filesystem.rest(Path::new("kinds/tail")).unwrap().obstacles;
        assert_eq!(attributes, ["extended attributes (user.own)"]);
        let attributes = filesystem.rest(Path::new("kinds/both")).unwrap().obstacles;
        assert_eq!(attributes, ["extended attributes (user.shared)"]);
        agree_with_the_kernel(in_file(&bytes).path(), &*filesystem);
    }
}

/// The commands, over a store that is compressed.
#[test]
fn commands_read_stores() {
    let images: Vec<_> = ["fragments", "zstd"].map(|name| in_file(&made(name))).into();
    let command =
        |command: &str, arguments: &[&str]| cli(sane_image().arg(command).arg(images[0].path()).args(arguments));
    // Its hashes are right. Its modes and times are not those of a store, which mkfs.erofs was not told.
    let said = command("verify", &[]).expect_failure(1).stdout;
    let is_expected = |line: &str| line.contains("not canonical") || line.contains("in the store but not registered");
    assert!(said.lines().count() > 3 && said.lines().all(is_expected), "{said}");
    let report: Value = serde_json::from_str(&command("inspect", &["--json"]).expect_success().stdout).unwrap();
    let filesystem = &report["partitions"][0]["filesystem"];
    assert_eq!((&filesystem["type"], &filesystem["free"]), (&"erofs".into(), &0.into()), "{filesystem}");
    for feature in ["fragments", "mtime", "sb_csum"] {
        assert!(filesystem["features"].as_array().unwrap().contains(&feature.into()), "{filesystem}");
    }
    assert!(command("ls", &["1", "kinds"]).expect_success().stdout.contains("shifted"));
    assert_eq!(command("cat", &["1", "a/small"]).expect_success().stdout, "small\n");
    let diff = cli(sane_image().arg("diff").args([images[0].path(), images[1].path()]).arg("--files"));
    assert!(!diff.stdout.contains("kinds"), "{}", diff.stdout);
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("new"), "new").unwrap();
    let added = command("add", &["--extra-files", files.path().to_str().unwrap()]).expect_failure(1).stderr;
    assert!(added.contains("partition 1 is an erofs, which is read-only"), "{added}");
}

/// The superblock of an image, and the place and size of its root's inode.
fn root(bytes: &[u8]) -> (Superblock, usize, usize) {
    let (superblock, _) = Superblock::read_from_prefix(&bytes[SUPERBLOCK_OFFSET..]).unwrap();
    let at = superblock.meta_blkaddr.get() as usize * 4096 + usize::from(superblock.rootnid_2b.get()) * 32;
    let is_extended = bytes[at] & 1 == 1;
    let size = if is_extended { size_of::<InodeExtended>() } else { size_of::<InodeCompact>() };
    (superblock, at, size)
}

/// Makes the superblock's checksum right again.
fn mend(bytes: &mut [u8]) {
    bytes[1028..1032].fill(0);
    let sum = !crc32c::crc32c(&bytes[1024..4096]);
    bytes[1028..1032].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn flipped_bits_are_found_and_named() {
    let mut bytes = made("plain");
    let (superblock, root, size) = root(&bytes);
    assert_eq!(bytes[root] >> 1 & 7, 2, "the root's entries follow it");
    // Where the third entry of the root is: the two before it are `.` and `..`.
    let entries = root + size;
    let third = entries + 2 * DIRENT_SIZE;
    let links = if size == 64 { root + 44 } else { root + 6 };
    let nid = superblock.rootnid_2b.get();
    for (what, at, bit, named) in [
        ("label", SUPERBLOCK_OFFSET + 64, 0, "superblock: has a wrong checksum".to_owned()),
        ("blocks", SUPERBLOCK_OFFSET + 39, 7, "superblock: it says".to_owned()),
        ("layout", root, 1, format!("inode {nid} (/)")),
        ("unknown layout", root, 3, format!("inode {nid}: the format")),
        ("mode", root + 5, 7, format!("inode {nid}")),
        ("links", links, 3, format!("inode {nid} (/): says that it has")),
        ("number of .", entries, 0, format!("inode {nid} (/): its .")),
        ("number", third, 6, "inode".to_owned()),
        ("name's place", third + 8, 0, format!("inode {nid} (/)")),
        ("type", third + 10, 2, format!("inode {nid} (/): has the entry a with the type")),
    ] {
        let found = with_flip(&mut bytes, at, bit, |bytes| faults(bytes));
        assert!(found.iter().any(|fault| fault.contains(&named)), "{what}: {named:?} is not in {found:#?}");
    }
    assert_eq!(faults(&bytes), [""; 0]);
}

/// A cluster has no checksum, but most changes make it unpack to another length, or not at all.
#[test]
fn damaged_clusters_are_found_and_named() {
    for name in ["lz4", "lz4hc", "zstd", "fragments", "dedupe", "deflate"] {
        let mut bytes = made(name);
        let filesystem = open(bytes.clone()).unwrap();
        let len = filesystem.metadata(Path::new("kinds/text")).unwrap().len;
        drop(filesystem);
        let (mut found_by_check, mut found_by_reader) = (0, 0);
        // The metadata comes first.
        for at in (8192..bytes.len()).step_by(4096) {
            let old: Vec<u8> = bytes[at..at + 4096].to_vec();
            bytes[at..at + 4096].fill(0xaa);
            let faults = faults(&bytes);
            found_by_check += usize::from(faults.iter().any(|fault| fault.contains("are not the")));
            let read = open(bytes.clone()).and_then(|fs| reading::contents(&*fs, Path::new("kinds/text"), len));
            if let Err(error) = read {
                assert!(matches!(error, ReadError::Corrupt(_) | ReadError::Unsupported(_)), "{error}");
                found_by_reader += usize::from(error.to_string().contains("(kinds/text)"));
            }
            bytes[at..at + 4096].copy_from_slice(&old);
        }
        assert!(found_by_check > 2 && found_by_reader > 0, "{name}: {found_by_check}, {found_by_reader}");
        assert_eq!(faults(&bytes), [""; 0]);
    }
}

#[test]
fn corrupt_unsupported_and_unreadable_are_told_apart() {
    let bytes = made("zstd");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        open(bytes).map(drop).unwrap_err()
    };
    let features = SUPERBLOCK_OFFSET + 80;
    for (error, said) in [
        (changed(&|bytes| bytes[features] |= 0x80), "unsupported: erofs with 48bit"),
        (changed(&|bytes| bytes[features + 1] |= 0x1), "unsupported: erofs with metabox"),
        (changed(&|bytes| bytes[features + 3] |= 0x80), "unsupported: erofs with feature 0x80000000"),
        (changed(&|bytes| bytes[SUPERBLOCK_OFFSET + 12] = 30), "corrupt superblock: blocks of 2^30 bytes"),
        (changed(&|bytes| bytes[SUPERBLOCK_OFFSET] = 0), "corrupt superblock: its magic is 0xe0f5e100, not 0xe0f5e1e2"),
        (changed(&|bytes| bytes.truncate(20_000)), "corrupt superblock: it says"),
        (changed(&|bytes| bytes.truncate(1100)), "cannot read 128 bytes at byte 1024"),
        (changed(&|bytes| bytes[SUPERBLOCK_OFFSET + 64] = b'x'), "corrupt superblock: has a wrong checksum"),
        (
            changed(&|bytes| {
                bytes[features] |= 0x8;
                bytes[SUPERBLOCK_OFFSET + 86] = 2;
            }),
            "unsupported: erofs with data on 2 other devices",
        ),
    ] {
        assert!(error.to_string().starts_with(said), "{error} is not {said}");
    }
}

#[test]
fn paths_lead_nowhere_else() {
    let filesystem = open(made("fragments")).unwrap();
    let error = |path: &str| filesystem.metadata(Path::new(path)).unwrap_err().to_string();
    assert_eq!(error("nothing"), "nothing: no such file");
    assert_eq!(error("a/../a"), "a/../a: no such file");
    assert_eq!(error("a/small/x"), "a/small: not a directory");
    assert_eq!(error("bad\nname"), "bad\\nname: no such file");
    let error = |result: Result<(), ReadError>| result.unwrap_err().to_string();
    assert_eq!(error(filesystem.open(Path::new("a/short")).map(drop)), "a/short: not a regular file");
    assert_eq!(error(filesystem.read_link(Path::new("a/small")).map(drop)), "a/small: not a symbolic link");
}

/// A directory that leads to itself, and one that two names lead to.
#[test]
fn a_directory_has_one_place() {
    let mut bytes = made("plain");
    let (superblock, root, size) = root(&bytes);
    let third = root + size + 2 * DIRENT_SIZE;
    let nid = u64::from(superblock.rootnid_2b.get());
    bytes[third..third + 8].copy_from_slice(&nid.to_le_bytes());
    let found = faults(&bytes);
    assert!(found.iter().any(|fault| fault.contains("which has a name already")), "{found:#?}");
    // The root is in the block that the superblock sums.
    mend(&mut bytes);
    let filesystem = open(bytes).unwrap();
    let walked: Vec<_> = sane_image::read::walk(&*filesystem, &PathBuf::new()).collect();
    assert!(walked.iter().any(Result::is_err) && walked.len() < 1000);
}

/// Bytes changed at places that matter; more cases, for hours, by SANE_IMAGE_FUZZ_CASES.
#[test]
fn no_bytes_make_it_panic_or_loop() {
    let cases = std::env::var("SANE_IMAGE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    for (name, _) in MADE {
        let bytes = made(name);
        let pieces = bytes.chunks(64).enumerate().filter(|(_, piece)| piece.iter().any(|&byte| byte != 0));
        let used: Vec<usize> = pieces.flat_map(|(index, piece)| index * 64..index * 64 + piece.len()).collect();
        let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xff), Just(1), Just(0x80)];
        let place = prop_oneof![2 => 0..used.len().min(12_000), 1 => 0..used.len(), 1 => 0usize..128];
        let change = (place, prop::collection::vec(value, 1..5));
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let result = runner.run(&prop::collection::vec(change, 1..5), |changes| {
            let mut bytes = bytes.clone();
            for (place, values) in changes {
                bytes.iter_mut().skip(used[place]).zip(values).for_each(|(byte, value)| *byte = value);
            }
            mend(&mut bytes);
            exercise(bytes);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}
