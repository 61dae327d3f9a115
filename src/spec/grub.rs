//! What is asked of GRUB: the options of `boot.loader.grub` that matter to an image.
//!
//! Names, meanings and defaults are those of nixpkgs' module. What comes into `grub.cfg` as one word or one line must be
//! one: nixpkgs' installer writes texts as they are, so that a wrong one would spoil the whole menu.

use std::path::{Path, PathBuf};

use serde_json::{Number, Value};

use super::fields::{Object, as_is};
use super::validate;

mod lists;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use self::words::is_words;

use self::words::{color, empty_or_path, in_double_quotes, one_line, one_of, text, word};

/// In seconds.
const DEFAULT_TIMEOUT: u64 = 5;
const DEFAULT_CONFIGURATION_LIMIT: u64 = 100;
/// How GRUB calls the only target that has boot code for a disk's start.
const BIOS_TARGET: &str = "i386-pc";
/// The targets that are programs for UEFI.
const EFI_TARGETS: [&str; 7] =
    ["x86_64-efi", "i386-efi", "arm64-efi", "arm-efi", "riscv64-efi", "riscv32-efi", "loongarch64-efi"];
const STYLES: [&str; 3] = ["menu", "countdown", "hidden"];
const SPLASH_MODES: [&str; 2] = ["normal", "stretch"];
const FILE: &str = "the absolute path of a file or null";
const COMMANDS: &str = "GRUB's commands as one text";
const ONE_LINE: &str = "a text of one line";
const WORD: &str = "one word, with quotes around blanks and semicolons";

/// GRUB as the boot loader of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grub {
    /// grub-mkimage of the machine that builds; absolute.
    pub mkimage: PathBuf,
    /// The directory of the modules for BIOS, if the image is to boot by it; absolute.
    pub bios: Option<PathBuf>,
    /// The directory of the modules for UEFI, whose last component is the target, such as `x86_64-efi`; absolute.
    pub efi: Option<PathBuf>,
    /// The directory below `EFI` that has GRUB's program.
    pub bootloader_id: String,
    /// Whether GRUB's program is at the removable path alone.
    pub efi_install_as_removable: bool,
    /// Where the host says the ESP is mounted, even if there is none; absolute.
    pub efi_sys_mount_point: PathBuf,
    /// What the installer remembers of the installation.
    pub state: GrubState,
    /// The name of the system in the menu.
    pub distro_name: String,
    /// Seconds for which the menu waits; for ever if there is no number.
    pub timeout: Option<u32>,
    /// "menu", "countdown" or "hidden".
    pub timeout_style: String,
    /// The default entry: its number or title, or "saved".
    pub default: String,
    /// How many generations have entries of their own.
    pub configuration_limit: u32,
    /// Whether kernels and initrds are copied even where GRUB could read them in the store.
    pub copy_kernels: bool,
    /// Where GRUB finds the store in the running system; absolute.
    pub store_path: PathBuf,
    /// By what GRUB finds filesystems.
    pub fs_identifier: FsIdentifier,
    /// Commands before the entries.
    pub extra_config: String,
    /// Commands at the start of each entry.
    pub extra_per_entry_config: String,
    /// More entries.
    pub extra_entries: String,
    /// Whether those come first.
    pub extra_entries_before_nixos: bool,
    /// Options of the first entry.
    pub entry_options: String,
    /// Options of the entries of generations.
    pub sub_entry_options: String,
    /// A font in GRUB's own format; absolute.
    pub font: Option<PathBuf>,
    /// A picture; absolute.
    pub splash_image: Option<PathBuf>,
    /// "normal" or "stretch".
    pub splash_mode: String,
    /// What is around the picture.
    pub background_color: Option<String>,
    /// A directory with a theme; absolute.
    pub theme: Option<PathBuf>,
    /// The graphics modes for UEFI.
    pub gfxmode_efi: String,
    /// The graphics modes for BIOS.
    pub gfxmode_bios: String,
    /// The mode that Linux gets from UEFI.
    pub gfxpayload_efi: String,
    /// The mode that Linux gets from BIOS.
    pub gfxpayload_bios: String,
    /// Who may change the menu, by name.
    pub users: Vec<(String, Password)>,
    /// More files, by their paths from [`Grub::efi_sys_mount_point`], and where they come from; sorted.
    pub extra_files: Vec<(PathBuf, PathBuf)>,
}

