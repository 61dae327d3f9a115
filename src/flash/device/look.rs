//! Looks at the path that a user named.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::contents::{self, Contents, Entry};
use super::host::{Block, Host, Node, Patience};
use super::identity::{Attachment, Bus, Identity};
use super::refusal::{Demands, Refusal, Refused};
use super::system::{self, System};
use super::udev::Properties;
use super::uses::{InUse, good_node};
use super::{Device, Filesystem, Kind, Partition, candidates};

/// Something that can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A block device.
    Device(Box<Device>),
    /// A regular file, which is taken for a disk.
    File(RegularFile),
}

/// A regular file in the place of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegularFile {
    /// As the user named it.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// The loop devices that show it.
    pub loops: Vec<PathBuf>,
    /// Whether it is swapped to.
    pub is_swap: bool,
    /// Whether this program may write to it.
    pub is_permitted: bool,
}

/// The file that a program left in /dev when it wrote to a device that was not there.
const LEFT_OVER: &str = "regular file in memory, left by a program that found no device there (`rm` removes it)";

/// All that is read once for all devices of a machine.
pub(super) struct Machine<'a> {
    pub(super) host: &'a Host,
    pub(super) in_use: InUse,
    pub(super) system: System,
}

/// Which source is asked first what is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The device itself.
    Device,
    /// Udev, which knows without reading: a sick disk answers in minutes.
    Udev,
    /// Nobody.
    Nobody,
}

/// Looks at a path of the machine.
///
/// # Errors
/// If there is nothing that could be a disk, with the names of disks that may be meant.
pub fn look(host: &Host, path: &Path) -> Result<Found, Refusal> {
    look_by(host, path, Ask::Device)
}

fn look_by(host: &Host, path: &Path, ask: Ask) -> Result<Found, Refusal> {
    let node = match host.node(path) {
        Ok(node) => node,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Refusal::Missing { path: path.to_owned(), near: candidates::near(host, path) });
        }
        Err(source) => return Err(Refusal::Unreadable { path: path.to_owned(), why: source.to_string() }),
    };
    let machine = || Machine::read(host);
    match node {
        Node::Block(number) => {
            // A drive looks at its medium when it is opened; the mounts are read after that.
            drop(host.open(path));
            let unknown = || Refusal::Unreadable { path: path.to_owned(), why: unknown_device(number) };
            let block = host.block_of(number).ok_or_else(unknown)?;
            Ok(Found::Device(Box::new(machine().device(path, &block, ask))))
        }
        Node::File(size) => {
            let (in_use, real) = (InUse::read(host), host.resolve(path).unwrap_or_else(|_| path.to_owned()));
            if real.starts_with("/dev") && !real.starts_with("/dev/shm") {
                return Err(Refusal::NotADevice { path: path.to_owned(), kind: LEFT_OVER });
            }
            let (loops, is_swap) = (in_use.loops_of(&real), in_use.is_swap(&real));
            let is_permitted = host.may_write(path);
            Ok(Found::File(RegularFile { path: path.to_owned(), size, loops, is_swap, is_permitted }))
        }
        Node::Other(kind) => Err(Refusal::NotADevice { path: path.to_owned(), kind }),
    }
}

fn unknown_device(number: super::Number) -> String {
    format!("/sys/dev/block has no device {number}; is the drive still there, and is /sys mounted?")
}

/// Looks at a device once more, just before it is written.
///
/// # Errors
/// If another one, or another medium, is there now, or if it must not be written any more.
pub fn look_again(host: &Host, before: &Device, demands: &Demands) -> Result<(), Refused> {
    let now = match look_by(host, &before.path, Ask::Nobody).map_err(|refusal| Refused(vec![refusal]))? {
        Found::Device(now) => now,
        Found::File(_) => return Err(Refused(vec![Refusal::changed(before, "is no device any more")])),
    };
    match before.difference(&now) {
        Some(why) => Err(Refused(vec![Refusal::changed(before, why)])),
        None => Refused::unless_empty(now.refusals(demands)),
    }
}

impl Device {
    /// What differs from the device that was there before, if it is another one.
    fn difference(&self, now: &Self) -> Option<&'static str> {
        if (self.number, &self.name, &self.kind) != (now.number, &now.name, &now.kind) {
            Some("is another device now")
        } else if self.sequence != now.sequence {
            Some("has another medium now, or was taken out and put in again")
        } else if self.size != now.size {
            Some("has another size now")
        } else if self.identity != now.identity {
            Some("has another model or serial number now")
        } else {
            None
        }
    }
}

impl<'a> Machine<'a> {
    pub(super) fn read(host: &'a Host) -> Self {
        let in_use = InUse::read(host);
        let system = system::find(host, &in_use);
        Self { host, in_use, system }
    }

