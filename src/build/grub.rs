//! GRUB for an image: its core images, made by the host's own grub-mkimage, and where GRUB finds what.

use std::fs;
use std::path::{Path, PathBuf};

use super::{BuildError, Context};
use crate::grub::mkimage::extra_modules;
use crate::grub::{Boot, CoreError, Request, bios_core, efi_core};
use crate::identity::Identities;
use crate::mounts::Location;
use crate::output::Scratch;
use crate::plan::{self, Bios, Role};
use crate::source::boot::{GrubFiles, Place};
use crate::spec::{Device, FsType, FsUuid, Grub, Spec, around};

/// The file of GRUB's modules for BIOS that is the boot code of a disk.
const BOOT_IMG: &str = "boot.img";

/// GRUB, ready to be put into an image.
pub(super) struct GrubPart {
    boot: Place,
    store: Place,
    efi: Option<PathBuf>,
    bios: Option<BiosPart>,
    /// Holds the core images.
    _scratch: Scratch,
}

/// What a BIOS starts.
struct BiosPart {
    boot_img: Vec<u8>,
    core: Vec<u8>,
    /// The core image once more, as the file in `/boot`.
    file: PathBuf,
}

impl GrubPart {
    /// Makes GRUB's core images, if the spec asks for GRUB.
    pub(super) fn prepare(
        spec: &Spec,
        identities: &Identities,
        context: Context<'_>,
    ) -> Result<Option<Self>, BuildError> {
        let Some((wanted, boot, store)) = spec.grub_places() else { return Ok(None) };
        context.progress.stage("making GRUB's core images", 0, 0);
        let [boot, store] = [boot, store].map(|location| place(spec, identities, &location));
        let scratch = Scratch::temporary().map_err(CoreError::Scratch)?;
        let maker = Maker { wanted, boot: &boot, directory: scratch.path(), context };
        let bios = wanted.bios.as_deref().map(|modules| maker.bios(modules)).transpose()?;
        let efi = wanted.efi.as_deref().map(|modules| maker.efi(modules)).transpose()?;
        Ok(Some(Self { boot, store, efi, bios, _scratch: scratch }))
    }

    /// What goes onto the disk outside of its filesystems.
    pub(super) fn outside(&self) -> Option<Bios<'_>> {
        self.bios.as_ref().map(|bios| Bios::Grub { boot_img: &bios.boot_img, core: &bios.core })
    }

    /// What goes into the filesystems.
    pub(super) fn inside<'a>(&'a self, wanted: &'a Grub) -> GrubFiles<'a> {
        let bios_core = self.bios.as_ref().map(|bios| bios.file.as_path());
        let Self { boot, store, efi, .. } = self;
        GrubFiles { wanted, boot, store, bios_core, efi_core: efi.as_deref() }
    }
}

/// Has core images made.
struct Maker<'a> {
    wanted: &'a Grub,
    boot: &'a Place,
    directory: &'a Path,
    context: Context<'a>,
}

impl Maker<'_> {
    fn bios(&self, modules: &Path) -> Result<BiosPart, BuildError> {
        let modules = self.context.options.store_root.locate(modules);
        let path = modules.join(BOOT_IMG);
        let boot_img = fs::read(&path).map_err(|source| BuildError::BootImg { path, source })?;
        let extra = extra_modules(&self.wanted.state.extra_grub_install_args);
        let core = bios_core(self.request(&modules, &extra))?.bytes;
        let file = self.keep("bios", &core)?;
        Ok(BiosPart { boot_img, core, file })
    }

    fn efi(&self, modules: &Path) -> Result<PathBuf, BuildError> {
        let modules = self.context.options.store_root.locate(modules);
        let extra = extra_modules(&self.wanted.state.extra_grub_install_args);
        self.keep("efi", &efi_core(self.request(&modules, &extra))?.bytes)
    }

    fn request<'r>(&'r self, modules: &'r Path, extra: &'r [String]) -> Request<'r> {
        let Place { number, fs, path, .. } = self.boot;
        let boot = Boot { number: *number, fs: *fs, path };
        Request { mkimage: &self.wanted.mkimage, modules, boot, extra }
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, BuildError> {
        let path = self.directory.join(name);
        fs::write(&path, bytes).map_err(CoreError::Scratch)?;
        Ok(path)
    }
}

/// Where GRUB finds a directory of the image.
fn place(spec: &Spec, identities: &Identities, location: &Location) -> Place {
    let number = |role| plan::number(spec, role).expect("there is a partition for what is in the image");
    let (role, mounted, identity) = match location {
        Location::Xbootldr(_) => (Role::Xbootldr, &spec.xbootldr, &identities.xbootldr),
        Location::Boot(_) | Location::Nix(_) => (Role::Boot, &spec.esp, &identities.esp),
    };
    let path = location.path();
    match (mounted, identity) {
        (Some(mounted), Some(fat)) if location.is_on_fat() => Place {
            number: number(role),
            fs: FsType::Vfat,
            uuid: FsUuid::VolumeId(fat.filesystem).to_string(),
            label: fat.label.clone(),
            device: device(&mounted.device),
            path: from_root(path),
            subvolume: String::new(),
        },
        _ => Place {
            number: number(Role::Nix),
            fs: spec.nix.fs_type,
            uuid: FsUuid::Uuid(identities.nix.filesystem).to_string(),
            label: identities.nix.label.clone(),
            device: device(&spec.nix.device),
            path: from_root(path),
            subvolume: subvolume(spec, path),
        },
    }
}

/// As a path that starts with a slash; empty for the root itself.
fn from_root(path: &Path) -> String {
    path.iter().map(|name| format!("/{}", name.to_string_lossy())).collect()
}

/// The subvolume that a path of the filesystem of the store is in; empty for its top level.
fn subvolume(spec: &Spec, path: &Path) -> String {
    let all = spec.btrfs.as_ref().map_or(&[][..], |btrfs| &btrfs.subvolumes);
    // With a slash at its end, the path of a subvolume is inside it.
    around(all, &format!("{}/", path.display())).to_owned()
}

/// As `fileSystems` names it.
fn device(device: &Device) -> String {
    let (kind, name) = match device {
        Device::FsUuid(uuid) => ("uuid", uuid.to_string()),
        Device::Label(label) => ("label", label.clone()),
        Device::PartUuid(uuid) => ("partuuid", uuid.to_string()),
        Device::PartLabel(name) => ("partlabel", name.clone()),
        Device::Verified(_) => return device.path(),
    };
    format!("/dev/disk/by-{kind}/{name}")
}
