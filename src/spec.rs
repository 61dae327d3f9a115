//! The JSON spec: what the user asked for, typed and checked.
//!
//! This is the first step of the pipeline; pure, no I/O. The NixOS module writes the spec, [`parse`] reads it. No later
//! module sees JSON, an unchecked size or the path of a device. All mistakes of a spec are reported at once, each with
//! its JSON path and what to set instead.

mod boot;
mod btrfs;
mod device;
mod erofs;
mod fields;
mod file_system;
pub mod files;
mod grub;
pub mod identity;
mod json;
mod limine;
mod mount_options;
mod partitions;
mod swap;
mod systemd_boot;
mod uki;
pub mod updates;
mod validate;
mod verity;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;

pub use self::btrfs::{Btrfs, Compression, around, below};
pub use self::device::{Device, FsUuid};
pub(crate) use self::device::{Named, path_of};
pub use self::erofs::ErofsCompression;
pub use self::file_system::{FileSystem, FsType};
pub use self::files::{OwnFile, Reserved};
pub(crate) use self::grub::is_words;
pub use self::grub::{FsIdentifier, Grub, GrubState, Password};
pub use self::limine::Limine;
pub(crate) use self::limine::yes_or_no;
pub use self::partitions::{Activity, ExtraPartition, HybridEntry, PartitionName, Place};
pub use self::swap::Swap;
pub use self::systemd_boot::SystemdBoot;
pub use self::uki::Uki;
pub use self::updates::Updates;
pub use self::validate::MAX_SIZE;
pub use self::verity::Verity;

pub use crate::mounts::{Location, MountTable};

use self::boot::Loaders;
use self::fields::Object;
use self::file_system::{Fats, Mounts, NixPlace};
use crate::store::{Closure, StoreDir, StorePath};
use crate::units::{MIB, SectorSize};

/// The one version of the spec's schema that this program reads.
pub const VERSION: u64 = 1;

/// Where the first partition starts by default, in bytes from the start of the disk.
const DEFAULT_FIRST_PART_START: u64 = 16 * MIB;
/// The 128 entries of a partition table, in bytes.
const GPT_ENTRIES_BYTES: u64 = 128 * 128;
/// In bytes.
const DEFAULT_BOOT_PART_SIZE: u64 = 512 * MIB;
/// In bytes.
const DEFAULT_NIX_FREE_SPACE: u64 = 512 * MIB;

/// What belongs into a field that holds a command.
const SHELL_COMMAND: &str = "a shell command or null";

/// One mistake in a spec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}{}{problem}; {remedy}", if path.is_empty() { "" } else { ": " })]
pub struct SpecError {
    /// Where it stands, such as `fileSystems."/boot".device`; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
    /// What the user can do about it.
    pub remedy: String,
}

/// All mistakes of one spec; at least one. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(SpecError::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SpecErrors(Vec<SpecError>);

impl SpecErrors {
    /// In the order of the schema.
    pub fn as_slice(&self) -> &[SpecError] {
        &self.0
    }
}

impl From<SpecError> for SpecErrors {
    fn from(error: SpecError) -> Self {
        Self(vec![error])
    }
}

