//! The plan of the whole image: the place of everything, before a byte is written. Pure.
//!
//! An [`ImagePlan`] is what `sane-image plan` prints and what `layout.json` records beside the image.
//! `docs/reference/layout-json.md` describes the keys.

use serde::{Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

pub use self::rest::{Rest, SizeMultiple};
pub use self::room::BootRoom;

use crate::btrfs;
use crate::disk::gpt::{GptError, GptLayout, PartitionPlan, PartitionRequest};
use crate::disk::mbr::{MbrError, MbrPartition};
use crate::ext4;
use crate::grub::{self, BootCode, EmbedError};
use crate::identity::{BIOS_BOOT, Identities, Identity};
use crate::mounts::Location;
use crate::source::tree::{FileTree, NodeIndex};
use crate::spec::{FileSystem, FsUuid, PartitionName, Place, Spec};
use crate::store::StorePath;
use crate::units::{ByteOffset, Lba, MIB, PageSize, SectorSize, nearest_multiples};
use crate::vfat::VfatLayout;

mod rest;
mod room;

/// The version of the JSON that an [`ImagePlan`] serialises to.
pub const VERSION: u32 = 1;
/// UEFI specification 2.10, section 5.3.3: EFI System partition.
const TYPE_ESP: Uuid = uuid::uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Boot Loader Specification (UAPI.1), "The partitions": XBOOTLDR.
const TYPE_XBOOTLDR: Uuid = uuid::uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172");
/// UEFI specification 2.10, table 5.8 "Defined GPT partition entry - attributes": bit 2, legacy BIOS bootable.
const LEGACY_BOOTABLE: u64 = 1 << 2;
/// GRUB manual 2.12, section 3.4 "BIOS installation".
const TYPE_BIOS_BOOT: Uuid = uuid::uuid!("21686148-6449-6e6f-744e-656564454649");
/// The size in bytes of the partition that has it: more than ten times what boot code takes.
const BIOS_BOOT_SIZE: u64 = MIB;
/// Discoverable Partitions Specification: generic Linux data.
const TYPE_LINUX: Uuid = uuid::uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

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

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the boot code of the MBR loads, where a BIOS starts it.
    BiosBoot,
    /// The ESP.
    Boot,
    /// What holds systemd-boot's entries and kernels in the place of the ESP.
    Xbootldr,
    /// The filesystem that holds the store.
    Nix,
    /// The one at this index of the spec's extra partitions.
    Extra(usize),
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::BiosBoot => "biosBoot",
            Self::Boot => "boot",
            Self::Xbootldr => "xbootldr",
            Self::Nix => "nix",
            Self::Extra(_) => "extra",
        })
    }
}

/// A filesystem as far as its reader needs to know it beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filesystem {
    /// "vfat", "ext4" or "btrfs".
    #[serde(rename = "type")]
    pub fs_type: String,
    /// The UUID as in `/dev/disk/by-uuid`.
    pub uuid: String,
    /// The label.
    pub label: String,
    /// Where the running system mounts it.
    pub mount_point: String,
    /// Bytes free for more files.
    pub free: u64,
    /// Regular files in it.
    pub files: u64,
    /// Bytes in those files.
    pub file_bytes: u64,
}

/// A swap area as far as its reader needs to know it beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapArea {
    /// The UUID as in `/dev/disk/by-uuid`.
    pub uuid: Uuid,
    /// The label; empty if it has none.
    pub label: String,
    /// The size of its pages; in JSON, in bytes.
    #[serde(serialize_with = "bytes")]
    pub page_size: PageSize,
}

fn bytes<S: Serializer>(size: &PageSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.bytes())
}

/// One partition and what is in it. Offsets and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it starts in the image.
    pub offset: u64,
    /// Its length.
    pub size: u64,
    /// Its name in the table.
    pub name: String,
    /// What its GPT type says it is.
    pub type_guid: Uuid,
    /// Its unique GUID, by which `/dev/disk/by-partuuid` knows it.
    pub guid: Uuid,
    /// What is in it; `null` where that is not the image's business.
    pub filesystem: Option<Filesystem>,
    /// The swap area that it is; left out where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapArea>,
}

/// Where in the image a store path's contents lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorePathRange {
    /// The absolute store path.
    pub path: String,
    /// The first byte of its contents in the image; `null` if it has none.
    pub offset: Option<u64>,
    /// From there to the end of its last file, in bytes; filesystem metadata may lie in between, other store paths do not.
    pub length: u64,
}

/// Everything about an image but its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePlan {
    /// [`VERSION`].
    pub version: u32,
    /// The image is `<name>.img`.
    pub name: String,
    /// The size of the image in bytes.
    pub size: u64,
    /// The disk's logical sector size in bytes.
    pub sector_size: u64,
    /// The disk's GUID.
    pub disk_guid: Uuid,
    /// Where the partition table's primary entries are, in bytes from the start of the image.
    pub entries_offset: u64,
    /// Whether it holds files that are not for everybody; left out where it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private_files: bool,
    /// In the order of the disk; the nix filesystem is the last.
    pub partitions: Vec<Partition>,
    /// For how much more there is room where kernels are, on XBOOTLDR or else the ESP; `null` if there is neither.
    pub boot: Option<BootRoom>,
    /// Every store path, sorted.
    pub store_paths: Vec<StorePathRange>,
    /// The partition table in its own terms.
    #[serde(skip)]
    pub gpt: GptLayout,
    /// What the BIOS boot partition starts with; empty if there is none.
    #[serde(skip)]
    pub bios_boot: Vec<u8>,
}

