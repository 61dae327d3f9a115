//! `fileSystems`: finds the filesystems that an image holds among all that the system mounts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::btrfs::{self, Btrfs};
use super::device::{self, Device, Named};
use super::fields::{Object, as_is, member_path};
use super::identity;
use super::mount_options::{self, Mounted};
use super::verity;
use crate::mounts::{BINDS_MAX, Mount, MountTable};
use crate::store::StoreDir;

/// Where boot loaders have their files, and usually the ESP is mounted.
pub(super) const BOOT: &str = "/boot";
/// The type of a filesystem whose format is found out when it is mounted.
const AUTO: &str = "auto";

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

impl FileSystem {
    /// Whether nobody can write to it as it is mounted.
    pub fn is_read_only(&self) -> bool {
        let mut options = self.options.iter().flat_map(|list| list.split(','));
        let by_option = options.rfind(|option| matches!(*option, "ro" | "rw")) == Some("ro");
        by_option || !self.fs_type.is_writable()
    }
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
    /// EROFS, which nobody writes to.
    Erofs,
}

impl FsType {
    /// Whether a system can write to it.
    pub fn is_writable(self) -> bool {
        match self {
            Self::Vfat | Self::Ext4 | Self::Btrfs => true,
            Self::Erofs => false,
        }
    }
}

impl fmt::Display for FsType {
    /// As in fstab.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vfat => "vfat",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Erofs => "erofs",
        })
    }
}

/// What could be read of `fileSystems`; whatever is `None` has been noted as a mistake.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// The ESP, or that there is none.
    pub(super) esp: Option<Option<FileSystem>>,
    /// The XBOOTLDR partition, or that there is none.
    pub(super) xbootldr: Option<Option<FileSystem>>,
    pub(super) nix: Option<FileSystem>,
    /// Known even if the rest of the filesystem is wrong.
    pub(super) nix_place: Option<NixPlace>,
    /// What the mounts of a btrfs ask for, if that is what holds the store.
    pub(super) btrfs: Option<Btrfs>,
    /// All that the running system mounts.
    pub(super) table: MountTable,
    /// What may be wrong, a line each.
    pub(super) warnings: Vec<String>,
}

/// Where the running system has the filesystem of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NixPlace {
    /// Where it is mounted.
    pub(super) mount_point: PathBuf,
    /// Where the store is below that: the store's own path, unless that is a bind mount.
    pub(super) store: PathBuf,
}

impl NixPlace {
    /// The store's path from the root of the filesystem.
    pub(super) fn store_in_nix(&self) -> &Path {
        self.store.strip_prefix(&self.mount_point).unwrap_or(Path::new(""))
    }
}

/// Where the filesystems that firmware and systemd-boot read are mounted, if there are any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fats<'a> {
    pub(super) esp: Option<&'a Path>,
    pub(super) xbootldr: Option<&'a Path>,
}

/// A filesystem that is none of the image's business, unless it is another mount of one of the image's.
struct Other {
    /// Its JSON path.
    path: String,
    mount_point: PathBuf,
    fs_type: Option<String>,
    device: Option<String>,
    options: Vec<String>,
}

impl Other {
    /// What it is if it is on no filesystem of the image.
    fn mount(&self) -> Mount {
        let fs_type = self.fs_type.as_deref().unwrap_or(AUTO);
        let is_bind = is_bind(self.options.iter().map(String::as_str));
        match self.device.as_deref() {
            Some(device) if is_bind && device.starts_with('/') => Mount::Bind(device.into()),
            Some(device) if device != fs_type => Mount::Elsewhere(format!("{fs_type}, {device}")),
            _ => Mount::Elsewhere(fs_type.to_owned()),
        }
    }