/// An image as the user wants it. Made by [`parse`], so that what the fields promise holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The image's file name without `.img`: one plain component.
    pub name: String,
    /// Where the store is in the running system.
    pub store_dir: StoreDir,
    /// The system that is booted.
    pub toplevel: StorePath,
    /// The directory that holds `store-paths` and `registration`; absolute.
    pub closure_info: PathBuf,
    /// The ESP, if there is one.
    pub esp: Option<FileSystem>,
    /// The XBOOTLDR partition, which holds what systemd-boot starts in the ESP's place, if there is one.
    pub xbootldr: Option<FileSystem>,
    /// Where in the image `/boot` is: the ESP itself, XBOOTLDR itself, or a directory of [`Spec::nix`]. `None` if it is not in the image, and
    /// nothing is to be there.
    pub boot: Option<Location>,
    /// The filesystem that holds the store.
    pub nix: FileSystem,
    /// What the mounts of [`Spec::nix`] ask for, if it is a btrfs.
    pub btrfs: Option<Btrfs>,
    /// The hash tree of [`Spec::nix`], if it is to have one.
    pub verity: Option<Verity>,
    /// How the contents of [`Spec::nix`] are compressed, if it is an erofs.
    pub erofs_compression: Option<ErofsCompression>,
    /// The store's path from the root of [`Spec::nix`]: `nix/store`, `store`, or empty.
    pub store_in_nix: PathBuf,
    /// The shell command that fills the boot tree, called with `-c <toplevel> -d .`.
    pub populate_cmd: Option<String>,
    /// systemd-boot, if it is to be in the boot tree.
    pub systemd_boot: Option<SystemdBoot>,
    /// GRUB, if it is to boot the image.
    pub grub: Option<Grub>,
    /// Limine, if it is to boot the image.
    pub limine: Option<Limine>,
    /// The unified kernel image, if there is to be one on XBOOTLDR or the ESP.
    pub uki: Option<Uki>,
    /// Directories whose contents are copied into the boot tree; absolute.
    pub extra_boot_files: Vec<PathBuf>,
    /// Empty directories to be, from the root of [`Spec::nix`]: plain components, sorted, none twice.
    /// The store directory and what leads to it are left out, since they are there anyway.
    pub extra_directories: Vec<PathBuf>,
    /// The host's own files, in the order of the spec; each on a filesystem of the image.
    pub files: Vec<OwnFile>,
    /// The directory with Nix's database of the closure, if the image is to have it; absolute.
    pub nix_database: Option<PathBuf>,
    /// What the running system mounts where.
    pub mounts: MountTable,
    /// The unit of the GPT and of FAT.
    pub sector_size: SectorSize,
    /// Bytes between the GPT header's usual place for its entries and where they are; whole sectors.
    pub extra_gpt_padding: u64,
    /// Bytes that stay unallocated before the first partition.
    pub first_part_gap: u64,
    /// The size in bytes of the partition that holds kernels: of XBOOTLDR or else of the ESP, if there is one; not zero.
    pub boot_part_size: u64,
    /// The size in bytes of an ESP beside XBOOTLDR; not zero.
    pub esp_size: u64,
    /// Bytes to be free in [`Spec::nix`].
    pub nix_free_space: u64,
    /// The size of the whole disk, whole MiB and not zero; `None` for the least.
    pub disk_size: Option<u64>,
    /// Partitions beside these two.
    pub extra_partitions: Vec<ExtraPartition>,
    /// What the MBR names besides the GPT, in this order; usually nothing.
    pub hybrid_mbr: Vec<HybridEntry>,
    /// What is updated in two slots, if anything is.
    pub updates: Option<Updates>,
    /// A shell command to run last on the finished image.
    pub install_bootloader: Option<String>,
    /// What may be wrong, but need not be: a line each, with the JSON path at which it stands.
    pub warnings: Vec<String>,
}

/// What is kept free for the store, in a filesystem that has it at `store_in_nix`.
fn reserved(btrfs: Option<&Btrfs>, store_in_nix: &Path) -> Reserved {
    let root = PathBuf::from(btrfs.map_or("", |btrfs| &btrfs.store_subvolume));
    Reserved { store: root.join(store_in_nix).components().collect(), root }
}

impl Spec {
    /// The parts of the filesystem of the store that are the store's.
    pub fn reserved(&self) -> Reserved {
        reserved(self.btrfs.as_ref(), &self.store_in_nix)
    }

    /// The size of the ESP in bytes, if there is one.
    pub fn esp_part_size(&self) -> u64 {
        if self.xbootldr.is_some() { self.esp_size } else { self.boot_part_size }
    }

