//! Made-up machines for tests: the files of /sys, /proc and /run that a kernel and udev would show for other hardware.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::host::Host;
use super::{Demands, Device, FixedDisk, Found, Reason, look};
use crate::units::SectorSize;

pub(super) const GB: u64 = 1_000_000_000;
/// A card reader or a stick, at a port of a PC.
pub(super) const USB: &str = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block";
/// A disk on SATA.
pub(super) const SATA: &str = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block";
/// A slot for cards that hangs on PCI.
pub(super) const SLOT: &str = "pci0000:00/0000:00:1c.0/0000:3b:00.0/rtsx_pci_sdmmc.0/mmc_host/mmc0/mmc0:aaaa/block";
/// A disk on NVMe.
pub(super) const NVME: &str = "pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0";

pub(super) const DEMANDS: Demands =
    Demands { size: GB, sector_size: Some(SectorSize::B512), fixed_disk: FixedDisk::Refused };

pub(super) struct MadeUp(TempDir);

impl MadeUp {
    /// A machine whose system is on /dev/vda, a disk of a virtual machine without partitions.
    pub(super) fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for directory in
            ["sys/block", "sys/class/block", "sys/dev/block", "proc/self", "run", "dev/disk/by-id", "nix/store"]
        {
            fs::create_dir_all(machine.at(directory)).unwrap();
        }
        machine.file("proc/swaps", "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n");
        machine.disk("vda", "254:0", "pci0000:00/0000:00:02.0/virtio1/block", 20 * GB, &[]);
        machine.mount("254:0", "/", "ext4", "/dev/vda", "rw");
        machine
    }

    pub(super) fn host(&self) -> Host {
        Host::made_up(self.0.path())
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn append(&self, path: &str, line: &str) {
        let before = fs::read_to_string(self.at(path)).unwrap_or_default();
        self.file(path, format!("{before}{line}\n"));
    }

    pub(super) fn link(&self, path: &str, to: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(to, self.at(path)).unwrap();
    }

    /// A disk whose directory is in `place` of /sys/devices.
    pub(super) fn disk(&self, name: &str, number: &str, place: &str, size: u64, attributes: &[(&str, &str)]) {
        let directory = format!("sys/devices/{place}/{name}");
        self.block(&directory, name, number, size);
        self.link(&format!("sys/block/{name}"), &format!("../devices/{place}/{name}"));
        let device = if place.ends_with("block") { "../.." } else { ".." };
        self.link(&format!("{directory}/device"), device);
        self.file(&format!("{directory}/queue/logical_block_size"), "512\n");
        self.file(&format!("{directory}/queue/physical_block_size"), "512\n");
        self.file(&format!("{directory}/removable"), "0\n");
        self.file(&format!("{directory}/ro"), "0\n");
        for (attribute, value) in attributes {
            self.set(name, attribute, value);
        }
    }

    pub(super) fn partition(&self, disk: &str, number: u32, device_number: &str, size: u64) {
        let digit = disk.ends_with(|c: char| c.is_ascii_digit());
        let name = format!("{disk}{}{number}", if digit { "p" } else { "" });
        let disk = fs::canonicalize(self.at(&format!("sys/class/block/{disk}"))).unwrap();
        let disk = disk.strip_prefix(self.0.path().canonicalize().unwrap()).unwrap().to_owned();
        let directory = format!("{}/{name}", disk.display());
        self.block(&directory, &name, device_number, size);
        self.file(&format!("{directory}/partition"), format!("{number}\n"));
    }

    fn block(&self, directory: &str, name: &str, number: &str, size: u64) {
        let below = directory.trim_start_matches("sys/");
        self.file(&format!("{directory}/dev"), format!("{number}\n"));
        self.file(&format!("{directory}/size"), format!("{}\n", size / 512));
        fs::create_dir_all(self.at(directory).join("holders")).unwrap();
        fs::create_dir_all(self.at(directory).join("slaves")).unwrap();
        self.link(&format!("sys/class/block/{name}"), &format!("../../{below}"));
        self.link(&format!("sys/dev/block/{number}"), &format!("../../{below}"));
        self.file(&format!("dev/{name}"), "");
    }

    /// An attribute of a block device.
    pub(super) fn set(&self, name: &str, attribute: &str, value: &str) {
        self.file(&format!("sys/class/block/{name}/{attribute}"), format!("{value}\n"));
    }

    /// `by`, a device of another driver, is made of `of`.
    pub(super) fn hold(&self, of: &str, by: &str) {
        self.link(&format!("sys/class/block/{of}/holders/{by}"), &format!("/sys/class/block/{by}"));
        self.link(&format!("sys/class/block/{by}/slaves/{of}"), &format!("/sys/class/block/{of}"));
    }

    /// A mapping of device mapper.
    pub(super) fn mapping(&self, name: &str, number: &str, mapping: &str, uuid: &str, of: &[&str]) {
        self.disk(name, number, "virtual/block", GB, &[("dm/name", mapping), ("dm/uuid", uuid)]);
        self.link(&format!("dev/mapper/{mapping}"), &format!("../{name}"));
        of.iter().for_each(|of| self.hold(of, name));
    }

    pub(super) fn mount(&self, number: &str, point: &str, kind: &str, source: &str, options: &str) {
        self.mount_for("self", number, point, kind, source, options);
    }

    /// A mount that one process sees.
    pub(super) fn mount_for(&self, process: &str, number: &str, point: &str, kind: &str, source: &str, options: &str) {
        let line = format!("1 1 {number} / {point} rw shared:1 - {kind} {source} {options}");
        self.append(&format!("proc/{process}/mountinfo"), &line);
    }

    pub(super) fn swap(&self, path: &str) {
        self.append("proc/swaps", &format!("{path}\tpartition\t1048572\t0\t-2"));
    }

    pub(super) fn udev(&self, number: &str, properties: &[(&str, &str)]) {
        let lines = properties.iter().map(|(key, value)| format!("E:{key}={value}\n"));
        self.file(&format!("run/udev/data/b{number}"), lines.collect::<String>());
    }

    pub(super) fn look(&self, path: &str) -> Device {
        match look(&self.host(), Path::new(path)).unwrap() {
            Found::Device(device) => *device,
            other => panic!("{other:?}"),
        }
    }

    /// What is said of a device, without its name, and the kinds of reasons.
    pub(super) fn refusals(&self, path: &str) -> (Vec<Reason>, Vec<String>) {
        let refusals = self.look(path).refusals(&DEMANDS);
        let reasons = refusals.iter().filter_map(super::Refusal::reason).collect();
        (reasons, refusals.iter().map(super::Refusal::why).collect())
    }
}
