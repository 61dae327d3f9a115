//! systemd-boot on the ESP, as systemd's own bootctl sees it and as `inspect` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::Entry;

const SYSTEM: &str = "nixos-system-test-26.05";
const SPECIALISATION: &str = "calm";

/// A system with a specialisation, and systemd-boot from a systemd of its own.
fn closure(change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let loader = Entry::dir([("systemd-bootx64.efi", Entry::file("MZ"))]);
    let loader = ["efi", "boot", "systemd", "lib"].iter().fold(loader, |inner, name| Entry::dir([(name, inner)]));
    let builder = ClosureBuilder::new()
        .path("systemd-259", loader)
        .path("linux-6.12", Entry::dir([("bzImage", Entry::file("a kernel"))]))
        .path("initrd-linux-6.12", Entry::dir([("initrd", Entry::file("an initrd"))]));
    let [kernel, initrd, systemd] =
        ["linux-6.12", "initrd-linux-6.12", "systemd-259"].map(|name| builder.store_path(name).to_owned());
    let document = move |path: &str, label: &str| {
        json!({
            "org.nixos.bootspec.v1": {
                "init": format!("{path}/init"), "kernel": format!("{kernel}/bzImage"), "initrd": format!("{initrd}/initrd"),
                "kernelParams": ["loglevel=4"], "label": label, "system": "x86_64-linux", "toplevel": path,
            },
            "org.nixos.specialisation.v1": {},
            "org.nixos.systemd-boot": { "sortKey": "nixos" },
        })
    };
    let toplevel = |boot: Value| {
        Entry::dir([("boot.json", Entry::file(boot.to_string())), ("init", Entry::executable("#!/bin/sh\n"))])
    };
    let references = ["linux-6.12", "initrd-linux-6.12"];
    let name = format!("{SYSTEM}-{SPECIALISATION}");
    let builder = builder.derived(&name, |path| toplevel(document(path, "a calm test")), &references);
    let specialisation = builder.store_path(&name).to_owned();
    let system = |path: &str| {
        let mut boot = document(path, "a test");
        boot["org.nixos.specialisation.v1"] = json!({ SPECIALISATION: document(&specialisation, "a calm test") });
        toplevel(boot)
    };
    let builder = builder.derived(SYSTEM, system, &[&references[..], &[name.as_str()]].concat()).toplevel(SYSTEM);
    builder
        .spec(move |spec| {
            spec["systemdBoot"] = json!({ "efiStub": format!("{systemd}/lib/systemd/boot/efi") });
            change(spec);
        })
        .write()
}

/// What `inspect` says of booting an image.
fn inspected(image: &Path) -> Value {
    let run = run(sane_image().args(["inspect", "--json"]).arg(image));
    serde_json::from_str::<Value>(&run.stdout).unwrap()["boot"].clone()
}

/// An entry's title, id, options, kernel and initrd, and whether it is the default.
type Seen = BTreeSet<([String; 5], bool)>;

/// The entries of an ESP that was unpacked to `directory`, by systemd's own tool, or `None` where it is not here.
fn bootctl(directory: &Path) -> Option<Seen> {
    if !need_root() || !need("bootctl") {
        return None;
    }
    // It takes no directory for an ESP that is not mounted.
    let script = "mount --bind \"$0\" \"$0\" && exec bootctl --esp-path=\"$0\" --no-pager list";
    let listed = run_tool(
        tool("unshare").env("SYSTEMD_RELAX_ESP_CHECKS", "1").args(["--mount", "sh", "-euc", script]).arg(directory),
    );
    let listed = String::from_utf8(listed).unwrap();
    // Other types are the loader's own.
    let entries = listed.split("\n\n").filter(|entry| entry.contains("Specification Type #1"));
    let seen = entries.map(|entry| {
        let fields: BTreeMap<_, _> =
            entry.lines().filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.trim(), value)).collect();
        let is_default = fields["title"].contains(" (default)");
        let title = fields["title"].replace(" (default)", "").replace(" (not reported/new)", "");
        let texts = ["id", "options", "linux", "initrd"].map(|key| fields[key].to_owned());
        let [id, options, kernel, initrd] = texts;
        ([title, id, options, kernel, initrd], is_default)
    });
    Some(seen.collect())
}

