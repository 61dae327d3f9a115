//! Our reader and our check of ext4: against the kernel, against damage, against anything at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sane_image::read::{Bytes, FileSystem};
use tempfile::{NamedTempFile, TempDir};

use crate::judge::numbered;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, run as cli, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, whole};
use crate::support::reading::{self, differences, exercise, expect_sound, window, with_flip};
use crate::support::tool::{need, run, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;

/// Feature sets of other people's filesystems.
pub(crate) const MKFS: [&[&str]; 7] = [
    &["-t", "ext4", "-b", "4096"],
    &["-t", "ext4", "-b", "1024"],
    &["-t", "ext2", "-b", "1024"],
    &["-t", "ext3", "-b", "4096"],
    &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"],
    &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,^flex_bg"],
    &["-t", "ext4", "-b", "2048", "-O", "metadata_csum_seed,orphan_file,^64bit"],
];

/// A tree with something of everything that a filesystem maps in its own way.
pub(crate) fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("dir/sub")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for i in 0..400 {
        fs::write(at(&format!("many/{i}-{}", "n".repeat(i % 200))), i.to_string()).unwrap();
    }
    fs::write(at("empty"), "").unwrap();
    fs::write(at("big"), (0..700_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    fs::set_permissions(at("big"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::hard_link(at("big"), at("dir/hard")).unwrap();
    symlink("big", at("fast")).unwrap();
    symlink("x".repeat(59), at("longest fast")).unwrap();
    symlink("y".repeat(60), at("shortest slow")).unwrap();
    // No component of a path is so long, but the target of a link need not lead anywhere.
    symlink("z".repeat(900), at("slow")).unwrap();
    sparse(&at("sparse"), 600);
    tree
}

/// A file of so many single blocks with holes between them.
fn sparse(path: &Path, blocks: u64) {
    let file = fs::File::create(path).unwrap();
    (0..blocks).for_each(|i| file.write_all_at(&[7; 4096], i * 16_384).unwrap());
    file.set_len(blocks * 16_384 + 5).unwrap();
}

/// An image that mke2fs made of a [`tree`], or `None` where that is not here. `big` is setuid there alone: a sandbox
/// refuses the bit to files of its own.
pub(crate) fn mkfs(tree: &Path, options: &[&str]) -> Option<NamedTempFile> {
    (need("mkfs.ext4") && need("debugfs")).then(|| {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(32 * MIB).unwrap();
        run(tool("mkfs.ext4").args(["-q", "-F", "-d"]).arg(tree).args(options).arg(image.path()));
        run(tool("debugfs").args(["-w", "-R", "set_inode_field big mode 0104711"]).arg(image.path()));
        image
    })
}

/// The faults as lines, even where nothing tells that this is ext4.
fn faults(bytes: &dyn Bytes) -> Vec<String> {
    match sane_image::ext4::check::check(bytes) {
        Ok(faults) => faults.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn open(image: &Path) -> Box<dyn FileSystem> {
    reading::open(Arc::new(window(image, whole(image)))).unwrap()
}

/// The kernel sees the same in an image as our reader, and our check finds no fault where e2fsck finds none.
fn agree_with_the_kernel(image: &Path) {
    oracle::e2fsck(image, whole(image)).expect_clean();
    expect_sound(image, whole(image));
    if let Some(mount) = Mount::new(image, whole(image), "ext4", Access::ReadOnly) {
        assert_eq!(differences(&*open(image), mount.path()), [""; 0]);
    }
}

fn image() -> (Closure, Built) {
    let contents = Contents::Pattern { seed: 9, len: 300_000 };
    let tree = Entry::dir([
        ("file", Entry::of(contents)),
        ("many", numbered(1_000, |_| Entry::symlink("x"))),
        ("new\nline", Entry::executable("#!")),
        ("slow", Entry::symlink("t".repeat(1_000))),
    ]);
    let closure = ClosureBuilder::new().path("data", tree).spec(|spec| spec["nixFreeSpace"] = (140 * MIB).into());
    let closure = closure.write();
    let built = Built::new(&closure, &[]);
    (closure, built)
}

#[test]
fn our_own_images() {
    let (_closure, built) = image();
    expect_sound(&built.image, built.nix());
    let filesystem = reading::open(Arc::new(window(&built.image, built.nix()))).unwrap();
    let summary = filesystem.summary();
    assert_eq!((summary.label.as_str(), summary.size), ("NIXOS_SYSTEM", built.nix().size));
    if let Some(said) = oracle::dumpe2fs(&built.image, built.nix()).expect_clean() {
        assert_eq!(summary.free, 4096 * oracle::field(&said, "Free blocks"));
        let features = said.lines().find_map(|line| line.strip_prefix("Filesystem features:")).unwrap();
        let mut features: Vec<_> = features.split_whitespace().collect();
        features.sort_unstable();
        assert_eq!(summary.features, features);
    }
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        assert_eq!(differences(&*filesystem, mount.path()), [""; 0]);
    }
}

#[test]
fn images_of_mke2fs() {
    let tree = tree();
    for options in MKFS {
        println!("{options:?}");
        if let Some(image) = mkfs(tree.path(), options) {
            assert_eq!(open(image.path()).metadata(Path::new("big")).unwrap().permissions, 0o4711);
            agree_with_the_kernel(image.path());
        }
    }
}

/// What only a kernel makes: unwritten extents, holes punched, fragments, shared attributes, other times and owners.
pub(crate) fn live_in(root: &Path) {
    let at = |name: &str| root.join(name);
    (0..200)
        .for_each(|i| fs::remove_file(fs::read_dir(at("many")).unwrap().nth(i % 3).unwrap().unwrap().path()).unwrap());
    (0..300).for_each(|i| fs::write(at(&format!("many/new {i}")), "x").unwrap());
    let file = fs::File::create(at("prealloc")).unwrap();
    // ext3 has no such extents.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 3 << 20).ok();
    file.write_all_at(b"written", 1 << 20).unwrap();
    fs::rename(at("dir/sub"), at("moved")).unwrap();
    fs::create_dir_all(at("a/b/c/d")).unwrap();
    std::os::unix::fs::lchown(at("empty"), Some(70_000), Some(80_000)).unwrap();
    let times = [("old", -300_000_000), ("new", 4_100_000_000)];
    for (name, seconds) in times {
        fs::write(at(name), name).unwrap();
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 5 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, at(name), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}

#[test]
fn filesystems_that_a_kernel_has_used() {
    let tree = tree();
    for options in [MKFS[0], MKFS[1], MKFS[3], MKFS[6]] {
        println!("{options:?}");
        let Some(image) = mkfs(tree.path(), options) else { return };
        let Some(mount) = Mount::new(image.path(), whole(image.path()), "ext4", Access::ReadWrite) else { return };
        live_in(mount.path());
        drop(mount);
        agree_with_the_kernel(image.path());
    }
}

/// A copy of a mounted image is what a power cut leaves.
#[test]
fn a_journal_that_waits() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), MKFS[1]) else { return };
    let Some(mount) = Mount::new(image.path(), whole(image.path()), "ext4", Access::ReadWrite) else { return };
    live_in(mount.path());
    rustix::fs::syncfs(fs::File::open(mount.path()).unwrap()).unwrap();
    let mut later = fs::File::create(mount.path().join("last")).unwrap();
    later.write_all(b"the journal alone knows of this").unwrap();
    later.sync_all().unwrap();
    let copy = NamedTempFile::new().unwrap();
    // The device's own cache has the newest bytes, and the file below it those that are on disk.
    fs::copy(image.path(), copy.path()).unwrap();
    drop((later, mount));
    let found = faults(&window(copy.path(), whole(copy.path())));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("journal: was not emptied"), "{found:?}");
    let filesystem = open(copy.path());
    assert!(filesystem.summary().features.contains(&"needs_recovery".to_owned()));
    assert_eq!(filesystem.metadata(Path::new("last")).unwrap().len, 31);
    // Mounted in a copy of its own: the kernel replays the journal for a reader, too.
    let replayed = NamedTempFile::new().unwrap();
    fs::copy(copy.path(), replayed.path()).unwrap();
    if let Some(mount) = Mount::new(replayed.path(), whole(replayed.path()), "ext4", Access::ReadWrite) {
        assert_eq!(differences(&*filesystem, mount.path()), [""; 0]);
    }
}

#[test]
fn what_is_not_supported_says_so() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), &["-t", "ext4", "-O", "inline_data"]) else { return };
    let filesystem = open(image.path());
    let error = filesystem.list(Path::new("moved")).unwrap_err();
    assert_eq!(error.to_string(), "moved: no such file");
    let error = filesystem.list(Path::new("dir")).unwrap_err().to_string();
    assert!(error.contains("(dir)") && error.contains("inline data is not supported"), "{error}");
    let found = faults(&window(image.path(), whole(image.path())));
    assert_eq!(found, ["unsupported: checking ext4 with inline_data"]);
}

