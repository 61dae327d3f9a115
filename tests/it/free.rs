//! What our readers call free: nobody misses it, whoever made the filesystem.
//!
//! Junk is written to all of it; the filesystem's own tools and the kernel must find nothing amiss, and the same files.

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sane_image::image::{self, Image};
use sane_image::read::FileSystem;
use tempfile::NamedTempFile;

use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, Partition};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, Verdict, whole};
use crate::support::reading::{self, differences, expect_sound, walk, window};
use crate::support::tool::{need, run, slice, tool};
use crate::support::tree::{Contents, Entry};
use crate::{read_btrfs, read_ext4, read_vfat};

const MIB: u64 = 1 << 20;

fn open(image: &Path) -> Box<dyn FileSystem> {
    reading::open(Arc::new(window(image, whole(image)))).unwrap()
}

/// Whether this is all of so many bytes.
fn is_all(ranges: &[Range<u64>], len: u64) -> bool {
    ranges.iter().eq(std::iter::once(&(0..len)))
}

fn fill(file: &File, range: &Range<u64>) {
    let junk = [0xaa; 1 << 16];
    for at in range.clone().step_by(junk.len()) {
        let len = usize::try_from(range.end - at).map_or(junk.len(), |left| left.min(junk.len()));
        file.write_all_at(&junk[..len], at).unwrap();
    }
}

/// A filesystem with junk wherever it is free, and how many bytes those are. What a map of the image says is the same.
fn junked(image: &Path, partition: Partition) -> (NamedTempFile, u64) {
    let copy = slice(image, partition);
    let free = open(copy.path()).free().unwrap();
    let map = image::map(&Image::open(copy.path()).unwrap(), NonZeroUsize::MIN);
    assert_eq!(map.size(), partition.size);
    let mut at = 0;
    for range in &free {
        assert!(at == 0 || range.start > at, "{range:?} comes after {at}");
        assert_eq!(map.within(range.clone()).count(), 0, "{range:?} is free, and in the map");
        assert!(
            map.within(at..range.start).map(|extent| extent.range.end - extent.range.start).sum::<u64>()
                == range.start - at
        );
        at = range.end;
        fill(copy.as_file(), range);
    }
    (copy, free.iter().map(|range| range.end - range.start).sum())
}

/// Our reader finds in one filesystem what it finds in the other.
fn assert_same(image: &Path, partition: Partition, other: &Path) {
    let (one, other) = (reading::open(Arc::new(window(image, partition))).unwrap(), open(other));
    let (found, errors) = walk(&*one, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let (same, errors) = walk(&*other, usize::MAX);
    assert!(errors.is_empty() && found == same, "{errors:?}");
    for (path, _) in found.iter().filter(|(_, entry)| entry.metadata.kind == sane_image::read::Kind::File) {
        let all = |fs: &dyn FileSystem| reading::contents(fs, path, u64::MAX).unwrap();
        assert!(all(&*one) == all(&*other), "{}", path.display());
    }
}

#[track_caller]
fn nobody_misses_it(
    image: &Path,
    partition: Partition,
    judge: fn(&Path, Partition) -> Verdict,
    kind: &str,
    options: &str,
) {
    judge(image, partition).expect_clean();
    let (junked, bytes) = junked(image, partition);
    assert!(bytes > partition.size / 20, "{bytes} of {} bytes are free", partition.size);
    let junk = junked.path();
    judge(junk, whole(junk)).expect_clean();
    expect_sound(junk, whole(junk));
    assert_same(image, partition, junk);
    if kind == "vfat" {
        // Not every kernel has it.
        assert!(oracle::fat_files(image, partition) == oracle::fat_files(junk, whole(junk)));
        return;
    }
    if let Some(mount) = Mount::with_options(junk, whole(junk), kind, Access::ReadOnly, options) {
        let original = reading::open(Arc::new(window(image, partition))).unwrap();
        assert_eq!(differences(&*original, mount.path()), [""; 0]);
    }
}

// ---- ext4

/// The free blocks that dumpe2fs lists, as bytes.
fn told_by_dumpe2fs(image: &Path) -> Option<Vec<Range<u64>>> {
    let said = oracle::dumpe2fs(image, whole(image)).expect_clean()?;
    let size = oracle::field(&said, "Block size");
    let lists = said.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let ranges = lists.flat_map(|list| list.split(", ")).filter(|range| !range.trim().is_empty());
    let mut free: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = first.parse::<u64>().unwrap() * size..(last.parse::<u64>().unwrap() + 1) * size;
        match free.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => free.push(range),
        }
    }
    Some(free)
}

