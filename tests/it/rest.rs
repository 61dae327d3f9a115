//! Times in images, and what a reader tells that no writer of ours could write: against the kernel, debugfs and mtools.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{AtFlags, CWD, StatxFlags, StatxTimestamp, XattrFlags, lsetxattr, statx};
use sane_image::btrfs::{contents::Learnt, layout as btrfs_layout, placement::Placement, volume::Volumes};
use sane_image::disk::region::Region;
use sane_image::ext4::layout as ext4_layout;
use sane_image::progress::{Cancel, Silent};
use sane_image::read::FileSystem;
use sane_image::source::tree::{DirectoryMode, Executable, FileTree, NodeIndex, TreeBuilder};
use sane_image::times::{Times, Timestamp};
use sane_image::units::{ByteOffset, SectorSize};
use sane_image::vfat::{self, VfatLayout, VfatParams};
use sane_image::{btrfs, ext4};
use tempfile::{NamedTempFile, TempDir};
use uuid::Uuid;

use crate::judge::build_btrfs;
use crate::support::closure::ClosureBuilder;
use crate::support::image::Built;
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, whole};
use crate::support::reading::{self, obstacles, window};
use crate::support::tool::{need, run, tool};
use crate::support::tree::Entry;

const MIB: u64 = 1 << 20;
const NONE: [&str; 0] = [];
/// Files with times of their own in a tree, besides a directory and a link.
const FILES: usize = 60;
/// The seconds that ext4 can tell, and those of FAT.
const EXT4: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;
/// The years from 2310 to 2378 in ext4: e2fsck takes them for a mistake that old kernels made with times before 1970.
const DOUBTFUL: std::ops::Range<i64> = 0x2_8000_0000..0x3_0000_0000;
/// The end of February of 2100 in FAT: mtools takes that year for a leap year.
const NO_LEAP_DAY: i64 = 4_107_542_400;
const FAT: std::ops::Range<i64> = 315_532_800..4_354_819_200;

fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn timestamp(seconds: impl Strategy<Value = i64>) -> impl Strategy<Value = Timestamp> {
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| at(seconds, nanoseconds))
}

/// Times for all nodes of a [`tree`].
fn all_times(seconds: impl Strategy<Value = i64> + Clone) -> impl Strategy<Value = Vec<Times>> {
    let time = || timestamp(seconds.clone());
    let times = (time(), time(), time(), time());
    let times = times.prop_map(|(access, change, modification, birth)| Times { access, change, modification, birth });
    prop::collection::vec(times, FILES + 3)
}

/// A tree of empty files, the root first: a directory with files, and a link if there may be one.
fn tree(times: &[Times], source: &Path, with_link: bool) -> FileTree {
    let mut times = times.iter();
    let mut builder = TreeBuilder::new(DirectoryMode::Writable);
    builder.set_origin(NodeIndex::ROOT, source.to_owned());
    let mut set = |builder: &mut TreeBuilder, node| builder.set_times(node, *times.next().unwrap());
    set(&mut builder, NodeIndex::ROOT);
    let directory = builder.enter(OsStr::new("d"), DirectoryMode::Writable).unwrap();
    set(&mut builder, directory);
    for number in 0..FILES {
        let file = builder.file(OsStr::new(&format!("{number:03}")), 0, Executable::No).unwrap();
        set(&mut builder, file);
    }
    builder.leave();
    if with_link {
        let link = builder.symlink(OsStr::new("l"), OsStr::new("d")).unwrap();
        set(&mut builder, link);
    }
    builder.finish()
}

