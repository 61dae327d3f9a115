//! Unified kernel images that the program makes: as ukify makes them, and as systemd's tools and `inspect` see them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::judge;
use crate::support::image::{Built, build_command, run};
use crate::support::oracle;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run as run_tool, tool};
use crate::systemd_boot::{bootctl_list, closure, inspected, unpacked_from, with_xbootldr};

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const RELEASE: &str = "ID=nixos\nIMAGE_ID=box\nIMAGE_VERSION=7\nPRETTY_NAME=\"NixOS 26.05\"\n";
const LINE: &str = "init=/nix/store/x/init console=ttyS0";
const ALONE: &str = "EFI/BOOT/BOOTX64.EFI";

/// What a unified kernel image is made of, in a directory of the machine that builds.
struct Inputs(tempfile::TempDir);

impl Inputs {
    /// With systemd's own stub, or `None` where that is not here, which has been told.
    fn new() -> Option<Self> {
        if !Path::new(STUB).exists() {
            skip(Lack::other("no linuxx64.efi.stub (systemd-boot-efi)"));
            return None;
        }
        let inputs = Self(tempfile::tempdir().unwrap());
        let initrd: Vec<u8> = (0..70_001_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        fs::copy(STUB, inputs.path("stub")).unwrap();
        fs::write(inputs.path("linux"), "no kernel, but as long as one".repeat(1000)).unwrap();
        fs::write(inputs.path("initrd"), initrd).unwrap();
        fs::write(inputs.path("os-release"), RELEASE).unwrap();
        Some(inputs)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn uki(&self) -> Value {
        json!({
            "stub": self.path("stub"), "kernel": self.path("linux"), "initrd": self.path("initrd"), "cmdline": LINE,
            "osRelease": self.path("os-release"), "uname": "6.18.1", "fileName": "box_7.efi",
        })
    }
}

/// A file of a partition.
fn file(built: &Built, role: &str, path: &str) -> Option<Vec<u8>> {
    let mut files = oracle::fat_files(&built.image, built.partition(role))?;
    Some(files.remove(Path::new(path)).unwrap_or_else(|| panic!("no {path} in {:?}", files.keys())))
}

#[test]
fn it_is_what_ukify_makes() {
    let Some(inputs) = Inputs::new() else { return };
    let uki = inputs.uki();
    let closure = closure(move |spec| {
        spec["systemdBoot"] = Value::Null;
        spec["uki"] = uki;
    });
    let built = Built::new(&closure, &["--verify"]);
    judge::judge(&closure, &built);
    let Some(ours) = file(&built, "boot", ALONE) else { return };
    // Nobody would start a second one.
    assert!(oracle::fat_files(&built.image, built.boot()).unwrap().keys().all(|path| !path.starts_with("EFI/Linux")));
    let ours_at = built.scratch().join("ours.efi");
    fs::write(&ours_at, &ours).unwrap();

    if need("objcopy") && need("objdump") {
        let table = String::from_utf8(run_tool(tool("objdump").arg("-h").arg(&ours_at))).unwrap();
        assert_eq!(table.matches("CONTENTS, ALLOC, LOAD").count(), 8 + 5, "{table}");
        for (name, wanted) in [
            (".linux", fs::read(inputs.path("linux")).unwrap()),
            (".initrd", fs::read(inputs.path("initrd")).unwrap()),
            (".osrel", RELEASE.into()),
            (".cmdline", LINE.into()),
            (".uname", "6.18.1".into()),
        ] {
            let section = built.scratch().join("section");
            let only = format!("--only-section={name}");
            run_tool(tool("objcopy").args(["-O", "binary", &only]).args([&ours_at, &section]));
            assert!(fs::read(&section).unwrap() == wanted, "{name}");
        }
    }

    if !need_ukify() {
        return;
    }
    let theirs = built.scratch().join("theirs.efi");
    let mut ukify = tool("ukify");
    let named = |option: &str, name: &str| format!("--{option}={}", inputs.path(name).display());
    ukify.args(["build", "--uname=6.18.1"]).arg(format!("--cmdline={LINE}"));
    ukify.args([named("stub", "stub"), named("linux", "linux"), named("initrd", "initrd")]);
    ukify.arg(format!("--os-release=@{}", inputs.path("os-release").display()));
    run_tool(ukify.arg(format!("--output={}", theirs.display())));
    let theirs = fs::read(theirs).unwrap();
    let first = theirs.iter().zip(&ours).position(|(a, b)| a != b);
    assert_eq!((first, theirs.len()), (None, ours.len()));
    let seen = String::from_utf8(run_tool(tool("ukify").arg("inspect").arg(&ours_at))).unwrap();
    assert!(seen.contains(LINE) && seen.contains("uki,1,UKI,uki,1,"), "{seen}");
}

/// Whether ukify is here. Debian 12 has no package of it.
fn need_ukify() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("ukify").is_file());
    found || skip(Lack::Unpackaged("ukify".to_owned()))
}