/// A tree together with its layout.
#[derive(Clone, Copy, Debug)]
pub struct Laid<'a, Layout> {
    /// The files.
    pub tree: &'a FileTree,
    /// Where they go.
    pub layout: &'a Layout,
}

/// A laid-out filesystem with the store, whatever its format.
pub trait NixFilesystem {
    /// The files.
    fn tree(&self) -> &FileTree;
    /// The directory that is mounted where the spec has the filesystem of the store.
    fn root(&self) -> NodeIndex;
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Bytes free for more files.
    fn free_bytes(&self) -> u64;
    /// From the first to past the last byte of the contents of all files below `node`, if they have any of their own.
    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)>;
}

impl NixFilesystem for Laid<'_, ext4::layout::Layout> {
    fn tree(&self) -> &FileTree {
        self.tree
    }

    fn root(&self) -> NodeIndex {
        NodeIndex::ROOT
    }

    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn free_bytes(&self) -> u64 {
        self.layout.free_bytes()
    }

    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        self.layout.byte_range(self.tree, node)
    }
}

impl NixFilesystem for (&btrfs::volume::Volumes, &btrfs::layout::Layout) {
    fn tree(&self) -> &FileTree {
        self.0.tree()
    }

    fn root(&self) -> NodeIndex {
        self.0.store().root
    }

    fn size(&self) -> u64 {
        self.1.size()
    }

    fn free_bytes(&self) -> u64 {
        self.1.free_bytes()
    }

    fn byte_range(&self, node: NodeIndex) -> Option<(ByteOffset, ByteOffset)> {
        self.1.byte_range(self.0.tree(), node)
    }
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
    pub nix: &'a dyn NixFilesystem,
    /// The size in bytes of the partition of the store.
    pub nix_size: u64,
    /// The size in bytes of each of the spec's extra partitions.
    pub extra: &'a [u64],
    /// Whether there are files that are not for everybody.
    pub private_files: bool,
}

