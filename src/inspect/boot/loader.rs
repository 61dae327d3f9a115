//! What systemd-boot reads, and what UEFI starts by itself. Sources: the Boot Loader Specification and loader.conf(5).

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use super::glob::Pattern;
use super::pe::Pe;
use super::{
    BootEntry, BootFs, BootReport, Configuration, EfiProgram, Entry, Files, Loader, MAX_ENTRY_TEXT, MAX_INITRDS,
    MAX_OVERLAYS, Place, escape, few, shown, version,
};
use crate::read::ReadError;

const CONFIGURATION: &str = "loader/loader.conf";
const ENTRIES: &str = "loader/entries";
const UNIFIED: &str = "EFI/Linux";
const REMOVABLE: &str = "EFI/BOOT";
const CREDENTIALS: &str = "loader/credentials";

/// An entry and what it is sorted by.
struct Sortable {
    entry: BootEntry,
    sort_key: Option<String>,
    machine_id: String,
    version: String,
    tries_done: u32,
}

impl Sortable {
    /// Whether it was tried as often as it may be, and never booted well.
    fn is_bad(&self) -> bool {
        self.entry.tries_left == Some(0)
    }
}

/// Adds all that is there to `found`; `extended` is the partition with further entries, whose files are on it as well.
pub(super) fn examine(
    boot: &BootFs<'_>,
    extended: Option<&BootFs<'_>>,
    found: &mut BootReport,
) -> Result<(), ReadError> {
    let mut entries = Vec::new();
    removable(boot, found, &mut entries)?;
    let (mut listed, mut more) = (Vec::new(), Vec::new());
    for (i, fs) in std::iter::once(boot).chain(extended).enumerate() {
        let before = listed.len();
        more.extend(type_1(fs, &mut listed, &mut found.notes)?);
        more.extend(type_2(fs, &mut listed)?);
        if i > 0 && listed.len() > before {
            found.extended = Some(fs.partition);
        }
    }
    listed.sort_by(order);
    let configuration = configuration(boot, &mut found.notes)?;
    if !more.is_empty() {
        // One of those that were not looked at could be what boots.
        found.notes.extend(more);
    } else if let Some(at) = chosen(configuration.as_ref(), &listed)
        && let Some(one) = listed.get_mut(at)
    {
        one.entry.default = true;
    } else if let Some(one) = entries.first_mut() {
        // Nothing to choose from: firmware starts it right away.
        let one: &mut BootEntry = one;
        one.default = true;
    }
    found.configurations.extend(configuration);
    found.entries.extend(listed.into_iter().map(|one| one.entry).chain(entries));
    credentials(boot, found)?;
    Ok(())
}

/// Credentials for all that systemd-stub starts.
fn credentials(boot: &BootFs<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    let Files { files, more } = boot.files(CREDENTIALS, |name| ends_with(name, "cred"))?;
    let place = |(path, entry): &(PathBuf, Entry)| Place {
        partition: boot.partition,
        path: shown(path),
        size: entry.metadata.len,
    };
    found.credentials = files.iter().map(place).collect();
    found.notes.extend(more);
    Ok(())
}

fn ends_with(name: &str, suffix: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == suffix)
}

/// Which entry boots: the first that `preferred` means and that is not bad, or else that `default` means, or else the
/// first of all. (`bootctl list` takes a bad one for the preferred one, the loader does not.)
fn chosen(configuration: Option<&Configuration>, listed: &[Sortable]) -> Option<usize> {
    let meant = |pattern: Option<&String>, may_be_bad: bool| {
        let pattern = Pattern::new(pattern?);
        listed.iter().position(|one| (may_be_bad || !one.is_bad()) && pattern.matches(&one.entry.id))
    };
    let preferred = meant(configuration.and_then(|configuration| configuration.preferred.as_ref()), false);
    let default = || meant(configuration.and_then(|configuration| configuration.default.as_ref()), true);
    preferred.or_else(default).or_else(|| (!listed.is_empty()).then_some(0))
}

/// What was tried in vain comes last; entries with a sort key come before others, by it; then new before old.
fn order(one: &Sortable, other: &Sortable) -> Ordering {
    let newer_first = || version::compare(&other.entry.id, &one.entry.id);
    let by_key = match (&one.sort_key, &other.sort_key) {
        (Some(key), Some(other_key)) => key
            .cmp(other_key)
            .then_with(|| one.machine_id.cmp(&other.machine_id))
            .then_with(|| version::compare(&other.version, &one.version)),
        (one, other) => one.is_none().cmp(&other.is_none()),
    };
    let by_tries = || match (one.entry.tries_left, other.entry.tries_left) {
        (Some(left), Some(other_left)) => other_left.cmp(&left).then_with(|| one.tries_done.cmp(&other.tries_done)),
        _ => Ordering::Equal,
    };
    one.is_bad().cmp(&other.is_bad()).then(by_key).then_with(newer_first).then_with(by_tries)
}