    /// Whether a BIOS is to start the image, so that it has boot code and a partition for what that loads.
    pub fn boots_by_bios(&self) -> bool {
        let by_limine = self.limine.as_ref().is_some_and(|limine| limine.bios_support);
        by_limine || self.grub.as_ref().is_some_and(|grub| grub.bios.is_some())
    }

    /// GRUB, where in the image `/boot` is for it, and where the store.
    pub fn grub_places(&self) -> Option<(&Grub, Location, Location)> {
        let grub = self.grub.as_ref()?;
        Some((grub, self.boot.clone()?, self.mounts.locate(&grub.store_path).ok()?))
    }

    /// Whether the partition of the store has a size of its own, so that it does not take what a disk has left.
    pub fn has_fixed_store(&self) -> bool {
        self.verity.is_some() || self.updates.is_some()
    }

    /// Checks what only the closure can tell: that it holds the system to boot.
    ///
    /// # Errors
    /// If `toplevel` is not in `closure`.
    pub fn check_closure(&self, closure: &Closure) -> Result<(), SpecErrors> {
        if closure.contains(&self.toplevel) {
            return Ok(());
        }
        let problem = format!("\"{}\" is not in the closure of closureInfo", self.toplevel);
        let remedy = "set closureInfo to pkgs.closureInfo with toplevel among its rootPaths".to_owned();
        Err(SpecError { path: "toplevel".to_owned(), problem, remedy }.into())
    }
}

/// Reads and checks a spec.
///
/// # Errors
/// All that can be told at once: where a field is wrong, what depends on it is not judged. Text that
/// is not JSON, or of another version, is told alone.
pub fn parse(json: &str) -> Result<Spec, SpecErrors> {
    let members = json::parse(json)?;
    check_version(&members)?;
    let mut errors = Vec::new();
    match read(Object::new(String::new(), members, &mut errors)) {
        Some(spec) if errors.is_empty() => Ok(spec),
        _ => Err(SpecErrors(errors)),
    }
}

fn check_version(members: &Map<String, Value>) -> Result<(), SpecError> {
    let problem = match members.get("version") {
        Some(version) if version.as_u64() == Some(VERSION) => return Ok(()),
        Some(version) => format!("{version} is not a version that this program reads; it reads only version {VERSION}"),
        None => "is missing".to_owned(),
    };
    let remedy = format!("set version to {VERSION} and write the rest for that version");
    Err(SpecError { path: "version".to_owned(), problem, remedy })
}

