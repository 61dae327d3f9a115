//! The reasons not to write to a device, one by one, each with its remedy. Pure.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::look::RegularFile;
use super::size::{exact, human};
use super::uses::{HolderKind, MountPoint, Uses};
use super::{Attachment, Bus, Device, Kind};
use crate::read::escape;
use crate::units::SectorSize;

/// What a device must have for this disk.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// In bytes; 0 if it is not known yet.
    pub size: u64,
    /// `None` if it is not known yet.
    pub sector_size: Option<SectorSize>,
    /// What to do with disks that cannot be taken out.
    pub fixed_disk: FixedDisk,
}

/// Whether a disk that is built in may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedDisk {
    /// The user has not said so.
    Refused,
    /// The user has said so.
    Allowed,
}

/// A reason not to write to what a user named, for people. Everything in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub enum Refusal {
    /// Nothing has that name.
    Missing {
        /// As the user named it.
        path: PathBuf,
        /// Names of disks that are nearly the same.
        near: Vec<PathBuf>,
    },
    /// It is something else.
    NotADevice {
        /// As the user named it.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It cannot be examined.
    Unreadable {
        /// As the user named it.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is a device, or a file, but not one to be written now.
    Unfit {
        /// How it is called in messages.
        name: String,
        /// What kind of reason it is.
        reason: Reason,
        /// The reason, and what to do.
        why: String,
    },
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is a part of a disk.
    NotWhole,
    /// It is a drive for discs.
    Optical,
    /// There is no medium in it.
    NoMedium,
    /// The running system is on it.
    System,
    /// It, or a partition of it, is mounted.
    Mounted,
    /// It, or a partition of it, is swapped to.
    Swap,
    /// Devices are made of it.
    Held,
    /// Somebody unknown has claimed it.
    Claimed,
    /// It cannot be written.
    ReadOnly,
    /// It is too small.
    TooSmall,
    /// Its sectors have another size.
    SectorSize,
    /// It is built in.
    Fixed,
    /// This user may not write to it.
    Forbidden,
    /// It is another device than before.
    Changed,
}

/// All reasons not to write to a device, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refused(pub Vec<Refusal>);

impl Refused {
    /// Nothing if there is no reason.
    ///
    /// # Errors
    /// All reasons.
    pub fn unless_empty(refusals: Vec<Refusal>) -> Result<(), Self> {
        if refusals.is_empty() { Ok(()) } else { Err(Self(refusals)) }
    }
}

impl Refusal {
    /// The kind of reason, if it is a device.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unfit { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// The reason, and what to do, without the name of the device.
    pub fn why(&self) -> String {
        match self {
            Self::Missing { near, .. } if near.is_empty() => {
                "there is no such device; leave DEVICE out to list those that there are".to_owned()
            }
            Self::Missing { near, .. } => {
                let near: Vec<_> = near.iter().map(|path| escape::path(path)).collect();
                format!("there is no such device; did you mean {}?", near.join(" or "))
            }
            Self::NotADevice { kind, .. } => {
                let remedy = "name a block device such as /dev/sdb, or a regular file";
                format!("is a {kind}, not a disk; {remedy}")
            }
            Self::Unreadable { why, .. } | Self::Unfit { why, .. } => why.clone(),
        }
    }

    pub(super) fn changed(device: &Device, what: &str) -> Self {
        device.unfit(Reason::Changed, format!("{what}; nothing was written; look at it and start again"))
    }

    fn text(&self) -> String {
        let name = match self {
            Self::Missing { path, .. } | Self::NotADevice { path, .. } | Self::Unreadable { path, .. } => {
                escape::path(path)
            }
            Self::Unfit { name, .. } => name.clone(),
        };
        format!("{name}: {}", self.why())
    }
}

impl Device {
    /// How it is called in messages: as the user named it, and as the kernel does.
    pub fn title(&self) -> String {
        let path = escape::path(&self.path);
        if self.path == self.node { path } else { format!("{path} ({})", escape::text(&self.name)) }
    }

    /// All reasons not to write to it, the most basic first.
    pub fn refusals(&self, demands: &Demands) -> Vec<Refusal> {
        if self.bus == Bus::Optical {
            let why = "is a drive for discs, which are not written like disks; name a card, a stick or a disk";
            return vec![self.unfit(Reason::Optical, why)];
        }
        let mut all = Vec::new();
        all.extend(self.not_whole());
        if self.size == 0 {
            all.push(self.unfit(Reason::NoMedium, self.no_medium()));
            return all;
        }
        let in_use = self.in_use();
        let is_claimed = self.is_claimed && in_use.is_empty();
        all.extend(in_use);
        all.extend(is_claimed.then(|| self.unfit(Reason::Claimed, self.claimed())));
        all.extend(self.is_read_only.then(|| self.unfit(Reason::ReadOnly, self.read_only())));
        all.extend(self.unfit_for(demands));
        let is_refused = self.attachment == Attachment::Fixed && demands.fixed_disk == FixedDisk::Refused;
        let is_other = self.kind != Kind::Disk || !self.system.is_empty();
        if is_refused && !is_other {
            let why = "is a built-in disk, not a card or stick; pass --fixed-disk if you do mean it";
            all.push(self.unfit(Reason::Fixed, why));
        }
        all.extend((!self.is_permitted).then(|| self.unfit(Reason::Forbidden, FORBIDDEN)));
        all
    }

    fn unfit(&self, reason: Reason, why: impl Into<String>) -> Refusal {
        Refusal::Unfit { name: self.title(), reason, why: why.into() }
    }

    fn not_whole(&self) -> Option<Refusal> {
        let why = match &self.kind {
            Kind::Disk => return None,
            Kind::Partition { disk, number } => {
                let disk = escape::path(disk);
                format!("is partition {number} of {disk}, and an image has partitions itself; name {disk}")
            }
            Kind::BootArea { disk } => {
                let disk = escape::path(disk);
                format!("is an area of the eMMC {disk} that only firmware uses; name {disk}")
            }
        };
        Some(self.unfit(Reason::NotWhole, why))
    }

    fn no_medium(&self) -> &'static str {
        match self.bus {
            Bus::Usb | Bus::Sd => "has no medium: the reader is empty, or the card is not all the way in; put one in",
            Bus::Loop => "has no file attached; attach one with `losetup`",
            _ => "has a size of 0: there is no medium in it, or it does not answer; look at `dmesg`",
        }
    }

    /// The running system is the only reason then: its mounts must not be unmounted.
    fn in_use(&self) -> Vec<Refusal> {
        if !self.system.is_empty() {
            let what = self.system.join(" and ");
            let why = format!("the running system has its {what} on it; boot from something else to write to it");
            return vec![self.unfit(Reason::System, why)];
        }
        let own = (String::new(), self.node.as_path(), &self.uses);
        let parts = self.partitions.iter().filter_map(|partition| {
            let node = partition.node.as_deref()?;
            Some((format!("its partition {} ", partition.number), node, &partition.uses))
        });
        let all = std::iter::once(own).chain(parts);
        all.flat_map(|(subject, node, uses)| self.used(&subject, node, uses)).collect()
    }

    fn used(&self, subject: &str, node: &Path, uses: &Uses) -> Vec<Refusal> {
        let mut all = Vec::new();
        if !uses.mounts.is_empty() {
            let (at, remedy) = (places(&uses.mounts), then(&unmount(&uses.mounts)));
            all.push(self.unfit(Reason::Mounted, format!("{subject}is mounted at {at}; {remedy}")));
        }
        if uses.is_swap {
            let remedy = then(&[format!("swapoff {}", quote(node))]);
            all.push(self.unfit(Reason::Swap, format!("{subject}is used as swap; {remedy}")));
        }
        for holder in &uses.holders {
            let (name, kind) = (escape::path(&holder.node), holder.kind.name());
            let mounts = holder.uses.all_mounts();
            let at = match mounts.as_slice() {
                [] => String::new(),
                mounts => format!(", which is mounted at {}", places(mounts)),
            };
            let remedy = match &holder.kind {
                HolderKind::Multipath(_) => format!("it is one of several paths to the same disk; name {name}"),
                kind => then(&release(kind, &holder.node, &holder.uses)),
            };
            all.push(self.unfit(Reason::Held, format!("{subject}is held by {name} ({kind}){at}; {remedy}")));
        }
        all
    }

    fn claimed(&self) -> String {
        let filesystems = self.partitions.iter().map(|partition| &partition.filesystem).chain([&self.filesystem]);
        let is_zfs = filesystems.flatten().any(|filesystem| filesystem.kind == "zfs_member");
        let node = quote(&self.node);
        if is_zfs {
            return "is in use, probably by a ZFS pool; `zpool list -v` names it, and `zpool export` ends that"
                .to_owned();
        }
        format!(
            "is in use, but the kernel does not say by whom: a program that has it open (`fuser -v {node}` names it), or a \
             filesystem that was unmounted while it was busy; wait for it, or take the medium out and put it in again"
        )
    }

    fn read_only(&self) -> String {
        let node = quote(&self.node);
        match self.bus {
            Bus::Usb | Bus::Sd => {
                "is write-protected: slide the lock switch of the card or its adapter away from \"Lock\"; a card without \
                 a switch is worn out"
                    .to_owned()
            }
            Bus::Loop => format!("is read-only: attach the file again without --read-only (`losetup -d {node}` first)"),
            _ => format!("is read-only; `blockdev --setrw {node}` makes it writable, if that was not on purpose"),
        }
    }

    fn unfit_for(&self, demands: &Demands) -> Vec<Refusal> {
        let missing = demands.size.checked_sub(self.size).filter(|&missing| missing > 0);
        let too_small = missing.map(|missing| {
            let (has, needs) = (both(self.size), both(demands.size));
            let why = format!("is too small: it has {has}; {needs} are needed, so {} are missing", both(missing));
            self.unfit(Reason::TooSmall, why)
        });
        let wanted = demands.sector_size.map(SectorSize::bytes).filter(|&wanted| wanted != self.sector_size);
        let sectors = wanted.map(|wanted| self.unfit(Reason::SectorSize, other_sectors(self.sector_size, wanted)));
        too_small.into_iter().chain(sectors).collect()
    }
}

