//! Our reader and our check of FAT: against mtools and fsck.fat, against damage, against anything at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sane_image::read::Kind;
use tempfile::{NamedTempFile, TempDir};

use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, Partition};
use crate::support::oracle::{self, whole};
use crate::support::reading::{self, exercise, expect_sound, faults, window, with_flip};
use crate::support::tool::{need, run, tool};
use crate::support::tree::Entry;

/// Options of mkfs.vfat and a size in KiB for each width of table and size of sector.
pub(crate) const MKFS: [(&[&str], u64, &str); 5] = [
    (&["-F", "12"], 2 << 10, "fat12"),
    (&["-F", "16"], 20 << 10, "fat16"),
    (&["-F", "32", "-s", "1", "-n", "ESP"], 40 << 10, "fat32"),
    (&["-F", "32", "-S", "4096", "-i", "12345678"], 300 << 10, "fat32"),
    (&["-F", "16", "-S", "1024", "-f", "1"], 20 << 10, "fat16"),
];

pub(crate) fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("EFI/BOOT")).unwrap();
    fs::create_dir_all(at("loader/entries")).unwrap();
    fs::write(at("EFI/BOOT/BOOTX64.EFI"), (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    fs::write(at("loader/loader.conf"), "timeout 3\n").unwrap();
    fs::write(at("empty"), "").unwrap();
    for i in 0..60 {
        fs::write(at(&format!("loader/entries/nixos-generation-{i}-with-a-long-name.conf")), i.to_string()).unwrap();
    }
    tree
}

/// A filesystem of mkfs.vfat filled by mcopy, or `None` where these are not here.
pub(crate) fn mkfs(tree: &Path, options: &[&str], kib: u64) -> Option<NamedTempFile> {
    (need("mkfs.vfat") && need("mcopy")).then(|| {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(kib << 10).unwrap();
        run(tool("mkfs.vfat").args(options).arg(image.path()));
        let entries = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().path());
        run(tool("mcopy").args(["-s", "-m", "-i"]).arg(image.path()).args(entries.collect::<Vec<_>>()).arg("::/"));
        image
    })
}

