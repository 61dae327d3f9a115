//! The host's own files, from the spec and from `--extra-files`: the kernel and the checkers as judges.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::closure::{BOOT_ID, Closure, ClosureBuilder, NIX_UUID};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tool::need_root;
use crate::support::tree::Entry;

/// Names that people give, and names that nobody should.
const ODD: [&[u8]; 5] = [b"a name", "straße-日本".as_bytes(), b"line\nfeed", b"\xff\xfe", b"-rf"];

fn nix_device() -> String {
    format!("/dev/disk/by-uuid/{NIX_UUID}")
}

/// Mounts of a btrfs whose subvolumes lie beside one another and in one another.
fn subvolumes() -> Value {
    let mount = |options: &[&str]| json!({ "device": nix_device(), "fsType": "btrfs", "options": options });
    json!({
        "/boot": { "device": format!("/dev/disk/by-uuid/{BOOT_ID}"), "fsType": "vfat" },
        "/": mount(&["subvol=@"]),
        "/nix": mount(&["subvol=@nix", "compress=zstd"]),
        "/home": mount(&["subvol=@home"]),
        "/home/alice/mail": mount(&["subvol=@home/alice/mail"]),
        "/var/cache": { "device": "/home/cache", "fsType": "none", "options": ["bind"] },
    })
}