/// The spec, or `None` after noting why there is none. A spec with anything noted is void.
fn read(mut top: Object<'_>) -> Option<Spec> {
    top.skip("version");
    let name = top.optional("name", "a plain file name such as \"nixos\"", "nixos".to_owned(), validate::file_name);
    let store_dir =
        top.optional("storeDir", "a path such as \"/nix/store\"", "/nix/store".to_owned(), |text| StoreDir::new(&text));
    let toplevel = top.required("toplevel", "the path of config.system.build.toplevel", |text: String| {
        store_dir.as_ref().map(|store_dir| StorePath::from_absolute_path(&text, store_dir)).transpose()
    });
    let closure_info = top.required("closureInfo", "the path of a pkgs.closureInfo", validate::absolute_path);

    let esp = read_esp_mount_point(&mut top);
    let xbootldr = read_xbootldr_mount_point(&mut top, esp.as_ref());
    let architecture = verity::read(&mut top).flatten();
    let mounts = read_mounts(&mut top, store_dir.as_ref(), [esp.as_ref(), xbootldr.as_ref()]);
    let verity = verity::judge(architecture, &mounts, &mut top);
    let erofs_compression = erofs::read(&mut top, mounts.nix.as_ref().map(|nix| nix.fs_type));

    let loaders = Loaders::read(&mut top);
    let place = mounts.nix_place.as_ref();
    let extra_directories = read_extra_directories(&mut top, place);
    let store_in_nix = place.map(NixPlace::store_in_nix);
    let files = files::read(&mut top, &mounts.table, store_in_nix.map(|path| reserved(mounts.btrfs.as_ref(), path)));
    let wanted = "the path of a directory with Nix's database, or null";
    let path = |path: Option<String>| path.map(validate::absolute_path).transpose();
    let nix_database = top.optional("nixDatabase", wanted, None, path);

    let sizes = Sizes::read(&mut top);
    let extra_partitions = partitions::read_extra(&mut top);
    let hybrid_mbr = partitions::read_hybrid(&mut top, extra_partitions.as_deref());
    let updates = updates::read(&mut top).flatten();
    updates::check(updates.as_ref(), mounts.nix.as_ref(), extra_partitions.as_deref(), loaders.uki.as_ref(), &mut top);
    btrfs::check_extra_directories(mounts.btrfs.as_ref(), &extra_directories, &mut top);
    let install_bootloader = top.optional("installBootloader", SHELL_COMMAND, None, validate::command);
    let boot = boot::find(&mounts, &loaders, &mut top);
    boot::check_esp(esp.as_ref(), &loaders, hybrid_mbr.as_deref(), &mut top);
    boot::check_xbootldr(xbootldr.as_ref(), &loaders, &mut top);
    boot::check_sectors(sizes.sector_size, &loaders, &mut top);
    top.finish();

    let mut warnings = mounts.warnings;
    warnings.extend(verity::warning(verity, loaders.uki.is_some()));
    warnings.extend(updates::warning(updates.as_ref(), &loaders));
    Some(Spec {
        name: name?,
        toplevel: toplevel??,
        closure_info: closure_info?,
        store_in_nix: store_in_nix?.to_owned(),
        store_dir: store_dir?,
        esp: mounts.esp?,
        xbootldr: mounts.xbootldr?,
        boot,
        nix: mounts.nix?,
        btrfs: mounts.btrfs,
        verity,
        erofs_compression: erofs_compression?,
        populate_cmd: loaders.populate_cmd,
        systemd_boot: loaders.systemd_boot,
        grub: loaders.grub,
        limine: loaders.limine,
        uki: loaders.uki,
        extra_boot_files: loaders.extra_boot_files,
        extra_directories,
        files: files?,
        nix_database: nix_database?,
        mounts: mounts.table,
        sector_size: sizes.sector_size?,
        extra_gpt_padding: sizes.extra_gpt_padding?,
        first_part_gap: sizes.first_part_gap?,
        boot_part_size: sizes.boot_part_size?,
        esp_size: sizes.esp_size?,
        // Nothing can ever be written there.
        nix_free_space: if verity.is_some() { 0 } else { sizes.nix_free_space? },
        disk_size: sizes.disk_size?,
        extra_partitions: extra_partitions?,
        hybrid_mbr: hybrid_mbr?,
        updates,
        install_bootloader: install_bootloader?,
        warnings,
    })
}

/// Where the ESP is mounted, if there is to be one.
fn read_esp_mount_point(top: &mut Object<'_>) -> Option<Option<PathBuf>> {
    let default = Some(file_system::BOOT.to_owned());
    top.optional("efiSysMountPoint", "the mount point of the ESP, or null for none", default, |path: Option<String>| {
        path.map(validate::absolute_path).transpose()
    })
}

/// Where the XBOOTLDR partition is mounted, if there is to be one.
fn read_xbootldr_mount_point(top: &mut Object<'_>, esp: Option<&Option<PathBuf>>) -> Option<Option<PathBuf>> {
    let wanted = "the mount point of the XBOOTLDR partition, or null for none";
    top.optional("xbootldrMountPoint", wanted, None, |path: Option<String>| {
        let path = path.map(validate::absolute_path).transpose()?;
        match path {
            Some(path) if esp.is_some_and(|esp| esp.as_ref() == Some(&path)) => {
                Err(format!("{:?} is where the ESP is", path.display().to_string()))
            }
            path => Ok(path),
        }
    })
}

