//! systemd-boot and its entries, laid out as nixpkgs' installer would do it on the machine itself.
//!
//! So the first `nixos-rebuild switch` there finds its own files: kernels and initrds have the names that it gives
//! them. Of files that it does not know, it deletes only those with the prefix of its own entries. This follows
//! `nixos/modules/system/boot/loader/systemd-boot` in nixpkgs of July 2026, and bootctl(1) for the places of
//! systemd-boot's own files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use self::error::SystemdBootError;
use self::system::System;
pub(crate) use self::system::judge as judge_bootspec;
use super::error::{PopulateError, io_error};
use super::grub::Trees;
use super::links::Store;
use crate::pe;
use crate::progress::{Cancel, Progress};
use crate::spec::SystemdBoot;

mod entry;
pub(super) mod error;
mod system;
#[cfg(test)]
mod tests;

/// Where kernels and initrds go.
const NIXOS_DIR: &str = "EFI/nixos";
/// Below it, an empty file for each of the extra files: by it, the installer knows what to remove again.
const MARKERS: &str = "EFI/nixos/.extra-files";
/// Where systemd-boot looks for unified kernel images.
const UNIFIED_DIR: &str = "EFI/Linux";
/// Directories that bootctl or the installer makes and that may stay empty, where kernels are and on the ESP.
const DIRECTORIES: [&str; 3] = [UNIFIED_DIR, MARKERS, "loader/entries"];
const DIRECTORIES_OF_ESP: [&str; 1] = ["loader/keys"];

const SECRETS_WARNING: &str = "the secrets of boot.initrd.secrets are not in the image, which anyone can read; they come \
                               into the initrd with the first nixos-rebuild on the machine";
const UKI_SECRETS_WARNING: &str = "the secrets of boot.initrd.secrets are not in the image, which anyone can read, nor in \
                                   its unified kernel image; hand them over as credentials, or do without them";

/// Which entries systemd-boot gets of its own (UAPI.1, "Type #1").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entries {
    /// One for the toplevel and each of its specialisations.
    OfSystems,
    /// None: the unified kernel image is what it starts.
    None,
}

/// Adds systemd-boot, with its entries for the toplevel. What is a generation's, and extraFiles, go where kernels are: to `trees.boot`, which is XBOOTLDR or the ESP. Programs for firmware and `loader.conf`
/// go to the ESP.
///
/// Generated files are written into the empty directories `scratch`, those where kernels are into the first.
pub(super) fn add(
    trees: &mut Trees<'_, '_>,
    wanted: &SystemdBoot,
    (toplevel, entries): (&Path, Entries),
    scratch: [&Path; 2],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), PopulateError> {
    let store = trees.boot.store;
    let systems = system::read(toplevel, store)?;
    let mut layout = Layout { store, trees, scratch, secrets: Secrets::None };
    layout.loader(wanted, &systems[0])?;
    let mut default = None;
    for system in systems.iter().filter(|_| entries == Entries::OfSystems) {
        let id = layout.entry(system, wanted)?;
        default.get_or_insert(id);
    }
    if entries == Entries::None {
        warn_of_what_is_left_out(&systems, progress);
    }
    layout.text(On::Esp, "loader/loader.conf", &entry::loader_conf(wanted, default.as_deref()))?;
    for (path, source) in &wanted.extra_files {
        layout.copy(On::Boot, path, source)?;
        layout.text(On::Boot, Path::new(MARKERS).join(path), "")?;
    }
    layout.unified_images(toplevel)?;
    if layout.secrets == Secrets::Missing {
        progress.warn(SECRETS_WARNING);
    }
    trees.boot.add(scratch[0], cancel)?;
    trees.esp().add(scratch[1], cancel)
}

/// Tells what a unified kernel image has no place for.
fn warn_of_what_is_left_out(systems: &[System], progress: &dyn Progress) {
    if systems.iter().any(|system| system.bootspec.initrd_secrets.is_some()) {
        progress.warn(UKI_SECRETS_WARNING);
    }
    for name in systems.iter().filter_map(|system| system.specialisation.as_ref()) {
        progress.warn(&format!("specialisation {name} has no entry: the unified kernel image boots the system itself"));
    }
}

/// Which of the two filesystems, if they are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// That with the kernels.
    Boot,
    Esp,
}

struct Layout<'l, 'm, 'a> {
    store: Store<'a>,
    trees: &'l mut Trees<'m, 'a>,
    scratch: [&'l Path; 2],
    secrets: Secrets,
}

/// What is in the initrds of `boot.initrd.secrets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    /// None were asked for.
    None,
    /// Nothing, though the host has some: an image is for anyone to read.
    Missing,
}

