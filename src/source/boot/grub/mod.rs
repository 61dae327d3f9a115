//! GRUB's menu and files, laid out as nixpkgs' installer would on the machine itself.
//!
//! So the first `nixos-rebuild switch` there finds its own files and goes on. Its behaviour is that of `install-grub.pl`
//! in `nixos/modules/system/boot/loader/grub` of nixpkgs of July 2026, on a machine that has one generation; see
//! [`config`] for the differences. What grub-install leaves besides is in [`files`].
//!
//! The core images, which grub-mkimage makes, are the caller's.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

pub use self::error::GrubError;
pub use self::place::Place;

use self::config::Places;
use self::config::entries::Menu;
use self::config::graphics::{self, ThemeFiles};
use self::system::Generation;
use super::error::{PopulateError, io_error};
use super::judge::LINUX_MAX;
use super::links::Store;
use super::merge::Merge;
use crate::progress::{Cancel, Progress};
use crate::spec::Grub;

mod config;
pub(super) mod error;
mod files;
mod place;
mod state;
mod system;
#[cfg(test)]
mod tests;

/// Where `/boot` of the running system is for extra files on an image without an ESP.
const BOOT: &str = "/boot";
const SECRETS_WARNING: &str = "the secrets of boot.initrd.secrets are not in the image, which anyone can read; they come \
                               into /boot with the first nixos-rebuild on the machine";

/// GRUB as it is wanted, and what the image tells of it.
#[derive(Clone, Copy, Debug)]
pub struct GrubFiles<'a> {
    /// What the host asks for.
    pub wanted: &'a Grub,
    /// Where `/boot` is.
    pub boot: &'a Place,
    /// Where [`Grub::store_path`] is.
    pub store: &'a Place,
    /// The core image for BIOS, wanted with [`Grub::bios`].
    pub bios_core: Option<&'a Path>,
    /// The core image for UEFI, wanted with [`Grub::efi`].
    pub efi_core: Option<&'a Path>,
}

/// The trees that grow.
pub(super) struct Trees<'m, 'a> {
    /// `/boot`.
    pub(super) boot: &'m mut Merge<'a>,
    /// The ESP, if that is another filesystem.
    pub(super) esp: Option<&'m mut Merge<'a>>,
}

impl<'a> Trees<'_, 'a> {
    /// The ESP, whichever it is.
    pub(super) fn esp(&mut self) -> &mut Merge<'a> {
        self.esp.as_deref_mut().unwrap_or(self.boot)
    }
}

/// Adds GRUB, with entries for the toplevel and each of its specialisations.
///
/// Generated files are written into the empty directory `scratch`. `/boot/grub` is for root alone (mode 0700) on a
/// filesystem that knows owners: `grub.cfg` holds passwords.
pub(super) fn add(
    trees: &mut Trees<'_, '_>,
    files: &GrubFiles<'_>,
    toplevel: &Path,
    scratch: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), PopulateError> {
    let (wanted, store) = (files.wanted, trees.boot.store);
    let generation = system::read(toplevel, store)?;
    warn(&generation, progress);
    let places = places(files)?;
    if places.store.is_none() {
        for file in generation.systems().flat_map(|system| system.files()) {
            trees.boot.add_file(Path::new(&file.copy_path()), file.source.clone(), file.size)?;
        }
    }
    let theme = wanted.theme.as_deref().map(|theme| add_theme(trees, theme, cancel)).transpose()?;
    let graphics = graphics::graphics(wanted, &places.boot, theme.as_ref());
    let entries = Menu { wanted, places: &places }.entries(&generation);
    let config = config::config(wanted, &places, &graphics, &entries);
    add_pictures(trees, wanted)?;
    add_extra_files(trees, wanted)?;
    files::add(trees, files)?;

    let directory = scratch.join("grub");
    let state = state::state(&wanted.state, &wanted.efi_sys_mount_point);
    let env = files::is_installed(wanted).then(files::environment);
    let texts = [("grub.cfg", Some(config)), ("state", Some(state)), ("grubenv", env)];
    fs::create_dir(&directory).map_err(PopulateError::Scratch)?;
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        fs::write(directory.join(name), text).map_err(PopulateError::Scratch)?;
    }
    trees.boot.add(scratch, cancel)
}

