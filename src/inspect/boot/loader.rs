//! What systemd-boot reads, by the Boot Loader Specification and loader.conf(5), and what UEFI starts by itself.

use std::cmp::Ordering;
use std::path::Path;

use super::pe::Pe;
use super::{
    BootEntry, BootFs, BootReport, Configuration, EfiProgram, Loader, MAX_ENTRY_TEXT, MAX_INITRDS, escape, glob, shown,
    version,
};
use crate::read::{Kind, ReadError};

const CONFIGURATION: &str = "loader/loader.conf";
const ENTRIES: &str = "loader/entries";
const UNIFIED: &str = "EFI/Linux";
const REMOVABLE: &str = "EFI/BOOT";

/// An entry and what it is sorted by.
struct Sortable {
    entry: BootEntry,
    sort_key: Option<String>,
    machine_id: String,
    version: String,
}

/// Adds all that is there to `found`.
pub(super) fn examine(boot: &BootFs<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    let mut entries = Vec::new();
    removable(boot, found, &mut entries)?;
    let mut listed = Vec::new();
    type_1(boot, &mut listed)?;
    type_2(boot, &mut listed)?;
    listed.sort_by(order);
    let configuration = configuration(boot)?;
    let pattern = configuration.as_ref().and_then(|configuration| configuration.default.clone());
    let chosen = pattern.and_then(|pattern| listed.iter().position(|one| is_meant(&pattern, &one.entry.id)));
    if let Some(one) = listed.get_mut(chosen.unwrap_or(0)) {
        one.entry.default = true;
    } else if let Some(one) = entries.first_mut() {
        // Nothing to choose from: firmware starts it right away.
        let one: &mut BootEntry = one;
        one.default = true;
    }
    found.configurations.extend(configuration);
    found.entries.extend(listed.into_iter().map(|one| one.entry).chain(entries));
    Ok(())
}

/// Whether a pattern means an entry; older ones leave out the suffix.
fn is_meant(pattern: &str, id: &str) -> bool {
    glob::matches(pattern, id) || id.strip_suffix(".conf").is_some_and(|id| glob::matches(pattern, id))
}

/// Entries with a sort key first, by it; then new before old.
fn order(one: &Sortable, other: &Sortable) -> Ordering {
    let newer_first = || version::compare(&other.entry.id, &one.entry.id);
    match (&one.sort_key, &other.sort_key) {
        (Some(key), Some(other_key)) => key
            .cmp(other_key)
            .then_with(|| one.machine_id.cmp(&other.machine_id))
            .then_with(|| version::compare(&other.version, &one.version))
            .then_with(newer_first),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => newer_first(),
    }
}

/// The lines of a configuration: a key, white space, a value.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(char::is_whitespace)).map(|(key, value)| (key, value.trim()))
}

/// The first value of a key, escaped.
fn value(text: &str, wanted: &str) -> Option<String> {
    lines(text).find(|(key, _)| *key == wanted).map(|(_, value)| escape::text(value))
}

fn configuration(boot: &BootFs<'_>) -> Result<Option<Configuration>, ReadError> {
    let Some((place, text)) = boot.text(CONFIGURATION)? else { return Ok(None) };
    let [default, timeout] = ["default", "timeout"].map(|key| value(&text, key));
    Ok(Some(Configuration { loader: Loader::SystemdBoot, path: shown(&place), default, timeout }))
}

/// loader/entries/*.conf.
fn type_1(boot: &BootFs<'_>, listed: &mut Vec<Sortable>) -> Result<(), ReadError> {
    let (directory, entries) = boot.list(ENTRIES)?;
    for entry in entries {
        let is_entry =
            Path::new(&entry.name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("conf"));
        if is_entry && entry.metadata.kind == Kind::File {
            let text = boot.text_at(&directory.join(&entry.name), MAX_ENTRY_TEXT)?;
            listed.push(parse(boot, escape::name(&entry.name), &text));
        }
    }
    Ok(())
}

