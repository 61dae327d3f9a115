//! Layout is pure: what decides the bytes of an image does no I/O, knows no clock and no chance.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Files that look outside, by design; every other one below these directories is pure.
const EDGES: [&str; 15] = [
    "btrfs/writer.rs",
    "btrfs/contents.rs",
    "btrfs/packs.rs",
    "btrfs/reader/compressed.rs",
    "erofs/check/contents.rs",
    "erofs/volume/unpack.rs",
    "erofs/writer.rs",
    "ext4/writer.rs",
    "ext4/contents.rs",
    "grub/mkimage.rs",
    "uki/writer.rs",
    "vfat/writer.rs",
    "vfat/cache.rs",
    "vfat/error.rs",
    "vfat/reader.rs",
];
const PURE: [&str; 39] = [
    "units.rs",
    "times.rs",
    "pe.rs",
    "discoverable.rs",
    "mounts.rs",
    "add/mounts",
    "store/nar.rs",
    "disk/protected.rs",
    "disk/resize.rs",
    "disk/resize/dos.rs",
    "disk/resize/gpt.rs",
    "disk/resize/hybrid.rs",
    "disk/resize/record.rs",
    "grub",
    "uki",
    "spec.rs",
    "spec",
    "plan.rs",
    "plan",
    "source/tree.rs",
    "ext4",
    "btrfs",
    "erofs",
    "vfat",
    "swap",
    "verity",
    "diff/boot.rs",
    "diff/disk.rs",
    "diff/files.rs",
    "diff/packages.rs",
    "diff/version.rs",
    "flash/windows.rs",
    "inspect/draw.rs",
    "inspect/html",
    "inspect/report.rs",
    "inspect/report",
    "inspect/size.rs",
    "inspect/text.rs",
    "inspect/treemap.rs",
];
const IMPURE: [&str; 9] =
    ["std::fs", "std::io", "std::process", "std::time", "std::env", "std::thread", "Instant", "rand::", "new_v4"];

fn pure_files() -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = PURE.iter().flat_map(|path| WalkDir::new(source.join(path))).map(|entry| entry.unwrap().into_path());
    // A file of tests is in no program.
    let is_test = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    let is_edge = |path: &Path| is_test(path) || EDGES.iter().any(|edge| path.ends_with(edge));
    files.filter(|path| path.is_file() && !is_edge(path)).collect()
}

fn impurities(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.filter(|line| IMPURE.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn layout_is_pure() {
    let files = pure_files();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let found = impurities(&text);
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[test]
fn impurities_are_seen() {
    assert_eq!(impurities("use std::fs::File;\n// std::io\nlet x = 1;").len(), 1);
    assert_eq!(impurities("#[cfg(test)]\nuse std::fs;").len(), 0);
}

/// Data flows one way: a module uses only those that stand above it in lib.rs.
#[test]
fn no_arrow_runs_back() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(source.join("lib.rs")).unwrap();
    let modules: Vec<_> = lib.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';')).collect();
    let place = |name: &str| modules.iter().position(|module| *module == name);
    let files = WalkDir::new(&source).into_iter().map(|entry| entry.unwrap().into_path());
    let mut arrows = 0;
    for file in files.filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs")) {
        let top = file.strip_prefix(&source).unwrap().iter().next().unwrap().to_str().unwrap();
        let Some(own) = place(top.trim_end_matches(".rs")) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for used in code.split("crate::").skip(1) {
            let name = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let Some(other) = place(name) else { continue };
            assert!(other <= own, "{}: uses {name}, which stands below it in lib.rs", file.display());
            arrows += 1;
        }
    }
    assert!(arrows > 500, "{arrows}");
}