/// An entry's id, which is its file's name without the counters before the suffix, and the counters: tries left and
/// tries done, as in `name+3-1.conf`.
fn counted(name: &str) -> (String, Option<(u32, u32)>) {
    let whole = || (name.to_owned(), None);
    let Some((stem, suffix)) = name.rsplit_once('.') else { return whole() };
    let Some((start, counters)) = stem.rsplit_once('+') else { return whole() };
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|_| is_number).and_then(|number| u32::try_from(number).ok())
    };
    match (number(left), number(done)) {
        (Some(left), Some(done)) => (format!("{start}.{suffix}"), Some((left, done))),
        _ => whole(),
    }
}

/// The lines of a configuration: a key, white space, a value.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(char::is_whitespace)).map(|(key, value)| (key, value.trim()))
}

/// The last value of a key, escaped: a later line counts.
fn value(text: &str, wanted: &str) -> Option<String> {
    lines(text).filter(|(key, _)| *key == wanted).last().map(|(_, value)| escape::text(value))
}

fn configuration(boot: &BootFs<'_>, notes: &mut Vec<String>) -> Result<Option<Configuration>, ReadError> {
    let Some((place, text)) = boot.text(CONFIGURATION, notes)? else { return Ok(None) };
    let [default, preferred, timeout] = ["default", "preferred", "timeout"].map(|key| value(&text, key));
    Ok(Some(Configuration {
        loader: Loader::SystemdBoot,
        partition: None,
        path: shown(&place),
        default,
        preferred,
        timeout,
    }))
}

/// loader/entries/*.conf; a note if there are too many.
fn type_1(boot: &BootFs<'_>, listed: &mut Vec<Sortable>, notes: &mut Vec<String>) -> Result<Option<String>, ReadError> {
    let Files { files, more } = boot.files(ENTRIES, |name| ends_with(name, "conf"))?;
    for (place, entry) in files {
        let text = boot.text_at(&place, MAX_ENTRY_TEXT, notes)?;
        listed.push(parse(boot, &escape::name(&entry.name), &text, notes));
    }
    Ok(more)
}

fn parse(boot: &BootFs<'_>, name: &str, text: &str, notes: &mut Vec<String>) -> Sortable {
    let any = |wanted: &[&str]| lines(text).filter(|(key, _)| wanted.contains(key)).last().map(|(_, value)| value);
    let all = |wanted: &'static str| lines(text).filter(move |(key, _)| *key == wanted).map(|(_, value)| value);
    let options = all("options").collect::<Vec<_>>().join(" ");
    let kernel = any(&["linux", "efi", "uki"]);
    let overlays = any(&["devicetree-overlay"]).unwrap_or_default();
    let (id, counters) = counted(name);
    let initrds = few(all("initrd"), MAX_INITRDS, &id, notes);
    let overlays = few(overlays.split_whitespace(), MAX_OVERLAYS, &id, notes);
    let entry = BootEntry {
        loader: Loader::SystemdBoot,
        id,
        title: value(text, "title"),
        version: value(text, "version"),
        tries_left: counters.map(|(left, _)| left),
        default: false,
        kernel: kernel.map(|path| boot.file(path)),
        initrds: initrds.into_iter().map(|path| boot.file(path)).collect(),
        device_tree: any(&["devicetree"]).map(|path| boot.file(path)),
        device_tree_overlays: overlays.into_iter().map(|path| boot.file(path)).collect(),
        init: boot.init(&options),
        options: escape::text(&options),
    };
    let version = entry.version.clone().unwrap_or_default();
    Sortable {
        entry,
        sort_key: value(text, "sort-key"),
        machine_id: value(text, "machine-id").unwrap_or_default(),
        version,
        tries_done: counters.map_or(0, |(_, done)| done),
    }
}

/// EFI/Linux/*.efi; a note if there are too many.
fn type_2(boot: &BootFs<'_>, listed: &mut Vec<Sortable>) -> Result<Option<String>, ReadError> {
    let Files { files, more } = boot.files(UNIFIED, |name| ends_with(name, "efi"))?;
    for (place, _) in files {
        if let Some(pe) = Pe::read(boot.fs, &place)? {
            listed.push(unified(boot, &place, &pe)?);
        }
    }
    Ok(more)
}

fn unified(boot: &BootFs<'_>, place: &Path, pe: &Pe) -> Result<Sortable, ReadError> {
    let text = |section: &str| pe.text(boot.fs, place, section);
    let release = text(".osrel")?.unwrap_or_default();
    let field = |names: &[&str]| names.iter().find_map(|name| release_field(&release, name));
    let options = text(".cmdline")?.unwrap_or_default();
    let version = field(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]);
    let (id, counters) = counted(&place.file_name().map(escape::name).unwrap_or_default());
    let entry = BootEntry {
        loader: Loader::Uki,
        id,
        title: field(&["PRETTY_NAME", "IMAGE_ID", "NAME", "ID"]),
        version: version.clone(),
        tries_left: counters.map(|(left, _)| left),
        default: false,
        kernel: place.to_str().map(|path| boot.file(path)),
        initrds: Vec::new(),
        device_tree: None,
        device_tree_overlays: Vec::new(),
        init: boot.init(&options),
        options: escape::text(&options),
    };
    let version = version.unwrap_or_default();
    let (sort_key, machine_id) = (field(&["IMAGE_ID", "ID"]), String::new());
    Ok(Sortable { entry, sort_key, machine_id, version, tries_done: counters.map_or(0, |(_, done)| done) })
}

