//! `inspect`: the whole of an image, ours and others', sound and damaged, as text, as JSON and as a page.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::foreign;
use crate::support::image::{Built, run, sane_image};
use crate::support::mount::{Access, LoopDevice};
use crate::support::tool::{need, run as run_tool, tool};
use crate::support::tree::Entry;

fn example() -> Built {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/example");
    Built::from_spec(&fixtures.join("spec.json"), &fixtures, &[])
}

/// The report on an image and the exit code.
fn inspect(image: &Path) -> (Value, i32) {
    let run = run(sane_image().arg("inspect").arg(image).arg("--json"));
    let report = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}\n{}{}", run.stdout, run.stderr));
    (report, run.status.code().unwrap())
}

/// The lines of a list in a report.
fn lines(report: &Value, list: &str) -> String {
    let lines: Vec<_> = report[list].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    lines.join("\n")
}

fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("SANE_IMAGE_UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        fs::write(&path, found).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, golden, "{}: SANE_IMAGE_UPDATE_GOLDENS=1 writes it anew", path.display());
}

#[test]
fn of_the_example_is_the_golden_one() {
    let built = example();
    let inspect = |arguments: &[&str]| {
        let mut command = sane_image();
        command.current_dir(built.image.parent().unwrap()).args(["inspect", "nixos.img"]).args(arguments);
        run(&mut command).expect_success().stdout
    };
    assert_golden("example.inspect.txt", &inspect(&[]));
    assert_golden("example.inspect.json", &inspect(&["--json"]));
}

#[test]
fn agrees_with_layout_json() {
    let built = example();
    let (report, code) = inspect(&built.image);
    assert_eq!((code, lines(&report, "problems"), lines(&report, "warnings")), (0, String::new(), String::new()));
    assert_eq!((&report["size"], &report["table"]["diskGuid"]), (&built.layout["size"], &built.layout["diskGuid"]));
    for (found, planned) in
        report["partitions"].as_array().unwrap().iter().zip(built.layout["partitions"].as_array().unwrap())
    {
        for key in ["number", "offset", "size", "name", "typeGuid", "guid"] {
            assert_eq!(found[key], planned[key], "{key}");
        }
        for key in ["type", "uuid", "label", "free"] {
            assert_eq!(found["filesystem"][key], planned["filesystem"][key], "{key}");
        }
    }
    let regions = report["regions"].as_array().unwrap();
    let number = |region: &Value, key: &str| region[key].as_u64().unwrap();
    let end = regions.iter().fold(0, |at, region| {
        assert_eq!(number(region, "offset"), at);
        at + number(region, "size")
    });
    assert_eq!(report["size"], end);
}

/// A closure that systemd-boot boots: one entry whole, one whose kernel and init are gone.
fn with_systemd_boot() -> (Closure, Built) {
    let system = Entry::dir([
        ("init", Entry::Symlink(b"sbin/init".to_vec())),
        ("sbin", Entry::dir([("init", Entry::executable("#!"))])),
    ]);
    let builder = ClosureBuilder::new().path("system", system);
    let script = format!(
        "f() {{ mkdir -p loader/entries EFI/nixos EFI/BOOT; echo kernel > EFI/nixos/k.efi; echo initrd > EFI/nixos/i.efi; echo x > EFI/BOOT/BOOTX64.EFI
         printf 'timeout 3\\ndefault nixos-1.conf\\n' > loader/loader.conf
         printf 'title NixOS <b>\\nversion 1\\nlinux /EFI/nixos/k.efi\\ninitrd /EFI/nixos/i.efi\\noptions init={}/init quiet' > loader/entries/nixos-1.conf
         printf 'title Old\\nversion 2\\nlinux /EFI/nixos/gone.efi\\noptions init=/nix/store/none/init' > loader/entries/nixos-2.conf; }}; f",
        builder.store_path("system")
    );
    let closure = builder.spec(move |spec| spec["populateCmd"] = json!(script)).write();
    let built = Built::new(&closure, &[]);
    (closure, built)
}