    /// Whether it mounts the filesystem of format `fs_type` that is found by any of `devices`.
    ///
    /// Notes a name of it that is spelled otherwise than udev does.
    fn is_on(&self, devices: &[Device], fs_type: FsType, top: &mut Object<'_>) -> bool {
        let is_format = self.fs_type.as_deref().is_none_or(|text| text == AUTO || text == fs_type.to_string());
        let Some(text) = self.device.as_deref().filter(|_| is_format) else { return false };
        let path = device::path_of(text);
        let named = Named::parse(&path, fs_type).ok().filter(|named| devices.contains(&named.device));
        if let Some(named) = &named {
            let place = member_path(&self.path, "device");
            check_spelling([text, &path], &named.path, place, top);
        }
        named.is_some()
    }
}

/// What the image needs a filesystem for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Esp,
    Xbootldr,
    Nix,
}

impl Role {
    /// The formats that it may have, the usual one first.
    fn fs_types(self) -> &'static [FsType] {
        match self {
            Self::Esp | Self::Xbootldr => &[FsType::Vfat],
            Self::Nix => &[FsType::Ext4, FsType::Btrfs, FsType::Erofs],
        }
    }

    fn parse_fs_type(self, text: &str) -> Result<FsType, String> {
        let found = self.fs_types().iter().find(|fs_type| fs_type.to_string() == text);
        found.copied().ok_or_else(|| match self {
            Self::Esp | Self::Xbootldr => format!("{text:?} cannot be booted by firmware"),
            Self::Nix => format!("{text:?} is not supported"),
        })
    }

    fn example_device(self) -> &'static str {
        match self {
            Self::Esp | Self::Xbootldr => "\"/dev/disk/by-uuid/XXXX-XXXX\", where X are hexadecimal digits",
            Self::Nix => "\"/dev/disk/by-uuid/XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX\", where X are hexadecimal digits",
        }
    }
}

/// Reads `fileSystems`, a member of `top`, and judges the filesystems that the image holds: that of the store, and those
/// of `fats` that have a mount point.
pub(super) fn read_all(
    entries: Map<String, Value>,
    store_dir: &StoreDir,
    fats: Fats<'_>,
    top: &mut Object<'_>,
) -> Mounts {
    let path = top.member("fileSystems");
    let is_at = |fat: Option<&Path>, mount_point: &str| fat.is_some_and(|fat| fat == Path::new(mount_point));
    let both =
        [(fats.esp, "efiSysMountPoint", "an ESP"), (fats.xbootldr, "xbootldrMountPoint", "an XBOOTLDR partition")];
    for (fat, field, what) in both {
        let is_there = entries.keys().any(|mount_point| is_at(fat, mount_point));
        if let Some(fat) = fat.filter(|_| !is_there) {
            let place = member_path(&path, &fat.to_string_lossy());
            let field = top.member(field);
            let remedy = format!("set {place} to a vfat filesystem, or {field} to null for a disk without {what}");
            top.note(place, "is missing", remedy);
        }
    }
    let nix_place = find_nix(&entries, store_dir, fats, top);
    let [esp, xbootldr] = [fats.esp, fats.xbootldr].map(|fat| fat.is_none().then_some(None));
    let mut mounts = Mounts { esp, xbootldr, ..Mounts::default() };
    let mut others = Vec::new();
    for (mount_point, value) in entries {
        let Some(entry) = top.nested(member_path(&path, &mount_point), value) else { continue };
        if is_at(fats.esp, &mount_point) {
            mounts.esp = read(entry, mount_point, Role::Esp).map(Some);
        } else if is_at(fats.xbootldr, &mount_point) {
            mounts.xbootldr = read(entry, mount_point, Role::Xbootldr).map(Some);
        } else if nix_place.as_ref().is_some_and(|place| place.mount_point == Path::new(&mount_point)) {
            mounts.nix = read(entry, mount_point, Role::Nix);
        } else {
            others.push(skim(entry, mount_point, &path));
        }
    }
    let all = [mounts.esp.iter().flatten().next(), mounts.xbootldr.iter().flatten().next(), mounts.nix.as_ref()];
    let all: Vec<_> = all.into_iter().flatten().collect();
    for (index, later) in all.iter().enumerate() {
        if let Some(first) = all.iter().take(index).find(|first| first.device == later.device) {
            let device = member_path(&member_path(&path, &later.mount_point.to_string_lossy()), "device");
            let remedy = format!("set {device} to another filesystem's");
            top.note(device, format!("is the same as that of {}", first.mount_point.display()), remedy);
        }
    }
    mounts.nix_place = nix_place;
    mounts.table = judge_options(&mut mounts, &others, top);
    mounts
}

