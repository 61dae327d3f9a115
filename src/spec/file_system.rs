//! `fileSystems`: the two filesystems that an image holds, found among all that the system mounts.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::btrfs::{self, Btrfs};
use super::device::Device;
use super::fields::{Object, as_is, member_path};
use crate::store::StoreDir;

/// Where the ESP is mounted.
const BOOT: &str = "/boot";

/// A filesystem of the image as the running system will mount it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Where it is mounted; absolute.
    pub mount_point: PathBuf,
    /// Its format.
    pub fs_type: FsType,
    /// What the running system finds it by.
    pub device: Device,
    /// Its mount options.
    pub options: Vec<String>,
}

/// The format of a filesystem that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsType {
    /// FAT32.
    Vfat,
    /// ext4.
    Ext4,
    /// btrfs.
    Btrfs,
}

impl fmt::Display for FsType {
    /// As in fstab.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vfat => "vfat",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        })
    }
}

/// What could be read of `fileSystems`; whatever is `None` has been noted as a mistake.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) boot: Option<FileSystem>,
    pub(super) nix: Option<FileSystem>,
    /// Known even if the rest of the filesystem is wrong.
    pub(super) nix_mount_point: Option<PathBuf>,
    /// What the mounts of a btrfs ask for, if that is what holds the store.
    pub(super) btrfs: Option<Btrfs>,
}

/// A filesystem that is none of the image's business, unless it is another mount of the store's.
pub(super) struct Other {
    /// Its JSON path.
    pub(super) path: String,
    fs_type: Option<String>,
    device: Option<String>,
    pub(super) options: Vec<String>,
}

impl Other {
    /// Whether it mounts the same filesystem as `nix` does.
    pub(super) fn is_on(&self, nix: &FileSystem) -> bool {
        let device = self.device.as_deref().and_then(|device| Device::parse(device, nix.fs_type).ok());
        device.as_ref() == Some(&nix.device) && self.fs_type.as_deref() == Some(&nix.fs_type.to_string())
    }
}

/// What the image needs a filesystem for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Boot,
    Nix,
}

impl Role {
    /// The formats that it may have, the usual one first.
    fn fs_types(self) -> &'static [FsType] {
        match self {
            Self::Boot => &[FsType::Vfat],
            Self::Nix => &[FsType::Ext4, FsType::Btrfs],
        }
    }

    fn parse_fs_type(self, text: &str) -> Result<FsType, String> {
        let found = self.fs_types().iter().find(|fs_type| fs_type.to_string() == text);
        found.copied().ok_or_else(|| match self {
            Self::Boot => format!("{text:?} is not what firmware boots from"),
            Self::Nix => format!("{text:?} is not supported"),
        })
    }

    fn example_device(self) -> &'static str {
        match self {
            Self::Boot => "\"/dev/disk/by-uuid/XXXX-XXXX\", X being hexadecimal digits",
            Self::Nix => "\"/dev/disk/by-uuid/XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX\", X being hexadecimal digits",
        }
    }
}

/// Reads `fileSystems`, a member of `top`, and judges the two filesystems that the image holds.
pub(super) fn read_all(entries: Map<String, Value>, store_dir: &StoreDir, top: &mut Object<'_>) -> Mounts {
    let path = top.member("fileSystems");
    if !entries.contains_key(BOOT) {
        let boot = member_path(&path, BOOT);
        let remedy = format!("set {boot} to a vfat filesystem");
        top.note(boot, "is missing", remedy);
    }
    let nix_mount_point = find_nix(&entries, store_dir, top);
    let mut mounts = Mounts::default();
    let mut others = Vec::new();
    for (mount_point, value) in entries {
        let Some(entry) = top.nested(member_path(&path, &mount_point), value) else { continue };
        if mount_point == BOOT {
            mounts.boot = read(entry, mount_point, Role::Boot);
        } else if nix_mount_point.as_deref() == Some(Path::new(&mount_point)) {
            mounts.nix = read(entry, mount_point, Role::Nix);
        } else {
            others.push(skim(entry, member_path(&path, &mount_point)));
        }
    }
    if let (Some(boot), Some(nix)) = (&mounts.boot, &mounts.nix)
        && boot.device == nix.device
    {
        let device = member_path(&member_path(&path, &nix.mount_point.to_string_lossy()), "device");
        let remedy = format!("set {device} to another filesystem's");
        top.note(device, format!("is the same as that of {BOOT}"), remedy);
    }
    if let Some(nix) = mounts.nix.as_ref().filter(|nix| nix.fs_type == FsType::Btrfs) {
        mounts.btrfs = Some(btrfs::read(nix, &others, store_dir, top));
    }
    Mounts { nix_mount_point, ..mounts }
}

/// The mount point of the filesystem that holds the store: the nearest at or above it.
fn find_nix(entries: &Map<String, Value>, store_dir: &StoreDir, top: &mut Object<'_>) -> Option<PathBuf> {
    let mut above = store_dir.as_path().ancestors().filter_map(Path::to_str);
    match above.find(|&mount_point| entries.contains_key(mount_point)) {
        None => {
            let path = top.member("fileSystems");
            let remedy = format!("set {} to an ext4 or btrfs filesystem", member_path(&path, "/"));
            top.note(path, format!("has no filesystem that holds {store_dir}"), remedy);
            None
        }
        Some(BOOT) => {
            let path = top.member("storeDir");
            let remedy = format!("set {path} to a directory outside {BOOT}");
            top.note(path, format!("\"{store_dir}\" lies on the boot filesystem"), remedy);
            None
        }
        Some(mount_point) => Some(PathBuf::from(mount_point)),
    }
}

/// A filesystem that the image holds.
fn read(mut entry: Object<'_>, mount_point: String, role: Role) -> Option<FileSystem> {
    let wanted: Vec<_> = role.fs_types().iter().map(|fs_type| format!("\"{fs_type}\"")).collect();
    let wanted = wanted.join(" or ");
    let fs_type = entry.required("fsType", &wanted, |text: String| role.parse_fs_type(&text));
    let device = entry.required("device", role.example_device(), |text: String| {
        Device::parse(&text, fs_type.unwrap_or(role.fs_types()[0]))
    });
    let options = entry.list("options", "a string", as_is);
    entry.finish();
    Some(FileSystem { mount_point: mount_point.into(), fs_type: fs_type?, device: device?, options: options? })
}

/// A filesystem that is none of the image's business, but a mistyped field would be.
fn skim(mut entry: Object<'_>, path: String) -> Other {
    let fs_type = entry.optional("fsType", "a string", None::<String>, as_is);
    let device = entry.optional("device", "a string or null", None::<String>, as_is);
    let options = entry.list("options", "a string", as_is);
    entry.finish();
    Other { path, fs_type: fs_type.flatten(), device: device.flatten(), options: options.unwrap_or_default() }
}