/// The filesystems, once it is known where the store is, and where the ESP and XBOOTLDR are mounted.
fn read_mounts(
    top: &mut Object<'_>,
    store_dir: Option<&StoreDir>,
    [esp, xbootldr]: [Option<&Option<PathBuf>>; 2],
) -> Mounts {
    match (top.required("fileSystems", "config.fileSystems", fields::as_is), store_dir, esp, xbootldr) {
        (Some(entries), Some(store_dir), Some(esp), Some(xbootldr)) => {
            let fats = Fats { esp: esp.as_deref(), xbootldr: xbootldr.as_deref() };
            file_system::read_all(entries, store_dir, fats, top)
        }
        _ => Mounts::default(),
    }
}

/// Sorted, none twice; none if any is noted. `place` is where the nix filesystem is mounted and the store in it.
fn read_extra_directories(top: &mut Object<'_>, place: Option<&NixPlace>) -> Vec<PathBuf> {
    let wanted = "a directory on the nix filesystem";
    let read = top.list("extraDirectories", wanted, |text| validate::extra_directory(&text, place));
    let sorted: BTreeSet<_> = read.unwrap_or_default().into_iter().flatten().collect();
    sorted.into_iter().collect()
}

/// What could be read of the fields that are numbers.
struct Sizes {
    sector_size: Option<SectorSize>,
    extra_gpt_padding: Option<u64>,
    first_part_gap: Option<u64>,
    boot_part_size: Option<u64>,
    esp_size: Option<u64>,
    nix_free_space: Option<u64>,
    disk_size: Option<Option<u64>>,
}

/// The size in bytes of an ESP without kernels: whole MiB, and enough for the 65525 clusters that FAT32 has at least.
fn default_esp_size(sector_size: SectorSize) -> u64 {
    match sector_size {
        SectorSize::B512 => 64 * MIB,
        SectorSize::B4096 => 260 * MIB,
    }
}

/// The gap with which the first partition starts at [`DEFAULT_FIRST_PART_START`], if the table leaves room for one.
fn default_gap(sector_size: SectorSize, extra_gpt_padding: u64) -> u64 {
    // The protective MBR and the header come first, a sector each.
    let table = 2 * sector_size.bytes() + GPT_ENTRIES_BYTES;
    DEFAULT_FIRST_PART_START.saturating_sub(table).saturating_sub(extra_gpt_padding)
}

impl Sizes {
    fn read(top: &mut Object<'_>) -> Self {
        let sector_size = top.optional("sectorSize", "512 or 4096", 512.into(), validate::sector_size);
        let extra_gpt_padding = top.optional("extraGPTPadding", "a multiple of sectorSize", 0.into(), |value| {
            validate::padding(value, sector_size)
        });
        let gap = Some(default_gap(sector_size.unwrap_or_default(), extra_gpt_padding.unwrap_or_default()).into());
        let first_part_gap = top.optional("firstPartGap", "a number of bytes or null", gap, |value: Option<Value>| {
            value.map_or(Ok(0), validate::size)
        });
        let boot_part_size =
            top.optional("bootPartSize", "a number of bytes", DEFAULT_BOOT_PART_SIZE.into(), validate::nonzero_size);
        let default = default_esp_size(sector_size.unwrap_or_default());
        let esp_size = top.optional("espSize", "a number of bytes", default.into(), validate::nonzero_size);
        let nix_free_space =
            top.optional("nixFreeSpace", "a number of bytes", DEFAULT_NIX_FREE_SPACE.into(), validate::size);
        let disk_size =
            top.optional("diskSize", "a number of bytes in whole MiB, or null", None, |value: Option<Value>| {
                value.map(validate::disk_size).transpose()
            });
        let all = [
            ("extraGPTPadding", extra_gpt_padding),
            ("firstPartGap", first_part_gap),
            ("bootPartSize", boot_part_size),
            ("nixFreeSpace", nix_free_space),
        ];
        validate::check_total(top, all);
        Self { sector_size, extra_gpt_padding, first_part_gap, boot_part_size, esp_size, nix_free_space, disk_size }
    }
}
