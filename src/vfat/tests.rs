//! Tests of the ESP with other readers: fsck.fat, mtools and fatfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::{NamedTempFile, TempDir};

use super::*;
use crate::disk::oracle;
use crate::disk::region::Region;
use crate::progress::{Cancel, Progress, Silent};
use crate::read::{Bytes, FileSystem, ReadError};
use crate::source::tree::{DirectoryMode, Executable, FileTree, NodeIndex, TreeBuilder};
use crate::units::{ByteOffset, MIB, SectorSize};

/// A directory's contents.
type Items = BTreeMap<String, Item>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    File(Vec<u8>),
    Directory(Items),
}

fn file(contents: &str) -> Item {
    Item::File(contents.as_bytes().to_vec())
}

fn directory<const N: usize>(items: [(&str, Item); N]) -> Items {
    items.into_iter().map(|(name, item)| (name.to_owned(), item)).collect()
}

/// A file for each name, holding its name.
fn files<'a>(names: impl IntoIterator<Item = &'a str>) -> Items {
    names.into_iter().map(|name| (name.to_owned(), file(name))).collect()
}

/// Something like the ESP of a NixOS host, and the names that are hard to get right.
fn boot_files() -> Items {
    let kernel: Vec<_> = (0..3_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let long = "n".repeat(255);
    let names = [
        "extlinux.conf",
        "a.b.c",
        ".hidden",
        ".env",
        ".en",
        "env~1",
        "ENV~2.x",
        "Ünïcödé",
        "日本語",
        "UPPER.TXT",
        "a+b,c;d=[e]",
        "textfile-long.txt",
        "textfi~1.txt",
        "textfi~2.TXT",
        "textfile-longer.txt",
        " leading space",
        "..dots",
        "x~",
        &long,
        "thirteen-char",
        "fourteen-chars",
        "noext",
        "fi long~name.txt",
        "ﬁlong~1.txt",
        "@$%'`!(){}^#&~-_",
    ];
    directory([
        (
            "EFI",
            Item::Directory(directory([
                ("BOOT", Item::Directory(files(["BOOTX64.EFI"]))),
                (
                    "nixos",
                    Item::Directory(directory([
                        ("bzImage.efi", Item::File(kernel)),
                        ("empty", file("")),
                        ("zeros", Item::File(vec![0; 300_000])),
                    ])),
                ),
            ])),
        ),
        ("empty", Item::Directory(Items::new())),
        ("names", Item::Directory(files(names))),
        ("loader", Item::Directory(directory([("loader.conf", file("timeout 5\n"))]))),
    ])
}

fn lay_down(items: &Items, at: &Path) {
    fs::create_dir_all(at).unwrap();
    for (name, item) in items {
        match item {
            Item::File(contents) => fs::write(at.join(name), contents).unwrap(),
            Item::Directory(items) => lay_down(items, &at.join(name)),
        }
    }
}

fn add(items: &Items, builder: &mut TreeBuilder) {
    for (name, item) in items {
        match item {
            Item::File(contents) => {
                builder.file(name.as_ref(), contents.len() as u64, Executable::No).unwrap();
            }
            Item::Directory(items) => {
                builder.enter(name.as_ref(), DirectoryMode::Writable).unwrap();
                add(items, builder);
                builder.leave();
            }
        }
    }
}

/// The tree of `items`, which lie at `source` on the host.
fn tree(items: &Items, source: &Path) -> FileTree {
    let mut builder = TreeBuilder::new(DirectoryMode::Writable);
    builder.set_origin(NodeIndex::ROOT, source.to_owned());
    add(items, &mut builder);
    builder.finish()
}

fn params(size: u64, sector_size: SectorSize) -> VfatParams {
    VfatParams { size, sector_size, volume_id: 0x1234_abcd, label: "ESP".to_owned() }
}

/// An image of `items` alone, and its layout.
struct Made {
    image: NamedTempFile,
    layout: VfatLayout,
    sources: TempDir,
}

fn make(items: &Items, params: &VfatParams) -> Made {
    let sources = TempDir::new().unwrap();
    lay_down(items, sources.path());
    let tree = tree(items, sources.path());
    let layout = VfatLayout::new(&tree, params).unwrap();
    let image = NamedTempFile::new().unwrap();
    write_to(&layout, &tree, image.as_file()).unwrap();
    Made { image, layout, sources }
}

fn write_to(layout: &VfatLayout, tree: &FileTree, image: &File) -> Result<(), VfatError> {
    image.set_len(layout.size()).unwrap();
    let mut region = Region::new(image, ByteOffset(0), layout.size()).unwrap();
    write(layout, tree, &mut region, &Silent, &Cancel::new(), None)
}

/// What fsck.fat says, if it is anything but its name and its counts.
fn complaints(image: &Path) -> Option<String> {
    let output = oracle::run(Command::new("fsck.fat").arg("-n").arg(image));
    let text = oracle::text(&output);
    let lines: Vec<_> = text.lines().collect();
    let silent = matches!(lines[..], [name, counts] if name.starts_with("fsck.fat ") && counts.contains(" clusters"));
    if output.status.success() && silent { None } else { Some(text) }
}

/// All that is in the image, read by mtools.
fn read_back(image: &Path) -> Items {
    let to = TempDir::new().unwrap();
    let copy = oracle::run(Command::new("mcopy").args(["-snQ", "-i"]).arg(image).arg("::/").arg(to.path()));
    assert!(copy.status.success(), "{}", oracle::text(&copy));
    pick_up(to.path())
}

fn pick_up(at: &Path) -> Items {
    let item = |path: PathBuf| match path.is_dir() {
        true => Item::Directory(pick_up(&path)),
        false => Item::File(fs::read(&path).unwrap()),
    };
    let entry = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), item(entry.path()));
    fs::read_dir(at).unwrap().map(|found| entry(found.unwrap())).collect()
}