/// mtools sees the same files as our reader; our check and fsck.fat find no fault.
fn agree(image: &Path, partition: Partition) -> BTreeMap<PathBuf, Vec<u8>> {
    oracle::fsck_fat(image, partition).expect_clean();
    expect_sound(image, partition);
    let filesystem = reading::open(Arc::new(window(image, partition))).unwrap();
    let (found, errors) = reading::walk(&*filesystem, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let files = found.iter().filter(|(_, entry)| entry.metadata.kind == Kind::File);
    let files: BTreeMap<PathBuf, Vec<u8>> = files
        .map(|(path, entry)| {
            let bytes = reading::contents(&*filesystem, path, u64::MAX).unwrap();
            assert_eq!(bytes.len() as u64, entry.metadata.len);
            assert_eq!(entry.metadata.permissions, 0o644);
            (path.clone(), bytes)
        })
        .collect();
    if let Some(theirs) = oracle::fat_files(image, partition) {
        assert!(files == theirs, "{:?} are not {:?}", files.keys(), theirs.keys());
    }
    files
}

#[test]
fn our_own_images() {
    let boot = Entry::dir([("EFI", Entry::dir([("BOOT", Entry::dir([("BOOTX64.EFI", Entry::file("MZ"))]))]))]);
    for sector_size in [512, 4096] {
        let mut builder = ClosureBuilder::new().path("boot", boot.clone());
        let extra = builder.store_path("boot").to_owned();
        builder = builder.spec(move |spec| {
            spec["extraBootFiles"] = [extra].as_slice().into();
            spec["sectorSize"] = sector_size.into();
            spec["bootPartSize"] = (300u64 << 20).into();
        });
        let built = Built::new(&builder.write(), &[]);
        let files = agree(&built.image, built.boot());
        assert_eq!(files[Path::new("EFI/BOOT/BOOTX64.EFI")], b"MZ");
    }
}

#[test]
fn images_of_mkfs_and_mcopy() {
    let tree = tree();
    for (options, kib, kind) in MKFS {
        println!("{options:?}");
        let Some(image) = mkfs(tree.path(), options, kib) else { return };
        assert_eq!(agree(image.path(), whole(image.path())).len(), 63);
        let filesystem = reading::open(Arc::new(window(image.path(), whole(image.path())))).unwrap();
        let summary = filesystem.summary();
        assert_eq!((summary.features.join(" ").as_str(), summary.size), (kind, kib << 10));
        assert_eq!(summary.label, if options.contains(&"ESP") { "ESP" } else { "" });
        assert!(!options.contains(&"12345678") || summary.uuid == "1234-5678");
        let known = fs::metadata(tree.path().join("loader/loader.conf")).unwrap();
        let ours = filesystem.metadata(Path::new("LOADER/Loader.conf")).unwrap();
        let theirs = std::os::unix::fs::MetadataExt::mtime(&known);
        assert!((ours.mtime - theirs).abs() <= 2, "{} is not {theirs}", ours.mtime);
        let error = filesystem.metadata(Path::new("loader/nothing")).unwrap_err();
        assert_eq!(error.to_string(), "loader/nothing: no such file");
        let error = filesystem.list(Path::new("empty/x")).unwrap_err();
        assert_eq!(error.to_string(), "empty/x: not a directory");
    }
}

/// mkfs.vfat makes FAT32 of any size if told to, which kernels read and firmware may not.
#[test]
fn fat32_with_too_few_clusters_is_told() {
    if !need("mkfs.vfat") {
        return;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(20 << 20).unwrap();
    run(tool("mkfs.vfat").args(["-F", "32"]).arg(image.path()));
    let found = faults(&window(image.path(), whole(image.path())));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("clusters are too few for FAT32; firmware may take it for FAT16"), "{found:#?}");
    let error = reading::open(Arc::new(window(image.path(), whole(image.path())))).err().unwrap();
    assert!(error.to_string().starts_with("unsupported: FAT32 with "), "{error}");
}

/// Reading from anywhere gives what reading from the start does.
#[test]
fn files_are_read_from_anywhere() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), MKFS[0].0, MKFS[0].1) else { return };
    let filesystem = reading::open(Arc::new(window(image.path(), whole(image.path())))).unwrap();
    let wanted = fs::read(tree.path().join("EFI/BOOT/BOOTX64.EFI")).unwrap();
    let mut file = filesystem.open(Path::new("EFI/BOOT/BOOTX64.EFI")).unwrap();
    for at in [399_999, 0, 2048, 2047, 300_000, 5, 400_000, 400_001, 1 << 40] {
        let mut piece = vec![0; 5000];
        let read = file.read_at(at, &mut piece).unwrap();
        let from = usize::try_from(at).unwrap().min(wanted.len());
        assert!(piece[..read] == wanted[from..wanted.len().min(from + 5000)], "at {at}");
    }
}

/// The place of a cluster's entry in a table of 16 bits, and of the cluster itself.
struct Fat16 {
    table: usize,
    tables: usize,
    root: usize,
    data: usize,
    cluster: usize,
}

impl Fat16 {
    fn new(bytes: &[u8]) -> Self {
        let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let sector = word(11);
        let (table, tables) = (word(14) * sector, word(22) * sector);
        let root = table + 2 * tables;
        Self { table, tables, root, data: root + word(17) * 32, cluster: usize::from(bytes[13]) * sector }
    }

    /// Sets what follows a cluster in both tables.
    fn set(&self, bytes: &mut [u8], cluster: usize, next: u16) {
        for table in [self.table, self.table + self.tables] {
            bytes[table + 2 * cluster..][..2].copy_from_slice(&next.to_le_bytes());
        }
    }

    /// Sets what follows the fourth cluster of a file.
    fn lead(&self, bytes: &mut [u8], short: &[u8; 11], next: u16) {
        let fourth = Self::first_cluster(bytes, short) + 3;
        self.set(bytes, fourth, next);
    }

    /// Changes what follows a file's first cluster in the second table alone.
    fn differ(&self, bytes: &mut [u8], short: &[u8; 11]) {
        let first = Self::first_cluster(bytes, short);
        bytes[self.table + self.tables + 2 * first] ^= 1;
    }

    /// Has the fourth cluster of a file followed by the first of another.
    fn lead_to(&self, bytes: &mut [u8], short: &[u8; 11], other: &[u8; 11]) {
        let next = Self::first_cluster(bytes, other);
        self.lead(bytes, short, u16::try_from(next).unwrap());
    }

