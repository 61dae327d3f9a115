//! What the boot.json of a toplevel says. Sources: NixOS RFC 125, and the extensions that nixpkgs' installer knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bootspec::v1::BootSpecV1;
use bootspec::{Extensions, JSON_FILENAME, Specialisation};
use serde::Deserialize;

use super::error::SystemdBootError;
use crate::source::boot::error::PopulateError;
use crate::source::boot::links::Store;

/// The extension that says how systemd-boot is to show a system.
const OF_SYSTEMD_BOOT: &str = "org.nixos.systemd-boot";
/// The extension that names initrds on the ESP that are loaded after the system's own.
const OF_EXTRA_INITRDS: &str = "org.nixos.extra-initrd.v1";

/// A system that is to have an entry: the toplevel or a specialisation of it.
#[derive(Debug)]
pub(super) struct System {
    /// Its bootspec's path, for errors.
    path: PathBuf,
    /// Its name, if it is a specialisation.
    pub(super) specialisation: Option<String>,
    pub(super) bootspec: BootSpecV1,
    /// The bootspec's, which an entry must have.
    pub(super) initrd: PathBuf,
    pub(super) sort_key: String,
    pub(super) device_tree: Option<PathBuf>,
    /// Paths on the ESP.
    pub(super) extra_initrds: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfSystemdBoot {
    sort_key: Option<String>,
    devicetree: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExtraInitrds {
    paths: Vec<String>,
}

/// Reads the bootspec of a toplevel: the toplevel first, then its specialisations by name.
pub(super) fn read(toplevel: &Path, store: Store<'_>) -> Result<Vec<System>, PopulateError> {
    let path = toplevel.join(JSON_FILENAME);
    let missing = |source| SystemdBootError::NoBootspec { path: path.clone(), source };
    let found = store.find_file(&path).map_err(|_| missing(std::io::ErrorKind::NotFound.into()))?.0;
    let text = fs::read_to_string(&found).map_err(missing)?;
    let systems = parse(&path, &text).map_err(|problem| SystemdBootError::Malformed { path, problem })?;
    Ok(systems)
}

/// What the bootspec at `path` says, or what is wrong with it.
fn parse(path: &Path, text: &str) -> Result<Vec<System>, String> {
    let document: Specialisation = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let specialisations: BTreeMap<_, _> =
        document.generation.specialisations.iter().map(|(name, document)| (&name.0, document)).collect();
    let mut systems = vec![System::new(path, None, &document)?];
    for (name, document) in specialisations {
        systems.push(System::new(path, Some(name), document)?);
    }
    Ok(systems)
}

/// What is wrong with a bootspec, or how many systems it describes.
pub(crate) fn judge(text: &str) -> Result<usize, String> {
    let systems = parse(Path::new(JSON_FILENAME), text)?;
    systems.iter().try_for_each(|system| system.efi_arch().map(drop)).map_err(|error| error.to_string())?;
    Ok(systems.len())
}

impl System {
    fn new(path: &Path, specialisation: Option<&String>, document: &Specialisation) -> Result<Self, String> {
        let bootspec = document.generation.bootspec.clone();
        let initrd = bootspec.initrd.clone().ok_or("it names no initrd, without which NixOS' entries cannot be")?;
        let OfSystemdBoot { sort_key, devicetree } = extension(&document.extensions, OF_SYSTEMD_BOOT)?;
        let ExtraInitrds { paths } = extension(&document.extensions, OF_EXTRA_INITRDS)?;
        let system = Self {
            path: path.to_owned(),
            specialisation: specialisation.cloned(),
            bootspec,
            initrd,
            sort_key: sort_key.unwrap_or_else(|| "nixos".to_owned()),
            device_tree: devicetree,
            extra_initrds: paths,
        };
        let problem = system.texts().find_map(|(name, text)| {
            let what = end_of_line(text)?;
            Some(format!("{name}, {text:?}, holds {what}, at which systemd-boot ends the line of its entry"))
        });
        problem.map_or(Ok(system), Err)
    }

    /// All that comes into an entry as it is, and what it is called.
    fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        let bootspec = &self.bootspec;
        let single = [
            ("the name of the specialisation", self.specialisation.as_deref()),
            ("label", Some(bootspec.label.as_str())),
            ("sortKey", Some(&self.sort_key)),
            ("init", bootspec.init.to_str()),
        ];
        let single = single.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
        let lists = [("kernelParams", &bootspec.kernel_params), ("extra initrd", &self.extra_initrds)];
        single.chain(lists.into_iter().flat_map(|(name, list)| {
            list.iter().enumerate().map(move |(i, text)| (format!("{name}[{i}]"), text.as_str()))
        }))
    }

    /// How systemd-boot calls this kind of machine.
    pub(super) fn efi_arch(&self) -> Result<&'static str, SystemdBootError> {
        let system = &self.bootspec.system;
        match system.split('-').next().unwrap_or_default() {
            "x86_64" => Ok("x64"),
            "i686" | "i586" | "i486" | "i386" => Ok("ia32"),
            "aarch64" => Ok("aa64"),
            "armv6l" | "armv7l" | "armv7a" => Ok("arm"),
            "riscv64" => Ok("riscv64"),
            "loongarch64" => Ok("loongarch64"),
            _ => Err(SystemdBootError::UnknownSystem { path: self.path.clone(), system: system.clone() }),
        }
    }
}

/// The first character of a text that ends a line for systemd-boot.
fn end_of_line(text: &str) -> Option<&'static str> {
    text.chars().find_map(|c| match c {
        '\n' => Some("a line feed"),
        '\r' => Some("a carriage return"),
        '\0' => Some("a NUL character"),
        _ => None,
    })
}

fn extension<T: Default + for<'de> Deserialize<'de>>(extensions: &Extensions, name: &str) -> Result<T, String> {
    let Some(value) = extensions.get(name) else { return Ok(T::default()) };
    T::deserialize(value).map_err(|error| format!("{name}: {error}"))
}
