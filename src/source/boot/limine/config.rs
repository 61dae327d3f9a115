//! limine.conf, as nixpkgs' installer writes it for a machine of one generation. Pure.
//!
//! Settings are those of Limine's CONFIG.md.

use super::system::{System, Systems};
use crate::spec::{Limine, yes_or_no};

/// The date of a generation whose link is of second 1, as all files of an image.
const BUILT_ON: &str = "1970-01-01 00:00:01";

/// A system's kernel and initrd, as limine.conf names them.
pub(super) struct Uris {
    pub(super) kernel: String,
    pub(super) initrd: Option<String>,
}

/// The whole of it. `uris` are those of each system, in its order.
pub(super) fn config(wanted: &Limine, wallpapers: &[String], systems: &Systems, uris: &[Uris]) -> String {
    let timeout = wanted.timeout.map_or_else(|| "no".to_owned(), |seconds| seconds.to_string());
    let has_more = !systems.specialisations.is_empty();
    let distro = &wanted.distro_name;
    let mut lines = vec![
        wanted.extra_config.clone(),
        String::new(),
        format!("timeout: {timeout}"),
        format!("editor_enabled: {}", yes_or_no(wanted.enable_editor)),
        format!("hash_mismatch_panic: {}", yes_or_no(wanted.panic_on_checksum_mismatch)),
        "graphics: yes".to_owned(),
        format!("default_entry: {}", if has_more { 3 } else { 2 }),
    ];
    lines.extend(wallpapers.iter().map(|uri| format!("wallpaper: {uri}")));
    lines.extend(wanted.style.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend([String::new(), format!("# {distro} boot entries start here"), format!("/+{distro} default profile")]);
    let (depth, label) = if has_more { ("///", "Default") } else { ("//", "Generation 1") };
    lines.extend(has_more.then(|| "//+Generation 1".to_owned()));
    for (system, uris) in systems.all().zip(uris) {
        lines.push(format!("{depth}{}", system.specialisation.as_deref().unwrap_or(label)));
        lines.extend(entry(wanted, system, uris));
    }
    lines.extend([String::new(), format!("# {distro} boot entries end here"), String::new()]);
    lines.push(wanted.extra_entries.clone());
    stripped(&lines.join("\n")).to_owned()
}

fn entry(wanted: &Limine, system: &System, uris: &Uris) -> Vec<String> {
    let bootspec = &system.bootspec;
    let init = format!("init={}", bootspec.init.display());
    let params: Vec<_> = [init.as_str()].into_iter().chain(bootspec.kernel_params.iter().map(String::as_str)).collect();
    let mut lines = vec![
        "protocol: linux".to_owned(),
        format!("comment: {}, built on {BUILT_ON}", bootspec.label),
        format!("kernel_path: {}", uris.kernel),
        format!("cmdline: {}", stripped(&params.join(" "))),
    ];
    lines.extend(wanted.resolution.iter().map(|mode| format!("resolution: {mode}")));
    lines.extend(uris.initrd.iter().map(|uri| format!("module_path: {uri}")));
    lines.extend(system.extra_initrds.iter().map(|path| format!("module_path: boot():/{path}")));
    lines
}

/// Without blanks at either end, in the installer's sense, which is Python's.
fn stripped(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}