#[test]
fn what_boots_is_resolved() {
    let (closure, built) = with_systemd_boot();
    let (report, code) = inspect(&built.image);
    assert_eq!(code, 0);
    let boot = &report["boot"];
    assert_eq!(boot["firmware"][0]["path"], "EFI/BOOT/BOOTX64.EFI");
    assert_eq!(boot["configurations"][0]["default"], "nixos-1.conf");
    let entries = boot["entries"].as_array().unwrap();
    let entry = |id: &str| entries.iter().find(|entry| entry["id"] == id).unwrap();
    let good = entry("nixos-1.conf");
    assert_eq!((&good["default"], &good["kernel"]["found"]["size"]), (&json!(true), &json!(7)));
    let init = format!("{}/sbin/init", &closure.path("system").path[1..]);
    assert_eq!(good["init"]["found"], json!({ "partition": 2, "path": init, "size": 2 }));
    let bad = entry("nixos-2.conf");
    assert_eq!((&bad["default"], &bad["kernel"]["found"]), (&json!(false), &Value::Null));
    let warnings = lines(&report, "warnings");
    assert!(warnings.contains("boot entry nixos-2.conf: kernel /EFI/nixos/gone.efi is missing"), "{warnings}");
    assert!(warnings.contains("boot entry nixos-2.conf: init /nix/store/none/init is missing"), "{warnings}");
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
}

#[test]
fn the_registration_is_compared_with_the_store() {
    if !need("debugfs") {
        return;
    }
    let closure = ClosureBuilder::new().path("gone", Entry::file("x")).path("kept", Entry::file("y")).write();
    let built = Built::new(&closure, &["--no-bootloader"]);
    let slice = crate::support::tool::slice(&built.image, built.nix());
    let stray = format!("{}-stray", "0".repeat(32));
    let gone = closure.path("gone").base_name();
    for request in [format!("rm /nix/store/{gone}"), format!("mkdir /nix/store/{stray}")] {
        run_tool(tool("debugfs").args(["-w", "-R", &request]).arg(slice.path()));
    }
    let (report, code) = inspect(slice.path());
    assert_eq!((code, &report["table"]), (0, &Value::Null));
    let registration = &report["partitions"][0]["filesystem"]["store"]["registration"];
    assert_eq!((&registration["missing"], &registration["unregistered"]), (&json!([gone]), &json!([stray])));
    let warnings = lines(&report, "warnings");
    assert!(warnings.contains(&format!("store path {gone}: registered but not there")), "{warnings}");
}

#[test]
fn damage_is_told_and_the_rest_is_shown() {
    let built = example();
    let image = fs::OpenOptions::new().write(true).read(true).open(&built.image).unwrap();
    let (whole, _) = inspect(&built.image);
    let flip = |at: u64| {
        let mut byte = [0];
        image.read_exact_at(&mut byte, at).unwrap();
        image.write_all_at(&[byte[0] ^ 4], at).unwrap();
    };
    for (at, part) in [
        (512 + 24, "GPT header at LBA 1: checksum"),
        (1024 + 40, "GPT entries at LBA 2: checksum"),
        (510, "protective MBR: its signature"),
    ] {
        flip(at);
        let (report, code) = inspect(&built.image);
        assert_eq!(code, 1);
        assert!(lines(&report, "problems").contains(part), "{report}");
        assert_eq!(report["partitions"], whole["partitions"]);
        let text = run(sane_image().arg("inspect").arg(&built.image)).expect_failure(1).stdout;
        assert!(text.contains("\nProblems\n") && text.contains(part), "{text}");
        flip(at);
    }
    // The magic of ext4, then its label, which the checksum covers.
    for (at, part) in [(1080, ""), (1024 + 0x78, "partition 2: ")] {
        flip(built.nix().offset + at);
        let (report, code) = inspect(&built.image);
        assert!(lines(&report, "problems").contains(part), "{report}");
        assert_eq!(code, i32::from(!part.is_empty()));
        assert_eq!(report["partitions"][0], whole["partitions"][0]);
        assert_eq!(report["partitions"][1]["filesystem"], Value::Null);
        flip(built.nix().offset + at);
    }
    let cut = built.scratch().join("cut.img");
    fs::copy(&built.image, &cut).unwrap();
    fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(built.nix().offset + (1 << 20)).unwrap();
    let (report, code) = inspect(&cut);
    assert_eq!(code, 1);
    assert!(lines(&report, "problems").contains("which has been cut off"), "{report}");
    assert_eq!(report["partitions"][0], whole["partitions"][0]);
}

