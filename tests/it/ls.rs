//! `ls` and `cat`: what they say of an image is what its source tree, or a kernel's mount, has.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use walkdir::WalkDir;

use crate::support::closure::ClosureBuilder;
use crate::support::foreign;
use crate::support::image::{Built, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::tree::{Contents, Entry};

/// The stdout of a run that succeeds, as bytes.
fn stdout(arguments: &[&OsStr]) -> Vec<u8> {
    let output = sane_image().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Everything that `ls -R0` finds, sorted.
fn names(image: &Path, part: &str) -> Vec<PathBuf> {
    let said = stdout(&["ls".as_ref(), image.as_ref(), part.as_ref(), "-R0".as_ref()]);
    let names = said.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<PathBuf> = names.map(|name| OsStr::from_bytes(name).into()).collect();
    names.sort();
    names
}

/// Everything below a directory, sorted.
fn on_host(root: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(root).min_depth(1).into_iter().map(Result::unwrap);
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path().strip_prefix(root).unwrap().to_owned()).collect();
    names.sort();
    names
}

/// That an image holds what a directory of this host holds: names, kinds, sizes, modes, times, targets and contents.
fn assert_same(image: &Path, part: &str, root: &Path) {
    assert_eq!(names(image, part), on_host(root));
    let said = String::from_utf8(stdout(&["ls".as_ref(), image.as_ref(), part.as_ref(), "-lR".as_ref()])).unwrap();
    for line in said.lines() {
        let fields: Vec<&str> = line.split_whitespace().take(6).collect();
        let shown = line.split_once(fields[5]).unwrap().1.trim_start();
        // Names that are written otherwise are compared above.
        let Some(path) = Some(shown.split(" -> ").next().unwrap()).filter(|name| !name.contains('\\')) else {
            continue;
        };
        let on_host = fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!((fields[1], fields[2]), (&*on_host.uid().to_string(), &*on_host.gid().to_string()), "{line}");
        let bits = if on_host.is_symlink() { 0o777 } else { on_host.permissions().mode() & 0o777 };
        let triple =
            |shift: u32| [(4, 'r'), (2, 'w'), (1, 'x')].map(|(bit, c)| if bits >> shift & bit > 0 { c } else { '-' });
        let mode: String = [6, 3, 0].into_iter().flat_map(triple).collect();
        assert_eq!(fields[0].replace(['t', 's'], "x")[1..], mode, "{line}");
        if !on_host.is_dir() {
            assert_eq!(fields[3], on_host.len().to_string(), "{line}");
            assert_eq!(time(fields[4], fields[5]), on_host.mtime(), "{line}");
        }
        if on_host.is_symlink() {
            assert_eq!(shown.split(" -> ").nth(1).unwrap(), fs::read_link(root.join(path)).unwrap().to_str().unwrap());
        }
        if on_host.is_file() {
            let said = stdout(&["cat".as_ref(), image.as_ref(), part.as_ref(), path.as_ref()]);
            assert!(said == fs::read(root.join(path)).unwrap(), "{path}");
        }
    }
}

/// Seconds since 1970 of a date after 2000, counted day by day.
fn time(date: &str, time: &str) -> i64 {
    let numbers = |text: &str, by| text.split(by).map(|n: &str| n.parse::<i64>().unwrap()).collect::<Vec<_>>();
    let ([year, month, day], [h, m, s]) =
        (numbers(date, '-')[..].try_into().unwrap(), numbers(time, ':')[..].try_into().unwrap());
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: i64 = lengths.iter().take(usize::try_from(month).unwrap() - 1).sum();
    (years + months + day - 1) * 86_400 + h * 3600 + m * 60 + s
}

fn tree() -> Entry {
    let many = (0..400).map(|n| (format!("file-{n:04}").into_bytes(), Entry::file(n.to_string())));
    Entry::dir([
        ("bin", Entry::dir([("tool", Entry::executable("#!/bin/sh\n")), ("link", Entry::Symlink(b"tool".to_vec()))])),
        ("big", Entry::of(Contents::Pattern { seed: 7, len: 3_000_001 })),
        ("many", Entry::Dir(many.collect())),
        ("far", Entry::Symlink([b'x'; 300].to_vec())),
        ("empty", Entry::file("")),
    ])
}

#[test]
fn our_image_holds_what_the_kernel_sees() {
    let closure = ClosureBuilder::new()
        .path("data", tree())
        .spec(|spec| spec["fileSystems"]["/"]["fsType"] = "ext4".into())
        .spec(|spec| spec["populateCmd"] = "f() { mkdir -p EFI/x; echo text > EFI/x/A-long-name.conf; }; f".into())
        .write();
    let built = Built::new(&closure, &[]);
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        assert_same(&built.image, "nix", mount.path());
        assert_same(&built.image, "2", mount.path());
    }
    assert_eq!(names(&built.image, "boot"), ["EFI", "EFI/x", "EFI/x/A-long-name.conf"].map(PathBuf::from));
    let path = format!("{}/bin/link", closure.path("data").path);
    let said = stdout(&["cat".as_ref(), built.image.as_ref(), "nix".as_ref(), path.as_ref()]);
    assert_eq!(said, b"#!/bin/sh\n");
}

