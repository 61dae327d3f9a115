//! What U-Boot reads: extlinux.conf, by "doc/README.distro" of U-Boot and the syslinux configuration.

use std::path::Path;

use super::{BootEntry, BootFs, BootReport, Configuration, Loader, MAX_ENTRIES, MAX_INITRDS, escape, shown};
use crate::read::ReadError;

/// In the order in which U-Boot looks for it.
const CONFIGURATIONS: [&str; 2] = ["extlinux/extlinux.conf", "boot/extlinux/extlinux.conf"];

/// A label as it is written.
#[derive(Default)]
struct Label<'a> {
    name: &'a str,
    title: Option<&'a str>,
    kernel: Option<&'a str>,
    initrd: Option<&'a str>,
    device_tree: Option<&'a str>,
    options: &'a str,
}

/// Adds what the first extlinux.conf says to `found`.
pub(super) fn examine(boot: &BootFs<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    for path in CONFIGURATIONS {
        if let Some((place, text)) = boot.text(path)? {
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
    let entries = labels.iter().enumerate().take(MAX_ENTRIES).map(|(i, label)| BootEntry {
        loader: Loader::Extlinux,
        id: escape::text(label.name),
        title: label.title.map(escape::text),
        version: None,
        default: i == chosen,
        kernel: label.kernel.map(file),
        initrds: label.initrd.iter().flat_map(|paths| paths.split(',')).take(MAX_INITRDS).map(file).collect(),
        device_tree: label.device_tree.map(file),
        init: boot.init(label.options),
        options: escape::text(label.options),
    });
    found.entries.extend(entries);
    let [default, timeout] = [default, timeout].map(|value| value.map(escape::text));
    found.configurations.push(Configuration { loader: Loader::Extlinux, path: shown(place), default, timeout });
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
            "linux" | "kernel" | "fit" => self.kernel = Some(value),
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

label nixos-2
  kernel /nixos/gone
  append init=/nix/store/none/init
";

    #[test]
    fn labels_name_files_from_their_own_directory() {
        let boot = Fake::new()
            .file("extlinux/extlinux.conf", CONF)
            .file("nixos/kernel", "kernel")
            .file("nixos/initrd", "initrd!")
            .directory("nixos/dtbs");
        let store_path = "store/0q43idch209zsdngl8yl79x0y79aajib-s";
        let nix = Fake::new().link(format!("{store_path}/init"), "/nix/store/x").file("store/x", "#!");
        let nix = NixFs { partition: 2, fs: &nix, location: locate(&nix).unwrap() };
        let found = super::super::examine(1, &boot, Some(&nix), &mut Vec::new()).unwrap();
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
            ("init", Some("store/x")),
        ];
        assert_eq!(files(0), wanted);
        assert_eq!(files(1), [("kernel", None), ("init", None)]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((label|linux|INITRD|append|menu label|default|fdt) .{0,40}\n|.{0,40}\n){0,20}") {
            let fs = Fake::new().file("extlinux/extlinux.conf", &text);
            let found = super::super::examine(1, &fs, None, &mut Vec::new()).unwrap();
            prop_assert!(found.entries.len() <= text.lines().count());
            prop_assert_eq!(found.entries.iter().filter(|entry| entry.default).count(), found.entries.len().min(1));
        }
    }
}
