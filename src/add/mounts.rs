//! Where the host of an image mounts its filesystems. The image itself says so: by the fstab of the system that it
//! boots.
//!
//! ```text
//! default boot entry ─ init= ─▶ system ─ etc/fstab ─▶ lines ─ names of partitions ─▶ MountTable
//! ```

use std::path::{Path, PathBuf};

use thiserror::Error;

use self::fstab::{BadLine, Line};
use self::identity::Identity;
use crate::image::store::{StoreLocation, locate};
use crate::image::{Image, PartName, Partition};
use crate::inspect;
use crate::mounts::{Mount, MountTable};
use crate::read::resolve::{AtRoot, Last, Mounted};
use crate::read::{FileSystem, Format, Kind, ReadError, escape, resolve};

mod fstab;
mod identity;

/// The most bytes of a table of mounts.
const MAX_TEXT: u64 = 1 << 20;
/// Where a system has its table of mounts.
const FSTAB: &str = "etc/fstab";
/// The system that was activated last.
const PROFILE: &str = "/nix/var/nix/profiles/system";
/// Where a host without a table is taken to have its boot partition.
const BOOT: &str = "/boot";
/// Where it has the ESP then, if XBOOTLDR is there (Boot Loader Specification, UAPI.1, "Mount points").
const EFI: &str = "/efi";
/// The subvolumes in which distributions have their root, the top level first.
const ROOTS: [&str; 4] = ["", "@", "root", "@rootfs"];

/// Why it is not known what a host mounts where.
#[derive(Debug, Error)]
pub enum MountsError {
    /// The image has no filesystem that says it, or that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// More than a table of mounts is.
    #[error("{path} in the image has {len} bytes; a table of mounts may have at most {MAX_TEXT}; make it shorter")]
    TooLong {
        /// The file, escaped.
        path: String,
        /// In bytes.
        len: u64,
    },
    /// A line that no system could use.
    #[error("{path} in the image, line {line}: {problem}; correct that line in the image")]
    Line {
        /// The file, escaped.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The mounts of an image's host, as far as they decide where in the image a file of the host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMounts {
    /// All of its mounts.
    pub table: MountTable,
    /// The options with which the boot partition is mounted, one by one; none if that is not known.
    pub boot_options: Vec<String>,
    /// Where the boot partition is mounted; `/boot` if that is not known.
    pub boot_mount_point: PathBuf,
    /// Where and with which options the XBOOTLDR partition is mounted, if it is.
    pub xbootldr: Option<(PathBuf, Vec<String>)>,
}

/// Finds out what the host of `image` mounts where.
///
/// The host's system is the one of the default boot entry, or else of the profile `system`; then its `etc/fstab` counts.
/// Without a system, the `/etc/fstab` of the nix filesystem does. Where there is none, the boot partition is taken to be
/// on `/boot`, and the nix filesystem where its store says.
///
/// # Errors
/// If there is neither a boot nor a nix partition, one of them cannot be read, or the table of mounts is none.
pub fn host_mounts(image: &Image) -> Result<HostMounts, MountsError> {
    let host = Host::open(image)?;
    let system = inspect::boot(image).and_then(|report| {
        let init = report.entries.into_iter().find(|entry| entry.default)?.init?;
        Path::new(&init.path).parent().map(Path::to_owned)
    });
    match host.fstab(system.as_deref())? {
        Some((path, text)) => {
            let path = escape::path(&path);
            let lines =
                fstab::parse(&text).map_err(|BadLine { line, problem }| MountsError::Line { path, line, problem })?;
            Ok(host.mounts(&lines))
        }
        None => Ok(host.usual()),
    }
}

/// The parts of an image that are read.
struct Host {
    boot: Option<Identity>,
    xbootldr: Option<Identity>,
    nix: Option<Nix>,
    /// The other partitions with a filesystem.
    others: Vec<Identity>,
}

/// The filesystem with the store, or the one that could have it.
struct Nix {
    identity: Identity,
    fs: Box<dyn FileSystem>,
    location: Option<StoreLocation>,
}

impl Host {
    fn open(image: &Image) -> Result<Self, MountsError> {
        let signature = image.mbr().map(|mbr| mbr.signature);
        let identity = |partition: &Partition| -> Result<_, ReadError> {
            let fs = partition.open()?;
            Ok((Identity::new(partition, fs.summary(), signature), fs))
        };
        let boot = image.find(&PartName::Boot).ok().filter(|partition| partition.format() == Some(Format::Vfat));
        let nix = image.find(&PartName::Nix);
        let xbootldr = image.partitions().iter().find(|partition| partition.is_xbootldr());
        let xbootldr = xbootldr.filter(|partition| boot.is_none_or(|boot| boot.number != partition.number));
        let numbers = [boot, xbootldr, nix.as_ref().ok().copied()].map(|partition| partition.map(|found| found.number));
        let others = image.partitions().iter().filter(|partition| !numbers.contains(&Some(partition.number)));
        // One that cannot be read has no name either by which a line could mean it.
        let others = others.filter_map(|partition| identity(partition).ok()).map(|(identity, _)| identity).collect();
        let nix = match nix {
            Ok(partition) => {
                let (identity, fs) = identity(partition)?;
                Some(Nix { identity, location: locate(fs.as_ref())?, fs })
            }
            Err(error) if boot.is_none() => return Err(error.into()),
            Err(_) => None,
        };
        let [boot, xbootldr] = [boot, xbootldr]
            .map(|found| found.map(|partition| identity(partition).map(|(identity, _)| identity)).transpose());
        Ok(Self { boot: boot?, xbootldr: xbootldr?, nix, others })
    }

