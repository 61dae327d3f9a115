//! Where the host of an image mounts what, found in images of ours and of others.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use sane_image::add::mounts::{HostMounts, host_mounts};
use sane_image::image::Image;
use sane_image::mounts::{Location, Mount};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::closure::{BOOT_ID, ClosureBuilder, NIX_UUID};
use crate::support::foreign::{mkfs_ext4, mkfs_fat};
use crate::support::image::Built;
use crate::support::tool::{self, need, need_root, tool};
use crate::support::tree::Entry;

const MIB: u64 = 1 << 20;

/// The image of a closure whose toplevel has this fstab, by the links that NixOS makes, and which its only boot entry
/// starts if `is_booted`.
fn image(fstab: &str, is_booted: bool, change: impl FnOnce(&mut Value) + 'static) -> Built {
    let builder = ClosureBuilder::new().path("fstab", Entry::file(fstab));
    let etc = Entry::dir([("etc", Entry::dir([("fstab", Entry::symlink(builder.store_path("fstab")))]))]);
    let builder = builder.referring("etc", etc, &["fstab"]);
    let link = format!("{}/etc", builder.store_path("etc"));
    let system = Entry::dir([("etc", Entry::symlink(link)), ("init", Entry::executable("#!"))]);
    let builder = builder.referring("nixos-system-host", system, &["etc"]).toplevel("nixos-system-host");
    let conf =
        format!("title NixOS\nlinux /k\noptions root=x init={}/init quiet\n", builder.store_path("nixos-system-host"));
    let entries = Entry::dir([("nixos-generation-1.conf", Entry::file(conf))]);
    let boot = Entry::dir([("loader", Entry::dir([("entries", entries)]))]);
    let builder = builder.path("boot-files", boot);
    let boot_files = builder.store_path("boot-files").to_owned();
    let builder = builder.spec(move |spec| {
        if is_booted {
            spec["extraBootFiles"] = json!([boot_files]);
        }
        change(spec);
    });
    Built::new(&builder.write(), &[])
}

fn found(image: &Path) -> HostMounts {
    host_mounts(&Image::open(image).unwrap()).unwrap()
}

fn mount(found: &HostMounts, mount_point: &str) -> Mount {
    let mount = found.table.mounts().iter().find(|(at, _)| at == Path::new(mount_point));
    mount.unwrap_or_else(|| panic!("nothing on {mount_point}: {found:?}")).1.clone()
}

fn nix(path: &str) -> Mount {
    Mount::Nix(path.into())
}

fn elsewhere(words: &str) -> Mount {
    Mount::Elsewhere(words.to_owned())
}

#[test]
fn an_ext4_with_all_that_is_beside_it() {
    let fstab = format!(
        "# made by NixOS\n/dev/disk/by-uuid/{NIX_UUID} / ext4 x-initrd.mount,noatime 0 1\n\
         UUID={BOOT_ID} /boot vfat fmask=0022,dmask=0022 0 2\n/persist/log /var/log none bind,x-initrd.mount 0 0\n\
         tmpfs /tmp tmpfs size=50% 0 0\n/dev/mapper/x /mnt/with\\040space ext4 defaults 0 2\n\
         overlay /ro overlay lowerdir=/a 0 0\n/dev/disk/by-label/swap none swap defaults\n"
    );
    let found = found(&image(&fstab, true, |_| {}).image);
    assert_eq!(found.table.mounts().len(), 6);
    assert_eq!((mount(&found, "/"), mount(&found, "/boot")), (nix(""), Mount::Boot));
    assert_eq!(mount(&found, "/var/log"), Mount::Bind("/persist/log".into()));
    assert_eq!(mount(&found, "/tmp"), elsewhere("tmpfs"));
    assert_eq!(mount(&found, "/mnt/with space"), elsewhere("/dev/mapper/x, ext4"));
    assert_eq!(mount(&found, "/ro"), elsewhere("overlay"));
    assert_eq!(found.boot_mount_point, Path::new("/boot"));
    assert_eq!(found.boot_options, ["fmask=0022", "dmask=0022"]);
    assert_eq!(found.table.locate(Path::new("/var/log/x")), Ok(Location::Nix("persist/log/x".into())));
    let error = found.table.locate(Path::new("/tmp/x")).unwrap_err();
    assert_eq!(error, "is on \"/tmp\" (tmpfs), which is neither the image's boot nor its nix filesystem");
}

