//! Targets of one text each.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sane_image::diff::version;
use sane_image::fuzzing;
use sane_image::inspect::BootReport;
use sane_image::pe;
use sane_image::read::escape;
use sane_image::spec;
use sane_image::store::registration::{parse_registration, parse_store_paths, store_dir_of};
use sane_image::store::{Registration, StoreDir, StorePath};

use super::files::Files;

/// As many entries of a boot loader as an input has.
const MAX_ENTRIES: usize = 40;

/// What was read is read again from what it is written as.
pub(crate) fn registration(input: &[u8]) {
    let store_dir = store_dir_of(input).unwrap_or_else(|| StoreDir::new("/nix/store").expect("a store"));
    match parse_registration(input, &store_dir) {
        Ok(registrations) => {
            let text = written(&registrations);
            assert_eq!(parse_registration(text.as_bytes(), &store_dir).as_deref(), Ok(registrations.as_slice()));
        }
        Err(error) => drop(error.to_string()),
    }
    match parse_store_paths(input, &store_dir) {
        Ok(paths) => {
            let lines: String = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
            assert_eq!(lines.as_bytes(), input);
        }
        Err(error) => drop(error.to_string()),
    }
}

fn written(registrations: &[Registration]) -> String {
    let mut text = String::new();
    for Registration { path, nar_hash, nar_size, deriver, references } in registrations {
        let digest: String = nar_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let deriver = deriver.as_ref().map_or("", StorePath::as_str);
        let _ = writeln!(text, "{}\nsha256:{digest}\n{nar_size}\n{deriver}\n{}", path.as_str(), references.len());
        references.iter().for_each(|reference| text.extend([reference.as_str(), "\n"]));
    }
    text
}

/// Looks at what boots from `files`, and at what the report says of it.
fn boot(files: &Files) -> BootReport {
    let (report, problems) = fuzzing::boot(files);
    assert_eq!(problems, [""; 0], "all of it can be read");
    let report = report.unwrap_or_default();
    let defaults = report.entries.iter().filter(|entry| entry.default).count();
    assert!(defaults <= report.entries.len().min(2), "{defaults} defaults");
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_printable(&json);
    assert_printable(&report.warnings.clone().into());
    report
}

/// That no text of a report does anything to a terminal.
pub(crate) fn assert_printable(value: &serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(values) => values.iter().for_each(assert_printable),
        Value::Object(fields) => fields.values().for_each(assert_printable),
        _ => {}
    }
}

pub(crate) fn extlinux(input: &[u8]) {
    let files = Files::new().file("extlinux/extlinux.conf", input);
    let report = boot(&files.file("nixos/kernel", b"k").file("nixos/initrd", b"i").file("nixos/dtbs/a.dtb", b"d"));
    assert!(report.entries.iter().filter(|entry| entry.default).count() == report.entries.len().min(1));
}

/// Entries, each a name, a newline and a text, with a NUL between them. Their order must not depend on what others there
/// are, else sorting them could do anything.
pub(crate) fn entries(input: &[u8]) {
    let named = input.split(|&byte| byte == 0).take(MAX_ENTRIES).filter_map(|piece| {
        let at = piece.iter().position(|&byte| byte == b'\n')?;
        let (name, text) = (piece.get(..at)?, piece.get(at + 1..)?);
        let name = String::from_utf8_lossy(name).replace('/', "_");
        (!name.is_empty() && name.len() < 200).then(|| (format!("{name}.conf"), text))
    });
    let named: BTreeMap<String, &[u8]> = named.collect();
    let order = |named: &mut dyn Iterator<Item = (&String, &&[u8])>| {
        let files =
            named.fold(Files::new(), |files, (name, text)| files.file(Path::new("loader/entries").join(name), text));
        let report = boot(&files.file("EFI/nixos/kernel.efi", b"k"));
        report.entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>()
    };
    let all = order(&mut named.iter());
    assert_eq!(all.len(), named.len());
    let few: Vec<_> = named.iter().take(6).collect();
    for (i, one) in few.iter().enumerate() {
        for other in few.iter().skip(i + 1) {
            let pair = order(&mut [*one, *other].into_iter());
            let among_all: Vec<_> = all.iter().filter(|id| pair.contains(id)).cloned().collect();
            // Names can differ in the counters of tries alone, which are no part of what an entry is called.
            if among_all.len() > 2 {
                continue;
            }
            assert_eq!(pair, among_all, "the order of two depends on the others");
        }
    }
}

