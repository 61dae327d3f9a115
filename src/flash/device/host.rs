//! The machine, as its kernel and udev describe it: the directories /sys, /proc, /dev and /run. They are read below one
//! root directory. That is `/`, except in tests.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::escapes::octal;

/// The number of a device. At one time no other device has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// The number of its driver. 0 is for filesystems that are on no device, or on several.
    pub major: u32,
    /// Its number among the driver's devices.
    pub minor: u32,
}

impl Number {
    fn new(device: u64) -> Self {
        Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }

    /// As sysfs writes it: `8:16`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// How often, and how long each time, to wait for a program that has a device open for a moment: one that looks for
/// filesystems on a device that was just plugged in.
const TURNS: u32 = 20;
const TURN: Duration = Duration::from_millis(50);

/// Whether a claim may pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    Some,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Node {
    Block(Number),
    File(u64),
    /// In words.
    Other(&'static str),
}

/// Where the machine is described.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Host {
    /// A made-up machine in a directory. Nobody but root can make devices there: a file in its /dev is the device of that
    /// name in its /sys.
    #[cfg(test)]
    pub(super) fn made_up(root: &Path) -> Self {
        Self { root: root.canonicalize().unwrap() }
    }

    /// Where an absolute path of the machine is; a relative one is the user's.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(inside) => self.root.join(inside),
            Err(_) => path.to_owned(),
        }
    }

    /// The path without links.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let real = fs::canonicalize(self.at(path))?;
        Ok(real.strip_prefix(&self.root).map(|inside| Path::new("/").join(inside)).unwrap_or(real))
    }

    /// What is at a path.
    pub(super) fn node(&self, path: &Path) -> io::Result<Node> {
        let found = fs::metadata(self.at(path))?;
        let kind = found.file_type();
        Ok(if kind.is_block_device() {
            Node::Block(Number::new(found.rdev()))
        } else if let Some(number) = self.made_up_number(path, &found) {
            Node::Block(number)
        } else if kind.is_file() {
            Node::File(found.len())
        } else {
            Node::Other(crate::output::kind_name(kind))
        })
    }

    fn made_up_number(&self, path: &Path, found: &Metadata) -> Option<Number> {
        if self.root == Path::new("/") || !found.is_file() {
            return None;
        }
        let name = self.resolve(path).ok()?.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
        self.block(&name)?.number(self)
    }

    /// Opens a device to read it. A drive looks at its medium then, and the kernel's description of it becomes true.
    pub(super) fn open(&self, node: &Path) -> io::Result<File> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(self.at(node))
    }

    /// Whether another program has opened a device exclusively.
    pub(super) fn is_claimed(&self, node: &Path, patience: Patience) -> bool {
        let flags = (OFlags::EXCL | OFlags::NONBLOCK).bits().cast_signed();
        let is_claimed = || {
            let opened = OpenOptions::new().read(true).custom_flags(flags).open(self.at(node));
            opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        };
        let turns = if patience == Patience::Some { TURNS } else { 0 };
        is_claimed()
            && (0..turns).all(|_| {
                thread::sleep(TURN);
                is_claimed()
            })
    }

    /// Whether this program may read and write a file.
    pub(super) fn may_write(&self, node: &Path) -> bool {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let access = Access::READ_OK | Access::WRITE_OK;
        accessat(CWD, self.at(node), access, AtFlags::EACCESS).is_ok()
    }

    /// A file of /sys, /proc or /run.
    pub(super) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        fs::read(self.at(path)).ok()
    }

    /// One value in a file of its own, or `None` if there is none or it is empty.
    pub(super) fn value(&self, path: &Path) -> Option<String> {
        let text = String::from_utf8_lossy(&self.read(path)?).into_owned();
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Where a link leads, word for word.
    pub(super) fn link(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(self.at(path)).ok()
    }

    /// The names in a directory, sorted as people count: sdb2 before sdb10.
    pub(super) fn list(&self, directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(self.at(directory)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        names
    }

    /// The block device of this name.
    pub(super) fn block(&self, name: &str) -> Option<Block> {
        self.block_in(&Path::new("/sys/class/block").join(name))
    }

    /// The block device of this number.
    pub(super) fn block_of(&self, number: Number) -> Option<Block> {
        self.block_in(&Path::new("/sys/dev/block").join(number.to_string()))
    }

    /// The block device at a path of /dev or at one that leads there.
    pub(super) fn block_at(&self, path: &Path) -> Option<Block> {
        match self.node(path) {
            Ok(Node::Block(number)) => self.block_of(number),
            _ => None,
        }
    }

    /// All block devices that are no partitions.
    pub(super) fn blocks(&self) -> Vec<Block> {
        self.list(Path::new("/sys/block")).iter().filter_map(|name| self.block(name)).collect()
    }

    fn block_in(&self, link: &Path) -> Option<Block> {
        let directory = self.resolve(link).ok()?;
        let name = directory.file_name()?.to_str()?.to_owned();
        Some(Block { name, directory })
    }
}

/// A block device's directory in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// As sysfs has it.
    pub(super) name: String,
    pub(super) directory: PathBuf,
}

impl Block {
    pub(super) fn value(&self, host: &Host, attribute: &str) -> Option<String> {
        host.value(&self.directory.join(attribute))
    }

    pub(super) fn integer(&self, host: &Host, attribute: &str) -> Option<u64> {
        self.value(host, attribute)?.parse().ok()
    }

    pub(super) fn is_set(&self, host: &Host, attribute: &str) -> bool {
        self.integer(host, attribute).is_some_and(|value| value != 0)
    }

    pub(super) fn has(&self, host: &Host, attribute: &str) -> bool {
        host.at(&self.directory.join(attribute)).exists()
    }

    pub(super) fn list(&self, host: &Host, directory: &str) -> Vec<String> {
        host.list(&self.directory.join(directory))
    }

    pub(super) fn number(&self, host: &Host) -> Option<Number> {
        Number::parse(&self.value(host, "dev")?)
    }

    /// In bytes: sysfs counts in 512 whatever the sectors are.
    pub(super) fn size(&self, host: &Host) -> u64 {
        self.integer(host, "size").unwrap_or(0).saturating_mul(512)
    }

    /// Its node in /dev.
    pub(super) fn node(&self) -> PathBuf {
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    /// Its partitions by number.
    pub(super) fn partitions(&self, host: &Host) -> Vec<(u32, Self)> {
        let names = self.list(host, "");
        let blocks = names.iter().map(|name| Self { name: name.clone(), directory: self.directory.join(name) });
        let mut partitions: Vec<_> =
            blocks.filter_map(|block| Some((u32::try_from(block.integer(host, "partition")?).ok()?, block))).collect();
        partitions.sort_by_key(|(number, _)| *number);
        partitions
    }

    /// The disk that a partition is of.
    pub(super) fn disk(&self, host: &Host) -> Option<Self> {
        let parent = self.directory.parent().filter(|_| self.has(host, "partition"))?;
        Some(Self { name: parent.file_name()?.to_str()?.to_owned(), directory: parent.to_owned() })
    }
}

/// The path that a field of /proc stands for.
pub(super) fn unescape(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(octal(field)))
}