fn bytes(image: &NamedTempFile, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    image.as_file().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// All that is in the image, read by fatfs.
fn read_with_fatfs(made: &Made) -> Items {
    let region = Region::new(made.image.as_file(), ByteOffset(0), made.layout.size()).unwrap();
    let filesystem = fatfs::FileSystem::new(region, fatfs::FsOptions::new()).unwrap();
    assert_eq!(filesystem.stats().unwrap().free_clusters(), made.layout.free_clusters());
    let flags = filesystem.read_status_flags().unwrap();
    assert!(!flags.dirty() && !flags.io_error());
    fatfs_items(&filesystem.root_dir())
}

/// The free clusters, counted in each FAT: as many as planned, all of them after those in use.
fn check_free_clusters(made: &Made) {
    let geometry = made.layout.geometry();
    let (used, free) = (made.layout.used_clusters(), made.layout.free_clusters());
    let fats = (geometry.cluster_offset(2).0 - 8 * geometry.sector_size) / 2;
    for start in [0, fats].map(|fat| 8 * geometry.sector_size + fat) {
        let fat = bytes(&made.image, start, (geometry.clusters as usize + 2) * 4);
        assert!(fat[(used as usize + 2) * 4..].iter().all(|&byte| byte == 0));
        let in_use = fat.chunks(4).skip(2).filter(|entry| entry.iter().any(|&byte| byte != 0));
        assert_eq!(in_use.count(), used as usize);
    }
    let hint = if free == 0 { u32::MAX } else { used + 2 };
    for sector in [1, 7] {
        let info = bytes(&made.image, sector * geometry.sector_size, 512);
        assert_eq!(info[..4], *b"RRaA");
        assert_eq!(
            info[484..],
            [b"rrAa".to_vec(), free.to_le_bytes().to_vec(), hint.to_le_bytes().to_vec(), vec![0; 14], vec![0x55, 0xaa]]
                .concat()
        );
    }
}

fn fatfs_items(dir: &fatfs::Dir<'_, Region<'_>>) -> Items {
    let mut items = Items::new();
    for entry in dir.iter().map(Result::unwrap) {
        let name = entry.file_name();
        if [".", ".."].contains(&name.as_str()) {
            continue;
        }
        let epoch = fatfs::Date { year: 1980, month: 1, day: 1 };
        assert_eq!((entry.created().date, entry.accessed(), entry.modified().date), (epoch, epoch, epoch));
        let item = if entry.is_dir() {
            Item::Directory(fatfs_items(&entry.to_dir()))
        } else {
            let mut contents = Vec::new();
            std::io::Read::read_to_end(&mut entry.to_file(), &mut contents).unwrap();
            Item::File(contents)
        };
        items.insert(name, item);
    }
    items
}

/// The image holds `items` and nothing else, in the eyes of all.
fn check(items: &Items, made: &Made) {
    assert_eq!(&read_with_fatfs(made), items);
    check_free_clusters(made);
    if oracle::available("fsck.fat") {
        assert_eq!(complaints(made.image.path()), None);
    }
    if oracle::available("mcopy") {
        assert_eq!(&read_back(made.image.path()), items);
    }
}

const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

#[test]
fn boot_files_come_back() {
    for (mib, sector_size) in
        [(33, SectorSize::B512), (40, SectorSize::B512), (512, SectorSize::B512), (300, SectorSize::B4096)]
    {
        let items = boot_files();
        check(&items, &make(&items, &params(mib * MIB, sector_size)));
    }
}

/// Free space and the empty part of the FATs stay holes, also in an image of 33 GiB.
#[test]
fn free_space_is_a_hole() {
    for (mib, sector_size) in [(512, SectorSize::B512), (300, SectorSize::B4096), (33 << 10, SectorSize::B512)] {
        let items = boot_files();
        let made = make(&items, &params(mib * MIB, sector_size));
        let stored = made.image.as_file().metadata().unwrap().blocks() * 512;
        assert!(stored < 4 * MIB, "{mib} MiB: {stored} bytes");
        check(&items, &made);
    }
}

#[test]
fn the_boot_sector_and_its_backup_say_what_was_asked() {
    for sector_size in SECTOR_SIZES {
        let made = make(&boot_files(), &params(300 * MIB, sector_size));
        let sector = sector_size.bytes();
        let boot = bytes(&made.image, 0, usize::try_from(sector).unwrap());
        assert_eq!(boot, bytes(&made.image, 6 * sector, boot.len()));
        assert!(boot[512..].iter().all(|&byte| byte == 0));
        let short = |at: usize| u16::from_le_bytes([boot[at], boot[at + 1]]);
        let long = |at: usize| u32::from_le_bytes(boot[at..at + 4].try_into().unwrap());
        assert_eq!(u64::from(short(11)), sector);
        assert_eq!(u64::from(boot[13]) * sector, made.layout.cluster_size());
        assert_eq!((short(14), boot[16], boot[21]), (8, 2, 0xf8));
        assert_eq!((short(24), short(26), long(28)), (63, 255, 0), "sectors, heads, hidden sectors");
        assert_eq!(u64::from(long(32)) * sector, 300 * MIB);
        assert_eq!((short(48), short(50), boot[65]), (1, 6, 0), "FSInfo, backup, dirty");
        assert_eq!(long(67), 0x1234_abcd);
        assert_eq!(boot[71..90], *b"ESP        FAT32   ");
        assert_eq!(boot[510..512], [0x55, 0xaa]);
        let label = bytes(&made.image, made.layout.entry_offset(NodeIndex::ROOT, 0).0, 32);
        assert_eq!(label, *b"ESP        \x08\0\0\0\0\x21\0\x21\0\0\0\0\0\x21\0\0\0\0\0\0\0");
    }
}

/// The specification wants `.` and `..` first, without long names, and cluster 0 for the root.
#[test]
fn dot_entries_are_as_specified() {
    let made = make(&boot_files(), &params(40 * MIB, SectorSize::B512));
    let source = tree(&boot_files(), made.sources.path());
    let cluster = |path: &[&str]| {
        let node = source.find(path.iter().map(|name| name.as_ref())).unwrap();
        (made.layout.place(node).cluster, bytes(&made.image, made.layout.entry_offset(node, 0).0, 96))
    };
    let (efi, efi_entries) = cluster(&["EFI"]);
    let (nixos, nixos_entries) = cluster(&["EFI", "nixos"]);
    for (own, parent, entries) in [(efi, 0, efi_entries), (nixos, efi, nixos_entries)] {
        let low = |entry: usize| u32::from(u16::from_le_bytes([entries[entry + 26], entries[entry + 27]]));
        assert!(entries.starts_with(b".          \x10") && entries[32..].starts_with(b"..         \x10"));
        assert_eq!((low(0), low(32)), (own, parent));
        assert_eq!(entries[64 + 11], 0x0f, "a long name follows");
    }
}

/// The bytes follow from the tree and the parameters alone: the digest changes only with the format.
#[test]
fn images_are_reproducible() {
    use sha2::Digest;
    let made = make(&boot_files(), &params(33 * MIB, SectorSize::B512));
    let again = make(&boot_files(), &params(33 * MIB, SectorSize::B512));
    let [first, second] = [&made, &again].map(|made| fs::read(made.image.path()).unwrap());
    assert!(first == second);
    let digest: String = sha2::Sha256::digest(&first).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "53af0ec216ebda46af0d0c49c2d31fddc5d97499a2e06dbae347c63c0c7115ba");
}

