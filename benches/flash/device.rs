//! A loop device that the kernel slows down.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the kernel is told how much a device may write (Documentation/admin-guide/cgroup-v1/blkio-controller.rst).
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";
/// The unit in which the kernel counts what was written, in bytes.
const SECTOR: u64 = 512;

/// A device with a file behind it; both go when it is dropped.
pub(crate) struct Device {
    path: PathBuf,
    file: PathBuf,
}

impl Device {
    /// A device of `size` bytes, all of them 0x55 and on the disk.
    pub(crate) fn new(file: &Path, size: u64) -> Self {
        let mut to = File::create(file).expect("cannot make the device's file");
        io::copy(&mut io::repeat(0x55).take(size), &mut to).expect("cannot fill the device's file");
        to.sync_all().expect("cannot write out the device's file");
        let made = Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(file).output();
        let made = made.expect("cannot start losetup");
        assert!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim().to_owned());
        Self { path, file: file.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn sys(&self, name: &str) -> String {
        let device = self.path.file_name().expect("a device").to_string_lossy().into_owned();
        fs::read_to_string(format!("/sys/block/{device}/{name}")).expect("the device is in /sys")
    }

    /// Lets it write so many bytes in a second; 0 for as many as it can.
    pub(crate) fn throttle(&self, speed: u64) {
        let line = format!("{} {speed}", self.sys("dev").trim());
        let told = OpenOptions::new().write(true).open(THROTTLE).and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(told.is_ok() || speed == 0, "{THROTTLE}: {told:?}");
    }

    /// The bytes that were written to it (Documentation/block/stat.rst: the seventh number).
    pub(crate) fn written(&self) -> u64 {
        let sectors = self.sys("stat").split_whitespace().nth(6).and_then(|number| number.parse::<u64>().ok());
        sectors.expect("a number") * SECTOR
    }

    /// Returns when all is on it.
    pub(crate) fn sync(&self) {
        File::open(&self.path).and_then(|device| device.sync_all()).expect("the device takes all");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.throttle(0);
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        let _ = fs::remove_file(&self.file);
    }
}
