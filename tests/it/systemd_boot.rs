//! systemd-boot on the ESP, as systemd's own bootctl sees it and as `inspect` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::foreign;
use crate::support::image::{Built, Partition, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::Entry;

const SYSTEM: &str = "nixos-system-test-26.05";
const SPECIALISATION: &str = "calm";

/// A system with a specialisation, and systemd-boot from a systemd of its own.
pub(crate) fn closure(change: impl FnOnce(&mut Value) + 'static) -> Closure {
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
pub(crate) fn inspected(image: &Path) -> Value {
    let run = run(sane_image().args(["inspect", "--json"]).arg(image));
    serde_json::from_str::<Value>(&run.stdout).unwrap()["boot"].clone()
}

/// An entry's title, id, options, kernel and initrd, and whether it is the default.
type Seen = BTreeSet<([String; 5], bool)>;

/// What systemd's own tool lists of an ESP, and perhaps an extended boot loader partition, that were unpacked to
/// `directories`, or `None` where it is not here.
pub(crate) fn bootctl_list(directories: &[&Path]) -> Option<String> {
    if !need_root() || !need("bootctl") {
        return None;
    }
    // It takes no directory for an ESP that is not mounted.
    let script = "for d in \"$@\"; do mount --bind \"$d\" \"$d\"; done; \
                  exec bootctl --esp-path=\"$1\" ${2:+--boot-path=\"$2\"} --no-pager list";
    let mut unshare = tool("unshare");
    unshare.env("SYSTEMD_RELAX_ESP_CHECKS", "1").env("SYSTEMD_RELAX_XBOOTLDR_CHECKS", "1");
    unshare.args(["--mount", "sh", "-euc", script, "sh"]).args(directories);
    Some(String::from_utf8(run_tool(&mut unshare)).unwrap())
}

/// The entries of an ESP that was unpacked to `directory`, by systemd's own tool, or `None` where it is not here.
fn bootctl(directory: &Path) -> Option<Seen> {
    let listed = bootctl_list(&[directory])?;
    // Newer ones put the directory before each path.
    let listed = listed.replace(&format!("{}//", directory.display()), "/");
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
    unpacked_from(built, built.boot())
}

pub(crate) fn unpacked_from(built: &Built, partition: Partition) -> Option<tempfile::TempDir> {
    let files = oracle::fat_files(&built.image, partition)?;
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

/// The closure with its ESP at /efi, and XBOOTLDR at `mount_point`.
pub(crate) fn with_xbootldr(mount_point: &'static str, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    closure(move |spec| {
        let mounts = spec["fileSystems"].as_object_mut().unwrap();
        let esp = mounts.remove("/boot").unwrap();
        mounts.insert("/efi".to_owned(), esp);
        mounts.insert(mount_point.to_owned(), json!({ "device": "/dev/disk/by-label/XBOOTLDR", "fsType": "vfat" }));
        spec["efiSysMountPoint"] = "/efi".into();
        spec["xbootldrMountPoint"] = mount_point.into();
        change(spec);
    })
}

/// The paths of the files of a partition, but for what is in their names of hashes.
fn paths(built: &Built, role: &str) -> Option<BTreeSet<String>> {
    let files = oracle::fat_files(&built.image, built.partition(role))?;
    let shown = |path: &Path| {
        let path = path.to_str().unwrap();
        match path.strip_prefix("loader/entries/nixos-") {
            Some(_) => "loader/entries/nixos-*".to_owned(),
            None => path.strip_prefix("EFI/nixos/").map_or(path.to_owned(), |name| {
                format!(
                    "EFI/nixos/{}",
                    name.split_once('-').filter(|(hash, _)| hash.len() == 32).map_or(name, |(_, name)| name)
                )
            }),
        }
    };
    Some(files.keys().map(|path| shown(path)).collect())
}

#[test]
fn xbootldr_has_what_an_esp_beside_it_has_not() {
    let closure = with_xbootldr("/boot", |spec| {
        let loader = format!("{}/systemd-bootx64.efi", spec["systemdBoot"]["efiStub"].as_str().unwrap());
        spec["systemdBoot"]["extraFiles"] = json!({ "efi/own.efi": loader });
        spec["bootPartSize"] = (80 << 20).into();
        spec["populateCmd"] = "f() { mkdir extlinux; echo one > extlinux/extlinux.conf; }; f".into();
        spec["files"] = json!([{ "target": "/boot/own", "text": "own" }, { "target": "/efi/own", "text": "other" }]);
    });
    let built = Built::new(&closure, &["--verify"]);
    let partitions = built.layout["partitions"].as_array().unwrap();
    let roles: Vec<_> = partitions.iter().map(|partition| partition["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["boot", "xbootldr", "nix"]);
    let sizes = [0, 1].map(|index| partitions[index]["size"].as_u64().unwrap() >> 20);
    assert_eq!(sizes, [64, 80]);
    assert_eq!(partitions[1]["typeGuid"], "bc13c2ff-59e6-4262-a352-b275fd6f7172");
    assert_eq!(
        (&partitions[1]["name"], &partitions[1]["filesystem"]["label"]),
        (&json!("Linux extended boot"), &json!("XBOOTLDR"))
    );
    assert_ne!(partitions[0]["filesystem"]["uuid"], partitions[1]["filesystem"]["uuid"]);
    let xbootldr = built.partition("xbootldr");
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::fsck_fat(&built.image, xbootldr).expect_clean();

    let set = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<BTreeSet<_>>();
    if let Some((esp, boot)) = paths(&built, "boot").zip(paths(&built, "xbootldr")) {
        let own = ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "loader/loader.conf", "own"];
        assert_eq!(esp, set(&own));
        let kernels = ["EFI/nixos/initrd-linux-6.12-initrd.efi", "EFI/nixos/linux-6.12-bzImage.efi"];
        let extra = ["EFI/nixos/.extra-files/efi/own.efi", "efi/own.efi"];
        let others = ["extlinux/extlinux.conf", "loader/entries.srel", "loader/entries/nixos-*", "own"];
        let lower =
            |paths: BTreeSet<String>| paths.into_iter().map(|path| path.to_lowercase()).collect::<BTreeSet<_>>();
        assert_eq!(lower(boot), lower(set(&[&kernels[..], &extra, &others].concat())));
    }

    let boot = inspected(&built.image);
    let seen = seen_by_inspect(&boot);
    assert_eq!((seen.len(), &boot["partition"], &boot["extended"]), (2, &json!(1), &json!(2)));
    for entry in boot["entries"].as_array().unwrap() {
        assert_eq!(entry["kernel"]["found"]["partition"], 2, "{entry}");
    }
    let Some((esp, extended)) = unpacked(&built).zip(unpacked_from(&built, xbootldr)) else { return };
    if let Some(listed) = menu(&[esp.path(), extended.path()]) {
        assert_eq!(our_menu(&boot), listed);
    }
}

/// The ESP by itself, and the disk that is made without an image, have what the image has.
#[test]
fn xbootldr_is_in_each_form_of_output() {
    let closure = with_xbootldr("/boot", |spec| {
        spec["sectorSize"] = 4096.into();
        spec["bootPartSize"] = (272 << 20).into();
    });
    let built = Built::new(&closure, &[]);
    assert_eq!(built.boot().size >> 20, 260);
    let (esp, out) = (built.scratch().join("esp.img"), built.scratch().join("zst"));
    run(&mut build_command(&closure.spec_path(), closure.root(), &esp, &["--only", "boot"])).expect_success();
    let image = fs::File::open(&built.image).unwrap();
    let mut slice = vec![0; usize::try_from(built.boot().size).unwrap()];
    image.read_exact_at(&mut slice, built.boot().offset).unwrap();
    assert!(fs::read(&esp).unwrap() == slice);
    run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--format", "zst"])).expect_success();
    let raw = built.scratch().join("raw.img");
    let mut convert = sane_image();
    convert.arg("convert").arg(out.join("nixos.img.zst")).args(["--format", "raw", "--out"]).arg(&raw);
    run(&mut convert).expect_success();
    assert!(fs::read(&raw).unwrap() == fs::read(&built.image).unwrap());
}

/// An image without a table of mounts has them where the specification wants them.
#[test]
fn add_knows_xbootldr() {
    let built = Built::new(&with_xbootldr("/boot", |_| {}), &[]);
    let extra = tempfile::tempdir().unwrap();
    for directory in ["boot", "efi"] {
        fs::create_dir(extra.path().join(directory)).unwrap();
        fs::write(extra.path().join(directory).join("added"), directory).unwrap();
    }
    let out = built.scratch().join("added.img");
    let mut add = sane_image();
    add.arg("add").arg(&built.image).arg("--extra-files").arg(extra.path()).arg("--out").arg(&out);
    run(&mut add).expect_success();
    for (part, contents) in [("boot", "efi"), ("2", "boot")] {
        let cat = run(sane_image().arg("cat").arg(&out).args([part, "/added"])).expect_success();
        assert_eq!(cat.stdout, contents);
    }
    oracle::fsck_fat(&out, built.boot()).expect_clean();
    oracle::fsck_fat(&out, built.partition("xbootldr")).expect_clean();
    assert_eq!(seen_by_inspect(&inspected(&out)).len(), 2);
}

/// /boot is a directory beside the store, and what is a generation's is on XBOOTLDR all the same.
#[test]
fn xbootldr_elsewhere_than_at_boot() {
    let closure = with_xbootldr("/xboot", |spec| spec["files"] = json!([{ "target": "/boot/own", "text": "own" }]));
    let built = Built::new(&closure, &[]);
    let cat = |image: &Path, part: &str, path: &str| {
        run(sane_image().arg("cat").arg(image).args([part, path])).expect_success().stdout
    };
    assert_eq!(cat(&built.image, "nix", "/boot/own"), "own");
    assert_eq!(cat(&built.image, "2", "/loader/entries.srel"), "type1\n");
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

/// The ids of the entries in `directories` in the order of the menu, and which boots, by systemd's own tool.
fn menu(directories: &[&Path]) -> Option<Vec<(String, bool)>> {
    let listed = bootctl_list(directories)?;
    let entries = listed.split("\n\n").filter(|entry| entry.contains("Specification Type #1"));
    let value = |entry: &str, key: &str| {
        let line = entry.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {key} in {entry}")).to_owned()
    };
    Some(entries.map(|entry| (value(entry, "id"), value(entry, "title").contains(" (default)"))).collect())
}

/// Sets of entries, each file by a number: names with and without counters, keys, versions, machines, and patterns.
fn generated(mut seed: u64) -> (Vec<(String, String)>, String) {
    let mut pick = |from: &[&str]| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[usize::try_from(seed >> 33).unwrap() % from.len()].to_owned()
    };
    let files = (0..6).map(|_| {
        let stem = pick(&["nixos-1", "nixos-2", "nixos-10", "a", "B", "a_rc1", "linux-6.10", "linux-6.9", "x+y"]);
        let counters = pick(&["", "", "+3", "+0-3", "+2-1", "+0", "+1-2", "+x", "+-1"]);
        let key = pick(&["", "sort-key nixos\n", "sort-key arch\n", "sort-key nixos\nsort-key zz\n"]);
        let versions = ["", "6.10~rc1", "6.10", "6.9", "6.10-1", "6.10^a", "6.10.1", "1 of 2", "v7", "6.010"];
        let version = format!("version {}\n", pick(&versions));
        let machine = pick(&["", "", "machine-id 11111111111111111111111111111111\n"]);
        let text = format!("title {stem}\nlinux /k\n{key}{version}{machine}");
        (stem.clone(), (format!("{stem}{counters}.conf"), text))
    });
    // Two files of one id have no order.
    let files: Vec<_> = files.collect::<BTreeMap<_, _>>().into_values().collect();
    let one = pick(&["nixos-*", "a.conf", "*+0*", "linux-6.[0-9].conf", "none*", "B*", "nixos-1", "x?y.conf", "*"]);
    let more = pick(&["", "", "default b.conf\n", "timeout 3\n", "# default a.conf\n"]);
    (files, format!("default {one}\n{more}"))
}

#[test]
fn bootctl_lists_the_same_menu() {
    let mut compared = 0;
    for seed in 0..60 {
        let (files, conf) = generated(seed);
        let esp = tempfile::tempdir().unwrap();
        fs::create_dir_all(esp.path().join("loader/entries")).unwrap();
        fs::write(esp.path().join("loader/loader.conf"), &conf).unwrap();
        fs::write(esp.path().join("k"), "kernel").unwrap();
        files.iter().for_each(|(name, text)| fs::write(esp.path().join("loader/entries").join(name), text).unwrap());
        let Some(image) = foreign::mkfs_fat(esp.path(), "16") else { return };
        let Some(listed) = menu(&[esp.path()]) else { return };
        assert_eq!(our_menu(&inspected(image.path())), listed, "{files:#?}\n{conf}");
        compared += 1;
    }
    assert_eq!(compared, 60);
}

fn our_menu(boot: &Value) -> Vec<(String, bool)> {
    let entries = boot["entries"].as_array().unwrap().iter();
    entries.map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry["default"] == true)).collect()
}