/// A field of os-release, without its quotes.
fn release_field(release: &str, name: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(escape::text(value.trim().trim_matches(['"', '\''])))
}

/// EFI/BOOT/BOOT*.EFI: what firmware starts from a disk that it does not know. A unified kernel image can be there too.
fn removable(boot: &BootFs<'_>, found: &mut BootReport, entries: &mut Vec<BootEntry>) -> Result<(), ReadError> {
    let Files { files, more } = boot.files(REMOVABLE, |name| name.starts_with("boot") && ends_with(name, "efi"))?;
    found.notes.extend(more);
    for (place, file) in files {
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

    use super::super::MAX_ENTRIES;
    use super::*;
    use crate::pe::program;
    use crate::read::fake::Fake;

    fn found(fs: &Fake) -> BootReport {
        let mut problems = Vec::new();
        let found = super::super::examine_alone(1, fs, None, None, &mut problems).unwrap_or_default();
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
            .vfat("ESP")
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
    fn what_boots_is_not_guessed_among_too_many() {
        let entries = |many: usize| {
            let other = Fake::new().file("EFI/BOOT/BOOTX64.EFI", "x").file("loader/entries/a.txt", "");
            (0..many).fold(other, |fs, n| fs.file(format!("loader/entries/{n}.conf"), "title x\n"))
        };
        let [all, some] = [MAX_ENTRIES, MAX_ENTRIES + 1].map(|many| found(&entries(many)));
        for found in [&all, &some] {
            assert_eq!(found.entries.len(), MAX_ENTRIES);
        }
        assert_eq!(all.entries.iter().position(|entry| entry.default), Some(0));
        assert_eq!(all.notes, [""; 0]);
        assert!(some.entries.iter().all(|entry| !entry.default));
        assert_eq!(some.notes, ["loader/entries: it has more entries than are looked at here"]);
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
        // The suffix belongs to the id.
        assert_eq!(default("default nixos-generation-8\n"), order[0]);
        assert_eq!(default("default nixos-generation-8*\n"), order[3]);
        assert_eq!(default("default old.conf\ndefault nixos-generation-9.conf\n"), order[2]);
        assert_eq!(default("default old.conf\npreferred nixos-generation-9.conf\n"), order[2]);
        assert_eq!(default("default nixos-*\n"), order[0]);
        assert_eq!(default("default\told*\n"), order[4]);
    }

    #[test]
    fn tries_that_are_used_up_come_last() {
        let entry = |fs: Fake, name: &str| fs.file(format!("loader/entries/{name}"), "title x\n");
        let names = ["c+0-3.conf", "b+1-2.conf", "a.conf", "b+2-1.conf", "d+x.conf"];
        let fs = names.into_iter().fold(Fake::new(), entry);
        let order = ["d+x.conf", "b.conf", "b.conf", "a.conf", "c.conf"];
        assert_eq!(found(&fs).entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), order);
        let tries: Vec<_> = found(&fs).entries.iter().map(|entry| entry.tries_left).collect();
        assert_eq!(tries, [None, Some(2), Some(1), None, Some(0)]);
        let default = |conf: &str| {
            let found = found(&fs.clone().file("loader/loader.conf", conf));
            found.entries.iter().position(|entry| entry.default).unwrap()
        };
        assert_eq!(default("default c.conf\n"), 4);
        assert_eq!(default("preferred c.conf\ndefault a.conf\n"), 3);
        assert_eq!(default("default c+0-3.conf\n"), 0);
    }

    #[test]
    fn entries_of_an_extended_partition_are_in_the_same_menu() {
        let esp = Fake::new().file("loader/loader.conf", "default b.conf\n").file("loader/entries/a.conf", "title A\n");
        let more = Fake::new()
            .file("loader/loader.conf", "default a.conf\n")
            .file("loader/entries/b.conf", "title B\nlinux /k\n")
            .file("k", "kernel");
        let found = super::super::examine_alone(1, &esp, Some((3, &more)), None, &mut Vec::new()).unwrap();
        assert_eq!(ids(&found), [("b.conf", true), ("a.conf", false)]);
        assert_eq!((found.partition, found.extended), (1, Some(3)));
        assert_eq!(found.entries[0].kernel.as_ref().unwrap().found.as_ref().unwrap().partition, 3);
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
        let alone = found(&Fake::new().vfat("ESP").file("efi/boot/bootaa64.efi", &uki));
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