pub(crate) fn loader_conf(input: &[u8]) {
    let names = ["nixos-generation-1", "nixos-generation-12", "nixos-abc+3", "nixos-def+0-3", "Other [x]"];
    let entries = names.iter().fold(Files::new(), |files, name| {
        files.file(format!("loader/entries/{name}.conf"), format!("title {name}\nversion {name}\n").as_bytes())
    });
    let report = boot(&entries.file("loader/loader.conf", input));
    assert_eq!(report.entries.iter().filter(|entry| entry.default).count(), 1);
}

/// A grub.cfg, and behind a NUL what grub-editenv wrote.
pub(crate) fn grub_cfg(input: &[u8]) {
    let mut pieces = input.splitn(2, |&byte| byte == 0);
    let (cfg, environment) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let files = Files::new().file("grub/grub.cfg", cfg).file("grub/grubenv", environment);
    let report = boot(&files.file("kernels/k", b"k").file("kernels/i", b"i"));
    assert!(report.entries.len() <= 1000);
    assert!(report.entries.iter().filter(|entry| entry.default).count() <= 1);
    assert_eq!(report.configurations.len(), 1);
}

pub(crate) fn limine_conf(input: &[u8]) {
    let files = Files::new().file("limine/limine.conf", input);
    let report = boot(&files.file("limine/kernels/k", b"k").file("limine/kernels/i", b"i"));
    assert!(report.entries.len() <= 1000);
    let defaults = report.entries.iter().filter(|entry| entry.default).count();
    // The default can be a directory of others, or stand behind what macros left room for.
    let is_told = report.warnings.len() == 1 || !report.notes.is_empty();
    assert!(defaults == 1 || defaults == 0 && (is_told || report.entries.is_empty()));
}

pub(crate) fn bootspec(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        match fuzzing::bootspec(text) {
            Ok(systems) => assert!(systems >= 1),
            Err(why) => drop(escape::text(&why)),
        }
    }
}

/// A program as a unified kernel image, and as what firmware starts.
pub(crate) fn pe(input: &[u8]) {
    let is_kernel = pe::is_unified_kernel_image(input);
    let report = boot(&Files::new().file("EFI/Linux/a.efi", input).file("EFI/BOOT/BOOTX64.EFI", input));
    if is_kernel {
        assert!(!report.entries.is_empty(), "a unified kernel image without an entry");
    }
    assert!(report.entries.len() <= 2);
}

pub(crate) fn spec(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match spec::parse(text) {
        Ok(spec) => {
            assert!(!spec.name.is_empty() && !spec.name.contains('/'));
            assert!(spec.extra_directories.iter().all(|path| path.is_relative()));
            assert_eq!(spec::parse(text), Ok(spec));
        }
        Err(errors) => {
            assert!(!errors.as_slice().is_empty());
            drop(errors.to_string());
        }
    }
}

/// Three versions with a NUL between them.
pub(crate) fn versions(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut pieces = text.split('\0');
    let mut next = || pieces.next().unwrap_or_default();
    let [a, b, c] = [next(), next(), next()];
    let compare = version::compare;
    assert_eq!(compare(a, b), compare(b, a).reverse());
    assert_eq!(compare(a, a), Ordering::Equal);
    if compare(a, b) == compare(b, c) {
        assert_eq!(compare(a, c), compare(a, b), "{a:?} {b:?} {c:?}");
    }
    let (name, version) = version::split(a);
    assert!(name.len() + version.len() <= a.len());
}

/// A store path, and any name made printable.
pub(crate) fn names(input: &[u8]) {
    let shown = escape::bytes(input);
    assert!(!shown.chars().any(char::is_control));
    let Ok(text) = str::from_utf8(input) else { return };
    let store = StoreDir::new("/nix/store").expect("a store");
    if let Ok(path) = StorePath::from_absolute_path(text, &store) {
        assert_eq!(path.as_str(), text);
        assert_eq!(shown, text);
    }
    if let Ok(store) = StoreDir::new(text) {
        assert_eq!(store.as_str(), text);
    }
}