#[test]
fn the_last_cluster_can_be_used() {
    for sector_size in SECTOR_SIZES {
        let params = params(257 * MIB, sector_size);
        let empty = VfatLayout::new(&tree(&Items::new(), Path::new("/")), &params).unwrap();
        let full = |more: u64| {
            let mut builder = TreeBuilder::new(DirectoryMode::Writable);
            builder.set_origin(NodeIndex::ROOT, PathBuf::from("/"));
            builder.file("big".as_ref(), empty.free_bytes() + more, Executable::No).unwrap();
            VfatLayout::new(&builder.finish(), &params)
        };
        assert_eq!(full(0).unwrap().free_clusters(), 0);
        let Err(VfatError::DoesNotFit { missing, .. }) = full(1) else { panic!() };
        assert_eq!(missing, empty.cluster_size());
    }
    let params = params(33 * MIB, SectorSize::B512);
    let room = VfatLayout::new(&tree(&Items::new(), Path::new("/")), &params).unwrap().free_bytes();
    let items = directory([("big", Item::File(vec![7; usize::try_from(room).unwrap()]))]);
    let made = make(&items, &params);
    assert_eq!((made.layout.free_bytes(), made.layout.used_bytes()), (0, room + 512));
    check(&items, &made);
}

#[test]
fn large_directories_come_back() {
    let names: Vec<_> = (0..700).map(|n| format!("a rather long file name {n:04}.dtb")).collect();
    let many = files(names.iter().map(String::as_str));
    let items = directory([("dtbs", Item::Directory(many.clone()))]).into_iter().chain(many).collect();
    for (mib, sector_size) in [(40, SectorSize::B512), (257, SectorSize::B4096)] {
        check(&items, &make(&items, &params(mib * MIB, sector_size)));
    }
}

