//! A sealed store: its root hash comes with the kernel, and a flipped bit is a read error.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::console::watch;
use crate::guest::{Arch, INITRD, KERNEL, SYSTEM, busybox_files};
use crate::initrd::initrd_of;
use crate::machine::{Firmware, Machine, Writes};
use crate::row::build;
use crate::support::closure::ClosureBuilder;
use crate::support::image::Built;
use crate::support::machine::install;
use crate::support::tool::{need, run, tool};
use crate::support::tree::{Contents, Entries, Entry};
use crate::systemd_boot::with_systemd_boot;
use crate::uki::with_uki;

/// What the initrd runs besides busybox.
const PROGRAMS: [&str; 2] = ["veritysetup", "blkid"];
/// What erofs and dm-verity take, in the order in which they are loaded.
const MODULES: [&str; 5] = ["reed_solomon", "dm-mod", "dm-bufio", "dm-verity", "erofs"];
const BLOCK: u64 = 4096;
/// The hashes in a block.
const FAN: u64 = 128;
/// The file that is damaged. No compression makes it smaller, so it is on the disk as it is.
const VICTIM: Contents = Contents::Pattern { seed: 20, len: (1 << 20) + 1000 };

/// The programs, in /sbin, and the libraries that they load.
fn programs() -> Entries {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("bin")).unwrap();
    PROGRAMS.iter().for_each(|program| install(program, scratch.path()));
    let Entry::Dir(mut files) = Entry::read(scratch.path()).unwrap() else { unreachable!() };
    let programs = files.remove(b"bin".as_slice()).unwrap();
    files.insert(b"sbin".to_vec(), programs);
    files
}

/// Appends what `sha256sum` says of the files at `path`.
fn sum(path: &str, entry: &Entry, sums: &mut String) {
    match entry {
        Entry::Dir(entries) => entries
            .iter()
            .for_each(|(name, entry)| sum(&format!("{path}/{}", str::from_utf8(name).unwrap()), entry, sums)),
        Entry::File { contents, .. } => {
            let mut hash = Sha256::new();
            contents.for_each_block(|_, block| hash.update(block));
            let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            sums.push_str(&format!("{digits}  {path}\n"));
        }
        Entry::Symlink(_) => {}
    }
}

/// The closure, or `None` where its parts are not here, which has been told.
fn closure(arch: Arch) -> Option<ClosureBuilder> {
    let (kernel, modules, busybox) = arch.parts()?;
    let busybox = fs::read(busybox).unwrap();
    let initrd = initrd_of("sealed", &busybox, &modules, &MODULES, programs());
    let small = (0..300).map(|n| (format!("file-{n}"), Entry::file(format!("{n}\n").repeat(n))));
    let paths = [
        ("busybox", Entry::dir([("bin", busybox_files(&busybox, &["echo"]))])),
        (KERNEL, Entry::dir([(arch.kernel_file(), Entry::file(fs::read(kernel).unwrap()))])),
        (INITRD, Entry::dir([("initrd", Entry::file(initrd))])),
        ("small", Entry::dir(small)),
        ("text", Entry::file("Contents that compress well. ".repeat(80_000))),
        ("victim", Entry::of(VICTIM)),
        ("zeros", Entry::of(Contents::zeros(3 << 20))),
    ];
    let mut sums = String::new();
    let closure = paths.into_iter().fold(ClosureBuilder::new(), |closure, (name, tree)| {
        let closure = closure.path(name, tree.clone());
        sum(closure.store_path(name), &tree, &mut sums);
        closure
    });
    let closure = closure.path("sums", Entry::file(sums));
    let [kernel, initrd] = [(KERNEL, arch.kernel_file()), (INITRD, "initrd")]
        .map(|(name, file)| format!("{}/{file}", closure.store_path(name)));
    let toplevel = |path: &str| {
        let bootspec = json!({ "org.nixos.bootspec.v1": {
            "system": arch.system(), "init": format!("{path}/init"), "initrd": initrd, "kernel": kernel,
            "kernelParams": [], "label": "NixOS boot test 26.05", "toplevel": path,
        } });
        Entry::dir([
            ("boot.json", Entry::file(bootspec.to_string())),
            ("init", Entry::executable("#!/bin/sh\n")),
            ("nixos-version", Entry::file("26.05.boot-test")),
        ])
    };
    let closure = with_systemd_boot(closure.derived(SYSTEM, toplevel, &[KERNEL, INITRD]).toplevel(SYSTEM), arch)?;
    let closure = closure.spec(|spec| {
        spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
        spec["fileSystems"]["/nix/store"] =
            json!({ "device": "/dev/mapper/usr", "fsType": "erofs", "options": ["ro"] });
        // zstd is for Linux 6.10 and later.
        spec["erofsCompression"] = "lz4".into();
        spec["verity"] = json!({ "architecture": "x86-64" });
    });
    with_uki(closure, arch, None)
}

