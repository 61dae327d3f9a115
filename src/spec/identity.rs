//! Every UUID, label and name of the image: those that a `device` of the spec sets, and those that are derived from
//! them.
//!
//! Pure, without randomness. An identity that no `device` sets is a UUIDv5 (RFC 9562, section 5.5) of those that are
//! set. So the same spec always gives the same identities, and another spec gives others.

use uuid::Uuid;

use super::{Device, FileSystem, FsUuid, Spec, SpecError, SpecErrors, Updates};
use crate::discoverable::Content;

/// The namespace of all UUIDs that this program derives: a UUIDv5 of the project's name in the DNS namespace.
pub(crate) const NAMESPACE: Uuid = uuid::uuid!("48fd6c70-2a08-597c-a77a-180a35fc4c7c");
/// The name of the partition from which a BIOS goes on.
pub(crate) const BIOS_BOOT: &str = "BIOS boot partition";
/// The name of the partition beside the ESP that has what systemd-boot starts: as the Boot Loader Specification calls it.
const XBOOTLDR_NAME: &str = "Linux extended boot";
/// The name of the partition with the store.
const NIX_NAME: &str = "Linux filesystem";
/// The first 96 bits of the ESP's partition UUID, unless a device names it; the volume id follows.
const ESP_PARTITION_UUID: u128 = 0x4444_4444_4444_4444_4444_4444_0000_0000;

/// The identities of one filesystem and its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<FilesystemId> {
    /// The filesystem's UUID or volume id.
    pub filesystem: FilesystemId,
    /// The filesystem's label.
    pub label: String,
    /// The partition's UUID (unique GUID).
    pub partition: Uuid,
    /// The partition's name.
    pub partition_name: String,
}

/// Everything that the image and its parts are known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// The disk's GUID.
    pub disk: Uuid,
    /// The ESP, if there is one; its filesystem's identity is a FAT volume id.
    pub esp: Option<Identity<u32>>,
    /// The XBOOTLDR partition, if there is one.
    pub xbootldr: Option<Identity<u32>>,
    /// The UUID (unique GUID) of the BIOS boot partition, if there is one.
    pub bios_boot: Uuid,
    /// The filesystem of the store.
    pub nix: Identity<Uuid>,
    /// The hash tree of that, if it has one.
    pub verity: Option<VerityIdentity>,
    /// Each extra partition.
    pub extra: Vec<ExtraIdentity>,
    /// The UUIDs (unique GUIDs) of the slots for the next version, if there are any.
    pub empty: EmptySlots,
}

/// The partition UUIDs of empty slots, which are all that these are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptySlots {
    /// Of that for the store.
    pub nix: Uuid,
    /// Of that for the hashes of the store.
    pub verity: Uuid,
}

/// The identities of the partition of a hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityIdentity {
    /// The partition's UUID (unique GUID): half of the root hash, once that is known.
    pub partition: Uuid,
    /// The partition's name.
    pub partition_name: String,
}

/// The identities of an extra partition, besides its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraIdentity {
    /// The partition's UUID (unique GUID).
    pub partition: Uuid,
    /// The swap area's UUID and label, if it is one; the label may be empty.
    pub swap: Option<(Uuid, String)>,
}

impl Identities {
    /// Decides all identities of an image.
    ///
    /// # Errors
    /// If a device names what the other filesystem has by default, so that both would have one name, or
    /// if an extra partition has the name of another.
    pub fn new(spec: &Spec) -> Result<Self, SpecErrors> {
        let derive = derivation([spec.esp.as_ref(), spec.xbootldr.as_ref()], &spec.nix);
        let extra = spec.extra_partitions.iter().map(|extra| ExtraIdentity {
            partition: extra.guid.unwrap_or_else(|| derive(&format!("extra partition {}", extra.name))),
            swap: extra.swap.as_ref().map(|swap| {
                let uuid = swap.uuid.unwrap_or_else(|| derive(&format!("swap area {}", extra.name)));
                (uuid, swap.label.clone())
            }),
        });
        let identities = Self {
            disk: derive("disk"),
            esp: spec.esp.as_ref().map(|esp| self::esp(&esp.device, &derive)),
            xbootldr: spec.xbootldr.as_ref().map(|fat| xbootldr(&fat.device, &derive)),
            bios_boot: derive(BIOS_BOOT),
            nix: nix(spec, &derive),
            verity: verity(spec, &derive),
            extra: extra.collect(),
            empty: EmptySlots { nix: derive("empty slot of the store"), verity: derive("empty slot of hashes") },
        };
        identities.check_distinct(spec)?;
        identities.check_names(spec)?;
        identities.check_swaps()?;
        Ok(identities)
    }

