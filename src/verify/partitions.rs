//! The partitions that have a filesystem to check, and those that should have one.

use uuid::Uuid;

use super::{Fault, Place, Report};
use crate::discoverable::{Content, Type};
use crate::disk::table::{MbrEntry, MbrTable};
use crate::image::{ESP, Image, Partition, sealed};
use crate::read;
use crate::swap;

/// The type of data that Linux has, and of partitions that get a filesystem later.
const LINUX: Uuid = Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
/// The same in an MBR.
const MBR_LINUX: u8 = 0x83;

/// What the type of a partition promises, of filesystems that are read here, as far as NixOS images have them. A type of
/// "Linux filesystem" may hold another one, but then nobody can tell whether that is right; or nothing yet.
fn promised(partition: &Partition) -> Option<String> {
    let named = [(ESP, "EFI system partition"), (LINUX, "Linux filesystem")];
    let named = named.into_iter().find(|(guid, _)| *guid == partition.type_guid).map(|(_, name)| name);
    let discoverable = || Type::find(partition.type_guid).filter(|kind| kind.content == Content::Data);
    let by_mbr = || partition.mbr.and_then(promise).map(str::to_owned);
    named.map(str::to_owned).or_else(|| discoverable().map(Type::describe)).or_else(by_mbr)
}

/// What a type in an MBR promises.
fn promise(entry: MbrEntry) -> Option<&'static str> {
    matches!(entry.kind, 0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e | MBR_LINUX | 0xef)
        .then(|| MbrTable::type_name(entry.kind))
        .flatten()
}

/// The partitions whose filesystems can be checked. Of the one that a BIOS starts from, `started`, that was checked.
pub(super) fn find<'a>(image: &'a Image, started: Option<u32>, report: &mut Report) -> Vec<&'a Partition> {
    let mut checks = Vec::new();
    for partition in image.partitions() {
        let number = partition.number;
        match (partition.format(), promised(partition)) {
            (Some(format), _) => {
                report.filesystems.push((number, format));
                checks.push(partition);
            }
            (None, _) if may_be_empty(partition) && partition.bytes().is_zero().unwrap_or(false) => {
                report.notes.push(format!("partition {number} is empty"));
            }
            (None, Some(name)) => {
                let why = format!("holds no FAT, ext4, btrfs or erofs, though the partition is of type {name:?}");
                let fault = read::Fault { what: "filesystem".to_owned(), why };
                report.faults.push(Fault::structure(Place::Partition(number), fault));
            }
            (None, None) if Some(number) == started => {}
            // Its tree is checked by itself.
            (None, None) if sealed::find(partition).is_some() => {}
            (None, None) if is_of_hashes(partition) => {
                let why = "holds no dm-verity superblock, though the partition is of that type".to_owned();
                let fault = read::Fault { what: "dm-verity superblock".to_owned(), why };
                report.faults.push(Fault::structure(Place::Partition(number), fault));
            }
            (None, None) => match swap::find(&partition.bytes()) {
                Some(area) => {
                    let faults = area.faults(partition.size).into_iter();
                    report.faults.extend(faults.map(|fault| Fault::structure(Place::Partition(number), fault)));
                }
                None => report
                    .notes
                    .push(format!("partition {number} holds no FAT, ext4, btrfs or erofs; only its place was checked")),
            },
        }
    }
    checks
}

/// Whether a partition of this type is right without any contents; those that systems find by their type are slots for
/// the next version then.
fn may_be_empty(partition: &Partition) -> bool {
    let is_linux = partition.type_guid == LINUX || Type::find(partition.type_guid).is_some();
    is_linux || partition.mbr.is_some_and(|entry| entry.kind == MBR_LINUX)
}

fn is_of_hashes(partition: &Partition) -> bool {
    Type::find(partition.type_guid).is_some_and(|kind| kind.content == Content::Verity)
}