/// Judges the options of all mounts of the image's filesystems, and learns from them what a btrfs has to have, and what
/// lies where.
fn judge_options(mounts: &mut Mounts, others: &[Other], top: &mut Object<'_>) -> MountTable {
    let path = top.member("fileSystems");
    let [esp, xbootldr] = [&mounts.esp, &mounts.xbootldr].map(|fat| fat.clone().flatten());
    // What is derived follows from all.
    let [of_esp, of_xbootldr, of_nix] = match (&mounts.esp, &mounts.xbootldr, &mounts.nix) {
        (Some(esp), Some(xbootldr), Some(nix)) => identity::devices([esp.as_ref(), xbootldr.as_ref()], nix),
        (_, _, nix) => [&esp, &xbootldr, nix].map(|fs| fs.iter().map(|fs| fs.device.clone()).collect()),
    };
    let mut table: BTreeMap<_, _> = others.iter().map(|other| (other.mount_point.clone(), other.mount())).collect();
    let all = [
        (of_esp, &esp, Mount::Boot),
        (of_xbootldr, &xbootldr, Mount::Xbootldr),
        (of_nix, &mounts.nix, Mount::Nix(PathBuf::new())),
    ];
    for (devices, filesystem, mount) in all {
        let Some(filesystem) = filesystem else { continue };
        let same: Vec<_> = others.iter().filter(|other| other.is_on(&devices, filesystem.fs_type, top)).collect();
        let mut all = vec![Mounted::new(
            member_path(&path, &filesystem.mount_point.to_string_lossy()),
            &filesystem.mount_point,
            &filesystem.options,
        )];
        let mount_points = same.iter().map(|other| &other.mount_point).chain([&filesystem.mount_point]);
        table.extend(mount_points.map(|mount_point| (mount_point.clone(), mount.clone())));
        all.extend(same.into_iter().map(|other| Mounted::new(other.path.clone(), &other.mount_point, &other.options)));
        mount_options::check(&all, filesystem.fs_type, top, &mut mounts.warnings);
        if filesystem.fs_type == FsType::Btrfs {
            let store_in_nix = mounts.nix_place.as_ref().map_or(Path::new(""), NixPlace::store_in_nix);
            let (btrfs, roots) = btrfs::read(&all, store_in_nix, top);
            table.extend(roots.into_iter().map(|(mount_point, root)| (mount_point, Mount::Nix(root.into()))));
            mounts.btrfs = Some(btrfs);
        }
    }
    MountTable::new(table.into_iter().collect())
}

/// Where the filesystem that holds the store is mounted: the nearest at or above it. Bind mounts on the way are followed.
fn find_nix(
    entries: &Map<String, Value>,
    store_dir: &StoreDir,
    fats: Fats<'_>,
    top: &mut Object<'_>,
) -> Option<NixPlace> {
    let mut store = store_dir.as_path().to_owned();
    for _ in 0..=BINDS_MAX {
        let Some(mount_point) = nearest_mount(entries, &store) else {
            let path = top.member("fileSystems");
            let remedy = format!("set {} to an ext4, btrfs or erofs filesystem", member_path(&path, "/"));
            top.note(path, format!("has no filesystem that holds {}", store.display()), remedy);
            return None;
        };
        if [fats.esp, fats.xbootldr].contains(&Some(&mount_point)) {
            let path = top.member("storeDir");
            let remedy = format!("set {path} to a directory outside {}", mount_point.display());
            top.note(path, format!("\"{store_dir}\" lies on the boot filesystem"), remedy);
            return None;
        }
        match entries.get(&*mount_point.to_string_lossy()).and_then(bound) {
            Some(other) => store = other.join(store.strip_prefix(&mount_point).unwrap_or(Path::new(""))),
            None => return Some(NixPlace { mount_point, store }),
        }
    }
    let path = member_path(&top.member("fileSystems"), &store_dir.to_string());
    top.note(path.clone(), "is on a bind mount that leads in a circle", format!("set {path} to a filesystem"));
    None
}

