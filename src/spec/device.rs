//! The name by which the running system finds a filesystem. The filesystem in the image gets it as its identity.

use std::fmt;

use uuid::Uuid;

use super::file_system::FsType;
use crate::discoverable::Tree;
use crate::escapes;

/// The longest label of an ext4 filesystem in bytes.
const EXT4_LABEL_MAX: usize = 16;
/// The longest label of a btrfs in bytes.
const BTRFS_LABEL_MAX: usize = 255;
/// The longest label of an EROFS in bytes: the kernel wants a NUL after it.
const EROFS_LABEL_MAX: usize = 15;
/// The longest label of a swap area in bytes.
const SWAP_LABEL_MAX: usize = 15;
/// The longest label of a FAT filesystem in characters.
const VFAT_LABEL_MAX: usize = 11;
/// The characters that a FAT label may not hold, besides control characters and everything that is not ASCII.
const VFAT_LABEL_ILLEGAL: &str = "\"*+,./:;<=>?[\\]|";
/// What FAT calls a volume without a label.
const VFAT_NO_LABEL: &str = "NO NAME";
/// The longest name of a GPT partition in UTF-16 units.
const GPT_NAME_MAX: usize = 36;
/// The longest spelling of a label in bytes: udev's buffer of 256 has to have room for one more escape and its end.
const SPELLING_MAX: usize = 252;
/// The characters that udev writes as they are, besides ASCII letters and digits and everything beyond ASCII.
const PLAIN: &str = "#+-.:=@_";
/// Where udev makes the links.
const LINKS: &str = "/dev/disk/by-";

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
    /// What systemd opens when the kernel's command line has the root hash: it names nothing in the image.
    Verified(Tree),
}

/// The UUID of a filesystem, or what goes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsUuid {
    /// Of FAT: not zero.
    VolumeId(u32),
    /// Of ext4, btrfs and EROFS: not nil.
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

/// A device as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) device: Device,
    /// The path as udev spells it. The system waits for ever for a path that is spelled otherwise.
    pub(super) path: String,
}

impl Named {
    /// The device of a verified filesystem.
    pub(super) fn verified(tree: Tree) -> Self {
        Self { device: Device::Verified(tree), path: tree.device().to_owned() }
    }

    /// What the path `text` of a device means for a filesystem of type `fs_type`, however it is spelled.
    pub(crate) fn parse(text: &str, fs_type: FsType) -> Result<Self, String> {
        Self::parse_with(text, |id| parse_fs_uuid(id, fs_type), |label| check_fs_label(label, fs_type))
    }

    /// What the path `text` of a device means for a swap area, however it is spelled.
    pub(super) fn parse_swap(text: &str) -> Result<Self, String> {
        let check = |label: &str| check_len(label.len(), SWAP_LABEL_MAX, "bytes", "a swap area");
        Self::parse_with(text, |id| parse_uuid(id).map(FsUuid::Uuid), check)
    }

    fn parse_with(
        text: &str,
        parse_id: impl FnOnce(&str) -> Result<FsUuid, String>,
        check_label: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Self, String> {
        let link = text.strip_prefix(LINKS).and_then(|link| link.split_once('/'));
        let device = match link {
            Some(("uuid", id)) => parse_id(id).map(Device::FsUuid),
            Some(("label", label)) => parse_label(label, check_label).map(Device::Label),
            Some(("partuuid", id)) => parse_uuid(id).map(Device::PartUuid),
            Some(("partlabel", name)) => parse_label(name, check_partition_name).map(Device::PartLabel),
            _ => Err("is not in /dev/disk/by-uuid, by-label, by-partuuid or by-partlabel".to_owned()),
        };
        let device = device.map_err(|problem| format!("{text:?} {problem}"))?;
        let path = device.path();
        Ok(Self { device, path })
    }
}

/// The path that fstab(5)'s text of a device stands for: itself, or that of a tag such as `LABEL=…`.
pub(crate) fn path_of(text: &str) -> String {
    let Some((tag, value)) = text.split_once('=') else { return text.to_owned() };
    let value =
        ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    match tag {
        "UUID" => format!("{LINKS}uuid/{value}"),
        "LABEL" => format!("{LINKS}label/{}", spell(value)),
        "PARTUUID" => format!("{LINKS}partuuid/{value}"),
        "PARTLABEL" => format!("{LINKS}partlabel/{}", spell(value)),
        _ => text.to_owned(),
    }
}

impl Device {
    /// Its path, as udev spells it.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::FsUuid(uuid) => format!("{LINKS}uuid/{uuid}"),
            Self::Label(label) => format!("{LINKS}label/{}", spell(label)),
            Self::PartUuid(uuid) => format!("{LINKS}partuuid/{uuid}"),
            Self::PartLabel(name) => format!("{LINKS}partlabel/{}", spell(name)),
            Self::Verified(tree) => tree.device().to_owned(),
        }
    }
}

