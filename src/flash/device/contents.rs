//! What is on a device: its partition table, its partitions and their filesystems.

use std::fs::File;

use super::udev::Properties;
use crate::image::{Image, Partition};
use crate::read::{Bytes, Format, Window};
use crate::swap;
use crate::units::ByteOffset;

/// A filesystem, or something in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// `ext4`, `LUKS`.
    pub kind: String,
    /// Its label, or nothing. To be escaped.
    pub label: String,
}

/// A partition as the device's table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) name: String,
    pub(super) filesystem: Option<Filesystem>,
}

/// What there is on a device that could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Whether anybody has looked.
    pub(super) is_known: bool,
    /// GPT or MBR.
    pub(super) table: Option<&'static str>,
    pub(super) entries: Vec<Entry>,
    /// Where there is no table.
    pub(super) filesystem: Option<Filesystem>,
}

/// Looks at everything on the device. What cannot be read counts as absent.
pub(super) fn read(file: File, size: u64) -> Contents {
    let disk = Window::new(file, size);
    let Ok(Some(image)) = Image::find_on(disk.clone()) else {
        return Contents { filesystem: by_magic(&disk), ..Contents::default() };
    };
    if image.is_bare() {
        let filesystem = image.partitions().first().and_then(filesystem);
        return Contents { filesystem, ..Contents::default() };
    }
    let entries = image.partitions().iter().map(|partition| Entry {
        number: partition.number,
        size: partition.size,
        name: partition.name.clone(),
        filesystem: filesystem(partition),
    });
    let table = if image.table().is_some() { "GPT" } else { "MBR" };
    // A boot sector of others looks like an MBR without partitions.
    if let Some(filesystem) = by_magic(&disk).filter(|_| image.partitions().is_empty()) {
        return Contents { filesystem: Some(filesystem), ..Contents::default() };
    }
    Contents { table: Some(table), entries: entries.collect(), ..Contents::default() }
}

/// What udev says of a disk or a partition by itself.
pub(super) fn of_udev(udev: &Properties) -> Option<Filesystem> {
    let kind = udev.get("ID_FS_TYPE")?;
    Some(Filesystem { kind, label: udev.text("ID_FS_LABEL").unwrap_or_default() })
}

fn filesystem(partition: &Partition) -> Option<Filesystem> {
    let Some(format) = partition.format() else { return by_magic(&partition.bytes()) };
    let label = partition.open().map(|fs| fs.summary().label.clone());
    // One that is damaged, or that the kernel is writing to just now, has a label all the same.
    let label = label.unwrap_or_else(|_| bare_label(format, &partition.bytes()));
    Some(Filesystem { kind: format.name().to_owned(), label })
}

/// The label where each format has it.
fn bare_label(format: Format, bytes: &Window) -> String {
    let (at, len) = match format {
        Format::Ext4 => (1024 + 120, 16),
        Format::Btrfs => (65536 + 299, 256),
        Format::Erofs => (1024 + 64, 16),
        Format::Vfat => (71, 11),
    };
    let mut label = vec![0; len];
    match bytes.read_exact_at(ByteOffset(at), &mut label) {
        Ok(()) => String::from_utf8_lossy(&label).trim_end_matches(['\0', ' ']).to_owned(),
        Err(_) => String::new(),
    }
}

/// Formats that this program cannot read, but that a user would miss: their magic numbers and places.
const MAGICS: [(&str, u64, &[u8]); 11] = [
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM", 536, b"LVM2 001"),
    ("XFS", 0, b"XFSB"),
    ("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    ("bcachefs", 4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    ("squashfs", 0, b"hsqs"),
    ("dm-verity hashes", 0, b"verity\0\0"),
    ("ISO 9660", 32769, b"CD001"),
];

fn by_magic(bytes: &Window) -> Option<Filesystem> {
    if let Some(area) = swap::find(bytes) {
        return Some(Filesystem { kind: "swap".to_owned(), label: area.label });
    }
    let is_there = |at: u64, magic: &[u8]| {
        let mut found = vec![0; magic.len()];
        bytes.read_exact_at(ByteOffset(at), &mut found).is_ok() && found == magic
    };
    let (kind, ..) = MAGICS.iter().find(|(_, at, magic)| is_there(*at, magic))?;
    Some(Filesystem { kind: (*kind).to_owned(), label: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_what_cannot_be_read() {
        for (format, at, label) in [
            (Format::Ext4, 1144, "theirs"),
            (Format::Btrfs, 65835, "pool"),
            (Format::Vfat, 71, "STICK"),
            (Format::Erofs, 1088, "sealed"),
        ] {
            let mut bytes = vec![0; 1 << 17];
            bytes[at..][..label.len()].copy_from_slice(label.as_bytes());
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            assert_eq!(bare_label(format, &Window::new(file, 1 << 17)), label);
        }
    }

    #[test]
    fn what_nothing_here_reads() {
        for (kind, at, magic) in MAGICS {
            let mut bytes = vec![0; 1 << 16];
            bytes[usize::try_from(at).unwrap()..][..magic.len()].copy_from_slice(magic);
            // A boot sector, which could be an MBR.
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            let found = read(file, 1 << 16);
            assert_eq!(
                (found.table, found.filesystem.map(|filesystem| filesystem.kind)),
                (None, Some(kind.to_owned()))
            );
        }
    }
}
