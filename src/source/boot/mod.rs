//! Makes the files of boot loaders from populateCmd, systemd-boot and its entries, extraBootFiles, and the host's own files
//! on the ESP.
//!
//! They go to `/boot`, which is the ESP, the XBOOTLDR partition or a directory on the filesystem of the store. Files that
//! only firmware starts go to the ESP. Nothing is copied: each file says where it was found.

use std::path::{Path, PathBuf};

pub use self::directory::beneath;
pub use self::error::PopulateError;
pub use self::grub::{GrubError, GrubFiles, Place};
pub use self::limine::{LayoutError as LimineLayoutError, ToolError as LimineToolError};
pub use self::systemd_boot::SystemdBootError;
pub use self::uki::UkiLayoutError;

pub(crate) use self::limine::tool::run as run_limine;
pub(crate) use self::systemd_boot::judge_bootspec;

use self::grub::Trees;
use self::links::Store;
use self::merge::{Merge, Names};
use self::systemd_boot::Entries;
use super::own::OwnEntry;
use super::tree::FileTree;
use crate::discoverable::Tree;
use crate::mounts::Location;
use crate::output::Scratch;
use crate::progress::{Cancel, Progress};
use crate::spec::{Limine, SystemdBoot, Uki};
use crate::store::StoreRoot;
use crate::uki::MadeUki;

mod directory;
mod error;
mod grub;
mod judge;
mod limine;
mod links;
mod merge;
mod populate;
mod systemd_boot;
#[cfg(test)]
mod tests;
mod uki;

/// Where boot loaders have their files.
const BOOT: &str = "/boot";

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct BootRequest<'a> {
    /// The shell command that fills the directory named by its option `-d` for the toplevel named by `-c`.
    pub populate_cmd: Option<&'a str>,
    /// systemd-boot, if it is wanted.
    pub systemd_boot: Option<&'a SystemdBoot>,
    /// GRUB, if it is wanted.
    pub grub: Option<GrubFiles<'a>>,
    /// Limine, if it is wanted.
    pub limine: Option<&'a Limine>,
    /// The unified kernel image, if one is wanted.
    pub uki: Option<&'a Uki>,
    /// Whether later versions of that image will come beside it.
    pub has_updates: bool,
    /// The filesystem whose root hash its command line is to have, once that is known.
    pub verified: Option<Tree>,
    /// The toplevel's store path.
    pub toplevel: &'a Path,
    /// Directories whose contents are added, in this order.
    pub extra_boot_files: &'a [PathBuf],
    /// The host's own files on the ESP, which come in the place of others, each directory before what is in it.
    pub own: &'a [OwnEntry],
    /// The same of the XBOOTLDR partition.
    pub own_on_xbootldr: &'a [OwnEntry],
    /// Where the ESP is mounted, if there is one.
    pub esp: Option<&'a Path>,
    /// Where the XBOOTLDR partition is mounted, if there is one: it has what systemd-boot starts, in the ESP's place.
    pub xbootldr: Option<&'a Path>,
    /// Where `/boot` is in the image.
    pub boot: Option<&'a Location>,
    /// Where store paths are found on the host.
    pub store_root: &'a StoreRoot,
}

/// The files of boot loaders. Those that were made for it are gone when this is dropped.
#[derive(Debug)]
pub struct BootFiles {
    /// Those of the ESP, if there is one: directories and regular files only.
    pub esp: Option<FileTree>,
    /// Those of the XBOOTLDR partition, if there is one, likewise.
    pub xbootldr: Option<FileTree>,
    /// Those of `/boot` where it is a directory of the filesystem of the store, each directory before what is in it.
    pub nix: Vec<OwnEntry>,
    /// The unified kernel image that was made, if one was wanted. It is in the trees.
    pub uki: Option<MadeUki>,
    /// Holds what was made.
    _scratch: Vec<Scratch>,
}

/// Runs populateCmd in an empty directory, and adds systemd-boot and extraBootFiles to what it made.
///
/// What comes out depends on names and contents alone: not on the order of directories, nor on modes, owners, times.
///
/// # Errors
/// If populateCmd fails, two sources disagree, the toplevel cannot be booted by systemd-boot, or there is anything that
/// FAT cannot hold and that leads to no file.
pub fn boot_files(
    request: &BootRequest<'_>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<BootFiles, PopulateError> {
    let mut scratch = Vec::new();
    let mut work = Work { request, scratch: &mut scratch, progress, cancel };
    let store = Store(request.store_root);
    let fat = |mount_point| Merge::new(store, mount_point, Names::OfFat);
    let (mut esp, mut xbootldr) = (request.esp.map(fat), request.xbootldr.map(fat));
    let mut nix = Vec::new();
    match (request.boot, &mut esp, &mut xbootldr) {
        (Some(Location::Nix(place)), esp, _) => {
            let mut boot = Merge::new(store, Path::new(BOOT), Names::Exact);
            work.fill_boot(&mut Trees { boot: &mut boot, esp: esp.as_mut() })?;
            nix = directory::entries(&work.finish(boot)?, place);
        }
        (Some(Location::Boot(_)), Some(boot), _) => work.fill_boot(&mut Trees { boot, esp: None })?,
        (Some(Location::Xbootldr(_)), esp, Some(boot)) => work.fill_boot(&mut Trees { boot, esp: esp.as_mut() })?,
        (Some(Location::Boot(_) | Location::Xbootldr(_)) | None, _, _) => {}
    }
    work.with_fats(&mut esp, &mut xbootldr, Work::add_systemd_boot)?;
    esp.as_mut().map_or(Ok(()), |esp| work.add_limine(esp))?;
    let uki = work.with_fats(&mut esp, &mut xbootldr, Work::add_uki)?.flatten();
    let esp = esp.map(|esp| work.finish_fat(esp, request.own)).transpose()?;
    let xbootldr = xbootldr.map(|fat| work.finish_fat(fat, request.own_on_xbootldr)).transpose()?;
    Ok(BootFiles { esp, xbootldr, nix, uki, _scratch: scratch })
}