/// Where an image has the middle of the victim.
fn find_victim(built: &Built) -> u64 {
    let mut part = [0; 64];
    VICTIM.fill(VICTIM.len() / 2, &mut part);
    let nix = built.nix();
    let mut bytes = vec![0; usize::try_from(nix.size).unwrap()];
    File::open(&built.image).unwrap().read_exact_at(&mut bytes, nix.offset).unwrap();
    let at = bytes.windows(part.len()).position(|window| window == part);
    nix.offset + u64::try_from(at.expect("the victim is on the disk as it is")).unwrap()
}

/// A copy of the image with one flipped bit.
fn flipped(built: &Built, name: &str, at: u64) -> PathBuf {
    let path = built.scratch().join(name);
    run(tool("cp").arg("--sparse=always").arg(&built.image).arg(&path));
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at).unwrap();
    disk.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    path
}

/// Adds a disk that is not booted.
fn add_disk(command: &mut Command, id: &str, disk: &Path) {
    let drive = format!("if=none,id={id},format=raw,snapshot=on,file={}", disk.to_str().unwrap().replace(',', ",,"));
    command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={id}")]);
}

#[test]
fn a_flipped_bit_is_a_read_error() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    if !machine.need() || !PROGRAMS.iter().chain(&["ldd"]).all(|program| need(program)) {
        return;
    }
    let Some(closure) = closure(machine.arch) else { return };
    let (closure, built) = build(closure);
    let (nix, hashes) = (built.nix(), built.partition("verity"));
    let victim = find_victim(&built);
    let block = (victim - nix.offset) / BLOCK;
    // After the superblock and the one block of the upper level: two levels are enough for 64 MiB.
    assert!((FAN * BLOCK..FAN * FAN * BLOCK).contains(&nix.size));
    let hash_block = 2 + block / FAN;
    let hash = hashes.offset + hash_block * BLOCK + block % FAN * 32;

    let mut command = machine.command(&built.image, Writes::Forgotten);
    add_disk(&mut command, "contents", &flipped(&built, "contents.img", victim));
    add_disk(&mut command, "hashes", &flipped(&built, "hashes.img", hash));
    let run = watch("verity", &mut command);
    run.expect_good(closure.paths.len());
    run.expect_said(&["/dev/mapper/usr /nix/store erofs ro", "a program of the store runs\n"]);
    let refused = |disk: &str| {
        let lines = run.console().lines();
        lines.filter_map(|line| line.strip_prefix(&format!("{disk} refuses "))).collect::<Vec<_>>()
    };
    let victim = closure.path("victim").path.as_str();
    assert_eq!(refused("vda"), ["another root hash"]);
    assert_eq!(refused("vdb"), [victim]);
    run.expect_said(&[&format!("data block {block} is corrupted\n")]);
    // With the hash, those of its neighbours are lost.
    assert!(refused("vdc").contains(&victim), "{}", run.console());
    run.expect_said(&[&format!("metadata block {hash_block} is corrupted\n")]);
}