fn parse(boot: &BootFs<'_>, id: String, text: &str) -> Sortable {
    let raw = |wanted: &str| lines(text).find(|(key, _)| *key == wanted).map(|(_, value)| value);
    let all = |wanted: &'static str| lines(text).filter(move |(key, _)| *key == wanted).map(|(_, value)| value);
    let options = all("options").collect::<Vec<_>>().join(" ");
    let kernel = raw("linux").or_else(|| raw("efi")).or_else(|| raw("uki"));
    let entry = BootEntry {
        loader: Loader::SystemdBoot,
        id,
        title: value(text, "title"),
        version: value(text, "version"),
        default: false,
        kernel: kernel.map(|path| boot.file(path)),
        initrds: all("initrd").take(MAX_INITRDS).map(|path| boot.file(path)).collect(),
        device_tree: raw("devicetree").map(|path| boot.file(path)),
        init: boot.init(&options),
        options: escape::text(&options),
    };
    let version = entry.version.clone().unwrap_or_default();
    Sortable {
        entry,
        sort_key: value(text, "sort-key"),
        machine_id: value(text, "machine-id").unwrap_or_default(),
        version,
    }
}

/// EFI/Linux/*.efi.
fn type_2(boot: &BootFs<'_>, listed: &mut Vec<Sortable>) -> Result<(), ReadError> {
    let (directory, entries) = boot.list(UNIFIED)?;
    for entry in entries {
        let place = directory.join(&entry.name);
        let is_program = place.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("efi"));
        if !is_program || entry.metadata.kind != Kind::File {
            continue;
        }
        if let Some(pe) = Pe::read(boot.fs, &place)? {
            listed.push(unified(boot, &place, &pe)?);
        }
    }
    Ok(())
}

fn unified(boot: &BootFs<'_>, place: &Path, pe: &Pe) -> Result<Sortable, ReadError> {
    let text = |section: &str| pe.text(boot.fs, place, section);
    let release = text(".osrel")?.unwrap_or_default();
    let field = |names: &[&str]| names.iter().find_map(|name| release_field(&release, name));
    let options = text(".cmdline")?.unwrap_or_default();
    let version = field(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]);
    let entry = BootEntry {
        loader: Loader::Uki,
        id: place.file_name().map(escape::name).unwrap_or_default(),
        title: field(&["PRETTY_NAME", "NAME"]),
        version: version.clone(),
        default: false,
        kernel: place.to_str().map(|path| boot.file(path)),
        initrds: Vec::new(),
        device_tree: None,
        init: boot.init(&options),
        options: escape::text(&options),
    };
    let version = version.unwrap_or_default();
    Ok(Sortable { entry, sort_key: field(&["IMAGE_ID", "ID"]), machine_id: String::new(), version })
}

/// A field of os-release, without its quotes.
fn release_field(release: &str, name: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(escape::text(value.trim().trim_matches(['"', '\''])))
}