/// Bytes that count how often they are read.
struct Counted(Vec<u8>, AtomicU64);

impl Bytes for Counted {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read_exact_at(offset, buf)
    }
}

#[test]
fn directories_are_read_once() {
    let [kernels, entries] = [["k", "i"], ["1.conf", "2.conf"]].map(|names| Item::Directory(files(names)));
    let made = make(&directory([("nixos", kernels), ("loader", entries)]), &params(40 * MIB, SectorSize::B512));
    let image = Arc::new(Counted(fs::read(made.image.path()).unwrap(), AtomicU64::new(0)));
    let reader = reader::open(Arc::clone(&image) as Arc<dyn Bytes>).unwrap();
    let reads = || {
        for path in ["nixos/k", "loader/1.conf", "loader", "nixos/i", "", "LOADER/2.CONF"] {
            reader.metadata(Path::new(path)).unwrap();
        }
        image.1.swap(0, Ordering::Relaxed)
    };
    assert_ne!(reads(), 0);
    assert_eq!(reads(), 0);
}

#[test]
fn labels() {
    let layout = |label: &str| {
        let params = VfatParams { label: label.to_owned(), ..params(40 * MIB, SectorSize::B512) };
        VfatLayout::new(&tree(&Items::new(), Path::new("/")), &params)
    };
    assert_eq!(layout("").unwrap().label(), None);
    assert_eq!(layout("a-Z_09 (!)").unwrap().label(), Some(*b"a-Z_09 (!) "));
    for label in ["twelve chars", " A", "A ", "A.B", "Ä", "A\n", "NO NAME"] {
        assert!(matches!(layout(label), Err(VfatError::Label { .. })), "{label:?}");
    }
    let items = boot_files();
    for label in ["", "boot", "NIXOS_BOOT"] {
        let params = VfatParams { label: label.to_owned(), ..params(40 * MIB, SectorSize::B512) };
        check(&items, &make(&items, &params));
    }
}