/// Names that would move a cursor, end a line or be no UTF-8; long ones, deep ones.
fn hostile(root: &Path) {
    for name in
        [&b"new\nline"[..], b"\x1b[2Jclear", b"\xff\xfe", b"back\\slash", "\u{202e}txt.exe".as_bytes(), b" ", b"-l"]
    {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(root.join("n".repeat(255)), "long").unwrap();
    fs::create_dir_all(root.join("d/".repeat(60))).unwrap();
    symlink(OsStr::from_bytes(b"/\x07bell"), root.join("link")).unwrap();
}

#[test]
fn others_ext4_with_hostile_names() {
    let source = tempfile::tempdir().unwrap();
    hostile(source.path());
    let Some(image) = foreign::mkfs_ext4(source.path(), &[]) else { return };
    let mut wanted = on_host(source.path());
    wanted.push("lost+found".into());
    wanted.sort();
    assert_eq!(names(image.path(), "1"), wanted);
    let said = stdout(&["ls".as_ref(), image.path().as_ref(), "nix".as_ref(), "-lR".as_ref()]);
    assert!(said.iter().all(|&byte| byte == b'\n' || !byte.is_ascii_control()), "{}", String::from_utf8_lossy(&said));
    let said = String::from_utf8(said).unwrap();
    for shown in
        ["new\\nline", "\\u{1b}[2Jclear", "\\xff\\xfe", "back\\\\slash", "\\u{202e}txt.exe", "link -> /\\u{7}bell"]
    {
        assert!(said.lines().any(|line| line.ends_with(shown)), "{shown}\n{said}");
    }
    let raw = std::ffi::OsString::from_vec(b"new\nline".to_vec());
    let said = stdout(&["cat".as_ref(), image.path().as_ref(), "1".as_ref(), &raw]);
    assert_eq!(said, b"new\nline");
}

#[test]
fn others_ext_of_all_kinds() {
    let source = tempfile::tempdir().unwrap();
    foreign::plain_tree(source.path());
    for options in [&[][..], &["-b", "1024"], &["-t", "ext2"], &["-t", "ext3"], &["-O", "^64bit"]] {
        let Some(image) = foreign::mkfs_ext4(source.path(), options) else { return };
        println!("{options:?}");
        if let Some(mount) =
            Mount::new(image.path(), crate::support::oracle::whole(image.path()), "ext4", Access::ReadOnly)
        {
            assert_same(image.path(), "1", mount.path());
        }
    }
}

#[test]
fn others_fat() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("EFI/BOOT")).unwrap();
    fs::write(source.path().join("EFI/BOOT/BOOTX64.EFI"), "program").unwrap();
    fs::write(source.path().join("A long name with ümlauts.txt"), "text").unwrap();
    for fat in ["12", "16", "32"] {
        let Some(image) = foreign::mkfs_fat(source.path(), fat) else { return };
        assert_eq!(names(image.path(), "boot"), on_host(source.path()));
        let said = stdout(&["cat".as_ref(), image.path().as_ref(), "boot".as_ref(), "/efi/boot/bootx64.efi".as_ref()]);
        assert_eq!(said, b"program");
    }
}

