//! What nixpkgs' own install-grub.pl wrote for the cases of `tests/fixtures/grub/cases.json`, byte for byte.
//!
//! `tests/fixtures/grub/make-goldens` runs it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::host::{Files, Host, grub};
use crate::source::boot::grub::Place;
use crate::spec::FsType;

/// What the installer writes without any generation to list. GRUB takes it for a syntax error.
const EMPTY_SUBMENU: &str = "submenu \"NixOS - All configurations\" --class submenu {\n}\n";
/// What the installer does not write itself.
const INSTALLED: [&str; 3] = ["grub/grubenv", "grub/grub.cfg", "grub/state"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/grub").join(name)
}

fn host(store: &Value) -> Host {
    let host = Host::empty();
    for (path, content) in store.as_object().unwrap() {
        let path = format!("/nix/store/{path}");
        match content {
            Value::String(text) => host.file(&path, text),
            content if content["to"].is_string() => host.link(&path, content["to"].as_str().unwrap()),
            content => host.executable(&path, content["executable"].as_str().unwrap()),
        }
    }
    host
}

fn place(value: &Value) -> Place {
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let fs = match text("fs").as_str() {
        "vfat" => FsType::Vfat,
        "ext4" => FsType::Ext4,
        _ => FsType::Btrfs,
    };
    let number = value["number"].as_u64().unwrap().try_into().unwrap();
    let [uuid, label, device] = ["uuid", "label", "device"].map(text);
    Place { number, fs, uuid, label, device, path: text("path"), subvolume: text("subvolume") }
}

fn list(files: &Files) -> String {
    let own = files.iter().filter(|(path, _)| !INSTALLED.contains(&path.as_str()));
    let line = |(path, contents): (&String, &Vec<u8>)| {
        let digest: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest} {path}\n")
    };
    own.map(line).collect()
}

#[test]
fn menu_state_and_files_are_those_of_the_installer() {
    let cases: Value = serde_json::from_str(&fs::read_to_string(fixture("cases.json")).unwrap()).unwrap();
    let host = host(&cases["store"]);
    let cases = cases["cases"].as_object().unwrap();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for (name, case) in cases {
        let golden = |file: &str| fs::read_to_string(fixture("goldens").join(name).join(file)).unwrap();
        let [boot, store] = ["boot", "store"].map(|key| place(&case[key]));
        let toplevel = format!("/nix/store/{}", case["toplevel"].as_str().unwrap());
        let laid_out = host.lay_out_as(&grub(case["grub"].clone()), &toplevel, [&boot, &store], false);
        let laid_out = laid_out.unwrap_or_else(|error| panic!("{name}: {error}"));
        let config = golden("grub.cfg");
        let config = config.strip_suffix(EMPTY_SUBMENU).unwrap_or(&config);
        assert_eq!(laid_out.text("grub/grub.cfg"), config, "{name}");
        assert_eq!(laid_out.text("grub/state"), golden("state"), "{name}");
        assert_eq!(list(&laid_out.boot), golden("files"), "{name}");
    }
}
