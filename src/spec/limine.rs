//! What is asked of Limine: the options of `boot.loader.limine` that change what is on a disk.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};

use super::fields::{Object, as_is};
use super::validate;

/// In seconds.
const DEFAULT_TIMEOUT: u64 = 5;
const FILE: &str = "the absolute path of a file";
const TEXT: &str = "a text without NUL characters";
const ONE_LINE: &str = "a text of one line";
const BOOLEAN: &str = "true or false";
/// The members of `style` that become a line of limine.conf each, and the names there, in the installer's order.
const STYLE: [(&str, &str); 18] = [
    ("wallpaperStyle", "wallpaper_style"),
    ("backdrop", "backdrop"),
    ("interfaceResolution", "interface_resolution"),
    ("interfaceBranding", "interface_branding"),
    ("interfaceBrandingColor", "interface_branding_colour"),
    ("interfaceHelpColor", "interface_help_colour"),
    ("interfaceHelpColorBright", "interface_help_colour_bright"),
    ("interfaceHelpHidden", "interface_help_hidden"),
    ("fontScale", "term_font_scale"),
    ("fontSpacing", "term_font_spacing"),
    ("palette", "term_palette"),
    ("brightPalette", "term_palette_bright"),
    ("foreground", "term_foreground"),
    ("background", "term_background"),
    ("brightForeground", "term_foreground_bright"),
    ("brightBackground", "term_background_bright"),
    ("margin", "term_margin"),
    ("marginGradient", "term_margin_gradient"),
];

/// Limine as the boot loader of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limine {
    /// The host's package, with `share/limine`; absolute.
    pub package: PathBuf,
    /// The program `limine` of the machine that builds, of the same version; absolute.
    pub tool: PathBuf,
    /// Whether a BIOS starts it.
    pub bios_support: bool,
    /// Whether UEFI starts it.
    pub efi_support: bool,
    /// Whether its program is at the removable path alone.
    pub efi_install_as_removable: bool,
    /// Whether its program for UEFI takes the configuration of this image and no other.
    pub enroll_config: bool,
    /// Whether files have checksums in limine.conf.
    pub validate_checksums: bool,
    /// Whether a wrong checksum stops the machine.
    pub panic_on_checksum_mismatch: bool,
    /// Seconds for which the menu waits; for ever if there is no number.
    pub timeout: Option<u32>,
    /// Whether entries can be changed in the menu.
    pub enable_editor: bool,
    /// The mode of the screen that Linux gets.
    pub resolution: Option<String>,
    /// What limine.conf starts with.
    pub extra_config: String,
    /// What it ends with.
    pub extra_entries: String,
    /// More files, by their paths in the directory `limine`, and where they come from; sorted.
    pub additional_files: Vec<(PathBuf, PathBuf)>,
    /// Pictures, of which one is shown; absolute.
    pub wallpapers: Vec<PathBuf>,
    /// More settings of limine.conf, in its words and the installer's order.
    pub style: Vec<(&'static str, String)>,
    /// The name of the system in the menu.
    pub distro_name: String,
}

/// Reads `limine`, which may be null.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<Limine>> {
    let value = top.optional("limine", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let mut fields = top.nested(top.member("limine"), value)?;
    let limine = read_fields(&mut fields);
    fields.finish();
    limine.map(Some)
}