/// The entry that boots decides; a system in the store that nobody boots and no profile has does not.
#[test]
fn without_a_system_what_is_usual() {
    let fstab = format!("UUID={NIX_UUID} /elsewhere ext4\n");
    let found = found(&image(&fstab, false, |_| {}).image);
    assert_eq!((mount(&found, "/"), mount(&found, "/boot")), (nix(""), Mount::Boot));
    assert_eq!((found.table.mounts().len(), found.boot_options.len()), (2, 0));
}

#[test]
fn a_btrfs_with_subvolumes() {
    let device = format!("/dev/disk/by-uuid/{NIX_UUID}");
    let line = |at: &str, options: &str| format!("{device} {at} btrfs {options} 0 0\n");
    let fstab = [
        line("/", "subvol=@"),
        line("/nix", "noatime,subvol=/@nix,compress=zstd"),
        line("/home", "subvol=deep/er/@home"),
        line("/top", "subvolid=5"),
        line("/all", "defaults"),
        line("/numbered", "subvolid=257"),
        line("/up", "subvol=../x"),
    ]
    .concat();
    let built = image(&fstab, true, move |spec| {
        let mount = |options: &str| json!({ "device": device, "fsType": "btrfs", "options": [options] });
        let mounts = [("/", "subvol=@"), ("/nix", "subvol=@nix"), ("/home", "subvol=deep/er/@home")];
        mounts.into_iter().for_each(|(at, options)| spec["fileSystems"][at] = mount(options));
    });
    let found = found(&built.image);
    assert_eq!((mount(&found, "/"), mount(&found, "/nix")), (nix("@"), nix("@nix")));
    assert_eq!((mount(&found, "/home"), mount(&found, "/top")), (nix("deep/er/@home"), nix("")));
    assert_eq!(mount(&found, "/all"), nix(""));
    assert_eq!(mount(&found, "/numbered"), elsewhere("the btrfs subvolume with the number 257"));
    assert_eq!(mount(&found, "/up"), elsewhere(&format!("/dev/disk/by-uuid/{NIX_UUID}, btrfs")));
    // Found without the fstab: where the store's subvolume has to be.
    let closure_alone = image("", false, |spec| {
        let device = format!("/dev/disk/by-uuid/{NIX_UUID}");
        let mount = |options: &str| json!({ "device": device, "fsType": "btrfs", "options": [options] });
        spec["fileSystems"]["/"] = mount("subvol=@");
        spec["fileSystems"]["/nix"] = mount("subvol=@nix");
    });
    assert_eq!(self::found(&closure_alone.image).table.mounts()[0], ("/nix".into(), nix("@nix")));
}

