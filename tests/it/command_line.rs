//! What scripts and people rely on at the command line.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::judge::{expected, judge};
use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tree::{Contents, Entry};
use crate::support::walk::Expected;

fn closure() -> ClosureBuilder {
    let contents = Contents::Pattern { seed: 3, len: 300_000 };
    let boot = "f() { mkdir -p extlinux; echo 'DEFAULT x' > extlinux/extlinux.conf; }; f";
    ClosureBuilder::new()
        .path("data", Entry::dir([("file", Entry::of(contents)), ("empty", Entry::file(""))]))
        .path("nothing", Entry::Dir([].into()))
        .spec(move |spec| spec["populateCmd"] = json!(boot))
}

#[test]
fn plan_is_what_build_makes() {
    let closure = closure().write();
    let built = Built::new(&closure, &[]);
    let plan = |json: &[&str]| {
        let mut command = sane_image();
        command.arg("plan").arg(closure.spec_path()).arg("--store-root").arg(closure.root()).args(json);
        run(&mut command).expect_success().stdout
    };
    assert_eq!(serde_json::from_str::<Value>(&plan(&["--json"])).unwrap(), built.layout);
    assert_eq!(built.layout["size"], built.image.metadata().unwrap().len());
    let text = plan(&[]);
    assert!(text.contains("nixos.img") && text.contains("vfat") && text.contains("ext4"), "{text}");
    let summary = built.run.stdout.lines().count();
    assert_eq!(summary, 3, "{}", built.run.stdout);
}

