//! What can be known about an image, as data. This is the schema of `inspect --json`: see
//! docs/reference/inspect-json.md.
//!
//! All names from the image are already escaped for people. Sizes and offsets are in bytes.

use serde::Serialize;
use uuid::Uuid;

use crate::read::Format;
use crate::verity::{RootHash, Salt};

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

/// A filesystem.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesystemReport {
    /// vfat, ext4, btrfs or erofs.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// Its label.
    pub label: String,
    /// Its UUID as in /dev/disk/by-uuid.
    pub uuid: String,
    /// Its size.
    pub size: u64,
    /// Not free.
    pub used: u64,
    /// Free for more files.
    pub free: u64,
    /// The unit of allocation.
    pub block_size: u32,
    /// By their usual names.
    pub features: Vec<String>,
    /// Regular files.
    pub files: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Devices, sockets and pipes.
    pub special: u64,
    /// The sum of the sizes of all regular files.
    pub file_bytes: u64,
    /// What takes the space: store paths, or else directories; largest first.
    pub contents: Vec<Usage>,
    /// The store in it.
    pub store: Option<StoreReport>,
    /// What is outside the store; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_store: Option<OutsideReport>,
}

/// The files beside a store: all but directories, those of boot loaders, and the registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideReport {
    /// How many files, links and special files.
    pub files: u64,
    /// The sum of the sizes of the regular ones.
    pub size: u64,
}

/// A file or directory with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// From the filesystem's root.
    pub path: String,
    /// The sum of the sizes of its files.
    pub size: u64,
    /// How many files it has.
    pub files: u64,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    /// The directory in the filesystem.
    pub path: String,
    /// The same directory in the running system.
    pub store_dir: String,
    /// Where the running system mounts the filesystem.
    pub mount_point: String,
    /// How many paths are in it.
    pub paths: u64,
    /// The sum of the sizes of their files.
    pub size: u64,
    /// The registration for the first boot, if it can be read.
    pub registration: Option<RegistrationReport>,
    /// Why it cannot.
    pub registration_problem: Option<String>,
    /// The database of the Nix that ran on it.
    pub database: Option<DatabaseReport>,
}

/// A nix-path-registration, compared with the store beside it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationReport {
    /// The file.
    pub path: String,
    /// How many paths are registered.
    pub paths: u64,
    /// Registered, but not in the store.
    pub missing: Vec<String>,
    /// In the store, but not registered.
    pub unregistered: Vec<String>,
}

/// A database of Nix, compared with the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// The partition that has it.
    pub partition: u32,
    /// The file.
    pub path: String,
    /// What could be read of it.
    #[serde(flatten)]
    pub valid: ValidPaths,
    /// Journals and logs with changes that are not in the file yet.
    pub waiting: Vec<Waiting>,
}

/// What a database knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidPaths {
    /// How many paths are valid; `None` if it cannot be read.
    pub paths: Option<u64>,
    /// Valid, but not in the store.
    pub missing: Vec<String>,
    /// In the store, but not valid.
    pub unregistered: Vec<String>,
}

/// A file with changes that are not in a database yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The file.
    pub path: String,
    /// Its size.
    pub size: u64,
}

/// What a booting system finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootReport {
    /// The partition that firmware looks at.
    pub partition: u32,
    /// The extended boot loader partition, if it has entries for the same menu.
    pub extended: Option<u32>,
    /// What UEFI starts from a disk that it does not know: EFI/BOOT/BOOT*.EFI.
    pub firmware: Vec<EfiProgram>,
    /// loader/loader.conf, extlinux/extlinux.conf, grub/grub.cfg, limine/limine.conf.
    pub configurations: Vec<Configuration>,
    /// What can be booted, in the order of the menu.
    pub entries: Vec<BootEntry>,
    /// What systemd-stub hands to the system that it starts: loader/credentials/*.cred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Place>,
    /// What a configuration says that is not followed here: one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What in a configuration is hardly meant: one line each, to become [`Report::warnings`].
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// A program for UEFI.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EfiProgram {
    /// Its place.
    pub path: String,
    /// Its size.
    pub size: u64,
    /// What it says that it is.
    pub what: Option<String>,
}

/// The configuration of a boot loader.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Who reads it.
    pub loader: Loader,
    /// The partition that has it, if it is not the one that firmware looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its place.
    pub path: String,
    /// The entry to boot, as it is written there; of GRUB, `saved` where that is the one that was chosen last.
    pub default: Option<String>,
    /// The entry to boot unless its tries are used up, as it is written there.
    pub preferred: Option<String>,
    /// Seconds, or tenths of them (extlinux), until then, as it is written there.
    pub timeout: Option<String>,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Loader {
    /// systemd-boot and whatever else reads loader/entries.
    #[serde(rename = "systemd-boot")]
    SystemdBoot,
    /// U-Boot and whatever else reads extlinux.conf.
    #[serde(rename = "extlinux")]
    Extlinux,
    /// A unified kernel image, which systemd-boot or firmware starts.
    #[serde(rename = "uki")]
    Uki,
    /// GRUB, by grub.cfg.
    #[serde(rename = "grub")]
    Grub,
    /// Limine, by limine.conf.
    #[serde(rename = "limine")]
    Limine,
}

impl Loader {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SystemdBoot => "systemd-boot",
            Self::Extlinux => "extlinux",
            Self::Uki => "uki",
            Self::Grub => "grub",
            Self::Limine => "limine",
        }
    }
}

/// Something that can be booted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootEntry {
    /// Who boots it.
    pub loader: Loader,
    /// Its file's name, its label, or its title behind those of the menus that lead to it, with `>` between them.
    pub id: String,
    /// As the menu shows it.
    pub title: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How often it may still be tried, where that is counted.
    pub tries_left: Option<u32>,
    /// Whether it boots if nobody chooses.
    pub default: bool,
    /// The kernel, or the EFI program.
    pub kernel: Option<FileReport>,
    /// The initrds in order.
    pub initrds: Vec<FileReport>,
    /// The device tree, or the directory of them.
    pub device_tree: Option<FileReport>,
    /// What is laid over the device tree, in order.
    pub device_tree_overlays: Vec<FileReport>,
    /// The program that init= names.
    pub init: Option<FileReport>,
    /// The kernel's parameters.
    pub options: String,
}

impl BootEntry {
    /// The files that it needs: what each is, and the file.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileReport)> {
        let kernel = self.kernel.iter().map(|file| ("kernel", file));
        let initrds = self.initrds.iter().map(|file| ("initrd", file));
        let tree = self.device_tree.iter().map(|file| ("device tree", file));
        let overlays = self.device_tree_overlays.iter().map(|file| ("device tree overlay", file));
        let init = self.init.iter().map(|file| ("init", file));
        kernel.chain(initrds).chain(tree).chain(overlays).chain(init)
    }
}

/// A file that something refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// As it is written there.
    pub path: String,
    /// Where it is, if it is there.
    pub found: Option<Place>,
}

/// A file in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The partition's number.
    pub partition: u32,
    /// From the filesystem's root, links followed.
    pub path: String,
    /// Its size.
    pub size: u64,
}

/// As in fstab.
pub(super) fn format_name(format: Format) -> &'static str {
    match format {
        Format::Vfat => "vfat",
        Format::Ext4 => "ext4",
        Format::Btrfs => "btrfs",
        Format::Erofs => "erofs",
    }
}