/// It is known before the store is written, or while that is.
#[test]
fn the_root_hash_is_in_its_command_line() {
    let Some(inputs) = Inputs::new() else { return };
    for fs_type in ["ext4", "erofs", "btrfs"] {
        let uki = inputs.uki();
        let closure = closure(move |spec| {
            spec["systemdBoot"] = Value::Null;
            spec["uki"] = uki;
            spec["verity"] = json!({ "architecture": "x86-64" });
            spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
            spec["fileSystems"]["/nix/store"] =
                json!({ "device": "/dev/mapper/usr", "fsType": fs_type, "options": ["ro"] });
        });
        let built = Built::new(&closure, &["--verify"]);
        let root = built.layout["partitions"].as_array().unwrap().last().unwrap()["verity"]["rootHash"].as_str();
        let options = format!("{LINE} usrhash={}", root.unwrap());
        assert_eq!(inspected(&built.image)["entries"][0]["options"], options, "{fs_type}");
        let out = built.scratch().join("alone");
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--format", "qcow2"])).expect_success();
        assert_eq!(inspected(&out.join("nixos.qcow2"))["entries"][0]["options"], options, "{fs_type}");
    }
}

/// systemd-stub of some versions hangs at a command line of nothing.
#[test]
fn what_is_empty_has_no_section() {
    let Some(inputs) = Inputs::new() else { return };
    let mut uki = inputs.uki();
    uki["cmdline"] = json!("");
    let closure = closure(move |spec| {
        spec["systemdBoot"] = Value::Null;
        spec["uki"] = uki;
    });
    let built = Built::new(&closure, &[]);
    let Some(ours) = file(&built, "boot", ALONE) else { return };
    let headers = &ours[..1024];
    let has = |name: &[u8]| headers.windows(name.len()).any(|window| window == name);
    assert!(has(b".osrel\0\0") && has(b".linux\0\0") && !has(b".cmdline"));
}

/// systemd-boot has no entries of its own, and the image is the default.
#[test]
fn bootctl_and_inspect_see_it_on_xbootldr() {
    let Some(inputs) = Inputs::new() else { return };
    let mut uki = inputs.uki();
    uki["tries"] = 3.into();
    let built = Built::new(
        &with_xbootldr("/boot", |spec| {
            spec["uki"] = uki;
            spec["bootPartSize"] = (64 << 20).into();
        }),
        &["--verify"],
    );
    assert!(built.run.stderr.contains("specialisation calm has no entry"), "{}", built.run.stderr);
    let boot = inspected(&built.image);
    let entries = boot["entries"].as_array().unwrap();
    let [entry] = entries.as_slice() else { panic!("{boot:#}") };
    let wanted = json!({
        "loader": "uki", "id": "box_7.efi", "title": "NixOS 26.05", "version": "7", "triesLeft": 3, "default": true,
        "options": LINE,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&entry[key], value, "{key} of {entry:#}");
    }
    assert_eq!(entry["kernel"]["found"]["path"], "EFI/Linux/box_7+3.efi");
    assert_eq!(entry["kernel"]["found"]["partition"], 2);
    assert_eq!(boot["configurations"][0]["default"], Value::Null);

    let esp = unpacked_from(&built, built.boot());
    let Some((esp, extended)) = esp.zip(unpacked_from(&built, built.partition("xbootldr"))) else { return };
    assert!(!esp.path().join("EFI/Linux").exists());
    let Some(listed) = bootctl_list(&[esp.path(), extended.path()]) else { return };
    let entries: Vec<_> = listed.split("\n\n").filter(|entry| entry.contains("Boot Loader Specification")).collect();
    let [entry] = entries.as_slice() else { panic!("{listed}") };
    for wanted in ["Specification Type #2", "NixOS 26.05 (default)", "version: 7", LINE, "box_7+3.efi"] {
        assert!(entry.contains(wanted), "{wanted}: {entry}");
    }
}

