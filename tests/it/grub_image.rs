//! Whole images that GRUB boots, in each form of output; and what `grub-install` says to them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::grub_embedding::{grub_install, mkimage, need_target};
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::mount::{Access, LoopDevice, Mount, MountPoint};
use crate::support::oracle;
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::Entry;

const BIOS: &str = "/usr/lib/grub/i386-pc";
const EFI: &str = "/usr/lib/grub/x86_64-efi";
const SYSTEM: &str = "nixos-system-grub-26.05";
/// The bytes of boot code in sector 0.
const CODE: usize = 440;

/// A closure of a system that GRUB boots by BIOS, without an ESP; or `None` where GRUB is not here, which has been told.
fn closure(change: impl FnOnce(&mut Value) + 'static) -> Option<Closure> {
    if !need("grub-mkimage") || !need_target("i386-pc", "grub-pc-bin") {
        return None;
    }
    let builder = ClosureBuilder::new()
        .path("linux", Entry::dir([("bzImage", Entry::file("a kernel"))]))
        .path("initrd", Entry::dir([("initrd", Entry::file("an initrd"))]));
    let [kernel, initrd] = ["linux", "initrd"].map(|name| builder.store_path(name).to_owned());
    let system = Entry::dir([
        ("init", Entry::executable("#!/bin/sh\n")),
        ("initrd", Entry::symlink(format!("{initrd}/initrd"))),
        ("kernel", Entry::symlink(format!("{kernel}/bzImage"))),
        ("kernel-params", Entry::file("loglevel=4")),
        ("nixos-version", Entry::file("26.05.test")),
    ]);
    let builder = builder.referring(SYSTEM, system, &["linux", "initrd"]).toplevel(SYSTEM);
    let spec = |spec: &mut Value| {
        spec["fileSystems"].as_object_mut().unwrap().remove("/boot");
        spec["efiSysMountPoint"] = Value::Null;
        spec["grub"] = json!({ "mkimage": mkimage(), "bios": BIOS, "devices": ["/dev/sda"] });
        change(spec);
    };
    Some(builder.spec(spec).write())
}

/// As a host that UEFI boots, too.
fn hybrid(spec: &mut Value) {
    spec["fileSystems"]["/boot"] = json!({ "device": "/dev/disk/by-uuid/5A4E-1111", "fsType": "vfat" });
    spec["efiSysMountPoint"] = "/boot".into();
    spec["grub"]["efi"] = EFI.into();
}

fn code(image: &Path) -> [u8; CODE] {
    let mut code = [0; CODE];
    File::open(image).unwrap().read_exact_at(&mut code, 0).unwrap();
    code
}

/// Every file below a directory, by its path from there.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let files = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().is_file()).map(|file| {
        let path = file.path().strip_prefix(directory).unwrap().display().to_string();
        (path, fs::read(file.path()).unwrap())
    });
    files.collect()
}