fn image(size: u64, write: impl FnOnce(&Region<'_>)) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(size).unwrap();
    write(&Region::new(image.as_file(), ByteOffset(0), size).unwrap());
    image
}

const UUID: Uuid = Uuid::from_u128(0x6a1f_0d0e_5f0b_4b52_9a0e_3c7f_1d2e_4b61);

fn ext4_layout(tree: &FileTree) -> Result<ext4_layout::Layout, ext4_layout::LayoutError> {
    ext4_layout::Layout::new(tree, ext4_layout::Parameters { uuid: UUID, label: String::new(), free_bytes: MIB })
}

fn ext4_image(tree: &FileTree) -> NamedTempFile {
    let layout = ext4_layout(tree).unwrap();
    image(layout.size(), |region| ext4::writer::write(&layout, tree, region, &Cancel::new()).unwrap())
}

fn btrfs_image(tree: &FileTree) -> NamedTempFile {
    let volumes = Volumes::new(tree.clone(), "", &[]);
    let parameters = btrfs_layout::Parameters { uuid: UUID, label: String::new(), free_bytes: MIB, compression: 0 };
    let layout = btrfs_layout::Layout::new(&volumes, Placement::raw(tree), parameters).unwrap();
    let learnt = Learnt::new(layout.placement.most_sectors());
    image(layout.size(), |region| {
        btrfs::writer::write(&layout, &volumes, learnt, region, NonZeroUsize::MIN, &Cancel::new()).unwrap();
    })
}

fn fat_image(tree: &FileTree) -> NamedTempFile {
    let params = VfatParams { size: 40 * MIB, sector_size: SectorSize::B512, volume_id: 7, label: "ESP".to_owned() };
    let layout = VfatLayout::new(tree, &params).unwrap();
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(params.size).unwrap();
    let mut region = Region::new(image.as_file(), ByteOffset(0), params.size).unwrap();
    vfat::write(&layout, tree, &mut region, &Silent, &Cancel::new(), None).unwrap();
    image
}

fn open(image: &Path) -> Box<dyn FileSystem> {
    reading::open(Arc::new(window(image, whole(image)))).unwrap()
}

/// The times of all nodes as our reader has them; nothing else is in the way of writing them again.
fn read_back(filesystem: &dyn FileSystem, tree: &FileTree) -> Vec<Times> {
    let rest = |node| filesystem.rest(&tree.path(node)).unwrap();
    let all: Vec<_> = tree.nodes().map(rest).collect();
    assert!(all.iter().all(|rest| rest.obstacles.is_empty()), "{all:?}");
    assert_eq!(filesystem.obstacles().unwrap(), NONE);
    all.into_iter().map(|rest| rest.times).collect()
}

/// The times that the kernel tells.
fn stat(path: &Path) -> Times {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME).unwrap();
    let time = |time: StatxTimestamp| at(time.tv_sec, time.tv_nsec);
    Times {
        access: time(found.stx_atime),
        change: time(found.stx_ctime),
        modification: time(found.stx_mtime),
        birth: time(found.stx_btime),
    }
}

/// Our reader and the kernel find the times that were set.
fn agree(image: &Path, fs_type: &str, tree: &FileTree) {
    let set: Vec<_> = tree.nodes().map(|node| tree.times(node)).collect();
    assert_eq!(read_back(&*open(image), tree), set);
    reading::expect_sound(image, whole(image));
    if let Some(mount) = Mount::new(image, whole(image), fs_type, Access::ReadOnly) {
        let seen: Vec<_> = tree.nodes().map(|node| stat(&mount.path().join(tree.path(node)))).collect();
        assert_eq!(seen, set);
    }
}