    /// The path and the text of the table of mounts that the host has; `system` is what it boots.
    fn fstab(&self, system: Option<&Path>) -> Result<Option<(PathBuf, Vec<u8>)>, MountsError> {
        let Some(Nix { fs, location, .. }) = &self.nix else { return Ok(None) };
        let fs = fs.as_ref();
        let Some(location) = location else {
            let roots = if fs.summary().format == Format::Btrfs { &ROOTS[..] } else { &ROOTS[..1] };
            return first(roots.iter().map(|root| text(fs, &AtRoot, &Path::new(root).join(FSTAB))));
        };
        let systems = system.into_iter().chain([Path::new(PROFILE), Path::new("/")]);
        let paths = systems.filter_map(|system| location.inside(&system.join(FSTAB)));
        first(paths.map(|path| text(fs, location, &path)))
    }

    /// What `lines` say.
    fn mounts(&self, lines: &[Line]) -> HostMounts {
        let mounts: Vec<_> = lines.iter().map(|line| (line.mount_point.clone(), self.mount(line))).collect();
        let line_of = |wanted| lines.iter().zip(&mounts).find(|(_, (_, mount))| *mount == wanted).map(|(line, _)| line);
        let boot = line_of(Mount::Boot);
        let xbootldr = line_of(Mount::Xbootldr).map(|line| (line.mount_point.clone(), line.options.clone()));
        let boot_options = boot.map(|line| line.options.clone()).unwrap_or_default();
        let boot_mount_point = boot.map_or_else(|| PathBuf::from(BOOT), |line| line.mount_point.clone());
        HostMounts { table: MountTable::of_image(mounts), boot_options, boot_mount_point, xbootldr }
    }

    /// What a line mounts.
    fn mount(&self, line: &Line) -> Mount {
        if line.is_bind() {
            return fstab::plain(Path::new(&line.device)).map_or_else(|| elsewhere(line), Mount::Bind);
        }
        let is = |identity: &Identity| identity.is(&line.device, &line.fs_type);
        if self.boot.as_ref().is_some_and(is) {
            return Mount::Boot;
        }
        if self.xbootldr.as_ref().is_some_and(is) {
            return Mount::Xbootldr;
        }
        if let Some(nix) = self.nix.as_ref().filter(|nix| is(&nix.identity)) {
            return nix.mount(line);
        }
        match self.others.iter().find(|other| is(other)) {
            Some(other) => Mount::Elsewhere(format!("partition {}, {}", other.number, other.format.name())),
            None => elsewhere(line),
        }
    }