fn parse_fs_uuid(text: &str, fs_type: FsType) -> Result<FsUuid, String> {
    match fs_type {
        FsType::Vfat => parse_volume_id(text).map(FsUuid::VolumeId),
        FsType::Ext4 | FsType::Btrfs | FsType::Erofs => parse_uuid(text).map(FsUuid::Uuid),
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

/// A GUID of a partition table, in any case.
pub(super) fn guid(text: &str) -> Result<Uuid, String> {
    parse_uuid(text).map_err(|problem| format!("{text:?} {problem}"))
}

/// The name of a partition.
pub(super) fn partition_name(name: String) -> Result<String, String> {
    check_label(&name).and_then(|()| check_partition_name(&name)).map_err(|problem| format!("{name:?} {problem}"))?;
    Ok(name)
}

/// A label that udev can name and that readers give back as it is, once `check` finds it fit.
fn parse_label(text: &str, check: impl FnOnce(&str) -> Result<(), String>) -> Result<String, String> {
    let label = unescape(text)?;
    check_label(&label)?;
    check(&label)?;
    match spell(&label).len() {
        len if len > SPELLING_MAX => {
            Err(format!("has a label that udev would spell with {len} bytes; it has room for {SPELLING_MAX}"))
        }
        _ => Ok(label),
    }
}

/// Refuses what no kind of label can be.
fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("has an empty label".to_owned());
    }
    if label.contains(char::is_control) {
        return Err("has a control character in its label".to_owned());
    }
    if let Some(c) = label.chars().find(|&c| is_noncharacter(c)) {
        return Err(format!("has {c:?} in its label, which Unicode gives to no character"));
    }
    // libblkid trims labels before udev gets them.
    if label.trim() != label {
        return Err("has a space at an end of its label".to_owned());
    }
    Ok(())
}

/// The characters that libblkid and udev do not accept as text.
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff) || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

fn check_fs_label(label: &str, fs_type: FsType) -> Result<(), String> {
    match fs_type {
        FsType::Ext4 => check_len(label.len(), EXT4_LABEL_MAX, "bytes", "ext4"),
        FsType::Btrfs => check_len(label.len(), BTRFS_LABEL_MAX, "bytes", "btrfs"),
        FsType::Erofs => check_len(label.len(), EROFS_LABEL_MAX, "bytes", "EROFS"),
        FsType::Vfat => check_vfat_label(label),
    }
}

fn check_vfat_label(label: &str) -> Result<(), String> {
    if let Some(c) = label.chars().find(|&c| !c.is_ascii() || VFAT_LABEL_ILLEGAL.contains(c)) {
        return Err(format!("has {c:?} in its label, which FAT does not allow"));
    }
    if label == VFAT_NO_LABEL {
        return Err("has the label that FAT uses for volumes without a label".to_owned());
    }
    check_len(label.len(), VFAT_LABEL_MAX, "characters", "FAT")
}

fn check_partition_name(name: &str) -> Result<(), String> {
    check_len(name.encode_utf16().count(), GPT_NAME_MAX, "UTF-16 units", "GPT")
}

fn check_len(len: usize, max: usize, unit: &str, format: &str) -> Result<(), String> {
    if len <= max { Ok(()) } else { Err(format!("has a label of {len} {unit}; {format} holds {max}")) }
}

/// The label as udev spells it: `\x20` for a space.
fn spell(label: &str) -> String {
    let is_plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || PLAIN.contains(c);
    label.chars().map(|c| if is_plain(c) { c.to_string() } else { format!("\\x{:02x}", u32::from(c)) }).collect()
}

/// The label without escapes: `\x20`, as udev spells it, and `\040`, as fstab(5) does, are spaces; anything else stands
/// for itself.
fn unescape(text: &str) -> Result<String, String> {
    String::from_utf8(escapes::any(text.as_bytes())).map_err(|_| "has a label that is not UTF-8".to_owned())
}