    /// A block device that the user named by `path`.
    pub(super) fn device(&self, path: &Path, block: &Block, ask: Ask) -> Device {
        let host = self.host;
        let number = block.number(host).unwrap_or_default();
        let udev = Properties::read(host, number);
        let (bus, size) = (Bus::find(host, block), block.size(host));
        let disk = block.disk(host);
        // A partition has these of its disk.
        let whole = disk.as_ref().unwrap_or(block);
        let (contents, partitions) = self.contents(block, &udev, size, ask);
        let sector = |attribute| whole.integer(host, attribute).filter(|&size| size > 0).unwrap_or(512);
        let uses = self.in_use.of(host, block);
        let is_used = !uses.is_empty() || partitions.iter().any(|partition| !partition.uses.is_empty());
        Device {
            path: path.to_owned(),
            node: block.node(),
            name: block.name.clone(),
            number,
            kind: self.kind(block),
            identity: Identity::find(host, whole, &udev),
            bus,
            attachment: Attachment::find(host, whole, bus),
            size,
            sector_size: sector("queue/logical_block_size"),
            physical_sector_size: sector("queue/physical_block_size"),
            is_read_only: block.is_set(host, "ro") || whole.is_set(host, "ro"),
            sequence: whole.integer(host, "diskseq"),
            table: contents.table.map(str::to_owned),
            filesystem: contents.filesystem,
            is_known: contents.is_known,
            partitions,
            uses,
            system: self.system.get(&block.name).into_iter().flatten().copied().collect(),
            is_claimed: size > 0 && host.is_claimed(path, if is_used { Patience::None } else { Patience::Some }),
            is_permitted: host.may_write(path),
        }
    }

    fn kind(&self, block: &Block) -> Kind {
        let host = self.host;
        if let Some(disk) = block.disk(host) {
            let number = block.integer(host, "partition").and_then(|number| u32::try_from(number).ok());
            return Kind::Partition { disk: good_node(host, &disk), number: number.unwrap_or(0) };
        }
        let boot = block.name.split_once("boot").filter(|(disk, _)| disk.starts_with("mmcblk"));
        if let Some((disk, _)) = boot {
            return Kind::BootArea { disk: Path::new("/dev").join(disk) };
        }
        // kpartx makes partitions by device mapper: part1-mpath-….
        let uuid = block.value(host, "dm/uuid").unwrap_or_default();
        let number = uuid.strip_prefix("part").and_then(|rest| rest.split_once('-')?.0.parse().ok());
        let slaves = block.list(host, "slaves");
        match (number, slaves.first().and_then(|name| host.block(name))) {
            (Some(number), Some(disk)) => Kind::Partition { disk: good_node(host, &disk), number },
            _ => Kind::Disk,
        }
    }

    /// What is on a device, and its partitions with all that is known about them from any source.
    fn contents(&self, block: &Block, udev: &Properties, size: u64, ask: Ask) -> (Contents, Vec<Partition>) {
        let host = self.host;
        let told = block.partitions(host).into_iter().map(|(number, part)| {
            let udev = part.number(host).map(|number| Properties::read(host, number)).unwrap_or_default();
            (number, part, udev)
        });
        let told: Vec<_> = told.collect();
        let table = udev.get("ID_PART_TABLE_TYPE");
        let is_known = table.is_some() || udev.get("ID_FS_TYPE").is_some();
        // A disc that is no medium of data answers with errors, each after a while.
        let is_disk = Bus::find(host, block) != Bus::Optical;
        let is_read = size > 0 && is_disk && (ask == Ask::Device || ask == Ask::Udev && !is_known);
        let read = is_read.then(|| host.open(&block.node()).ok()).flatten();
        let is_known = is_known || read.is_some();
        let mut contents = read.map(|file| contents::read(file, size)).unwrap_or_default();
        contents.is_known = is_known;
        contents.table = contents.table.or(match table.as_deref() {
            Some("gpt") => Some("GPT"),
            Some("dos") => Some("MBR"),
            _ => None,
        });
        contents.filesystem = contents.filesystem.or_else(|| contents::of_udev(udev));
        let mut partitions: Vec<_> = told
            .iter()
            .map(|(number, part, udev)| {
                let entry = contents.entries.iter().find(|entry| entry.number == *number);
                self.partition(*number, part, udev, entry)
            })
            .collect();
        // A kernel that was not asked to make nodes has none.
        let others = contents.entries.iter().filter(|entry| told.iter().all(|(number, ..)| *number != entry.number));
        partitions.extend(others.map(Partition::of_table));
        partitions.sort_by_key(|partition| partition.number);
        (contents, partitions)
    }

    fn partition(&self, number: u32, block: &Block, udev: &Properties, entry: Option<&Entry>) -> Partition {
        let name = entry.map(|entry| entry.name.clone()).filter(|name| !name.is_empty());
        let filesystem: Option<Filesystem> = entry.and_then(|entry| entry.filesystem.clone());
        Partition {
            number,
            node: Some(block.node()),
            size: block.size(self.host),
            name: name.or_else(|| udev.encoded("ID_PART_ENTRY_NAME")).unwrap_or_default(),
            filesystem: filesystem.or_else(|| contents::of_udev(udev)),
            uses: self.in_use.of(self.host, block),
        }
    }
}

impl Partition {
    fn of_table(entry: &Entry) -> Self {
        Self {
            number: entry.number,
            node: None,
            size: entry.size,
            name: entry.name.clone(),
            filesystem: entry.filesystem.clone(),
            uses: super::Uses::default(),
        }
    }
}