/// What the installer remembers of an installation: with another it installs GRUB again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrubState {
    /// The name of GRUB's package.
    pub full_name: String,
    /// Its version.
    pub full_version: String,
    /// The package for BIOS; may be empty.
    pub grub: String,
    /// The package for UEFI; may be empty.
    pub grub_efi: String,
    /// The disks with GRUB's boot code, in this order, each a path or "nodev".
    pub devices: Vec<String>,
    /// `--modules=…` and nothing else.
    pub extra_grub_install_args: Vec<String>,
}

/// By what GRUB finds a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsIdentifier {
    /// Its UUID.
    Uuid,
    /// Its label.
    Label,
    /// What the host names in `fileSystems`; where that is neither, GRUB looks on the disk that it comes from.
    Provided,
}

/// How somebody shows to be who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// What grub-mkpasswd-pbkdf2 makes of a password.
    Hashed(String),
    /// The password itself.
    Plain(String),
}

/// Reads `grub`, which may be null.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<Grub>> {
    let value = top.optional("grub", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let mut fields = top.nested(top.member("grub"), value)?;
    let grub = read_fields(&mut fields);
    fields.finish();
    grub.map(Some)
}

/// All members are read before the first bad one makes the whole void.
fn read_fields(fields: &mut Object<'_>) -> Option<Grub> {
    let mkimage = fields.required("mkimage", "bin/grub-mkimage of a grub package", validate::absolute_path);
    let bios = modules(fields, "bios", &[BIOS_TARGET]);
    let efi = modules(fields, "efi", &EFI_TARGETS);
    let bootloader_id =
        fields.optional("bootloaderId", "a directory's name", "NixOS-boot".to_owned(), words::directory_name);
    let efi_install_as_removable = fields.optional("efiInstallAsRemovable", "true or false", false, as_is);
    let efi_sys_mount_point =
        fields.optional("efiSysMountPoint", "a path such as \"/boot\"", "/boot".to_owned(), words::mount_point);
    let state = read_state(fields);
    let distro_name = fields.optional("distroName", "a title of one line", "NixOS".to_owned(), in_double_quotes);
    let timeout = fields.optional("timeout", "a number of seconds or null", Some(DEFAULT_TIMEOUT.into()), seconds);
    let timeout_style = choice(fields, "timeoutStyle", &STYLES, "menu");
    let default = fields.optional("default", "the number of an entry or \"saved\"", "0".to_owned(), word);
    let configuration_limit =
        fields.optional("configurationLimit", "a whole number", DEFAULT_CONFIGURATION_LIMIT.into(), count);
    let copy_kernels = fields.optional("copyKernels", "true or false", false, as_is);
    let store_path =
        fields.optional("storePath", "a path such as \"/nix/store\"", "/nix/store".to_owned(), validate::absolute_path);
    let fs_identifier =
        fields.optional("fsIdentifier", "one of uuid, label, provided", "uuid".to_owned(), |text: String| {
            match text.as_str() {
                "uuid" => Ok(FsIdentifier::Uuid),
                "label" => Ok(FsIdentifier::Label),
                "provided" => Ok(FsIdentifier::Provided),
                _ => Err(format!("{text:?} is not known")),
            }
        });
    let extra_config = fields.optional("extraConfig", COMMANDS, String::new(), text);
    let extra_per_entry_config = fields.optional("extraPerEntryConfig", COMMANDS, String::new(), text);
    let extra_entries = fields.optional("extraEntries", "entries of GRUB as one text", String::new(), text);
    let extra_entries_before_nixos = fields.optional("extraEntriesBeforeNixOS", "true or false", false, as_is);
    let entry_options = options(fields, "entryOptions", "--class nixos --unrestricted");
    let sub_entry_options = options(fields, "subEntryOptions", "--class nixos");
    let font = optional_path(fields, "font");
    let splash_image = fields.optional("splashImage", FILE, None, words::picture);
    let splash_mode = choice(fields, "splashMode", &SPLASH_MODES, "stretch");
    let background_color = fields.optional("backgroundColor", "a colour such as \"#2F302F\" or null", None, color);
    let theme = optional_path(fields, "theme");
    let gfxmode_efi = fields.optional("gfxmodeEfi", WORD, "auto".to_owned(), word);
    let gfxmode_bios = fields.optional("gfxmodeBios", WORD, "1024x768".to_owned(), word);
    let gfxpayload_efi = fields.optional("gfxpayloadEfi", WORD, "keep".to_owned(), word);
    let gfxpayload_bios = fields.optional("gfxpayloadBios", WORD, "text".to_owned(), word);
    let users = lists::users(fields);
    let extra_files = lists::extra_files(fields);
    Some(Grub {
        mkimage: mkimage?,
        bios: bios?,
        efi: efi?,
        bootloader_id: bootloader_id?,
        efi_install_as_removable: efi_install_as_removable?,
        efi_sys_mount_point: efi_sys_mount_point?,
        state: state?,
        distro_name: distro_name?,
        timeout: timeout?,
        timeout_style: timeout_style?,
        default: default?,
        configuration_limit: configuration_limit?,
        copy_kernels: copy_kernels?,
        store_path: store_path?,
        fs_identifier: fs_identifier?,
        extra_config: extra_config?,
        extra_per_entry_config: extra_per_entry_config?,
        extra_entries: extra_entries?,
        extra_entries_before_nixos: extra_entries_before_nixos?,
        entry_options: entry_options?,
        sub_entry_options: sub_entry_options?,
        font: font?,
        splash_image: splash_image?,
        splash_mode: splash_mode?,
        background_color: background_color?,
        theme: theme?,
        gfxmode_efi: gfxmode_efi?,
        gfxmode_bios: gfxmode_bios?,
        gfxpayload_efi: gfxpayload_efi?,
        gfxpayload_bios: gfxpayload_bios?,
        users: users?,
        extra_files: extra_files?,
    })
}

