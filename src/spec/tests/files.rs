//! Tests of `files`: what is read, and what is refused.

use super::*;
use crate::spec::files::Contents;

fn files(files: Value) -> Value {
    with("/files", files)
}

#[test]
fn every_field_of_a_file_is_read() {
    let spec = good(&files(json!([
        { "target": "/etc/motd", "text": "hello" },
        { "target": "/etc/ssh/key", "source": "/run/key", "mode": "0600", "uid": 1000, "gid": 4294967294_u32 },
        { "target": "/var/x", "directory": true, "mode": "1777", "text": null },
        { "target": "/bin/sh", "symlink": "../run/sh", "mode": null },
        { "target": "/boot/config.txt", "text": "", "directory": false },
    ])));
    let read: Vec<_> = spec.files.iter().map(|f| (f.target.to_str().unwrap(), f.mode, f.uid, f.gid)).collect();
    let expected = [
        ("/etc/motd", None, 0, 0),
        ("/etc/ssh/key", Some(0o600), 1000, u32::MAX - 1),
        ("/var/x", Some(0o1777), 0, 0),
        ("/bin/sh", None, 0, 0),
        ("/boot/config.txt", None, 0, 0),
    ];
    assert_eq!(read, expected);
    let contents: Vec<_> = spec.files.into_iter().map(|file| file.contents).collect();
    let expected = [
        Contents::Text("hello".into()),
        Contents::Source("/run/key".into()),
        Contents::Directory,
        Contents::Symlink("../run/sh".into()),
        Contents::Text("".into()),
    ];
    assert_eq!(contents, expected);
}

#[test]
fn mistakes_of_a_file_are_told_at_once() {
    let told = bad(&files(json!([
        { "target": "etc/x", "text": "" },
        { "target": "/a/../b", "text": "" },
        { "target": "/x" },
        { "target": "/x", "text": "", "directory": true },
        { "target": "/y", "text": "", "mode": 420 },
        { "target": "/y", "text": "", "mode": "0888" },
        { "target": "/y", "text": "", "mode": "10000" },
        { "target": "/y", "text": "", "uid": -1 },
        { "target": "/y", "text": "", "gid": 4294967295_u32 },
        { "target": "/y", "symlink": "" },
        { "target": "/y", "symlink": "x", "mode": "0777" },
        { "target": "/y", "source": "x", "owner": 3 },
        "x",
    ])));
    let expected = "\
files[0].target: \"etc/x\" is not an absolute path; set files[0].target to a path such as \"/etc/motd\"
files[1].target: \"/a/../b\" has a \".\" or \"..\" component; set files[1].target to a path such as \"/etc/motd\"
files[2]: has no contents; set exactly one of source, text, symlink and directory in files[2]
files[3]: has contents more than once; set exactly one of source, text, symlink and directory in files[3]
files[4].mode: invalid type: integer `420`, expected a string; set files[4].mode to octal digits such as \"0644\", or null
files[5].mode: \"0888\" is not a mode from 000 to 7777; set files[5].mode to octal digits such as \"0644\", or null
files[6].mode: \"10000\" is not a mode from 000 to 7777; set files[6].mode to octal digits such as \"0644\", or null
files[7].uid: -1 is not a whole number from 0 to 4294967294; set files[7].uid to the number of a user
files[8].gid: 4294967295 is not a whole number from 0 to 4294967294; set files[8].gid to the number of a group
files[9].symlink: is empty; set files[9].symlink to the target of a symbolic link, or null
files[10].mode: is set for a symbolic link, which has no mode; remove files[10].mode
files[11].source: \"x\" is not an absolute path; set files[11].source to the absolute path of a file or a directory, or null
files[11].owner: is not a known field; remove it, or use one of: target, source, text, symlink, directory, mode, uid, gid
files[12]: \"x\" is not an object; set files[12] to an object";
    assert_eq!(told, expected);
}

#[test]
fn a_file_is_where_the_image_has_room_for_it() {
    let mut spec = files(json!([
        { "target": "/nix/store/x", "text": "" },
        { "target": "/nix", "directory": true },
        { "target": "/nix-path-registration/x", "text": "" },
        { "target": "/home/x", "text": "" },
        { "target": "/srv/x", "text": "" },
        { "target": "/boot/x", "symlink": "y" },
        { "target": "/boot/y", "text": "", "uid": 1, "gid": 2 },
        { "target": "/a", "text": "" },
        { "target": "/a/b/c", "text": "" },
        { "target": "/persist/a", "text": "" },
    ]));
    set(&mut spec, "/fileSystems/~1home", json!({ "device": "/dev/disk/by-label/home", "fsType": "xfs" }));
    set(&mut spec, "/fileSystems/~1srv", json!({ "device": "tmpfs", "fsType": "tmpfs" }));
    set(&mut spec, "/fileSystems/~1persist", json!({ "device": "/", "fsType": "none", "options": ["bind"] }));
    let expected = "\
files[0].target: \"/nix/store/x\" is in the store, which holds only the closure; set files[0].target to another path, or remove it
files[1].target: \"/nix\" leads to the store; set files[1].target to another path, or remove it
files[2].target: \"/nix-path-registration/x\" is where every image has its registration; set files[2].target to another path, or remove it
files[3].target: \"/home/x\" is on fileSystems.\"/home\" (xfs, /dev/disk/by-label/home), which is not in the image; set files[3].target to another path, or remove it
files[4].target: \"/srv/x\" is on fileSystems.\"/srv\" (tmpfs), which is not in the image; set files[4].target to another path, or remove it
files[5].symlink: is a symbolic link, which FAT cannot hold; set source or text instead of files[5].symlink
files[6].uid: does not belong to root, but FAT has no owners; remove files[6].uid
files[6].gid: does not belong to root's group, but FAT has no groups; remove files[6].gid
files[9].target: \"/persist/a\" is where files[7] is; remove files[7] or files[9]
files[8].target: \"/a/b/c\" is below files[7], which is not a directory; remove files[7] or files[8]";
    assert_eq!(bad(&spec), expected);
}

#[test]
fn the_mounts_say_where_a_path_is() {
    let mut spec = minimal();
    set(&mut spec, "/fileSystems/~1/fsType", json!("btrfs"));
    set(&mut spec, "/fileSystems/~1/options", json!(["subvol=@"]));
    let device = spec["fileSystems"]["/"]["device"].clone();
    set(&mut spec, "/fileSystems/~1home", json!({ "device": device, "fsType": "btrfs", "options": ["subvol=/@home"] }));
    let spec = good(&spec);
    let nix = |path: &str| Ok(Location::Nix(path.into()));
    for (path, location) in [
        ("/etc/x", nix("@/etc/x")),
        ("/home", nix("@home")),
        ("/home/a/b", nix("@home/a/b")),
        ("/boot/a", Ok(Location::Boot("a".into()))),
    ] {
        assert_eq!(spec.mounts.locate(Path::new(path)), location);
    }
    assert_eq!(spec.reserved(), Reserved { root: "@".into(), store: "@/nix/store".into() });
}
