//! `add`: what it makes of our images is what `build --extra-files` makes, and of others' images what they were, with
//! something more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use walkdir::WalkDir;

use crate::support::closure::{BOOT_ID, Closure, ClosureBuilder, NIX_UUID};
use crate::support::foreign::{debian_cloud, mkfs_ext4, mkfs_fat, plain_tree};
use crate::support::image::{Built, Partition, Run, run, sane_image, with_signals};
use crate::support::mount::{Access, Mount, MountPoint};
use crate::support::nar::STORE_DIR;
use crate::support::oracle::{self, whole};
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::Entry;

/// What is laid over images here: a key, a directory with a mode of its own, a link, something for the boot partition.
fn secrets() -> TempDir {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    for directory in ["etc/ssh", "home/alice", "boot"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::write(at("etc/ssh/key"), "the key\n").unwrap();
    fs::write(at("home/alice/large"), vec![7; 300_000]).unwrap();
    fs::write(at("boot/config.txt"), "one line more\n").unwrap();
    symlink("ssh/key", at("etc/link")).unwrap();
    for (name, mode) in [
        ("etc/ssh/key", 0o600),
        ("etc/ssh", 0o755),
        ("etc", 0o755),
        ("home/alice", 0o700),
        ("home", 0o755),
        ("boot", 0o755),
    ] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    top
}

const CHOWN: [&str; 3] = ["--chown", "/home/alice", "1000:100"];

/// `add` to a new file.
fn add(image: &Path, extra: &Path, out: &Path, arguments: &[&str]) -> Run {
    run(sane_image().arg("add").arg(image).arg("--extra-files").arg(extra).arg("--out").arg(out).args(arguments))
}

// ---- our own images

/// A closure whose nix filesystem is of this kind, with so much free.
fn closure(file_systems: Value, free: u64) -> Closure {
    let tree = Entry::dir([
        ("text", Entry::file("a text that is long enough to become shorter ".repeat(4000))),
        ("small", Entry::file("small")),
        ("tool", Entry::executable("tool")),
        ("link", Entry::symlink("tool")),
    ]);
    ClosureBuilder::new()
        .path("package", tree)
        .spec(move |spec| {
            spec["fileSystems"] = file_systems;
            spec["fileSystems"]["/boot"] =
                json!({ "device": format!("/dev/disk/by-uuid/{BOOT_ID}"), "fsType": "vfat" });
            spec["nixFreeSpace"] = json!(free);
            spec["firstPartGap"] = json!(3 << 20);
        })
        .write()
}

fn ext4() -> Value {
    json!({ "/": { "device": format!("/dev/disk/by-uuid/{NIX_UUID}"), "fsType": "ext4" } })
}

fn btrfs(options: &[&str]) -> Value {
    json!({ "/": { "device": format!("/dev/disk/by-uuid/{NIX_UUID}"), "fsType": "btrfs", "options": options } })
}

/// How much is free in the nix filesystem.
fn free(built: &Built) -> u64 {
    let partitions = built.layout["partitions"].as_array().unwrap();
    partitions.iter().find(|partition| partition["role"] == "nix").unwrap()["filesystem"]["free"].as_u64().unwrap()
}

/// The image that is built with the files is the image without them to which they are added, byte for byte.
#[track_caller]
fn added_is_as_built(file_systems: Value) {
    let secrets = secrets();
    let built = Built::new(&closure(file_systems.clone(), 1 << 20), &[]);
    let extra = ["--extra-files", secrets.path().to_str().unwrap()];
    let expected = Built::new(&closure(file_systems, free(&built)), &[&extra[..], &CHOWN].concat());
    let out = built.scratch().join("added.img");
    let said = add(&built.image, secrets.path(), &out, &CHOWN).expect_success().stdout;
    assert!(said.contains("4 files of "), "{said}");
    assert!(fs::read(&out).unwrap() == fs::read(&expected.image).unwrap(), "the images differ");
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
    run(sane_image().arg("verify").arg(&out)).expect_success();
    oracle::sgdisk(&out, 512).expect_clean();
}

#[test]
fn added_to_ext4() {
    added_is_as_built(ext4());
}

#[test]
fn added_to_btrfs() {
    added_is_as_built(btrfs(&[]));
}

#[test]
fn added_to_compressed_btrfs() {
    for compression in ["compress=zstd", "compress=lzo", "compress=zlib"] {
        added_is_as_built(btrfs(&[compression]));
    }
}

/// Neither threads nor the umask show, and who adds nothing has the same image.
#[test]
fn the_same_bytes_everywhere() {
    let (secrets, nothing) = (secrets(), tempfile::tempdir().unwrap());
    let built = Built::new(&closure(ext4(), 1 << 20), &[]);
    let at = |name: &str| built.scratch().join(name);
    add(&built.image, secrets.path(), &at("one"), &["--jobs", "1"]).expect_success();
    let script = "umask 077; exec \"$0\" \"$@\"";
    let mut other = Command::new("sh");
    other.args(["-c", script, env!("CARGO_BIN_EXE_sane-image"), "add"]).arg(&built.image);
    run(other.arg("--extra-files").arg(secrets.path()).arg("--out").arg(at("other"))).expect_success();
    assert!(fs::read(at("one")).unwrap() == fs::read(at("other")).unwrap());
    add(&built.image, nothing.path(), &at("same"), &[]).expect_success();
    assert!(fs::read(at("same")).unwrap() == fs::read(&built.image).unwrap());
}

/// Without `--out` the new image takes the place of the old one; what is added again replaces what was added before.
#[test]
fn in_place_and_again() {
    let secrets = secrets();
    let built = Built::new(&closure(ext4(), 1 << 20), &[]);
    let in_place = || run(sane_image().arg("add").arg(&built.image).arg("--extra-files").arg(secrets.path()));
    let said = in_place().expect_success().stdout;
    assert!(said.contains("(0 in the place of others)"), "{said}");
    fs::write(secrets.path().join("etc/ssh/key"), "another key\n").unwrap();
    fs::write(secrets.path().join("boot/config.txt"), "another line\n").unwrap();
    let said = in_place().expect_success().stdout;
    assert!(said.contains("4 files of ") && said.contains("(4 in the place of others)"), "{said}");
    let cat = |part: &str, path: &str| {
        run(sane_image().arg("cat").arg(&built.image).args([part, path])).expect_success().stdout
    };
    assert_eq!(cat("nix", "/etc/ssh/key"), "another key\n");
    assert_eq!(cat("boot", "config.txt"), "another line\n");
    run(sane_image().arg("verify").arg(&built.image)).expect_success();
    oracle::e2fsck(&built.image, partition(&built.image, 2)).expect_clean();
    oracle::fsck_fat(&built.image, partition(&built.image, 1)).expect_clean();
}

/// A partition as `inspect` finds it.
fn partition(image: &Path, number: u64) -> Partition {
    let report: Value = serde_json::from_str(&run(sane_image().args(["inspect", "--json"]).arg(image)).stdout).unwrap();
    let found = report["partitions"].as_array().unwrap().iter().find(|found| found["number"] == number).unwrap();
    Partition { number, offset: found["offset"].as_u64().unwrap(), size: found["size"].as_u64().unwrap() }
}

// ---- images of others

/// All that a mount shows of a file: its kind, mode, owner, times and contents.
type Seen = BTreeMap<PathBuf, String>;

fn seen(root: &Path) -> Seen {
    let one = |entry: walkdir::DirEntry| {
        let metadata = entry.metadata().unwrap();
        let contents = match metadata.file_type() {
            kind if kind.is_file() => format!("{:?}", crc32c::crc32c(&fs::read(entry.path()).unwrap())),
            kind if kind.is_symlink() => format!("-> {:?}", fs::read_link(entry.path()).unwrap()),
            _ => String::new(),
        };
        let len = if metadata.is_dir() { 0 } else { metadata.len() };
        let times = [
            (metadata.atime(), metadata.atime_nsec()),
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        ];
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let path = entry.path().strip_prefix(root).unwrap().to_owned();
        (path, format!("{mode:o} {uid}:{gid} {len} {times:?} {contents}"))
    };
    let entries = WalkDir::new(root).into_iter().map(Result::unwrap);
    entries.filter(|entry| !entry.path().ends_with("lost+found")).map(one).collect()
}

/// What a mount of a partition shows, without a change to it.
fn mounted(image: &Path, partition: Partition, fs_type: &str) -> Option<Seen> {
    let options = if fs_type == "ext4" { "noload" } else { "" };
    let mount = Mount::with_options(image, partition, fs_type, Access::ReadOnly, options)?;
    Some(seen(mount.path()))
}

/// All that was there is as it was, and there is no more than the secrets.
fn assert_only_added(before: &Seen, after: &Seen) {
    for (path, was) in before {
        assert_eq!(after.get(path), Some(was), "{}", path.display());
    }
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    let expected = ["etc", "etc/link", "etc/ssh", "etc/ssh/key", "home", "home/alice", "home/alice/large"];
    assert_eq!(new, expected.map(Path::new));
}

/// A tree with owners, modes and times of its own.
fn owned_tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    plain_tree(root.path());
    let at = |name: &str| root.path().join(name);
    fs::write(at("a/private"), "private").unwrap();
    fs::set_permissions(at("a/private"), fs::Permissions::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(at("a/private"), Some(70_000), Some(5)).unwrap();
    fs::set_permissions(at("a/private"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::create_dir(at("tmp")).unwrap();
    fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    root
}

fn without_boot(secrets: &TempDir) {
    fs::remove_dir_all(secrets.path().join("boot")).unwrap();
}

#[test]
fn added_to_an_ext4_of_mke2fs() {
    if !need_root() {
        return;
    }
    let (root, secrets) = (owned_tree(), secrets());
    without_boot(&secrets);
    for options in [&[][..], &["-b", "1024"], &["-O", "^metadata_csum,^64bit", "-I", "256"]] {
        let Some(image) = mkfs_ext4(root.path(), options) else { return };
        let out = NamedTempFile::new().unwrap();
        add(image.path(), secrets.path(), out.path(), &CHOWN).expect_success();
        oracle::e2fsck(out.path(), whole(out.path())).expect_clean();
        let (before, after) =
            (oracle::dumpe2fs(image.path(), whole(image.path())), oracle::dumpe2fs(out.path(), whole(out.path())));
        if let (Some(before), Some(after)) = (before.expect_clean(), after.expect_clean()) {
            for name in ["Filesystem UUID", "Filesystem volume name"] {
                let line = |said: &str| said.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
                assert_eq!(line(&before), line(&after));
            }
            let free = |said: &str| oracle::field(said, "Free blocks") * oracle::field(said, "Block size");
            assert!(free(&after) >= free(&before), "{} free before, {} after", free(&before), free(&after));
        }
        let (Some(before), Some(after)) =
            (mounted(image.path(), whole(image.path()), "ext4"), mounted(out.path(), whole(out.path()), "ext4"))
        else {
            return;
        };
        assert_only_added(&before, &after);
    }
}

/// A disk of Debian's: the root is the last partition, and its number is 1; the others stay byte for byte.
#[test]
fn added_to_a_disk_of_others() {
    if !need_root() {
        return;
    }
    let (root, esp, secrets) = (owned_tree(), tempfile::tempdir().unwrap(), secrets());
    without_boot(&secrets);
    fs::write(esp.path().join("grub.cfg"), "x").unwrap();
    let Some(image) = debian_cloud(root.path(), esp.path()) else { return };
    let out = NamedTempFile::new().unwrap();
    add(image.path(), secrets.path(), out.path(), &[]).expect_success();
    oracle::sgdisk(out.path(), 512).expect_clean();
    oracle::e2fsck(out.path(), partition(out.path(), 1)).expect_clean();
    let (before, after) = (fs::read(image.path()).unwrap(), fs::read(out.path()).unwrap());
    // From behind the table to the root: the BIOS's partition and the ESP.
    assert!(before[2048 * 512..147_456 * 512] == after[2048 * 512..147_456 * 512]);
    let (Some(before), Some(after)) = (
        mounted(image.path(), partition(image.path(), 1), "ext4"),
        mounted(out.path(), partition(out.path(), 1), "ext4"),
    ) else {
        return;
    };
    assert_only_added(&before, &after);
}

/// A btrfs as the kernel fills it: compressed and not, holes, subvolumes, inline files.
#[test]
fn added_to_a_btrfs_of_others() {
    if !need_root() || !need("mkfs.btrfs") {
        return;
    }
    let (root, secrets) = (owned_tree(), secrets());
    without_boot(&secrets);
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(300 << 20).unwrap();
    run_tool(tool("mkfs.btrfs").args(["-q", "-L", "others"]).arg(image.path()));
    {
        let options = "compress=zstd";
        let Some(mount) = Mount::with_options(image.path(), whole(image.path()), "btrfs", Access::ReadWrite, options)
        else {
            return;
        };
        run_tool(tool("btrfs").args(["subvolume", "create"]).arg(mount.path().join("sub")));
        run_tool(tool("btrfs").args(["subvolume", "create"]).arg(mount.path().join("sub/nested")));
        run_tool(tool("cp").arg("-a").arg(root.path().join("a")).arg(mount.path()));
        run_tool(tool("cp").arg("-a").arg(root.path().join("many")).arg(mount.path().join("sub")));
        fs::write(mount.path().join("sub/nested/text"), "compressible ".repeat(100_000)).unwrap();
        fs::write(mount.path().join("small"), "small ".repeat(300)).unwrap();
        for (flags, name) in [("+c", "small"), ("+iA", "a/small"), ("+a", "a/private")] {
            run_tool(tool("chattr").arg(flags).arg(mount.path().join(name)));
        }
        run_tool(tool("btrfs").args(["property", "set"]).arg(mount.path().join("small")).args(["compression", ""]));
    }
    let out = NamedTempFile::new().unwrap();
    add(image.path(), secrets.path(), out.path(), &[]).expect_success();
    oracle::btrfs_check(out.path(), whole(out.path())).expect_clean();
    assert!(fs::metadata(out.path()).unwrap().len() >= fs::metadata(image.path()).unwrap().len(), "it has shrunk");
    let Some(dump) = oracle::btrfs_dump(out.path(), whole(out.path())) else { return };
    assert!(dump.contains("(zstd)"), "nothing is compressed");
    let (Some(before), Some(after)) =
        (mounted(image.path(), whole(image.path()), "btrfs"), mounted(out.path(), whole(out.path()), "btrfs"))
    else {
        return;
    };
    assert_only_added(&before, &after);
    let list = |image: &Path| {
        let mount = Mount::new(image, whole(image), "btrfs", Access::ReadOnly).unwrap();
        let said = run_tool(tool("btrfs").args(["subvolume", "list", "-p"]).arg(mount.path()));
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // The generation is that of the filesystem that shows it.
        let said = String::from_utf8(said).unwrap();
        said.lines().map(words).map(|words| [&words[..2], &words[4..]].concat().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(list(image.path()), list(out.path()));
    assert_eq!(flags(image.path()), flags(out.path()));
}

/// The flags of some files of a btrfs as the kernel shows them.
fn flags(image: &Path) -> Vec<u8> {
    let mount = Mount::new(image, whole(image), "btrfs", Access::ReadOnly).unwrap();
    let mut lsattr = tool("lsattr");
    run_tool(lsattr.current_dir(mount.path()).arg("-d").args(["small", "a/small", "a/private", "a/big", "a"]))
}

// ---- what cannot be

fn refusal(image: &Path, extra: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let said = add(image, extra, &out.path().join("out.img"), &[]).expect_failure(1).stderr;
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "something is left");
    said
}

/// What our writers cannot write is named, all of it at once.
#[test]
fn what_cannot_be_written_back_is_named() {
    if !need_root() {
        return;
    }
    let (root, secrets) = (tempfile::tempdir().unwrap(), secrets());
    without_boot(&secrets);
    let at = |name: &str| root.path().join(name);
    fs::write(at("one"), "1").unwrap();
    fs::hard_link(at("one"), at("two")).unwrap();
    run_tool(tool("mkfifo").arg(at("pipe")));
    assert!(fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    fs::write(at("attributed"), "").unwrap();
    let set = rustix::fs::setxattr(at("attributed"), "user.x", b"y", rustix::fs::XattrFlags::empty());
    let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
    let said = refusal(image.path(), secrets.path());
    for line in ["/one: 2 hard links", "/two: 2 hard links", "/pipe: a pipe"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(set.is_err() || said.contains("/attributed: extended attributes"), "{said}");
}

#[test]
fn what_is_in_the_way_is_named() {
    let closure = closure(ext4(), 1 << 20);
    let built = Built::new(&closure, &[]);
    let path = &closure.paths[0].path;
    let lay = |make: &dyn Fn(&Path)| {
        let top = tempfile::tempdir().unwrap();
        make(top.path());
        refusal(&built.image, top.path())
    };
    let file = |name: String| {
        lay(&|top: &Path| {
            fs::create_dir_all(top.join(&name).parent().unwrap()).unwrap();
            fs::write(top.join(&name), "").unwrap();
        })
    };
    assert!(file(path[1..].to_owned()).contains("is in the store, which holds only the closure"));
    assert!(file(format!("{}/x", &STORE_DIR[1..])).contains("is in the store"));
    assert!(file("nix-path-registration".to_owned()).contains("is where every image has its registration"));
    assert!(file("nix".to_owned()).contains("leads to the store"));
    let below = file("nix-path-registration/x".to_owned());
    assert!(below.contains("is where every image has its registration"), "{below}");
    let device = lay(&|top| drop(std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap()));
    assert!(device.contains("is a socket"), "{device}");
    let nothing = tempfile::tempdir().unwrap();
    let not_there = add(Path::new("/nowhere.img"), nothing.path(), &built.scratch().join("out.img"), &[]);
    let not_there = not_there.expect_failure(1).stderr;
    assert!(not_there.contains("/nowhere.img: cannot be opened"), "{not_there}");
}

// ---- interrupted

/// Whatever ends it, the old image is as it was, and nothing is left.
#[test]
fn an_interrupted_add_leaves_the_old_image() {
    let built = Built::new(&closure(ext4(), 1 << 20), &[]);
    let before = fs::read(&built.image).unwrap();
    let extra = tempfile::tempdir().unwrap();
    fs::write(extra.path().join("large"), vec![1; 64 << 20]).unwrap();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        // On a busy machine it may be ready before the signal comes.
        let is_interrupted = (0..20).any(|_| {
            fs::write(&built.image, &before).unwrap();
            let status = signalled(&built.image, extra.path(), signal);
            let left = fs::read_dir(built.image.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| name.as_bytes().starts_with(b".")).collect();
            assert!(left.is_empty(), "{left:?}");
            status.signal() == Some(signal.as_raw())
        });
        assert!(is_interrupted, "it was never interrupted");
        assert!(fs::read(&built.image).unwrap() == before, "the old image has changed");
    }
}

/// How it ends if it gets a signal once it has begun.
fn signalled(image: &Path, extra: &Path, signal: rustix::process::Signal) -> std::process::ExitStatus {
    let mut command = sane_image();
    command.arg("add").arg(image).arg("--extra-files").arg(extra);
    let mut command = with_signals(&command, "--default-signal=INT,TERM");
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("copying")), "nothing was copied");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    lines.for_each(drop);
    child.wait().unwrap()
}

/// On a full disk the old image stays.
#[test]
fn a_full_disk_leaves_the_old_image() {
    if !need_root() || !need("mount") {
        return;
    }
    let (secrets, point) = (secrets(), tempfile::tempdir().unwrap());
    let _mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=1m", "none"], point.path());
    let built = Built::new(&closure(ext4(), 1 << 20), &[]);
    let image = point.path().join("nixos.img");
    run_tool(tool("cp").arg("--sparse=always").arg(&built.image).arg(&image));
    fs::write(secrets.path().join("home/alice/large"), vec![7; 3_000_000]).unwrap();
    let said =
        run(sane_image().arg("add").arg(&image).arg("--extra-files").arg(secrets.path())).expect_failure(1).stderr;
    assert!(said.contains("No space left on device"), "{said}");
    assert!(fs::read(&image).unwrap() == fs::read(&built.image).unwrap());
    assert_eq!(fs::read_dir(point.path()).unwrap().count(), 1);
}

/// A FAT16 that is too small for the FAT32 that ours are: said so, and nothing is done.
#[test]
fn a_fat_that_is_too_small_is_named() {
    let (tree, extra) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(tree.path().join("a"), "a").unwrap();
    fs::create_dir(extra.path().join("boot")).unwrap();
    fs::write(extra.path().join("boot/b"), "b").unwrap();
    let Some(image) = mkfs_fat(tree.path(), "12") else { return };
    let said = refusal(image.path(), extra.path());
    assert!(said.contains("FAT32"), "{said}");
    fs::write(extra.path().join("boot/B"), "b").unwrap();
    let said = refusal(image.path(), extra.path());
    assert!(said.contains("\"B\" and \"b\" are the same name on FAT"), "{said}");
}

/// A FAT of others: all that mtools finds is there, and what is new, with its times.
#[test]
fn added_to_a_fat_of_others() {
    let (tree, extra) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(tree.path().join("EFI/BOOT")).unwrap();
    fs::write(tree.path().join("EFI/BOOT/BOOTX64.EFI"), vec![3; 100_000]).unwrap();
    fs::write(tree.path().join("a name with spaces.txt"), "text").unwrap();
    fs::write(tree.path().join("CONFIG.TXT"), "old").unwrap();
    fs::create_dir_all(extra.path().join("boot/efi/new")).unwrap();
    fs::write(extra.path().join("boot/efi/new/file"), "new").unwrap();
    fs::write(extra.path().join("boot/config.txt"), "new").unwrap();
    for fat in ["16", "32"] {
        let Some(image) = mkfs_fat(tree.path(), fat) else { return };
        let out = NamedTempFile::new().unwrap();
        let said = add(image.path(), extra.path(), out.path(), &[]).expect_success().stdout;
        assert!(said.contains("2 files of 6 B added (1 in the place of others)"), "{said}");
        oracle::fsck_fat(out.path(), whole(out.path())).expect_clean();
        let (Some(before), Some(mut after)) =
            (oracle::fat_files(image.path(), whole(image.path())), oracle::fat_files(out.path(), whole(out.path())))
        else {
            return;
        };
        let new = after.remove(Path::new("EFI/new/file"));
        assert_eq!(new.as_deref(), Some(&b"new"[..]), "{:?}", after.keys());
        assert_eq!(after.insert("CONFIG.TXT".into(), b"old".to_vec()).as_deref(), Some(&b"new"[..]));
        assert!(after == before, "{:?} {:?}", after.keys(), before.keys());
        let dates = |image: &Path| {
            let said = run_tool(tool("mdir").args(["-i"]).arg(image).arg("::EFI/BOOT"));
            let said = String::from_utf8(said).unwrap();
            // A long name that says no more than the short one is not repeated.
            let lines = said.lines().filter(|line| line.starts_with("BOOTX64"));
            lines.map(|line| line.trim_end_matches("BOOTX64.EFI").trim_end().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(dates(image.path()), dates(out.path()));
        assert_eq!(dates(out.path()).len(), 1);
        let label = |image: &Path| run(sane_image().args(["inspect", "--json"]).arg(image)).stdout;
        assert!(label(out.path()).contains("OTHERS"));
    }
}

/// A Raspberry Pi's disk as nixpkgs makes them: the root, the last partition of an MBR, grows.
#[test]
fn added_to_an_sd_image() {
    if !need_root() {
        return;
    }
    let Some((_, image)) = crate::mbr::sd_image() else { return };
    let (extra, out) = (secrets(), NamedTempFile::new().unwrap());
    without_boot(&extra);
    fs::write(extra.path().join("home/alice/large"), vec![7; 30 << 20]).unwrap();
    add(image.path(), extra.path(), out.path(), &CHOWN).expect_success();
    run(sane_image().arg("verify").arg(out.path())).expect_success();
    let (before, after) = (partition(image.path(), 2), partition(out.path(), 2));
    assert_eq!(before.offset, after.offset);
    assert!(after.size >= before.size + (29 << 20), "{} {}", before.size, after.size);
    assert_eq!(fs::metadata(out.path()).unwrap().len(), after.offset + after.size);
    run_tool(tool("sfdisk").arg("--verify").arg(out.path()));
    oracle::e2fsck(out.path(), after).expect_clean();
    let (Some(before), Some(after)) = (mounted(image.path(), before, "ext4"), mounted(out.path(), after, "ext4"))
    else {
        return;
    };
    assert_only_added(&before, &after);
}

/// A filesystem before the last one does not grow: it has the room, or there is an error.
#[test]
fn what_cannot_grow_has_room_or_not() {
    if !need_root() || !need("sgdisk") {
        return;
    }
    let (root, extra) = (owned_tree(), secrets());
    without_boot(&extra);
    let Some(ext4) = mkfs_ext4(root.path(), &[]) else { return };
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(90 << 20).unwrap();
    run_tool(tool("sgdisk").args(["-n1:2048:+64M", "-n2:0:+8M", "-t2:8200"]).arg(image.path()));
    let bytes = fs::read(ext4.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(image.as_file(), &bytes, 1 << 20).unwrap();
    let out = NamedTempFile::new().unwrap();
    add(image.path(), extra.path(), out.path(), &[]).expect_success();
    oracle::sgdisk(out.path(), 512).expect_clean();
    assert_eq!(partition(out.path(), 1), partition(image.path(), 1));
    oracle::e2fsck(out.path(), partition(out.path(), 1)).expect_clean();
    if let (Some(before), Some(after)) = (
        mounted(image.path(), partition(image.path(), 1), "ext4"),
        mounted(out.path(), partition(out.path(), 1), "ext4"),
    ) {
        assert_only_added(&before, &after);
    }
    fs::write(extra.path().join("home/alice/large"), vec![7; 60 << 20]).unwrap();
    let said = refusal(image.path(), extra.path());
    assert!(said.contains("partition 1 has no room for the files") && said.contains("not the last one"), "{said}");
}
