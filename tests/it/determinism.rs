//! The same bytes, whatever the host and however many threads.

use std::fs::{self, File};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::judge::numbered;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{self, Built, build_command};
use crate::support::mount::MountPoint;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run, tool};
use crate::support::tree::{Contents, Entry, Host};

/// A closure with all that a host might show through: equal files, holes, many entries, odd names.
fn closure(host: Host) -> ClosureBuilder {
    closure_on("ext4", host)
}

/// The formats that are written in different ways.
const FORMATS: [&str; 2] = ["ext4", "erofs"];

fn closure_on(fs_type: &'static str, host: Host) -> ClosureBuilder {
    let equal = || Entry::file("the same bytes in many files");
    let sparse = Contents::Sparse { len: 9 << 20, chunks: [(5 << 20, b"island".to_vec())].into() };
    let tree = Entry::dir([
        (b"many".to_vec(), numbered(700, |_| equal())),
        (b"sparse".to_vec(), Entry::of(sparse)),
        (b"pattern".to_vec(), Entry::of(Contents::Pattern { seed: 7, len: 3_000_001 })),
        (b"program".to_vec(), Entry::executable("#!/bin/sh\n")),
        (b"link".to_vec(), Entry::symlink("t".repeat(99))),
        (b"\xff\xfe".to_vec(), equal()),
    ]);
    let ends = numbered(300, |i| Entry::of(Contents::Pattern { seed: i as u64, len: i as u64 * 61 }));
    let builder = ClosureBuilder::new().path("tree", tree).path("equal", equal()).path("ends", ends).host(host);
    builder.spec(move |spec| spec["fileSystems"]["/"]["fsType"] = fs_type.into())
}

fn digest(closure: &Closure, arguments: &[&str]) -> String {
    digest_of(&Built::new(closure, arguments).image)
}

fn digest_of(image: &Path) -> String {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(image).unwrap(), &mut hash).unwrap();
    format!("{:x}", hash.finalize())
}

#[test]
fn of_engines_and_jobs() {
    for fs_type in FORMATS {
        let closure = closure_on(fs_type, Host::CANONICAL).write();
        let expected = digest(&closure, &["--io", "buffered", "--jobs", "1"]);
        let mut engines = vec!["auto", "copy_file_range", "buffered"];
        if need_direct(closure.root()) {
            engines.push("direct");
        }
        for engine in engines {
            for jobs in ["1", "2", "7"] {
                let found = digest(&closure, &["--io", engine, "--jobs", jobs]);
                assert_eq!(expected, found, "{fs_type}, {engine}, {jobs} jobs");
            }
        }
    }
}

/// Whether files in `directory` can be written past the page cache.
fn need_direct(directory: &Path) -> bool {
    let probe = directory.join("probe");
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::DIRECT;
    rustix::fs::open(probe, flags, rustix::fs::Mode::RUSR).is_ok() || skip(Lack::other("no O_DIRECT here"))
}

#[test]
fn of_modes_times_and_links() {
    let hosts = [Host::umask(0o022), Host::umask(0o077), Host::CANONICAL.with_links(), Host::umask(0o027).with_links()];
    for fs_type in FORMATS {
        let canonical = digest(&closure_on(fs_type, Host::CANONICAL).write(), &[]);
        for host in hosts {
            assert_eq!(canonical, digest(&closure_on(fs_type, host).write(), &[]), "{fs_type}, {host:?}");
        }
    }
}

#[test]
fn of_copies_of_the_store() {
    let original = closure(Host::CANONICAL).write();
    let expected = digest(&original, &[]);
    for command in ["cp -a", "umask 077; cp -r", "umask 0; cp -r --sparse=always", "cp -r --sparse=never"] {
        let copy = tempfile::tempdir().unwrap();
        let script = format!("{command} \"$0\"/. \"$1\"");
        run(tool("sh").args(["-euc", &script]).arg(original.root()).arg(copy.path()));
        let built = Built::from_spec(&copy.path().join("spec.json"), copy.path(), &[]);
        assert_eq!(expected, digest_of(&built.image), "{command}");
        fs::remove_dir_all(copy.path()).ok();
    }
}

#[test]
fn of_owners() {
    if need_root() {
        let host = Host { owner: Some(12_345), ..Host::CANONICAL };
        assert_eq!(digest(&closure(Host::CANONICAL).write(), &[]), digest(&closure(host).write(), &[]));
    }
}

/// The store on XFS, which lists directories in another order and rounds holes otherwise than ext4; and the image there
/// too, so that it can share extents with the store.
#[test]
fn of_the_hosts_filesystem() {
    if !need_root() || !need("mkfs.xfs") || !need("mount") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (disk, point) = (scratch.path().join("xfs.img"), scratch.path().join("mnt"));
    File::create(&disk).unwrap().set_len(400 << 20).unwrap();
    fs::create_dir(&point).unwrap();
    run(tool("mkfs.xfs").arg("-q").arg(&disk));
    let mounted = MountPoint::new(["-o".as_ref(), "loop".as_ref(), disk.as_os_str()], &point);
    let on_xfs = std::panic::catch_unwind(|| {
        let closure = closure(Host::CANONICAL).write_in(&point);
        let shared = ["1", "7"].map(|jobs| {
            let (out, reflink) = (point.join(jobs), ["--io", "reflink", "--jobs", jobs]);
            let command = &mut build_command(&closure.spec_path(), closure.root(), &out, &reflink);
            let run = image::run(command).expect_success();
            assert!(run.stdout.contains("shared with the store"), "{}", run.stdout);
            digest_of(&out.join("nixos.img"))
        });
        (digest(&closure, &[]), shared)
    });
    drop(mounted);
    let expected = digest(&closure(Host::CANONICAL).write(), &[]);
    assert_eq!(on_xfs.unwrap(), (expected.clone(), [expected.clone(), expected]));
}

/// Asked for by name, an engine that cannot be had is an error, and not another engine.
#[test]
fn no_engine_stands_in_for_another() {
    let closure = closure(Host::CANONICAL).write();
    let Ok(out) = tempfile::tempdir_in("/dev/shm") else {
        skip(Lack::other("no /dev/shm"));
        return;
    };
    let target = out.path().join("out");
    let reflink = ["--io", "reflink"];
    let run = image::run(&mut build_command(&closure.spec_path(), closure.root(), &target, &reflink)).expect_failure(1);
    assert!(run.stderr.contains("--io reflink is not possible here"), "{}", run.stderr);
}
