//! The menus of GRUB that the unit tests compare ours with: still what nixpkgs' script writes, and what GRUB reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run, text, tool};

/// Those have a submenu without entries, which GRUB takes for a syntax error; ours leave it out.
const WITH_EMPTY_SUBMENU: [&str; 2] = ["corrupt", "no-ending"];
/// What the script uses of Perl's packages.
const MODULES: [&str; 5] = ["XML::LibXML", "File::Slurp", "File::Copy::Recursive", "List::Compare", "JSON"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/grub")
}

/// All files below a directory with their texts.
fn texts(directory: &Path) -> BTreeMap<PathBuf, String> {
    let files =
        walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let path = entry.path().strip_prefix(directory).unwrap().to_owned();
            (path, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn has_modules() -> bool {
    let missing = MODULES.into_iter().find(|module| {
        !Command::new("/usr/bin/perl").arg(format!("-M{module}")).args(["-e", "1"]).output().unwrap().status.success()
    });
    missing.is_none_or(|module| skip(Lack::other(&format!("Perl's {module} not installed"))))
}

#[test]
fn the_goldens_are_what_nixpkgs_script_writes_today() {
    let Some(nixpkgs) = std::env::var_os("NIXPKGS") else { return };
    let programs = ["unshare", "mount", "chroot", "python3", "perl"];
    if !need_root() || !programs.into_iter().all(need) || !has_modules() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("goldens");
    run(tool(fixtures().join("make-goldens").to_str().unwrap()).arg(&out).env("NIXPKGS", nixpkgs));
    let [written, kept] = [out, fixtures().join("goldens")].map(|directory| texts(&directory));
    assert_eq!(written, kept);
}

#[test]
fn grub_reads_the_menus() {
    if !need("grub-script-check") {
        return;
    }
    let check = |path: &Path| tool("grub-script-check").arg(path).output().unwrap();
    let goldens: Vec<_> = fs::read_dir(fixtures().join("goldens")).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(goldens.len() >= 20, "{} goldens", goldens.len());
    for golden in goldens {
        let is_right = !WITH_EMPTY_SUBMENU.iter().any(|name| golden.file_name() == *name);
        let output = check(&golden.path().join("grub.cfg"));
        assert_eq!(output.status.success(), is_right, "{golden:?}: {}", text(&output));
    }
    let damaged = NamedTempFile::new().unwrap();
    fs::write(&damaged, "menuentry \"a\" {\n").unwrap();
    assert!(!check(damaged.path()).status.success());
}