#[test]
fn devices_and_disks_of_4096_byte_sectors() {
    for sector_size in [512, 4096] {
        let closure = ClosureBuilder::new()
            .path("data", Entry::file("text"))
            .spec(move |spec| spec["sectorSize"] = json!(sector_size))
            .spec(|spec| spec["extraGPTPadding"] = json!(1 << 20))
            .spec(|spec| spec["bootPartSize"] = json!(300 << 20))
            .write();
        let built = Built::new(&closure, &[]);
        let (mut report, code) = inspect(&built.image);
        assert_eq!((code, &report["table"]["sectorSize"]), (0, &json!(sector_size)));
        assert_eq!(report["table"]["primary"]["entriesOffset"], built.layout["entriesOffset"]);
        let notes = report["table"]["notes"].to_string();
        assert!(notes.contains("1048576 bytes between the header and the entries are left to firmware"), "{notes}");
        let Some(device) = LoopDevice::of_disk(&built.image, sector_size, Access::ReadOnly) else { continue };
        report["image"] = json!(device.path());
        assert_eq!(inspect(device.path()).0, report);
    }
}

#[test]
fn a_disk_of_debians() {
    let (root, esp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    foreign::plain_tree(root.path());
    fs::create_dir_all(esp.path().join("EFI/BOOT")).unwrap();
    fs::write(esp.path().join("EFI/BOOT/BOOTX64.EFI"), "grub").unwrap();
    let Some(image) = foreign::debian_cloud(root.path(), esp.path()) else { return };
    let (report, code) = inspect(image.path());
    assert_eq!((code, lines(&report, "problems")), (0, String::new()));
    let partitions: Vec<_> = report["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["number"].as_u64().unwrap(), p["filesystem"]["type"].as_str()))
        .collect();
    assert_eq!(partitions, [(1, Some("ext4")), (14, None), (15, Some("vfat"))]);
    let order: Vec<_> =
        report["regions"].as_array().unwrap().iter().filter_map(|region| region["partition"].as_u64()).collect();
    assert_eq!(order, [14, 15, 1]);
    assert_eq!(report["boot"]["partition"], 15);
    assert_eq!(report["boot"]["firmware"][0]["path"], "EFI/BOOT/BOOTX64.EFI");
    assert_eq!(report["partitions"][0]["filesystem"]["files"], 403);
    let listed = run(sane_image().arg("ls").arg(image.path()).args(["boot", "EFI/BOOT"])).expect_success().stdout;
    assert_eq!(listed, "BOOTX64.EFI\n");
    let listed = run(sane_image().arg("ls").arg(image.path()).args(["nix", "a"])).expect_success().stdout;
    assert_eq!(listed, "b\nbig\nlong\nshort\nsmall\n");
}

/// A registration with a fault is there.
#[test]
fn a_damaged_registration_is_told_from_none() {
    let root = tempfile::tempdir().unwrap();
    let path = "nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
    std::fs::create_dir_all(root.path().join(path)).unwrap();
    std::fs::write(root.path().join("nix-path-registration"), format!("/{path}\nsha256:x\n")).unwrap();
    let Some(image) = foreign::mkfs_ext4(root.path(), &[]) else { return };
    let said = run(sane_image().arg("inspect").arg(image.path())).expect_failure(1).stdout;
    assert!(said.contains("a nix-path-registration that cannot be used: nix-path-registration: line 2"), "{said}");
    assert!(!said.contains("no nix-path-registration"), "{said}");
    let (report, _) = inspect(image.path());
    let problem = report["partitions"][0]["filesystem"]["store"]["registrationProblem"].as_str().unwrap();
    assert!(problem.starts_with("nix-path-registration: line 2"), "{problem}");
}

#[test]
fn a_disk_of_systemd_reparts() {
    let root = tempfile::tempdir().unwrap();
    foreign::plain_tree(&root.path().join("tree"));
    let Some(image) = foreign::repart(root.path(), "/tree") else { return };
    let (report, code) = inspect(image.path());
    assert_eq!((code, lines(&report, "problems")), (0, String::new()));
    let formats: Vec<_> =
        report["partitions"].as_array().unwrap().iter().map(|p| p["filesystem"]["type"].as_str()).collect();
    assert_eq!(formats, [Some("vfat"), Some("ext4")]);
    let listed = run(sane_image().arg("ls").arg(image.path()).args(["nix", "tree/a"])).expect_success().stdout;
    assert_eq!(listed, "b\nbig\nlong\nshort\nsmall\n");
}

/// Whatever one byte of the metadata becomes: an answer, in all three forms.
#[test]
fn no_byte_makes_it_panic() {
    let (_closure, built) = with_systemd_boot();
    let image = fs::OpenOptions::new().write(true).read(true).open(&built.image).unwrap();
    let (boot, nix) = (built.boot().offset, built.nix().offset);
    // Headers and entries; boot sector, FSInfo, FATs and directories; superblock, descriptors, inodes and directories.
    let places = [
        (0, 4096),
        (boot, 1024),
        (boot + 32 * 512, 2048),
        (boot + (1 << 20), 8192),
        (nix + 1024, 1024),
        (nix + 4096, 256),
        (nix, 2 << 20),
    ];
    let mut state = 42u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..400 {
        let (start, len) = places[round % places.len()];
        let at = start + random(len);
        let mut byte = [0];
        image.read_exact_at(&mut byte, at).unwrap();
        image.write_all_at(&[byte[0] ^ u8::try_from(1 + random(255)).unwrap()], at).unwrap();
        if let Ok(opened) = sane_image::image::Image::open(&built.image) {
            let report = sane_image::inspect::inspect(&opened, "x");
            let style = sane_image::inspect::Style { width: 80, colour: true };
            assert!(!sane_image::inspect::text(&report, style).is_empty());
            assert!(sane_image::inspect::html(&report).ends_with("</html>\n"));
            assert!(report.to_json().ends_with("}\n"));
        }
        image.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(inspect(&built.image).1, 0);
}

/// Writes the page of an image.
fn page(image: &Path) -> String {
    let target = image.with_extension("html");
    let said = run(sane_image().arg("inspect").arg(image).arg("--html").arg(&target)).expect_success().stdout;
    assert_eq!(said, "");
    fs::read_to_string(target).unwrap()
}

#[test]
fn the_page_needs_nothing_and_is_well_formed() {
    let (_closure, built) = with_systemd_boot();
    let page = page(&built.image);
    let outside = ["<script", "src=", "href=", "url(", "@import", "<link", "<iframe", "<object"];
    let found: Vec<_> = outside.into_iter().filter(|word| page.contains(word)).collect();
    assert_eq!(found, [""; 0]);
    assert_eq!(page.matches("://").count(), 1, "the namespace");
    assert!(page.contains("NixOS &lt;b&gt;") && !page.contains("NixOS <b>"));
    for part in ["prefers-color-scheme", "is missing", "<title>", "class=\"treemap\"", "class=\"disk\""] {
        assert!(page.contains(part), "{part}");
    }
    if need("sgdisk") {
        run_tool(tool("sgdisk").args(["-c", "2:<script>&\"]]>\u{1b}"]).arg(&built.image));
        let hostile = self::page(&built.image);
        assert!(!hostile.contains("<script") && hostile.contains("&lt;script&gt;&amp;&quot;]]&gt;\\u{1b}"));
    }
    if need("xmllint") {
        let path = built.image.with_extension("html");
        run_tool(tool("xmllint").args(["--noout", "--nonet"]).arg(&path));
        fs::write(&path, page.replace("</section>", "")).unwrap();
        assert!(!tool("xmllint").args(["--noout", "--nonet"]).arg(&path).output().unwrap().status.success());
    }
}

/// Chromium's opinion of a page: what it makes of it, and the size of a picture of it.
fn browse(page: &Path, scratch: &Path) -> (String, u64) {
    let chromium = |argument: &str| {
        let mut command = tool("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"]);
        command.arg(format!("--user-data-dir={}", scratch.join("profile").display())).arg(argument);
        run_tool(command.arg(format!("file://{}", page.display())))
    };
    let picture = scratch.join("page.png");
    chromium(&format!("--screenshot={}", picture.display()));
    let dom = String::from_utf8(chromium("--dump-dom")).unwrap();
    (dom, fs::metadata(picture).unwrap().len())
}

/// A browser sees every rectangle and every row, and more than a blank page.
#[test]
fn the_page_is_seen_in_a_browser() {
    if !need("chromium") {
        return;
    }
    let built = example();
    let page = page(&built.image);
    let (dom, size) = browse(&built.image.with_extension("html"), built.scratch());
    for tag in ["<rect", "<tr", "<section", "<article", "<svg", "<li", "<td"] {
        assert_eq!(dom.matches(tag).count(), page.matches(tag).count(), "{tag}");
    }
    let blank = built.scratch().join("blank.html");
    fs::write(&blank, "<!DOCTYPE html><title>blank</title>").unwrap();
    let (_, blank_size) = browse(&blank, built.scratch());
    assert!(size > 5 * blank_size, "{size} {blank_size}");
}
