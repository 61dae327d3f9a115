//! Devices that must not be written, as the kernel really shows them: loop devices in every kind of use.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use sane_image::flash::device::{Demands, FixedDisk, Found, Host, candidates, describe, look};
use sane_image::units::SectorSize;
use tempfile::{NamedTempFile, TempDir};

use crate::support::image::{run as run_ours, sane_image};
use crate::support::mount::{Access, LoopDevice, MountPoint};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run, tool};

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;

/// What is said against writing so many bytes, in sectors of this size, to a path: a line each.
fn refusals(path: &Path, size: u64, sector_size: u64) -> Vec<String> {
    let sector_size = SectorSize::new(sector_size);
    let demands = Demands { size, sector_size, fixed_disk: FixedDisk::Refused };
    let found = look(&Host::default(), path);
    let refusals = found.map(|found| match found {
        Found::Device(device) => device.refusals(&demands),
        Found::File(file) => file.refusals(),
    });
    refusals.unwrap_or_else(|refusal| vec![refusal]).iter().map(ToString::to_string).collect()
}

fn shown(path: &Path) -> String {
    match look(&Host::default(), path).unwrap() {
        Found::Device(device) => describe(&device).join("\n"),
        other => panic!("{other:?}"),
    }
}

/// Refused with these lines, each of which starts with the path, and with no others.
#[track_caller]
fn refused(path: &Path, told: &[String]) {
    let told: Vec<_> = told.iter().map(|why| format!("{}: {why}", path.display())).collect();
    assert_eq!(refusals(path, MIB, 512), told);
}

fn disk() -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(DISK).unwrap();
    image
}

fn point() -> TempDir {
    tempfile::Builder::new().prefix("device-").tempdir().unwrap()
}

/// A disk with an ext4, a swap area and a free partition.
fn partitioned() -> Option<(NamedTempFile, LoopDevice)> {
    if !need_root() || !["sgdisk", "mkfs.ext4", "mkswap", "mount"].iter().all(|name| need(name)) {
        return None;
    }
    let image = disk();
    let parts = ["-n", "1:0:+30M", "-c", "1:first", "-n", "2:0:+10M", "-t", "2:8200", "-n", "3:0:+10M"];
    run(tool("sgdisk").args(parts).arg(image.path()));
    let device = LoopDevice::with_partitions(image.path(), 512)?;
    run(tool("mkfs.ext4").args(["-q", "-L", "theirs"]).arg(device.partition(1)));
    run(tool("mkswap").args(["-L", "swapped"]).arg(device.partition(2)));
    Some((image, device))
}

/// Swaps to a device until it is dropped.
struct Swap(PathBuf);

impl Swap {
    fn on(device: &Path) -> Option<Self> {
        let output = tool("swapon").arg(device).output().unwrap();
        let is_on = output.status.success() || skip(Lack::other("no swap on loop devices"));
        is_on.then(|| Self(device.to_owned()))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        tool("swapoff").arg(&self.0).status().ok();
    }
}

