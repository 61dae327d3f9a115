//! The names by which the running system finds a partition of an image. Pure.

use std::ffi::OsStr;

use crate::image::Partition;
use crate::read::{Format, Summary};
use crate::spec::{Device, FsType, Named, path_of};

/// Where udev makes links to partitions by what their table calls them.
const BY_PARTUUID: &str = "/dev/disk/by-partuuid/";

/// All names of a partition with a filesystem.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Its number in the table.
    pub(super) number: u32,
    /// The format of its filesystem.
    pub(super) format: Format,
    /// The features of its filesystem.
    pub(super) features: Vec<String>,
    devices: Vec<Device>,
    /// Of a partition in an MBR, as in /dev/disk/by-partuuid: the disk's identity and the number.
    mbr: Option<String>,
}

impl Identity {
    /// The names of `partition` on a disk with this MBR's identity, if it has one; `filesystem` is what is on it.
    pub(super) fn new(partition: &Partition, filesystem: &Summary, signature: Option<u32>) -> Self {
        let Summary { format, label, uuid, features, .. } = filesystem;
        let by_uuid = Named::parse(&format!("/dev/disk/by-uuid/{uuid}"), fs_type(*format)).ok();
        let not_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let devices = by_uuid.map(|named| named.device).into_iter();
        let devices = devices
            .chain(not_empty(label).map(Device::Label))
            .chain((!partition.guid.is_nil()).then_some(Device::PartUuid(partition.guid)))
            .chain(not_empty(&partition.name).map(Device::PartLabel));
        let signature = signature.filter(|&signature| signature != 0 && partition.mbr.is_some());
        let mbr = signature.map(|signature| format!("{signature:08x}-{:02x}", partition.number));
        let (number, format, features, devices) = (partition.number, *format, features.clone(), devices.collect());
        Self { number, format, features, devices, mbr }
    }

    /// Whether a line of fstab with this device and type mounts it.
    pub(super) fn is(&self, device: &OsStr, fs_types: &str) -> bool {
        let Some(device) = device.to_str().filter(|_| self.has_type(fs_types)) else { return false };
        let path = path_of(device);
        let of_mbr = path.strip_prefix(BY_PARTUUID).zip(self.mbr.as_deref());
        if of_mbr.is_some_and(|(named, own)| named.eq_ignore_ascii_case(own)) {
            return true;
        }
        Named::parse(&path, fs_type(self.format)).is_ok_and(|named| self.devices.contains(&named.device))
    }

    /// Whether one of the types of fstab, separated by commas, is that of its filesystem.
    fn has_type(&self, fs_types: &str) -> bool {
        let own: &[&str] = match self.format {
            Format::Vfat => &["auto", "vfat", "msdos"],
            // One driver mounts all three.
            Format::Ext4 => &["auto", "ext4", "ext3", "ext2"],
            Format::Btrfs => &["auto", "btrfs"],
            Format::Erofs => &["auto", "erofs"],
        };
        fs_types.split(',').any(|fs_type| own.contains(&fs_type))
    }
}

fn fs_type(format: Format) -> FsType {
    match format {
        Format::Vfat => FsType::Vfat,
        Format::Ext4 => FsType::Ext4,
        Format::Btrfs => FsType::Btrfs,
        Format::Erofs => FsType::Erofs,
    }
}