/// A disk with an ESP of 64 MiB and an extended boot loader partition behind it.
fn with_extended(esp: &Path, extended: &Path) -> Option<NamedTempFile> {
    let (esp, extended) = (foreign::mkfs_fat(esp, "16")?, foreign::mkfs_fat(extended, "32")?);
    if !need("sgdisk") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(132 << 20).unwrap();
    let parts = ["-n1:2048:+64M", "-t1:ef00", "-n2:133120:+64M", "-t2:ea00"];
    run_tool(tool("sgdisk").args(parts).arg(image.path()));
    for (partition, at) in [(&esp, 2048 * 512), (&extended, 133_120 * 512)] {
        image.as_file().write_all_at(&fs::read(partition.path()).unwrap(), at).unwrap();
    }
    Some(image)
}

/// One menu of both partitions; only the ESP has a configuration, and an entry's files are in its own partition.
#[test]
fn bootctl_lists_the_same_menu_of_two_partitions() {
    let mut compared = 0;
    for seed in 100..120 {
        let (files, conf) = generated(seed);
        let [esp, extended] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let directories = [esp.path(), extended.path()];
        for directory in directories {
            fs::create_dir_all(directory.join("loader/entries")).unwrap();
            fs::write(directory.join("k"), "kernel").unwrap();
        }
        fs::write(esp.path().join("loader/loader.conf"), &conf).unwrap();
        fs::write(extended.path().join("loader/loader.conf"), "default *9*\n").unwrap();
        for (i, (name, text)) in files.iter().enumerate() {
            fs::write(directories[i % 2].join("loader/entries").join(name), text).unwrap();
        }
        let Some(image) = with_extended(esp.path(), extended.path()) else { return };
        let Some(listed) = menu(&directories) else { return };
        let boot = inspected(image.path());
        assert_eq!(our_menu(&boot), listed, "{files:#?}\n{conf}");
        assert_eq!((&boot["partition"], &boot["extended"]), (&json!(1), &json!(2)));
        for entry in boot["entries"].as_array().unwrap() {
            let stem = entry["title"].as_str().unwrap();
            let at = files.iter().position(|(_, text)| text.starts_with(&format!("title {stem}\n"))).unwrap();
            assert_eq!(entry["kernel"]["found"]["partition"], at % 2 + 1, "{entry}");
        }
        compared += 1;
    }
    assert_eq!(compared, 20);
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