/// The files of the ESP as a directory, or `None` without mtools.
fn unpacked(built: &Built) -> Option<tempfile::TempDir> {
    let files = oracle::fat_files(&built.image, built.boot())?;
    let directory = tempfile::tempdir().unwrap();
    for (path, contents) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    Some(directory)
}

fn seen_by_inspect(boot: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = boot["entries"].as_array().unwrap().iter();
    let seen = entries.map(|entry| {
        let (kernel, initrd) = (&entry["kernel"]["path"], &entry["initrds"][0]["path"]);
        let texts = [&entry["title"], &entry["id"], &entry["options"], kernel, initrd].map(text);
        (texts, entry["default"] == true)
    });
    seen.collect()
}

#[test]
fn bootctl_and_inspect_agree_on_what_boots() {
    let closure = closure(|_| {});
    let built = Built::new(&closure, &["--verify"]);
    judge::judge(&closure, &built);
    let boot = inspected(&built.image);
    let seen = seen_by_inspect(&boot);
    assert_eq!(seen.len(), 2);
    let default: Vec<_> = seen.iter().filter(|(_, default)| *default).collect();
    let init = format!("init={}/init loglevel=4", closure.toplevel);
    assert!(
        matches!(default.as_slice(), [([title, _, options, ..], _)] if title == "NixOS" && *options == init),
        "{seen:#?}"
    );
    assert_eq!(boot["firmware"][0]["path"], "EFI/BOOT/BOOTX64.EFI");

    let Some(esp) = unpacked(&built) else { return };
    if let Some(listed) = bootctl(esp.path()) {
        assert_eq!(listed, seen);
    }
}

/// That bootctl and `inspect` are no oracles that praise everything.
#[test]
fn a_broken_esp_is_seen_by_both() {
    let built = Built::new(&closure(|_| {}), &[]);
    if !need("mdel") {
        return;
    }
    let drive = format!("{}@@{}", built.image.display(), built.boot().offset);
    run_tool(tool("mdel").args(["-i", &drive, "::/EFI/nixos/*bzImage.efi"]));
    let inspected = run(sane_image().arg("inspect").arg(&built.image));
    assert_eq!(inspected.stdout.matches("bzImage.efi MISSING").count(), 2, "{}", inspected.stdout);

    let Some(esp) = unpacked(&built) else { return };
    let Some(listed) = bootctl(esp.path()) else { return };
    let missing =
        |([_, _, _, kernel, _], _): &([String; 5], bool)| kernel.ends_with("bzImage.efi (No such file or directory)");
    assert!(listed.len() == 2 && listed.iter().all(missing), "{listed:#?}");
}

#[test]
fn what_is_not_there_is_named_and_nothing_is_left() {
    let refused = |change: fn(&mut Value), wanted: &str| {
        let closure = closure(change);
        let out = closure.root().join("out");
        let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[]));
        assert!(!failed.status.success() && failed.stderr.contains(wanted), "{wanted}: {}", failed.stderr);
        assert!(!out.exists());
    };
    refused(|spec| spec["systemdBoot"]["efiStub"] = "/nonexistent".into(), "/nonexistent: cannot be read");
    let own_entry = |spec: &mut Value| {
        let loader = format!("{}/systemd-bootx64.efi", spec["systemdBoot"]["efiStub"].as_str().unwrap());
        spec["systemdBoot"]["extraFiles"] = json!({ "loader/loader.conf": loader });
    };
    refused(own_entry, "/boot/loader/loader.conf: comes from");
    refused(|spec| spec["systemdBoot"]["deviceTree"] = "/nonexistent.dtb".into(), "/nonexistent.dtb: cannot be read");
}
