//! Tests of Limine's files: they must be those that nixpkgs' own limine-install.py wrote for the cases of
//! `tests/fixtures/limine/cases.json`, byte for byte (`tests/fixtures/limine/make-goldens` runs it); and of input that
//! cannot be made into a menu.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::progress::Lines;
use crate::source::boot::links::Store;
use crate::source::boot::merge::Names;
use crate::source::tree::NodeKind;
use crate::spec;
use crate::store::{StoreDir, StoreRoot};

/// Files with their texts, by their paths.
type Files = BTreeMap<String, String>;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/limine").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

struct Host {
    root: TempDir,
    cases: Value,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), cases: fixture("cases.json") };
        for (path, content) in host.cases["files"].as_object().unwrap() {
            let text = content.as_str().or(content["executable"].as_str()).unwrap();
            host.file(path, text);
            let mode = if content.is_string() { 0o444 } else { 0o755 };
            fs::set_permissions(host.path(path), Permissions::from_mode(mode)).unwrap();
        }
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.root.path()).unwrap().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, contents: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), contents).unwrap();
    }

    fn text(&self, key: &str) -> &str {
        self.cases[key].as_str().unwrap()
    }

    /// What the spec says, with the package and the tool of this host.
    fn wanted(&self, limine: &Value) -> Limine {
        let mut limine = limine.clone();
        limine["package"] = self.text("package").into();
        limine["tool"] = self.path(&format!("{}/bin/limine", self.text("package"))).to_str().unwrap().into();
        let spec = json!({
            "version": 1, "toplevel": self.text("toplevel"), "closureInfo": "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-info", "limine": limine,
            "fileSystems": {
                "/": { "device": "/dev/disk/by-label/nixos", "fsType": "ext4" },
                "/boot": { "device": "/dev/disk/by-label/ESP", "fsType": "vfat" },
            },
        });
        spec::parse(&spec.to_string()).unwrap_or_else(|errors| panic!("{errors}")).limine.unwrap()
    }

    /// Every file of the ESP, and the warnings.
    fn lay_out(&self, limine: &Value, bootspec: &Value) -> Result<(Files, Vec<String>), PopulateError> {
        self.file(&format!("{}/boot.json", self.text("toplevel")), &bootspec.to_string());
        let root = StoreRoot::new(StoreDir::new("/nix/store").unwrap(), Some(self.path("")));
        let (scratch, lines) = (tempfile::tempdir().unwrap(), Lines::default());
        let scratch = fs::canonicalize(scratch.path()).unwrap();
        let mut merge = Merge::new(Store(&root), Path::new("/boot"), Names::OfFat);
        let (wanted, toplevel) = (self.wanted(limine), PathBuf::from(self.text("toplevel")));
        add(&mut merge, &wanted, &toplevel, &scratch, &lines, &Cancel::new())?;
        let tree = merge.into_tree()?;
        let files = tree.nodes().filter(|&node| matches!(tree.kind(node), NodeKind::File { .. })).map(|node| {
            let contents = fs::read(tree.source_path(node).unwrap()).unwrap();
            (tree.path(node).display().to_string(), String::from_utf8(contents).unwrap())
        });
        Ok((files.collect(), lines.0.into_inner().unwrap()))
    }

    fn plain(&self) -> Value {
        self.cases["cases"]["plain"]["bootspec"].clone()
    }

    fn error(&self, limine: &Value, change: fn(&mut Value)) -> String {
        let mut bootspec = self.plain();
        change(&mut bootspec);
        self.lay_out(limine, &bootspec).unwrap_err().to_string()
    }
}

/// But for two things: FAT does not tell `efi` from `EFI`; and the image has the program for UEFI at the removable path
/// always.
fn as_in_an_image(golden: &Value) -> Files {
    let mut files = Files::new();
    for (path, text) in golden.as_object().unwrap() {
        let text = text.as_str().unwrap().to_owned();
        let path = path.replace("efi/boot/BOOT", "EFI/BOOT/BOOT").replace("efi/limine/BOOT", "EFI/limine/BOOT");
        if path.starts_with("EFI/") {
            files.insert(path.replace("/limine/", "/BOOT/"), text.clone());
        }
        files.insert(path, text);
    }
    files
}

#[test]
fn menu_and_files_are_those_of_the_installer() {
    let host = Host::new();
    let cases = host.cases["cases"].as_object().unwrap();
    assert!(cases.len() >= 10, "{} cases", cases.len());
    for (name, case) in cases {
        let (files, warnings) = host.lay_out(&case["limine"], &case["bootspec"]).unwrap();
        assert_eq!(files, as_in_an_image(&fixture(&format!("goldens/{name}.json"))), "{name}");
        assert_eq!(warnings, [""; 0], "{name}");
    }
}

#[test]
fn secrets_are_left_out() {
    let (host, mut bootspec) = (Host::new(), Host::new().plain());
    let without = host.lay_out(&json!({}), &bootspec).unwrap().0;
    bootspec["org.nixos.bootspec.v1"]["initrdSecrets"] = "/nix/store/append-secrets".into();
    assert_eq!(host.lay_out(&json!({}), &bootspec).unwrap(), (without, vec![format!("warning: {SECRETS_WARNING}")]));
}

#[test]
fn what_makes_no_menu_is_refused() {
    let host = Host::new();
    let none = &json!({});
    let says = |error: String, words: &str| assert!(error.contains(words), "{error}");
    says(host.error(none, |spec| spec["org.nixos.bootspec.v1"] = json!({})), "it must be a bootspec of version 1");
    says(host.error(none, |spec| spec["org.nixos.bootspec.v1"]["label"] = "a\nb".into()), "more than one line");
    says(
        host.error(none, |spec| spec["org.nixos.bootspec.v1"]["kernelParams"] = json!(["a\rb"])),
        "more than one line",
    );
    says(host.error(none, |spec| spec["org.nixos.bootspec.v1"]["system"] = "mips-linux".into()), "no Limine for mips");
    says(host.error(none, |spec| spec["org.xenproject.bootspec.v2"] = json!({ "version": "4.19" })), "under Xen");
    fs::remove_file(host.path(&format!("{}/share/limine/BOOTX64.EFI", host.text("package")))).unwrap();
    says(host.error(none, |_| ()), "share/limine/BOOTX64.EFI is not there");
    fs::remove_file(host.path(&format!("{}/boot.json", host.text("toplevel")))).unwrap();
    let tool = host.path(&format!("{}/bin/limine", host.text("package")));
    fs::write(&tool, "#!/bin/sh\nexec >&2; echo one; echo two; exit 3\n").unwrap();
    host.file(&format!("{}/share/limine/BOOTX64.EFI", host.text("package")), "program");
    let enroll = &json!({ "enrollConfig": true });
    says(host.error(enroll, |_| ()), "limine enroll-config: exit status: 3: one; two; look at limine.tool");
    fs::remove_file(tool).unwrap();
    says(host.error(enroll, |_| ()), "cannot be run");
}