/// Puts the laid-out filesystems onto a disk.
pub fn plan(spec: &Spec, identities: &Identities, contents: &Contents<'_>) -> Result<ImagePlan, PlanError> {
    let roles = roles(spec);
    let gpt = table(spec, identities, &Sizes { nix: contents.nix_size, extra: contents.extra })?;
    let gpt = with_hybrid(gpt, spec, &roles)?;
    let (gpt, bios_boot) = with_bios(gpt, &roles, contents.bios)?;
    let planned = roles.iter().zip(&gpt.partitions);
    let partitions: Vec<_> = planned
        .map(|(&role, planned)| {
            let partition = partition(role, planned, spec.sector_size, filesystem(role, spec, identities, contents));
            Partition { swap: swap(role, spec, identities), ..partition }
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

/// The partition table.
fn table(spec: &Spec, identities: &Identities, sizes: &Sizes<'_>) -> Result<GptLayout, GptError> {
    let requests: Vec<_> = roles(spec).into_iter().map(|role| request(role, spec, identities, sizes)).collect();
    GptLayout::new(spec.sector_size, spec.extra_gpt_padding, spec.first_part_gap, identities.disk, &requests)
}

/// The number in the table, from 1, of the partition with this role, if there is one.
pub fn number(spec: &Spec, role: Role) -> Option<u32> {
    (1..).zip(roles(spec)).find_map(|(number, other)| (other == role).then_some(number))
}

/// Where the BIOS boot partition starts, if there is one. `extra` are the sizes in bytes of the spec's extra partitions.
///
/// # Errors
/// If there is no such partition table.
pub fn bios_boot_start(spec: &Spec, identities: &Identities, extra: &[u64]) -> Result<Option<Lba>, GptError> {
    // The filesystem of the store comes last.
    let gpt = table(spec, identities, &Sizes { nix: MIB, extra })?;
    let mut planned = roles(spec).into_iter().zip(&gpt.partitions);
    Ok(planned.find_map(|(role, planned)| (role == Role::BiosBoot).then_some(planned.first)))
}

/// The partitions in the order of the disk.
fn roles(spec: &Spec) -> Vec<Role> {
    let extra = |place: Place| {
        let extra = spec.extra_partitions.iter().enumerate().filter(move |(_, extra)| extra.place == place);
        extra.map(|(index, _)| Role::Extra(index))
    };
    let boot = [
        spec.boots_by_bios().then_some(Role::BiosBoot),
        spec.esp.as_ref().map(|_| Role::Boot),
        spec.xbootldr.as_ref().map(|_| Role::Xbootldr),
    ];
    extra(Place::BeforeBoot)
        .chain(boot.into_iter().flatten())
        .chain(extra(Place::AfterBoot))
        .chain([Role::Nix])
        .collect()
}

/// The table with the boot code of GRUB or Limine, and what is to be in the BIOS boot partition.
fn with_bios(gpt: GptLayout, roles: &[Role], bios: Option<Bios<'_>>) -> Result<(GptLayout, Vec<u8>), EmbedError> {
    let planned = roles.iter().zip(&gpt.partitions).find(|(role, _)| **role == Role::BiosBoot);
    let Some(((_, planned), bios)) = planned.zip(bios) else { return Ok((gpt, Vec::new())) };
    let BootCode { mbr, partition } = match bios {
        Bios::Grub { boot_img, core } => grub::embed(boot_img, core, planned.first)?,
        Bios::Limine(code) => code.clone(),
    };
    Ok((gpt.with_boot_code(mbr), partition))
}

fn with_hybrid(gpt: GptLayout, spec: &Spec, roles: &[Role]) -> Result<GptLayout, GptError> {
    let entries = spec.hybrid_mbr.iter().map(|entry| {
        let role = match entry.partition {
            PartitionName::Boot => Role::Boot,
            PartitionName::Nix => Role::Nix,
            PartitionName::Extra(index) => Role::Extra(index),
        };
        let planned = roles.iter().zip(&gpt.partitions).find(|(other, _)| **other == role);
        let (_, planned) = planned.expect("the spec names only partitions that it asks for");
        let sectors = [planned.first, planned.last];
        MbrPartition::new(&planned.name, planned.number, sectors, entry.kind, entry.activity)
    });
    let entries = entries.collect::<Result<_, MbrError>>()?;
    Ok(gpt.with_hybrid(entries))
}

impl ImagePlan {
    /// As `layout.json` has it: indented JSON and a final newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("strings and numbers always serialise");
        json.push('\n');
        json
    }
}

/// The sizes in bytes of the partitions that have none in the spec.
struct Sizes<'a> {
    nix: u64,
    /// In the order of the spec.
    extra: &'a [u64],
}

fn request(role: Role, spec: &Spec, identities: &Identities, sizes: &Sizes<'_>) -> PartitionRequest {
    match role {
        Role::BiosBoot => PartitionRequest {
            name: BIOS_BOOT.to_owned(),
            type_guid: TYPE_BIOS_BOOT,
            guid: identities.bios_boot,
            size: BIOS_BOOT_SIZE,
            attributes: 0,
        },
        Role::Boot => {
            let esp = identities.esp.as_ref().expect("there is a role for the ESP that there is");
            of_filesystem(esp, TYPE_ESP, spec.esp_part_size())
        }
        Role::Xbootldr => {
            let xbootldr = identities.xbootldr.as_ref().expect("there is a role for the XBOOTLDR that there is");
            let request = of_filesystem(xbootldr, TYPE_XBOOTLDR, spec.boot_part_size);
            let is_boot = matches!(spec.boot, Some(Location::Xbootldr(_)));
            PartitionRequest { attributes: boot_mark(spec, is_boot), ..request }
        }
        Role::Nix => {
            let request = of_filesystem(&identities.nix, TYPE_LINUX, sizes.nix);
            let is_boot = matches!(spec.boot, Some(Location::Nix(_)));
            PartitionRequest { attributes: boot_mark(spec, is_boot), ..request }
        }
        Role::Extra(index) => {
            let extra = &spec.extra_partitions[index];
            PartitionRequest {
                name: extra.name.clone(),
                type_guid: extra.type_guid,
                guid: identities.extra[index].partition,
                size: sizes.extra[index],
                attributes: extra.attributes,
            }
        }
    }
}

/// The mark of another partition than the ESP in which U-Boot has to look for its menu: it looks on an ESP, on partitions
/// that are marked, or on the first one.
fn boot_mark(spec: &Spec, is_boot: bool) -> u64 {
    if is_boot && spec.populate_cmd.is_some() { LEGACY_BOOTABLE } else { 0 }
}

fn of_filesystem<I>(identity: &Identity<I>, type_guid: Uuid, size: u64) -> PartitionRequest {
    let name = identity.partition_name.clone();
    PartitionRequest { name, type_guid, guid: identity.partition, size, attributes: 0 }
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
            Some(describe(&spec.nix, uuid, &nix.label, free, contents.nix.tree()))
        }
        Role::BiosBoot | Role::Extra(_) => None,
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
    }
}

/// Every store path in the tree, with its place in an image whose nix filesystem starts at byte `start`.
fn store_paths(spec: &Spec, nix: &dyn NixFilesystem, start: u64) -> Vec<StorePathRange> {
    let Some(store) = nix.tree().find_below(nix.root(), spec.store_in_nix.iter()) else { return Vec::new() };
    let range = |node| {
        let name = nix.tree().name(node).to_str()?;
        let path = StorePath::from_absolute_path(&format!("{}/{name}", spec.store_dir), &spec.store_dir).ok()?;
        let range = nix.byte_range(node);
        Some(StorePathRange {
            path: path.to_string(),
            offset: range.map(|(first, _)| start + first.0),
            length: range.map_or(0, |(first, end)| end.0 - first.0),
        })
    };
    nix.tree().children(store).filter_map(range).collect()
}