/// What cannot be looked up is not missing.
#[test]
fn a_store_that_cannot_be_read_is_not_missing() {
    const PATH: &str = "nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join(PATH)).unwrap();
    let registration = tree.path().join("nix-path-registration");
    fs::write(&registration, format!("/{PATH}\nsha256:{}\n112\n\n0\n", "0".repeat(52))).unwrap();
    let Some(image) = mkfs(tree.path(), &["-t", "ext4", "-O", "inline_data"]) else { return };
    let verify = cli(sane_image().arg("verify").arg(image.path()).arg("--registration").arg(&registration));
    let said = verify.expect_failure(1).stdout;
    assert!(said.contains("(nix): inline data is not supported") && !said.contains("missing"), "{said}");
}

#[test]
fn paths_lead_nowhere_else() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), MKFS[0]) else { return };
    let filesystem = open(image.path());
    let error = |path: &str| filesystem.metadata(Path::new(path)).unwrap_err().to_string();
    assert_eq!(error("nothing"), "nothing: no such file");
    assert_eq!(error("dir/../big"), "dir/../big: no such file");
    assert_eq!(error("fast/x"), "fast: not a directory");
    assert_eq!(error("bad\nname"), "bad\\nname: no such file");
    let error = |result: Result<_, sane_image::read::ReadError>| result.map(drop).unwrap_err().to_string();
    assert_eq!(error(filesystem.open(Path::new("fast")).map(drop)), "fast: not a regular file");
    assert_eq!(error(filesystem.read_link(Path::new("big")).map(drop)), "big: not a symbolic link");
}

