//! How a device is attached, and the names by which people know it: maker, model, serial number.

use std::path::Path;

use super::host::{Block, Host};
use super::udev::Properties;

/// How a device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A stick, a card in a reader, a disk in a case.
    Usb,
    /// An SD card.
    Sd,
    /// A flash chip that speaks like a card, and is soldered in.
    Emmc,
    /// `NVMe`, on PCI or a network.
    Nvme,
    /// SATA or IDE.
    Ata,
    /// SAS, or what a driver shows as SCSI.
    Scsi,
    /// A disk of a server, on the network.
    Network,
    /// `FireWire`.
    Firewire,
    /// A disk of a virtual machine.
    Virtio,
    /// A file.
    Loop,
    /// A device of device mapper: LVM, dm-crypt, multipath.
    Mapper,
    /// Linux's software RAID.
    Raid,
    /// Memory.
    Memory,
    /// A CD or DVD drive, on whatever bus.
    Optical,
    /// Anything else.
    Other,
}

impl Bus {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usb => "USB",
            Self::Sd => "SD card",
            Self::Emmc => "eMMC",
            Self::Nvme => "NVMe",
            Self::Ata => "SATA",
            Self::Scsi => "SCSI",
            Self::Network => "network",
            Self::Firewire => "FireWire",
            Self::Virtio => "virtio",
            Self::Loop => "loop",
            Self::Mapper => "device mapper",
            Self::Raid => "RAID",
            Self::Memory => "memory",
            Self::Optical => "optical",
            Self::Other => "other",
        }
    }

    /// Decides by the name of the device and by what it is attached to, outermost first.
    pub(super) fn find(host: &Host, block: &Block) -> Self {
        let by_name = [
            ("loop", Self::Loop),
            ("dm-", Self::Mapper),
            ("md", Self::Raid),
            ("zram", Self::Memory),
            ("ram", Self::Memory),
            ("sr", Self::Optical),
            ("nbd", Self::Network),
            ("rbd", Self::Network),
            ("drbd", Self::Network),
        ];
        let found = by_name.into_iter().find(|(prefix, _)| {
            block
                .name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
        });
        if let Some((_, bus)) = found {
            return bus;
        }
        let path = block.directory.to_string_lossy();
        let parts: Vec<_> = path.split('/').collect();
        let has = |prefix: &str| parts.iter().any(|part| numbered(part, prefix));
        if has("usb") {
            Self::Usb
        } else if has("mmc") {
            Self::of_card(host, block)
        } else if has("fw") {
            Self::Firewire
        } else if has("session") || block.name.starts_with("nvme") && parts.contains(&"nvme-fabrics") {
            Self::Network
        } else if block.name.starts_with("nvme") {
            Self::Nvme
        } else if has("ata") {
            Self::Ata
        } else if has("virtio") {
            Self::Virtio
        } else if has("host") {
            Self::Scsi
        } else {
            Self::Other
        }
    }

    fn of_card(host: &Host, block: &Block) -> Self {
        // A boot area of an eMMC hangs on the eMMC.
        let types = ["device/type", "../device/type", "../../type"];
        let kind = types.iter().find_map(|path| block.value(host, path));
        if kind.is_some_and(|kind| kind == "MMC") { Self::Emmc } else { Self::Sd }
    }
}

/// `usb1` for `usb`.
fn numbered(part: &str, prefix: &str) -> bool {
    let rest = part.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a device is meant to be taken out and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It, or its medium, can be taken out.
    Removable,
    /// It is built in.
    Fixed,
    /// It is really a file.
    File,
}

impl Attachment {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Removable => "removable",
            Self::Fixed => "built in",
            Self::File => "a file",
        }
    }

    /// The kernel's `removable` means a medium that leaves its drive. A USB stick has no such medium. A port on the
    /// outside says so itself, such as Thunderbolt's.
    pub(super) fn find(host: &Host, block: &Block, bus: Bus) -> Self {
        match bus {
            Bus::Loop => Self::File,
            Bus::Usb | Bus::Sd | Bus::Firewire => Self::Removable,
            _ if block.is_set(host, "removable") => Self::Removable,
            _ => {
                let mut above = block.directory.ancestors().skip(1);
                let is_outside =
                    above.any(|path| host.value(&path.join("removable")).is_some_and(|value| value == "removable"));
                if is_outside { Self::Removable } else { Self::Fixed }
            }
        }
    }
}

/// The names by which people know a device. They come from the device, so they must be escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its maker, where it is not in the model.
    pub vendor: Option<String>,
    /// Its model; of a loop device, the file.
    pub model: Option<String>,
    /// Its serial number: of a card in a reader it is the reader's.
    pub serial: Option<String>,
}

impl Identity {
    /// Maker and model in one.
    pub fn name(&self) -> Option<String> {
        let vendor = self.vendor.as_deref().filter(|vendor| {
            !self.model.as_deref().is_some_and(|model| model.to_lowercase().starts_with(&vendor.to_lowercase()))
        });
        let parts: Vec<_> = vendor.into_iter().chain(self.model.as_deref()).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    pub(super) fn find(host: &Host, block: &Block, udev: &Properties) -> Self {
        if let Some(file) = block.value(host, "loop/backing_file") {
            return Self { model: Some(file), ..Self::default() };
        }
        if let Some(name) = block.value(host, "dm/name") {
            return Self { model: Some(name), ..Self::default() };
        }
        let usb = usb_device(host, block);
        let of_usb = |attribute: &str| host.value(&usb.as_deref()?.join(attribute));
        let vendor = udev.text("ID_VENDOR").or_else(|| block.value(host, "device/vendor"));
        let model = udev.text("ID_MODEL").or_else(|| block.value(host, "device/model"));
        let model = model.or_else(|| block.value(host, "device/name")).or_else(|| of_usb("product"));
        let serial = udev.get("ID_SERIAL_SHORT").or_else(|| block.value(host, "device/serial"));
        let serial = serial.or_else(|| block.value(host, "serial")).or_else(|| of_usb("serial"));
        let serial = serial.or_else(|| unit_serial(host, block));
        // The field for the maker on SATA, and the numbers of PCI, name no maker.
        let vendor = vendor.filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
        Self { vendor, model: model.map(|model| spaces_once(&model)), serial }
    }
}

/// The directory of the USB device that a disk hangs on.
fn usb_device(host: &Host, block: &Block) -> Option<std::path::PathBuf> {
    let found = block.directory.ancestors().find(|path| host.at(&path.join("idVendor")).exists());
    found.map(Path::to_owned)
}

/// A SCSI disk's page on its serial number: four bytes of header, the last two of them a length.
fn unit_serial(host: &Host, block: &Block) -> Option<String> {
    let page = host.read(&block.directory.join("device/vpd_pg80"))?;
    let text = String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

fn spaces_once(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