/// Each damage is to a place of its own: a FAT, a directory, the backup boot sector, FSInfo.
#[test]
fn fsck_finds_damage() {
    if !oracle::available("fsck.fat") {
        return;
    }
    let root = VfatLayout::new(&tree(&Items::new(), Path::new("/")), &params(40 * MIB, SectorSize::B512)).unwrap();
    let (root, fat) = (root.entry_offset(NodeIndex::ROOT, 0).0, 8 * 512);
    for at in [fat + 4 * 4, root + 32, root + 64 + 26, 6 * 512 + 67, 512 + 488] {
        let made = make(&boot_files(), &params(40 * MIB, SectorSize::B512));
        assert_eq!(complaints(made.image.path()), None);
        let byte = bytes(&made.image, at, 1)[0];
        made.image.as_file().write_all_at(&[byte ^ 1], at).unwrap();
        assert!(complaints(made.image.path()).is_some(), "damage at {at}");
    }
}

/// A tree of files by their sizes, without sources.
fn sizes<'a>(files: impl IntoIterator<Item = (&'a str, u64)>) -> FileTree {
    let mut builder = TreeBuilder::new(DirectoryMode::Writable);
    for (name, size) in files {
        builder.file(name.as_ref(), size, Executable::No).unwrap();
    }
    builder.finish()
}

#[test]
fn what_does_not_fit_says_by_how_much() {
    let names: Vec<_> = (0..20).map(|n| format!("kernel-{n:02}")).collect();
    let tree = sizes(names.iter().zip(0..).map(|(name, n)| (name.as_str(), (10 + n % 7) * MIB)));
    for sector_size in SECTOR_SIZES {
        for mib in [40, 64, 127, 258] {
            let params = params(mib * MIB, sector_size);
            let (at_least, missing) = match VfatLayout::new(&tree, &params) {
                Err(VfatError::DoesNotFit { at_least, missing, ref largest, .. }) => {
                    let sizes: Vec<_> = largest.iter().map(|(_, size)| size / MIB).collect();
                    assert_eq!(sizes, [16, 16, 15, 15, 15, 14, 14, 14, 13, 13]);
                    (at_least, missing)
                }
                Err(VfatError::TooSmall { at_least, .. }) => (at_least, 0),
                _ => continue,
            };
            let again = |size| VfatLayout::new(&tree, &VfatParams { size, ..params.clone() });
            assert!(missing == 0 || again(at_least).is_ok());
            assert!(again(at_least - MIB).is_err());
        }
    }
    let error = VfatLayout::new(&tree, &params(40 * MIB, SectorSize::B512)).unwrap_err().to_string();
    assert!(
        error.contains("raise bootPartSize to at least 27") && error.contains("\n      16777216  /kernel-06\n"),
        "{error}"
    );
}

