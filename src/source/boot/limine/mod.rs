//! Limine's menu and files, laid out as nixpkgs' installer would on the machine itself.
//!
//! So the first `nixos-rebuild switch` there finds its own files and goes on. Its behaviour is that of
//! `limine-install.py` in `nixos/modules/system/boot/loader/limine` of nixpkgs of July 2026, on a machine that has one
//! generation, and with these differences: Limine's program for UEFI is at the removable path always, since nobody
//! tells the machine's firmware of another, and secrets of `boot.initrd.secrets` are left out, since anyone can read
//! an image. Entries for Xen are refused.

use std::fs;
use std::path::{Path, PathBuf};

use blake2::{Blake2b512, Digest};

pub use self::error::LayoutError;
pub use self::tool::ToolError;

use self::config::Uris;
use self::system::Systems;
use super::error::{PopulateError, io_error};
use super::merge::Merge;
use crate::progress::{Cancel, Progress};
use crate::spec::Limine;

mod config;
pub(super) mod error;
mod system;
#[cfg(test)]
mod tests;
pub(super) mod tool;

/// The directory of it all on the ESP.
const LIMINE: &str = "limine";
const CONFIG: &str = "limine/limine.conf";
/// What the boot code for BIOS loads.
const BIOS_STAGE: &str = "limine-bios.sys";

const SECRETS_WARNING: &str = "the secrets of boot.initrd.secrets are not in the image, which anyone can read; they come \
                               into /boot with the first nixos-rebuild on the machine";

/// Adds Limine, with entries for the toplevel and each of its specialisations, to the ESP.
///
/// Generated files are written into the empty directory `scratch`.
pub(super) fn add(
    esp: &mut Merge<'_>,
    wanted: &Limine,
    toplevel: &Path,
    scratch: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), PopulateError> {
    let systems = system::read(toplevel, esp.store)?;
    if systems.all().any(|system| system.bootspec.initrd_secrets.is_some()) {
        progress.warn(SECRETS_WARNING);
    }
    let mut layout = Layout { esp, wanted, cancel };
    let mut uris = Vec::new();
    for system in systems.all() {
        let kernel = layout.uri("kernels", &system.bootspec.kernel)?;
        let initrd = system.bootspec.initrd.as_ref().map(|initrd| layout.uri("kernels", initrd)).transpose()?;
        uris.push(Uris { kernel, initrd });
    }
    let wallpapers =
        wanted.wallpapers.iter().map(|path| layout.uri("wallpapers", path)).collect::<Result<Vec<_>, _>>()?;
    let config = config::config(wanted, &wallpapers, &systems, &uris);
    for (path, source) in &wanted.additional_files {
        layout.copy(&Path::new(LIMINE).join(path), source)?;
    }
    if wanted.bios_support {
        let stage = layout.share(BIOS_STAGE)?;
        layout.copy(&Path::new(LIMINE).join(BIOS_STAGE), &stage)?;
    }
    if wanted.efi_support {
        layout.programs(&systems, &config, scratch)?;
    }
    write(&scratch.join(CONFIG), &config)?;
    esp.add(scratch, cancel)
}

struct Layout<'m, 'a> {
    esp: &'m mut Merge<'a>,
    wanted: &'m Limine,
    cancel: &'m Cancel,
}

impl Layout<'_, '_> {
    /// Copies a file into a directory of Limine's. Returns what limine.conf calls it.
    fn uri(&mut self, directory: &str, source: &Path) -> Result<String, PopulateError> {
        self.cancel.check()?;
        let name =
            |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{}-{}", name(source.parent()), name(Some(source)));
        let path = Path::new(LIMINE).join(directory).join(name);
        self.copy(&path, source)?;
        let uri = format!("boot():/{}", path.display());
        if !self.wanted.validate_checksums {
            return Ok(uri);
        }
        let (found, _) = self.esp.store.find_file(source)?;
        let contents = fs::read(&found).map_err(io_error(&found))?;
        Ok(format!("{uri}#{}", checksum(&contents)))
    }

    /// Limine's program for UEFI.
    fn programs(&mut self, systems: &Systems, config: &str, scratch: &Path) -> Result<(), PopulateError> {
        let name = systems.program()?;
        let source = self.share(name)?;
        let mut directories = vec!["EFI/BOOT"];
        directories.extend((!self.wanted.efi_install_as_removable).then_some("EFI/limine"));
        for directory in directories {
            let path = Path::new(directory).join(name);
            if !self.wanted.enroll_config {
                self.copy(&path, &source)?;
                continue;
            }
            let (found, _) = self.esp.store.find_file(&source)?;
            let path = scratch.join(path);
            write(&path, fs::read(&found).map_err(io_error(&found))?)?;
            // Then it takes no other configuration.
            let checksum = checksum(config.as_bytes());
            let arguments = [&path, Path::new(&checksum)];
            tool::run(&self.wanted.tool, "enroll-config", arguments, scratch).map_err(LayoutError::from)?;
        }
        Ok(())
    }

    /// A file of Limine's package.
    fn share(&self, name: &str) -> Result<PathBuf, PopulateError> {
        let path = self.wanted.package.join("share/limine").join(name);
        match self.esp.store.exists(&path) {
            true => Ok(path),
            false => Err(LayoutError::NoFile { path }.into()),
        }
    }

    fn copy(&mut self, path: &Path, source: &Path) -> Result<(), PopulateError> {
        let (source, size) = self.esp.store.find_file(source)?;
        self.esp.add_file(path, source, size)
    }
}

fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), PopulateError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).and_then(|()| fs::write(path, contents)).map_err(PopulateError::Scratch)
}

/// As Limine wants it.
fn checksum(bytes: &[u8]) -> String {
    Blake2b512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