    /// Where the short entry of this name stands: the first of such in the image.
    fn entry(bytes: &[u8], short: &[u8; 11]) -> usize {
        let found = bytes.chunks(32).position(|entry| entry.starts_with(short) && entry[11] != 0x0f);
        32 * found.unwrap_or_else(|| panic!("no {}", short.escape_ascii()))
    }

    fn first_cluster(bytes: &[u8], short: &[u8; 11]) -> usize {
        let at = Self::entry(bytes, short) + 26;
        usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    }
}

#[test]
fn damage_is_found_and_named() {
    type Damage = (&'static str, fn(&mut Vec<u8>, &Fat16), &'static str, bool);
    const FILE: &[u8; 11] = b"BOOTX64 EFI";
    const CONF: &[u8; 11] = b"LOADER~1CON";
    let cases: [Damage; 17] = [
        ("a chain with a circle", |b, f| f.lead_to(b, FILE, FILE), "file EFI/BOOT/BOOTX64.EFI", true),
        ("a chain to cluster 1", |b, f| f.lead(b, FILE, 1), "file EFI/BOOT/BOOTX64.EFI", true),
        ("a chain past the end", |b, f| f.lead(b, FILE, 0xffe0), "file EFI/BOOT/BOOTX64.EFI", true),
        ("a chain into the free", |b, f| f.lead(b, FILE, 0), "file EFI/BOOT/BOOTX64.EFI", true),
        ("a chain cut short", |b, f| f.lead(b, FILE, 0xffff), "file EFI/BOOT/BOOTX64.EFI", true),
        (
            "a chain into another",
            |b, f| f.lead_to(b, FILE, CONF),
            "claimed by file EFI/BOOT/BOOTX64.EFI and by file loader/loader.conf",
            true,
        ),
        (
            "a directory in itself",
            |b, _| {
                let up = Fat16::first_cluster(b, b"EFI        ");
                let at = Fat16::entry(b, b"BOOT       ") + 26;
                b[at] = u8::try_from(up).unwrap();
            },
            "directory EFI/BOOT",
            true,
        ),
        (
            "a directory that is the root",
            |b, _| {
                let at = Fat16::entry(b, b"BOOT       ") + 26;
                b[at] = 0;
            },
            "directory EFI/BOOT",
            true,
        ),
        ("tables that differ", |b, f| f.differ(b, FILE), "table 1: differs from table 0", false),
        (
            "lost clusters",
            |b, f| (5000..5003).for_each(|cluster| f.set(b, cluster, 0xffff)),
            "clusters 5000 to 5002: are marked in use",
            false,
        ),
        (
            "a length",
            |b, _| {
                let at = Fat16::entry(b, CONF) + 29;
                b[at] = 0xff;
            },
            "file loader/loader.conf: has",
            true,
        ),
        (
            "a long name's checksum",
            |b, _| {
                let at = Fat16::entry(b, CONF) - 32 + 13;
                b[at] ^= 1;
            },
            "has a long name that belongs to another short name",
            false,
        ),
        (
            "a long name's order",
            |b, _| {
                let at = Fat16::entry(b, CONF) - 32;
                b[at] = 3;
            },
            "directory loader: has parts of a long name",
            false,
        ),
        (
            "a short name",
            |b, _| {
                let at = Fat16::entry(b, b"EFI        ") + 1;
                b[at] = b'*';
            },
            "has a short name with a character",
            false,
        ),
        (
            "a slash",
            |b, _| {
                let at = Fat16::entry(b, b"EFI        ") + 1;
                b[at] = b'/';
            },
            "has a name with a slash",
            true,
        ),
        (
            "dot-dot",
            |b, f| {
                let at = f.data + (Fat16::first_cluster(b, b"BOOT       ") - 2) * f.cluster + 32 + 26;
                b[at] ^= 4;
            },
            "directory EFI/BOOT: does not start with . for",
            false,
        ),
        (
            "not unmounted",
            |b, f| {
                b[f.table + 3] &= 0x7f;
                b[f.table + f.tables + 3] &= 0x7f;
            },
            "boot sector: the filesystem was not cleanly unmounted",
            false,
        ),
    ];
    let tree = tree();
    let Some(image) = mkfs(tree.path(), &["-F", "16"], 20 << 10) else { return };
    let bytes = reading::load(image.path(), whole(image.path()));
    let fat = Fat16::new(&bytes);
    assert!(fat.root < fat.data);
    for (what, damage, named, refused) in cases {
        let mut bytes = bytes.clone();
        damage(&mut bytes, &fat);
        let found = faults(&bytes);
        assert!(found.iter().any(|fault| fault.contains(named)), "{what}: {named:?} is not in {found:#?}");
        let opened = reading::open(Arc::new(bytes));
        assert_eq!(opened.is_err(), refused, "{what}: {:?}", opened.err());
    }
}