    /// The same with the GUIDs by which the system finds a verified filesystem and its hash tree: halves of the root hash.
    #[must_use]
    pub fn sealed(self, [data, tree]: [Uuid; 2]) -> Self {
        let nix = Identity { partition: data, ..self.nix };
        let verity = self.verity.map(|verity| VerityIdentity { partition: tree, ..verity });
        Self { nix, verity, ..self }
    }

    fn check_distinct(&self, spec: &Spec) -> Result<(), SpecErrors> {
        let all = self.filesystems(spec);
        for (index, later) in all.iter().enumerate() {
            let shared = all.iter().take(index).find_map(|first| Some((first, later.shares_with(first)?)));
            if let Some((first, shared)) = shared {
                return Err(SpecErrors::from(SpecError {
                    path: format!("fileSystems.{:?}.device", later.mounted.mount_point.display().to_string()),
                    problem: format!("gives this filesystem and {} both {shared}", first.mounted.mount_point.display()),
                    remedy: "set another, so that the system can tell them apart".to_owned(),
                }));
            }
        }
        Ok(())
    }

    /// Each filesystem with its identity.
    fn filesystems<'a>(&'a self, spec: &'a Spec) -> Vec<Known<'a>> {
        let fats = [(&spec.esp, &self.esp), (&spec.xbootldr, &self.xbootldr)];
        let fats = fats.into_iter().filter_map(|(mounted, fat)| {
            let (mounted, fat) = mounted.as_ref().zip(fat.as_ref())?;
            Some(Known::new(mounted, fat, FsUuid::VolumeId(fat.filesystem)))
        });
        fats.chain([Known::new(&spec.nix, &self.nix, FsUuid::Uuid(self.nix.filesystem))]).collect()
    }
}

/// By what a filesystem is known.
struct Known<'a> {
    mounted: &'a FileSystem,
    filesystem: FsUuid,
    label: &'a str,
    partition: Uuid,
    partition_name: &'a str,
}

impl<'a> Known<'a> {
    fn new<I>(mounted: &'a FileSystem, identity: &'a Identity<I>, filesystem: FsUuid) -> Self {
        let Identity { label, partition, partition_name, .. } = identity;
        Self { mounted, filesystem, label, partition: *partition, partition_name }
    }

    /// What both have, though it has to tell them apart.
    fn shares_with(&self, other: &Self) -> Option<String> {
        let devices = [&self.mounted.device, &other.mounted.device];
        let by_label = devices.iter().any(|device| matches!(device, Device::Label(_)));
        let by_name = devices.iter().any(|device| matches!(device, Device::PartLabel(_)));
        match () {
            () if by_label && self.label == other.label => Some(format!("the label {:?}", self.label)),
            () if by_name && self.partition_name == other.partition_name => {
                Some(format!("the partition name {:?}", self.partition_name))
            }
            () if self.partition == other.partition => Some(format!("the partition UUID {}", self.partition)),
            () if self.filesystem == other.filesystem => Some(format!("the UUID {}", self.filesystem)),
            () => None,
        }
    }
}

impl Identities {
    /// `/dev/disk/by-partlabel` has one link a name, and leads to no one knows which of two.
    fn check_names(&self, spec: &Spec) -> Result<(), SpecErrors> {
        let fats = [(&spec.esp, &self.esp), (&spec.xbootldr, &self.xbootldr)];
        let fats = fats.into_iter().filter_map(|(mounted, fat)| mounted.as_ref().zip(fat.as_ref()));
        let fats = fats.map(|(mounted, fat)| (mounted.mount_point.display().to_string(), fat.partition_name.as_str()));
        let nix = ("the nix filesystem".to_owned(), self.nix.partition_name.as_str());
        let bios_boot = ("the BIOS's boot code".to_owned(), BIOS_BOOT);
        let verity = self.verity.as_ref().map(|verity| ("the hash tree".to_owned(), verity.partition_name.as_str()));
        let others: Vec<_> = fats.chain([nix]).chain(verity).chain(spec.boots_by_bios().then_some(bios_boot)).collect();
        for (index, extra) in spec.extra_partitions.iter().enumerate() {
            if let Some((what, _)) = others.iter().find(|(_, name)| *name == extra.name) {
                return Err(SpecErrors::from(SpecError {
                    path: format!("extraPartitions[{index}].name"),
                    problem: format!("{:?} is the name of the partition of {what}", extra.name),
                    remedy: "set another, so that the system can tell them apart".to_owned(),
                }));
            }
        }
        Ok(())
    }
}