fn own_files(root: &Path) -> Value {
    let source = root.join("source");
    fs::create_dir_all(source.join("directory/deep")).unwrap();
    fs::write(source.join("directory/deep/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.join("directory/deep/tool"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(source.join("directory/data"), vec![7; 300_000]).unwrap();
    symlink("data", source.join("directory/link")).unwrap();
    json!([
        { "target": "/etc/motd", "text": "welcome\n" },
        { "target": "/etc/ssh/ssh_host_key", "text": "key", "mode": "0600" },
        { "target": "/etc/localtime", "symlink": "/etc/zoneinfo/UTC", "uid": 5, "gid": 6 },
        { "target": "/usr/bin/sudo", "text": "#!", "mode": "4755" },
        { "target": "/var/spool", "directory": true, "mode": "1777" },
        { "target": "/home/alice", "directory": true, "mode": "0700", "uid": 1000, "gid": 70000 },
        { "target": "/home/alice/tree", "source": source.join("directory"), "uid": 1000, "gid": 70000 },
        { "target": "/home/alice/private", "source": source.join("directory"), "uid": 70001, "mode": "0640" },
        { "target": "/home/alice/mail/inbox", "text": "", "uid": 4294967294_u32 },
        { "target": "/var/cache/x", "text": "y" },
        { "target": "/boot/config.txt", "text": "one line more\n" },
        { "target": "/boot/tree", "source": source.join("directory") },
    ])
}

/// What lies at a path: kind and mode, owner and group, seconds, length or target.
fn line(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let what = match metadata.file_type() {
        kind if kind.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()),
        kind if kind.is_dir() => "dir".to_owned(),
        _ => metadata.len().to_string(),
    };
    format!("{:o} {}:{} {} {what}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime())
}

/// The lines of everything below a directory but the store, sorted.
fn lines(top: &Path) -> Vec<String> {
    fn walk(top: &Path, at: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(top).unwrap();
            if ["lost+found", "nix-path-registration", "@nix/nix-path-registration"]
                .iter()
                .any(|p| below == Path::new(p))
            {
                continue;
            }
            all.push(format!("{} {}", below.display(), line(&path)));
            if path.is_dir() && !path.is_symlink() && !below.ends_with("nix/store") && !below.ends_with("@nix/store") {
                walk(top, &path, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(top, top, &mut all);
    all.sort();
    all
}

/// What [`own_files`] leaves on a filesystem, each path with `home` and `root` before it.
fn expected(root: &str, home: &str) -> Vec<String> {
    let mut lines: Vec<_> = [
        "ROOT/etc 755 0:0 1 dir",
        "ROOT/etc/motd 644 0:0 1 8",
        "ROOT/etc/ssh 755 0:0 1 dir",
        "ROOT/etc/ssh/ssh_host_key 600 0:0 1 3",
        "ROOT/etc/localtime 777 5:6 1 -> /etc/zoneinfo/UTC",
        "ROOT/usr 755 0:0 1 dir",
        "ROOT/usr/bin 755 0:0 1 dir",
        "ROOT/usr/bin/sudo 4755 0:0 1 2",
        "ROOT/var 755 0:0 1 dir",
        "ROOT/var/spool 1777 0:0 1 dir",
        "HOME/alice 700 1000:70000 1 dir",
        "HOME/alice/tree 755 1000:70000 1 dir",
        "HOME/alice/tree/data 644 1000:70000 1 300000",
        "HOME/alice/tree/deep 755 1000:70000 1 dir",
        "HOME/alice/tree/deep/tool 755 1000:70000 1 10",
        "HOME/alice/tree/link 777 1000:70000 1 -> data",
        "HOME/alice/private 750 70001:0 1 dir",
        "HOME/alice/private/data 640 70001:0 1 300000",
        "HOME/alice/private/deep 750 70001:0 1 dir",
        "HOME/alice/private/deep/tool 640 70001:0 1 10",
        "HOME/alice/private/link 777 70001:0 1 -> data",
        "HOME/alice/mail 755 0:0 1 dir",
        "HOME/alice/mail/inbox 644 4294967294:0 1 0",
        "HOME/cache 755 0:0 1 dir",
        "HOME/cache/x 644 0:0 1 1",
    ]
    .iter()
    .map(|line| line.replace("ROOT", root).replace("HOME", home).trim_start_matches('/').to_owned())
    .collect();
    lines.sort();
    lines
}

fn closure(file_systems: Option<Value>) -> Closure {
    let tree =
        Entry::dir([("file", Entry::file("in the store")), ("bin", Entry::dir([("x", Entry::executable("x"))]))]);
    let closure = ClosureBuilder::new().path("package", tree).write();
    let mut spec = closure.spec.clone();
    spec["fileSystems"] = file_systems.unwrap_or_else(|| spec["fileSystems"].take());
    if spec["fileSystems"].get("/var/cache").is_none() {
        let bind = json!({ "device": "/home/cache", "fsType": "none", "options": ["bind"] });
        spec["fileSystems"]["/var/cache"] = bind;
    }
    spec["files"] = own_files(closure.root());
    fs::write(closure.spec_path(), spec.to_string()).unwrap();
    closure
}

fn expect_boot_files(built: &Built) {
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    let Some(files) = oracle::fat_files(&built.image, built.boot()) else { return };
    let at = |path: &str| files[Path::new(path)].clone();
    assert_eq!(at("config.txt"), b"one line more\n");
    // FAT has no links: the file is there itself.
    assert_eq!([at("tree/data"), at("tree/link")], [vec![7; 300_000], vec![7; 300_000]]);
}

/// [`own_files`] are counted apart from the store; those on the ESP are not, which nothing tells from others.
fn expect_counted(built: &Built) {
    let inspect =
        |argument: &str| run(sane_image().arg("inspect").arg(&built.image).arg(argument)).expect_success().stdout;
    let report: Value = serde_json::from_str(&inspect("--json")).unwrap();
    let outside = |partition: usize| report["partitions"][partition]["filesystem"].get("outsideStore").cloned();
    let size = 2 * (300_000 + 10) + 8 + 3 + 2 + 1;
    assert_eq!([outside(0), outside(1)], [None, Some(json!({ "files": 12, "size": size }))]);
    let line = "12 files outside the store, 585.9 KiB";
    let text = run(sane_image().arg("inspect").arg(&built.image)).expect_success().stdout;
    assert!(text.contains(line), "{text}");
    assert!(inspect("--html=-").contains(line));
}

#[test]
fn on_ext4() {
    let closure = closure(None);
    let built = Built::new(&closure, &["--verify"]);
    assert_eq!(built.layout.get("privateFiles"), None);
    expect_counted(&built);
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    expect_boot_files(&built);
    let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) else { return };
    let mut expected = expected("", "home");
    expected.extend(["home 755 0:0 1 dir", "nix 755 0:0 1 dir", "nix/store 755 0:0 1 dir"].map(str::to_owned));
    expected.sort();
    assert_eq!(lines(mount.path()), expected);
    assert_eq!(fs::read(mount.path().join("home/alice/tree/data")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read(mount.path().join("etc/ssh/ssh_host_key")).unwrap(), b"key");
}

#[test]
fn in_the_subvolumes_of_btrfs() {
    let closure = closure(Some(subvolumes()));
    let built = Built::new(&closure, &["--verify"]);
    expect_counted(&built);
    oracle::btrfs_check(&built.image, built.nix()).expect_clean();
    expect_boot_files(&built);
    let Some(mount) = Mount::new(&built.image, built.nix(), "btrfs", Access::ReadOnly) else { return };
    let mut expected = expected("@", "@home");
    let tops = ["@ 755 0:0 1 dir", "@home 755 0:0 1 dir", "@nix 755 0:0 1 dir", "@nix/store 755 0:0 1 dir"];
    expected.extend(tops.map(str::to_owned));
    expected.sort();
    assert_eq!(lines(mount.path()), expected);
    let data = fs::read(mount.path().join("@home/alice/tree/data")).unwrap();
    assert_eq!(data, vec![7; 300_000]);
    drop(mount);
    // What a subvolume's own mount shows.
    let options = "ro,subvol=@home/alice/mail";
    let mount = Mount::with_options(&built.image, built.nix(), "btrfs", Access::ReadOnly, options).unwrap();
    assert_eq!(lines(mount.path()), ["inbox 644 4294967294:0 1 0"]);
}

/// A directory as somebody has it who is not root, with a secret in it.
fn secrets() -> TempDir {
    let top = tempfile::tempdir().unwrap();
    let make = |path: &str, mode: u32| {
        fs::create_dir(top.path().join(path)).unwrap();
        fs::set_permissions(top.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let write = |path: &str, bytes: &[u8], mode: u32| {
        fs::write(top.path().join(path), bytes).unwrap();
        fs::set_permissions(top.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, mode) in [("etc", 0o755), ("etc/ssh", 0o755), ("home", 0o755), ("home/alice", 0o700), ("boot", 0o700)] {
        make(path, mode);
    }
    make("home/alice/odd", 0o755);
    write("etc/ssh/key", b"secret", 0o600);
    write("boot/wifi.conf", b"psk", 0o600);
    for name in ODD {
        let path = top.path().join("home/alice/odd").join(std::ffi::OsStr::from_bytes(name));
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    symlink("../key", top.path().join("home/alice/link")).unwrap();
    top
}

const CHOWN: [&str; 6] = ["--chown", "/home/alice", "1000:100", "--chown", "/home/alice/odd", "1001:70000"];

#[test]
fn a_directory_is_laid_over_all() {
    let secrets = secrets();
    let closure = ClosureBuilder::new().write();
    let arguments: Vec<_> =
        ["--verify", "--extra-files", secrets.path().to_str().unwrap()].into_iter().chain(CHOWN).collect();
    let built = Built::new(&closure, &arguments);
    assert_eq!(built.layout["privateFiles"], json!(true));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&built.image), 0o600);
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    if let Some(files) = oracle::fat_files(&built.image, built.boot()) {
        assert_eq!(files[Path::new("wifi.conf")], b"psk");
    }
    // No --jobs and no umask shows.
    let again = built.scratch().join("again");
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_sane-image");
    command.args(["-c", "umask 077; exec \"$0\" build \"$@\" --jobs 1", program]).arg(closure.spec_path());
    command.arg("--out").arg(&again).arg("--store-root").arg(closure.root()).args(&arguments);
    run(&mut command).expect_success();
    assert!(fs::read(again.join("nixos.img")).unwrap() == fs::read(&built.image).unwrap());
    // Bare partitions are its slices, and as private.
    let bare = built.scratch().join("nix.img");
    let mut only = build_command(&closure.spec_path(), closure.root(), &bare, &["--only", "nix"]);
    run(only.args(&arguments[1..])).expect_success();
    assert_eq!(mode(&bare), 0o600);

    let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) else { return };
    let mut expected = vec![
        "etc 755 0:0 1 dir".to_owned(),
        "etc/ssh 755 0:0 1 dir".to_owned(),
        "etc/ssh/key 600 0:0 1 6".to_owned(),
        "home 755 0:0 1 dir".to_owned(),
        "home/alice 700 1000:100 1 dir".to_owned(),
        "home/alice/link 777 1000:100 1 -> ../key".to_owned(),
        "home/alice/odd 755 1001:70000 1 dir".to_owned(),
        "nix 755 0:0 1 dir".to_owned(),
        "nix/store 755 0:0 1 dir".to_owned(),
    ];
    expected.extend(ODD.map(|name| {
        let path = PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()));
        format!("home/alice/odd/{} 640 1001:70000 1 {}", path.display(), name.len())
    }));
    expected.sort();
    assert_eq!(lines(mount.path()), expected);
    for name in ODD {
        let path = mount.path().join("home/alice/odd").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), name);
    }
}

#[test]
fn nothing_is_replaced_but_by_the_host_itself() {
    let closure = ClosureBuilder::new().write();
    let boot = closure.root().join("boot");
    fs::create_dir(&boot).unwrap();
    fs::write(boot.join("CONFIG.TXT"), "firmware's, which FAT takes for the same name").unwrap();
    let mut spec = closure.spec.clone();
    spec["extraBootFiles"] = json!([boot]);
    spec["files"] = json!([{ "target": "/boot/config.txt", "text": "the host's" }, { "target": "/etc/x", "text": "" }]);
    fs::write(closure.spec_path(), spec.to_string()).unwrap();
    let built = Built::new(&closure, &[]);
    if let Some(files) = oracle::fat_files(&built.image, built.boot()) {
        assert_eq!(files[Path::new("config.txt")], b"the host's");
    }
    let top = tempfile::tempdir().unwrap();
    let at = top.path().canonicalize().unwrap();
    fs::create_dir_all(at.join("etc/x/y")).unwrap();
    fs::create_dir_all(at.join("boot")).unwrap();
    fs::write(at.join("boot/config.txt"), "another").unwrap();
    let out = built.scratch().join("refused");
    let mut command = build_command(&closure.spec_path(), closure.root(), &out, &["--extra-files"]);
    let told = run(command.arg(&at)).expect_failure(1).stderr;
    let told: Vec<_> = told.lines().filter(|line| !line.starts_with("warning")).collect();
    let at = at.display();
    let expected = [
        format!(
            "sane-image: error: /boot/config.txt: comes from files[0] and from {at}/boot/config.txt; leave one out"
        ),
        format!("/etc/x: comes from files[1] and from {at}/etc/x; leave one out"),
        format!("/etc/x/y: is from {at}/etc/x/y, but /etc/x is not a directory in files[1]; leave one out"),
    ];
    assert_eq!(told, expected);
    assert!(!out.exists());
}

#[test]
fn bad_arguments() {
    let closure = ClosureBuilder::new().write();
    let (dir, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = secrets.path().to_str().unwrap();
    for (arguments, words) in [
        (
            &["--extra-files", "/nowhere"][..],
            "--extra-files /nowhere: is not a directory that can be read: No such file",
        ),
        (&["--chown", "/x", "1:1"], "--extra-files"),
        (&["--extra-files", directory, "--chown", "x", "1:1"], "--chown x: is not an absolute path"),
        (&["--extra-files", directory, "--chown", "/x/../y", "1:1"], "--chown /x/../y: is not an absolute path"),
        (&["--extra-files", directory, "--chown", "/x", "alice:users"], "\"alice:users\" is not UID:GID"),
        (&["--extra-files", directory, "--chown", "/x", "1:4294967295"], "is not UID:GID"),
    ] {
        let out = dir.path().join("out");
        let told = run(&mut build_command(&closure.spec_path(), closure.root(), &out, arguments)).expect_failure(2);
        assert!(told.stderr.contains(words), "{}", told.stderr);
        assert!(!out.exists());
    }
}

/// The next image would hold this one.
#[test]
fn an_image_is_not_put_into_what_it_is_made_of() {
    let closure = ClosureBuilder::new().write();
    let top = tempfile::tempdir().unwrap();
    symlink(top.path(), closure.root().join("link")).unwrap();
    for out in [top.path().join("new/out"), closure.root().join("link/out")] {
        let mut command = build_command(&closure.spec_path(), closure.root(), &out, &["--extra-files"]);
        let told = run(command.arg(top.path())).expect_failure(2).stderr;
        assert!(told.contains("which --extra-files copies into the image; name another directory"), "{told}");
    }
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
}

#[test]
fn a_closed_directory_is_warned_of() {
    let closure = ClosureBuilder::new().write();
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("etc")).unwrap();
    fs::write(top.path().join("etc/x"), "").unwrap();
    fs::set_permissions(top.path().join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = sane_image();
    command.arg("plan").arg(closure.spec_path()).arg("--store-root").arg(closure.root());
    let told = run(command.arg("--extra-files").arg(top.path())).expect_success().stderr;
    assert!(told.contains("warning: /etc: nobody but its owner may enter it (mode 0700"), "{told}");
}

/// Whoever cannot read a secret is told which.
#[test]
fn a_secret_that_cannot_be_read() {
    if !need_root() {
        return;
    }
    let closure = ClosureBuilder::new().write();
    let (top, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(top.path().join("key"), "x").unwrap();
    for (path, mode) in
        [(top.path().join("key"), 0o600), (top.path().to_owned(), 0o755), (out.path().to_owned(), 0o777)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(closure.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_sane-image"), "build"]);
    command.arg(closure.spec_path()).arg("--store-root").arg(closure.root()).arg("--out").arg(out.path().join("o"));
    let told = run(command.arg("--extra-files").arg(top.path())).expect_failure(1).stderr;
    assert!(told.contains("/key: ") && told.contains("Permission denied"), "{told}");
    assert!(!out.path().join("o").exists());
}
