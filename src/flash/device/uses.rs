//! What uses a disk or a partition now: mounts, swap, and devices that other drivers have made of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::host::{Block, Host};
use super::mounted::{Mount, Process, mounts, swaps};

/// The deepest stack of devices that is looked into: crypt on LVM on RAID on multipath is four.
const DEPTH_MAX: usize = 16;

/// What uses a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Where its filesystem is mounted, the last mount first.
    pub mounts: Vec<MountPoint>,
    /// Whether it is swapped to.
    pub is_swap: bool,
    /// The devices that are made of it.
    pub holders: Vec<Holder>,
}

/// A place where a filesystem is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Where.
    pub path: PathBuf,
    /// The process that sees it there, if we do not.
    pub process: Option<Process>,
}

/// A device that is made of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As the kernel names it: `dm-0`.
    pub name: String,
    /// Its node, by the better name if it has one: `/dev/mapper/home`.
    pub node: PathBuf,
    /// What made it.
    pub kind: HolderKind,
    /// What uses it and its partitions.
    pub uses: Uses,
}

/// The drivers that make devices of other devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// dm-crypt, by the name of the mapping.
    Crypt(String),
    /// LVM, by the name of the volume group.
    Lvm(String),
    /// Several ways to one disk, by the name of the mapping.
    Multipath(String),
    /// Device mapper for anybody else, by the name of the mapping.
    Mapper(String),
    /// Software RAID.
    Raid,
    /// A loop device.
    Loop,
    /// A cache.
    Bcache,
    /// Unknown.
    Other,
}

impl HolderKind {
    /// In words that end a sentence.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crypt(_) => "dm-crypt",
            Self::Lvm(_) => "LVM",
            Self::Multipath(_) => "multipath",
            Self::Mapper(_) => "device mapper",
            Self::Raid => "software RAID",
            Self::Loop => "a loop device",
            Self::Bcache => "bcache",
            Self::Other => "another driver",
        }
    }
}

impl Uses {
    /// Whether nothing uses it.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && !self.is_swap && self.holders.is_empty()
    }

    /// All mount points, of the holders too.
    pub fn all_mounts(&self) -> Vec<&MountPoint> {
        let above = self.holders.iter().flat_map(|holder| holder.uses.all_mounts());
        self.mounts.iter().chain(above).collect()
    }

    fn join(&mut self, other: Self) {
        self.mounts.extend(other.mounts);
        self.is_swap |= other.is_swap;
        self.holders.extend(other.holders);
    }
}

/// All mounts and swap areas of the machine.
#[derive(Debug)]
pub(super) struct InUse {
    mounts: Vec<(Mount, BTreeSet<String>)>,
    swaps: Vec<PathBuf>,
    /// Loop devices and what they show.
    loops: Vec<(Block, PathBuf)>,
}

impl InUse {
    pub(super) fn read(host: &Host) -> Self {
        let mounts = mounts(host).into_iter().map(|mount| {
            let blocks = mount.blocks(host);
            (mount, blocks)
        });
        let loops = host.blocks().into_iter().filter_map(|block| {
            let file = PathBuf::from(block.value(host, "loop/backing_file")?);
            Some((block, host.resolve(&file).unwrap_or(file)))
        });
        Self { mounts: mounts.collect(), swaps: swaps(host), loops: loops.collect() }
    }

    /// Mounts as this program sees them, and the names of the devices that they are on.
    pub(super) fn own_mounts(&self) -> impl Iterator<Item = &(Mount, BTreeSet<String>)> {
        self.mounts.iter().filter(|(mount, _)| mount.process.is_none())
    }

    /// What uses a device itself, not its partitions.
    pub(super) fn of(&self, host: &Host, block: &Block) -> Uses {
        self.within(host, block, DEPTH_MAX)
    }

    /// The loop devices that show a file.
    pub(super) fn loops_of(&self, path: &Path) -> Vec<PathBuf> {
        self.loops.iter().filter(|(_, file)| file == path).map(|(block, _)| block.node()).collect()
    }

    /// Whether a file or device is swapped to.
    pub(super) fn is_swap(&self, path: &Path) -> bool {
        self.swaps.iter().any(|swap| swap == path)
    }

    fn within(&self, host: &Host, block: &Block, depth: usize) -> Uses {
        let node = block.node();
        let held = block.list(host, "holders").into_iter().filter_map(|name| host.block(&name));
        let loops = self.loops.iter().filter(|(_, file)| *file == node).map(|(block, _)| block.clone());
        let holders = held.chain(loops).filter(|_| depth > 0);
        let holders = holders.map(|holder| self.holder(host, &holder, depth.saturating_sub(1)));
        Uses { mounts: self.mounts_of(&block.name), is_swap: self.is_swap(&node), holders: holders.collect() }
    }

    fn holder(&self, host: &Host, block: &Block, depth: usize) -> Holder {
        let mut uses = self.within(host, block, depth);
        for (_, partition) in block.partitions(host) {
            uses.join(self.within(host, &partition, depth));
        }
        Holder { name: block.name.clone(), node: good_node(host, block), kind: HolderKind::find(host, block), uses }
    }

    fn mounts_of(&self, name: &str) -> Vec<MountPoint> {
        let mounts = || self.mounts.iter().rev().filter(|(_, blocks)| blocks.contains(name)).map(|(mount, _)| mount);
        let own: Vec<_> = mounts().filter(|mount| mount.process.is_none()).collect();
        // Other views are copies of ours and end with ours, except mounts that are nowhere else.
        let seen = if own.is_empty() { mounts().collect() } else { own };
        seen.into_iter().map(|mount| MountPoint { path: mount.point.clone(), process: mount.process.clone() }).collect()
    }
}

impl HolderKind {
    fn find(host: &Host, block: &Block) -> Self {
        if let Some(name) = block.value(host, "dm/name") {
            let uuid = block.value(host, "dm/uuid").unwrap_or_default();
            return match uuid.split('-').next() {
                Some("CRYPT") => Self::Crypt(name),
                Some("LVM") => Self::Lvm(volume_group(&name)),
                Some("mpath") => Self::Multipath(name),
                _ => Self::Mapper(name),
            };
        }
        match &block.name {
            name if name.starts_with("md") => Self::Raid,
            name if name.starts_with("loop") => Self::Loop,
            name if name.starts_with("bcache") => Self::Bcache,
            _ => Self::Other,
        }
    }
}

/// The node by the name that device mapper's own programs take.
pub(super) fn good_node(host: &Host, block: &Block) -> PathBuf {
    block.value(host, "dm/name").map_or_else(|| block.node(), |name| Path::new("/dev/mapper").join(name))
}

/// The group of `group-volume`, in which LVM doubles the hyphens that are part of a name.
fn volume_group(name: &str) -> String {
    let bytes = name.as_bytes();
    let is_hyphen = |at: usize| bytes.get(at) == Some(&b'-');
    let mut at = 0;
    while at < bytes.len() {
        match (is_hyphen(at), is_hyphen(at.saturating_add(1))) {
            (true, true) => at = at.saturating_add(2),
            (true, false) => break,
            _ => at = at.saturating_add(1),
        }
    }
    name.get(..at).unwrap_or(name).replace("--", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_volume_groups() {
        for (name, group) in [("vg-root", "vg"), ("my--vg-root--x", "my-vg"), ("a----b-c", "a--b"), ("vg", "vg")] {
            assert_eq!(volume_group(name), group);
        }
    }
}