/// A number in dumpe2fs's first mention of `what`.
fn block_of(built: &Built, what: &str) -> Option<usize> {
    let said = oracle::dumpe2fs(&built.image, built.nix()).expect_clean()?;
    let (_, after) = said.split_once(what).unwrap_or_else(|| panic!("no {what:?} in {said}"));
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The blocks that debugfs says a file has.
fn blocks_of(image: &Path, partition: crate::support::image::Partition, file: &str) -> Vec<usize> {
    let said = oracle::debugfs(image, partition, &format!("blocks \"{file}\"")).expect_clean().unwrap_or_default();
    said.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn flipped_bits_are_found_and_named() {
    let (closure, built) = image();
    if !need("debugfs") {
        return;
    }
    let mut bytes = reading::load(&built.image, built.nix());
    let data = format!("nix/store/{}", closure.path("data").base_name());
    let place = |what, offset| block_of(&built, what).unwrap() * 4096 + offset;
    let blocks = |file: &str| blocks_of(&built.image, built.nix(), file);
    let many = blocks(&format!("/{data}/many"));
    assert!(many.len() > 3);
    let mut places = vec![
        ("superblock: free blocks", 1024 + 12, "superblock: has the checksum".to_owned()),
        ("superblock: UUID", 1024 + 0x68, "superblock".to_owned()),
        ("superblock: magic", 1024 + 0x38, "superblock: its magic".to_owned()),
        ("superblock: block size", 1024 + 0x18, "superblock".to_owned()),
        ("copy of the superblock", 32_768 * 4096 + 12, "superblock copy in group 1".to_owned()),
        ("copy of the descriptors", 32_769 * 4096 + 64 + 12, "superblock copy in group 1".to_owned()),
        ("descriptor", 4096 + 8, "group 0: its descriptor".to_owned()),
        ("descriptor of group 1", 4096 + 64 + 14, "group 1: its descriptor".to_owned()),
        ("block bitmap", place("Block bitmap at ", 3000), "group 0: its block bitmap".to_owned()),
        ("inode bitmap", place("Inode bitmap at ", 1), "group 0: its inode bitmap".to_owned()),
        ("root inode", place("Inode table at ", 256), "inode 2 (/)".to_owned()),
        ("journal inode", place("Inode table at ", 7 * 256 + 60), "inode 8 (the journal)".to_owned()),
        ("journal", blocks("<8>")[0] * 4096 + 1, "journal: its superblock has the magic".to_owned()),
        ("root directory", blocks("<2>")[0] * 4096 + 15, "inode 2 (/)".to_owned()),
    ];
    places.extend(many.iter().map(|block| ("directory", block * 4096 + 45, format!("({data}/many): block"))));
    for (what, at, named) in places {
        for bit in [0, 5] {
            let found = with_flip(&mut bytes, at, bit, |bytes| faults(bytes));
            assert!(found.iter().any(|fault| fault.contains(&named)), "{what}: {named:?} is not in {found:#?}");
        }
    }
    assert_eq!(faults(&bytes), [""; 0]);
}

/// Each inode in use, at a place that moves on from one to the next; the reader refuses it, too.
#[test]
fn every_flipped_inode_is_named() {
    let (_closure, built) = image();
    if !need("dumpe2fs") {
        return;
    }
    let mut bytes = reading::load(&built.image, built.nix());
    let filesystem = reading::open(Arc::new(bytes.clone())).unwrap();
    let (found, errors) = reading::walk(&*filesystem, usize::MAX);
    assert!(errors.is_empty());
    let table = block_of(&built, "Inode table at ").unwrap() * 4096;
    // The tree's inodes follow lost+found in its order, so that each of the first hundred is some file's.
    for number in 12..112 {
        let at = table + (number - 1) * 256 + number * 7 % 256;
        let named = format!("inode {number} (");
        let (faults, walked) = with_flip(&mut bytes, at, 3, |bytes| {
            let walked =
                reading::open(Arc::new(bytes.clone())).map(|filesystem| reading::walk(&*filesystem, usize::MAX));
            (faults(bytes), walked.unwrap())
        });
        assert!(faults.iter().any(|fault| fault.starts_with(&named)), "{named} is not in {faults:#?}");
        assert!(walked.1.iter().any(|error| error.to_string().contains(&named)), "{named}: {:?}", walked.1);
    }
    assert!(found.keys().any(|path| path.ends_with("new\nline")));
}

#[test]
fn extent_blocks_are_found_and_named() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), MKFS[0]) else { return };
    let mut bytes = reading::load(image.path(), whole(image.path()));
    let said = oracle::debugfs(image.path(), whole(image.path()), "ex sparse").expect_clean().unwrap();
    // Level, entries, logical from - to, physical, length: inner entries name the blocks of the next level.
    let nodes: Vec<usize> = said
        .lines()
        .filter(|line| line.trim_start().starts_with("0/"))
        .filter_map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).nth(4))
        .collect();
    assert!(!nodes.is_empty(), "{said}");
    for node in nodes {
        for at in [0, 2, 15, 40, 100] {
            let found = with_flip(&mut bytes, node * 4096 + at, 2, |bytes| faults(bytes));
            let named = |fault: &String| fault.contains("(sparse)") && fault.contains(&format!("{node}"));
            assert!(found.iter().any(named), "byte {at} of block {node}: {found:#?}");
        }
    }
}

