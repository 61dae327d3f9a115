//! What is asked of updates: a second slot beside the store, in the way of systemd-sysupdate.
//!
//! Sources: sysupdate.d(5) (patterns, and labels of partitions), UAPI.10 (the comparison of versions).

use serde_json::Value;

use super::boot::Loaders;
use super::fields::{Object, as_is};
use super::partitions::ExtraPartition;
use super::{Device, FileSystem, Uki, validate};

/// The longest name of a GPT partition in UTF-16 units. Names here are ASCII.
const LABEL_MAX: usize = 36;
/// What the name of the partition with hashes ends with.
const HASHES: &str = "_verity";
/// The name of a partition that systemd-sysupdate may take for a new version.
pub const EMPTY_LABEL: &str = "_empty";

const FIRST_VERSION_FOR_EVER: &str = "updates: without systemd-boot, firmware starts the unified kernel image of \
     this version also when a later one is there; set systemdBoot";

/// The version that the image is, and the room for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    /// What is updated: ASCII letters and digits, `.`, `_` and `-`.
    pub name: String,
    /// Its version in this image: ASCII letters and digits, `.` and `-`.
    pub version: String,
    /// The size of a slot for the store in bytes, whole MiB; `None`: as the store needs it now, and room to grow.
    pub slot_size: Option<u64>,
}

impl Updates {
    /// What names of files and partitions of this version start with.
    pub fn stem(&self) -> String {
        format!("{}_{}", self.name, self.version)
    }

    /// The name of the partition with the store.
    pub fn store_label(&self) -> String {
        self.stem()
    }

    /// The name of the partition with the hashes of the store.
    pub fn hash_label(&self) -> String {
        self.stem() + HASHES
    }
}

/// Reads `updates`, which may be null.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<Updates>> {
    let value = top.optional("updates", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let path = top.member("updates");
    let mut fields = top.nested(path, value)?;
    let name = fields.required("name", "a name such as \"myhost\"", name);
    let version = fields.required("version", "a version such as \"1.0\"", version);
    let wanted = "a number of bytes in whole MiB, or null";
    let slot_size =
        fields.optional("slotSize", wanted, None, |value: Option<Value>| value.map(validate::disk_size).transpose());
    let updates = name.zip(version).map(|(name, version)| Updates { name, version, slot_size: None });
    let updates = updates.filter(|updates| check_length(updates, &mut fields));
    fields.finish();
    Some(Some(Updates { slot_size: slot_size?, ..updates? }))
}

/// Notes a mistake if the name of a partition would be too long.
fn check_length(updates: &Updates, fields: &mut Object<'_>) -> bool {
    let label = updates.hash_label();
    let fits = label.len() <= LABEL_MAX;
    if !fits {
        let problem =
            format!("would make a partition {label:?}, whose name has {} characters of {LABEL_MAX}", label.len());
        let remedy = format!("set {} to a shorter one", fields.member("name"));
        fields.note(fields.member("version"), problem, remedy);
    }
    fits
}

/// A name that a pattern of sysupdate.d(5) can hold as it is.
fn name(name: String) -> Result<String, String> {
    part(name, "._-", "letters and digits of ASCII, \".\", \"_\" and \"-\"")
}

/// A version that is one for every program that compares versions. An underscore would end it in the names of files.
fn version(version: String) -> Result<String, String> {
    part(version, ".-", "letters and digits of ASCII, \".\" and \"-\"")
}

fn part(text: String, others: &str, allowed: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    match text.chars().next() {
        None => Err("is empty".to_owned()),
        Some(first) if !first.is_ascii_alphanumeric() => {
            Err(format!("{text:?} does not start with a letter or a digit"))
        }
        Some(_) => match text.chars().find(|&c| !is_allowed(c)) {
            Some(other) => Err(format!("{text:?} has {other:?} in it; there can be {allowed}")),
            None => Ok(text),
        },
    }
}

/// Checks what updates ask of the rest: each version finds its own slot, no other partition looks like one, and its kernel
/// image is called as systemd-sysupdate calls that of the next one.
pub(super) fn check(
    updates: Option<&Updates>,
    nix: Option<&FileSystem>,
    extra: Option<&[ExtraPartition]>,
    uki: Option<&Uki>,
    top: &mut Object<'_>,
) {
    let Some(updates) = updates else { return };
    let label = updates.store_label();
    if let Some(nix) = nix.filter(|nix| is_shared(&nix.device, &label)) {
        let mount_point = nix.mount_point.display().to_string();
        let path = format!("fileSystems.{mount_point:?}.device");
        let problem = "does not tell this version from the one in the other slot, as updates needs it";
        top.note(path.clone(), problem, format!("set {path} to \"/dev/disk/by-partlabel/{label}\""));
    }
    let start = format!("{}_", updates.name);
    for (index, partition) in extra.unwrap_or_default().iter().enumerate() {
        if partition.name.starts_with(&start) {
            let path = format!("extraPartitions[{index}].name");
            let problem =
                format!("{:?} would be taken for a version of {:?}, and overwritten", partition.name, updates.name);
            top.note(path.clone(), problem, format!("set {path} to one that does not start with {start:?}"));
        }
    }
    let wanted = updates.stem() + ".efi";
    if let Some(uki) = uki.filter(|uki| uki.file_name != wanted) {
        let problem = format!("{:?} is not the name of the version of updates", uki.file_name);
        top.note("uki.fileName".to_owned(), problem, format!("set uki.fileName to {wanted:?}"));
    }
}

/// What may be wrong if nothing chooses among the versions on a disk.
pub(super) fn warning(updates: Option<&Updates>, loaders: &Loaders) -> Option<String> {
    let nobody_chooses = updates.is_some() && loaders.uki.is_some() && loaders.systemd_boot.is_none();
    nobody_chooses.then(|| FIRST_VERSION_FOR_EVER.to_owned())
}

/// Whether both slots may be found by a device.
fn is_shared(device: &Device, label: &str) -> bool {
    match device {
        Device::PartLabel(name) => name != label,
        // The root hash tells them apart.
        Device::Verified(_) => false,
        Device::FsUuid(_) | Device::Label(_) | Device::PartUuid(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn later_versions_need_who_starts_them() {
        let path = "/nix/store/00000000000000000000000000000000-x";
        let spec = |systemd_boot: Value| {
            json!({
                "version": 1, "toplevel": path, "closureInfo": path, "systemdBoot": systemd_boot,
                "fileSystems": {
                    "/boot": { "device": "/dev/disk/by-uuid/1234-ABCD", "fsType": "vfat" },
                    "/": { "device": "/dev/disk/by-partlabel/box_1", "fsType": "ext4" },
                },
                "uki": { "stub": "/s", "kernel": "/k", "initrd": "/i", "cmdline": "quiet", "osRelease": "/o", "fileName": "box_1.efi" },
                "updates": { "name": "box", "version": "1" },
            })
        };
        let warnings = |systemd_boot| crate::spec::parse(&spec(systemd_boot).to_string()).unwrap().warnings;
        assert_eq!(warnings(Value::Null), [FIRST_VERSION_FOR_EVER]);
        assert_eq!(warnings(json!({ "efiStub": "/e" })), [""; 0]);
    }
}
