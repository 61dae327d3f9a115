//! Devices to write to: what they are, what uses them, and the reasons not to write to them.
//!
//! [`look`] reads what the kernel ([`Host`]: /sys, /proc) and udev know about a path, and what is on the device. Its
//! result is plain data. [`Device::refusals`] judges this data, and reads nothing. [`candidates`] does both for every
//! disk of the machine. Nothing here opens a device for writing.

pub use self::candidates::{Candidate, candidates};
pub use self::contents::Filesystem;
pub use self::describe::{columns, describe, summary};
pub use self::host::{Host, Number};
pub use self::identity::{Attachment, Bus, Identity};
pub use self::look::{Found, RegularFile, look, look_again};
pub use self::mounted::Process;
pub use self::refusal::{Demands, FixedDisk, Reason, Refusal, Refused};
pub use self::size::{exact, human};
pub use self::uses::{Holder, HolderKind, MountPoint, Uses};

mod candidates;
mod contents;
mod describe;
mod host;
mod identity;
mod look;
mod mounted;
mod refusal;
mod size;
mod system;
mod udev;
mod uses;

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

/// A block device as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// As the user named it.
    pub path: PathBuf,
    /// Its node, without links: `/dev/sdb`.
    pub node: PathBuf,
    /// As the kernel names it: `sdb`.
    pub name: String,
    /// Its number.
    pub number: Number,
    /// Whether it is a whole disk.
    pub kind: Kind,
    /// Its model and serial number.
    pub identity: Identity,
    /// How it is attached.
    pub bus: Bus,
    /// Whether it can be taken out.
    pub attachment: Attachment,
    /// Its size in bytes; 0 if there is no medium in it.
    pub size: u64,
    /// The size of its logical sectors in bytes.
    pub sector_size: u64,
    /// The size of its physical sectors in bytes.
    pub physical_sector_size: u64,
    /// Whether the kernel does not let anybody write to it.
    pub is_read_only: bool,
    /// What the kernel has counted up to for this medium, if it counts: another medium has another number.
    pub sequence: Option<u64>,
    /// The kind of its partition table, if it has one: `GPT` or `MBR`.
    pub table: Option<String>,
    /// What is on it where there is no table.
    pub filesystem: Option<Filesystem>,
    /// Whether somebody has looked at what is on it: udev, or this program if it may.
    pub is_known: bool,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// Who uses the device itself.
    pub uses: Uses,
    /// What of the running system is on it: `/`, `/nix/store`.
    pub system: Vec<&'static str>,
    /// Whether somebody has claimed it.
    pub is_claimed: bool,
    /// Whether this program may write to it.
    pub is_permitted: bool,
}

/// What part of the hardware a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of a disk.
    Disk,
    /// A part of a disk.
    Partition {
        /// The node of the disk.
        disk: PathBuf,
        /// The partition's number.
        number: u32,
    },
    /// An area of an eMMC that only firmware uses.
    BootArea {
        /// The node of the eMMC.
        disk: PathBuf,
    },
}

/// A partition of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table.
    pub number: u32,
    /// Its node, if the kernel has made one.
    pub node: Option<PathBuf>,
    /// Its size in bytes.
    pub size: u64,
    /// Its name in the table, or nothing. To be escaped.
    pub name: String,
    /// What is on it.
    pub filesystem: Option<Filesystem>,
    /// Who uses it.
    pub uses: Uses,
}
