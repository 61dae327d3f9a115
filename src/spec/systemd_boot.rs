//! The options of `boot.loader.systemd-boot` that change the files on an ESP.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};

use super::fields::{Object, as_is};
use super::validate;

/// In seconds.
const DEFAULT_TIMEOUT: u64 = 5;
/// Those of loader.conf(5).
const CONSOLE_MODES: [&str; 7] = ["0", "1", "2", "5", "auto", "max", "keep"];
const FILE: &str = "the absolute path of a file";
/// Where nixpkgs' installer keeps note of extra files; nixpkgs refuses any that lies there.
const MARKERS: [&str; 2] = ["nixos", ".extra-files"];
/// The seed of random numbers that systemd-boot hands to the kernel.
const RANDOM_SEED: [&str; 2] = ["loader", "random-seed"];

/// systemd-boot as the boot loader of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdBoot {
    /// The directory that holds `systemd-boot<arch>.efi`; absolute.
    pub efi_stub: PathBuf,
    /// Seconds for which the menu waits; for ever if there is no number.
    pub timeout: Option<u32>,
    /// Whether the command line can be changed in the menu.
    pub editor: bool,
    /// A mode of the console, as in loader.conf(5).
    pub console_mode: String,
    /// The device tree of entries whose bootspec names none; absolute.
    pub device_tree: Option<PathBuf>,
    /// The title of entries.
    pub distro_name: String,
    /// How often an entry is tried before it counts as bad, if that is counted.
    pub boot_counting_tries: Option<u32>,
    /// Whether the machine restarts so that BitLocker can measure what starts it.
    pub reboot_for_bitlocker: bool,
    /// More files of the ESP, by their paths there, and where they come from; sorted.
    pub extra_files: Vec<(PathBuf, PathBuf)>,
}

/// Reads `systemdBoot`, which may be null.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<SystemdBoot>> {
    let value = top.optional("systemdBoot", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let mut fields = top.nested(top.member("systemdBoot"), value)?;
    let wanted = "lib/systemd/boot/efi of the host's systemd";
    let efi_stub = fields.required("efiStub", wanted, validate::absolute_path);
    let timeout = fields.optional("timeout", "a number of seconds or null", Some(DEFAULT_TIMEOUT.into()), count);
    let editor = fields.optional("editor", "true or false", true, as_is);
    let console_mode = fields.optional(
        "consoleMode",
        &format!("one of {}", CONSOLE_MODES.join(", ")),
        "keep".to_owned(),
        console_mode,
    );
    let device_tree = fields.optional("deviceTree", &format!("{FILE} or null"), None, |path: Option<String>| {
        path.map(validate::absolute_path).transpose()
    });
    let distro_name = fields.optional("distroName", "a title of one line", "NixOS".to_owned(), one_line);
    let boot_counting_tries = fields.optional("bootCountingTries", "a whole number or null", None, count);
    let reboot_for_bitlocker = fields.optional("rebootForBitlocker", "true or false", false, as_is);
    let extra_files = read_extra_files(&mut fields);
    fields.finish();
    Some(Some(SystemdBoot {
        efi_stub: efi_stub?,
        timeout: timeout?,
        editor: editor?,
        console_mode: console_mode?,
        device_tree: device_tree?,
        distro_name: distro_name?,
        boot_counting_tries: boot_counting_tries?,
        reboot_for_bitlocker: reboot_for_bitlocker?,
        extra_files: extra_files?,
    }))
}

fn read_extra_files(fields: &mut Object<'_>) -> Option<Vec<(PathBuf, PathBuf)>> {
    let wanted = "an object of paths on the ESP and files";
    let files = fields.optional("extraFiles", wanted, Map::new(), as_is)?;
    let path = fields.member("extraFiles");
    let mut members = fields.nested(path, Value::Object(files.clone()))?;
    // The map's order is that of its keys, which are all different.
    let read = files.keys().map(|key| {
        let target = relative_path(key).map_err(|problem| {
            let remedy = "use another path from the root of the ESP, such as EFI/tools/shell.efi".to_owned();
            members.note(members.member(key), problem, remedy);
        });
        let source = members.named(key, FILE, validate::absolute_path);
        Some((target.ok()?, source?))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn relative_path(text: &str) -> Result<PathBuf, String> {
    text.split('/').try_for_each(validate::check_component).map_err(|problem| format!("has {problem}"))?;
    // FAT ignores case.
    let lower = text.to_ascii_lowercase();
    let names: Vec<_> = lower.split('/').collect();
    if names.windows(2).any(|pair| *pair == MARKERS) {
        return Err("is where the installer keeps its list of extra files".to_owned());
    }
    if names == RANDOM_SEED {
        return Err("would give all machines the same random numbers".to_owned());
    }
    Ok(Path::new(text).to_owned())
}

/// A small number or none.
fn count(number: Option<Number>) -> Result<Option<u32>, String> {
    let count = |number: Number| number.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or(number);
    number.map(count).transpose().map_err(|number| format!("{number} is not a whole number from 0 to {}", u32::MAX))
}

fn console_mode(text: String) -> Result<String, String> {
    if CONSOLE_MODES.contains(&text.as_str()) { Ok(text) } else { Err(format!("{text:?} is not a console mode")) }
}

fn one_line(text: String) -> Result<String, String> {
    let is_title = !text.trim().is_empty() && !text.contains(char::is_control);
    if is_title { Ok(text) } else { Err(format!("{text:?} is not a title")) }
}
