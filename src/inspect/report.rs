//! What can be known about an image, as data. This is the schema of `inspect --json`: see
//! docs/reference/inspect-json.md.
//!
//! All names from the image are already escaped for people. Sizes and offsets are in bytes.

mod boot;
mod disk;
mod filesystem;

use serde::Serialize;
use uuid::Uuid;

pub use self::boot::{BootEntry, BootReport, Configuration, EfiProgram, FileReport, Loader, Place};
pub use self::disk::{
    BootCodeReport, ContainerReport, DepthchargeReport, HeaderReport, MbrPartition, MbrReport, Region, RegionKind,
    SwapReport, TableReport, VerityReport,
};
pub use self::filesystem::{
    DatabaseReport, FilesystemReport, OutsideReport, RegistrationReport, StoreReport, Usage, ValidPaths, Waiting,
};

/// The version of the schema: raised when a key goes or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// All about an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The image, as the user named it.
    pub image: String,
    /// Its size; that of the disk, if it is in a container.
    pub size: u64,
    /// The container that it is in, unless the file is the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerReport>,
    /// The GUID partition table; none in a bare partition image.
    pub table: Option<TableReport>,
    /// The partition table of an MBR, where that is the disk's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbr: Option<MbrReport>,
    /// What a BIOS starts from sector 0; left out if that has no code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_code: Option<BootCodeReport>,
    /// The disk from its first byte to its last, without gaps or overlaps.
    pub regions: Vec<Region>,
    /// By number.
    pub partitions: Vec<PartitionReport>,
    /// What a booting system finds.
    pub boot: Option<BootReport>,
    /// What cannot be read, or is damaged: one line each.
    pub problems: Vec<String>,
    /// What can be read but is hardly meant: one line each.
    pub warnings: Vec<String>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionReport {
    /// Its number in the table; 1 in a bare image.
    pub number: u32,
    /// Its name in the table.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
    /// The same in words, where it is known.
    pub type_name: Option<String>,
    /// Its identity.
    pub guid: Uuid,
    /// Its entry in an MBR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbr: Option<MbrPartition>,
    /// Where it starts.
    pub offset: u64,
    /// Its size.
    pub size: u64,
    /// Its filesystem, if it is one that can be read.
    pub filesystem: Option<FilesystemReport>,
    /// What a Chromebook's firmware knows of it; left out where that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depthcharge: Option<DepthchargeReport>,
    /// The swap area that it is; left out where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapReport>,
    /// The dm-verity hash area that it is; left out where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<VerityReport>,
}

impl Report {
    /// The partition that a Chromebook's firmware starts.
    pub(super) fn started_by_depthcharge(&self) -> Option<u32> {
        let starts = |partition: &&PartitionReport| partition.depthcharge.is_some_and(|one| one.starts);
        self.partitions.iter().find(starts).map(|partition| partition.number)
    }
}
