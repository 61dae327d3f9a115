//! Filesystems that a power cut, or a copy of a live disk, left with a log to be replayed: what is not seen is told by
//! every command.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::support::image::{run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle::whole;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run as run_tool, tool};

/// What a mounted filesystem has on its disk once `late` was written and synced by itself.
fn cut(make: &mut std::process::Command, fs_type: &str) -> Option<NamedTempFile> {
    if !need(&make.get_program().to_string_lossy()) {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(256 << 20).unwrap();
    run_tool(make.arg(image.path()));
    let mount = Mount::new(image.path(), whole(image.path()), fs_type, Access::ReadWrite)?;
    fs::write(mount.path().join("early"), "early").unwrap();
    rustix::fs::syncfs(fs::File::open(mount.path()).unwrap()).unwrap();
    let mut late = fs::File::create(mount.path().join("late")).unwrap();
    late.write_all(b"late").unwrap();
    late.sync_all().unwrap();
    let copy = NamedTempFile::new().unwrap();
    fs::copy(image.path(), copy.path()).unwrap();
    drop((late, mount));
    Some(copy)
}

fn told_by_every_command(image: &Path, said: &str) {
    let out = tempfile::tempdir().unwrap();
    let (name, out) = (image.to_str().unwrap(), out.path().join("out"));
    for arguments in [
        &["ls", name, "1"][..],
        &["cat", name, "1", "early"],
        &["extract", name, "1", "--out", out.to_str().unwrap()],
        &["inspect", name],
        &["inspect", name, "--json"],
        &["diff", name, name],
        &["verify", name],
    ] {
        let run = run(sane_image().args(arguments)).expect_failure(1);
        let text = run.stdout + &run.stderr;
        assert!(text.contains(said), "{arguments:?}: {text}");
        assert!(!text.contains("everything else is checked as if"), "{arguments:?}: {text}");
    }
    let listed = run(sane_image().args(["ls", name, "1"])).stdout;
    assert!(listed.contains("early\n"), "what can be read is read: {listed}");
}

#[test]
fn a_log_of_btrfs() {
    let Some(image) = cut(tool("mkfs.btrfs").args(["-q", "-f"]), "btrfs") else { return };
    told_by_every_command(image.path(), "log");
    if need("btrfs") {
        let dumped = run_tool(tool("btrfs").args(["inspect-internal", "dump-super"]).arg(image.path()));
        let dumped = String::from_utf8(dumped).unwrap();
        let root = dumped.lines().find_map(|line| line.strip_prefix("log_root\t")).unwrap().trim();
        assert_ne!(root, "0", "there is no log to be told of");
    }
}

#[test]
fn fast_commits_of_ext4() {
    let Some(image) = cut(tool("mkfs.ext4").args(["-q", "-F", "-O", "fast_commit"]), "ext4") else { return };
    let listed = run(sane_image().arg("ls").arg(image.path()).arg("1"));
    if listed.stdout.contains("late\n") {
        skip(Lack::other("a kernel that makes fast commits"));
        return;
    }
    told_by_every_command(image.path(), "fast commits");
    // Once they are replayed nothing is left to tell.
    run_tool(tool("e2fsck").args(["-p", "-f"]).arg(image.path()));
    assert_eq!(run(sane_image().args(["cat"]).arg(image.path()).args(["1", "late"])).expect_success().stdout, "late");
}