/// All members are read before the first bad one makes the whole void.
fn read_fields(fields: &mut Object<'_>) -> Option<Limine> {
    let package = fields.required("package", "the path of a limine package", validate::absolute_path);
    let tool = fields.required("tool", "bin/limine of a limine package", validate::absolute_path);
    let bios_support = fields.optional("biosSupport", BOOLEAN, false, as_is);
    let efi_support = fields.optional("efiSupport", BOOLEAN, true, as_is);
    let efi_install_as_removable = fields.optional("efiInstallAsRemovable", BOOLEAN, false, as_is);
    let enroll_config = fields.optional("enrollConfig", BOOLEAN, false, as_is);
    let validate_checksums = fields.optional("validateChecksums", BOOLEAN, true, as_is);
    let panic_on_checksum_mismatch = fields.optional("panicOnChecksumMismatch", BOOLEAN, false, as_is);
    let timeout = fields.optional("timeout", "a number of seconds or null", Some(DEFAULT_TIMEOUT.into()), seconds);
    let enable_editor = fields.optional("enableEditor", BOOLEAN, false, as_is);
    let resolution = fields.optional("resolution", "a mode such as \"1920x1080x32\", or null", None, optional_line);
    let extra_config = fields.optional("extraConfig", TEXT, String::new(), text);
    let extra_entries = fields.optional("extraEntries", TEXT, String::new(), text);
    let additional_files = read_additional_files(fields);
    let style = read_style(fields);
    let distro_name = fields.optional("distroName", "a title of one line", "NixOS".to_owned(), line);
    let (wallpapers, style) = style?;
    let limine = Limine {
        package: package?,
        tool: tool?,
        bios_support: bios_support?,
        efi_support: efi_support?,
        efi_install_as_removable: efi_install_as_removable?,
        enroll_config: enroll_config?,
        validate_checksums: validate_checksums?,
        panic_on_checksum_mismatch: panic_on_checksum_mismatch?,
        timeout: timeout?,
        enable_editor: enable_editor?,
        resolution: resolution?,
        extra_config: extra_config?,
        extra_entries: extra_entries?,
        additional_files: additional_files?,
        wallpapers,
        style,
        distro_name: distro_name?,
    };
    if !limine.bios_support && !limine.efi_support {
        let path = fields.path().to_owned();
        fields.note(path, "is for neither a BIOS nor UEFI", "set limine.efiSupport or limine.biosSupport".to_owned());
        return None;
    }
    Some(limine)
}

