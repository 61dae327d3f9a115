//! Tests of gathering a host's own files, for cases that are hard to show with the real program.

use std::fs;
use std::path::Path;

use super::*;
use crate::spec;

/// A spec whose root is a tmpfs, with the store and `/persist` on a btrfs.
fn persistent() -> Spec {
    let device = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";
    let btrfs = |subvolume: &str| serde_json::json!({ "device": device, "fsType": "btrfs", "options": [subvolume] });
    let json = serde_json::json!({
        "version": 1,
        "toplevel": "/nix/store/00000000000000000000000000000000-nixos-system",
        "closureInfo": "/nix/store/00000000000000000000000000000001-closure-info",
        "fileSystems": {
            "/": { "device": "none", "fsType": "tmpfs" },
            "/boot": { "device": "/dev/disk/by-uuid/2178-694E", "fsType": "vfat" },
            "/nix": btrfs("subvol=nix"),
            "/persist": btrfs("subvol=srv/state"),
        },
        "extraDirectories": ["/nix/var/log"],
    });
    spec::parse(&json.to_string()).unwrap()
}

fn gathered(spec: &Spec, directory: &Path, chown: &[(&str, u32, u32)]) -> Result<OwnFiles, OwnError> {
    let chown = chown.iter().map(|&(path, uid, gid)| Chown { path: path.into(), uid, gid }).collect();
    let extra = ExtraFiles { directory: directory.to_owned(), chown };
    gather(spec, Some(&extra), &StoreRoot::new(spec.store_dir.clone(), None), &Cancel::new())
}

fn lines(entries: &[OwnEntry]) -> Vec<String> {
    let line = |entry: &OwnEntry| {
        let Attributes { mode, uid, gid } = entry.attributes;
        format!("{} {mode:o} {uid}:{gid}", entry.path.display())
    };
    entries.iter().map(line).collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_leads_through_what_is_not_in_the_image() {
    let top = tempfile::tempdir().unwrap();
    for directory in ["persist/home/alice", "nix/store", "boot/loader"] {
        fs::create_dir_all(top.path().join(directory)).unwrap();
    }
    fs::write(top.path().join("persist/home/alice/key"), "k").unwrap();
    fs::write(top.path().join("boot/loader/x"), "x").unwrap();
    for (path, mode) in [("persist", 0o700), ("persist/home", 0o711), ("persist/home/alice", 0o750), ("nix", 0o700)] {
        chmod(&top.path().join(path), mode);
    }
    chmod(&top.path().join("persist/home/alice/key"), 0o600);
    let own = gathered(&persistent(), top.path(), &[("/persist/home/alice", 1000, 100)]).unwrap();
    let expected = [
        "nix 755 0:0",
        "nix/var/log 755 0:0",
        "srv/state 700 0:0",
        "srv/state/home 711 0:0",
        "srv/state/home/alice 750 1000:100",
        "srv/state/home/alice/key 600 1000:100",
    ];
    assert_eq!(lines(&own.nix), expected);
    let boot: Vec<_> = own.boot.iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(boot, ["", "loader", "loader/x"]);
}

/// A subvolume is where it is mounted, whatever its name.
#[test]
fn a_subvolume_is_owned_by_its_mount_point() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("persist")).unwrap();
    chmod(&top.path().join("persist"), 0o750);
    let own = gathered(&persistent(), top.path(), &[("/persist", 7, 8)]).unwrap();
    assert_eq!(lines(&own.nix), ["nix 755 0:0", "nix/var/log 755 0:0", "srv/state 750 7:8"]);
    fs::remove_dir(top.path().join("persist")).unwrap();
    let own = gathered(&persistent(), top.path(), &[("/persist", 7, 8)]).unwrap();
    assert_eq!(lines(&own.nix)[2], "srv/state 755 7:8");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().canonicalize().unwrap().join(path);
    for directory in ["etc/empty", "nix/store/x", "boot", "persist", "nix/var/log"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::write(at("etc/file"), "").unwrap();
    fs::write(at("nix/nix-path-registration"), "").unwrap();
    std::os::unix::fs::symlink("x", at("boot/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("persist/socket")).unwrap();
    fs::write(at("boot/file"), "").unwrap();
    let told = gathered(&persistent(), top.path(), &[("/boot/file", 1, 0), ("/persist/nobody", 1, 1)]).unwrap_err();
    let at = |path: &str| at(path).display().to_string();
    let expected = [
        format!("{}: is a symbolic link, which FAT cannot hold; put the file there itself", at("boot/link")),
        format!("{}: /etc/empty is on fileSystems.\"/\" (tmpfs, none), which is not in the image", at("etc/empty")),
        format!("{}: /etc/file is on fileSystems.\"/\" (tmpfs, none), which is not in the image", at("etc/file")),
        format!(
            "{}: /nix/nix-path-registration is where every image has its registration",
            at("nix/nix-path-registration")
        ),
        format!("{}: /nix/store/x is in the store, which holds only the closure", at("nix/store/x")),
        format!("{}: is a socket; an image holds only files, directories and symbolic links", at("persist/socket")),
        "--chown /persist/nobody: names no file of --extra-files or files; name one that is there".to_owned(),
        "/boot/file: cannot belong to 1:0, because FAT has no owners; leave it to root".to_owned(),
    ];
    assert_eq!(told.to_string(), expected.join("\n"));
}

#[test]
fn who_can_read_files_on_fat_is_told() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("boot")).unwrap();
    for (name, mode) in [("a.cred", 0o600), ("b.cred", 0o400), ("config.txt", 0o644)] {
        fs::write(top.path().join("boot").join(name), "").unwrap();
        chmod(&top.path().join("boot").join(name), mode);
    }
    let mut spec = persistent();
    let mut warnings = |options: &[&str]| {
        spec.esp.as_mut().unwrap().options = options.iter().map(|&option| option.to_owned()).collect();
        gathered(&spec, top.path(), &[]).unwrap().warnings
    };
    let told = "/boot/a.cred (and 1 more): FAT has no modes, so everybody on the machine can read it, in spite of its mode \
                0600; add \"umask=0077\" to fileSystems.\"/boot\".options";
    for options in [&[][..], &["umask=0022"], &["umask=0077", "fmask=0133"], &["dmask=0077"]] {
        assert_eq!(warnings(options), [told], "{options:?}");
    }
    for options in [&["umask=0077"][..], &["ro", "umask=0", "fmask=0077"], &["fmask=77"]] {
        assert_eq!(warnings(options), [""; 0], "{options:?}");
    }
}
