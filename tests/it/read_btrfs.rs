//! Our reader and our check of btrfs: against the kernel, against damage, against anything at all.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sane_image::btrfs::csum;
use sane_image::btrfs::format::{
    BlockGroupItem, DirItem, DiskKey, Header, InodeItem, Item, KeyPtr, RootItem, Superblock, kind, object,
};
use sane_image::read::{Bytes, FileSystem, ReadError};
use sane_image::units::ByteOffset;
use tempfile::{NamedTempFile, TempDir};
use zerocopy::{FromBytes, IntoBytes};

use crate::judge::{build_btrfs, numbered};
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{self, whole};
use crate::support::reading::{self, differences, exercise, expect_sound, faults, load, window, with_flip};
use crate::support::tool::{need, run, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;
/// Where the superblock is.
const SUPERBLOCK: usize = 64 << 10;
/// The node size of images of ours.
const NODE: usize = 16 << 10;

/// Kinds of filesystems that others make.
pub(crate) const MKFS: [&[&str]; 6] = [
    &[],
    &["-n", "4096", "-m", "single"],
    &["-n", "65536"],
    &["-M"],
    &["-O", "^no-holes,^skinny-metadata"],
    &["-R", "^free-space-tree"],
];

pub(crate) fn closure() -> Closure {
    let prose: Vec<u8> = b"all work and no play ".iter().copied().cycle().take(400_000).collect();
    let tree = Entry::dir([
        ("large", Entry::of(Contents::Pattern { seed: 3, len: 3_000_000 })),
        ("link", Entry::symlink("l".repeat(3_000))),
        ("many", numbered(900, |i| Entry::file("x".repeat(i * 3)))),
        ("new\nline", Entry::executable("#!")),
        ("prose", Entry::file(prose)),
        ("zeros", Entry::of(Contents::zeros(200_000))),
    ]);
    ClosureBuilder::new().path("data", tree).spec(|spec| spec["nixFreeSpace"] = MIB.into()).write()
}

fn image(closure: &Closure, options: &[&str]) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("nix.img");
    build_btrfs(closure, options, &image, &[]);
    (dir, image)
}

fn open(image: &Path) -> Box<dyn FileSystem> {
    reading::open(Arc::new(window(image, whole(image)))).unwrap()
}

/// The kernel sees the same in an image as our reader, and our check finds no fault where btrfs check finds none.
fn agree_with_the_kernel(image: &Path) {
    oracle::btrfs_check(image, whole(image)).expect_clean();
    expect_sound(image, whole(image));
    if let Some(mount) = Mount::with_options(image, whole(image), "btrfs", Access::ReadOnly, "subvolid=5") {
        assert_eq!(differences(&*open(image), mount.path()), [""; 0]);
    }
}

#[test]
fn our_own_images() {
    let closure = closure();
    for options in [&[][..], &["compress=zstd:3"], &["compress=lzo", "subvol=@/nested"], &["compress-force=zlib:9"]] {
        println!("{options:?}");
        let (_dir, image) = image(&closure, options);
        agree_with_the_kernel(&image);
        let filesystem = open(&image);
        let summary = filesystem.summary();
        assert_eq!((summary.label.as_str(), summary.size), ("NIXOS_SYSTEM", whole(&image).size));
        assert!(summary.free >= MIB && summary.free < summary.size, "{summary:?}");
        assert!(summary.features.contains(&"no-holes".to_owned()), "{summary:?}");
    }
}