/// Two files with one block, told with both names: what no checksum shows.
#[test]
fn blocks_with_two_owners_name_both() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), &["-t", "ext2", "-b", "1024"]) else { return };
    let blocks = |file: &str| blocks_of(image.path(), whole(image.path()), file);
    let shared = *blocks("/big").first().unwrap();
    let request = format!("set_inode_field sparse block[0] {shared}");
    run(tool("debugfs").args(["-w", "-R", &request]).arg(image.path()));
    let found = faults(&window(image.path(), whole(image.path())));
    let named = |fault: &String| fault.contains(&format!("block {shared}: claimed by")) && fault.contains("(sparse)");
    let both = |fault: &String| named(fault) && (fault.contains("(big)") || fault.contains("(dir/hard)"));
    assert!(found.iter().any(both), "{found:#?}");
}

/// Faults that leave all checksums right, made by debugfs, which keeps them so.
#[test]
fn faults_with_right_checksums_are_found() {
    let tree = tree();
    let requests = [
        ("set_inode_field big links_count 7", "says that it has 7 links, but has 2"),
        ("set_inode_field big blocks 8", "says that it owns 8 sectors"),
        ("set_inode_field big size 100", "blocks of contents, but 100 bytes"),
        ("set_inode_field big mode 0170644", "which is no type of file"),
        ("set_inode_field dir size 100", "is a directory of 100 bytes"),
        ("unlink empty", "is in use, but no directory names it"),
        ("unlink dir/sub", "is a directory that no other directory names"),
        ("link big many/0-x", "says that it has 2 links, but has 3"),
        ("freei empty", "is in use, but marked free"),
        ("clri empty", "the entry empty leads to inode"),
        ("freeb 900 3", "in use, but marked free"),
        ("setb 30000 2", "blocks 30000 to 30001 are marked in use, but nothing uses them"),
        ("set_super_value free_blocks_count 5", "says 5 free blocks"),
        ("set_super_value free_inodes_count 5", "says 5 free inodes"),
        ("set_super_value state 2", "the kernel has met errors"),
        ("set_block_group 0 free_blocks_count 5", "its descriptor says 5 free blocks"),
        ("link dir moved", "is named by the directories of inode"),
    ];
    let Some(image) = mkfs(tree.path(), MKFS[1]) else { return };
    for (request, named) in requests {
        let copy = NamedTempFile::new().unwrap();
        fs::copy(image.path(), copy.path()).unwrap();
        run(tool("debugfs").args(["-w", "-R", request]).arg(copy.path()));
        let found = faults(&window(copy.path(), whole(copy.path())));
        assert!(found.iter().any(|fault| fault.contains(named)), "{request}: {named:?} is not in {found:#?}");
    }
}

