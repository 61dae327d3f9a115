//! Whether an extra partition is a swap area, and the name by which the running system finds it.

use serde_json::Value;
use uuid::{Uuid, uuid};

use super::device::{Device, FsUuid, Named};
use super::fields::{Object, as_is};
use super::file_system::check_spelling;
use crate::units::PageSize;

/// Discoverable Partitions Specification: swap.
const TYPE_SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");

/// What `swapPageSize` may be.
const PAGE_SIZES: &str = "4096, 8192, 16384, 32768 or 65536";

/// A swap area to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// Its UUID, unless that is to be derived.
    pub uuid: Option<Uuid>,
    /// Its label; empty if it has none.
    pub label: String,
    /// The size of the running kernel's pages.
    pub page_size: PageSize,
}

/// The values of the three fields on swap, as far as they could be read.
pub(super) struct SwapFields {
    /// Whether it is to be a swap area, if that is said.
    wanted: Option<Option<bool>>,
    /// As in the host's `swapDevices`.
    pub(super) device: Option<Option<Device>>,
    page_size: Option<PageSize>,
}

impl SwapFields {
    pub(super) fn read(entry: &mut Object<'_>) -> Self {
        let wanted = entry.optional("swap", "true, false or null", None, as_is);
        let path = "a path such as \"/dev/disk/by-label/swap\", or null";
        let device = entry.optional("swapDevice", path, None, |text: Option<String>| {
            let named = text.map(|text| Named::parse_swap(&text).map(|named| (text, named)));
            named.transpose()
        });
        let device = device.map(|device| {
            device.map(|(text, named)| {
                let place = entry.member("swapDevice");
                check_spelling([&text, &text], &named.path, place, entry);
                named.device
            })
        });
        let page_size =
            entry.optional("swapPageSize", PAGE_SIZES, PageSize::default().bytes().into(), |value: Value| {
                let size = value.as_u64().and_then(PageSize::new);
                size.ok_or_else(|| format!("{value} is not the size of Linux's pages in bytes"))
            });
        Self { wanted, device, page_size }
    }

    /// The partition's own name, if the device has it.
    pub(super) fn partition_name(&self) -> Option<&str> {
        match &self.device {
            Some(Some(Device::PartLabel(name))) => Some(name),
            _ => None,
        }
    }

    /// The partition's own UUID, if the device has it.
    pub(super) fn partition_uuid(&self) -> Option<Uuid> {
        match self.device {
            Some(Some(Device::PartUuid(uuid))) => Some(uuid),
            _ => None,
        }
    }

    /// The swap area, or none, of a partition of this type; `has_contents` says whether its bytes are given.
    pub(super) fn area(self, type_guid: Uuid, has_contents: bool, path: &str, entry: &mut Object<'_>) -> Option<Swap> {
        let device = self.device.flatten();
        match (self.wanted.flatten(), has_contents) {
            (Some(true), true) => {
                let remedy = format!("set {path}.swap to null or false, or {path}.contents to null");
                entry.note(format!("{path}.swap"), "is true, but the partition has contents", remedy);
                None
            }
            (Some(false), _) if matches!(device, Some(Device::FsUuid(_) | Device::Label(_))) => {
                let remedy = format!("set {path}.swap to null or true, or {path}.swapDevice to null");
                entry.note(format!("{path}.swapDevice"), "names a swap area, but swap is false", remedy);
                None
            }
            (Some(false), _) | (None, true) => None,
            (None, false) if type_guid != TYPE_SWAP && device.is_none() => None,
            _ => {
                let plain = Swap { page_size: self.page_size?, ..Swap::default() };
                Some(match device {
                    Some(Device::FsUuid(FsUuid::Uuid(uuid))) => Swap { uuid: Some(uuid), ..plain },
                    Some(Device::Label(label)) => Swap { label, ..plain },
                    _ => plain,
                })
            }
        }
    }
}
