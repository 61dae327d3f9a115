//! The texts that systemd-boot reads, as nixpkgs' installer writes them. Pure.
//!
//! Keys are those of loader.conf(5) and of the Boot Loader Specification (UAPI.1).

use std::path::{Path, PathBuf};

use super::system::System;
use crate::spec::SystemdBoot;

/// The number that the first boot gives to the system in the image.
const GENERATION: u32 = 1;
/// The date that the installer will show for it: when the toplevel's directory was made, second 1 in every image.
const BUILT_ON: &str = "1970-01-01";

/// An entry. `kernel` and `initrd` are paths on the ESP, and so is `device_tree`.
///
/// No machine-id, which only the first boot makes: then the first installation replaces the entry, not the files that
/// it names.
pub(super) fn entry(
    system: &System,
    distro_name: &str,
    [kernel, initrd]: [&PathBuf; 2],
    device_tree: Option<&Path>,
) -> String {
    let bootspec = &system.bootspec;
    let specialisation = system.specialisation.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let mut lines = vec![
        format!("title {distro_name}{specialisation}"),
        format!("version Generation {GENERATION} {}, built on {BUILT_ON}", bootspec.label),
        format!("linux /{}", kernel.display()),
        format!("initrd /{}", initrd.display()),
    ];
    lines.extend(system.extra_initrds.iter().map(|path| format!("initrd /{path}")));
    let init = format!("init={}", bootspec.init.display());
    let params = std::iter::once(init.as_str()).chain(bootspec.kernel_params.iter().map(String::as_str));
    lines.push(format!("options {}", params.collect::<Vec<_>>().join(" ")));
    lines.extend(device_tree.map(|path| format!("devicetree /{}", path.display())));
    lines.push(format!("sort-key {}", system.sort_key));
    // No line break at the end: the entry's name is the checksum of this very text.
    lines.join("\n")
}

/// loader.conf, with the entry `default`. Without one, systemd-boot starts the first of its menu: the newest version that
/// has tries left.
pub(super) fn loader_conf(wanted: &SystemdBoot, default: Option<&str>) -> String {
    let timeout = wanted.timeout.map_or_else(|| "menu-force".to_owned(), |seconds| seconds.to_string());
    let mut lines = vec![format!("timeout {timeout}")];
    match default {
        // An entry that used up its tries is passed over, to the newest that did not.
        Some(default) if wanted.boot_counting_tries.is_some() => {
            lines.extend([format!("preferred {default}"), "default nixos-*".to_owned()]);
        }
        Some(default) => lines.push(format!("default {default}")),
        None => {}
    }
    if !wanted.editor {
        lines.push("editor 0".to_owned());
    }
    if wanted.reboot_for_bitlocker {
        lines.push("reboot-for-bitlocker yes".to_owned());
    }
    lines.push(format!("console-mode {}", wanted.console_mode));
    lines.join("\n") + "\n"
}