#[test]
fn a_disk_that_nobody_uses() {
    let Some((image, device)) = partitioned() else { return };
    refused(device.path(), &[]);
    let shown = shown(device.path());
    for line in [
        &format!("{}\n", device.path().display()),
        &format!("  model      {}\n", image.path().canonicalize().unwrap().display()),
        "  size       67.1 MB (67,108,864 bytes)\n",
        "  attached   loop, a file\n",
        "  holds      GPT with 3 partitions\n",
        "    1  31.4 MB  ext4  theirs (first)\n",
        "    2  10.4 MB  swap  swapped\n",
        "    3  10.4 MB  -",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
}

#[test]
fn mounted_and_swapped_to() {
    let Some((_image, device)) = partitioned() else { return };
    let at = point();
    let spaced = at.path().join("with space");
    fs::create_dir(&spaced).unwrap();
    let _mount = MountPoint::new([device.partition(1)], &spaced);
    let spaced = spaced.canonicalize().unwrap();
    let mounted = format!("its partition 1 is mounted at {0}; first run `umount '{0}'`", spaced.display());
    refused(device.path(), std::slice::from_ref(&mounted));
    assert!(shown(device.path()).contains(&format!("theirs (first), mounted at {}\n", spaced.display())));
    if let Some(swap) = Swap::on(&device.partition(2)) {
        let node = swap.0.display();
        let swapped = format!("its partition 2 is used as swap; first run `swapoff {node}`");
        refused(device.path(), &[mounted, swapped]);
        assert!(shown(device.path()).contains("swapped, in use as swap\n"));
    }
    let whole = format!("is partition 3 of {0}, and an image has partitions itself; name {0}", device.path().display());
    refused(&device.partition(3), &[whole]);
}

#[test]
fn mounted_as_a_whole() {
    if !need_root() || !need("mkfs.ext4") || !need("mount") {
        return;
    }
    let image = disk();
    run(tool("mkfs.ext4").args(["-q", "-L", "bare"]).arg(image.path()));
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    let at = point();
    let place = at.path().canonicalize().unwrap();
    let mount = MountPoint::new([device.path()], at.path());
    refused(device.path(), &[format!("is mounted at {0}; first run `umount {0}`", place.display())]);
    let shown_now = shown(device.path());
    let line = format!("  holds      ext4 \"bare\", mounted at {}", place.display());
    assert!(shown_now.contains(&line), "{shown_now}");
    // Under another name, and the file itself.
    let links = point();
    let link = links.path().join("stick");
    std::os::unix::fs::symlink(device.path(), &link).unwrap();
    let told = refusals(&link, MIB, 512);
    let title = format!("{} ({}): is mounted", link.display(), device.path().file_name().unwrap().display());
    assert!(told[0].starts_with(&title), "{told:?}");
    let node = device.path().display();
    refused(image.path(), &[format!("is attached to {node}; first run `losetup -d {node}`, or name that device")]);
    drop(mount);
    refused(device.path(), &[]);
}

#[test]
fn read_only_other_sectors_and_too_small() {
    let image = disk();
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadOnly) else { return };
    let node = device.path().display();
    let remedy = format!("attach the file again without --read-only (`losetup -d {node}` first)");
    refused(device.path(), &[format!("is read-only: {remedy}")]);
    drop(device);
    let Some(device) = LoopDevice::of_disk(image.path(), 4096, Access::ReadWrite) else { return };
    let node = device.path().display();
    assert_eq!(refusals(device.path(), DISK, 4096), Vec::<String>::new());
    let told = [
        format!(
            "{node}: is too small: it has 67,108,864 bytes (67.1 MB); 67,108,865 bytes (67.1 MB) are needed, so 1 byte \
             (1 B) are missing"
        ),
        format!(
            "{node}: has sectors of 4096 bytes, and the image is laid out for 512; build an image with `sectorSize = 4096`"
        ),
    ];
    assert_eq!(refusals(device.path(), DISK + 1, 512), told);
    assert!(shown(device.path()).contains("  sectors    4096 bytes\n"));
}

#[test]
fn held_by_another_loop_device() {
    let image = disk();
    let Some(below) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    let Some(above) = LoopDevice::of_disk(below.path(), 512, Access::ReadWrite) else { return };
    let node = above.path().display();
    refused(below.path(), &[format!("is held by {node} (a loop device); first run `losetup -d {node}`")]);
    refused(above.path(), &[]);
}