impl Identities {
    /// `/dev/disk/by-uuid` and `by-label` have swap areas and filesystems side by side.
    fn check_swaps(&self) -> Result<(), SpecErrors> {
        let mut uuids = vec![self.nix.filesystem];
        let fats = self.esp.iter().chain(&self.xbootldr).map(|fat| fat.label.as_str());
        let mut labels: Vec<_> = fats.chain([self.nix.label.as_str()]).collect();
        for (index, extra) in self.extra.iter().enumerate() {
            let Some((uuid, label)) = &extra.swap else { continue };
            let shared = match () {
                () if uuids.contains(uuid) => format!("the UUID {uuid}"),
                () if labels.contains(&label.as_str()) => format!("the label {label:?}"),
                () => {
                    uuids.push(*uuid);
                    labels.extend((!label.is_empty()).then_some(label.as_str()));
                    continue;
                }
            };
            return Err(SpecErrors::from(SpecError {
                path: format!("extraPartitions[{index}].swapDevice"),
                problem: format!("gives this swap area {shared}, which a filesystem or another swap area has"),
                remedy: "set another, so that the system can tell them apart".to_owned(),
            }));
        }
        Ok(())
    }
}

/// The identities of the filesystems of an image, of which the first two are the ESP and the XBOOTLDR partition, and of
/// their partitions: those that their devices name, and those that are derived.
pub(super) fn devices(fats: [Option<&FileSystem>; 2], nix: &FileSystem) -> [Vec<Device>; 3] {
    let derive = derivation(fats, nix);
    let [esp, xbootldr] = fats;
    let esp = esp.map(|fat| self::esp(&fat.device, &derive));
    let xbootldr = xbootldr.map(|fat| self::xbootldr(&fat.device, &derive));
    let [esp, xbootldr] = [esp, xbootldr]
        .map(|fat| fat.map_or_else(Vec::new, |fat| fat.devices(FsUuid::VolumeId(fat.filesystem)).to_vec()));
    let nix = self::nix_of(&nix.device, None, NIX_NAME, &derive);
    [esp, xbootldr, nix.devices(FsUuid::Uuid(nix.filesystem)).to_vec()]
}

impl<FilesystemId> Identity<FilesystemId> {
    fn devices(&self, filesystem: FsUuid) -> [Device; 4] {
        let (label, name) = (self.label.clone(), self.partition_name.clone());
        [Device::FsUuid(filesystem), Device::Label(label), Device::PartUuid(self.partition), Device::PartLabel(name)]
    }
}

/// Gives each thing a UUID of its own, which follows from the devices of the filesystems.
fn derivation(fats: [Option<&FileSystem>; 2], nix: &FileSystem) -> impl Fn(&str) -> Uuid + use<> {
    let seed: String = fats.into_iter().flatten().chain([nix]).map(|filesystem| describe(filesystem) + "\n").collect();
    move |what| Uuid::new_v5(&NAMESPACE, format!("{seed}{what}").as_bytes())
}

fn esp(device: &Device, derive: impl Fn(&str) -> Uuid) -> Identity<u32> {
    let filesystem = match device {
        Device::FsUuid(FsUuid::VolumeId(id)) => *id,
        // A volume id of zero means that there is none.
        _ => derive("boot filesystem").as_fields().0.max(1),
    };
    let partition = Uuid::from_u128(ESP_PARTITION_UUID | u128::from(filesystem));
    complete(device, filesystem, "ESP", partition, "EFI System")
}

fn xbootldr(device: &Device, derive: impl Fn(&str) -> Uuid) -> Identity<u32> {
    let filesystem = match device {
        Device::FsUuid(FsUuid::VolumeId(id)) => *id,
        _ => derive("XBOOTLDR filesystem").as_fields().0.max(1),
    };
    complete(device, filesystem, "XBOOTLDR", derive("XBOOTLDR partition"), XBOOTLDR_NAME)
}

fn nix(spec: &Spec, derive: impl Fn(&str) -> Uuid) -> Identity<Uuid> {
    let version = spec.updates.as_ref().map(Updates::store_label);
    let verified = spec.verity.map(|verity| verity.partition_type(Content::Data).to_string());
    let name = version.clone().or(verified);
    nix_of(&spec.nix.device, version.as_deref(), name.as_deref().unwrap_or(NIX_NAME), derive)
}

fn verity(spec: &Spec, derive: impl Fn(&str) -> Uuid) -> Option<VerityIdentity> {
    let verity = spec.verity?;
    let version = spec.updates.as_ref().map(Updates::hash_label);
    let partition_name = version.unwrap_or_else(|| verity.partition_type(Content::Verity).to_string());
    Some(VerityIdentity { partition: derive("hash tree's partition"), partition_name })
}

fn nix_of(device: &Device, version: Option<&str>, name: &str, derive: impl Fn(&str) -> Uuid) -> Identity<Uuid> {
    let filesystem = match (device, version) {
        (Device::FsUuid(FsUuid::Uuid(uuid)), _) => *uuid,
        (_, None) => derive("nix filesystem"),
        // Two versions are on one disk.
        (_, Some(version)) => derive(&format!("nix filesystem {version}")),
    };
    complete(device, filesystem, "NIXOS_SYSTEM", filesystem, name)
}