#[test]
fn what_fat_cannot_hold_is_named() {
    let layout = |tree: &FileTree| VfatLayout::new(tree, &params(512 * MIB, SectorSize::B512));
    let error = |tree: &FileTree| layout(tree).unwrap_err();
    let text = |tree: &FileTree| error(tree).to_string();
    assert!(text(&sizes([("a:b", 0)])).starts_with("/a:b: FAT names cannot hold the character ':'"));
    assert!(text(&sizes([("README", 0), ("ReadMe", 0)])).starts_with("/README and /ReadMe differ only in case"));
    assert!(matches!(error(&sizes([("STRAßE", 0), ("STRAẞE", 0), ("straße", 0)])), VfatError::CaseCollision { .. }));
    assert!(layout(&sizes([("FI", 0), ("STRASSE", 0), ("s", 0), ("straße", 0), ("ſ", 0), ("ﬁ", 0)])).is_ok());
    assert!(matches!(error(&sizes([("f", 1 << 32)])), VfatError::FileTooLarge { size: 0x1_0000_0000, .. }));
    assert!(matches!(error(&sizes([("f", (1 << 32) - 1)])), VfatError::DoesNotFit { .. }));
    let mut builder = TreeBuilder::new(DirectoryMode::Writable);
    builder.enter("d".as_ref(), DirectoryMode::Writable).unwrap();
    builder.symlink("l".as_ref(), "f".as_ref()).unwrap();
    assert!(text(&builder.finish()).starts_with("/d/l: a symbolic link"));
    // 2 entries a file; the label takes one of the 65,536.
    let names: Vec<_> = (0..32_768).map(|n| format!("{n:05}")).collect();
    let many = |n: usize| sizes(names.iter().take(n).map(|name| (name.as_str(), 0)));
    assert!(layout(&many(32_767)).is_ok());
    assert!(matches!(error(&many(32_768)), VfatError::DirectoryTooLarge { entries: 65_537, .. }));
}

/// Aliases may look like other names.
#[test]
fn no_file_replaces_another() {
    for items in [files(["sſ~", "ſ_~~1"]), files(["a b", "ab~1", "AB~2", "a  b"]), files([".env", "env~1", ".Env~1"])]
    {
        check(&items, &make(&items, &params(40 * MIB, SectorSize::B512)));
    }
}

/// mtools knows no character beyond U+FFFF.
#[test]
fn characters_of_two_units_come_back() {
    let items = files(["🙂", "twelve-chars🙂", "𝄞.conf"]);
    let made = make(&items, &params(40 * MIB, SectorSize::B512));
    assert_eq!(read_with_fatfs(&made), items);
    if oracle::available("fsck.fat") {
        assert_eq!(complaints(made.image.path()), None);
    }
}

/// 4,000 names with one prefix, of which each takes four entries.
#[test]
fn many_names_with_one_prefix() {
    let names: Vec<_> = (0..4_000).map(|n| format!("one prefix of them all {n:05}")).collect();
    let items = directory([("d", Item::Directory(files(names.iter().map(String::as_str))))]);
    let sources = TempDir::new().unwrap();
    lay_down(&items, sources.path());
    let tree = tree(&items, sources.path());
    let layout = VfatLayout::new(&tree, &params(300 * MIB, SectorSize::B512)).unwrap();
    let image = NamedTempFile::new().unwrap();
    let started = std::time::Instant::now();
    write_to(&layout, &tree, image.as_file()).unwrap();
    let elapsed = started.elapsed();
    check(&items, &Made { image, layout, sources });
    // A second or two on a quiet machine. With a look at the whole directory for each name, it takes minutes.
    assert!(elapsed.as_secs() < 60, "{elapsed:?}");
}