/// The newest version boots, unless its tries are used up: as systemd-boot chooses.
#[test]
fn of_two_versions_the_newer_boots() {
    let Some(inputs) = Inputs::new() else { return };
    let release = |version| RELEASE.replace("IMAGE_VERSION=7", &format!("IMAGE_VERSION={version}"));
    let one = |version: u32, tries: Option<u8>| {
        fs::write(inputs.path("os-release"), release(version)).unwrap();
        let mut uki = inputs.uki();
        uki["tries"] = tries.into();
        uki["fileName"] = format!("box_{version}.efi").into();
        let built = Built::new(
            &closure(move |spec| {
                spec["systemdBoot"] = Value::Null;
                spec["uki"] = uki;
            }),
            &[],
        );
        file(&built, "boot", ALONE)
    };
    let Some((old, new)) = one(9, None).zip(one(10, Some(3))) else { return };
    for (names, chosen) in
        [(["box_9.efi", "box_10+3.efi"], "box_10.efi"), (["box_9.efi", "box_10+0-3.efi"], "box_9.efi")]
    {
        let esp = tempfile::tempdir().unwrap();
        fs::create_dir_all(esp.path().join("EFI/Linux")).unwrap();
        fs::create_dir_all(esp.path().join("loader")).unwrap();
        fs::write(esp.path().join("loader/loader.conf"), "timeout 5\n").unwrap();
        for (name, contents) in names.iter().zip([&old, &new]) {
            fs::write(esp.path().join("EFI/Linux").join(name), contents).unwrap();
        }
        let Some(image) = crate::support::foreign::mkfs_fat(esp.path(), "32") else { return };
        let boot = inspected(image.path());
        let ours = boot["entries"].as_array().unwrap().iter().find(|entry| entry["default"] == true).unwrap();
        assert_eq!(ours["id"], chosen);
        let Some(listed) = bootctl_list(&[esp.path()]) else { return };
        let theirs = listed.split("\n\n").find(|entry| entry.contains("(default)")).unwrap();
        assert!(theirs.contains(&format!("id: {chosen}\n")), "{theirs}");
    }
}

#[test]
fn what_cannot_be_made_is_told_and_leaves_nothing() {
    let Some(inputs) = Inputs::new() else { return };
    let refused = |change: &dyn Fn(&mut Value), wanted: &[&str]| {
        let mut uki = inputs.uki();
        change(&mut uki);
        let closure = closure(move |spec| spec["uki"] = uki);
        let out = closure.root().join("out");
        let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[]));
        let is_told = wanted.iter().any(|wanted| failed.stderr.contains(wanted));
        assert!(!failed.status.success() && is_told, "{wanted:?}: {}", failed.stderr);
        assert!(!out.exists());
    };
    let stub = fs::read(STUB).unwrap();
    fs::write(inputs.path("cut"), &stub[..stub.len() / 2]).unwrap();
    refused(&|uki| uki["stub"] = json!(inputs.path("cut")), &["it is cut off"]);
    refused(&|uki| uki["stub"] = json!(inputs.path("linux")), &["is no program for UEFI"]);
    refused(&|uki| uki["initrd"] = "/nonexistent".into(), &["/nonexistent: cannot be read"]);
    refused(&|uki| uki["fileName"] = "x".into(), &["uki.fileName: \"x\" does not end in \".efi\""]);
    let room = |uki: &mut Value| uki["deviceTree"] = json!(inputs.path("os-release"));
    let mut full = stub.clone();
    // As if the headers ended right after those of its own sections.
    let pe = usize::try_from(u32::from_le_bytes(full[0x3c..0x40].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_le_bytes(full[pe + 6..pe + 8].try_into().unwrap()));
    let table = pe + 24 + usize::from(u16::from_le_bytes(full[pe + 20..pe + 22].try_into().unwrap()));
    let end = u32::try_from(table + 40 * (count + 2)).unwrap();
    full[pe + 24 + 60..pe + 24 + 64].copy_from_slice(&end.to_le_bytes());
    fs::write(inputs.path("full"), full).unwrap();
    let full = |uki: &mut Value| {
        room(uki);
        uki["stub"] = json!(inputs.path("full"));
    };
    // One more of each where the SBAT of the stub has to move behind it, as that of systemd 252.
    let counts = [(2, 6), (3, 7)];
    let wanted = counts
        .map(|(room, needed)| format!("has room for the headers of {room} more sections, but {needed} are needed"));
    refused(&full, &wanted.each_ref().map(String::as_str));
}
