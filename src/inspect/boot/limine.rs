//! What Limine reads: limine.conf, by its CONFIG.md, of version 8 and later.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;

use super::{
    BootEntry, BootFs, BootReport, FileReport, Loader, MAX_ENTRIES, MAX_INITRDS, MAX_TEXT, Parts, Volume, escape, few,
    shown, too_many,
};
use crate::read::{Format, ReadError};

/// In the order in which Limine looks for it on each partition.
const CONFIGURATIONS: [&str; 5] =
    ["limine.conf", "limine/limine.conf", "boot/limine.conf", "boot/limine/limine.conf", "EFI/BOOT/limine.conf"];
/// As much longer as macros make the text, and as a line at most is.
const GROWTH: usize = 4;
/// As long as a title is, in characters.
const MAX_TITLE: usize = 250;
/// As deep as entries stand in others.
const MAX_DEPTH: usize = 16;

/// An entry as it is written, whether of a system or a directory of others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Item {
    /// The number of slashes, from 1.
    depth: usize,
    /// Whether the menu shows at once what is in it.
    is_open: bool,
    title: String,
    /// Keys in lower case, and their values, in order.
    options: Vec<(String, String)>,
}

impl Item {
    /// The first value of any of these keys.
    fn value(&self, keys: &[&str]) -> Option<&str> {
        value(&self.options, keys)
    }
}

/// What is said before the first entry, and all entries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conf {
    options: Vec<(String, String)>,
    items: Vec<Item>,
    /// Whether its macros left room for all lines.
    is_whole: bool,
}

impl Conf {
    /// Whether others stand in an entry.
    fn is_directory(&self, at: usize) -> bool {
        let depth = |at| self.items.get(at).map(|item: &Item| item.depth);
        depth(at.saturating_add(1)) > depth(at)
    }
}

/// Adds what the first limine.conf of the image says to `found`. Limine reads nothing but FAT.
pub(super) fn examine(parts: &Parts<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    for volume in parts.in_order().filter(|volume| volume.fs.summary().format == Format::Vfat) {
        let boot = BootFs { partition: volume.number, fs: volume.fs, nix: parts.nix.as_ref() };
        for path in CONFIGURATIONS {
            let Ok(place) = boot.place(path) else { continue };
            let text = boot.text_at(&place, MAX_TEXT, &mut found.notes)?;
            add(parts, &boot, &place, &parse(&text), found);
            return Ok(());
        }
    }
    Ok(())
}

fn add(parts: &Parts<'_>, boot: &BootFs<'_>, place: &Path, conf: &Conf, found: &mut BootReport) {
    let global = |key: &str| value(&conf.options, &[key]).map(escape::text);
    found.configure(Loader::Limine, (boot.partition, place), global("default_entry"), global("timeout"));
    let chosen = chosen(conf);
    let mut titles: Vec<&str> = Vec::new();
    let mut entries = Vec::new();
    let mut is_whole = conf.is_whole;
    for (i, item) in conf.items.iter().enumerate() {
        titles.truncate(item.depth.saturating_sub(1));
        titles.push(&item.title);
        let is_default = chosen == Some(i);
        if conf.is_directory(i) {
            if is_default {
                let path = shown(place);
                found
                    .warnings
                    .push(format!("{path}: the default entry is a directory of others, so that Limine waits"));
            }
        } else if is_default || entries.len() < MAX_ENTRIES {
            entries.push(entry(parts, boot, item, &titles.join(">"), is_default, &mut found.notes));
        } else {
            is_whole = false;
        }
    }
    found.notes.extend((!is_whole).then(|| too_many(place)));
    found.entries.append(&mut entries);
}

fn entry(
    parts: &Parts<'_>,
    boot: &BootFs<'_>,
    item: &Item,
    id: &str,
    default: bool,
    notes: &mut Vec<String>,
) -> BootEntry {
    let id = escape::text(id);
    let file = |path: &str| file(parts, boot, path);
    let modules = item.options.iter().filter(|(key, _)| key == "module_path").map(|(_, path)| path.as_str());
    // Of Xen, Linux is a module, and its parameters are that module's.
    let options = item.value(&["cmdline", "kernel_cmdline"]).unwrap_or_default();
    let of_modules = item.options.iter().filter(|(key, _)| key == "module_string").map(|(_, text)| text.as_str());
    let options = of_modules.chain([options]).find(|text| text.contains("init=")).unwrap_or(options);
    BootEntry {
        loader: Loader::Limine,
        initrds: few(modules, MAX_INITRDS, &id, notes).into_iter().map(file).collect(),
        id,
        title: Some(escape::text(&item.title)),
        version: item.value(&["comment"]).map(escape::text),
        tries_left: None,
        default,
        kernel: item.value(&["path", "kernel_path", "image_path"]).map(file),
        device_tree: item.value(&["dtb_path"]).map(file),
        device_tree_overlays: Vec::new(),
        init: boot.init(options),
        options: escape::text(options),
    }
}

