//! Tests of the mounts of the image's filesystems: by name, by subvolume and by options.

use serde_json::{Value, json};

use super::*;

/// A spec whose store is on a btrfs at `/` with these options, beside `/home` on the same device with those.
fn btrfs(options: Value, home: Value) -> Value {
    let mut spec = minimal();
    set(&mut spec, "/fileSystems/~1", json!({ "device": NIX_UUID, "fsType": "btrfs", "options": options }));
    set(&mut spec, "/fileSystems/~1home", json!({ "device": NIX_UUID, "fsType": "btrfs", "options": home }));
    spec
}

#[test]
fn subvolumes() {
    let of = |options: Value, home: Value| good(&btrfs(options, home)).btrfs.unwrap();
    let names = |store: &str, all: &[&str]| Btrfs {
        store_subvolume: store.into(),
        subvolumes: all.iter().map(|&name| name.into()).collect(),
        compression: None,
    };
    assert_eq!(of(json!([]), json!([])), names("", &[]));
    assert_eq!(of(json!(["subvolid=5"]), json!(["subvol=/"])), names("", &[]));
    assert_eq!(of(json!(["subvol=@"]), json!(["noatime,subvol=/@home/"])), names("@", &["@", "@home"]));
    assert_eq!(of(json!(["subvol=@"]), json!(["subvol=@/home"])), names("@", &["@", "@/home"]));
    assert_eq!(of(json!(["subvol=@"]), json!(["subvol=@/home"])).nested_in_store(), ["home"]);
    assert_eq!(of(json!([]), json!(["subvol=a/b"])).nested_in_store(), ["a/b"]);
    assert_eq!(of(json!(["subvol=@"]), json!(["subvol=@"])), names("@", &["@"]));
    // An ext4, and another device, have no say.
    assert_eq!(good(&minimal()).btrfs, None);
    let mut spec = btrfs(json!([]), json!(["subvol=@home"]));
    set(&mut spec, "/fileSystems/~1home/device", json!("/dev/disk/by-label/other"));
    assert_eq!(good(&spec).btrfs, Some(names("", &[])));
}