fn check(seconds: impl Strategy<Value = i64> + Clone, test: impl Fn(Vec<Times>)) {
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, ..Config::default() });
    runner
        .run(&all_times(seconds), |times| {
            test(times);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_times_on_ext4() {
    check(
        prop_oneof![EXT4, Just(*EXT4.start()), Just(*EXT4.end()), -2..3_i64, 0x7fff_fffe..0x8000_0002_i64],
        |times| {
            let tree = tree(&times, Path::new("/"), true);
            let image = ext4_image(&tree);
            agree(image.path(), "ext4", &tree);
        },
    );
}

#[test]
fn e2fsck_takes_most_times_on_ext4() {
    check(prop_oneof![*EXT4.start()..DOUBTFUL.start, DOUBTFUL.end..*EXT4.end()], |times| {
        let image = ext4_image(&tree(&times, Path::new("/"), true));
        oracle::e2fsck(image.path(), whole(image.path())).expect_clean();
    });
}

/// debugfs tells the bits: seconds, and the extra field that holds nanoseconds and what is above.
#[test]
fn debugfs_reads_times_on_ext4() {
    let [second, later] = [at(-0x8000_0000, 999_999_999), at(0x3_7fff_ffff, 1)];
    let mut times = vec![Times::STORE; FILES + 3];
    times[1] = Times { access: second, change: later, modification: at(0x8000_0000, 0), birth: at(-1, 0) };
    let image = ext4_image(&tree(&times, Path::new("/"), true));
    let whole = whole(image.path());
    let Some(said) = oracle::debugfs(image.path(), whole, "stat /d").expect_clean() else { return };
    for wanted in [
        "ctime: 0x7fffffff:00000007",
        "atime: 0x80000000:ee6b27fc",
        "mtime: 0x80000000:00000001",
        "crtime: 0xffffffff:00000000",
    ] {
        assert!(said.contains(wanted), "no {wanted} in\n{said}");
    }
}

#[test]
fn times_out_of_range_are_refused_on_ext4() {
    for time in [at(*EXT4.start() - 1, 0), at(*EXT4.end() + 1, 0), at(1, 1_000_000_000)] {
        let mut times = vec![Times::STORE; FILES + 3];
        times[2].access = time;
        let error = ext4_layout(&tree(&times, Path::new("/"), true)).unwrap_err().to_string();
        assert!(error.starts_with("/d/000: a time of "), "{error}");
    }
}

#[test]
fn any_times_on_btrfs() {
    check(prop_oneof![-1_i64 << 40..1 << 40, -2..3_i64], |times| {
        let tree = tree(&times, Path::new("/"), true);
        let image = btrfs_image(&tree);
        oracle::btrfs_check(image.path(), whole(image.path())).expect_clean();
        agree(image.path(), "btrfs", &tree);
    });
}

/// A directory with the files of a [`tree`].
fn sources() -> TempDir {
    let sources = tempfile::tempdir().unwrap();
    fs::create_dir(sources.path().join("d")).unwrap();
    (0..FILES).for_each(|number| fs::write(sources.path().join(format!("d/{number:03}")), "").unwrap());
    sources
}

/// What FAT keeps of times.
fn on_fat(times: Times) -> Times {
    let modification = at(times.modification.seconds / 2 * 2, 0);
    let birth = at(times.birth.seconds, times.birth.nanoseconds / 10_000_000 * 10_000_000);
    Times { access: at(times.access.seconds / 86_400 * 86_400, 0), change: modification, modification, birth }
}

#[test]
fn any_times_on_fat() {
    let sources = sources();
    check(prop_oneof![FAT, Just(FAT.start), Just(FAT.end - 1)], |times| {
        let first = tree(&times, sources.path(), false);
        let image = fat_image(&first);
        oracle::fsck_fat(image.path(), whole(image.path())).expect_clean();
        let kept: Vec<_> = first.nodes().map(|node| on_fat(first.times(node))).collect();
        // The root has no entry.
        let kept: Vec<_> = [Times::STORE].into_iter().chain(kept.into_iter().skip(1)).collect();
        let found = read_back(&*open(image.path()), &first);
        assert_eq!(found, kept);
        // What was read is written as it was.
        let again = fat_image(&tree(&found, sources.path(), false));
        assert!(fs::read(image.path()).unwrap() == fs::read(again.path()).unwrap());
        mtools_agrees(image.path(), &first, &kept);
    });
}

/// mcopy -m takes the times of modification over to the host, whose clock shows UTC.
fn mtools_agrees(image: &Path, tree: &FileTree, kept: &[Times]) {
    if !need("mcopy") {
        return;
    }
    let to = tempfile::tempdir().unwrap();
    run(tool("mcopy").env("TZ", "UTC").args(["-smnQ", "-i"]).arg(image).arg("::/d").arg(to.path()));
    let sure = tree.nodes().zip(kept).skip(2).filter(|(_, times)| times.modification.seconds < NO_LEAP_DAY);
    for (node, times) in sure {
        assert_eq!(stat(&to.path().join(tree.path(node))).modification, times.modification);
    }
}

/// An image without times of its own has the times that it always had.
#[test]
fn our_own_images_can_be_written_again() {
    let data = Entry::dir([("file", Entry::file("x")), ("link", Entry::symlink("file"))]);
    let closure = ClosureBuilder::new().path("data", data).write();
    let built = Built::new(&closure, &[]);
    for partition in [built.boot(), built.nix()] {
        let filesystem = reading::open(Arc::new(window(&built.image, partition))).unwrap();
        assert_eq!(obstacles(&*filesystem), NONE);
    }
    let filesystem = reading::open(Arc::new(window(&built.image, built.nix()))).unwrap();
    assert_eq!(filesystem.rest(Path::new("nix/store")).unwrap().times, Times::STORE);
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("nix.img");
    build_btrfs(&closure, &["compress=zstd", "subvol=@/nested"], &image, &[]);
    assert_eq!(obstacles(&*open(&image)), NONE);
}

// ---- ext4

fn files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    fs::create_dir(files.path().join("d")).unwrap();
    ["f", "g", "d/h"].iter().for_each(|name| fs::write(files.path().join(name), "contents").unwrap());
    files
}

/// A filesystem of mke2fs, changed by requests to debugfs, or `None` where these are not here.
fn mke2fs(options: &[&str], requests: &[&str]) -> Option<NamedTempFile> {
    (need("mke2fs") && need("debugfs")).then(|| {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(32 * MIB).unwrap();
        run(tool("mke2fs").args(["-q", "-F", "-d"]).arg(files().path()).args(options).arg(image.path()));
        for request in requests {
            run(tool("debugfs").args(["-w", "-R", request]).arg(image.path()));
        }
        image
    })
}

/// What is in the way of writing a filesystem of mke2fs again.
#[track_caller]
fn expect_ext4(options: &[&str], requests: &[&str], wanted: &[&str]) {
    if let Some(image) = mke2fs(options, requests) {
        assert_eq!(obstacles(&*open(image.path())), wanted, "{options:?} {requests:?}");
    }
}

#[test]
fn what_ext4_has_as_a_whole() {
    expect_ext4(&["-t", "ext4"], &[], &[]);
    expect_ext4(
        &["-t", "ext4", "-b", "1024", "-I", "512", "-O", "^metadata_csum,uninit_bg,^64bit,fast_commit"],
        &[],
        &[],
    );
    expect_ext4(&["-t", "ext4", "-O", "sparse_super2,large_dir,ea_inode,meta_bg,^resize_inode"], &[], &[]);
    expect_ext4(&["-t", "ext3"], &[], &[]);
    expect_ext4(&["-t", "ext2"], &[], &["no journal"]);
    expect_ext4(&["-t", "ext4", "-O", "quota,project"], &[], &["quotas", "project quotas"]);
    expect_ext4(
        &["-t", "ext4", "-O", "mmp,encrypt,casefold,verity,stable_inodes", "-e", "panic"],
        &[],
        &[
            "inodes whose numbers are not to change",
            "multi-mount protection",
            "encryption",
            "names without regard to case",
            "verity",
            "the setting to panic after errors",
        ],
    );
    expect_ext4(
        &["-t", "ext4", "-e", "remount-ro"],
        &["ssv state 2", "ssv last_orphan 12", "ssv mount_opts discard"],
        &[
            "files that were deleted while they were open",
            "a mark that it was not unmounted",
            "a mark of errors",
            "the setting to remount read-only after errors",
            "default mount options",
        ],
    );
    expect_ext4(&["-t", "ext4"], &["ssv default_mount_opts 0x40c"], &["default mount options"]);
    expect_ext4(&["-t", "ext4"], &["ssv creator_os 1"], &["a maker other than Linux"]);
    expect_ext4(&["-t", "ext4"], &["feature needs_recovery"], &["a journal to replay"]);
    expect_ext4(&["-t", "ext4"], &["ssv error_count 3"], &["a mark of errors"]);
    if let Some(image) = mke2fs(&["-t", "ext4"], &[]) {
        image.as_file().write_all_at(b"\xeb\xfe", 0).unwrap();
        assert_eq!(obstacles(&*open(image.path())), ["boot code in its first sectors"]);
    }
}

#[test]
fn what_files_have_on_ext4() {
    let requests = [
        "sif f flags 0x80010",
        "sif g links_count 3",
        "sif d flags 0x80060",
        "mknod pipe p",
        "mknod null c 1 3",
        "ea_set d/h user.small value",
    ];
    expect_ext4(
        &["-t", "ext4"],
        &requests,
        &["d/h: extended attributes (user.small)", "g: 3 hard links", "null: a device", "pipe: a pipe"],
    );
    // Inodes of 128 bytes have their attributes in a block, and neither nanoseconds nor a time of birth.
    let requests = ["ea_set f user.a value", "ea_set f security.b value", "sif g mtime @7"];
    expect_ext4(&["-t", "ext4", "-I", "128"], &requests, &["f: extended attributes (security.b, user.a)"]);
    if let Some(image) = mke2fs(&["-t", "ext4", "-I", "128"], &requests) {
        let Times { modification, birth, .. } = open(image.path()).rest(Path::new("g")).unwrap().times;
        assert_eq!((modification, birth), (at(7, 0), Timestamp::STORE));
    }
    let requests = ["ea_set f user.a value", "sif g projid 5"];
    let wanted = ["project quotas", "f: extended attributes (user.a)", "g: the project 5"];
    expect_ext4(&["-t", "ext4", "-O", "project"], &requests, &wanted);
}

/// Attributes in the inode and, where there are many, in a block beside; the kernel makes them.
#[test]
fn attributes_on_ext4_are_found_wherever_they_are() {
    let Some(image) = mke2fs(&["-t", "ext4"], &[]) else { return };
    let Some(mount) = Mount::new(image.path(), whole(image.path()), "ext4", Access::ReadWrite) else { return };
    let path = mount.path().join("f");
    lsetxattr(&path, "user.first", b"1", XattrFlags::empty()).unwrap();
    lsetxattr(&path, "user.long", &[7; 900], XattrFlags::empty()).unwrap();
    lsetxattr(&path, "trusted.t", b"1", XattrFlags::empty()).unwrap();
    let times = stat(&path);
    drop(mount);
    let filesystem = open(image.path());
    assert_eq!(obstacles(&*filesystem), ["f: extended attributes (trusted.t, user.first, user.long)"]);
    assert_eq!(filesystem.rest(Path::new("f")).unwrap().times, times);
}

// ---- btrfs

/// A filesystem of mkfs.btrfs, changed under a mount, or `None` where that cannot be.
fn mkfs_btrfs(options: &[&str], change: impl FnOnce(&Path)) -> Option<NamedTempFile> {
    if !need("mkfs.btrfs") || !need("btrfs") || !need("chattr") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(300 * MIB).unwrap();
    run(tool("mkfs.btrfs").args(["-q", "--rootdir"]).arg(files().path()).args(options).arg(image.path()));
    assert_eq!(obstacles(&*open(image.path())), NONE, "{options:?}");
    let mount = Mount::new(image.path(), whole(image.path()), "btrfs", Access::ReadWrite)?;
    change(mount.path());
    drop(mount);
    Some(image)
}

#[test]
fn what_btrfs_has_as_a_whole() {
    for options in [&["-M"][..], &["-m", "single", "-n", "4096"], &["-O", "^no-holes"]] {
        let Some(image) = mkfs_btrfs(options, |_| {}) else { return };
        assert_eq!(obstacles(&*open(image.path())), NONE, "{options:?}");
    }
    let btrfs = |arguments: &[&str], paths: &[PathBuf]| drop(run(tool("btrfs").args(arguments).args(paths)));
    let Some(image) = mkfs_btrfs(&[], |root| {
        let at = |name: &str| root.join(name);
        btrfs(&["-q", "subvolume", "create"], &[at("plain")]);
        assert_eq!(fs::read_dir(at("plain")).unwrap().count(), 0);
        btrfs(&["-q", "subvolume", "snapshot"], &[at("plain"), at("snap")]);
        btrfs(&["-q", "subvolume", "create"], &[at("d/ro")]);
        btrfs(&["property", "set", "-ts"], &[at("d/ro"), "ro".into(), "true".into()]);
        btrfs(&["-q", "subvolume", "set-default"], &[at("plain")]);
        btrfs(&["quota", "enable"], &[root.to_owned()]);
    }) else {
        return;
    };
    image.as_file().write_all_at(b"\xeb\xfe", 0).unwrap();
    assert_eq!(
        obstacles(&*open(image.path())),
        [
            "boot code in its first sectors",
            "the default subvolume plain",
            "quotas",
            "the snapshot snap",
            "the read-only subvolume d/ro",
        ]
    );
}

#[test]
fn what_files_have_on_btrfs() {
    let mut times = None;
    let Some(image) = mkfs_btrfs(&[], |root| {
        let at = |name: &str| root.join(name);
        File::create(at("cow")).unwrap();
        for (flag, name) in [("+C", "cow"), ("+a", "f"), ("+i", "g")] {
            run(tool("chattr").arg(flag).arg(at(name)));
        }
        fs::hard_link(at("d/h"), at("d/i")).unwrap();
        run(tool("mkfifo").arg(at("pipe")));
        run(tool("btrfs").args(["property", "set"]).arg(at("d")).args(["compression", "zstd"]));
        lsetxattr(at("d/h"), "user.x", b"value", XattrFlags::empty()).unwrap();
        run(tool("fallocate").args(["--length", "1M"]).arg(at("room")));
        times = Some(stat(&at("d/h")));
    }) else {
        return;
    };
    let filesystem = open(image.path());
    assert_eq!(filesystem.rest(Path::new("d/h")).unwrap().times, times.unwrap());
    assert_eq!(
        obstacles(&*filesystem),
        [
            "cow: the flag nodatasum",
            "cow: the flag nodatacow",
            "d: extended attributes (btrfs.compression)",
            "d/h: 2 hard links",
            "d/h: extended attributes (user.x)",
            "d/i: 2 hard links",
            "d/i: extended attributes (user.x)",
            "pipe: a pipe",
        ]
    );
}

// ---- FAT

/// A filesystem of mkfs.vfat filled by mcopy, or `None` where these are not here.
fn mkfs_fat(options: &[&str], mib: u64) -> Option<NamedTempFile> {
    (need("mkfs.vfat") && need("mcopy")).then(|| {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(mib * MIB).unwrap();
        run(tool("mkfs.vfat").args(options).arg(image.path()));
        let files = files();
        let paths = ["f", "g", "d"].map(|name| OsString::from(files.path().join(name)));
        paths.iter().take(2).for_each(|path| set_modified(Path::new(path), 1_234_567_890));
        run(tool("mcopy").env("TZ", "UTC").args(["-s", "-m", "-i"]).arg(image.path()).args(paths).arg("::/"));
        image
    })
}

fn set_modified(path: &Path, seconds: i64) {
    crate::support::tree::set_mtime(path, seconds).unwrap();
}

#[test]
fn what_fat_has_as_a_whole() {
    let kinds = [
        (&["-F", "12"][..], 2),
        (&["-F", "16"], 20),
        (&["-F", "32", "-s", "1"], 40),
        (&["-F", "32", "-S", "4096", "-n", "ESP"], 300),
    ];
    for (options, mib) in kinds {
        let Some(image) = mkfs_fat(options, mib) else { return };
        let filesystem = open(image.path());
        assert_eq!(obstacles(&*filesystem), NONE, "{options:?}");
        assert_eq!(filesystem.rest(Path::new("f")).unwrap().times.modification, at(1_234_567_890, 0));
        assert!(filesystem.rest(Path::new("d")).unwrap().times.modification.seconds > 1_700_000_000);
    }
    let Some(image) = mkfs_fat(&["-F", "32", "-s", "1"], 40) else { return };
    let original = fs::read(image.path()).unwrap();
    let table = usize::from(u16::from_le_bytes([original[14], original[15]])) * 512;
    let boot = "boot code in its first sectors";
    let not_unmounted = "a mark that it was not unmounted";
    for (place, byte, wanted) in [
        (100, 0x90, boot),
        (2 * 512, 1, boot),
        (12 * 512 + 511, 1, boot),
        (65, 1, not_unmounted),
        (65, 2, "a mark of errors"),
        (table + 7, 0x07, not_unmounted),
        (table + 7, 0x0b, "a mark of errors"),
    ] {
        let mut bytes = original.clone();
        bytes[place] = byte;
        assert_eq!(obstacles(&*reading::open(Arc::new(bytes)).unwrap()), [wanted], "{place}");
    }
    let mut bytes = original.clone();
    bytes[table + 4 * 5000..][..4].copy_from_slice(&0x0fff_fff7_u32.to_le_bytes());
    assert_eq!(obstacles(&*reading::open(Arc::new(bytes)).unwrap()), ["clusters that are marked as bad"]);
    let mut bytes = original;
    bytes[90..510].fill(0);
    assert_eq!(obstacles(&*reading::open(Arc::new(bytes)).unwrap()), NONE);
}

#[test]
fn what_files_have_on_fat() {
    let Some(image) = mkfs_fat(&["-F", "32", "-s", "1"], 40).filter(|_| need("mattrib")) else { return };
    for (attribute, path) in [("+r", "::/f"), ("+h", "::/g"), ("+s", "::/d"), ("-a", "::/d/h")] {
        run(tool("mattrib").arg("-i").arg(image.path()).args([attribute, path]));
    }
    assert_eq!(
        obstacles(&*open(image.path())),
        ["d: the attribute system", "f: the attribute read-only", "g: the attribute hidden",]
    );
}