fn judge_ext4(image: &Path) {
    if let Some(told) = told_by_dumpe2fs(image) {
        assert_eq!(open(image).free().unwrap(), told);
    }
    nobody_misses_it(image, whole(image), oracle::e2fsck, "ext4", "");
}

#[test]
fn ext4_of_mke2fs_and_the_kernel() {
    let tree = read_ext4::tree();
    let more: [&[&str]; 3] = [
        &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg", "-g", "1024", "-N", "2000"],
        &["-t", "ext4", "-b", "1024", "-O", "sparse_super2,mmp", "-G", "4"],
        &["-t", "ext4", "-b", "4096", "-O", "^has_journal,^flex_bg", "-g", "2048"],
    ];
    for options in read_ext4::MKFS.iter().chain(&more) {
        println!("{options:?}");
        let Some(image) = read_ext4::mkfs(tree.path(), options) else { return };
        judge_ext4(image.path());
        if options.iter().any(|option| option.contains("ext2") || option.contains("mmp")) {
            continue;
        }
        let Some(mount) = Mount::new(image.path(), whole(image.path()), "ext4", Access::ReadWrite) else { continue };
        read_ext4::live_in(mount.path());
        drop(mount);
        judge_ext4(image.path());
    }
}

/// Many groups that were never written to, with copies of the superblock among them.
#[test]
fn ext4_of_many_groups() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "x").unwrap();
    for options in
        [&["-O", "64bit"][..], &["-O", "meta_bg,^resize_inode"], &["-E", "lazy_itable_init=1"], &["-O", "^flex_bg"]]
    {
        if !need("mke2fs") {
            return;
        }
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(700 * MIB).unwrap();
        run(tool("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-d"])
            .arg(tree.path())
            .args(options)
            .arg(image.path()));
        judge_ext4(image.path());
    }
}

/// Where anything is not as it should be, all is contents.
#[test]
fn doubt_makes_all_of_it_contents() {
    let tree = read_ext4::tree();
    let Some(image) = read_ext4::mkfs(tree.path(), read_ext4::MKFS[2]) else { return };
    let free_bytes = |path: &Path| {
        let map = image::map(&Image::open(path).unwrap(), NonZeroUsize::MIN);
        map.size() - map.extents().iter().map(|extent| extent.range.end - extent.range.start).sum::<u64>()
    };
    assert!(free_bytes(image.path()) > MIB);
    let Some(told) = told_by_dumpe2fs(image.path()) else { return };
    let said = oracle::dumpe2fs(image.path(), whole(image.path())).expect_clean().unwrap();
    let bitmap = said.split_once("Block bitmap at ").unwrap().1.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let bitmap = bitmap.parse::<u64>().unwrap() * 1024;
    // A bit of a used block, one of a free block, one of each, and the state of the superblock.
    let used = 20;
    let free = told[0].start / 1024 - 1;
    for (bits, state) in [(&[used][..], None), (&[free], None), (&[used, free], None), (&[], Some(0)), (&[], Some(3))] {
        let copy = slice(image.path(), whole(image.path()));
        for bit in bits {
            let mut byte = [0];
            copy.as_file().read_exact_at(&mut byte, bitmap + bit / 8).unwrap();
            copy.as_file().write_all_at(&[byte[0] ^ 1 << (bit % 8)], bitmap + bit / 8).unwrap();
        }
        state.iter().for_each(|state| copy.as_file().write_all_at(&[*state], 1024 + 0x3a).unwrap());
        assert_eq!(free_bytes(copy.path()), 0, "{bits:?} {state:?}");
    }
}

/// A journal that waits may have newer bitmaps.
#[test]
fn a_journal_that_waits_leaves_nothing_free() {
    let tree = read_ext4::tree();
    let Some(image) = read_ext4::mkfs(tree.path(), read_ext4::MKFS[0]) else { return };
    let Some(mount) = Mount::new(image.path(), whole(image.path()), "ext4", Access::ReadWrite) else { return };
    read_ext4::live_in(mount.path());
    rustix::fs::syncfs(File::open(mount.path()).unwrap()).unwrap();
    let copy = slice(image.path(), whole(image.path()));
    drop(mount);
    assert_eq!(open(copy.path()).free().unwrap(), []);
    assert!(!open(image.path()).free().unwrap().is_empty());
}