#[test]
fn a_root_of_tmpfs_and_labels_with_spaces() {
    let fstab = "none / tmpfs mode=755 0 0\n\
                 /dev/disk/by-label/MY\\x20STORE /nix ext4 defaults 0 2\n\
                 LABEL=\"MY\\040ESP\" /boot vfat defaults 0 2\n\
                 PARTLABEL=Linux\\040filesystem /again auto\n\
                 /dev/disk/by-partlabel/EFI\\134x20System /efi vfat\n\
                 LABEL=MY\\040STORE /wrong btrfs\n";
    let built = image(fstab, true, |spec| {
        spec["fileSystems"]["/boot"]["device"] = json!("/dev/disk/by-label/MY\\x20ESP");
        let Value::Object(mounts) = &mut spec["fileSystems"] else { return };
        mounts.remove("/");
        let store = json!({ "device": "/dev/disk/by-label/MY\\x20STORE", "fsType": "ext4", "options": [] });
        mounts.insert("/nix".to_owned(), store);
    });
    let found = found(&built.image);
    assert_eq!((mount(&found, "/"), mount(&found, "/nix")), (elsewhere("tmpfs"), nix("")));
    assert_eq!((mount(&found, "/boot"), mount(&found, "/efi")), (Mount::Boot, Mount::Boot));
    assert_eq!((mount(&found, "/again"), mount(&found, "/wrong")), (nix(""), elsewhere("LABEL=MY STORE, btrfs")));
    assert_eq!(found.table.locate(Path::new("/nix/persist")), Ok(Location::Nix("persist".into())));
    assert!(found.table.locate(Path::new("/etc/x")).unwrap_err().contains("(tmpfs)"));
}

/// A tree as an image of nixpkgs for SD cards has it: the system boots by extlinux from its own /boot.
fn sd_tree(fstab: &str) -> tempfile::TempDir {
    const HASH: &str = "0q43idch209zsdngl8yl79x0y79aajib";
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let system = format!("nix/store/{HASH}-nixos-system-pi");
    fs::create_dir_all(at(&system).join("etc")).unwrap();
    fs::write(at(&system).join("init"), "#!").unwrap();
    symlink(format!("/nix/store/{HASH}-fstab"), at(&system).join("etc/fstab")).unwrap();
    fs::write(at(&format!("nix/store/{HASH}-fstab")), fstab).unwrap();
    fs::create_dir_all(at("boot/extlinux")).unwrap();
    let conf = format!("DEFAULT a\nLABEL a\n  LINUX ../k\n  APPEND init=/{system}/init console=ttyS0\n");
    fs::write(at("boot/extlinux/extlinux.conf"), conf).unwrap();
    fs::create_dir_all(at("nix/var/nix/profiles")).unwrap();
    symlink("system-1-link", at("nix/var/nix/profiles/system")).unwrap();
    symlink(format!("/{system}"), at("nix/var/nix/profiles/system-1-link")).unwrap();
    root
}

/// A disk with an MBR: firmware's FAT, then `root` as ext4.
fn sd_image(root: &Path) -> Option<NamedTempFile> {
    let firmware = tempfile::tempdir().unwrap();
    fs::write(firmware.path().join("config.txt"), "arm_64bit=1\n").unwrap();
    if !need("sfdisk") || !need_root() {
        return None;
    }
    let (fat, ext4) = (mkfs_fat(firmware.path(), "32")?, mkfs_ext4(root, &["-L", "NIXOS_SD"])?);
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(140 * MIB).unwrap();
    let script = NamedTempFile::new().unwrap();
    fs::write(
        script.path(),
        "label: dos\nlabel-id: 0x2178694e\nstart=16384, size=131072, type=b\nstart=147456, type=83\n",
    )
    .unwrap();
    tool::run(tool("sfdisk").arg("-q").arg(disk.path()).stdin(fs::File::open(script.path()).unwrap()));
    for (file, at) in [(&fat, 16_384), (&ext4, 147_456)] {
        disk.as_file().write_all_at(&fs::read(file.path()).unwrap(), at * 512).unwrap();
    }
    Some(disk)
}

