//! What U-Boot reads: extlinux.conf. Sources: "doc/README.distro" of U-Boot, and the configuration of syslinux.

use std::path::Path;

use super::{
    BootEntry, BootFs, BootReport, Configuration, FileReport, Loader, MAX_ENTRIES, MAX_INITRDS, MAX_OVERLAYS, escape,
    few, shown, too_many,
};
use crate::read::ReadError;

/// In the order in which U-Boot looks for it.
const CONFIGURATIONS: [&str; 2] = ["extlinux/extlinux.conf", "boot/extlinux/extlinux.conf"];

/// The word before the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Linux,
    Kernel,
}

/// A label as it is written.
#[derive(Default)]
struct Label<'a> {
    name: &'a str,
    title: Option<&'a str>,
    kernel: Option<(Key, &'a str)>,
    initrd: Option<&'a str>,
    device_tree: Option<&'a str>,
    overlays: &'a str,
    options: &'a str,
}

/// Adds what the first extlinux.conf says to `found`.
pub(super) fn examine(boot: &BootFs<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    for path in CONFIGURATIONS {
        if let Some((place, text)) = boot.text(path, &mut found.notes)? {
            add(boot, &place, &text, found);
            break;
        }
    }
    Ok(())
}

fn add(boot: &BootFs<'_>, place: &Path, text: &str, found: &mut BootReport) {
    let (labels, default, timeout) = parse(text);
    let directory = place.parent().unwrap_or(Path::new(""));
    // Without DEFAULT the first label boots.
    let chosen = default.and_then(|default| labels.iter().position(|label| label.name == default)).unwrap_or(0);
    let file = |path: &str| {
        let mut report = boot.file(&seen_from(directory, path));
        report.path = escape::text(path);
        report
    };
    // U-Boot takes what follows a # for the configuration of a FIT; of LINUX it does not.
    let kernel = |(key, path): (Key, &str)| {
        let end = path.find('#').filter(|_| key == Key::Kernel).unwrap_or(path.len());
        FileReport { path: escape::text(path), ..file(path.get(..end).unwrap_or(path)) }
    };
    let looked_at = labels.iter().enumerate().filter(|(i, _)| *i < MAX_ENTRIES || *i == chosen);
    let entries = looked_at.map(|(i, label)| {
        let id = escape::text(label.name);
        let initrds = label.initrd.iter().flat_map(|paths| paths.split(','));
        let initrds = few(initrds, MAX_INITRDS, &id, &mut found.notes).into_iter().map(file).collect();
        let overlays = few(label.overlays.split_whitespace(), MAX_OVERLAYS, &id, &mut found.notes);
        let device_tree_overlays = overlays.into_iter().map(file).collect();
        BootEntry {
            loader: Loader::Extlinux,
            id,
            title: label.title.map(escape::text),
            version: None,
            default: i == chosen,
            tries_left: None,
            kernel: label.kernel.map(kernel),
            initrds,
            device_tree: label.device_tree.map(file),
            device_tree_overlays,
            init: boot.init(label.options),
            options: escape::text(label.options),
        }
    });
    found.entries.extend(entries);
    let [default, timeout] = [default, timeout].map(|value| value.map(escape::text));
    let (loader, path) = (Loader::Extlinux, shown(place));
    found.notes.extend((labels.len() > MAX_ENTRIES).then(|| too_many(place)));
    found.configurations.push(Configuration { loader, partition: None, path, default, preferred: None, timeout });
}

/// A path that is relative is so from the configuration's directory.
fn seen_from(directory: &Path, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", directory.display()) }
}

fn parse(text: &str) -> (Vec<Label<'_>>, Option<&str>, Option<&str>) {
    let (mut labels, mut default, mut timeout) = (Vec::<Label<'_>>::new(), None, None);
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once(char::is_whitespace).map_or((line, ""), |(key, value)| (key, value.trim()));
        match key.to_ascii_lowercase().as_str() {
            "label" => labels.push(Label { name: value, ..Label::default() }),
            "default" => default = Some(value),
            "timeout" => timeout = Some(value),
            key => {
                if let Some(label) = labels.last_mut() {
                    label.set(key, value);
                }
            }
        }
    }
    (labels, default, timeout)
}

impl<'a> Label<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        match key {
            "menu" => {
                if let Some((_, title)) =
                    value.split_once(char::is_whitespace).filter(|(word, _)| word.eq_ignore_ascii_case("label"))
                {
                    self.title = Some(title.trim());
                }
            }
            "linux" => self.kernel = Some((Key::Linux, value)),
            "kernel" | "fit" => self.kernel = Some((Key::Kernel, value)),
            "fdtoverlays" | "devicetree-overlay" => self.overlays = value,
            "initrd" => self.initrd = Some(value),
            "fdt" | "devicetree" | "fdtdir" | "devicetreedir" => self.device_tree = Some(value),
            "append" => self.options = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{MAX_ENTRIES, MAX_INITRDS, MAX_OVERLAYS, MAX_TEXT};
    use crate::image::store::locate;
    use crate::inspect::boot::NixFs;
    use crate::read::fake::Fake;

    const CONF: &str = "\
# Generated file
DEFAULT nixos-2
MENU TITLE ----
TIMEOUT 50