/// EFI/BOOT/BOOT*.EFI: what firmware starts from a disk that it does not know. A unified kernel image can be there too.
fn removable(boot: &BootFs<'_>, found: &mut BootReport, entries: &mut Vec<BootEntry>) -> Result<(), ReadError> {
    let (directory, files) = boot.list(REMOVABLE)?;
    for file in files {
        let name = file.name.to_string_lossy().to_ascii_lowercase();
        if !(name.starts_with("boot") && name.ends_with(".efi")) || file.metadata.kind != Kind::File {
            continue;
        }
        let place = directory.join(&file.name);
        let pe = Pe::read(boot.fs, &place)?;
        let mut what = None;
        if let Some(pe) = &pe {
            let magic = pe.text(boot.fs, &place, ".sdmagic")?;
            what = magic.map(|magic| escape::text(magic.trim_matches(['#', ' ']).trim_start_matches("LoaderInfo: ")));
            if pe.has(".linux") {
                entries.push(unified(boot, &place, pe)?.entry);
                what = Some("unified kernel image".to_owned());
            }
        }
        found.firmware.push(EfiProgram { path: shown(&place), size: file.metadata.len, what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pe::program;
    use crate::read::fake::Fake;

    fn found(fs: &Fake) -> BootReport {
        let mut problems = Vec::new();
        let found = super::super::examine(1, fs, None, &mut problems).unwrap_or_default();
        assert_eq!(problems, [""; 0]);
        found
    }

    fn ids(found: &BootReport) -> Vec<(&str, bool)> {
        found.entries.iter().map(|entry| (entry.id.as_str(), entry.default)).collect()
    }

    #[test]
    fn entries_name_files_in_any_case() {
        let conf = "title NixOS\nversion Generation 1\nlinux /EFI/nixos/kernel.efi\n# initrd none\ninitrd /efi/nixos/INITRD.efi\n\
                    initrd \\EFI\\nixos\\gone.efi\noptions init=/nix/store/x/init  quiet\noptions more\nmachine-id 1\n";
        let fs = Fake::new()
            .file("loader/entries/a.conf", conf)
            .file("EFI/nixos/kernel.efi", "kernel")
            .file("EFI/nixos/initrd.efi", "initrd!");
        let found = found(&fs);
        let [entry] = found.entries.as_slice() else { panic!("{found:?}") };
        assert_eq!(entry.title.as_deref(), Some("NixOS"));
        assert_eq!(entry.options, "init=/nix/store/x/init  quiet more");
        let files: Vec<_> =
            entry.files().map(|(what, file)| (what, file.found.as_ref().map(|found| found.size))).collect();
        assert_eq!(files, [("kernel", Some(6)), ("initrd", Some(7)), ("initrd", None), ("init", None)]);
    }

    #[test]
    fn the_default_is_what_the_pattern_means_or_the_first() {
        let entries = || {
            (8..12).fold(Fake::new(), |fs, n| {
                let text = format!("sort-key nixos\nversion Generation {n}\n");
                fs.file(format!("loader/entries/nixos-generation-{n}.conf"), text)
            })
        };
        let all = entries().file("loader/entries/old.conf", "title Old\n").file("loader/entries/ignored.txt", "");
        let order = [
            "nixos-generation-11.conf",
            "nixos-generation-10.conf",
            "nixos-generation-9.conf",
            "nixos-generation-8.conf",
            "old.conf",
        ];
        let default = |conf: &str| {
            let found = found(&all.clone().file("loader/loader.conf", conf));
            assert_eq!(found.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), order);
            ids(&found)
                .iter()
                .filter(|(_, default)| *default)
                .map(|(id, _)| (*id).to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(default("timeout 5\n"), order[0]);
        assert_eq!(default("default nixos-generation-9.conf\n"), order[2]);
        assert_eq!(default("default nixos-generation-8\n"), order[3]);
        assert_eq!(default("default nixos-*\n"), order[0]);
        assert_eq!(default("default\told*\n"), order[4]);
    }

    #[test]
    fn unified_images_and_boot_loaders_are_told_apart() {
        let uki = program(&[
            (".linux", b"kernel"),
            (".cmdline", b"init=/x"),
            (".osrel", b"ID=nixos\nPRETTY_NAME=\"NixOS 26.05\"\n"),
        ]);
        let sd_boot = program(&[(".text", b"code"), (".sdmagic", b"#### LoaderInfo: systemd-boot 252 ####")]);
        let fs = Fake::new()
            .file("EFI/Linux/a.efi", &uki)
            .file("EFI/Linux/broken.efi", "?")
            .file("EFI/BOOT/BOOTX64.EFI", &sd_boot);
        let found_one = found(&fs);
        assert_eq!(ids(&found_one), [("a.efi", true)]);
        assert_eq!(found_one.entries[0].title.as_deref(), Some("NixOS 26.05"));
        assert_eq!(found_one.firmware[0].what.as_deref(), Some("systemd-boot 252"));
        let alone = found(&Fake::new().file("efi/boot/bootaa64.efi", &uki));
        assert_eq!(ids(&alone), [("bootaa64.efi", true)]);
        assert_eq!(alone.firmware[0].what.as_deref(), Some("unified kernel image"));
    }

    proptest! {
        #[test]
        fn no_text_panics(entry in ".{0,200}", conf in "(default|timeout)? ?.{0,80}", name in "[a-z0-9*?.-]{1,20}") {
            let fs = Fake::new().file(format!("loader/entries/{name}.conf"), entry).file("loader/loader.conf", conf);
            prop_assert_eq!(found(&fs).entries.len(), 1);
        }
    }
}