fn read_state(fields: &mut Object<'_>) -> Option<GrubState> {
    let full_name = fields.optional("fullName", ONE_LINE, "grub".to_owned(), one_line);
    let full_version = fields.optional("fullVersion", ONE_LINE, String::new(), one_line);
    let grub = fields.optional("grub", "the path of a grub package or \"\"", String::new(), empty_or_path);
    let grub_efi = fields.optional("grubEfi", "the path of a grub package or \"\"", String::new(), empty_or_path);
    let devices = fields.list("devices", "a disk's absolute path or \"nodev\"", words::device);
    let extra_grub_install_args = fields.list(
        "extraGrubInstallArgs",
        "\"--modules=…\", and leave out others: the image is made without grub-install",
        words::install_arg,
    );
    Some(GrubState {
        full_name: full_name?,
        full_version: full_version?,
        grub: grub?,
        grub_efi: grub_efi?,
        devices: devices?,
        extra_grub_install_args: extra_grub_install_args?,
    })
}

/// A directory of modules, which has the name of its target.
fn modules(fields: &mut Object<'_>, key: &'static str, targets: &[&str]) -> Option<Option<PathBuf>> {
    let example = targets.first().unwrap_or(&"");
    let wanted = format!("the modules of a grub package, such as lib/grub/{example}, or null");
    fields.optional(key, &wanted, None, |path: Option<String>| {
        let path = path.map(validate::absolute_path).transpose()?;
        let is_known = |path: &Path| targets.iter().any(|target| path.file_name().is_some_and(|name| name == *target));
        match path {
            Some(path) if !is_known(&path) => Err(format!("{path:?} ends in no target for {}", key.to_uppercase())),
            path => Ok(path),
        }
    })
}

fn optional_path(fields: &mut Object<'_>, key: &'static str) -> Option<Option<PathBuf>> {
    fields.optional(key, FILE, None, |path: Option<String>| path.map(validate::absolute_path).transpose())
}

fn choice(fields: &mut Object<'_>, key: &'static str, choices: &[&str], default: &str) -> Option<String> {
    let wanted = format!("one of {}", choices.join(", "));
    fields.optional(key, &wanted, default.to_owned(), |text| one_of(text, choices))
}

/// Null is as good as an empty text.
fn options(fields: &mut Object<'_>, key: &'static str, default: &str) -> Option<String> {
    fields.optional(key, "options of menuentry, on one line", Some(default.to_owned()), |text: Option<String>| {
        one_line(text.unwrap_or_default())
    })
}

fn seconds(number: Option<Number>) -> Result<Option<u32>, String> {
    number.map(count).transpose()
}

fn count(number: Number) -> Result<u32, String> {
    let count = number.as_u64().and_then(|number| u32::try_from(number).ok());
    count.ok_or_else(|| format!("{number} is not a whole number from 0 to {}", u32::MAX))
}