    /// What there is to mount, where it usually is.
    fn usual(&self) -> HostMounts {
        let nix = self.nix.as_ref().map(|nix| match &nix.location {
            Some(location) => (location.mount_point(), Mount::Nix(location.root.clone())),
            None => (PathBuf::from("/"), Mount::Nix(PathBuf::new())),
        });
        let at = |mount_point: &str| PathBuf::from(mount_point);
        let xbootldr = self.xbootldr.as_ref().map(|_| at(BOOT));
        let boot_mount_point = at(if xbootldr.is_some() { EFI } else { BOOT });
        let boot = self.boot.as_ref().map(|_| (boot_mount_point.clone(), Mount::Boot));
        let beside = xbootldr.clone().map(|mount_point| (mount_point, Mount::Xbootldr));
        let table = MountTable::of_image(nix.into_iter().chain(boot).chain(beside).collect());
        let xbootldr = xbootldr.map(|mount_point| (mount_point, Vec::new()));
        HostMounts { table, boot_options: Vec::new(), boot_mount_point, xbootldr }
    }
}

impl Nix {
    /// What a line that mounts this filesystem shows of it (btrfs(5), mount options).
    fn mount(&self, line: &Line) -> Mount {
        if self.identity.format != Format::Btrfs {
            return Mount::Nix(PathBuf::new());
        }
        if let Some(path) = line.value("subvol") {
            // With or without a slash, it is seen from the top level.
            let root = fstab::plain(&Path::new("/").join(path));
            let root = root.as_deref().and_then(|root| root.strip_prefix("/").ok());
            return root.map_or_else(|| elsewhere(line), |root| Mount::Nix(root.to_owned()));
        }
        match line.value("subvolid") {
            Some("0" | "5") => Mount::Nix(PathBuf::new()),
            Some(number) => Mount::Elsewhere(format!("the btrfs subvolume with the number {}", escape::text(number))),
            None => self.default_subvolume(&line.mount_point),
        }
    }

    /// What is mounted if no option names a subvolume: the top level, unless another default was ever set. That default
    /// is not read here; the store's subvolume is mounted where the store is.
    fn default_subvolume(&self, mount_point: &Path) -> Mount {
        if !self.identity.features.iter().any(|feature| feature == "default-subvol") {
            return Mount::Nix(PathBuf::new());
        }
        match self.location.as_ref().filter(|location| location.mount_point() == mount_point) {
            Some(location) => Mount::Nix(location.root.clone()),
            None => Mount::Elsewhere("the default subvolume of the btrfs".to_owned()),
        }
    }
}

/// A line that mounts no partition of the image, in words.
fn elsewhere(line: &Line) -> Mount {
    let (device, fs_type) = (escape::name(&line.device), escape::text(&line.fs_type));
    let is_named = device != fs_type && device != "none";
    Mount::Elsewhere(if is_named { format!("{device}, {fs_type}") } else { fs_type })
}

/// The first that is there.
fn first<T>(found: impl Iterator<Item = Result<Option<T>, MountsError>>) -> Result<Option<T>, MountsError> {
    found.map(Result::transpose).find_map(|found| found).transpose()
}

/// The place and contents of a text, or `None` if it is not there.
fn text(fs: &dyn FileSystem, mounted: &dyn Mounted, path: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, MountsError> {
    let (path, metadata) = match resolve(fs, mounted, path, Last::Follow) {
        Err(ReadError::NotFound(_) | ReadError::NotADirectory(_)) => return Ok(None),
        found => found?,
    };
    if metadata.kind != Kind::File {
        return Err(ReadError::WrongKind { path: escape::path(&path), wanted: "regular file" }.into());
    }
    if metadata.len > MAX_TEXT {
        return Err(MountsError::TooLong { path: escape::path(&path), len: metadata.len });
    }
    let mut bytes = vec![0; usize::try_from(metadata.len).unwrap_or_default()];
    let len = fs.open(&path)?.read_at(0, &mut bytes)?;
    bytes.truncate(len);
    Ok(Some((path, bytes)))
}
