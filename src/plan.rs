//! The plan of the whole image: the place of everything, before a byte is written. Pure.
//!
//! An [`ImagePlan`] is what `sane-image plan` prints and what `layout.json` records beside the image.
//! `docs/reference/layout-json.md` describes the keys.

use thiserror::Error;

pub use self::described::{Filesystem, ImagePlan, Partition, Role, SlotFor, StorePathRange, SwapArea};
pub use self::filesystem::{Laid, NixFilesystem, NixLayout};
pub use self::rest::{Rest, SizeMultiple};
pub use self::room::BootRoom;
pub use self::slots::{SlotError, slot_size};
pub use self::table::{bios_boot_start, number};

use self::table::{Sizes, roles, table, with_bios, with_hybrid};
use crate::disk::gpt::{GptError, PartitionPlan};
use crate::grub::{BootCode, EmbedError};
use crate::identity::Identities;
use crate::source::tree::FileTree;
use crate::spec::{FileSystem, FsUuid, Spec};
use crate::store::StorePath;
use crate::units::{SectorSize, nearest_multiples};
use crate::verity::Described;
use crate::vfat::VfatLayout;

mod described;
mod filesystem;
mod rest;
mod room;
mod slots;
mod table;

/// The version of the JSON that an [`ImagePlan`] serialises to.
pub const VERSION: u32 = 1;
/// The parts do not fit together into a disk.
#[derive(Debug, Error)]
pub enum PlanError {
    /// There is no such partition table.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// What a BIOS is to start cannot be put in its place.
    #[error("grub: {0}")]
    Embed(#[from] EmbedError),
    /// The disk has no room for what is to be on it.
    #[error(
        "diskSize: {disk_size} bytes are too few: the partitions need {needed} with nixFreeSpace free in the last, so \
         {missing} are missing; set diskSize to {needed} at least"
    )]
    TooSmall {
        /// The size asked for, in bytes.
        disk_size: u64,
        /// The least size, in bytes.
        needed: u64,
        /// The difference.
        missing: u64,
    },
    /// The disk has no room for partitions of fixed sizes.
    #[error(
        "diskSize: {disk_size} bytes are too few: the partitions need {needed}; set diskSize to {needed} at least{}",
        if *.slots { ", or updates.slotSize to fewer bytes" } else { "" }
    )]
    TooSmallForFixed {
        /// The size asked for, in bytes.
        disk_size: u64,
        /// The least size, in bytes.
        needed: u64,
        /// Whether there is a second slot beside each partition of the store.
        slots: bool,
    },
    /// The store does not fit its slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The disk has a size that a form of the image cannot have.
    #[error(
        "diskSize: {disk_size} is not a multiple of {}, as the format {} needs it; set diskSize to {}",
        .multiple.bytes, .multiple.form, nearest_multiples(*disk_size, .multiple.bytes)
    )]
    NoMultiple {
        /// The size asked for, in bytes.
        disk_size: u64,
        /// What the form needs.
        multiple: SizeMultiple,
    },
}

/// What a BIOS starts, before it has its place.
#[derive(Clone, Copy, Debug)]
pub enum Bios<'a> {
    /// GRUB, which has to be told its place.
    Grub {
        /// Its boot sector.
        boot_img: &'a [u8],
        /// Its core image.
        core: &'a [u8],
    },
    /// Limine, made for the place at [`bios_boot_start`].
    Limine(&'a BootCode),
}

/// What is to be put onto a disk.
pub struct Contents<'a> {
    /// What a BIOS starts, if there is a partition for that.
    pub bios: Option<Bios<'a>>,
    /// The ESP, if there is one.
    pub esp: Option<Laid<'a, VfatLayout>>,
    /// The XBOOTLDR partition, if there is one.
    pub xbootldr: Option<Laid<'a, VfatLayout>>,
    /// The filesystem of the store.
    pub nix: NixFilesystem<'a>,
    /// The size in bytes of the partition of the store.
    pub nix_size: u64,
    /// The hash tree of that, if it has one, and the size of its partition in bytes.
    pub verity: Option<(Described, u64)>,
    /// The size in bytes of each of the spec's extra partitions.
    pub extra: &'a [u64],
    /// Of what the size of the disk is to be a multiple.
    pub size_multiple: SizeMultiple,
    /// Whether there are files that are not for everybody.
    pub private_files: bool,
}