#[test]
fn bad_subvolumes() {
    let told = |options: Value, home: Value| bad(&btrfs(options, home));
    let lines = [
        told(json!(["subvolid=256"]), json!([])),
        told(json!([]), json!(["noatime", "subvol=a/../b"])),
        told(json!([]), json!(["subvol"])),
        told(json!(["subvol=a", "subvol=b"]), json!([])),
        told(json!([]), json!(["subvol=nix"])),
        told(json!(["subvol=@"]), json!(["subvol=@/nix/store/x"])),
        told(json!([]), json!(["subvol=nix-path-registration"])),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    fileSystems."/".options[0]: "subvolid=256" names a subvolume by a number that is known only when the filesystem is finished; set fileSystems."/".options[0] to "subvol=NAME", or remove it
    fileSystems."/home".options[1]: "subvol=a/../b" has a "." or ".." component; set fileSystems."/home".options[1] to "subvol=NAME", or remove it
    fileSystems."/home".options[0]: "subvol" has no value; set fileSystems."/home".options[0] to "subvol=NAME", or remove it
    fileSystems."/".options[1]: names a second subvolume; set fileSystems."/".options[1] to "subvol=NAME", or remove it
    fileSystems."/home".options: the subvolume "nix" would lie above the store or inside it; set fileSystems."/home".options to mount another subvolume
    fileSystems."/home".options: the subvolume "@/nix/store/x" would lie above the store or inside it; set fileSystems."/home".options to mount another subvolume
    fileSystems."/home".options: the subvolume "nix-path-registration" collides with "nix-path-registration", which every image has there; set fileSystems."/home".options to mount another subvolume
    "#);
    let mut spec = btrfs(json!([]), json!(["subvol=home"]));
    set(&mut spec, "/extraDirectories", json!(["/home", "/var"]));
    good(&spec);
    set(&mut spec, "/extraDirectories", json!(["/home/user", "/var"]));
    insta::assert_snapshot!(bad(&spec), @r#"extraDirectories: "home/user" lies in the subvolume "home", not in the store's; move it to files, as a directory"#);
}

#[test]
fn compression() {
    let of = |option: &str| good(&btrfs(json!([option]), json!(["compress=lzo"]))).btrfs.unwrap().compression;
    assert_eq!(of("noatime"), None);
    assert_eq!(of("compress=no"), None);
    assert_eq!(of("compress"), Some(Compression::Zlib(3)));
    assert_eq!(of("compress=zstd"), Some(Compression::Zstd(3)));
    assert_eq!(of("compress=zlib,compress-force=zstd:15"), Some(Compression::Zstd(15)));
    assert_eq!(of("compress=zlib:9"), Some(Compression::Zlib(9)));
    assert_eq!(of("compress=lzo"), Some(Compression::Lzo));
    // Since Linux 6.15: fast levels below zero, and those beyond the last count as it.
    assert_eq!(of("compress=zstd:-15"), Some(Compression::Zstd(-15)));
    assert_eq!(of("compress=zstd:-16"), Some(Compression::Zstd(-15)));
    assert_eq!(of("compress=zstd:+16"), Some(Compression::Zstd(15)));
    assert_eq!(of("compress=zstd:0"), Some(Compression::Zstd(3)));
    assert_eq!(of("compress=zlib:10"), Some(Compression::Zlib(9)));
    assert_eq!(of("compress=zlib:-1"), Some(Compression::Zlib(1)));
    let wrong = ["zstd:", "zstd:3x", "zstdx", "lz4", "no:1", ""];
    let lines = wrong.map(|value| bad(&btrfs(json!([format!("compress={value}")]), json!([]))));
    insta::assert_snapshot!(lines.join("\n"), @r#"
    fileSystems."/".options[0]: "compress=zstd:" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    fileSystems."/".options[0]: "compress=zstd:3x" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    fileSystems."/".options[0]: "compress=zstdx" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    fileSystems."/".options[0]: "compress=lz4" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    fileSystems."/".options[0]: "compress=no:1" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    fileSystems."/".options[0]: "compress=" has a value that btrfs does not take; set fileSystems."/".options[0] to "compress=zstd:3", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no
    "#);
}

#[test]
fn other_names_of_the_same_btrfs() {
    let subvolumes = |device: &str, fs_type: &str| {
        let mut spec = btrfs(json!([]), json!(["subvol=home"]));
        set(&mut spec, "/fileSystems/~1home/device", json!(device));
        set(&mut spec, "/fileSystems/~1home/fsType", json!(fs_type));
        good(&spec).btrfs.unwrap().subvolumes
    };
    let uuid = NIX_UUID.rsplit('/').next().unwrap();
    let names = [
        NIX_UUID.to_owned(),
        format!("UUID={uuid}"),
        format!("UUID=\"{uuid}\""),
        // Names that the image has by default.
        "/dev/disk/by-label/NIXOS_SYSTEM".to_owned(),
        "LABEL=NIXOS_SYSTEM".to_owned(),
        format!("/dev/disk/by-partuuid/{uuid}"),
        format!("PARTUUID={uuid}"),
        "/dev/disk/by-partlabel/Linux\\x20filesystem".to_owned(),
        "PARTLABEL=Linux filesystem".to_owned(),
    ];
    for name in &names {
        assert_eq!(subvolumes(name, "btrfs"), ["home"], "{name}");
        assert_eq!(subvolumes(name, "auto"), ["home"], "{name}");
        assert_eq!(subvolumes(name, "ext4"), [""; 0], "{name}");
    }
    for other in ["/dev/disk/by-uuid/2178-694E", "LABEL=ESP", "LABEL=\"NIXOS_SYSTEM", "/dev/sda2", "none"] {
        assert_eq!(subvolumes(other, "btrfs"), [""; 0], "{other}");
    }
    // What is derived: here, the UUID of a filesystem that the spec knows by its label.
    let mut spec = btrfs(json!([]), json!(["subvol=home"]));
    set(&mut spec, "/fileSystems/~1/device", json!("/dev/disk/by-label/nix"));
    let derived = identity::Identities::new(&good(&spec)).unwrap().nix.filesystem;
    set(&mut spec, "/fileSystems/~1home/device", json!(format!("UUID={derived}")));
    assert_eq!(good(&spec).btrfs.unwrap().subvolumes, ["home"]);
}

#[test]
fn devices_are_spelled_as_udev_does() {
    let named = |place: &str, device: &str| bad(&with(&format!("/fileSystems/~1{place}/device"), json!(device)));
    let mut home = btrfs(json!([]), json!(["subvol=home"]));
    set(&mut home, "/fileSystems/~1home/device", json!("PARTUUID=0D0F3B5E-6C6E-4A51-9D7A-3F6B5F5A9C11"));
    let lines = [
        named("boot", "/dev/disk/by-label/MY ESP"),
        named("boot", "/dev/disk/by-uuid/2178-694e"),
        named("", "/dev/disk/by-partlabel/Linux filesystem"),
        bad(&home),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    fileSystems."/boot".device: "/dev/disk/by-label/MY ESP" is not how udev spells it, so that it would never appear; set fileSystems."/boot".device to "/dev/disk/by-label/MY\\x20ESP"
    fileSystems."/boot".device: "/dev/disk/by-uuid/2178-694e" is not how udev spells it, so that it would never appear; set fileSystems."/boot".device to "/dev/disk/by-uuid/2178-694E"
    fileSystems."/".device: "/dev/disk/by-partlabel/Linux filesystem" is not how udev spells it, so that it would never appear; set fileSystems."/".device to "/dev/disk/by-partlabel/Linux\\x20filesystem"
    fileSystems."/home".device: "PARTUUID=0D0F3B5E-6C6E-4A51-9D7A-3F6B5F5A9C11" is not how udev spells it, so that it would never appear; set fileSystems."/home".device to "/dev/disk/by-partuuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11"
    "#);
}

#[test]
fn mount_options() {
    let of = |fs_type: &str, options: &str| {
        let mut spec = with("/fileSystems/~1/options", json!([options]));
        set(&mut spec, "/fileSystems/~1/fsType", json!(fs_type));
        parse(&spec.to_string()).map_or_else(|errors| errors.to_string(), |spec| spec.warnings.join("\n"))
    };
    let fine =
        ["defaults,noatime,nofail,x-systemd.automount,X-mount.mkdir", "errors=remount-ro,data=journal,commit=60"];
    assert_eq!(fine.map(|options| of("ext4", options)), ["", ""]);
    let fine = ["space_cache=v2,ssd,discard=async,compress=zstd:-3", "nospace_cache,clear_cache", "ro,rescue=all"];
    assert_eq!(fine.map(|options| of("btrfs", options)), ["", "", ""]);
    let wrong = [
        of("btrfs", "space_cache"),
        of("btrfs", "noatime,space_cache=v1"),
        of("btrfs", "nospace_cache"),
        of("btrfs", "inode_cache"),
        of("btrfs", "rescue=all"),
        of("btrfs", "thread_pool=0"),
        of("btrfs", "errors=remount-ro"),
        of("ext4", "umask=0077"),
        of("ext4", "journal_async_commit"),
        of("ext4", "data=journal,delalloc"),
        of("ext4", "usrjquota=aquota.user"),
        of("ext4", "errors=remount-rw"),
        of("ext4", "noatime=1,discard=async"),
        of("ext4", "noatme"),
        of("ext4", "frobnicate=3"),
    ];
    insta::assert_snapshot!(wrong.join("\n"), @r#"
    fileSystems."/".options[0]: "space_cache" cannot be used with the free space tree, which every btrfs of an image has; set fileSystems."/".options[0] to "space_cache=v2", or remove it
    fileSystems."/".options[0]: "space_cache=v1" cannot be used with the free space tree, which every btrfs of an image has; set fileSystems."/".options[0] to "space_cache=v2", or remove it
    fileSystems."/".options[0]: "nospace_cache" cannot be used with the free space tree, which every btrfs of an image has; set fileSystems."/".options[0] to "space_cache=v2", or remove it
    fileSystems."/".options[0]: "inode_cache" cannot be used: the option was removed from the kernel; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "rescue" can be used only with "ro"; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "thread_pool=0" has a value that btrfs does not take; set fileSystems."/".options[0] to "thread_pool=N", where N is a number that btrfs allows there
    fileSystems."/".options[0]: "errors" is an option of ext4, not of btrfs; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "umask" is an option of vfat, not of ext4; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "journal_async_commit" cannot be used with data=ordered, which is the default; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "delalloc" cannot be used with data=journal; remove it from fileSystems."/".options[0]
    fileSystems."/".options[0]: "usrjquota" needs the format of the quotas, too; set fileSystems."/".options[0] to "usrjquota=aquota.user,jqfmt=vfsv1"
    fileSystems."/".options[0]: "errors=remount-rw" has a value that ext4 does not take; set fileSystems."/".options[0] to "errors=…" with one of continue, panic, remount-ro
    fileSystems."/".options[0]: "discard=async" has a value that ext4 does not take; set fileSystems."/".options[0] to "discard"
    fileSystems."/".options[0]: "noatme" is not a known mount option of ext4; the system does not start if its kernel does not know it either; did you mean noatime?
    fileSystems."/".options[0]: "frobnicate" is not a known mount option of ext4; the system does not start if its kernel does not know it either
    "#);
    let boot =
        ["umask=0077,fmask=0022,iocharset=utf8,shortname=mixed,utf8,uid=0,nfs,tz=UTC", "umask=0o77", "umask", "dots"];
    let boot = boot.map(|options| {
        let spec = with("/fileSystems/~1boot/options", json!([options]));
        parse(&spec.to_string()).map_or_else(|errors| errors.to_string(), |spec| spec.warnings.join("\n"))
    });
    insta::assert_snapshot!(boot.join("\n"), @r#"
    fileSystems."/boot".options[0]: "umask=0o77" has a value that vfat does not take; set fileSystems."/boot".options[0] to "umask=N", where N is octal, such as 0077
    fileSystems."/boot".options[0]: "umask" has no value; set fileSystems."/boot".options[0] to "umask=N", where N is octal, such as 0077
    fileSystems."/boot".options[0]: "dots" is not a known mount option of vfat; the system does not start if its kernel does not know it either
    "#);
    // Only the first mount of a filesystem decides on its space cache.
    let told = |root: Value, home: Value| parse(&btrfs(root, home).to_string()).is_ok();
    assert!(told(json!(["space_cache=v2"]), json!(["space_cache=v1"])));
    assert!(!told(json!([]), json!(["space_cache=v3"])));
}

#[test]
fn an_erofs_at_any_place_of_the_store() {
    let erofs = json!({ "device": NIX_UUID, "fsType": "erofs", "options": ["ro"] });
    let other = json!({ "device": "none", "fsType": "tmpfs" });
    let bind = |device: &str| json!({ "device": device, "options": ["x-initrd.mount", "bind"] });
    let boot = json!({ "device": "/dev/disk/by-uuid/1234-ABCD", "fsType": "vfat" });
    let with = |mounts: &[(&str, &Value)]| {
        let mut spec = minimal();
        let entries = mounts.iter().copied().chain([("/boot", &boot)]).map(|(at, fs)| (at.to_owned(), fs.clone()));
        spec["fileSystems"] = Value::Object(entries.collect());
        spec
    };
    let place = |mounts: &[(&str, &Value)]| {
        let spec = good(&with(mounts));
        (spec.nix.mount_point.display().to_string(), spec.store_in_nix.display().to_string())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(place(&[("/", &erofs)]), pair("/", "nix/store"));
    assert_eq!(place(&[("/", &other), ("/nix", &erofs)]), pair("/nix", "store"));
    assert_eq!(place(&[("/", &other), ("/nix/store", &erofs)]), pair("/nix/store", ""));
    let (usr, nix) = (bind("/usr/nix/store"), bind("/usr/nix"));
    assert_eq!(place(&[("/", &other), ("/usr", &erofs), ("/nix/store", &usr)]), pair("/usr", "nix/store"));
    assert_eq!(place(&[("/", &other), ("/usr", &erofs), ("/nix", &nix)]), pair("/usr", "nix/store"));
    assert_eq!(place(&[("/usr", &erofs), ("/a", &nix), ("/nix", &bind("/a"))]), pair("/usr", "nix/store"));

    let spec = with(&[("/", &other), ("/usr", &erofs), ("/nix/store", &usr)]);
    let mut extra = spec.clone();
    set(&mut extra, "/extraDirectories", json!(["/usr/lib", "/usr/nix"]));
    assert_eq!(good(&extra).extra_directories, [PathBuf::from("lib")]);
    let found = good(&spec).mounts.locate(Path::new("/nix/store/x")).unwrap();
    assert_eq!(found, crate::mounts::Location::Nix("nix/store/x".into()));

    let mut outside = spec.clone();
    set(&mut outside, "/extraDirectories", json!(["/var"]));
    let mut label = spec.clone();
    set(&mut label, "/fileSystems/~1usr/device", json!("/dev/disk/by-label/sixteen-letters-"));
    let lines = [
        bad(&outside),
        bad(&label),
        bad(&with(&[("/", &other), ("/nix", &bind("/nix"))])),
        bad(&with(&[("/usr", &erofs), ("/nix", &bind("/var"))])),
        bad(&with(&[("/", &other), ("/nix", &bind("/boot/nix"))])),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    extraDirectories[0]: "/var" is outside the nix filesystem, which is mounted at /usr; set extraDirectories[0] to a directory on the nix filesystem
    fileSystems."/usr".device: "/dev/disk/by-label/sixteen-letters-" has a label of 16 bytes; EROFS holds 15; set fileSystems."/usr".device to "/dev/disk/by-uuid/XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX", where X are hexadecimal digits
    fileSystems."/nix/store": is on a bind mount that leads in a circle; set fileSystems."/nix/store" to a filesystem
    fileSystems: has no filesystem that holds /var/store; set fileSystems."/" to an ext4, btrfs or erofs filesystem
    storeDir: "/nix/store" lies on the boot filesystem; set storeDir to a directory outside /boot
    "#);
}