/// A file as `boot():/path#hash`; the hash is Limine's to check.
fn file(parts: &Parts<'_>, boot: &BootFs<'_>, written: &str) -> FileReport {
    let found = || {
        let path = written.split_once('#').map_or(written, |(path, _)| path);
        let (resource, rest) = path.split_once('(')?;
        let (argument, path) = rest.split_once("):")?;
        let volume = volume(parts, boot, &resource.to_ascii_lowercase(), argument)?;
        if volume.fs.summary().format != Format::Vfat {
            return None;
        }
        BootFs { partition: volume.number, fs: volume.fs, nix: None }.file(path).found
    };
    FileReport { path: escape::text(written), found: found() }
}

fn volume<'a, 'p>(parts: &'p Parts<'a>, boot: &BootFs<'_>, resource: &str, argument: &str) -> Option<&'p Volume<'a>> {
    let numbered = |number: &str| number.parse().ok().and_then(|number| parts.volume(Some(number)));
    match resource {
        "boot" if argument.is_empty() => parts.volume(Some(boot.partition)),
        "boot" => numbered(argument),
        "hdd" => numbered(argument.strip_prefix("1:")?),
        "guid" | "uuid" => {
            let guid = Uuid::parse_str(argument).ok().filter(|guid| !guid.is_nil());
            parts
                .volumes
                .iter()
                .find(|volume| volume.fs.summary().uuid.eq_ignore_ascii_case(argument) || guid == Some(volume.guid))
        }
        "fslabel" => parts.volumes.iter().find(|volume| volume.fs.summary().label == argument),
        _ => None,
    }
}

/// Which item `default_entry` means: it counts what the menu shows at first, from 1.
fn chosen(conf: &Conf) -> Option<usize> {
    let wanted = value(&conf.options, &["default_entry"]).map_or(0, |text| {
        let len = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..len).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0).saturating_sub(1)
    });
    let mut closed_at = usize::MAX;
    let is_shown = |(i, item): (usize, &Item)| {
        if item.depth > closed_at {
            return None;
        }
        closed_at = if item.is_open { usize::MAX } else { item.depth };
        Some(i)
    };
    let shown: Vec<usize> = conf.items.iter().enumerate().filter_map(is_shown).collect();
    // Of a text that goes on, it is not known how many there are.
    shown.get(wanted).or(shown.first().filter(|_| conf.is_whole)).copied()
}

fn value<'c>(options: &'c [(String, String)], keys: &[&str]) -> Option<&'c str> {
    options.iter().find(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| value.as_str())
}

fn parse(text: &str) -> Conf {
    let lines = || text.lines().map(|line| line.trim_start_matches([' ', '\t']).trim_end_matches('\r'));
    let macros: BTreeMap<&str, &str> = lines().filter_map(definition).collect();
    let mut conf = Conf { is_whole: true, ..Conf::default() };
    let mut room = text.len().saturating_mul(GROWTH);
    for line in lines().filter(|line| definition(line).is_none() && !line.starts_with('#')) {
        let Some(line) = expand(line, &macros, &mut room) else {
            conf.is_whole = false;
            break;
        };
        let depth = line.bytes().take_while(|byte| *byte == b'/').count();
        if depth > 0 {
            // One without a parent makes Limine stop.
            let deepest = conf.items.last().map_or(0, |item| item.depth).saturating_add(1).min(MAX_DEPTH);
            let title = line.get(depth..).unwrap_or_default();
            let (is_open, title) = title.strip_prefix('+').map_or((false, title), |title| (true, title));
            let (depth, title) = (depth.min(deepest), title.trim().chars().take(MAX_TITLE).collect());
            conf.items.push(Item { depth, is_open, title, options: Vec::new() });
        } else if let Some((key, value)) = line.split_once(':') {
            let options = conf.items.last_mut().map_or(&mut conf.options, |item| &mut item.options);
            options.push((key.to_ascii_lowercase(), value.trim_start_matches([' ', '\t']).to_owned()));
        }
    }
    conf
}

/// The name and the value of a macro, if the line defines one.
fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("${")?.split_once("}=").filter(|(name, _)| !name.contains('}'))
}

/// A line with its macros replaced; one that is not known is nothing. `None` if there is no `room` for it.
fn expand(line: &str, macros: &BTreeMap<&str, &str>, room: &mut usize) -> Option<String> {
    let mut out = String::new();
    let mut add = |text: &str| {
        *room = room.checked_sub(text.len())?;
        out.push_str(text);
        Some(())
    };
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        add(before)?;
        add(macros.get(name).copied().unwrap_or_default())?;
        rest = after;
    }
    add(rest)?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::store::locate;
    use crate::inspect::boot::NixFs;
    use crate::read::fake::Fake;

    /// As limine-install.py writes it.
    const CONF: &str = "\
timeout: 5
editor_enabled: yes
default_entry: 3