/// A mapping of device mapper until it is dropped.
struct Mapping(&'static str);

impl Drop for Mapping {
    fn drop(&mut self) {
        tool("dmsetup").args(["remove", "--retry", self.0]).status().ok();
    }
}

fn has_device_mapper() -> bool {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    misc.contains("device-mapper") || skip(Lack::Kernel("device mapper".to_owned()))
}

#[test]
fn held_by_device_mapper() {
    if !need_root() || !has_device_mapper() || !need("dmsetup") || !need("mkfs.ext4") {
        return;
    }
    let image = disk();
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    let table = format!("0 {} linear {} 0", DISK / 512, device.path().display());
    run(tool("dmsetup").args(["create", "sane-image-test", "--table", &table]));
    let mapping = Mapping("sane-image-test");
    let node = "/dev/mapper/sane-image-test";
    let remedy = "`dmsetup remove sane-image-test`";
    refused(device.path(), &[format!("is held by {node} (device mapper); first run {remedy}")]);
    run(tool("mkfs.ext4").arg("-q").arg(node));
    let at = point();
    let mount = MountPoint::new([node], at.path());
    let place = at.path().canonicalize().unwrap();
    let place = place.display();
    let told = format!("is held by {node} (device mapper), which is mounted at {place}");
    refused(device.path(), &[format!("{told}; first run `umount {place}`, then {remedy}")]);
    drop((mount, mapping));
    refused(device.path(), &[]);
}

#[test]
fn held_by_lvm() {
    if !need_root() || !has_device_mapper() || !need("pvcreate") {
        return;
    }
    let image = disk();
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    run(tool("pvcreate").arg("-q").arg(device.path()));
    run(tool("vgcreate").args(["-q", "sane-image-vg"]).arg(device.path()));
    run(tool("lvcreate").args(["-q", "-n", "home", "-L", "16M", "sane-image-vg"]));
    let told = refusals(device.path(), MIB, 512);
    run(tool("vgchange").args(["-q", "-an", "sane-image-vg"]));
    let node = device.path().display();
    let mapping = "/dev/mapper/sane--image--vg-home";
    assert_eq!(told, [format!("{node}: is held by {mapping} (LVM); first run `vgchange -an sane-image-vg`")]);
    refused(device.path(), &[]);
    assert!(shown(device.path()).contains("  holds      LVM"));
}

/// The mount table names one device of a btrfs.
#[test]
fn every_device_of_a_btrfs() {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !need_root() || !need("mkfs.btrfs") || !(filesystems.contains("btrfs") || skip(Lack::other("no btrfs"))) {
        return;
    }
    let images = [(); 2].map(|()| {
        let image = disk();
        image.as_file().set_len(256 * MIB).unwrap();
        image
    });
    let [Some(one), Some(two)] = images.each_ref().map(|i| LoopDevice::of_disk(i.path(), 512, Access::ReadWrite))
    else {
        return;
    };
    run(tool("mkfs.btrfs").args(["-q", "-d", "single", "-L", "pool"]).args([one.path(), two.path()]));
    run(tool("btrfs").args(["device", "scan"]).args([one.path(), two.path()]));
    let at = point();
    let mount = MountPoint::new([two.path()], at.path());
    let place = at.path().canonicalize().unwrap();
    for device in [&one, &two] {
        refused(device.path(), &[format!("is mounted at {0}; first run `umount {0}`", place.display())]);
    }
    drop(mount);
    refused(one.path(), &[]);
    run(tool("btrfs").args(["device", "scan", "--forget"]).args([one.path(), two.path()]));
}

/// A process that has something of its own until it is dropped.
struct Held(Child);

impl Held {
    /// Runs a script that says when it has it.
    fn new(shell: &str) -> Self {
        let mut child = tool("sh").args(["-c", shell]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "{shell}");
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

#[test]
fn mounted_for_others_alone() {
    if !need_root() || !need("mkfs.ext4") || !need("mount") || !need("unshare") {
        return;
    }
    let image = disk();
    run(tool("mkfs.ext4").arg("-q").arg(image.path()));
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    let at = point();
    let place = at.path().canonicalize().unwrap();
    let (node, place) = (device.path().display(), place.display());
    let inner = format!("mount {node} {place} && echo ready && read end");
    let held = Held::new(&format!("exec unshare --mount --propagation private sh -c '{inner}'"));
    let id = held.0.id();
    let told = format!("is mounted at {place} for process {id} (sh) alone");
    refused(device.path(), &[format!("{told}; first run `nsenter -m -t {id} umount {place}`")]);
    drop(held);
}

/// A filesystem that was unmounted while somebody used it is in no table at all.
#[test]
fn claimed_by_who_knows() {
    if !need_root() || !need("mkfs.ext4") || !need("mount") {
        return;
    }
    let image = disk();
    run(tool("mkfs.ext4").arg("-q").arg(image.path()));
    let Some(device) = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite) else { return };
    let at = point();
    run(tool("mount").arg(device.path()).arg(at.path()));
    let busy = File::open(at.path()).unwrap();
    run(tool("umount").arg("--lazy").arg(at.path()));
    let told = refusals(device.path(), MIB, 512);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("is in use, but the kernel does not say by whom"), "{told:?}");
    drop(busy);
}

#[test]
fn the_disk_of_this_system() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let number = root.split(' ').nth(2).unwrap_or_default();
    let link = fs::canonicalize(Path::new("/sys/dev/block").join(number));
    let name = link.ok().and_then(|path| Some(path.file_name()?.to_owned()));
    let node = name.map(|name| Path::new("/dev").join(name)).filter(|node| node.exists());
    let Some(node) = node else {
        skip(Lack::other("the root is on no block device"));
        return;
    };
    let told = refusals(&node, 0, 512);
    let is_told =
        |line: &String| line.contains("the running system has its / ") && line.contains("boot from something");
    assert!(told.iter().any(is_told), "{told:?}");
    assert!(told.iter().all(|line| !line.contains("umount")), "{told:?}");
}

#[test]
fn what_is_no_disk() {
    let there = point();
    let at = |name: &str| there.path().join(name);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (path, told) in [
        (at(""), "is a directory, not a disk"),
        (at("socket"), "is a socket, not a disk"),
        ("/dev/null".into(), "is a character device, not a disk"),
        (at("nowhere/at/all"), "there is no such device"),
        (at("socket/x"), "Not a directory"),
        ("/dev/sane-image-test".into(), "there is no such device"),
        ("".into(), "there is no such device"),
    ] {
        let said = refusals(&path, 0, 512);
        assert!(said.len() == 1 && said[0].contains(told), "{said:?}");
    }
    fs::write(at("file"), "x").unwrap();
    assert_eq!(refusals(&at("file"), DISK, 512), Vec::<String>::new());
}