/// Fills in the defaults for whatever `device` does not name.
fn complete<I>(device: &Device, filesystem: I, label: &str, partition: Uuid, name: &str) -> Identity<I> {
    let mut identity = Identity { filesystem, label: label.to_owned(), partition, partition_name: name.to_owned() };
    match device {
        Device::FsUuid(_) | Device::Verified(_) => {}
        Device::Label(label) => identity.label.clone_from(label),
        Device::PartUuid(uuid) => identity.partition = *uuid,
        Device::PartLabel(name) => identity.partition_name.clone_from(name),
    }
    identity
}

/// One line that identifies a device.
fn describe(filesystem: &FileSystem) -> String {
    let (kind, name) = match &filesystem.device {
        Device::FsUuid(uuid) => ("uuid", uuid.to_string()),
        Device::Label(label) => ("label", label.clone()),
        Device::PartUuid(uuid) => ("partuuid", uuid.to_string()),
        Device::PartLabel(name) => ("partlabel", name.clone()),
        Device::Verified(_) => ("verity", filesystem.device.path()),
    };
    format!("{} {kind} {name:?}", filesystem.mount_point.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn spec(boot: &str, nix: &str) -> Spec {
        let json = serde_json::json!({
            "version": 1,
            "toplevel": "/nix/store/00000000000000000000000000000000-system",
            "closureInfo": "/nix/store/00000000000000000000000000000000-closure-info",
            "fileSystems": {
                "/boot": { "device": format!("/dev/disk/{boot}"), "fsType": "vfat" },
                "/": { "device": format!("/dev/disk/{nix}"), "fsType": "ext4" },
            },
        });
        spec::parse(&json.to_string()).unwrap()
    }

    fn identities(boot: &str, nix: &str) -> Identities {
        Identities::new(&spec(boot, nix)).unwrap()
    }

    const UUID: &str = "0b7ae3ef-c2a1-4cbc-8a9b-6a1ae9a0a001";

    #[test]
    fn uuids_of_filesystems_decide_those_of_partitions() {
        let identities = identities("by-uuid/1234-ABCD", &format!("by-uuid/{UUID}"));
        assert_eq!(identities.esp.as_ref().unwrap().filesystem, 0x1234_abcd);
        assert_eq!(identities.esp.as_ref().unwrap().partition.to_string(), "44444444-4444-4444-4444-44441234abcd");
        assert_eq!(identities.esp.as_ref().unwrap().label, "ESP");
        assert_eq!(identities.esp.as_ref().unwrap().partition_name, "EFI System");
        assert_eq!(identities.nix.filesystem.to_string(), UUID);
        assert_eq!(identities.nix.partition.to_string(), UUID);
        assert_eq!(identities.nix.label, "NIXOS_SYSTEM");
        assert_eq!(identities.nix.partition_name, "Linux filesystem");
    }

    #[test]
    fn what_no_device_names_follows_from_what_they_do_name() {
        let one = identities("by-label/BOOT", "by-label/one");
        assert_eq!(one, identities("by-label/BOOT", "by-label/one"));
        assert_eq!((one.esp.as_ref().unwrap().label.as_str(), one.nix.label.as_str()), ("BOOT", "one"));
        let two = identities("by-label/BOOT", "by-label/two");
        assert_ne!(one.disk, two.disk);
        assert_ne!(one.esp.as_ref().unwrap().filesystem, two.esp.as_ref().unwrap().filesystem);
        assert_ne!(one.nix.filesystem, two.nix.filesystem);
        assert_ne!(one.disk, one.nix.filesystem);
    }

    #[test]
    fn partitions_can_be_named_themselves() {
        let identities = identities("by-partlabel/boot", &format!("by-partuuid/{UUID}"));
        assert_eq!(identities.esp.as_ref().unwrap().partition_name, "boot");
        assert_eq!(identities.nix.partition.to_string(), UUID);
        assert_ne!(identities.nix.filesystem.to_string(), UUID);
    }

    #[test]
    fn defaults_do_not_collide_unseen() {
        for (boot, nix) in [
            ("by-uuid/1234-ABCD", "by-label/ESP".to_owned()),
            ("by-uuid/1234-ABCD", "by-partlabel/EFI\\x20System".to_owned()),
            ("by-uuid/1234-ABCD", "by-partuuid/44444444-4444-4444-4444-44441234abcd".to_owned()),
            ("by-label/NIXOS_SYSTE", format!("by-uuid/{UUID}")),
        ] {
            let result = Identities::new(&spec(boot, &nix));
            assert_eq!(result.is_err(), boot.starts_with("by-uuid"), "{boot} {nix}");
        }
    }
}