/// A number of only hexadecimal digits, without the sign that the standard library would accept.
fn parse_hex(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::FsType::{Btrfs, Ext4, Vfat};
    use super::*;

    const UUID: &str = "0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";

    fn good(link: &str, fs_type: FsType) -> Device {
        let path = format!("/dev/disk/{link}");
        let named = Named::parse(&path, fs_type).unwrap();
        assert_eq!(named.path, path);
        named.device
    }

    /// The label of a btrfs, however it is spelled.
    fn good_label(label: &str) -> Device {
        Named::parse(&format!("/dev/disk/by-label/{label}"), Btrfs).unwrap().device
    }

    /// What is wrong with each of `names` in a folder of `/dev/disk`, a line each.
    fn bad<const N: usize>(folder: &str, fs_type: FsType, names: [&str; N]) -> String {
        let problem = |name| Named::parse(&format!("/dev/disk/{folder}/{name}"), fs_type).unwrap_err();
        names.map(problem).join("\n").replace("/dev/disk/", "")
    }

    #[test]
    fn devices_are_identities() {
        let uuid = uuid!("0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11");
        assert_eq!(good("by-uuid/00AB-CDEF", Vfat), Device::FsUuid(FsUuid::VolumeId(0x00ab_cdef)));
        assert_eq!(good(&format!("by-uuid/{UUID}"), Ext4), Device::FsUuid(FsUuid::Uuid(uuid)));
        assert_eq!(good(&format!("by-partuuid/{UUID}"), Vfat), Device::PartUuid(uuid));
        assert_eq!(good("by-label/MY\\x20ESP", Vfat), Device::Label("MY ESP".into()));
        assert_eq!(good("by-partlabel/a\\x2fbäö", Ext4), Device::PartLabel("a/bäö".into()));
    }

    #[test]
    fn the_longest_labels_fit() {
        assert_eq!(good("by-label/12345678901", Vfat), Device::Label("12345678901".into()));
        assert_eq!(good("by-label/12345678901234ä", Ext4), Device::Label("12345678901234ä".into()));
        let name = "𝄞".repeat(18);
        assert_eq!(good(&format!("by-partlabel/{name}"), Vfat), Device::PartLabel(name));
    }

    #[test]
    fn uuids_are_written_as_udev_does() {
        assert_eq!(FsUuid::VolumeId(0x00ab_cdef).to_string(), "00AB-CDEF");
        assert_eq!(FsUuid::Uuid(uuid!("0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11")).to_string(), UUID);
    }

    #[test]
    fn only_identities_are_devices() {
        for text in ["", "/dev/sda1", "UUID=2178-694E", "/dev/disk/by-id/ata-X", "/dev/disk/by-uuid"] {
            let problem = "is not in /dev/disk/by-uuid, by-label, by-partuuid or by-partlabel";
            assert_eq!(Named::parse(text, Vfat), Err(format!("{text:?} {problem}")));
        }
    }

    #[test]
    fn malformed_uuids_are_refused() {
        let ids = ["", "2178694E", "2178-694", "2178-694G", "+178-694E", UUID, "0000-0000"];
        insta::assert_snapshot!(bad("by-uuid", Vfat, ids), @r#"
        "by-uuid/" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/2178694E" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/2178-694" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/2178-694G" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/+178-694E" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11" is not a FAT volume id of the form XXXX-XXXX
        "by-uuid/0000-0000" has the volume id zero, which stands for none
        "#);
        let nil = Uuid::nil().to_string();
        let ids = ["2178-694E", &UUID[1..], &UUID.replace('-', ""), &format!("{{{UUID}}}"), &nil];
        insta::assert_snapshot!(bad("by-uuid", Ext4, ids), @r#"
        "by-uuid/2178-694E" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-uuid/d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-uuid/0d0f3b5e6c6e4a519d7a3f6b5f5a9c11" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-uuid/{0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11}" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-uuid/00000000-0000-0000-0000-000000000000" has the nil UUID, which stands for none
        "#);
        insta::assert_snapshot!(bad("by-partuuid", Vfat, ids), @r#"
        "by-partuuid/2178-694E" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-partuuid/d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-partuuid/0d0f3b5e6c6e4a519d7a3f6b5f5a9c11" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-partuuid/{0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11}" is not a UUID of the form XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
        "by-partuuid/00000000-0000-0000-0000-000000000000" has the nil UUID, which stands for none
        "#);
    }

    #[test]
    fn other_spellings_than_udevs_are_understood() {
        let spelled = |link: &str, fs_type| Named::parse(&format!("/dev/disk/{link}"), fs_type).unwrap().path;
        assert_eq!(spelled("by-uuid/00ab-CDef", Vfat), "/dev/disk/by-uuid/00AB-CDEF");
        assert_eq!(
            spelled(&format!("by-partuuid/{}", UUID.to_uppercase()), Vfat),
            format!("/dev/disk/by-partuuid/{UUID}")
        );
        for (label, wanted) in [
            ("MY ESP", r"MY\x20ESP"),
            (r"MY\040ESP", r"MY\x20ESP"),
            (r"\x41bc", "Abc"),
            ("a(b)!", r"a\x28b\x29\x21"),
            ("a/b", r"a\x2fb"),
            (r"a\x2Fb", r"a\x2fb"),
            (r"a\b", r"a\x5cb"),
            (r"a\x2", r"a\x5cx2"),
            (r"a\x+2", r"a\x5cx+2"),
            (r"\xc3\xa4", "ä"),
            ("#+-.:=@_9zZ", "#+-.:=@_9zZ"),
        ] {
            assert_eq!(spelled(&format!("by-label/{label}"), Ext4), format!("/dev/disk/by-label/{wanted}"));
            assert_eq!(spelled(&format!("by-partlabel/{label}"), Vfat), format!("/dev/disk/by-partlabel/{wanted}"));
        }
    }

    #[test]
    fn tags_stand_for_paths() {
        assert_eq!(path_of("LABEL=MY ESP"), r"/dev/disk/by-label/MY\x20ESP");
        assert_eq!(path_of("PARTLABEL=\"a/b\""), r"/dev/disk/by-partlabel/a\x2fb");
        assert_eq!(path_of("UUID='2178-694e'"), "/dev/disk/by-uuid/2178-694e");
        assert_eq!(path_of("PARTUUID=x"), "/dev/disk/by-partuuid/x");
        for other in ["/dev/sda1", "ID=x", "tmpfs", ""] {
            assert_eq!(path_of(other), other);
        }
    }

    #[test]
    fn labels_are_what_udev_and_the_format_can_hold() {
        let labels = ["", "\\x20esp", "a\\x00", "\\xff", "a\u{fdd0}"];
        insta::assert_snapshot!(bad("by-label", Ext4, labels), @r#"
        "by-label/" has an empty label
        "by-label/\\x20esp" has a space at an end of its label
        "by-label/a\\x00" has a control character in its label
        "by-label/\\xff" has a label that is not UTF-8
        "by-label/a\u{fdd0}" has '\u{fdd0}' in its label, which Unicode gives to no character
        "#);
        insta::assert_snapshot!(bad("by-label", Vfat, ["aä", "a.b", "NO\\x20NAME", "123456789012"]), @r#"
        "by-label/aä" has 'ä' in its label, which FAT does not allow
        "by-label/a.b" has '.' in its label, which FAT does not allow
        "by-label/NO\\x20NAME" has the label that FAT uses for volumes without a label
        "by-label/123456789012" has a label of 12 characters; FAT holds 11
        "#);
        insta::assert_snapshot!(bad("by-label", Ext4, ["12345678901234567", "123456789012345ä"]), @r#"
        "by-label/12345678901234567" has a label of 17 bytes; ext4 holds 16
        "by-label/123456789012345ä" has a label of 17 bytes; ext4 holds 16
        "#);
        let [fits, too_long] = [32, 33].map(|count| "! ".repeat(count).trim_end().to_owned());
        assert_eq!(good_label(&fits), Device::Label(fits.clone()));
        let told = bad("by-label", Btrfs, [&too_long]);
        assert!(told.ends_with("has a label that udev would spell with 260 bytes; it has room for 252"), "{told}");
        insta::assert_snapshot!(bad("by-partlabel", Ext4, ["1234567890123456789012345678901234567"]), @r#""by-partlabel/1234567890123456789012345678901234567" has a label of 37 UTF-16 units; GPT holds 36"#);
    }
}
