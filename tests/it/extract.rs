//! `extract`: what comes out is what was put in, and nothing leaves the destination.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::foreign;
use crate::support::image::{Built, Run, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tool::{need, run as run_tool, tool};
use crate::support::tree::{Contents, Entry};

fn closure() -> Closure {
    let tree = Entry::dir([
        (
            "bin",
            Entry::dir([
                ("tool", Entry::executable("#!/bin/sh\n")),
                ("link", Entry::Symlink(b"../share/doc".to_vec())),
            ]),
        ),
        (
            "share",
            Entry::dir([
                ("doc", Entry::file("text")),
                ("big", Entry::of(Contents::Pattern { seed: 9, len: 5_000_000 })),
            ]),
        ),
    ]);
    let builder = ClosureBuilder::new().path("tool", tree);
    let absolute = format!("{}/bin", builder.store_path("tool")).into_bytes();
    builder.referring("env", Entry::dir([("bin", Entry::Symlink(absolute))]), &["tool"]).write()
}

fn extract(image: &Path, part: &str, arguments: &[&str]) -> Run {
    run(sane_image().arg("extract").arg(image).arg(part).args(arguments))
}

/// Kind, mode, time, and contents or target of everything below a directory; not the time of the directory itself.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let entries = WalkDir::new(root).min_depth(1).into_iter().map(Result::unwrap);
    let describe = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        let contents = if metadata.is_symlink() {
            fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
        } else if metadata.is_file() {
            fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        (metadata.permissions().mode(), metadata.mtime(), contents)
    };
    entries.map(|entry| (entry.path().strip_prefix(root).unwrap().to_owned(), describe(entry.path()))).collect()
}

/// Removes what nobody may write to.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::process::Command::new("chmod").args(["-R", "u+w"]).arg(self.0.path()).status().ok();
    }
}

#[test]
fn all_of_a_partition_is_what_the_kernel_sees() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let run = extract(&built.image, "nix", &["--links", "keep", "--out", out.to_str().unwrap()]).expect_success();
    assert!(run.stdout.contains(" files of "), "{}", run.stdout);
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        assert_eq!(snapshot(&out), snapshot(mount.path()));
    }
}

#[test]
fn a_store_path_is_what_was_put_in() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let scratch = Scratch::new();
    let (path, out) = (&closure.path("tool").path, scratch.path("out"));
    extract(&built.image, "nix", &[path, "--out", out.to_str().unwrap()]).expect_success();
    assert!(snapshot(&out.join(&path[1..])) == snapshot(&closure.on_host(path)));
    assert_eq!(fs::read_dir(out.join("nix/store")).unwrap().count(), 1);
}