#[test]
fn sources_are_read_as_scanned() {
    let sources = TempDir::new().unwrap();
    let items = files(["a", "b"]);
    lay_down(&items, sources.path());
    let tree = tree(&items, sources.path());
    let layout = VfatLayout::new(&tree, &params(40 * MIB, SectorSize::B512)).unwrap();
    let result = || write_to(&layout, &tree, &tempfile::tempfile().unwrap());
    result().unwrap();
    for (contents, size) in [("", 0), ("bb", 2)] {
        fs::write(sources.path().join("b"), contents).unwrap();
        let Err(VfatError::SourceChanged { path, expected: 1, found }) = result() else { panic!() };
        assert_eq!((path, found), (sources.path().join("b"), size));
    }
    fs::remove_file(sources.path().join("b")).unwrap();
    assert!(matches!(result(), Err(VfatError::Source { path, .. }) if path == sources.path().join("b")));
    let unknown = sizes([("a", 1)]);
    let result = write_to(&layout, &unknown, &tempfile::tempfile().unwrap());
    assert!(matches!(result, Err(VfatError::NoSource { .. })));
}

/// Counts what it is told.
#[derive(Default)]
struct Counter([AtomicU64; 4]);

impl Progress for Counter {
    fn warn(&self, _message: &str) {}
    fn stage(&self, _name: &str, total_files: u64, total_bytes: u64) {
        self.0[0].store(total_files, Ordering::Relaxed);
        self.0[1].store(total_bytes, Ordering::Relaxed);
    }
    fn advance(&self, files: u64, bytes: u64) {
        self.0[2].fetch_add(files, Ordering::Relaxed);
        self.0[3].fetch_add(bytes, Ordering::Relaxed);
    }
    fn relay(&self, _line: &str) {}
}

#[test]
fn progress_adds_up_and_a_stop_is_heeded() {
    let sources = TempDir::new().unwrap();
    lay_down(&boot_files(), sources.path());
    let tree = tree(&boot_files(), sources.path());
    let layout = VfatLayout::new(&tree, &params(40 * MIB, SectorSize::B512)).unwrap();
    let image = tempfile::tempfile().unwrap();
    image.set_len(layout.size()).unwrap();
    let mut region = Region::new(&image, ByteOffset(0), layout.size()).unwrap();
    let (counter, cancel) = (Counter::default(), Cancel::new());
    write(&layout, &tree, &mut region, &counter, &cancel, None).unwrap();
    let [total_files, total_bytes, files, bytes] = counter.0.map(AtomicU64::into_inner);
    assert_eq!((files, bytes), (total_files, total_bytes));
    cancel.request(2);
    assert!(matches!(write(&layout, &tree, &mut region, &Silent, &cancel, None), Err(VfatError::Cancelled(_))));
}

#[test]
fn a_full_disk_is_an_error() {
    let made = make(&boot_files(), &params(40 * MIB, SectorSize::B512));
    let tree = tree(&boot_files(), made.sources.path());
    let mut short = Region::new(made.image.as_file(), ByteOffset(0), MIB).unwrap();
    let result = write(&made.layout, &tree, &mut short, &Silent, &Cancel::new(), None);
    assert!(matches!(result, Err(VfatError::Io { .. })));
}

/// Names that differ when case is ignored, of all sorts of characters.
fn name() -> impl Strategy<Value = String> {
    let any = prop::string::string_regex("[a-c~1-2. ]{0,9}[a-c~1é日]|\\.[a-z]{1,4}|[a-zÀ-ɏ一-三.+,;=_~-]{0,40}[a-z]")
        .unwrap();
    any.prop_filter("no dots alone", |name| ![".", ".."].contains(&name.as_str()))
}

fn items() -> impl Strategy<Value = Items> {
    let contents = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..2000),
        (1..40_000usize, any::<u8>()).prop_map(|(len, value)| vec![value; len]),
    ];
    let leaf = contents.prop_map(Item::File);
    let item = leaf.prop_recursive(3, 60, 12, |inner| {
        prop::collection::btree_map(name(), inner, 0..12).prop_map(|items| Item::Directory(without_collisions(items)))
    });
    prop::collection::btree_map(name(), item, 0..12).prop_map(without_collisions)
}

fn without_collisions(items: Items) -> Items {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|(name, _)| seen.insert(names::folded(name))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_trees_come_back(items in items(), large in any::<bool>()) {
        let (mib, sector_size) = if large { (300, SectorSize::B4096) } else { (40, SectorSize::B512) };
        check(&items, &make(&items, &params(mib * MIB, sector_size)));
    }
}