/// The mount point that a path is at or below.
fn nearest_mount(entries: &Map<String, Value>, path: &Path) -> Option<PathBuf> {
    let is_there = |path: &&Path| path.to_str().is_some_and(|path| entries.contains_key(path));
    path.ancestors().find(is_there).map(Path::to_owned)
}

/// The path that an entry of `fileSystems` shows at another place, if it is a bind mount.
fn bound(entry: &Value) -> Option<PathBuf> {
    let options = entry.get("options")?.as_array()?.iter().filter_map(Value::as_str);
    let is_bind = is_bind(options);
    entry.get("device")?.as_str().filter(|device| is_bind && device.starts_with('/')).map(PathBuf::from)
}

/// Whether mount options say that it is a bind mount.
fn is_bind<'a>(options: impl Iterator<Item = &'a str>) -> bool {
    options.flat_map(|list| list.split(',')).any(|option| matches!(option, "bind" | "rbind"))
}

/// A filesystem that the image holds.
fn read(mut entry: Object<'_>, mount_point: String, role: Role) -> Option<FileSystem> {
    let wanted: Vec<_> = role.fs_types().iter().map(|fs_type| format!("\"{fs_type}\"")).collect();
    let wanted = match wanted.split_last() {
        Some((last, others @ [_, ..])) => format!("{} or {last}", others.join(", ")),
        _ => wanted.concat(),
    };
    let fs_type = entry.required("fsType", &wanted, |text: String| role.parse_fs_type(&text));
    let device = entry.required("device", role.example_device(), |text: String| {
        let verified = matches!(role, Role::Nix).then(|| verity::of_device(&text)).flatten();
        let named = match verified {
            Some(tree) => Ok(Named::verified(tree)),
            None => Named::parse(&text, fs_type.unwrap_or(role.fs_types()[0])),
        };
        named.map(|named| (text, named))
    });
    let device = device.map(|(text, named)| {
        let place = entry.member("device");
        check_spelling([&text, &text], &named.path, place, &mut entry);
        named.device
    });
    let options = entry.list("options", "a string", as_is);
    entry.finish();
    Some(FileSystem { mount_point: mount_point.into(), fs_type: fs_type?, device: device?, options: options? })
}

/// Notes a device that the system would wait for in vain: at the JSON path `place`, a text that means `path`, which
/// udev spells `spelled`.
pub(super) fn check_spelling([text, path]: [&str; 2], spelled: &str, place: String, object: &mut Object<'_>) {
    if path != spelled {
        let remedy = format!("set {place} to {spelled:?}");
        object.note(place, format!("{text:?} is not how udev spells it, so that it would never appear"), remedy);
    }
}

/// A filesystem that is none of the image's business, but a mistyped field would be. `path` is that of all entries.
fn skim(mut entry: Object<'_>, mount_point: String, path: &str) -> Other {
    let path = member_path(path, &mount_point);
    let fs_type = entry.optional("fsType", "a string", None::<String>, as_is).flatten();
    let device = entry.optional("device", "a string or null", None::<String>, as_is).flatten();
    let options = entry.list("options", "a string", as_is).unwrap_or_default();
    entry.finish();
    Other { path, mount_point: mount_point.into(), fs_type, device, options }
}
