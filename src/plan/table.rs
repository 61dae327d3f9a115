//! The partition table of an image: which partitions there are, in which order, and what a BIOS starts. Pure.

use uuid::Uuid;

use super::{Bios, Role, SlotFor};
use crate::discoverable::Content;
use crate::disk::gpt::{GptError, GptLayout, PartitionRequest};
use crate::disk::mbr::{MbrError, MbrPartition};
use crate::grub::{self, BootCode, EmbedError};
use crate::identity::{BIOS_BOOT, Identities, Identity};
use crate::mounts::Location;
use crate::spec::updates::EMPTY_LABEL;
use crate::spec::{PartitionName, Place, Spec};
use crate::units::{Lba, MIB};

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
/// Discoverable Partitions Specification, "Partition Flags": bit 60, read-only.
const READ_ONLY: u64 = 1 << 60;

/// The partition table.
pub(super) fn table(spec: &Spec, identities: &Identities, sizes: &Sizes<'_>) -> Result<GptLayout, GptError> {
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
    let gpt = table(spec, identities, &Sizes::least(extra))?;
    let mut planned = roles(spec).into_iter().zip(&gpt.partitions);
    Ok(planned.find_map(|(role, planned)| (role == Role::BiosBoot).then_some(planned.first)))
}

/// The partitions in the order of the disk.
pub(super) fn roles(spec: &Spec) -> Vec<Role> {
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
        .chain(spec.verity.map(|_| Role::Verity))
        .chain(spec.updates.as_ref().map(|_| Role::Slot(SlotFor::Nix)))
        .chain(spec.updates.as_ref().and(spec.verity).map(|_| Role::Slot(SlotFor::Verity)))
        .collect()
}

/// The table with the boot code of GRUB or Limine, and what is to be in the BIOS boot partition.
pub(super) fn with_bios(
    gpt: GptLayout,
    roles: &[Role],
    bios: Option<Bios<'_>>,
) -> Result<(GptLayout, Vec<u8>), EmbedError> {
    let planned = roles.iter().zip(&gpt.partitions).find(|(role, _)| **role == Role::BiosBoot);
    let Some(((_, planned), bios)) = planned.zip(bios) else { return Ok((gpt, Vec::new())) };
    let BootCode { mbr, partition } = match bios {
        Bios::Grub { boot_img, core } => grub::embed(boot_img, core, planned.first)?,
        Bios::Limine(code) => code.clone(),
    };
    Ok((gpt.with_boot_code(mbr), partition))
}

pub(super) fn with_hybrid(gpt: GptLayout, spec: &Spec, roles: &[Role]) -> Result<GptLayout, GptError> {
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

/// The sizes in bytes of the partitions that have none in the spec.
pub(super) struct Sizes<'a> {
    pub(super) nix: u64,
    /// Of the hash tree, if there is one.
    pub(super) verity: u64,
    /// In the order of the spec.
    pub(super) extra: &'a [u64],
}

impl<'a> Sizes<'a> {
    /// For what does not depend on the sizes of others than the extra partitions.
    pub(super) fn least(extra: &'a [u64]) -> Self {
        Self { nix: MIB, verity: MIB, extra }
    }
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
        Role::Nix if let Some(verity) = spec.verity => {
            let request = of_filesystem(&identities.nix, verity.partition_type(Content::Data).guid(), sizes.nix);
            PartitionRequest { attributes: READ_ONLY, ..request }
        }
        Role::Verity => {
            let (verity, identity) =
                spec.verity.zip(identities.verity.as_ref()).expect("there is a role for what there is");
            PartitionRequest {
                name: identity.partition_name.clone(),
                type_guid: verity.partition_type(Content::Verity).guid(),
                guid: identity.partition,
                size: sizes.verity,
                attributes: READ_ONLY,
            }
        }
        Role::Nix => {
            let request = of_filesystem(&identities.nix, TYPE_LINUX, sizes.nix);
            let is_boot = matches!(spec.boot, Some(Location::Nix(_)));
            PartitionRequest { attributes: boot_mark(spec, is_boot) | slot_mark(spec), ..request }
        }
        Role::Slot(SlotFor::Nix) => empty_slot(request(Role::Nix, spec, identities, sizes), identities.empty.nix),
        Role::Slot(SlotFor::Verity) => {
            empty_slot(request(Role::Verity, spec, identities, sizes), identities.empty.verity)
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

/// The mark of a slot: nobody but a program that brings another version writes to it, and it never grows.
fn slot_mark(spec: &Spec) -> u64 {
    if spec.updates.is_some() { READ_ONLY } else { 0 }
}

/// A second slot like the partition that has this version.
fn empty_slot(like: PartitionRequest, guid: Uuid) -> PartitionRequest {
    PartitionRequest { name: EMPTY_LABEL.to_owned(), guid, attributes: READ_ONLY, ..like }
}

fn of_filesystem<I>(identity: &Identity<I>, type_guid: Uuid, size: u64) -> PartitionRequest {
    let name = identity.partition_name.clone();
    PartitionRequest { name, type_guid, guid: identity.partition, size, attributes: 0 }
}
