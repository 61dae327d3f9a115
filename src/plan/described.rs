//! The plan as `layout.json` has it; `docs/reference/layout-json.md` describes the keys.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::BootRoom;
use crate::disk::gpt::GptLayout;
use crate::units::PageSize;
use crate::verity;

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
    /// The hash tree of that.
    Verity,
    /// Room for the next version of another partition; nothing is in it.
    Slot(SlotFor),
    /// The one at this index of the spec's extra partitions.
    Extra(usize),
}

/// Of what an empty slot takes the next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotFor {
    /// Of the filesystem that holds the store.
    Nix,
    /// Of its hash tree.
    Verity,
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::BiosBoot => "biosBoot",
            Self::Boot => "boot",
            Self::Xbootldr => "xbootldr",
            Self::Nix => "nix",
            Self::Verity => "verity",
            Self::Slot(_) => "slot",
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
    /// The hash tree that it holds; left out where it holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<verity::Described>,
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
    /// [`VERSION`](super::VERSION).
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
    /// In the order of the disk; the nix filesystem is the last, but for empty slots.
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

impl ImagePlan {
    /// As `layout.json` has it: indented JSON and a final newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("strings and numbers always serialise");
        json.push('\n');
        json
    }
}