/// Bytes are changed all over filesystems that guard few of them: what is then still called free is still nobody's.
#[test]
fn damage_frees_nothing_that_is_used() {
    let ext = read_ext4::mkfs(read_vfat::tree().path(), &["-t", "ext2", "-b", "1024"]);
    let fat = read_vfat::mkfs(read_vfat::tree().path(), read_vfat::MKFS[0].0, read_vfat::MKFS[0].1);
    let mut freed = 0;
    for (number, image) in [ext, fat].into_iter().flatten().enumerate() {
        let len = whole(image.path()).size;
        let map = image::map(&Image::open(image.path()).unwrap(), NonZeroUsize::MIN);
        let used: Vec<u64> = map.data_units(512).into_iter().flat_map(|units| units.step_by(512)).collect();
        let file = File::options().read(true).write(true).open(image.path()).unwrap();
        let damage = |runner: &mut TestRunner| {
            let strategy = (prop::sample::select(used.clone()), 0..512_u64, 1..=255_u8);
            let (at, within, bits) = strategy.new_tree(runner).unwrap().current();
            // Half of it where structures are.
            let at = if bits & 1 == 0 { at } else { at % (256 << 10) / 512 * 512 };
            (at + within, bits)
        };
        let mut runner = TestRunner::deterministic();
        for _ in 0..100 {
            let (at, bits) = damage(&mut runner);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ bits], at).unwrap();
            freed += u64::from(is_still_nobodys(image.path(), len));
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(freed > 5 * (number as u64 + 1), "{freed} of the changes left something free");
    }
}

/// Whether anything is free, which then can be lost.
fn is_still_nobodys(image: &Path, len: u64) -> bool {
    let Ok(opened) = Image::open(image) else { return false };
    let map = image::map(&opened, NonZeroUsize::MIN);
    let used: Vec<_> = map.read_units(1);
    if is_all(&used, len) {
        return false;
    }
    let copy = NamedTempFile::new().unwrap();
    copy.as_file().set_len(len).unwrap();
    fill(copy.as_file(), &(0..len));
    let from = File::open(image).unwrap();
    for range in used {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        from.read_exact_at(&mut bytes, range.start).unwrap();
        copy.as_file().write_all_at(&bytes, range.start).unwrap();
    }
    expect_sound(copy.path(), whole(copy.path()));
    assert_same(image, whole(image), copy.path());
    true
}

/// A disk that may have filesystems besides those in its partitions is contents.
#[test]
fn disks_that_are_more_than_their_partitions() {
    let built = crate::containers::example();
    let is_contents = |change: &dyn Fn(&File)| {
        let copy = slice(&built.image, whole(&built.image));
        change(copy.as_file());
        let map = image::map(&Image::open(copy.path()).unwrap(), NonZeroUsize::MIN);
        is_all(&map.read_units(1), map.size())
    };
    let end = whole(&built.image).size;
    assert!(!is_contents(&|_| {}));
    // A damaged header, as long as the other is whole.
    assert!(!is_contents(&|disk| disk.write_all_at(&[0xff; 8], 512 + 24).unwrap()));
    assert!(!is_contents(&|disk| disk.write_all_at(&[0xff; 8], end - 512 + 24).unwrap()));
    // A CD, a FAT around it all, and both headers damaged.
    assert!(is_contents(&|disk| disk.write_all_at(b"\x01CD001", 32 << 10).unwrap()));
    assert!(is_contents(&|disk| {
        let mut sector = [0; 446];
        File::open(&built.image).unwrap().read_exact_at(&mut sector, built.boot().offset).unwrap();
        disk.write_all_at(&sector, 0).unwrap();
    }));
    assert!(is_contents(&|disk| [512 + 24, end - 512 + 24]
        .iter()
        .for_each(|&at| disk.write_all_at(&[0xff; 8], at).unwrap())));
}

/// A swap area keeps its first page alone, unless a system sleeps there.
#[test]
fn swap_areas_are_free() {
    if !need("sfdisk") || !need("mkswap") {
        return;
    }
    for (script, start) in
        [("label: gpt\nstart=2048,size=16MiB,type=swap\n", MIB), ("label: dos\nstart=2048,size=16MiB,type=82\n", MIB)]
    {
        let disk = NamedTempFile::new().unwrap();
        disk.as_file().set_len(32 * MIB).unwrap();
        let mut sfdisk = tool("sfdisk").arg("-q").arg(disk.path()).stdin(Stdio::piped()).spawn().unwrap();
        sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let swap = NamedTempFile::new().unwrap();
        swap.as_file().set_len(16 * MIB).unwrap();
        run(tool("mkswap").args(["--pagesize", "4096"]).arg(swap.path()));
        disk.as_file().write_all_at(&fs::read(swap.path()).unwrap(), start).unwrap();
        let used = || image::map(&Image::open(disk.path()).unwrap(), NonZeroUsize::MIN).read_units(1);
        assert_eq!(used(), [0..start + 4096, start + 16 * MIB..32 * MIB]);
        disk.as_file().write_all_at(b"S1SUSPEND\0", start + 4086).unwrap();
        assert!(is_all(&used(), 32 * MIB));
    }
}