impl Layout<'_, '_, '_> {
    /// What `bootctl install` puts onto an ESP, and XBOOTLDR beside it. No random seed: it would be the same on all machines.
    fn loader(&mut self, wanted: &SystemdBoot, system: &System) -> Result<(), PopulateError> {
        let arch = system.efi_arch()?;
        let name = format!("systemd-boot{arch}.efi");
        let directory = self.store.find_directory(&wanted.efi_stub)?;
        if !directory.join(&name).exists() {
            let found = list(&directory).map_err(io_error(&directory))?;
            return Err(SystemdBootError::NoLoader { directory, wanted: name, found }.into());
        }
        let loader = wanted.efi_stub.join(&name);
        self.copy(On::Esp, Path::new("EFI/systemd").join(&name), &loader)?;
        self.copy(On::Esp, format!("EFI/BOOT/BOOT{}.EFI", arch.to_ascii_uppercase()), &loader)?;
        self.text(On::Boot, "loader/entries.srel", "type1\n")?;
        let of_boot = DIRECTORIES.map(|directory| self.generated(On::Boot, directory));
        let of_esp = DIRECTORIES_OF_ESP.map(|directory| self.generated(On::Esp, directory));
        of_boot.iter().chain(&of_esp).try_for_each(|path| fs::create_dir_all(path).map_err(PopulateError::Scratch))
    }

    /// Adds the files of a system and its entry. Returns the entry's id.
    fn entry(&mut self, system: &System, wanted: &SystemdBoot) -> Result<String, PopulateError> {
        let kernel = self.boot_file(&system.bootspec.kernel)?;
        let initrd = self.initrd(system)?;
        let device_tree = system.device_tree.as_ref().or(wanted.device_tree.as_ref());
        let device_tree = device_tree.map(|path| self.boot_file(path)).transpose()?;
        let text = entry::entry(system, &wanted.distro_name, [&kernel, &initrd], device_tree.as_deref());
        let id = format!("nixos-{}", hex(&Sha256::digest(&text)));
        let counter = wanted.boot_counting_tries.map_or_else(String::new, |tries| format!("+{tries}"));
        self.text(On::Boot, format!("loader/entries/{id}{counter}.conf"), &text)?;
        Ok(format!("{id}.conf"))
    }

    /// Adds the initrd. Where secrets are appended to it, it has another name, and is made anew by every installation.
    fn initrd(&mut self, system: &System) -> Result<PathBuf, PopulateError> {
        let initrd = &system.initrd;
        let Some(secrets) = &system.bootspec.initrd_secrets else { return self.boot_file(initrd) };
        let [pristine, appender] = [self.boot_path(initrd)?, self.boot_path(secrets)?];
        let names = format!("{}\n{}", pristine.display(), appender.display());
        let path = Path::new(NIXOS_DIR).join(format!("{}-initrd.efi", hex(&Sha256::digest(names))));
        self.secrets = Secrets::Missing;
        self.copy(On::Boot, &path, initrd)?;
        Ok(path)
    }

    /// Files *.efi of the toplevel itself.
    fn unified_images(&mut self, toplevel: &Path) -> Result<(), PopulateError> {
        let directory = self.store.find_directory(toplevel)?;
        let names = fs::read_dir(&directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<BTreeSet<_>>>()
        });
        for name in names.map_err(io_error(&directory))? {
            let is_program = Path::new(&name).extension().is_some_and(|extension| extension == "efi");
            if is_program {
                let path = toplevel.join(&name);
                let (source, _) = self.store.find_file(&path)?;
                if !pe::is_unified_kernel_image(&start_of(&source).map_err(io_error(&source))?) {
                    return Err(SystemdBootError::NotUnified { path }.into());
                }
                self.copy(On::Boot, Path::new(UNIFIED_DIR).join(&name), &path)?;
            }
        }
        Ok(())
    }

    /// Adds a file of the store under the name that the installer gives it. Returns its path on the ESP.
    fn boot_file(&mut self, source: &Path) -> Result<PathBuf, PopulateError> {
        let path = self.boot_path(source)?;
        self.copy(On::Boot, &path, source)?;
        Ok(path)
    }

    /// The path on the ESP of a file of the store: its store path's name and its own, which may be the same.
    fn boot_path(&self, source: &Path) -> Result<PathBuf, PopulateError> {
        let (target, _) = self.store.find_file(source)?;
        let outside = || SystemdBootError::OutsideStore { path: source.to_owned(), target: target.clone() };
        let in_store = self.store.in_store(&target).ok_or_else(outside)?;
        let names = in_store.iter().next().zip(in_store.file_name()).ok_or_else(outside)?;
        let [store_path, name] = [names.0, names.1].map(|name| name.to_string_lossy());
        let name = if store_path == name { format!("{name}.efi") } else { format!("{store_path}-{name}.efi") };
        Ok(Path::new(NIXOS_DIR).join(name))
    }

    fn copy(&mut self, on: On, path: impl AsRef<Path>, source: &Path) -> Result<(), PopulateError> {
        let (source, size) = self.store.find_file(source)?;
        let merge = match on {
            On::Boot => &mut *self.trees.boot,
            On::Esp => self.trees.esp(),
        };
        merge.add_file(path.as_ref(), source, size)
    }

    /// Where a file that is made here is until then.
    fn generated(&self, on: On, path: impl AsRef<Path>) -> PathBuf {
        let [boot, esp] = self.scratch;
        if on == On::Boot { boot } else { esp }.join(path)
    }

    fn text(&mut self, on: On, path: impl AsRef<Path>, text: &str) -> Result<(), PopulateError> {
        let path = self.generated(on, path);
        let directory = path.parent().unwrap_or(&path);
        fs::create_dir_all(directory).and_then(|()| fs::write(&path, text)).map_err(PopulateError::Scratch)
    }
}

/// The bytes at the start of a file, as many as hold a program's headers.
fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(4096).read_to_end(&mut start)?;
    Ok(start)
}

/// The names in a directory, for an error.
fn list(directory: &Path) -> io::Result<String> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