impl RegularFile {
    /// All reasons not to write to it. It grows where it is too small.
    pub fn refusals(&self) -> Vec<Refusal> {
        let unfit = |reason, why| Refusal::Unfit { name: escape::path(&self.path), reason, why };
        let loops = self.loops.iter().map(|device| {
            let remedy = then(&[format!("losetup -d {}", quote(device))]);
            unfit(Reason::Held, format!("is attached to {}; {remedy}, or name that device", escape::path(device)))
        });
        let swap = self.is_swap.then(|| {
            let remedy = then(&[format!("swapoff {}", quote(&self.path))]);
            unfit(Reason::Swap, format!("is used as swap; {remedy}"))
        });
        let forbidden =
            (!self.is_permitted).then(|| unfit(Reason::Forbidden, "this user may not write to it".to_owned()));
        loops.chain(swap).chain(forbidden).collect()
    }
}

const FORBIDDEN: &str = "only root may write to it; run this with sudo";

fn other_sectors(has: u64, wanted: u64) -> String {
    let remedy = match SectorSize::new(has) {
        Some(_) => format!("build an image with `sectorSize = {has}`"),
        None => "use another device".to_owned(),
    };
    format!("has sectors of {has} bytes, and the image is laid out for {wanted}; {remedy}")
}

/// A size for people and in full.
fn both(bytes: u64) -> String {
    format!("{} ({})", exact(bytes), human(bytes))
}