# NixOS boot entries start here
/+NixOS default profile
//+Generation 2
///Default
protocol: linux
comment: NixOS 26.05, built on 2026-01-01 00:00:00
kernel_path: boot():/limine/kernels/k-bzImage#0123abcd
cmdline: init=/nix/store/0q43idch209zsdngl8yl79x0y79aajib-s/init loglevel=4
module_path: boot():/limine/kernels/i-initrd#99
module_path: boot():/limine/kernels/gone
///quiet
protocol: linux
KERNEL_PATH: fslabel(ESP):/limine/kernels/k-bzImage
//Generation 1
protocol: linux
kernel_path: boot(2):/k
# NixOS boot entries end here
/Memtest
    protocol: efi
    path: hdd(1:1):/EFI/${WHAT}.efi
${WHAT}=memtest
";

    fn found(conf: &str) -> BootReport {
        let esp = Fake::new()
            .vfat("ESP")
            .file("limine/limine.conf", conf)
            .file("limine/kernels/k-bzImage", "kernel")
            .file("limine/kernels/i-initrd", "initrd")
            .file("EFI/memtest.efi", "m");
        let store_path = "store/0q43idch209zsdngl8yl79x0y79aajib-s";
        let nix = Fake::new().file(format!("{store_path}/init"), "#!").file("k", "not read by Limine");
        let nix = NixFs { partition: 2, fs: &nix, location: locate(&nix).unwrap() };
        let mut problems = Vec::new();
        let found = super::super::examine_alone(1, &esp, None, Some(&nix), &mut problems).unwrap();
        assert_eq!(problems, [""; 0]);
        found
    }

    fn default(found: &BootReport) -> Vec<&str> {
        found.entries.iter().filter(|entry| entry.default).map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn entries_name_files_by_resources() {
        let report = found(CONF);
        let wanted = [
            "NixOS default profile>Generation 2>Default",
            "NixOS default profile>Generation 2>quiet",
            "NixOS default profile>Generation 1",
            "Memtest",
        ];
        assert_eq!(report.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), wanted);
        let files = |i: usize| {
            let files = report.entries[i].files();
            files.map(|(what, file)| (what, file.found.as_ref().map(|found| found.partition))).collect::<Vec<_>>()
        };
        assert_eq!(files(0), [("kernel", Some(1)), ("initrd", Some(1)), ("initrd", None), ("init", Some(2))]);
        assert_eq!(
            (files(1), files(2), files(3)),
            (vec![("kernel", Some(1))], vec![("kernel", None)], vec![("kernel", Some(1))])
        );
        let first = &report.entries[0];
        assert_eq!(first.kernel.as_ref().unwrap().path, "boot():/limine/kernels/k-bzImage#0123abcd");
        assert_eq!(first.version.as_deref(), Some("NixOS 26.05, built on 2026-01-01 00:00:00"));
        let configuration = &report.configurations[0];
        assert_eq!((configuration.path.as_str(), configuration.partition), ("limine/limine.conf", None));
        assert_eq!((configuration.default.as_deref(), configuration.timeout.as_deref()), (Some("3"), Some("5")));
    }

    #[test]
    fn the_default_counts_what_the_menu_shows() {
        let report = found(CONF);
        assert_eq!((default(&report), report.warnings.len()), (vec!["NixOS default profile>Generation 2>Default"], 0));
        let with = |entry: &str| found(&CONF.replace("default_entry: 3", &format!("default_entry: {entry}")));
        assert_eq!(default(&with("5")), ["NixOS default profile>Generation 1"]);
        assert_eq!(default(&with("6")), ["Memtest"]);
        for directory in ["1", "2", "0", "7", "x"] {
            let report = with(directory);
            assert_eq!((default(&report).len(), report.warnings.len()), (0, 1), "{directory}");
        }
        let closed = found(&CONF.replace("//+", "//").replace("default_entry: 3", "default_entry: 4"));
        assert_eq!(default(&closed), ["Memtest"]);
        assert_eq!(default(&found("/one\n/two\n")), ["one"]);
    }

    #[test]
    fn what_boots_is_shown_wherever_it_stands() {
        let entries: String = (0..=3 * MAX_ENTRIES).map(|i| format!("/{i}\n")).collect();
        let report = found(&format!("default_entry: {}\n{entries}", 3 * MAX_ENTRIES + 1));
        assert_eq!(report.entries.len(), MAX_ENTRIES + 1);
        assert!(report.entries.last().is_some_and(|last| last.default && last.id == "3000"));
        assert_eq!(report.notes, ["limine/limine.conf: it has more entries than are looked at here"]);
        assert_eq!(report.warnings, [""; 0]);
    }

    #[test]
    fn macros_do_not_grow_without_end() {
        let conf = format!("${{a}}={}\n/x\n{}", "y".repeat(1000), "k: ${a}${a}${a}\n".repeat(1000));
        let conf = parse(&conf);
        assert_eq!(conf.items.len(), 1);
        assert!(conf.items[0].options.len() < 40);
        assert!(!conf.is_whole);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((/{1,4}[+]?|default_entry: |cmdline: |kernel_path: boot[(][)]:/|[$][{]a[}]=?).{0,20}\n|.{0,30}\n){0,30}") {
            let report = found(&text);
            prop_assert!(report.entries.len() <= text.lines().count());
            prop_assert!(report.entries.iter().filter(|entry| entry.default).count() <= 1);
        }
    }
}
