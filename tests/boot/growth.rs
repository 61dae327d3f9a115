//! The first boot on a disk larger than the image: the module's script grows the store's partition and file system.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use crate::console::watch;
use crate::guest::{Arch, Root, Variant, closure_with, fixture};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::build;
use crate::support;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Partition, run, sane_image};
use crate::support::machine::install;
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{btrfs_check, e2fsck};
use crate::support::tool::{need, tool};
use crate::support::tree::Entry;
use crate::support::walk::Expected;
use crate::systemd_boot::with_systemd_boot;

const MIB: u64 = 1 << 20;
/// How much larger the disk is.
const MORE: u64 = 1 << 30;
/// What the script runs, the shell among them.
const PROGRAMS: [&str; 13] = [
    "bash",
    "btrfs",
    "cat",
    "findmnt",
    "head",
    "mount",
    "partx",
    "realpath",
    "resize2fs",
    "sed",
    "sfdisk",
    "tail",
    "tr",
];

/// Adds the script and what it takes to run it.
fn with_script(closure: ClosureBuilder) -> ClosureBuilder {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("bin")).unwrap();
    PROGRAMS.iter().for_each(|program| install(program, scratch.path()));
    let script = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/first-boot/grow.sh")).unwrap();
    let closure =
        closure.path("programs", Entry::read(scratch.path()).unwrap()).path("grow", Entry::executable(script));
    let first_boot = ["busybox", "programs", "grow"]
        .iter()
        .fold(fixture("first-boot"), |script, name| script.replace(&format!("@{name}@"), closure.store_path(name)));
    closure.referring("first-boot", Entry::executable(first_boot), &["busybox", "programs", "grow"])
}

fn grows(root: Root) {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    if !machine.need() || !PROGRAMS.iter().all(|program| need(program)) {
        return;
    }
    let variant = Variant { first_boot: Some("first-boot"), ..Variant::default() };
    let closure = closure_with(machine.arch, root, variant, with_script);
    let Some(closure) = closure.and_then(|closure| with_systemd_boot(closure, machine.arch)) else { return };
    let (closure, built) = build(closure);
    let size = built.image.metadata().unwrap().len();
    File::options().write(true).open(&built.image).unwrap().set_len(size + MORE).unwrap();
    for boot in ["first", "second"] {
        let row = format!("growth-{}-{boot}", root.name());
        let run = watch(&row, &mut machine.command(&built.image, Writes::Kept));
        run.expect_good(closure.paths.len());
        assert_eq!(run.console().contains("stage 2: grown"), boot == "first", "{row}: when it was grown");
    }
    judge(&closure, root, &built.image, built.nix());
}

/// The disk grown, and every file as it was.
fn judge(closure: &Closure, root: Root, image: &Path, before: Partition) {
    let after = judge_growth(root, image, before, MORE);
    let paths = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    let expected = Expected::empty().store("", paths);
    let (store, mount) = match root {
        Root::Ext4 => ("nix/store", Mount::new(image, after, "ext4", Access::ReadOnly)),
        Root::Btrfs | Root::Subvolumes => {
            ("store", Mount::with_options(image, after, "btrfs", Access::ReadOnly, "subvol=@nix"))
        }
    };
    if let Some(mount) = mount {
        expected.assert_equals(&mount.path().join(store));
    }
    run(sane_image().arg("verify").arg(image)).expect_success();
}

/// The partition of the store and its file system are sound, and take all of the `more` bytes by which the disk has grown.
/// Where it is now.
pub(crate) fn judge_growth(root: Root, image: &Path, before: Partition, more: u64) -> Partition {
    if need("sgdisk") {
        // sfdisk grows a partition to the last sector there is, which sgdisk calls unaligned, but sound.
        let said = String::from_utf8(support::tool::run(tool("sgdisk").arg("-v").arg(image))).unwrap();
        assert!(said.contains("No problems found. "), "{said}");
    }
    let said = run(sane_image().args(["inspect", "--json"]).arg(image)).expect_success();
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let found = &report["partitions"][1];
    let after =
        Partition { number: 2, offset: found["offset"].as_u64().unwrap(), size: found["size"].as_u64().unwrap() };
    assert_eq!(after.offset, before.offset);
    // What sfdisk aligns and the backup of the table takes less than 2 MiB.
    assert!(after.size > before.size + more - 2 * MIB, "grown from {} to {}", before.size, after.size);
    let filesystem = found["filesystem"]["size"].as_u64().unwrap();
    assert!(filesystem > after.size - MIB, "{filesystem} of {} bytes are the file system's", after.size);
    match root {
        Root::Ext4 => e2fsck(image, after).expect_clean(),
        Root::Btrfs | Root::Subvolumes => btrfs_check(image, after).expect_clean(),
    };
    after
}

#[test]
fn grown_ext4() {
    grows(Root::Ext4);
}

#[test]
fn grown_btrfs() {
    grows(Root::Btrfs);
}