// ---- FAT

#[test]
fn fat_of_mkfs() {
    let tree = read_vfat::tree();
    for (options, kib, _) in read_vfat::MKFS {
        println!("{options:?}");
        let Some(image) = read_vfat::mkfs(tree.path(), options, kib) else { return };
        nobody_misses_it(image.path(), whole(image.path()), oracle::fsck_fat, "vfat", "uid=0,utf8");
        run(tool("mdel").arg("-i").arg(image.path()).args(["::/EFI/BOOT/BOOTX64.EFI", "::/loader/entries/*1*"]));
        let (_, before) = junked(image.path(), whole(image.path()));
        assert_eq!(before, open(image.path()).summary().free);
        nobody_misses_it(image.path(), whole(image.path()), oracle::fsck_fat, "vfat", "uid=0,utf8");
    }
}

// ---- btrfs

#[test]
fn btrfs_of_mkfs_and_the_kernel() {
    let tree = read_btrfs::tree();
    let more: [&[&str]; 1] = [&["-d", "dup", "-m", "dup"]];
    for options in read_btrfs::MKFS.iter().chain(&more) {
        println!("{options:?}");
        let Some(image) = read_btrfs::mkfs(tree.path(), options) else { return };
        nobody_misses_it(image.path(), whole(image.path()), oracle::btrfs_check, "btrfs", "subvolid=5");
        let mount = Mount::with_options(image.path(), whole(image.path()), "btrfs", Access::ReadWrite, "compress=zstd");
        let Some(mount) = mount else { continue };
        read_btrfs::live(&mount.path().join("lived"), mount.path());
        for name in (0..300).filter(|name| name % 3 == 0) {
            fs::remove_file(mount.path().join(format!("dir/{name}-{}", "n".repeat(name % 200)))).unwrap();
        }
        run(tool("btrfs").args(["subvolume", "delete", "--commit-after"]).arg(mount.path().join("lived-snapshot")));
        drop(mount);
        nobody_misses_it(image.path(), whole(image.path()), oracle::btrfs_check, "btrfs", "subvolid=5");
    }
}

// ---- ours

#[test]
fn our_own_images() {
    let tree =
        Entry::dir([("file", Entry::of(Contents::Pattern { seed: 9, len: 3_000_000 })), ("x", Entry::file("x"))]);
    let closure =
        ClosureBuilder::new().path("data", tree).spec(|spec| spec["nixFreeSpace"] = (140 * MIB).into()).write();
    let built = Built::new(&closure, &[]);
    nobody_misses_it(&built.image, built.nix(), oracle::e2fsck, "ext4", "");
    nobody_misses_it(&built.image, built.boot(), oracle::fsck_fat, "vfat", "uid=0,utf8");
    let closure = read_btrfs::closure();
    for options in [&[][..], &["compress=zstd:3", "subvol=@"]] {
        let (dir, options) = (tempfile::tempdir().unwrap(), options);
        let image = dir.path().join("nix.img");
        crate::judge::build_btrfs(&closure, options, &image, &[]);
        nobody_misses_it(&image, whole(&image), oracle::btrfs_check, "btrfs", "subvolid=5");
    }
}

/// Junk where something is used is seen by those who judge here.
#[test]
fn junk_elsewhere_is_missed() {
    let tree = read_btrfs::tree();
    let Some(image) = read_btrfs::mkfs(tree.path(), &[]) else { return };
    let (copy, _) = junked(image.path(), whole(image.path()));
    let map = image::map(&Image::open(image.path()).unwrap(), NonZeroUsize::MIN);
    let used: Vec<_> = map.extents().iter().filter(|extent| extent.range.start > 2 * MIB).collect();
    used.iter().for_each(|extent| fill(copy.as_file(), &(extent.range.start..extent.range.start + 4096)));
    oracle::btrfs_check(copy.path(), whole(copy.path())).expect_damage();

    let tree = read_ext4::tree();
    let Some(image) = read_ext4::mkfs(tree.path(), read_ext4::MKFS[0]) else { return };
    let (copy, _) = junked(image.path(), whole(image.path()));
    let map = image::map(&Image::open(image.path()).unwrap(), NonZeroUsize::MIN);
    map.extents().iter().for_each(|extent| fill(copy.as_file(), &(extent.range.end - 4096..extent.range.end)));
    let found = oracle::e2fsck(copy.path(), whole(copy.path()));
    let is_seen = matches!(found, Verdict::Damaged(_))
        || std::panic::catch_unwind(|| assert_same(image.path(), whole(image.path()), copy.path())).is_err();
    assert!(is_seen);
}