/// On the finished image, `grub-install` leaves all that it looks after as it is: boot code, core image, modules.
#[test]
fn grub_install_changes_nothing() {
    let Some(closure) = closure(|_| {}).filter(|_| need_root() && need("grub-install")) else { return };
    let built = Built::new(&closure, &["--verify"]);
    let installed = built.scratch().join("installed.img");
    fs::copy(&built.image, &installed).unwrap();
    let Some(device) = LoopDevice::with_partitions(&installed, 512) else { return };
    let point = built.scratch().join("mnt");
    fs::create_dir(&point).unwrap();
    let node = device.partition(2);
    let mount = MountPoint::new(["-o".as_ref(), "rw".as_ref(), node.as_os_str()], &point);
    let before = files(&point.join("boot/grub"));
    grub_install("i386-pc", device.path(), &point.join("boot"), &["--no-rs-codes"]);
    let mut after = files(&point.join("boot/grub"));
    // What the test itself put there, so that GRUB knows the loop device; and what that makes necessary.
    after.retain(|(path, _)| path != "device.map" && path != "i386-pc/load.cfg");
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let changed = before.iter().zip(&after).find(|(before, after)| before != after);
    assert_eq!(changed.map(|((path, _), _)| path), None);
    drop((mount, device));
    assert!(code(&built.image) == code(&installed), "the boot code");
    let partition = |path: &Path| {
        let mut bytes = vec![0; 1 << 20];
        let at = built.layout["partitions"][0]["offset"].as_u64().unwrap();
        File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    assert!(partition(&built.image) == partition(&installed), "the BIOS boot partition");
}

#[test]
fn the_plan_tells_of_the_partition_and_tools_know_it() {
    let Some(closure) = closure(hybrid).filter(|_| need_target("x86_64-efi", "grub-efi-amd64-bin")) else { return };
    let built = Built::new(&closure, &["--verify"]);
    let first = &built.layout["partitions"][0];
    assert_eq!((&first["role"], &first["number"], &first["size"]), (&"biosBoot".into(), &1.into(), &(1 << 20).into()));
    assert_eq!(first["typeGuid"], "21686148-6449-6e6f-744e-656564454649");
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::fdisk(&built.image, 512).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    let boot = |path: &str| run(sane_image().arg("ls").arg(&built.image).args(["boot", path])).expect_success().stdout;
    assert!(boot("/EFI/BOOT").contains("BOOTX64.EFI"), "{}", boot("/EFI/BOOT"));
    if need("grub-file") {
        let directory = built.scratch().join("extracted");
        let mut extract = sane_image();
        extract.arg("extract").arg("--out").arg(&directory).arg(&built.image).args(["boot", "/EFI/BOOT"]);
        run(&mut extract).expect_success();
        run_tool(tool("grub-file").arg("--is-x86_64-efi").arg(directory.join("EFI/BOOT/BOOTX64.EFI")));
    }
    assert!(boot("/grub").contains("grub.cfg") && boot("/kernels").contains("bzImage"));
    // Whatever is built, it is the same.
    let again = Built::new(&closure, &["--jobs", "1"]);
    assert!(fs::read(&built.image).unwrap() == fs::read(&again.image).unwrap());
}

/// Password hashes are in it, so that it is root's, as nixpkgs' installer leaves it.
#[test]
fn the_configuration_is_for_root_alone() {
    let hash = format!("grub.pbkdf2.sha512.10000.{}.{}", "AB".repeat(64), "CD".repeat(64));
    let Some(closure) = closure(move |spec| spec["grub"]["users"] = json!({ "root": { "hashedPassword": hash } }))
    else {
        return;
    };
    // A directory of the host's own with a file for it does not open it.
    let own = tempfile::tempdir().unwrap();
    fs::create_dir_all(own.path().join("boot/grub")).unwrap();
    fs::set_permissions(own.path().join("boot/grub"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(own.path().join("boot/grub/custom.cfg"), "").unwrap();
    let built = Built::new(&closure, &["--extra-files", own.path().to_str().unwrap()]);
    let config = run(sane_image().arg("cat").arg(&built.image).args(["nix", "/boot/grub/grub.cfg"])).expect_success();
    assert!(config.stdout.contains("password_pbkdf2 root grub.pbkdf2"), "{}", config.stdout);
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        let mode = |path: &str| fs::metadata(mount.path().join(path)).unwrap().mode();
        assert_eq!([mode("boot"), mode("boot/grub"), mode("boot/grub/i386-pc")], [0o40755, 0o40700, 0o40755]);
    }
}

#[test]
fn each_form_has_the_boot_code() {
    let Some(closure) = closure(hybrid).filter(|_| need_target("x86_64-efi", "grub-efi-amd64-bin")) else { return };
    let built = Built::new(&closure, &["--format", "raw,zst,qcow2"]);
    let image = fs::read(&built.image).unwrap();
    assert!(code(&built.image).iter().any(|&byte| byte != 0));
    for form in ["nixos.img.zst", "nixos.qcow2"] {
        let raw = built.scratch().join("raw.img");
        let from = built.image.with_file_name(form);
        run(sane_image().arg("convert").arg(from).arg("--format").arg("raw").arg("--out").arg(&raw)).expect_success();
        assert!(fs::read(&raw).unwrap() == image, "{form}");
        fs::remove_file(&raw).unwrap();
    }
    let card = built.scratch().join("card.img");
    let mut flash = sane_image();
    flash.arg("flash").arg(closure.spec_path()).arg(&card).arg("--yes").arg("--store-root").arg(closure.root());
    run(&mut flash).expect_success();
    assert!(fs::read(&card).unwrap() == image, "flash");
    // Onto a larger device, the backup table moves and the last partition grows; what a BIOS starts stays.
    File::create(&card).unwrap().set_len(400 << 20).unwrap();
    run(sane_image().arg("flash").arg(&built.image).arg(&card).arg("--yes")).expect_success();
    assert!(code(&card) == code(&built.image));
    run(sane_image().arg("verify").arg(&card)).expect_success();
}

/// What has its place there is protected from installBootloader, and what has none is not.
#[test]
fn a_script_cannot_write_over_boot_code() {
    let write = |at: u64| format!("printf x | dd of=$out/nixos.img bs=1 seek={at} conv=notrunc status=none");
    for (at, what) in
        [(0, "the boot code of the MBR is"), (439, "the boot code of the MBR is"), (16 << 20, "BIOS boot")]
    {
        let Some(closure) = closure(move |spec| spec["installBootloader"] = write(at).into()) else { return };
        let out = closure.root().join("out");
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1);
        assert!(run.stderr.contains(what), "{}", run.stderr);
        assert!(!out.exists());
    }
    let Some(closure) = closure(move |spec| spec["installBootloader"] = write(9 << 20).into()) else { return };
    Built::new(&closure, &["--verify"]);
}

/// What spoils a spec, the exit code, and what is said.
type Mistake = (fn(&mut Value), i32, &'static str);

#[test]
fn mistakes_are_told_before_anything_is_built() {
    let mistakes: [Mistake; 5] = [
        (|spec| spec["sectorSize"] = 4096.into(), 2, "sectorSize: is 4096, but no BIOS starts from such a disk"),
        (|spec| spec["grub"]["efi"] = EFI.into(), 2, "efiSysMountPoint: is null, but grub.efi needs an ESP"),
        (|spec| spec["grub"]["bios"] = "/no/i386-pc".into(), 1, "/no/i386-pc/boot.img: cannot be read"),
        (|spec| spec["grub"]["mkimage"] = "/no/grub-mkimage".into(), 1, "cannot start /no/grub-mkimage"),
        (
            |spec| spec["grub"]["extraGrubInstallArgs"] = json!(["--modules=nonsense"]),
            1,
            "made no core image of /usr/lib/grub/i386-pc",
        ),
    ];
    for (change, status, words) in mistakes {
        let Some(closure) = closure(change) else { return };
        let out = closure.root().join("out");
        let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(status);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(!out.exists());
    }
}
