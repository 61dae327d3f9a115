//! What nixpkgs' installer of Limine reads of a toplevel's boot.json (NixOS RFC 125).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bootspec::v1::BootSpecV1;
use bootspec::{JSON_FILENAME, Specialisation};

use super::error::LayoutError;
use crate::source::boot::error::PopulateError;
use crate::source::boot::links::Store;

/// The extension that names initrds on the ESP that are loaded after the system's own.
const OF_EXTRA_INITRDS: &str = "org.nixos.extra-initrd.v1";
/// The extension of a system that runs under Xen.
const OF_XEN: &str = "org.xenproject.bootspec.v2";

/// A system that is to have an entry.
#[derive(Debug)]
pub(super) struct System {
    /// Its name, if it is a specialisation.
    pub(super) specialisation: Option<String>,
    pub(super) bootspec: BootSpecV1,
    /// Paths on the ESP.
    pub(super) extra_initrds: Vec<String>,
}

/// A toplevel's systems: it, then its specialisations by name. Never empty.
#[derive(Debug)]
pub(super) struct Systems {
    /// The bootspec, for errors.
    pub(super) path: PathBuf,
    pub(super) default: System,
    pub(super) specialisations: Vec<System>,
}

impl Systems {
    pub(super) fn all(&self) -> impl Iterator<Item = &System> {
        [&self.default].into_iter().chain(&self.specialisations)
    }

    /// Limine's program for such a machine.
    pub(super) fn program(&self) -> Result<&'static str, LayoutError> {
        let system = &self.default.bootspec.system;
        match system.split('-').next().unwrap_or_default() {
            "x86_64" => Ok("BOOTX64.EFI"),
            "i686" | "i586" | "i486" | "i386" => Ok("BOOTIA32.EFI"),
            "aarch64" => Ok("BOOTAA64.EFI"),
            _ => Err(LayoutError::UnknownSystem { path: self.path.clone(), system: system.clone() }),
        }
    }
}

/// Reads the bootspec of a toplevel.
pub(super) fn read(toplevel: &Path, store: Store<'_>) -> Result<Systems, PopulateError> {
    let path = toplevel.join(JSON_FILENAME);
    let missing = |source| LayoutError::NoBootspec { path: path.clone(), source };
    let found = store.find_file(&path).map_err(|_| missing(ErrorKind::NotFound.into()))?.0;
    let text = fs::read_to_string(&found).map_err(missing)?;
    Ok(parse(&path, &text).map_err(|problem| LayoutError::Malformed { path, problem })?)
}

fn parse(path: &Path, text: &str) -> Result<Systems, String> {
    let not_one = |error| format!("{error}; no boot entry can be made from it; it must be a bootspec of version 1");
    let document: Specialisation = serde_json::from_str(text).map_err(not_one)?;
    let named: BTreeMap<_, _> =
        document.generation.specialisations.iter().map(|(name, document)| (&name.0, document)).collect();
    let specialisations = named.into_iter().map(|(name, document)| system(Some(name.clone()), document));
    Ok(Systems {
        path: path.to_owned(),
        default: system(None, &document)?,
        specialisations: specialisations.collect::<Result<_, _>>()?,
    })
}

fn system(specialisation: Option<String>, document: &Specialisation) -> Result<System, String> {
    if document.extensions.get(OF_XEN).is_some_and(|xen| !xen.is_null()) {
        return Err("is of a system under Xen, whose entries for Limine an image cannot have; set \
                    virtualisation.xen.enable to false, or boot.loader.grub.enable to true"
            .to_owned());
    }
    let extra = document.extensions.get(OF_EXTRA_INITRDS).and_then(|extension| extension.get("paths"));
    let extra_initrds = extra.map_or(Ok(Vec::new()), |paths| serde_json::from_value(paths.clone()));
    let extra_initrds = extra_initrds.map_err(|error| format!("{OF_EXTRA_INITRDS}: {error}"))?;
    let system = System { specialisation, bootspec: document.generation.bootspec.clone(), extra_initrds };
    let several = system.texts().find(|text| text.contains(['\n', '\r', '\0']));
    let problem = several.map(|text| format!("{text:?} has more than one line, which an entry of limine.conf cannot"));
    problem.map_or(Ok(system), Err)
}

impl System {
    /// All that comes into an entry as it is.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let BootSpecV1 { label, init, kernel, initrd, kernel_params, .. } = &self.bootspec;
        let paths = [init, kernel].into_iter().chain(initrd).filter_map(|path| path.to_str());
        let params = kernel_params.iter().chain(&self.extra_initrds).map(String::as_str);
        self.specialisation.iter().map(String::as_str).chain([label.as_str()]).chain(paths).chain(params)
    }
}
