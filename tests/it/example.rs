//! The example closure of the repository: true as it lies there, and what the README's first command makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::image::Built;
use crate::support::mount::{Access, Mount};
use crate::support::nar::{NarHash, STORE_DIR, source_path};
use crate::support::oracle;
use crate::support::tool::{need, run, tool};
use crate::support::tree::{Contents, Entry, Host};
use crate::support::walk::Expected;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/example")
}

/// The example as it lies in the repository.
struct Example {
    spec: Value,
    /// All that is in its store, by base name.
    store: BTreeMap<String, Entry>,
}

impl Example {
    fn read() -> Self {
        let spec = serde_json::from_slice(&fs::read(example().join("spec.json")).unwrap()).unwrap();
        let Entry::Dir(store) = Entry::read(&example().join("nix/store")).unwrap() else { unreachable!() };
        let store = store.into_iter().map(|(name, tree)| (String::from_utf8(name).unwrap(), tree)).collect();
        Self { spec, store }
    }

    /// The text of one of the files of closureInfo.
    fn closure_info(&self, file: &str) -> String {
        let info = self.spec["closureInfo"].as_str().unwrap().trim_start_matches('/');
        fs::read_to_string(example().join(info).join(file)).unwrap()
    }

    fn closure(&self) -> Vec<(&str, &Entry)> {
        let mut closure = Vec::new();
        for path in self.closure_info("store-paths").lines() {
            let (name, tree) = self.store.get_key_value(path.strip_prefix("/nix/store/").unwrap()).unwrap();
            closure.push((name.as_str(), tree));
        }
        closure
    }

    /// The full paths of all whose hash parts occur in the contents or the links of `tree`, sorted.
    fn references(&self, tree: &Entry) -> Vec<String> {
        let text = all_bytes(tree);
        let names = self.store.keys().filter(|name| contains(&text, &name.as_bytes()[..32]));
        names.map(|name| format!("{STORE_DIR}/{name}")).collect()
    }
}

fn all_bytes(tree: &Entry) -> Vec<u8> {
    match tree {
        Entry::Dir(entries) => entries.values().flat_map(all_bytes).collect(),
        Entry::Symlink(target) => [target, &b"\0"[..]].concat(),
        Entry::File { contents: Contents::Bytes(bytes), .. } => [bytes, &b"\0"[..]].concat(),
        Entry::File { .. } => unreachable!("Entry::read gives bytes"),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn names_are_true() {
    let example = Example::read();
    for (name, tree) in &example.store {
        let path = source_path(&name[33..], &NarHash::of(tree), &example.references(tree));
        assert_eq!(path, format!("{STORE_DIR}/{name}"));
    }
}

#[test]
fn registration_is_true() {
    let example = Example::read();
    let mut registration = String::new();
    let mut total = 0;
    for (name, tree) in example.closure() {
        let (hash, references) = (NarHash::of(tree), example.references(tree));
        total += hash.size;
        registration.push_str(&format!("{STORE_DIR}/{name}\nsha256:{}\n{}\n\n", hash.base32(), hash.size));
        registration.push_str(&format!("{}\n", references.len()));
        references.iter().for_each(|reference| registration.push_str(&format!("{reference}\n")));
    }
    assert_eq!(example.closure_info("registration"), registration);
    assert_eq!(example.closure_info("total-nar-size"), format!("{total}\n"));
    let paths = example.closure_info("store-paths");
    assert!(paths.lines().is_sorted());
    assert!(paths.lines().any(|path| path == example.spec["toplevel"]));
}

#[test]
fn nix_agrees() {
    let example = Example::read();
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    let trees = example.store.iter().map(|(name, tree)| (name.as_str(), tree));
    Host::CANONICAL.write_all(&store, trees).unwrap();
    let registration = root.path().join("registration");
    fs::write(&registration, example.closure_info("registration")).unwrap();
    oracle::nix_store(root.path(), &registration).expect_clean();
}

#[test]
fn generator_makes_the_same() {
    if !need("python3") {
        return;
    }
    let target = tempfile::tempdir().unwrap();
    run(tool("python3").arg(example().with_file_name("make-example")).arg(target.path()));
    assert_eq!(Entry::read(target.path()).unwrap(), Entry::read(&example()).unwrap());
}

#[test]
fn image_is_sound() {
    let built = build();
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::fdisk(&built.image, 512).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
}

#[test]
fn store_is_the_closure() {
    let example = Example::read();
    let built = build();
    let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) else { return };
    Expected::ext4()
        .directory("var/log")
        .directory("home")
        .registration(&example.closure_info("registration"))
        .store("nix/store", example.closure())
        .assert_equals(mount.path());
}

#[test]
fn boot_partition_boots_the_toplevel() {
    let example = Example::read();
    let built = build();
    let Some(files) = oracle::fat_files(&built.image, built.boot()) else { return };
    let text = |path: &Path| String::from_utf8(files[path].clone()).unwrap();
    let conf = text(Path::new("extlinux/extlinux.conf"));
    let toplevel = example.spec["toplevel"].as_str().unwrap();
    assert!(conf.contains(&format!("APPEND init={toplevel}/init console=ttyS0,115200 loglevel=4\n")), "{conf}");
    for (key, contents) in [
        ("LINUX", "Not a kernel: a few bytes in its place.\n"),
        ("INITRD", "Not an initrd: a few bytes in its place.\n"),
    ] {
        let line = conf.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        assert_eq!(text(Path::new(line.trim().strip_prefix("../").unwrap())), contents);
    }
    assert_eq!(files.len(), 3, "{:?}", files.keys());
}

#[test]
fn identities_are_those_of_the_spec() {
    let built = build();
    if let Some(said) = oracle::dumpe2fs(&built.image, built.nix()).expect_clean() {
        assert!(said.contains("3f1e6c52-8a0b-4d43-9a57-0c7de2b6f481"), "{said}");
    }
}

/// The same bytes on every machine: a change of either golden is a change of every user's images.
#[test]
fn image_is_the_golden_one() {
    let built = build();
    let layout = fs::read_to_string(built.image.with_file_name("layout.json")).unwrap();
    assert_eq!(layout, include_str!("../fixtures/example.layout.json"));
    let digest = Sha256::digest(fs::read(&built.image).unwrap());
    assert_eq!(format!("{digest:x}"), "f479ea271c5fae5e2141d50e0b2df35a69b34bbd2f432a845b29218fa4c8b214");
}

fn build() -> Built {
    Built::from_spec(&example().join("spec.json"), &example(), &[])
}
