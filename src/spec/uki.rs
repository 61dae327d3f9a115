//! The unified kernel image of an image: one program with the kernel, the initrd and the command line.

use std::path::PathBuf;

use serde_json::{Number, Value};

use super::fields::{Object, as_is};
use super::validate;

/// The end of the names of programs for UEFI.
const SUFFIX: &str = ".efi";
/// What FAT takes in no name (Microsoft's FAT specification, long names).
const NOT_ON_FAT: &str = "\"*/:<>?\\|";
/// The longest name on FAT.
const NAME_MAX: usize = 255;
/// The most tries.
const MOST_TRIES: u8 = u8::MAX;

/// A unified kernel image as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    /// systemd's `linux<arch>.efi.stub`; absolute.
    pub stub: PathBuf,
    /// The kernel; absolute.
    pub kernel: PathBuf,
    /// The initrd; absolute.
    pub initrd: PathBuf,
    /// The command line, without the root hash of dm-verity: one line.
    pub cmdline: String,
    /// The os-release of the system, which has the title and the version of the entry; absolute.
    pub os_release: PathBuf,
    /// What `uname -r` prints of the kernel, if it is told: one line.
    pub uname: Option<String>,
    /// The device tree, if there is one; absolute.
    pub device_tree: Option<PathBuf>,
    /// Its name below `EFI/Linux`, without the counter of tries; ends in `.efi`.
    pub file_name: String,
    /// How often it is tried before it counts as bad, if that is counted; not zero.
    pub tries: Option<u8>,
}

impl Uki {
    /// Its name below `EFI/Linux`, with the counter: `nixos_1+3.efi`.
    pub fn counted_name(&self) -> String {
        let stem = self.file_name.strip_suffix(SUFFIX).unwrap_or(&self.file_name);
        self.tries.map_or_else(|| self.file_name.clone(), |tries| format!("{stem}+{tries}{SUFFIX}"))
    }
}

/// Reads `uki`, which may be null.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<Uki>> {
    let value = top.optional("uki", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let mut fields = top.nested(top.member("uki"), value)?;
    let path = |path: Option<String>| path.map(validate::absolute_path).transpose();
    let stub = fields.required(
        "stub",
        "lib/systemd/boot/efi/linux<arch>.efi.stub of the host's systemd",
        validate::absolute_path,
    );
    let kernel = fields.required("kernel", "the absolute path of a kernel", validate::absolute_path);
    let initrd = fields.required("initrd", "the absolute path of an initrd", validate::absolute_path);
    let cmdline = fields.required("cmdline", "the kernel's parameters in one line, without the root hash", one_line);
    let os_release = fields.required("osRelease", "the absolute path of an os-release", validate::absolute_path);
    let uname = fields.optional("uname", "the kernel's version or null", None, |text: Option<String>| {
        text.map(|text| if text.trim().is_empty() { Err("is empty".to_owned()) } else { one_line(text) }).transpose()
    });
    let device_tree = fields.optional("deviceTree", "the absolute path of a file or null", None, path);
    let file_name = fields.optional(
        "fileName",
        "a file name that ends in \".efi\", such as \"nixos_1.efi\"",
        "nixos.efi".to_owned(),
        file_name,
    );
    let tries = fields.optional("tries", "a whole number or null", None, tries);
    fields.finish();
    Some(Some(Uki {
        stub: stub?,
        kernel: kernel?,
        initrd: initrd?,
        cmdline: cmdline?,
        os_release: os_release?,
        uname: uname?,
        device_tree: device_tree?,
        file_name: file_name?,
        tries: tries?,
    }))
}

fn one_line(text: String) -> Result<String, String> {
    if text.contains(char::is_control) { Err(format!("{text:?} is not one line of text")) } else { Ok(text) }
}

fn tries(number: Option<Number>) -> Result<Option<u8>, String> {
    let tries = |number: Number| {
        let tries = number.as_u64().and_then(|number| u8::try_from(number).ok()).filter(|&tries| tries > 0);
        tries.ok_or_else(|| format!("{number} is not a whole number from 1 to {MOST_TRIES}"))
    };
    number.map(tries).transpose()
}

/// A name that FAT takes and that systemd-boot lists and takes for one without a counter.
fn file_name(name: String) -> Result<String, String> {
    let problem = |what: &str| Err(format!("{name:?} {what}"));
    let Some(stem) = name.strip_suffix(SUFFIX).filter(|stem| !stem.is_empty()) else {
        return problem("does not end in \".efi\", without which systemd-boot does not list it");
    };
    if name.contains(|c: char| c.is_control() || NOT_ON_FAT.contains(c)) {
        return problem("has a character that FAT takes in no name");
    }
    // With room for a counter, "+255".
    if name.encode_utf16().count() + 4 > NAME_MAX {
        return problem("is longer than a name on FAT can be");
    }
    let is_counter = |text: &str| {
        let numbers: Vec<_> = text.splitn(2, '-').collect();
        numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if stem.rsplit_once('+').is_some_and(|(_, counter)| is_counter(counter)) {
        return problem("ends in a counter of tries, which the field tries sets");
    }
    Ok(name)
}
