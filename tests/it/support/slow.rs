//! Slow devices: the kernel gives a control group so many bytes a second of one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::skip::{Lack, skip};
use super::tool::{need_root, tool};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A control group in which a device is slow, until this is dropped.
pub(crate) struct Slow {
    group: PathBuf,
    script: String,
}

impl Slow {
    /// So many bytes a second are read from a block device, and written to it. `None` where the kernel cannot do that,
    /// which has been told.
    pub(crate) fn new(device: &Path, read: u64, written: u64) -> Option<Self> {
        if !need_root() {
            return None;
        }
        let number = fs::metadata(device).unwrap().rdev();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let name = format!("sane-image-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let first = Path::new("/sys/fs/cgroup/blkio");
        let (root, limits) = if first.join("blkio.throttle.write_bps_device").exists() {
            let limit =
                |way: &str, bytes: u64| (format!("blkio.throttle.{way}_bps_device"), format!("{number} {bytes}"));
            (first, vec![limit("read", read), limit("write", written)])
        } else {
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+io");
            (Path::new("/sys/fs/cgroup"), vec![("io.max".to_owned(), format!("{number} rbps={read} wbps={written}"))])
        };
        let group = root.join(name);
        let lack = || skip(Lack::other("no control groups that make a device slow"));
        if fs::create_dir(&group).is_err() {
            lack();
            return None;
        }
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
        let slow = Self { group, script };
        if limits.iter().any(|(file, limit)| fs::write(slow.group.join(file), limit).is_err()) {
            lack();
            return None;
        }
        Some(slow)
    }

    /// The same command in the group; it keeps its process.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut shell = tool("sh");
        shell.args(["-c", &self.script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}