/// Kernels stay in the store only where the installer finds `/boot` and the store on one filesystem.
fn places(files: &GrubFiles<'_>) -> Result<Places, GrubError> {
    let by = files.wanted.fs_identifier;
    let is_copied = files.wanted.copy_kernels || !files.boot.is_with(files.store);
    let boot = files.boot.locate(by, 1)?;
    let store = (!is_copied).then(|| files.store.locate(by, 2)).transpose()?;
    Ok(Places { boot, store })
}

/// Tells what is not as the host's configuration lets one think.
fn warn(generation: &Generation, progress: &dyn Progress) {
    if generation.systems().any(|system| system.has_secrets) {
        progress.warn(SECRETS_WARNING);
    }
    for specialisation in &generation.specialisations {
        if specialisation.system.is_none() {
            let name = &specialisation.name;
            progress.warn(&format!("specialisation {name} has no kernel or no initrd, and so no entry in GRUB's menu"));
        }
    }
    let longest = generation.systems().map(|system| "init= ".len() + system.init.len() + system.params.len()).max();
    if let Some(len) = longest.filter(|len| *len > LINUX_MAX) {
        progress.warn(&format!(
            "grub.cfg: a command line has {len} bytes, and Linux takes {LINUX_MAX}; shorten boot.kernelParams"
        ));
    }
}

/// The font and the picture, under the names that the installer gives them.
fn add_pictures(trees: &mut Trees<'_, '_>, wanted: &Grub) -> Result<(), PopulateError> {
    let font = wanted.font.iter().map(|font| ("converted-font.pf2".to_owned(), font));
    let picture = wanted.splash_image.iter().map(|path| (format!("background{}", graphics::suffix(path)), path));
    font.chain(picture).try_for_each(|(name, source)| copy(trees.boot, name, source))
}

/// A theme comes without links: FAT has none.
fn add_theme(trees: &mut Trees<'_, '_>, theme: &Path, cancel: &Cancel) -> Result<ThemeFiles, PopulateError> {
    let directory = find_directory(trees.boot.store, theme, "theme")?;
    trees.boot.add_below(Path::new("theme"), &directory, cancel)?;
    let mut found = ThemeFiles::default();
    let by_kind_and_name = |entry: &walkdir::DirEntry| (entry.file_type().is_dir(), entry.file_name().to_owned());
    for entry in WalkDir::new(&directory).min_depth(1).sort_by_key(by_kind_and_name) {
        let entry = entry.map_err(|error| io_error(&directory)(error.into()))?;
        let path = entry.path().strip_prefix(&directory).unwrap_or(entry.path()).to_string_lossy().into_owned();
        let lower = path.to_ascii_lowercase();
        found.has_png |= lower.ends_with(".png");
        found.has_jpeg |= lower.ends_with(".jpg") || lower.ends_with(".jpeg");
        if lower.ends_with(".pf2") {
            found.fonts.push(path);
        }
    }
    Ok(found)
}

fn add_extra_files(trees: &mut Trees<'_, '_>, wanted: &Grub) -> Result<(), PopulateError> {
    if wanted.extra_files.is_empty() {
        return Ok(());
    }
    let mount_point = &wanted.efi_sys_mount_point;
    let below = match trees.esp {
        Some(_) => PathBuf::new(),
        None => {
            let below = mount_point.strip_prefix(BOOT).map(Path::to_owned);
            below.map_err(|_| GrubError::NoExtraPlace { mount_point: mount_point.clone() })?
        }
    };
    wanted.extra_files.iter().try_for_each(|(path, source)| copy(trees.esp(), below.join(path), source))
}

fn find_directory(store: Store<'_>, path: &Path, field: &'static str) -> Result<PathBuf, PopulateError> {
    store.find_directory(path).map_err(|error| match error {
        PopulateError::NotADirectory { path } => GrubError::NotADirectory { field, path }.into(),
        error => error,
    })
}

fn copy(merge: &mut Merge<'_>, path: impl AsRef<Path>, source: &Path) -> Result<(), PopulateError> {
    let (source, size) = merge.store.find_file(source)?;
    merge.add_file(path.as_ref(), source, size)
}