/// Puts the laid-out filesystems onto a disk.
pub fn plan(spec: &Spec, identities: &Identities, contents: &Contents<'_>) -> Result<ImagePlan, PlanError> {
    let roles = roles(spec);
    let tree = contents.verity.as_ref().map_or(0, |(_, size)| *size);
    let sizes = Sizes { nix: contents.nix_size, verity: tree, extra: contents.extra };
    let gpt = table(spec, identities, &sizes)?;
    let gpt = match spec.has_fixed_store() {
        true => {
            let size = Rest::around(gpt.disk_size, spec, contents.size_multiple)?;
            gpt.on_disk_of(size)
        }
        false => gpt,
    };
    let gpt = with_hybrid(gpt, spec, &roles)?;
    let (gpt, bios_boot) = with_bios(gpt, &roles, contents.bios)?;
    let planned = roles.iter().zip(&gpt.partitions);
    let partitions: Vec<_> = planned
        .map(|(&role, planned)| {
            let partition = partition(role, planned, spec.sector_size, filesystem(role, spec, identities, contents));
            let verity =
                contents.verity.as_ref().filter(|_| role == Role::Verity).map(|(described, _)| described.clone());
            Partition { swap: swap(role, spec, identities), verity, ..partition }
        })
        .collect();
    let nix = partitions.iter().find(|partition| partition.role == Role::Nix);
    let store_paths = nix.map_or_else(Vec::new, |partition| store_paths(spec, contents.nix, partition.offset));
    Ok(ImagePlan {
        version: VERSION,
        name: spec.name.clone(),
        size: gpt.disk_size,
        sector_size: spec.sector_size.bytes(),
        disk_guid: gpt.disk_guid,
        entries_offset: gpt.entries_lba.0 * spec.sector_size.bytes(),
        boot: contents.xbootldr.as_ref().or(contents.esp.as_ref()).map(BootRoom::new),
        private_files: contents.private_files,
        partitions,
        store_paths,
        gpt,
        bios_boot,
    })
}

fn filesystem(role: Role, spec: &Spec, identities: &Identities, contents: &Contents<'_>) -> Option<Filesystem> {
    match role {
        Role::Boot => {
            let (esp, Laid { tree, layout }) = (identities.esp.as_ref()?, contents.esp.as_ref()?);
            let uuid = FsUuid::VolumeId(esp.filesystem);
            Some(describe(spec.esp.as_ref()?, uuid, &esp.label, layout.free_bytes(), tree))
        }
        Role::Xbootldr => {
            let (fat, Laid { tree, layout }) = (identities.xbootldr.as_ref()?, contents.xbootldr.as_ref()?);
            let uuid = FsUuid::VolumeId(fat.filesystem);
            Some(describe(spec.xbootldr.as_ref()?, uuid, &fat.label, layout.free_bytes(), tree))
        }
        Role::Nix => {
            let nix = &identities.nix;
            let uuid = FsUuid::Uuid(nix.filesystem);
            // Contents that are yet to be compressed may need more than there is.
            let over = contents.nix.size().saturating_sub(contents.nix_size);
            let free = contents.nix.free_bytes().saturating_sub(over);
            Some(describe(&spec.nix, uuid, &nix.label, free, contents.nix.tree))
        }
        Role::BiosBoot | Role::Verity | Role::Slot(_) | Role::Extra(_) => None,
    }
}

fn swap(role: Role, spec: &Spec, identities: &Identities) -> Option<SwapArea> {
    let Role::Extra(index) = role else { return None };
    let (uuid, label) = identities.extra[index].swap.clone()?;
    let page_size = spec.extra_partitions[index].swap.as_ref()?.page_size;
    Some(SwapArea { uuid, label, page_size })
}

fn describe(mounted: &FileSystem, uuid: FsUuid, label: &str, free: u64, tree: &FileTree) -> Filesystem {
    let (files, file_bytes) = tree.file_totals();
    Filesystem {
        fs_type: mounted.fs_type.to_string(),
        uuid: uuid.to_string(),
        label: label.to_owned(),
        mount_point: mounted.mount_point.display().to_string(),
        free,
        files,
        file_bytes,
    }
}

fn partition(role: Role, planned: &PartitionPlan, sector: SectorSize, filesystem: Option<Filesystem>) -> Partition {
    let bytes = sector.bytes();
    Partition {
        role,
        number: planned.number,
        offset: planned.first.0 * bytes,
        size: (planned.last.0 - planned.first.0 + 1) * bytes,
        name: planned.name.clone(),
        type_guid: planned.type_guid,
        guid: planned.guid,
        filesystem,
        swap: None,
        verity: None,
    }
}

/// Every store path in the tree, with its place in an image whose nix filesystem starts at byte `start`.
fn store_paths(spec: &Spec, nix: NixFilesystem<'_>, start: u64) -> Vec<StorePathRange> {
    let Some(store) = nix.tree.find_below(nix.root, spec.store_in_nix.iter()) else { return Vec::new() };
    let range = |node| {
        let name = nix.tree.name(node).to_str()?;
        let path = StorePath::from_absolute_path(&format!("{}/{name}", spec.store_dir), &spec.store_dir).ok()?;
        let range = nix.byte_range(node);
        Some(StorePathRange {
            path: path.to_string(),
            offset: range.map(|(first, _)| start + first.0),
            length: range.map_or(0, |(first, end)| end.0 - first.0),
        })
    };
    nix.tree.children(store).filter_map(range).collect()
}