/// The wallpapers, and the settings.
type Style = (Vec<PathBuf>, Vec<(&'static str, String)>);

fn read_style(fields: &mut Object<'_>) -> Option<Style> {
    let value = fields.optional("style", "an object", Map::new(), as_is)?;
    let mut style = fields.nested(fields.member("style"), Value::Object(value))?;
    let wallpapers = style.list("wallpapers", FILE, validate::absolute_path);
    let read = STYLE.map(|(key, name)| {
        let value = style.optional(key, "a text of one line, a number, true, false or null", Value::Null, setting)?;
        Some(value.map(|value| (name, value)))
    });
    style.finish();
    let settings: Option<Vec<_>> = read.into_iter().collect();
    Some((wallpapers?, settings?.into_iter().flatten().collect()))
}

fn read_additional_files(fields: &mut Object<'_>) -> Option<Vec<(PathBuf, PathBuf)>> {
    let wanted = "an object of paths below /boot/limine and files";
    let files = fields.optional("additionalFiles", wanted, Map::new(), as_is)?;
    let path = fields.member("additionalFiles");
    let mut members = fields.nested(path, Value::Object(files.clone()))?;
    // The map's order is that of its keys, which are all different.
    let read = files.keys().map(|key| {
        let is_path = key.split('/').try_for_each(validate::check_component).map_err(|problem| {
            let remedy = "use a path from /boot/limine on, such as efi/memtest86.efi".to_owned();
            members.note(members.member(key), format!("has {problem}"), remedy);
        });
        let source = members.named(key, FILE, validate::absolute_path);
        is_path.ok().and(Some((Path::new(key).to_owned(), source?)))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

/// A value as limine.conf has it.
fn setting(value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(yes_or_no(value).to_owned())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => line(text).map(Some),
        Value::Array(_) | Value::Object(_) => Err(format!("{value} is no setting")),
    }
}

/// In limine.conf's words.
pub(crate) fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn seconds(number: Option<Number>) -> Result<Option<u32>, String> {
    let count = |number: Number| number.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or(number);
    number.map(count).transpose().map_err(|number| format!("{number} is not a whole number from 0 to {}", u32::MAX))
}

fn text(text: String) -> Result<String, &'static str> {
    if text.contains('\0') { Err("holds a NUL character") } else { Ok(text) }
}

fn line(text: String) -> Result<String, String> {
    if text.contains(['\n', '\r', '\0']) { Err(format!("{text:?} is not {ONE_LINE}")) } else { Ok(text) }
}

fn optional_line(text: Option<String>) -> Result<Option<String>, String> {
    text.map(line).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse;

    /// A spec with these members, and `limine` with those, besides what it must have.
    fn spec(others: &Value, limine: &Value) -> String {
        let id = "q43idch209zsdngl8yl79x0y79aajib";
        let mut spec = json!({
            "version": 1, "toplevel": format!("/nix/store/0{id}-nixos"), "closureInfo": format!("/nix/store/1{id}-info"),
            "limine": { "package": "/nix/store/limine", "tool": "/nix/store/limine/bin/limine" },
            "fileSystems": {
                "/": { "device": "/dev/disk/by-label/nixos", "fsType": "ext4" },
                "/boot": { "device": "/dev/disk/by-label/ESP", "fsType": "vfat" },
            },
        });
        for (key, value) in others.as_object().unwrap() {
            spec[key] = value.clone();
        }
        for (key, value) in limine.as_object().unwrap() {
            spec["limine"][key] = value.clone();
        }
        spec.to_string()
    }

    fn errors(others: Value, limine: Value) -> String {
        parse(&spec(&others, &limine)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_nixpkgs_default() {
        let limine = parse(&spec(&json!({}), &json!({}))).unwrap().limine.unwrap();
        assert!(limine.efi_support && limine.validate_checksums && !limine.bios_support && !limine.enroll_config);
        assert!(!limine.enable_editor && limine.timeout == Some(5) && limine.style.is_empty());
        assert_eq!(limine.distro_name, "NixOS");
    }

    #[test]
    fn a_setting_is_in_words_of_limine() {
        let style = json!({ "margin": 0, "interfaceHelpHidden": false, "backdrop": "2F302F", "palette": null });
        let limine = parse(&spec(&json!({}), &json!({ "style": style }))).unwrap().limine.unwrap();
        let expected = [("backdrop", "2F302F"), ("interface_help_hidden", "no"), ("term_margin", "0")];
        assert_eq!(limine.style, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn mistakes_are_told() {
        let told = |others: Value, limine: Value, words: &str| {
            let errors = errors(others, limine);
            assert!(errors.contains(words), "{errors}");
        };
        let nothing = || json!({});
        told(nothing(), json!({ "tool": "limine" }), "limine.tool");
        told(nothing(), json!({ "efiSupport": false }), "limine: is for neither a BIOS nor UEFI");
        told(nothing(), json!({ "style": { "margin": "a\nb" } }), "limine.style.margin");
        told(nothing(), json!({ "style": { "colour": 1 } }), "limine.style.colour: is not a known field");
        told(nothing(), json!({ "additionalFiles": { "../x": "/x" } }), "limine.additionalFiles");
        told(nothing(), json!({ "timeout": -1 }), "limine.timeout");
        told(json!({ "sectorSize": 4096 }), json!({ "biosSupport": true }), "limine.biosSupport to false");
        told(json!({ "systemdBoot": { "efiStub": "/s" } }), nothing(), "limine: is for UEFI, which systemdBoot");
        let grub = json!({ "grub": { "mkimage": "/m", "bios": "/lib/grub/i386-pc" } });
        told(grub, json!({ "biosSupport": true }), "limine: is for a BIOS, which grub.bios is already");
        let no_esp = json!({
            "efiSysMountPoint": null, "fileSystems": { "/": { "device": "/dev/disk/by-label/nixos", "fsType": "ext4" } },
        });
        told(no_esp, nothing(), "is null, but limine needs a vfat filesystem");
        let elsewhere = json!({
            "efiSysMountPoint": "/efi",
            "fileSystems": {
                "/": { "device": "/dev/disk/by-label/nixos", "fsType": "ext4" },
                "/efi": { "device": "/dev/disk/by-label/ESP", "fsType": "vfat" },
            },
        });
        told(elsewhere, json!({ "efiSupport": false, "biosSupport": true }), "but the ESP is at /efi");
    }
}