/// A list of what is here names no loop device without a file and nothing twice.
#[test]
fn candidates_of_this_machine() {
    let image = disk();
    let device = LoopDevice::of_disk(image.path(), 512, Access::ReadWrite);
    let demands = Demands { size: 0, sector_size: None, fixed_disk: FixedDisk::Refused };
    let candidates = candidates(&Host::default(), &demands);
    let names: std::collections::BTreeSet<_> = candidates.iter().map(|candidate| &candidate.device.name).collect();
    assert_eq!(names.len(), candidates.len());
    assert!(candidates.iter().all(|candidate| candidate.device.size > 0));
    if let Some(device) = device {
        let name = device.path().file_name().unwrap().to_str().unwrap();
        let found = candidates.iter().find(|candidate| candidate.device.name == name).unwrap();
        assert_eq!(found.refusals, []);
    }
}

#[test]
fn the_program_says_all_at_once() {
    let Some((image, device)) = partitioned() else { return };
    let (at, source) = (point(), disk());
    let _mount = MountPoint::new([device.partition(1)], at.path());
    let swap = Swap::on(&device.partition(2));
    let refused = run_ours(sane_image().arg("flash").args([source.path(), device.path()]).arg("--yes"));
    let refused = refused.expect_failure(1);
    let start = format!("sane-image: error: {}: its partition ", device.path().display());
    assert_eq!(refused.stderr.lines().count(), 1 + usize::from(swap.is_some()), "{}", refused.stderr);
    assert!(refused.stderr.lines().all(|line| line.starts_with(&start)), "{}", refused.stderr);
    assert!(image.path().exists());
}

/// A filesystem to write, and a file to write it to that holds something else.
fn source_and_card() -> Option<(TempDir, PathBuf)> {
    if !need("mkfs.ext4") {
        return None;
    }
    let there = point();
    let (source, card) = (there.path().join("source.img"), there.path().join("card.img"));
    File::create(&source).unwrap().set_len(4 * MIB).unwrap();
    run(tool("mkfs.ext4").arg("-q").arg(&source));
    fs::write(&card, vec![0x55; 8 << 20]).unwrap();
    Some((there, card))
}

fn is_untouched(card: &Path) -> bool {
    fs::read(card).unwrap().iter().all(|&byte| byte == 0x55)
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let Some((there, card)) = source_and_card() else { return };
    let mut flash = sane_image();
    flash.arg("flash").args([&there.path().join("source.img"), &card]);
    let refused = run_ours(flash.stdin(Stdio::piped())).expect_failure(2);
    assert!(refused.stderr.contains("there is no terminal to ask on; pass --yes"), "{}", refused.stderr);
    assert!(is_untouched(&card));
    let mut list = sane_image();
    let listed = run_ours(list.arg("flash").arg(there.path().join("source.img"))).expect_failure(2);
    assert!(
        listed.stdout.contains("To write to one of them: ")
            || listed.stdout.starts_with("There is no card, stick or disk")
    );
    assert!(listed.stderr.contains("nothing was written"), "{}", listed.stderr);
}

/// The name of the file, and no other answer.
#[test]
fn the_question_has_one_answer() {
    for (answer, is_written) in
        [("y\n", false), ("yes\n", false), ("\n", false), ("card\n", false), ("card.img\n", true)]
    {
        let Some((there, card)) = source_and_card().filter(|_| need("script")) else { return };
        let program = env!("CARGO_BIN_EXE_sane-image");
        let command = format!("cd {} && exec {program} flash source.img card.img", there.path().display());
        let mut script = tool("script");
        script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().unwrap();
        let (mut to, mut from) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (mut shown, mut byte) = (Vec::new(), [0]);
        while !shown.ends_with(b"to go on: ") {
            assert_eq!(from.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        to.write_all(answer.as_bytes()).unwrap();
        from.read_to_end(&mut shown).unwrap();
        drop(to);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(script.wait().unwrap().code(), Some(if is_written { 0 } else { 1 }), "{answer:?}: {shown}");
        assert_eq!(is_untouched(&card), !is_written, "{answer:?}: {shown}");
        assert!(is_written || shown.contains("and not card.img; nothing was written"), "{answer:?}: {shown}");
    }
}
