//! Of a disk: what it is in, its tables and its boot code, and what partitions are besides filesystems.

use serde::Serialize;
use uuid::Uuid;

use crate::verity::{RootHash, Salt};

/// What an image is in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerReport {
    /// `qcow2`, `zst`, `VMDK`, `VHD` or `VHDX`.
    pub format: &'static str,
    /// Which kind of that format, in its own words.
    pub variant: String,
    /// The size of the file.
    pub file_size: u64,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    /// 512 or 4096.
    pub sector_size: u64,
    /// The disk's identity.
    pub disk_guid: Uuid,
    /// The header in sector 1.
    pub primary: Option<HeaderReport>,
    /// The header at the end.
    pub backup: Option<HeaderReport>,
    /// What is unusual.
    pub notes: Vec<String>,
}

/// The boot code in sector 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootCodeReport {
    /// Whose it is: `grub`, `limine`, `syslinux-gptmbr`, `syslinux-mbr`, `syslinux-altmbr` or `unknown`.
    pub of: &'static str,
    /// The same for people.
    #[serde(skip)]
    pub name: &'static str,
    /// Where what it loads starts, where it tells.
    pub offset: Option<u64>,
    /// The partition that this is in.
    pub partition: Option<u32>,
    /// The size of what it loads.
    pub size: Option<u64>,
}

/// The partition table of an MBR.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MbrReport {
    /// 512 or 4096, by what is in the partitions.
    pub sector_size: u64,
    /// The disk's identity, eight hexadecimal digits.
    pub signature: String,
    /// What is unusual.
    pub notes: Vec<String>,
}

/// A partition's entry in an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MbrPartition {
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Whether old firmware starts it.
    pub active: bool,
    /// The disk's identity, of which its own is made.
    #[serde(skip)]
    pub signature: u32,
    /// Its number.
    #[serde(skip)]
    pub number: u32,
}

impl MbrPartition {
    /// Its identity as in /dev/disk/by-partuuid.
    pub fn uuid(&self) -> String {
        format!("{:08x}-{:02x}", self.signature, self.number)
    }
}

/// One of the headers of a partition table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderReport {
    /// Where it is.
    pub offset: u64,
    /// Where its entries are.
    pub entries_offset: u64,
    /// How many there are, used or not.
    pub entries: u32,
    /// Where partitions may start.
    pub usable_start: u64,
    /// Where they must have ended.
    pub usable_end: u64,
    /// Whether its checksum is right.
    pub intact: bool,
    /// Whether the checksum of its entries is right.
    pub entries_intact: bool,
}

/// What a range of the disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RegionKind {
    /// Protective MBR, a header or entries.
    Table,
    /// In no partition.
    Gap,
    /// In a partition.
    Partition,
}

/// A range of the disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// What it is for.
    pub kind: RegionKind,
    /// The partition's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where it starts.
    pub offset: u64,
    /// Its size.
    pub size: u64,
}

/// A partition that a Chromebook's firmware, depthcharge, may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DepthchargeReport {
    /// The highest is tried first; 0 never.
    pub priority: u8,
    /// How often it may still be tried if it was not successful.
    pub tries: u8,
    /// Whether it booted well before.
    pub successful: bool,
    /// Whether it is the one that is started.
    pub starts: bool,
}

/// A swap area.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapReport {
    /// Its label.
    pub label: String,
    /// Its UUID as in /dev/disk/by-uuid.
    pub uuid: Uuid,
    /// Its size.
    pub size: u64,
    /// The size of its pages: a kernel with others does not take it.
    pub page_size: u64,
}

/// A dm-verity hash area.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerityReport {
    /// The hash of its top block, if it can be computed here.
    pub root_hash: Option<RootHash>,
    /// The salt in hexadecimal digits, or `-`.
    pub salt: Salt,
    /// Its UUID.
    pub uuid: Uuid,
    /// As the kernel names it.
    pub algorithm: String,
    /// The bytes of the data that it covers.
    pub data_size: u64,
    /// The bytes of superblock and tree, if it can be computed here.
    pub hash_size: Option<u64>,
    /// The bytes of a data block.
    pub data_block_size: u32,
    /// The bytes of a hash block.
    pub hash_block_size: u32,
    /// The partition with the data, if it is in the image.
    pub data_partition: Option<u32>,
    /// Whether the GUIDs of both partitions are the halves of the root hash.
    pub named_by_guids: bool,
}