#[test]
fn paths_of_the_running_system_are_understood() {
    for mount_point in ["/", "/nix", "/nix/store"] {
        let closure = ClosureBuilder::new()
            .path("data", tree())
            .spec(move |spec| {
                let filesystems = spec["fileSystems"].as_object_mut().unwrap();
                let nix = filesystems.remove("/").unwrap();
                filesystems
                    .insert("/".into(), serde_json::json!({ "device": "none", "fsType": "tmpfs", "options": [] }));
                filesystems.insert(mount_point.into(), nix);
            })
            .write();
        let built = Built::new(&closure, &[]);
        let path = format!("{}/bin", closure.path("data").path);
        let said = stdout(&["ls".as_ref(), built.image.as_ref(), "nix".as_ref(), path.as_ref()]);
        assert_eq!(said, b"link\ntool\n", "{mount_point}");
    }
}

#[test]
fn failures_are_one_clear_line() {
    let closure = ClosureBuilder::new().path("data", tree()).write();
    let built = Built::new(&closure, &[]);
    let image = built.image.to_str().unwrap();
    let broken = built.scratch().join("broken");
    fs::write(&broken, [7; 5000]).unwrap();
    let fails = |arguments: &[&str], code: i32, part: &str| {
        let run = run(sane_image().args(arguments)).expect_failure(code);
        assert!(run.stderr.contains(part), "{arguments:?}: {}", run.stderr);
        if code == 1 {
            assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
            assert!(run.stderr.starts_with("sane-image: error: "), "{}", run.stderr);
        }
    };
    fails(&["ls", image, "nix", "none\n"], 1, "partition nix: none\\n: no such file");
    fails(&["ls", image, "7"], 1, "no partition 7 (there are 1, 2)");
    fails(&["ls", image, "root"], 2, "not \"boot\", \"nix\" or the number of a partition");
    fails(&["cat", image, "nix", "nix"], 1, "not a regular file");
    fails(&["cat", image, "nix", "nix/store/x/y"], 1, "partition nix: nix/store/x/y: nix/store/x: no such file");
    fails(&["ls", image, "nix", "/no/such"], 1, "partition nix: /no/such: no: no such file");
    fails(&["cat", image, "nix"], 2, "PATH");
    fails(
        &["ls", broken.to_str().unwrap(), "1"],
        1,
        "neither a partition table (GPT or MBR) nor a FAT, ext4, btrfs or erofs",
    );
    fails(&["ls", "/does/not/exist", "1"], 1, "/does/not/exist: cannot be opened: No such file");
    fails(&["ls", closure.root().to_str().unwrap(), "1"], 1, "is a directory");
    let several = run(sane_image().args(["ls", image, "nix", "none", "nix"])).expect_failure(1);
    assert_eq!(several.stdout.trim(), "nix:\nstore");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let closure = ClosureBuilder::new().path("data", tree()).write();
    let built = Built::new(&closure, &[]);
    let big = format!("{}/big", closure.path("data").path);
    for arguments in [vec!["ls", "-R"], vec!["cat", &big], vec!["extract", "--tar"]] {
        let (command, rest) = arguments.split_first().unwrap();
        let mut child = sane_image();
        child.arg(command).arg(&built.image).arg("nix").args(rest);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