/// A small tree: it has each structure once, so that random bytes meet it.
fn small() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("a/b")).unwrap();
    fs::write(tree.path().join("a/file"), [1; 9000]).unwrap();
    symlink("q".repeat(100), tree.path().join("slow")).unwrap();
    symlink("fast", tree.path().join("fast")).unwrap();
    (0..40).for_each(|i| fs::write(tree.path().join(format!("a/b/{i}{}", "n".repeat(60))), "x").unwrap());
    sparse(&tree.path().join("sparse"), 12);
    tree
}

/// The parts of an image that hold structure: all but runs of zeros.
fn structure(bytes: &[u8]) -> Vec<usize> {
    let blocks = bytes.chunks(256).enumerate().filter(|(_, block)| block.iter().any(|&byte| byte != 0));
    blocks.map(|(index, _)| index * 256).collect()
}

/// Random bytes in the midst of structure: in filesystems without checksums, so that nothing guards what reads them,
/// and with, so that what computes checksums meets them.
#[test]
fn anything_at_all_is_survived() {
    let tree = small();
    let mut kinds: Vec<&[&str]> = MKFS.to_vec();
    kinds.push(&["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^has_journal,^resize_inode"]);
    for options in kinds {
        let Some(image) = mkfs_small(tree.path(), options) else { return };
        let bytes = fs::read(image.path()).unwrap();
        let places = structure(&bytes);
        let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xff), Just(1), Just(0x80)];
        let change = (any::<prop::sample::Index>(), 0usize..256, prop::collection::vec(value, 1..9));
        let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
        let changes = prop::collection::vec(change, 1..6);
        let result = runner.run(&changes, |changes| {
            let mut bytes = bytes.clone();
            for (index, offset, values) in changes {
                let at = places[index.index(places.len())] + offset;
                bytes.iter_mut().skip(at).zip(values).for_each(|(byte, value)| *byte = value);
            }
            mend_superblock(&mut bytes);
            exercise(bytes);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
    }
}

/// A filesystem with a file of nine blocks of `a` whose journal, written by debugfs, holds: blocks 0 to 2 as `b`, block 4
/// as the journal's magic and `c`, and that block 1 is not to be brought back.
fn with_journal(open_options: &str) -> Option<NamedTempFile> {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), [b'a'; 9 * 1024]).unwrap();
    let image = mkfs_small(tree.path(), MKFS[1]).filter(|_| need("debugfs"))?;
    let at = |name: &str| tree.path().join(name);
    fs::write(at("new"), [b'b'; 3072]).unwrap();
    fs::write(at("escaped"), escaped_block()).unwrap();
    let blocks = blocks_of(image.path(), whole(image.path()), "/file");
    let (new, escaped) = (at("new"), at("escaped"));
    let requests = format!(
        "jo {open_options}\njw -b {},{},{} {}\njw -b {} {}\njw -r {}\njc\n",
        blocks[0],
        blocks[1],
        blocks[2],
        new.display(),
        blocks[4],
        escaped.display(),
        blocks[1]
    );
    fs::write(at("requests"), requests).unwrap();
    run(tool("debugfs").arg("-w").arg("-f").arg(at("requests")).arg(image.path()));
    Some(image)
}

