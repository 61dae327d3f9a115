//! The menus of GRUB that the unit tests compare ours with: still what nixpkgs' script writes, and what GRUB reads. And
//! what that script says to a whole image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::grub_embedding::{mkimage, need_target};
use crate::support::image::{Built, run as run_ours, sane_image};
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
    let Some(nixpkgs) = need_script() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("goldens");
    run(tool(fixtures().join("make-goldens").to_str().unwrap()).arg(&out).env("NIXPKGS", nixpkgs));
    let [written, kept] = [out, fixtures().join("goldens")].map(|directory| texts(&directory));
    assert_eq!(written, kept);
}

fn need_script() -> Option<std::ffi::OsString> {
    let nixpkgs = std::env::var_os("NIXPKGS")?;
    let programs = ["unshare", "mount", "chroot", "python3", "perl"];
    (need_root() && programs.into_iter().all(need) && has_modules()).then_some(nixpkgs)
}

/// The closure of a case: its whole store, without true hashes.
fn write_store(root: &Path, files: &Value) {
    let mut paths = BTreeSet::new();
    for (path, contents) in files.as_object().unwrap() {
        let at = root.join("nix/store").join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match (contents.as_str(), contents["to"].as_str(), contents["executable"].as_str()) {
            (Some(text), ..) => fs::write(at, text).unwrap(),
            (_, Some(target), _) => symlink(target, at).unwrap(),
            (.., text) => {
                fs::write(&at, text.unwrap()).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(0o555)).unwrap();
            }
        }
        paths.insert(format!("/nix/store/{}", path.split('/').next().unwrap()));
    }
    let record = |path: &String| format!("{path}\nsha256:{}\n1\n\n0\n", "0".repeat(52));
    let all = |line: &dyn Fn(&String) -> String| paths.iter().map(line).collect::<String>();
    fs::write(root.join("store-paths"), all(&|path| format!("{path}\n"))).unwrap();
    fs::write(root.join("registration"), all(&record)).unwrap();
}

/// The spec of a host with GRUB as a case has it, for a BIOS besides.
fn spec(case: &Value, closure_info: &Path) -> Value {
    let (boot, store) = (&case["boot"], &case["store"]);
    let mount = |place: &Value| {
        let subvolume = place["subvolume"].as_str().filter(|subvolume| !subvolume.is_empty());
        let options: Vec<_> = subvolume.iter().map(|subvolume| format!("subvol={subvolume}")).collect();
        json!({ "device": place["device"], "fsType": place["fs"], "options": options })
    };
    let has_esp = boot["fs"] == "vfat";
    let mut file_systems = json!({ "/": mount(if has_esp { store } else { boot }) });
    if has_esp {
        file_systems["/boot"] = mount(boot);
    }
    if boot["subvolume"] != store["subvolume"] {
        file_systems[store["mount"].as_str().unwrap()] = mount(store);
    }
    let mut grub = case["grub"].clone();
    grub["mkimage"] = json!(mkimage());
    grub["bios"] = json!("/usr/lib/grub/i386-pc");
    json!({
        "version": 1, "closureInfo": closure_info, "bootPartSize": 64 << 20, "nixFreeSpace": 1 << 20,
        "toplevel": format!("/nix/store/{}", case["toplevel"].as_str().unwrap()),
        "fileSystems": file_systems, "efiSysMountPoint": has_esp.then_some("/boot"), "grub": grub,
    })
}

/// The first `nixos-rebuild switch` on a machine that was flashed finds all as it is to be, and installs nothing.
#[test]
fn nixpkgs_script_changes_nothing_in_an_image() {
    let Some(nixpkgs) = need_script().filter(|_| need("grub-mkimage") && need_target("i386-pc", "grub-pc-bin")) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let trees = directory.path().join("trees");
    let cases: Value = serde_json::from_slice(&fs::read(fixtures().join("cases.json")).unwrap()).unwrap();
    write_store(directory.path(), &cases["store"]);
    for name in ["esp", "same-ext4", "same-ext4-copied", "btrfs-subvolumes", "users-saved", "theme"] {
        let path = directory.path().join("spec.json");
        fs::write(&path, spec(&cases["cases"][name], directory.path()).to_string()).unwrap();
        let built = Built::from_spec(&path, directory.path(), &[]);
        let case = &cases["cases"][name]["boot"];
        let part = if case["fs"] == "vfat" { "boot" } else { "nix" };
        let place = case["path"].as_str().unwrap().trim_start_matches('/');
        let out = built.scratch().join("extracted");
        let mut extract = sane_image();
        extract.arg("extract").arg("--out").arg(&out).arg(&built.image).args([part, &format!("/{place}")]);
        run_ours(&mut extract).expect_success();
        fs::create_dir_all(&trees).unwrap();
        run(tool("cp").arg("-rT").args([out.join(place), trees.join(name)]));
    }
    let over = |trees: &Path| {
        let script = fixtures().join("make-goldens");
        tool(script.to_str().unwrap()).arg("--over").arg(trees).env("NIXPKGS", &nixpkgs).output().unwrap()
    };
    let output = over(&trees);
    assert!(output.status.success(), "{}", text(&output));
    // What it would change is seen.
    let state = trees.join("theme/grub/state");
    fs::write(&state, fs::read_to_string(&state).unwrap().replace("/dev/", "/dev/other")).unwrap();
    let output = over(&trees);
    assert!(!output.status.success() && text(&output).contains("theme: "), "{}", text(&output));
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