struct Work<'w> {
    request: &'w BootRequest<'w>,
    scratch: &'w mut Vec<Scratch>,
    progress: &'w dyn Progress,
    cancel: &'w Cancel,
}

impl<'w> Work<'w> {
    /// Adds what goes to `/boot`, whatever that is.
    fn fill_boot(&mut self, trees: &mut Trees<'_, 'w>) -> Result<(), PopulateError> {
        let Self { request, progress, cancel, .. } = *self;
        if let Some(files) = &request.grub {
            let directory = self.new_scratch()?;
            grub::add(trees, files, request.toplevel, &directory, progress, cancel)?;
        }
        let boot = &mut *trees.boot;
        if let Some(command) = request.populate_cmd {
            progress.stage("running populateCmd", 0, 0);
            let directory = self.new_scratch()?;
            populate::populate(command, request, &directory, progress, cancel)?;
            boot.add(&directory, cancel)?;
        }
        let mut paths = request.extra_boot_files.iter();
        paths.try_for_each(|path| boot.add(&boot.store.find_directory(path)?, cancel))
    }

    /// Adds what goes to XBOOTLDR, or else to the ESP, wherever they are mounted; nothing if there is no ESP.
    fn with_fats<T>(
        &mut self,
        esp: &mut Option<Merge<'w>>,
        xbootldr: &mut Option<Merge<'w>>,
        add: impl FnOnce(&mut Self, &mut Trees<'_, 'w>) -> Result<T, PopulateError>,
    ) -> Result<Option<T>, PopulateError> {
        match (esp, xbootldr) {
            (Some(esp), Some(boot)) => add(self, &mut Trees { boot, esp: Some(esp) }).map(Some),
            (Some(boot), None) => add(self, &mut Trees { boot, esp: None }).map(Some),
            (None, _) => Ok(None),
        }
    }

    /// Adds systemd-boot and its entries.
    fn add_systemd_boot(&mut self, trees: &mut Trees<'_, 'w>) -> Result<(), PopulateError> {
        let Self { request, progress, cancel, .. } = *self;
        let Some(wanted) = request.systemd_boot else { return Ok(()) };
        let scratch = [self.new_scratch()?, self.new_scratch()?];
        let entries = if request.uki.is_some() { Entries::None } else { Entries::OfSystems };
        systemd_boot::add(trees, wanted, (request.toplevel, entries), [&scratch[0], &scratch[1]], progress, cancel)
    }

    /// Adds Limine, which has all its files on the ESP.
    fn add_limine(&mut self, esp: &mut Merge<'w>) -> Result<(), PopulateError> {
        let Self { request, progress, cancel, .. } = *self;
        let Some(wanted) = request.limine else { return Ok(()) };
        let directory = self.new_scratch()?;
        limine::add(esp, wanted, request.toplevel, &directory, progress, cancel)
    }

    /// Makes the unified kernel image, if one is wanted.
    fn add_uki(&mut self, trees: &mut Trees<'_, 'w>) -> Result<Option<MadeUki>, PopulateError> {
        let Self { request, progress, cancel, .. } = *self;
        let Some(wanted) = request.uki else { return Ok(None) };
        let scratch = self.new_scratch()?;
        uki::add(trees, wanted, request.verified, request.has_updates, &scratch, progress, cancel).map(Some)
    }

    /// The tree of a FAT, with the host's `own` files.
    fn finish_fat(&self, mut fat: Merge<'w>, own: &[OwnEntry]) -> Result<FileTree, PopulateError> {
        own.iter().try_for_each(|entry| fat.put(entry))?;
        self.finish(fat)
    }

    /// The tree of all that was added, unless it would not do.
    fn finish(&self, merge: Merge<'w>) -> Result<FileTree, PopulateError> {
        let mount_point = merge.mount_point;
        let tree = merge.into_tree()?;
        judge::check(&tree, mount_point)?;
        for warning in judge::warnings(&tree, mount_point)? {
            self.progress.warn(&warning);
        }
        Ok(tree)
    }

    /// A new empty directory, by a path that is free of symbolic links.
    fn new_scratch(&mut self) -> Result<PathBuf, PopulateError> {
        let directory = Scratch::temporary().map_err(PopulateError::Scratch)?;
        let path = directory.path().to_owned();
        self.scratch.push(directory);
        Ok(path)
    }
}