fn escaped_block() -> Vec<u8> {
    [&[0xc0, 0x3b, 0x39, 0x98][..], &[b'c'; 1020]].concat()
}

#[test]
fn journals_are_replayed_to_the_letter() {
    for options in ["", "-c"] {
        let Some(image) = with_journal(options) else { return };
        let filesystem = open(image.path());
        let found = reading::contents(&*filesystem, Path::new("file"), u64::MAX).unwrap();
        let block = |byte: u8| vec![byte; 1024];
        let blocks = [b'b', b'a', b'b', b'a'].map(block).concat();
        let wanted = [blocks, escaped_block(), [b'a'; 4].map(block).concat()].concat();
        assert!(found == wanted, "{options:?}");
        let faults = faults(&window(image.path(), whole(image.path())));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("3 blocks wait to be replayed"), "{faults:?}");
    }
}

/// Random bytes in a journal that is to be replayed, with checksums and without.
#[test]
fn any_journal_is_survived() {
    for options in ["", "-c"] {
        let Some(image) = with_journal(options) else { return };
        let bytes = fs::read(image.path()).unwrap();
        let start = 1024 * blocks_of(image.path(), whole(image.path()), "<8>")[0];
        let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xff), Just(1)];
        // Heads of blocks are where it matters; the log has a dozen.
        let change = (0usize..16, prop_oneof![3 => 0usize..96, 1 => 0usize..1024], prop::collection::vec(value, 1..5));
        let mut runner = TestRunner::new(Config { cases: 2 * cases(), failure_persistence: None, ..Config::default() });
        let result = runner.run(&prop::collection::vec(change, 1..4), |changes| {
            let mut bytes = bytes.clone();
            for (block, offset, values) in changes {
                let at = start + block * 1024 + offset;
                bytes.iter_mut().skip(at).zip(values).for_each(|(byte, value)| *byte = value);
            }
            exercise(bytes);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
    }
}

/// How many cases each kind of filesystem gets; more of them, for hours, by SANE_IMAGE_FUZZ_CASES.
fn cases() -> u32 {
    std::env::var("SANE_IMAGE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

/// As [`mkfs`], but as small as a journal allows, which has 1024 blocks at least.
fn mkfs_small(tree: &Path, options: &[&str]) -> Option<NamedTempFile> {
    need("mkfs.ext4").then(|| {
        let image = NamedTempFile::new().unwrap();
        let has_journal = !options.contains(&"ext2") && !options.iter().any(|option| option.contains("^has_journal"));
        let (size, journal) = if options.contains(&"1024") { (3, "size=1") } else { (12, "size=4") };
        image.as_file().set_len(size * MIB).unwrap();
        let journal = has_journal.then_some(["-J", journal]);
        let mut command = tool("mkfs.ext4");
        command.args(["-q", "-F", "-N", "128", "-d"]).arg(tree).args(options).args(journal.iter().flatten());
        run(command.arg(image.path()));
        image
    })
}

/// Makes the superblock's checksum right again, so that what it says is looked at.
fn mend_superblock(bytes: &mut [u8]) {
    let sum = !crc32c::crc32c(&bytes[1024..2044]);
    bytes[2044..2048].copy_from_slice(&sum.to_le_bytes());
}

/// ext4-view, which shares nothing with us, reads the same names in our images.
#[test]
fn a_reader_that_is_not_ours_agrees() {
    let (_closure, built) = image();
    let filesystem = reading::open(Arc::new(window(&built.image, built.nix()))).unwrap();
    let (found, errors) = reading::walk(&*filesystem, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let other = ext4_view::Ext4::load(Box::new(reading::load(&built.image, built.nix()))).unwrap();
    for (path, entry) in found {
        let at = [b"/", path.as_os_str().as_encoded_bytes()].concat();
        let metadata = other.symlink_metadata(&at[..]).unwrap();
        let theirs = (metadata.mode(), metadata.uid(), metadata.len(), metadata.modified().seconds());
        let ours = entry.metadata;
        assert_eq!((ours.permissions, ours.uid, ours.len, ours.mtime), theirs, "{}", path.display());
    }
}