/// The contents of a store path stand, unfragmented, where layout.json says.
#[test]
fn layout_tells_where_store_paths_are() {
    let closure = closure().write();
    let built = Built::new(&closure, &[]);
    let ranges = built.layout["storePaths"].as_array().unwrap();
    let paths: Vec<_> = ranges.iter().map(|range| range["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, closure.paths.iter().map(|path| path.path.clone()).collect::<Vec<_>>());
    let range = |name: &str| ranges.iter().find(|range| range["path"] == closure.path(name).path.as_str()).unwrap();
    assert_eq!((&range("nothing")["offset"], &range("nothing")["length"]), (&Value::Null, &json!(0)));
    let data = range("data");
    assert_eq!(data["length"], 300_000u64.next_multiple_of(4096));
    let mut found = vec![0; 300_000];
    let image = fs::File::open(&built.image).unwrap();
    image.read_exact_at(&mut found, data["offset"].as_u64().unwrap()).unwrap();
    let mut wanted = vec![0; 300_000];
    Contents::Pattern { seed: 3, len: 300_000 }.fill(0, &mut wanted);
    assert!(found == wanted);
}

#[test]
fn only_makes_the_slices_of_the_whole() {
    let closure = closure().write();
    let built = Built::new(&closure, &[]);
    for (part, partition) in [("boot", built.boot()), ("nix", built.nix())] {
        let out = built.scratch().join(part);
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--only", part])).expect_success();
        let slice = crate::support::tool::slice(&built.image, partition);
        assert!(fs::read(slice.path()).unwrap() == fs::read(&out).unwrap(), "{part}");
    }
}

#[test]
fn the_boot_loader_runs_last_and_only_if_wanted() {
    let script = "printf firmware | dd of=\"$out/nixos.img\" bs=1 seek=1048576 conv=notrunc status=none";
    let closure = closure().spec(move |spec| spec["installBootloader"] = json!(script)).write();
    let firmware = |arguments: &[&str]| {
        let built = Built::new(&closure, arguments);
        judge(&closure, &built);
        let mut found = [0; 8];
        fs::File::open(&built.image).unwrap().read_exact_at(&mut found, 1 << 20).unwrap();
        found
    };
    assert_eq!(&firmware(&[]), b"firmware");
    assert_eq!(firmware(&["--no-bootloader"]), [0; 8]);
}

/// What an installer leaves beside the image is an output too.
#[test]
fn what_the_boot_loader_leaves_is_kept() {
    let closure = closure().spec(|spec| spec["installBootloader"] = json!("echo spl > \"$out/spl.bin\"")).write();
    let built = Built::new(&closure, &[]);
    assert_eq!(fs::read_to_string(built.image.with_file_name("spl.bin")).unwrap(), "spl\n");
}

#[test]
fn the_store_may_be_mounted_by_itself() {
    for (mount_point, store) in [("/nix", "store"), ("/nix/store", "")] {
        let closure = closure()
            .spec(move |spec| {
                let filesystems = spec["fileSystems"].as_object_mut().unwrap();
                let nix = filesystems.remove("/").unwrap();
                filesystems.insert("/".into(), json!({ "device": "none", "fsType": "tmpfs", "options": [] }));
                filesystems.insert(mount_point.into(), nix);
                spec["extraDirectories"] = json!([format!("{mount_point}/extra/directory")]);
            })
            .write();
        let built = Built::new(&closure, &[]);
        oracle::e2fsck(&built.image, built.nix()).expect_clean();
        if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
            let expected: Expected<'_> = expected(&closure, store).directory("extra/directory");
            expected.assert_equals(mount.path());
        }
    }
}

#[test]
fn disks_of_4096_byte_sectors_and_with_padding() {
    for (sector_size, padding) in [(512, 0), (512, 16 << 20), (4096, 0), (4096, 1 << 20)] {
        let closure = closure()
            .spec(move |spec| {
                spec["sectorSize"] = json!(sector_size);
                spec["extraGPTPadding"] = json!(padding);
                spec["bootPartSize"] = json!(300 << 20);
                spec["firstPartGap"] = Value::Null;
            })
            .write();
        let built = Built::new(&closure, &[]);
        oracle::sgdisk(&built.image, sector_size).expect_clean();
        oracle::fdisk(&built.image, sector_size).expect_clean();
        oracle::fsck_fat(&built.image, built.boot()).expect_clean();
        oracle::e2fsck(&built.image, built.nix()).expect_clean();
        assert_eq!(built.layout["entriesOffset"], 2 * u64::from(sector_size) + padding);
    }
}

#[test]
fn an_image_is_replaced_as_a_whole() {
    let closure = closure().write();
    let built = Built::new(&closure, &[]);
    let first = fs::read(&built.image).unwrap();
    let out = built.image.parent().unwrap();
    run(&mut build_command(&closure.spec_path(), closure.root(), out, &[])).expect_success();
    assert!(fs::read(&built.image).unwrap() == first);
}

#[test]
fn a_spec_on_standard_input() {
    let closure = closure().write();
    let mut command = sane_image();
    command.args(["plan", "-", "--json", "--store-root"]).arg(closure.root());
    let run = run(command.stdin(fs::File::open(closure.spec_path()).unwrap())).expect_success();
    assert!(run.stdout.starts_with('{'));
}

#[test]
fn help_teaches_by_example() {
    for command in ["build", "plan", "convert", "flash", "vm", "inspect", "ls", "cat", "extract", "completions", "man"]
    {
        let help = run(sane_image().args([command, "--help"])).expect_success().stdout;
        assert!(help.contains("Example"), "{help}");
    }
    let help = run(sane_image().arg("--help")).expect_success().stdout;
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn man_pages() {
    let dir = tempfile::tempdir().unwrap();
    run(sane_image().arg("man").arg(dir.path())).expect_success();
    for command in [
        "",
        "-build",
        "-plan",
        "-convert",
        "-flash",
        "-vm",
        "-inspect",
        "-ls",
        "-cat",
        "-extract",
        "-verify",
        "-diff",
        "-completions",
        "-man",
    ] {
        let page = dir.path().join(format!("sane-image{command}.1"));
        oracle::mandoc(&page).expect_clean();
        let text = fs::read_to_string(&page).unwrap();
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"] {
            assert!(
                text.contains(&format!("\n.SH {section}\n")) || text.contains(&format!("\n.SH \"{section}\"\n")),
                "{text}"
            );
        }
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
        fs::write(&page, text.replace(".SH NAME", ".NOTHING")).unwrap();
        oracle::mandoc(&page).expect_damage();
    }
}

#[test]
fn completion_scripts() {
    for shell in ["bash", "fish", "zsh", "elvish", "powershell"] {
        let script = run(sane_image().args(["completions", shell])).expect_success().stdout;
        assert!(script.contains("sane-image"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let closure = closure().write();
    let mut command = sane_image();
    command.arg("plan").arg(closure.spec_path()).arg("--json").arg("--store-root").arg(closure.root());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every name that was given stands in an error once, and a missing file is told as one in the same words.
#[test]
fn errors_name_each_thing_once() {
    let closure = closure().write();
    let built = Built::new(&closure, &[]);
    let image = built.image.to_str().unwrap();
    let directory = built.scratch().to_str().unwrap();
    let absent = "nothere.img: cannot be opened: No such file or directory (os error 2)";
    let is_directory = format!("{directory}: cannot be opened: is a directory");
    for (arguments, wanted) in [
        (&["inspect", "nothere.img"][..], absent),
        (&["ls", "nothere.img", "nix"], absent),
        (&["cat", "nothere.img", "nix", "x"], absent),
        (&["extract", "nothere.img", "nix", "--tar"], absent),
        (&["verify", "nothere.img"], absent),
        (&["diff", "nothere.img", image], absent),
        (&["diff", image, "nothere.img"], absent),
        (&["inspect", directory], is_directory.as_str()),
        (&["verify", directory], is_directory.as_str()),
        (&["ls", image, "9"], format!("{image}: no partition 9 (there are 1, 2)").as_str()),
        (&["ls", image, "nix", "nothere"], format!("{image}: partition nix: nothere: no such file").as_str()),
        (
            &["verify", image, "--registration", "nothere"],
            "nothere: cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        let run = run(sane_image().args(arguments)).expect_failure(1);
        assert_eq!(run.stderr, format!("sane-image: error: {wanted}\n"), "{arguments:?}");
    }
}

/// Stubs in the place of kernels tell nothing of how many generations there is room for.
#[test]
fn room_is_told_of_real_kernels_only() {
    for (len, told) in [(40, false), (5 << 20, true)] {
        let boot = format!("f() {{ mkdir nixos; truncate -s {len} nixos/kernel; }}; f");
        let closure = ClosureBuilder::new().spec(move |spec| spec["populateCmd"] = json!(boot)).write();
        let built = Built::new(&closure, &[]);
        assert_eq!(built.run.stdout.contains("more generations)"), told, "{}", built.run.stdout);
        assert!(built.layout["boot"]["moreGenerations"].is_u64(), "{}", built.layout);
    }
}