/// A directory for mkfs.btrfs.
pub(crate) fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("dir/sub")).unwrap();
    for i in 0..300 {
        fs::write(at(&format!("dir/{i}-{}", "n".repeat(i % 200))), "c".repeat(i * 20)).unwrap();
    }
    fs::write(at("big"), (0..400_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    fs::set_permissions(at("big"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("x".repeat(2_000), at("link")).unwrap();
    tree
}

/// An image that mkfs.btrfs made of a [`tree`], or `None` where that is not here. `big` is setuid there alone: a sandbox
/// refuses the bit to files of its own.
pub(crate) fn mkfs(tree: &Path, options: &[&str]) -> Option<NamedTempFile> {
    need("mkfs.btrfs").then(|| {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(400 * MIB).unwrap();
        run(tool("mkfs.btrfs").args(["-q", "-f"]).args(options).arg("--rootdir").arg(tree).arg(image.path()));
        make_big_setuid(image.as_file());
        image
    })
}

/// Sets the mode of `big` in every copy of the leaf that has it.
fn make_big_setuid(image: &File) {
    let mut superblock = vec![0; size_of::<Superblock>()];
    image.read_exact_at(&mut superblock, SUPERBLOCK as u64).unwrap();
    let superblock = Superblock::read_from_bytes(&superblock).unwrap();
    let mut node = vec![0; superblock.nodesize.get() as usize];
    let end = image.metadata().unwrap().len() - node.len() as u64;
    let mut changed = 0;
    for at in (MIB..end).step_by(4096) {
        image.read_exact_at(&mut node[..size_of::<Header>()], at).unwrap();
        let head = header(&node, 0);
        if head.fsid != superblock.fsid || head.owner.get() != object::FS_TREE || head.level != 0 {
            continue;
        }
        image.read_exact_at(&mut node, at).unwrap();
        let set_mode = &mut |_: &mut DiskKey, data: &mut [u8]| {
            let mut inode = InodeItem::read_from_bytes(data).unwrap();
            let is_it = inode.mode.get() == 0o100_711;
            if is_it {
                inode.mode = 0o104_711.into();
                data.copy_from_slice(inode.as_bytes());
            }
            is_it
        };
        if edit(&mut node, kind::INODE_ITEM, set_mode) {
            mend(&mut node);
            image.write_all_at(&node, at).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 0, "no leaf has the file");
}

#[test]
fn images_of_mkfs() {
    let tree = tree();
    for options in MKFS {
        println!("{options:?}");
        if let Some(image) = mkfs(tree.path(), options) {
            assert_eq!(open(image.path()).metadata(Path::new("big")).unwrap().permissions, 0o4711);
            agree_with_the_kernel(image.path());
        }
    }
}

/// What only a kernel makes: snapshots, shared and cut extents, unwritten ones, holes, names beyond one item, compression.
#[test]
fn filesystems_that_a_kernel_has_used() {
    let tree = tree();
    for options in MKFS {
        println!("{options:?}");
        let Some(image) = mkfs(tree.path(), options) else { return };
        for compress in ["no", "zstd", "lzo", "zlib"] {
            let options = format!("compress-force={compress}");
            let mount = Mount::with_options(image.path(), whole(image.path()), "btrfs", Access::ReadWrite, &options);
            let Some(mount) = mount else { return };
            live(&mount.path().join(compress), mount.path());
        }
        agree_with_the_kernel(image.path());
    }
}

pub(crate) fn live(at: &Path, root: &Path) {
    let btrfs = |arguments: &[&str]| run(tool("btrfs").args(arguments));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    btrfs(&["subvolume", "create", &text(at)]);
    let file = at.join("file");
    fs::write(&file, (0..90_000u32).flat_map(|i| (i / 50).to_le_bytes()).collect::<Vec<_>>()).unwrap();
    run(tool("cp").arg("--reflink=always").args([&file, &at.join("clone")]));
    let clone = File::options().write(true).open(at.join("clone")).unwrap();
    clone.write_all_at(&[9; 5_000], 70_001).unwrap();
    let unwritten = File::create(at.join("unwritten")).unwrap();
    run(tool("fallocate").args(["--length", "1M"]).arg(at.join("unwritten")));
    unwritten.write_all_at(&[1; 3_000], 300_000).unwrap();
    let sparse = File::create(at.join("sparse")).unwrap();
    (0..20).for_each(|i| sparse.write_all_at(&[7; 700], i * 50_001).unwrap());
    sparse.set_len(2_000_000).unwrap();
    for i in 0..200 {
        fs::hard_link(&file, at.join(format!("{i}-{}", "h".repeat(90)))).unwrap();
    }
    run(tool("mkfifo").arg(at.join("pipe")));
    btrfs(&["filesystem", "sync", &text(root)]);
    let snapshot = with(at, "-snapshot");
    btrfs(&["subvolume", "snapshot", &text(at), &text(&snapshot)]);
    fs::remove_file(snapshot.join("sparse")).unwrap();
    fs::write(at.join("later"), "not in the snapshot").unwrap();
    run(tool("chattr").arg("+C").arg({
        File::create(at.join("nocow")).unwrap();
        at.join("nocow")
    }));
    fs::write(at.join("nocow"), [3; 20_000]).unwrap();
}

fn with(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A subvolume of which a snapshot was made is an empty directory there.
#[test]
fn subvolumes_stay_out_of_snapshots() {
    let tree = tree();
    let Some(image) = mkfs(tree.path(), &[]) else { return };
    let Some(mount) = Mount::new(image.path(), whole(image.path()), "btrfs", Access::ReadWrite) else { return };
    for (verb, names) in [("create", &["a"][..]), ("create", &["a/b"]), ("snapshot", &["a", "c"])] {
        let paths = names.iter().map(|name| mount.path().join(name));
        run(tool("btrfs").args(["subvolume", verb]).args(paths));
    }
    fs::write(mount.path().join("a/b/file"), "x").unwrap();
    drop(mount);
    expect_sound(image.path(), whole(image.path()));
    let filesystem = open(image.path());
    assert_eq!(filesystem.list(Path::new("a/b")).unwrap().len(), 1);
    assert!(filesystem.list(Path::new("c/b")).unwrap().is_empty());
    assert!(matches!(filesystem.metadata(Path::new("c/b/file")), Err(ReadError::NotFound(_))));
}

/// The nodes of an image in memory, by their places in it.
fn nodes(bytes: &[u8]) -> Vec<usize> {
    let uuid = &bytes[SUPERBLOCK + 32..][..16];
    let is_node = |at: &usize| {
        let block = &bytes[*at..][..NODE];
        &block[32..48] == uuid && csum::field(csum::of_block(&block[32..]))[..4] == block[..4]
    };
    ((1 << 20)..bytes.len() - NODE).step_by(4096).filter(is_node).collect()
}

fn header(bytes: &[u8], at: usize) -> Header {
    Header::read_from_prefix(&bytes[at..]).unwrap().0
}

/// Makes the checksum of a node right.
fn mend(node: &mut [u8]) {
    let sum = csum::field(csum::of_block(&node[32..]));
    node[..32].copy_from_slice(&sum);
}

#[test]
fn flipped_bits_are_found_and_named() {
    let closure = closure();
    let (_dir, image) = image(&closure, &["subvol=@"]);
    let mut bytes = load(&image, whole(&image));
    assert_eq!(faults(&bytes), [""; 0]);
    for mirror in [SUPERBLOCK, 64 << 20] {
        for at in [0, 32, 64, 72, 80, 120, 299, 1000, 4000] {
            let found = with_flip(&mut bytes, mirror + at, 3, |bytes| faults(bytes));
            // Without the magic of the first one nobody would take it for a btrfs.
            let named = found.iter().any(|fault| fault.contains(&format!("superblock at byte {mirror}: ")));
            assert!(named || (mirror, at) == (SUPERBLOCK, 64), "{mirror} + {at}: {found:?}");
        }
    }
    let places = nodes(&bytes);
    assert!(places.len() > 30, "{places:?}");
    for at in places {
        for offset in [5, 50, 102, 700, NODE - 9] {
            let found = with_flip(&mut bytes, at + offset, 6, |bytes| faults(bytes));
            let copy = format!("copy at byte {at}: ");
            assert!(found.iter().any(|fault| fault.contains(&copy)), "{at} + {offset}: {found:?}");
        }
    }
}

/// What is wrong with an image whose nodes all have right checksums after `change` has seen the first item of this kind
/// in this tree that it wants to change.
fn faults_after(
    bytes: &[u8],
    (tree, kind): (u64, u8),
    mut change: impl FnMut(&mut DiskKey, &mut [u8]) -> bool,
) -> Vec<String> {
    let mut bytes = bytes.to_vec();
    let places = nodes(&bytes);
    let leaf = places.iter().copied().find(|&at| {
        let header = header(&bytes, at);
        header.owner.get() == tree && header.level == 0 && edit(&mut bytes[at..at + NODE], kind, &mut change)
    });
    let leaf = leaf.expect("there is such an item");
    mend(&mut bytes[leaf..leaf + NODE]);
    let (address, node) = (header(&bytes, leaf).bytenr, bytes[leaf..leaf + NODE].to_vec());
    for at in places.into_iter().filter(|&at| at != leaf) {
        if header(&bytes, at).bytenr == address {
            bytes[at..at + NODE].copy_from_slice(&node);
        }
    }
    faults(&bytes)
}

fn edit(leaf: &mut [u8], kind: u8, change: &mut impl FnMut(&mut DiskKey, &mut [u8]) -> bool) -> bool {
    let head = size_of::<Header>();
    let len = header(leaf, 0).nritems.get() as usize;
    (0..len).any(|index| {
        let at = head + index * size_of::<Item>();
        let mut item = Item::read_from_bytes(&leaf[at..at + size_of::<Item>()]).unwrap();
        let start = head + item.offset.get() as usize;
        let mut key = item.key;
        let changed = key.kind == kind && change(&mut key, &mut leaf[start..start + item.size.get() as usize]);
        item.key = key;
        leaf[at..at + size_of::<Item>()].copy_from_slice(item.as_bytes());
        changed
    })
}

#[track_caller]
fn assert_named(found: &[String], parts: &[&str]) {
    let is_it = |fault: &String| parts.iter().all(|part| fault.contains(part));
    assert!(found.iter().any(is_it), "{parts:?} is not in {found:?}");
}

/// Faults that no checksum tells of.
#[test]
fn faults_with_right_checksums_are_found() {
    let closure = closure();
    let (_dir, image) = image(&closure, &[]);
    let bytes = load(&image, whole(&image));
    let change_inode = |wanted: u32, change: fn(&mut InodeItem)| {
        faults_after(&bytes, (object::FS_TREE, kind::INODE_ITEM), |_, data| {
            let mut inode = InodeItem::read_from_bytes(data).unwrap();
            let is_it = inode.mode.get() & 0o170_000 == wanted && inode.size.get() > 0;
            if is_it {
                change(&mut inode);
                data.copy_from_slice(inode.as_bytes());
            }
            is_it
        })
    };
    assert_named(&change_inode(0o100_000, |inode| inode.nlink = 7.into()), &["inode ", "says that it has 7 links"]);
    // A fault of something else does not hide it.
    let mut mirrored = bytes.clone();
    mirrored[(64 << 20) + 100] ^= 1;
    let both = faults_after(&mirrored, (object::FS_TREE, kind::INODE_ITEM), |_, data| {
        let mut inode = InodeItem::read_from_bytes(data).unwrap();
        let is_it = inode.mode.get() & 0o170_000 == 0o100_000;
        if is_it {
            inode.nlink = 7.into();
            data.copy_from_slice(inode.as_bytes());
        }
        is_it
    });
    assert_named(&both, &["superblock at byte 67108864"]);
    assert_named(&both, &["says that it has 7 links"]);
    assert_named(&change_inode(0o100_000, |inode| inode.nbytes = 9.into()), &["data/large)", "has 9 bytes of con"]);
    assert_named(&change_inode(0o040_000, |inode| inode.size = 5.into()), &["(/)", "names have 5 bytes"]);
    assert_named(&change_inode(0o100_000, |inode| inode.mode = 0o040_555.into()), &["of another type than its name"]);

    let rename = faults_after(&bytes, (object::FS_TREE, kind::DIR_INDEX), |_, data| {
        let is_it = data.ends_with(b"prose");
        *data.last_mut().unwrap() ^= u8::from(is_it);
        is_it
    });
    assert_named(&rename, &["data", "listed or looked up, but not both"]);
    let slash = faults_after(&bytes, (object::FS_TREE, kind::DIR_INDEX), |_, data| {
        *data.last_mut().unwrap() = b'/';
        true
    });
    assert_named(&slash, &["a name with a slash"]);

    // The second file's contents are said to be where the first file's are.
    let mut first: Option<Vec<u8>> = None;
    let crossed = faults_after(&bytes, (object::FS_TREE, kind::EXTENT_DATA), |_, data| {
        // `btrfs_file_extent_item.type`, then `disk_bytenr`.
        let [.., 1] = data[..21] else { return false };
        let place = &mut data[21..29];
        let is_second = first.is_some();
        place.copy_from_slice(first.get_or_insert_with(|| place.to_vec()));
        is_second
    });
    assert_named(&crossed, &["inode ", "extent at address"]);

    let counted = faults_after(&bytes, (object::EXTENT_TREE, kind::EXTENT_ITEM), |_, data| {
        data[0] = 2;
        true
    });
    assert_named(&counted, &["extent ", "says that it has 2 references, but lists 1"]);
    let used = faults_after(&bytes, (object::EXTENT_TREE, kind::BLOCK_GROUP_ITEM), |_, data| {
        let mut group = BlockGroupItem::read_from_bytes(data).unwrap();
        group.used = 12_345.into();
        data.copy_from_slice(group.as_bytes());
        true
    });
    assert_named(&used, &["block group ", "says that 12345 bytes are used"]);
    let free = faults_after(&bytes, (object::FREE_SPACE_TREE, kind::FREE_SPACE_EXTENT), |key, _| {
        key.offset = (key.offset.get() - 4096).into();
        true
    });
    assert_named(&free, &["block group ", "other free space"]);
    let device = faults_after(&bytes, (object::DEV_TREE, kind::DEV_EXTENT), |_, data| {
        data[16] ^= 1;
        true
    });
    assert_named(&device, &["device extent at byte", "belongs to no chunk"]);
}

/// One copy of a node is enough to read.
#[test]
fn a_second_copy_serves() {
    let closure = closure();
    let (_dir, image) = image(&closure, &[]);
    let mut bytes = load(&image, whole(&image));
    let places = nodes(&bytes);
    let mut seen = std::collections::BTreeSet::new();
    for at in places {
        if seen.insert(header(&bytes, at).bytenr.get()) {
            bytes[at + 200] ^= 1;
        }
    }
    let filesystem = reading::open(Arc::new(bytes)).unwrap();
    let (found, errors) = reading::walk(&*filesystem, usize::MAX);
    assert!(errors.is_empty() && found.len() > 900, "{errors:?}");
}

/// A leaf of these items.
fn leaf(head: &Header, items: &[(DiskKey, Vec<u8>)]) -> Vec<u8> {
    let mut node = vec![0; NODE];
    node[..size_of::<Header>()].copy_from_slice(head.as_bytes());
    let mut end = NODE - size_of::<Header>();
    for (index, (key, data)) in items.iter().enumerate() {
        end -= data.len();
        let [offset, size] = [end, data.len()].map(|n| u32::try_from(n).unwrap().into());
        let at = size_of::<Header>() + index * size_of::<Item>();
        node[at..at + size_of::<Item>()].copy_from_slice(Item { key: *key, offset, size }.as_bytes());
        let start = size_of::<Header>() + end;
        node[start..start + data.len()].copy_from_slice(data);
    }
    node
}

/// Nodes that share all nodes below them but their first: each is well by itself, and starts with the key that the ones
/// above say, but the ways through them grow with each level by a factor. Whoever goes all of them never ends.
#[test]
fn shared_nodes_do_not_multiply() {
    const WIDTH: u64 = 12;
    const FREE: usize = 20 << 20;
    let closure = closure();
    let (_dir, image) = image(&closure, &[]);
    let mut bytes = load(&image, whole(&image));
    let places = nodes(&bytes);
    assert!(
        places.iter().all(|&at| at + NODE <= FREE || at >= 36 << 20),
        "the first metadata chunk is free from there on"
    );
    let find = |tree: u64| places.iter().copied().find(|&at| header(&bytes, at).owner.get() == tree).unwrap();
    let mut head = header(&bytes, find(object::FS_TREE));
    let root_leaf = find(object::ROOT_TREE);
    let root_key = DiskKey { objectid: object::FIRST_FREE.into(), kind: kind::INODE_ITEM, offset: 0.into() };
    let key = |i: u64| match i {
        0 => root_key,
        _ => DiskKey { kind: kind::DIR_INDEX, offset: (1 + i).into(), ..root_key },
    };
    let inode = InodeItem { mode: 0o040_755.into(), nlink: 1.into(), ..InodeItem::default() };
    let place = |level: u8, i: u64| FREE as u64 + (u64::from(level) * WIDTH + i) * NODE as u64;
    for (level, i) in (0..8_u8).flat_map(|level| (0..WIDTH).map(move |i| (level, i))) {
        head.level = level;
        head.bytenr = place(level, i).into();
        let node = if level == 0 {
            head.nritems = 1.into();
            let name = i.to_string();
            let name_len = u16::try_from(name.len()).unwrap().into();
            let entry = DirItem { location: root_key, transid: 1.into(), data_len: 0.into(), name_len, kind: 2 };
            let data = if i == 0 { inode.as_bytes().to_vec() } else { [entry.as_bytes(), name.as_bytes()].concat() };
            leaf(&head, &[(key(i), data)])
        } else {
            head.nritems = u32::try_from(WIDTH - i).unwrap().into();
            let pointer = |below| {
                let blockptr = place(level - 1, below).into();
                KeyPtr { key: key(below), blockptr, generation: head.generation }.as_bytes().to_vec()
            };
            let mut node = [head.as_bytes().to_vec(), (i..WIDTH).flat_map(pointer).collect()].concat();
            node.resize(NODE, 0);
            node
        };
        let at = usize::try_from(place(level, i)).unwrap();
        bytes[at..at + NODE].copy_from_slice(&node);
        mend(&mut bytes[at..at + NODE]);
    }
    assert!(edit(&mut bytes[root_leaf..root_leaf + NODE], kind::ROOT_ITEM, &mut |key, data| {
        let mut root = RootItem::read_from_bytes(data).unwrap();
        let is_it = key.objectid.get() == object::FS_TREE;
        if is_it {
            (root.bytenr, root.level) = (place(7, 0).into(), 7);
            data.copy_from_slice(root.as_bytes());
        }
        is_it
    }));
    mend(&mut bytes[root_leaf..root_leaf + NODE]);
    let told = faults(&bytes);
    let found = reading::open(Arc::new(bytes)).unwrap().list(Path::new(""));
    assert!(matches!(&found, Err(ReadError::Corrupt(_))), "{:?}", found.map(|entries| entries.len()));
    assert!(
        told.iter().any(|fault| fault.contains("has keys that belong into the next node")),
        "{} faults",
        told.len()
    );
}

/// An image with some bytes changed.
struct Patched {
    base: Arc<Vec<u8>>,
    patches: Vec<(usize, Vec<u8>)>,
}

impl Bytes for Patched {
    fn len(&self) -> u64 {
        Bytes::len(&*self.base)
    }

    fn read_exact_at(&self, offset: ByteOffset, buf: &mut [u8]) -> Result<(), ReadError> {
        self.base.read_exact_at(offset, buf)?;
        let start = usize::try_from(offset.0).unwrap();
        for (at, patch) in &self.patches {
            let (from, to) = (start.max(*at), (start + buf.len()).min(at + patch.len()));
            if from < to {
                buf[from - start..to - start].copy_from_slice(&patch[from - at..to - at]);
            }
        }
        Ok(())
    }
}

/// How many cases each kind of filesystem gets; more of them, for hours, by SANE_IMAGE_FUZZ_CASES.
fn cases() -> u32 {
    std::env::var("SANE_IMAGE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
}

#[test]
fn anything_at_all_is_survived() {
    let tree = Entry::dir([
        ("large", Entry::of(Contents::Pattern { seed: 3, len: 200_000 })),
        ("many", numbered(60, |i| Entry::file("x".repeat(i * 50)))),
        ("prose", Entry::file("prose ".repeat(50_000))),
    ]);
    let closure = ClosureBuilder::new().path("data", tree).spec(|spec| spec["nixFreeSpace"] = 0.into()).write();
    for options in [&["subvol=@"][..], &["compress=zstd"], &["compress=lzo"], &["compress=zlib"]] {
        let (_dir, image) = image(&closure, options);
        let base = Arc::new(load(&image, whole(&image)));
        let mut places: Vec<(usize, usize)> = nodes(&base).into_iter().map(|at| (at, NODE)).collect();
        places.push((SUPERBLOCK, 4096));
        let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xff), Just(1), Just(0x80)];
        // Mostly in the table of items, or at the end, where the first items' data are.
        let place = prop_oneof![32usize..400, 400usize..2000, NODE - 3000..NODE - 9];
        let change = (any::<prop::sample::Index>(), place, prop::collection::vec(value, 1..9));
        let changes = prop::collection::vec(change, 1..5);
        let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
        let result = runner.run(&changes, |changes| {
            let mut patches = Vec::new();
            for (index, offset, values) in changes {
                let (at, len) = places[index.index(places.len())];
                let mut block = base[at..at + len].to_vec();
                block.iter_mut().skip(offset % len).zip(values).for_each(|(byte, value)| *byte = value);
                let sum = csum::field(csum::of_block(&block[32..]));
                block[..32].copy_from_slice(&sum);
                patches.push((at, block));
            }
            // Both copies, so that the change is what is read.
            let twins: Vec<_> = patches.iter().flat_map(|(at, block)| twins(&base, &places, *at, block)).collect();
            patches.extend(twins);
            exercise(Patched { base: Arc::clone(&base), patches });
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
    }
}

/// The same for the other copies of a node.
fn twins(base: &[u8], places: &[(usize, usize)], of: usize, block: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let address = header(base, of).bytenr;
    let others = places.iter().filter(|(at, len)| *at != of && *len == NODE && header(base, *at).bytenr == address);
    others.map(|(at, _)| (*at, block.to_vec())).collect()
}
