//! Whole images that Limine boots, with a stand-in for its program; tests/boot has the real one. And the goldens that unit
//! tests compare its files with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::tool::{need, run as run_tool, tool};
use crate::support::tree::Entry;

const SYSTEM: &str = "nixos-system-limine-26.05";
/// What it writes to a disk are two texts, the first of which tells where the second is. It marks a program for UEFI.
const PROGRAM: &str = "#!/bin/sh
at() { dd of=\"$disk\" bs=1 seek=\"$1\" conv=notrunc; }
disk=$2
case $1 in
bios-install)
  start=$(od -An -tu8 -j1056 -N8 \"$disk\")
  printf 'stage 1 %d' $start | at 0
  printf 'stage 2' | at $((start * 512));;
enroll-config) printf ' %s' \"$3\" >> \"$disk\";;
esac
";

/// A system with a specialisation that Limine boots.
fn closure(change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let files = ["BOOTX64.EFI", "limine-bios.sys"].map(|name| (name, Entry::file(name)));
    let package = Entry::dir([
        (
            "bin",
            Entry::dir([("limine", Entry::executable(PROGRAM)), ("fails", Entry::executable("#!/bin/sh\nexit 1\n"))]),
        ),
        ("share", Entry::dir([("limine", Entry::dir(files))])),
    ]);
    let builder = ClosureBuilder::new()
        .path("limine", package)
        .path("linux", Entry::dir([("bzImage", Entry::file("a kernel"))]))
        .path("initrd", Entry::dir([("initrd", Entry::file("an initrd"))]));
    let [package, kernel, initrd] = ["limine", "linux", "initrd"].map(|name| builder.store_path(name).to_owned());
    let document = move |path: &str| {
        json!({
            "init": format!("{path}/init"), "kernel": format!("{kernel}/bzImage"), "initrd": format!("{initrd}/initrd"),
            "kernelParams": ["loglevel=4"], "label": "a test", "system": "x86_64-linux", "toplevel": path,
        })
    };
    let system = |path: &str| {
        let calm = json!({ "org.nixos.bootspec.v1": document(path), "org.nixos.specialisation.v1": {} });
        let boot = json!({
            "org.nixos.bootspec.v1": document(path), "org.nixos.specialisation.v1": { "calm": calm },
        });
        Entry::dir([("boot.json", Entry::file(boot.to_string())), ("init", Entry::executable("#!/bin/sh\n"))])
    };
    let builder = builder.derived(SYSTEM, system, &["linux", "initrd"]).toplevel(SYSTEM);
    builder
        .spec(move |spec| {
            spec["limine"] = json!({ "package": package, "tool": "", "biosSupport": true });
            change(spec);
        })
        .write()
}

/// Puts the program that is in the closure into its spec, by its path on this machine.
fn with_tool(closure: &Closure, name: &str) {
    let package = closure.on_host(&closure.path("limine").path);
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(closure.spec_path()).unwrap()).unwrap();
    spec["limine"]["tool"] = package.join("bin").join(name).to_str().unwrap().into();
    fs::write(closure.spec_path(), spec.to_string()).unwrap();
}

fn at(image: &Path, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(image).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

#[test]
fn boot_code_files_and_menu_are_in_the_image() {
    let closure = closure(|spec| {
        spec["limine"]["enrollConfig"] = true.into();
        spec["extraPartitions"] = json!([{
            "name": "first", "typeGuid": "fe3a2a5d-4f32-41a7-b725-accc3285a309", "size": 3 << 20, "place": "beforeBoot",
        }]);
    });
    with_tool(&closure, "limine");
    let built = Built::new(&closure, &[]);
    let bios = &built.layout["partitions"][1];
    assert_eq!(bios["role"], "biosBoot");
    let start = bios["offset"].as_u64().unwrap();
    let code = at(&built.image, 0, 440);
    let stage_1 = format!("stage 1 {}", start / 512);
    assert!(code.starts_with(stage_1.as_bytes()) && code[stage_1.len()..].iter().all(|byte| *byte == 0));
    let partition = at(&built.image, start, 1 << 20);
    assert!(partition.starts_with(b"stage 2") && partition[7..].iter().all(|byte| *byte == 0));

    let report = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success();
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let entries: Vec<_> = report["boot"]["entries"].as_array().unwrap().iter().collect();
    assert_eq!(entries.len(), 2, "{report:#}");
    for (entry, (title, is_default)) in entries.iter().zip([("Default", true), ("calm", false)]) {
        assert_eq!(entry["loader"], "limine");
        assert!(entry["title"].as_str().unwrap().ends_with(title), "{entry}");
        assert_eq!(entry["default"], is_default, "{entry}");
        assert!(entry["kernel"]["found"].is_object() && entry["initrds"][0]["found"].is_object(), "{entry}");
    }
    run(sane_image().args(["verify"]).arg(&built.image)).expect_success();
}

/// The bytes of an image depend on neither its neighbours nor the form of output.
#[test]
fn each_build_has_the_same_bytes() {
    let closure = closure(|_| ());
    with_tool(&closure, "limine");
    let [first, second] = [&["--jobs", "1"][..], &[]].map(|arguments| Built::new(&closure, arguments));
    assert!(fs::read(&first.image).unwrap() == fs::read(&second.image).unwrap());
}

#[test]
fn a_program_that_fails_ends_the_build_and_leaves_nothing() {
    let closure = closure(|_| ());
    with_tool(&closure, "fails");
    let out = tempfile::tempdir().unwrap();
    let mut build = build_command(&closure.spec_path(), closure.root(), &out.path().join("image"), &[]);
    let failed = run(&mut build).expect_failure(1);
    assert!(failed.stderr.contains("limine bios-install: exit status: 1"), "{}", failed.stderr);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/limine")
}

fn texts(directory: &Path) -> BTreeMap<std::ffi::OsString, String> {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name(), fs::read_to_string(file.path()).unwrap())).collect()
}

#[test]
fn the_goldens_are_what_nixpkgs_script_writes_today() {
    let Some(nixpkgs) = std::env::var_os("NIXPKGS") else { return };
    if !need("python3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("goldens");
    run_tool(tool(fixtures().join("make-goldens").to_str().unwrap()).arg(&out).env("NIXPKGS", nixpkgs));
    assert_eq!(texts(&out), texts(&fixtures().join("goldens")));
}