LABEL nixos-default
  MENU LABEL NixOS - Default
  LINUX ../nixos/kernel
  INITRD ../nixos/initrd
  APPEND init=/nix/store/0q43idch209zsdngl8yl79x0y79aajib-s/init loglevel=4
  FDTDIR ../nixos/dtbs
  FDTOVERLAYS ../nixos/o1.dtbo  ../nixos/o2.dtbo

label nixos-2
  kernel /nixos/kernel#conf-1
  fdtoverlays /nixos/gone.dtbo
  append init=/nix/store/none/init
";

    #[test]
    fn labels_name_files_from_their_own_directory() {
        let boot = Fake::new()
            .file("extlinux/extlinux.conf", CONF)
            .file("nixos/kernel", "kernel")
            .file("nixos/initrd", "initrd!")
            .file("nixos/o1.dtbo", "1")
            .file("nixos/o2.dtbo", "2")
            .directory("nixos/dtbs");
        let store_path = "store/0q43idch209zsdngl8yl79x0y79aajib-s";
        let nix = Fake::new().link(format!("{store_path}/init"), "/nix/store/x").file("store/x", "#!");
        let nix = NixFs { partition: 2, fs: &nix, location: locate(&nix).unwrap() };
        let found = super::super::examine_alone(1, &boot, None, Some(&nix), &mut Vec::new()).unwrap();
        assert_eq!(
            (found.configurations[0].default.as_deref(), found.configurations[0].timeout.as_deref()),
            (Some("nixos-2"), Some("50"))
        );
        let entries: Vec<_> =
            found.entries.iter().map(|entry| (entry.id.as_str(), entry.title.as_deref(), entry.default)).collect();
        assert_eq!(entries, [("nixos-default", Some("NixOS - Default"), false), ("nixos-2", None, true)]);
        let files = |i: usize| {
            let files = found.entries[i].files();
            files.map(|(what, file)| (what, file.found.as_ref().map(|found| found.path.as_str()))).collect::<Vec<_>>()
        };
        let wanted = [
            ("kernel", Some("nixos/kernel")),
            ("initrd", Some("nixos/initrd")),
            ("device tree", Some("nixos/dtbs")),
            ("device tree overlay", Some("nixos/o1.dtbo")),
            ("device tree overlay", Some("nixos/o2.dtbo")),
            ("init", Some("store/x")),
        ];
        assert_eq!(files(0), wanted);
        assert_eq!(files(1), [("kernel", Some("nixos/kernel")), ("device tree overlay", None), ("init", None)]);
        assert_eq!(found.entries[1].kernel.as_ref().unwrap().path, "/nixos/kernel#conf-1");
    }

    #[test]
    fn what_is_not_looked_at_is_told() {
        let notes = |text: &str| {
            let fs = Fake::new().file("extlinux/extlinux.conf", text);
            super::super::examine_alone(1, &fs, None, None, &mut Vec::new()).unwrap().notes
        };
        let entry = |initrds, overlays| {
            let paths = |many, between: &str| vec!["/x"; many].join(between);
            format!("LABEL a\nINITRD {}\nFDTOVERLAYS {}\n", paths(initrds, ","), paths(overlays, " "))
        };
        assert_eq!(notes(&entry(MAX_INITRDS, MAX_OVERLAYS)), [""; 0]);
        let wanted = ["boot entry a: it names more files than are looked at here"];
        assert_eq!(notes(&entry(MAX_INITRDS + 1, MAX_OVERLAYS)), wanted);
        assert_eq!(notes(&entry(MAX_INITRDS, MAX_OVERLAYS + 1)), wanted);
        let sized = |size| notes(&format!("LABEL a\n{}", "#".repeat(size - 8)));
        assert_eq!(sized(MAX_TEXT), [""; 0]);
        let wanted = ["extlinux/extlinux.conf: only its first 1.0 MiB are looked at here"];
        assert_eq!(sized(MAX_TEXT + 1), wanted);
    }

    #[test]
    fn what_boots_is_shown_wherever_it_stands() {
        let labels: String = (0..=2 * MAX_ENTRIES).map(|i| format!("LABEL {i}\nLINUX /k\n")).collect();
        let text = format!("DEFAULT {}\n{labels}", 2 * MAX_ENTRIES);
        let fs = Fake::new().file("extlinux/extlinux.conf", &text);
        let found = super::super::examine_alone(1, &fs, None, None, &mut Vec::new()).unwrap();
        assert_eq!(found.entries.len(), MAX_ENTRIES + 1);
        assert!(found.entries.last().is_some_and(|last| last.default && last.id == "2000"));
        assert_eq!(found.notes, ["extlinux/extlinux.conf: it has more entries than are looked at here"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((label|linux|INITRD|append|menu label|default|fdt) .{0,40}\n|.{0,40}\n){0,20}") {
            let fs = Fake::new().file("extlinux/extlinux.conf", &text);
            let found = super::super::examine_alone(1, &fs, None, None, &mut Vec::new()).unwrap();
            prop_assert!(found.entries.len() <= text.lines().count());
            prop_assert_eq!(found.entries.iter().filter(|entry| entry.default).count(), found.entries.len().min(1));
        }
    }
}
