//! The disks of this machine that a user could want to write to.

use std::path::{Path, PathBuf};

use super::host::Host;
use super::look::{Ask, Machine};
use super::refusal::{Demands, Refusal};
use super::{Attachment, Bus, Device, Kind};

/// The names of disks by what they are.
const BY_ID: &str = "/dev/disk/by-id";
/// The least likeness of a stable name that was meant, of 1.
const LIKENESS: f64 = 0.9;

/// A disk that could be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The device, by the path that stays the same wherever it is attached, if it has one.
    pub device: Device,
    /// Why it would not be written.
    pub refusals: Vec<Refusal>,
}

/// All whole disks that have a medium: removable ones first, then by name.
pub fn candidates(host: &Host, demands: &Demands) -> Vec<Candidate> {
    let names = Names::read(host);
    let blocks = host.blocks();
    // A drive looks at its medium when it is opened.
    for block in blocks.iter().filter(|block| block.is_set(host, "removable") && block.size(host) == 0) {
        drop(host.open(&block.node()));
    }
    let machine = Machine::read(host);
    let devices = blocks.iter().filter(|block| !block.is_set(host, "hidden") && block.size(host) > 0);
    let devices = devices.filter(|block| is_disk(Bus::find(host, block))).map(|block| {
        let path = names.best(&block.node()).unwrap_or_else(|| block.node());
        machine.device(&path, block, Ask::Udev)
    });
    let mut candidates: Vec<_> = devices
        .filter(|device| device.kind == Kind::Disk)
        .map(|device| Candidate { refusals: device.refusals(demands), device })
        .collect();
    candidates.sort_by_key(|candidate| match candidate.device.attachment {
        Attachment::Removable => 0,
        Attachment::Fixed => 1,
        Attachment::File => 2,
    });
    candidates
}

/// Memory is none, nor is what is made of other disks: who wants that knows its name.
fn is_disk(bus: Bus) -> bool {
    !matches!(bus, Bus::Memory | Bus::Mapper | Bus::Raid | Bus::Optical)
}

/// Paths that are nearly what a user named, the likeliest first.
pub(super) fn near(host: &Host, path: &Path) -> Vec<PathBuf> {
    let in_dev = Path::new("/dev").join(path);
    if path.is_relative() && host.block_at(&in_dev).is_some() {
        return vec![in_dev];
    }
    let wanted = path.to_string_lossy().into_owned();
    // A letter beside the right one; loop devices differ by that from each other, and are no cards.
    let disks = host.blocks().into_iter().filter(|block| block.size(host) > 0 && is_disk(Bus::find(host, block)));
    let disks = disks.filter(|block| Bus::find(host, block) != Bus::Loop).map(|block| block.node());
    let beside = disks.filter(|node| strsim::osa_distance(&wanted, &node.to_string_lossy()) == 1);
    let names = Names::read(host).0.into_iter().map(|(name, _)| name);
    let likeness = |name: &Path| strsim::jaro_winkler(&wanted, &name.to_string_lossy());
    let mut alike: Vec<_> = names.map(|name| (likeness(&name), name)).filter(|(like, _)| *like >= LIKENESS).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    beside.chain(alike.into_iter().map(|(_, name)| name)).take(3).collect()
}

/// The stable names of disks and the nodes that they lead to.
struct Names(Vec<(PathBuf, PathBuf)>);

impl Names {
    fn read(host: &Host) -> Self {
        let names = host.list(Path::new(BY_ID)).into_iter().filter(|name| !is_part(name));
        let paths = names.map(|name| Path::new(BY_ID).join(name));
        Self(paths.filter_map(|path| Some((path.clone(), host.resolve(&path).ok()?))).collect())
    }

    /// The name of a node that people can read: with the model in it, and short.
    fn best(&self, node: &Path) -> Option<PathBuf> {
        let names = self.0.iter().filter(|(_, to)| to == node).map(|(name, _)| name);
        names.min_by_key(|name| (is_cryptic(name), name.as_os_str().len(), name.as_path())).cloned()
    }
}

fn is_part(name: &str) -> bool {
    let number = name.rsplit_once("-part").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a name has numbers of the world in it that are printed nowhere.
fn is_cryptic(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefixes = ["wwn-", "nvme-eui.", "nvme-nvme.", "nvme-uuid.", "scsi-3", "dm-uuid-", "md-uuid-", "lvm-pv-uuid-"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}