/// The commands that end the use of a device by a holder: what is on top goes first.
fn release(kind: &HolderKind, node: &Path, uses: &Uses) -> Vec<String> {
    let mut commands = unmount(&uses.mounts);
    commands.extend(uses.is_swap.then(|| format!("swapoff {}", quote(node))));
    for holder in &uses.holders {
        commands.extend(release(&holder.kind, &holder.node, &holder.uses));
    }
    let name = |name: &str| quote(Path::new(name));
    commands.push(match kind {
        HolderKind::Crypt(mapping) => format!("cryptsetup close {}", name(mapping)),
        HolderKind::Lvm(group) => format!("vgchange -an {}", name(group)),
        HolderKind::Multipath(mapping) => format!("multipath -f {}", name(mapping)),
        HolderKind::Mapper(mapping) => format!("dmsetup remove {}", name(mapping)),
        HolderKind::Raid => format!("mdadm --stop {}", quote(node)),
        HolderKind::Loop => format!("losetup -d {}", quote(node)),
        HolderKind::Bcache => {
            let device = node.file_name().map(Path::new).unwrap_or(node);
            format!("echo 1 > /sys/block/{}/bcache/stop", quote(device))
        }
        HolderKind::Other => format!("fuser -v {}", quote(node)),
    });
    let mut seen = std::collections::BTreeSet::new();
    commands.retain(|command| seen.insert(command.clone()));
    commands
}

/// The commands that unmount: one for all that we see, one for each that others see.
fn unmount(mounts: &[MountPoint]) -> Vec<String> {
    let (own, others): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| mount.process.is_none());
    let paths: Vec<_> = own.iter().map(|mount| quote(&mount.path)).collect();
    let own = (!paths.is_empty()).then(|| format!("umount {}", paths.join(" ")));
    let others = others.iter().filter_map(|mount| {
        let id = mount.process.as_ref()?.id;
        Some(format!("nsenter -m -t {id} umount {}", quote(&mount.path)))
    });
    own.into_iter().chain(others).collect()
}

fn places<M: std::borrow::Borrow<MountPoint>>(mounts: &[M]) -> String {
    let place = |mount: &MountPoint| match &mount.process {
        None => escape::path(&mount.path),
        Some(process) => {
            let (path, name, id) = (escape::path(&mount.path), escape::text(&process.name), process.id);
            format!("{path} for process {id} ({name}) alone")
        }
    };
    mounts.iter().map(|mount| place(mount.borrow())).collect::<Vec<_>>().join(", ")
}

/// Commands to run first, in their order.
fn then(commands: &[String]) -> String {
    let commands: Vec<_> = commands.iter().map(|command| format!("`{command}`")).collect();
    format!("first run {}", commands.join(", then "))
}

/// A path as a word of a shell's command.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let quoted = shlex::try_quote(&text).map(std::borrow::Cow::into_owned);
    escape::text(&quoted.unwrap_or_else(|_| text.into_owned()))
}