/// As in Linux, whatever follows: mtools and Windows fill up with ones.
#[test]
fn a_long_name_ends_at_its_first_zero() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), &["-F", "16"], 20 << 10) else { return };
    let mut bytes = reading::load(image.path(), whole(image.path()));
    // The last of 13 characters, of which `loader.conf` and its zero take 12.
    let at = Fat16::entry(&bytes, b"LOADER~1CON") - 32 + 30;
    bytes[at] = b'x';
    let found = faults(&bytes);
    assert!(found.iter().any(|fault| fault.contains("has a long name that does not end as it should")), "{found:#?}");
    let fs = reading::open(Arc::new(bytes)).unwrap();
    let names: Vec<_> = fs.list(Path::new("loader")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.contains(&"loader.conf".into()), "{names:?}");
}

/// Each bit of what FAT32 keeps twice or signs.
#[test]
fn flipped_bits_of_fat32_are_found() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), MKFS[2].0, MKFS[2].1) else { return };
    let mut bytes = reading::load(image.path(), whole(image.path()));
    let table = usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) * 512;
    let places = [
        ("boot sector", 3, "boot sector: differs from its copy in sector 6 at byte 3"),
        ("boot code", 200, "boot sector: differs from its copy"),
        ("sectors", 34, "boot sector"),
        ("signature", 510, "boot sector"),
        ("copy", 6 * 512 + 70, "boot sector: differs from its copy in sector 6 at byte 70"),
        ("FSInfo's signature", 512 + 1, "FSInfo: has no signature at byte 0"),
        ("free clusters", 512 + 488, "FSInfo: says"),
        ("media", table, "table 0"),
        ("a chain", table + 4 * 9, "table 1: differs from table 0"),
        ("the copy of a chain", table + 4 * 9 + 1, "table 1: differs from table 0"),
    ];
    for (what, at, named) in places {
        for bit in [0, 5] {
            let found = with_flip(&mut bytes, at, bit, |bytes| faults(bytes));
            assert!(found.iter().any(|fault| fault.contains(named)), "{what}: {named:?} is not in {found:#?}");
        }
    }
    assert_eq!(faults(&bytes), [""; 0]);
}

/// Random bytes in the midst of structure, one width of table after the other.
#[test]
fn anything_at_all_is_survived() {
    let tree = tree();
    for (options, kib, _) in &MKFS[..3] {
        let Some(image) = mkfs(tree.path(), options, *kib) else { return };
        let bytes = fs::read(image.path()).unwrap();
        let blocks = bytes.chunks(64).enumerate().filter(|(_, block)| block.iter().any(|&byte| byte != 0));
        // The one large file is contents: its structure is in the table.
        let places: Vec<usize> =
            blocks.map(|(index, _)| index * 64).filter(|&at| at < 150_000 || at % 4096 == 0).collect();
        let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xff), Just(1), Just(0xe5)];
        let change = (any::<prop::sample::Index>(), 0usize..64, prop::collection::vec(value, 1..5));
        // The boot sector is a place among thousands, and the one that all depends on.
        let boot = (11usize..90, any::<u8>());
        let changes = (prop::collection::vec(change, 1..5), prop::option::weighted(0.3, boot));
        let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
        let result = runner.run(&changes, |(changes, boot)| {
            let mut bytes = bytes.clone();
            for (index, offset, values) in changes {
                let at = places[index.index(places.len())] + offset;
                bytes.iter_mut().skip(at).zip(values).for_each(|(byte, value)| *byte = value);
            }
            if let Some((at, value)) = boot {
                bytes[at] = value;
            }
            exercise(bytes);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
    }
}

/// How many cases each width gets; more of them, for hours, by SANE_IMAGE_FUZZ_CASES.
fn cases() -> u32 {
    std::env::var("SANE_IMAGE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(128)
}
