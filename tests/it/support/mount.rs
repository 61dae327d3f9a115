//! The kernel as an oracle: loop devices and mounts, gone again when dropped.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use tempfile::TempDir;

use super::image::Partition;
use super::skip::{Lack, skip};
use super::tool::{need, need_root, run, tool};

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// A file as a block device.
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    /// A partition of an image, or `None` where that cannot be, which has been told.
    pub(crate) fn of_partition(image: &Path, partition: Partition, access: Access) -> Option<Self> {
        let Partition { offset, size, .. } = partition;
        let range = [format!("--offset={offset}"), format!("--sizelimit={size}")];
        Self::attach(image, access, range)
    }

    /// A whole disk of this sector size, or `None` where that cannot be, which has been told.
    pub(crate) fn of_disk(image: &Path, sector_size: u32, access: Access) -> Option<Self> {
        Self::attach(image, access, [format!("--sector-size={sector_size}")])
    }

    /// A whole disk of this sector size whose partitions the kernel knows, or `None` where that cannot be.
    pub(crate) fn with_partitions(image: &Path, sector_size: u32) -> Option<Self> {
        let device = Self::of_disk(image, sector_size, Access::ReadWrite).filter(|_| need("partx"))?;
        // Not `--partscan`: a kernel can know partitions and no tables.
        run(tool("partx").arg("--update").arg(device.path()));
        Some(device)
    }

    /// The node of a partition.
    pub(crate) fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.0.display()))
    }

    fn attach(image: &Path, access: Access, options: impl IntoIterator<Item = String>) -> Option<Self> {
        let control = Path::new("/dev/loop-control").exists();
        if !need_root() || !need("losetup") || !(control || skip(Lack::other("no loop devices"))) {
            return None;
        }
        let read_only = (access == Access::ReadOnly).then_some("--read-only");
        let said = run(tool("losetup").args(["--find", "--show"]).args(read_only).args(options).arg(image));
        Some(Self(PathBuf::from(String::from_utf8(said).unwrap().trim_end())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl LoopDevice {
    /// Waits until nobody has it: programs of other tests that start with mounts of their own, such as systemd-repart,
    /// hold what is mounted here, and until they end the kernel keeps in memory what belongs on the device.
    fn wait(&self) {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::EXCL.bits().cast_signed());
        // Its partitions, too: mkfs.btrfs, in another test, looks into every device for a moment.
        let nodes = || std::iter::once(self.0.clone()).chain((1..=4).map(|number| self.partition(number)));
        let is_busy = |node: PathBuf| options.open(node).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy);
        let is_held = || nodes().any(is_busy);
        (0..TURNS).take_while(|_| is_held()).for_each(|_| thread::sleep(TURN));
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        self.wait();
        // The next file of this device would have them else.
        if self.partition(1).exists() {
            clean_up("partx", &["--delete"], &self.0);
        }
        clean_up("losetup", &["--detach"], &self.0);
    }
}

/// How often, and how long each time, a mount that is in use is waited for: a program that another test is just starting
/// has a moment's hold of whatever is open in this process.
const TURNS: usize = 600;
const TURN: Duration = Duration::from_millis(50);

/// A directory with something mounted on it, until this is dropped.
pub(crate) struct MountPoint(PathBuf);

impl MountPoint {
    /// Runs `mount ARGUMENTS POINT`.
    ///
    /// # Panics
    /// If that fails.
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, point: &Path) -> Self {
        run(tool("mount").args(arguments).arg(point));
        Self(point.to_owned())
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        for _ in 0..TURNS {
            match tool("umount").arg(&self.0).output() {
                Ok(output) if output.status.success() => return,
                Ok(output) if String::from_utf8_lossy(&output.stderr).contains("busy") => thread::sleep(TURN),
                _ => break,
            }
        }
        clean_up("umount", &["--lazy"], &self.0);
    }
}

/// A mounted filesystem.
pub(crate) struct Mount {
    // In this order: it is unmounted, the directory removed, and the device detached last.
    _mounted: MountPoint,
    point: TempDir,
    device: LoopDevice,
    /// The kernel knows a btrfs by its UUID, which many tests' images share: one at a time.
    _turn: Option<MutexGuard<'static, ()>>,
}

static BTRFS: Mutex<()> = Mutex::new(());

impl Mount {
    /// Mounts a partition of an image, or gives `None` where that cannot be, which has been told.
    ///
    /// # Panics
    /// If the kernel knows such filesystems and refuses this one.
    pub(crate) fn new(image: &Path, partition: Partition, fs_type: &str, access: Access) -> Option<Self> {
        Self::with_options(image, partition, fs_type, access, "")
    }

    /// The same with more mount options, separated by commas.
    pub(crate) fn with_options(
        image: &Path,
        partition: Partition,
        fs_type: &str,
        access: Access,
        more: &str,
    ) -> Option<Self> {
        if !need_root() || !need("mount") || !need_filesystem(fs_type) {
            return None;
        }
        let turn = (fs_type == "btrfs").then(|| BTRFS.lock().unwrap_or_else(PoisonError::into_inner));
        let device = LoopDevice::of_partition(image, partition, access)?;
        let point = tempfile::Builder::new().prefix("mount-").tempdir().unwrap();
        let options = match access {
            Access::ReadOnly => "ro",
            Access::ReadWrite => "rw",
        };
        let options = if more.is_empty() { options.to_owned() } else { format!("{options},{more}") };
        let arguments = ["-t", fs_type, "-o", &options].map(OsStr::new).into_iter().chain([device.path().as_os_str()]);
        let mounted = MountPoint::new(arguments, point.path());
        Some(Self { _mounted: mounted, point, device, _turn: turn })
    }

    /// The mounted root directory.
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// The block device under it.
    pub(crate) fn device(&self) -> &Path {
        self.device.path()
    }
}

/// Whether the kernel mounts a partition, which may change, with just these options. `None` where that cannot be tried,
/// which the summary tells.
pub(crate) fn is_mounted_with(image: &Path, partition: Partition, fs_type: &str, options: &str) -> Option<bool> {
    if !need_root() || !need("mount") || !need_filesystem(fs_type) {
        return None;
    }
    let _turn = (fs_type == "btrfs").then(|| BTRFS.lock().unwrap_or_else(PoisonError::into_inner));
    let device = LoopDevice::of_partition(image, partition, Access::ReadWrite)?;
    let point = tempfile::Builder::new().prefix("mount-").tempdir().unwrap();
    let mut mount = tool("mount");
    let tried = mount.args(["-t", fs_type, "-o", options]).args([device.path(), point.path()]).output().unwrap();
    let is_mounted = tried.status.success();
    drop(is_mounted.then(|| MountPoint(point.path().to_owned())));
    Some(is_mounted)
}

/// Whether the kernel knows a filesystem. If not, the test skips it.
fn need_filesystem(fs_type: &str) -> bool {
    let known = || {
        let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        text.lines().any(|line| line.trim_start_matches("nodev").trim() == fs_type)
    };
    if !known() {
        tool("modprobe").args(["-q", fs_type]).status().ok();
    }
    known() || skip(Lack::Other(format!("the kernel cannot mount {fs_type}")))
}

/// Runs what a drop has to run; tells of failure, since it cannot panic.
fn clean_up(name: &str, arguments: &[&str], path: &Path) {
    let output = tool(name).args(arguments).arg(path).output();
    if !output.as_ref().is_ok_and(|output| output.status.success()) {
        writeln!(std::io::stderr(), "{name} {}: {output:?}", path.display()).ok();
    }
}