#[test]
fn an_sd_card_boots_from_its_root() {
    for device in ["/dev/disk/by-label/OTHERS", "PARTUUID=2178694E-01", "/dev/disk/by-partuuid/2178694e-01"] {
        let fstab = format!(
            "/dev/disk/by-label/NIXOS_SD / ext4 defaults 0 1\n{device} /boot/firmware vfat nofail,noauto 0 2\n"
        );
        let root = sd_tree(&fstab);
        // By the entry of extlinux, and without one by the profile.
        for remove in [None, Some("boot/extlinux/extlinux.conf")] {
            remove.into_iter().for_each(|path| fs::remove_file(root.path().join(path)).unwrap());
            let Some(disk) = sd_image(root.path()) else { return };
            let found = found(disk.path());
            assert_eq!((mount(&found, "/"), mount(&found, "/boot/firmware")), (nix(""), Mount::Boot), "{device}");
            assert_eq!(found.boot_mount_point, Path::new("/boot/firmware"));
            assert_eq!(found.boot_options, ["nofail", "noauto"]);
            let locate = |path: &str| found.table.locate(Path::new(path)).unwrap();
            assert_eq!(locate("/boot/extlinux/x"), Location::Nix("boot/extlinux/x".into()));
            assert_eq!(locate("/boot/firmware/x"), Location::Boot("x".into()));
        }
    }
}

#[test]
fn a_linux_of_another_kind() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let Some(disk) = sd_image(root.path()) else { return };
    let usual = found(disk.path());
    assert_eq!(usual.table.mounts(), [("/".into(), nix("")), ("/boot".into(), Mount::Boot)]);
    fs::write(root.path().join("etc/fstab"), "PARTUUID=2178694e-02 / ext4\nLABEL=OTHERS /boot/efi vfat umask=0077\n")
        .unwrap();
    let Some(disk) = sd_image(root.path()) else { return };
    let found = found(disk.path());
    assert_eq!(found.table.mounts(), [("/".into(), nix("")), ("/boot/efi".into(), Mount::Boot)]);
    assert_eq!(found.boot_options, ["umask=0077"]);
    // Bare filesystems.
    let Some(ext4) = mkfs_ext4(root.path(), &[]) else { return };
    let bare = self::found(ext4.path());
    assert_eq!(mount(&bare, "/"), elsewhere("PARTUUID=2178694e-02, ext4"));
    let Some(fat) = mkfs_fat(root.path(), "32") else { return };
    assert_eq!(self::found(fat.path()).table.mounts(), [("/boot".into(), Mount::Boot)]);
}

#[test]
fn another_partition_is_named_by_its_number() {
    if !need("sgdisk") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::create_dir_all(root.path().join("nix/store/0q43idch209zsdngl8yl79x0y79aajib-x")).unwrap();
    let guid = "11111111-2222-4333-8444-555555555555";
    fs::write(root.path().join("etc/fstab"), format!("LABEL=one / ext4\nPARTUUID={guid} /home ext4\n")).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let (one, two) = (mkfs_ext4(root.path(), &["-L", "one"]), mkfs_ext4(empty.path(), &["-L", "two"]));
    let Some((one, two)) = one.zip(two) else { return };
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(140 * MIB).unwrap();
    let guid = format!("-u3:{guid}");
    tool::run(tool("sgdisk").args(["-n1:2048:+64M", "-n3:0:+64M", &guid]).arg(disk.path()));
    for (file, at) in [(&one, MIB), (&two, 65 * MIB)] {
        disk.as_file().write_all_at(&fs::read(file.path()).unwrap(), at).unwrap();
    }
    let found = found(disk.path());
    assert_eq!((mount(&found, "/"), mount(&found, "/home")), (nix(""), elsewhere("partition 3, ext4")));
}

#[test]
fn bad_texts_are_named() {
    let refused = |fstab: &str| {
        let built = image(fstab, true, |_| {});
        host_mounts(&Image::open(&built.image).unwrap()).unwrap_err().to_string()
    };
    let error = refused("tmpfs / tmpfs\n\nalone\n");
    assert!(error.starts_with("nix/store/"), "{error}");
    assert!(
        error.ends_with("-fstab in the image, line 3: names no mount point; correct that line in the image"),
        "{error}"
    );
    let error = refused(&"# long\n".repeat(200_000));
    assert!(
        error.contains("-fstab in the image has 1400000 bytes; a table of mounts may have at most 1048576"),
        "{error}"
    );
}
