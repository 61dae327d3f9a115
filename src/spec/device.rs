//! What the running system finds a filesystem by, and thus what identity to give it.

use std::fmt;

use uuid::Uuid;

use super::file_system::FsType;

/// The longest label of an ext4 filesystem in bytes.
const EXT4_LABEL_MAX: usize = 16;
/// The longest label of a FAT filesystem in characters.
const VFAT_LABEL_MAX: usize = 11;
/// What a FAT label may not hold, besides control characters and whatever is not ASCII.
const VFAT_LABEL_ILLEGAL: &str = "\"*+,./:;<=>?[\\]|";
/// What FAT calls a volume without a label.
const VFAT_NO_LABEL: &str = "NO NAME";
/// The longest name of a GPT partition in UTF-16 units.
const GPT_NAME_MAX: usize = 36;

/// An identity of a filesystem or of its partition, from one of the folders of `/dev/disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// by-uuid: the filesystem's UUID.
    FsUuid(FsUuid),
    /// by-label: the filesystem's label; not empty, legal in its filesystem.
    Label(String),
    /// by-partuuid: the partition's UUID; not nil.
    PartUuid(Uuid),
    /// by-partlabel: the partition's name; not empty, at most 36 UTF-16 units.
    PartLabel(String),
}

/// The UUID of a filesystem, or what goes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsUuid {
    /// Of FAT: not zero.
    VolumeId(u32),
    /// Of ext4: not nil.
    Uuid(Uuid),
}

impl fmt::Display for FsUuid {
    /// As in `/dev/disk/by-uuid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VolumeId(id) => write!(f, "{:04X}-{:04X}", id >> 16, id & 0xffff),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

impl Device {
    /// The identity that the path `text` of a device means for a filesystem of type `fs_type`.
    pub(super) fn parse(text: &str, fs_type: FsType) -> Result<Self, String> {
        let link = text.strip_prefix("/dev/disk/by-").and_then(|link| link.split_once('/'));
        let device = match link {
            Some(("uuid", id)) => parse_fs_uuid(id, fs_type).map(Self::FsUuid),
            Some(("label", label)) => parse_label(label, |label| check_fs_label(label, fs_type)).map(Self::Label),
            Some(("partuuid", id)) => parse_uuid(id).map(Self::PartUuid),
            Some(("partlabel", name)) => parse_label(name, check_partition_name).map(Self::PartLabel),
            _ => Err("is not in /dev/disk/by-uuid, by-label, by-partuuid or by-partlabel".to_owned()),
        };
        device.map_err(|problem| format!("{text:?} {problem}"))
    }
}

fn parse_fs_uuid(text: &str, fs_type: FsType) -> Result<FsUuid, String> {
    match fs_type {
        FsType::Vfat => parse_volume_id(text).map(FsUuid::VolumeId),
        FsType::Ext4 => parse_uuid(text).map(FsUuid::Uuid),
    }
}

fn parse_volume_id(text: &str) -> Result<u32, String> {
    let halves = text.split_once('-').filter(|(high, low)| high.len() == 4 && low.len() == 4);
    match halves.and_then(|(high, low)| parse_hex(&format!("{high}{low}"))) {
        None => Err("is not a FAT volume id of the form XXXX-XXXX".to_owned()),
        Some(0) => Err("has the volume id zero, which stands for none".to_owned()),
        Some(id) => Ok(id),
    }
}

fn parse_uuid(text: &str) -> Result<Uuid, String> {
    const HYPHENATED_LEN: usize = uuid::fmt::Hyphenated::LENGTH;
    match Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED_LEN) {
        None => Err("is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX".to_owned()),
        Some(uuid) if uuid.is_nil() => Err("has the nil UUID, which stands for none".to_owned()),
        Some(uuid) => Ok(uuid),
    }
}

/// A label that udev can name and that readers give back as it is, once `check` finds it fit.
fn parse_label(text: &str, check: impl FnOnce(&str) -> Result<(), String>) -> Result<String, String> {
    let label = unescape(text)?;
    if label.is_empty() {
        return Err("has an empty label".to_owned());
    }
    if label.contains(char::is_control) {
        return Err("has a control character in its label".to_owned());
    }
    // libblkid trims labels before it tells udev of them.
    if label.trim() != label {
        return Err("has a space at an end of its label".to_owned());
    }
    check(&label)?;
    Ok(label)
}

fn check_fs_label(label: &str, fs_type: FsType) -> Result<(), String> {
    match fs_type {
        FsType::Ext4 => check_len(label.len(), EXT4_LABEL_MAX, "bytes", "ext4"),
        FsType::Vfat => check_vfat_label(label),
    }
}

fn check_vfat_label(label: &str) -> Result<(), String> {
    if let Some(c) = label.chars().find(|&c| !c.is_ascii() || VFAT_LABEL_ILLEGAL.contains(c)) {
        return Err(format!("has {c:?} in its label, which FAT does not allow"));
    }
    if label == VFAT_NO_LABEL {
        return Err("has the label that FAT gives to volumes without one".to_owned());
    }
    check_len(label.len(), VFAT_LABEL_MAX, "characters", "FAT")
}

fn check_partition_name(name: &str) -> Result<(), String> {
    check_len(name.encode_utf16().count(), GPT_NAME_MAX, "UTF-16 units", "GPT")
}

fn check_len(len: usize, max: usize, unit: &str, format: &str) -> Result<(), String> {
    if len <= max { Ok(()) } else { Err(format!("has a label of {len} {unit}; {format} holds {max}")) }
}

/// Undoes udev's escapes: `\x20` is a space.
fn unescape(text: &str) -> Result<String, String> {
    if text.contains('/') {
        return Err("has a slash in its label, where udev writes \\x2f".to_owned());
    }
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let escape = part.strip_prefix('x').and_then(|part| part.split_at_checked(2));
        let (byte, rest) = escape
            .and_then(|(digits, rest)| Some((u8::try_from(parse_hex(digits)?).ok()?, rest)))
            .ok_or("has a backslash in its label that does not start an escape such as \\x20")?;
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| "has a label that is not UTF-8".to_owned())
}

/// A number of hexadecimal digits alone, without the sign that the standard library would take.
fn parse_hex(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}