#[test]
fn a_tar_is_the_same_every_time_and_tar_reads_it() {
    if !need("tar") {
        return;
    }
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let pack = || {
        let output = sane_image().arg("extract").arg(&built.image).args(["nix", "--tar"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let scratch = Scratch::new();
    let (archive, out, plain) = (scratch.path("a.tar"), scratch.path("out"), scratch.path("plain"));
    fs::write(&archive, pack()).unwrap();
    assert!(fs::read(&archive).unwrap() == pack());
    fs::create_dir(&out).unwrap();
    run_tool(tool("tar").arg("-xpf").arg(&archive).arg("-C").arg(&out));
    extract(&built.image, "nix", &["--links", "keep", "--out", plain.to_str().unwrap()]).expect_success();
    assert_eq!(snapshot(&out), snapshot(&plain));
    let listed = String::from_utf8(run_tool(tool("tar").args(["--numeric-owner", "-tvf"]).arg(&archive))).unwrap();
    assert!(listed.lines().all(|line| line.contains(" 0/0 ")), "{listed}");
}

#[test]
fn links_that_leave_are_refused_kept_or_made_relative() {
    let closure = closure();
    let built = Built::new(&closure, &[]);
    let scratch = Scratch::new();
    let (env, tool) = (&closure.path("env").path, &closure.path("tool").path);
    let out = scratch.path("refused");
    let refused = extract(&built.image, "nix", &[env, tool, "--out", out.to_str().unwrap()]).expect_failure(1);
    assert!(
        refused.stderr.contains(&format!("{}/bin -> {tool}/bin: a link that leads out of the destination", &env[1..])),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("--links relative"), "{}", refused.stderr);
    assert!(!out.exists(), "nothing is extracted");
    let out = scratch.path("relative");
    extract(&built.image, "nix", &[env, tool, "--links", "relative", "--out", out.to_str().unwrap()]).expect_success();
    assert_eq!(fs::read(out.join(&env[1..]).join("bin/tool")).unwrap(), b"#!/bin/sh\n");
    let out = scratch.path("kept");
    extract(&built.image, "nix", &[env, "--links", "keep", "--out", out.to_str().unwrap()]).expect_success();
    assert_eq!(fs::read_link(out.join(&env[1..]).join("bin")).unwrap(), Path::new(tool).join("bin"));
}

/// An image made to write outside: links up, absolute ones, and links that files would have to be written through.
#[test]
fn hostile_links_lead_nowhere() {
    let source = tempfile::tempdir().unwrap();
    let victim = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("a/b")).unwrap();
    fs::write(source.path().join("a/b/file"), "text").unwrap();
    for (name, target) in [
        ("a/b/up", "../../.."),
        ("a/abs", victim.path().to_str().unwrap()),
        ("a/b/sly", "x/../../../../etc"),
        ("a/b/odd\x1b[2J", "/etc/\x07"),
    ] {
        symlink(target, source.path().join(name)).unwrap();
    }
    let Some(image) = foreign::mkfs_ext4(source.path(), &[]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let arguments = |links: &'static str| ["a", "--links", links, "--out", out.to_str().unwrap()].map(str::to_owned);
    let refused =
        run(sane_image().arg("extract").arg(image.path()).arg("1").args(arguments("refuse"))).expect_failure(1);
    for part in ["a/abs -> /", "a/b/odd\\u{1b}[2J -> /etc/\\u{7}", "a/b/sly -> ", "a/b/up -> ../../.."] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    assert!(refused.stderr.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{}", refused.stderr);
    run(sane_image().arg("extract").arg(image.path()).arg("1").args(arguments("relative"))).expect_failure(1);
    assert!(!out.exists());
    // Links that are there already are not written through, whoever made them.
    fs::create_dir(&out).unwrap();
    symlink(victim.path(), out.join("a")).unwrap();
    let failed = run(sane_image().arg("extract").arg(image.path()).arg("1").args(arguments("keep"))).expect_failure(1);
    assert!(failed.stderr.contains("a: is in the way"), "{}", failed.stderr);
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    fs::remove_file(out.join("a")).unwrap();
    run(sane_image().arg("extract").arg(image.path()).arg("1").args(arguments("keep"))).expect_success();
    let again = run(sane_image().arg("extract").arg(image.path()).arg("1").args(arguments("keep"))).expect_failure(1);
    assert!(again.stderr.contains("File exists"), "{}", again.stderr);
}

/// Names with slashes, and `..` twice: debugfs writes them, no kernel would.
#[test]
fn names_that_are_paths_are_never_followed() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/xxxyyyyyy"), "text").unwrap();
    let Some(image) = foreign::mkfs_ext4(source.path(), &["-O", "^metadata_csum"]) else { return };
    let mut bytes = fs::read(image.path()).unwrap();
    let at = bytes.windows(9).position(|window| window == b"xxxyyyyyy").unwrap();
    bytes[at..at + 9].copy_from_slice(b"../escape");
    fs::write(image.path(), &bytes).unwrap();
    let scratch = Scratch::new();
    let out = scratch.path("sub/out");
    let failed = extract(image.path(), "1", &["d", "--out", out.to_str().unwrap()]).expect_failure(1);
    assert!(failed.stderr.contains("slash"), "{}", failed.stderr);
    let escaped = WalkDir::new(scratch.0.path()).into_iter().any(|entry| entry.unwrap().file_name() == "escape");
    assert!(!escaped);
    let mut tar = sane_image();
    let packed = tar.arg("extract").arg(image.path()).args(["1", "d", "--tar"]).output().unwrap();
    assert!(!packed.status.success() && packed.stdout.is_empty());
}

#[test]
fn devices_are_left_out_and_told() {
    if !need("debugfs") {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "text").unwrap();
    let Some(image) = foreign::mkfs_ext4(source.path(), &[]) else { return };
    run_tool(tool("debugfs").args(["-w", "-R", "mknod device c 1 3"]).arg(image.path()));
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let run = extract(image.path(), "1", &["--out", out.to_str().unwrap()]).expect_failure(1);
    assert!(run.stderr.contains("device: left out: a device"), "{}", run.stderr);
    assert_eq!(fs::read(out.join("file")).unwrap(), b"text");
    assert!(fs::symlink_metadata(out.join("device")).is_err());
    oracle::e2fsck(image.path(), oracle::whole(image.path())).expect_clean();
}

#[test]
fn bad_usage_is_told() {
    for arguments in [&["extract", "x", "nix"][..], &["extract", "x", "nix", "--tar", "--out", "y"]] {
        run(sane_image().args(arguments)).expect_failure(2);
    }
}
