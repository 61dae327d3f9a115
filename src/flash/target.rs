//! A block device or a regular file to write to, past the page cache.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::Space;
use super::medium::{Medium, UNIT};
use crate::ioctl;
use crate::output::kind_name;
use crate::read::escape;
use crate::units::ByteOffset;

/// How long udev, which has a moment's look at a device, is waited for.
const TURNS: u32 = 40;
const TURN: Duration = Duration::from_millis(50);

/// The permission bits of a file that are its owner's, and those of all others.
const OWNER: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Why a path cannot be written to. Each error names the path and what to do.
#[derive(Debug, Error)]
pub enum TargetError {
    /// The operating system refuses.
    #[error("{path}: cannot be opened for writing: {error}{}", remedy(error))]
    Open {
        /// As the user named it, escaped.
        path: String,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Somebody else has it.
    #[error(
        "{0}: is in use: it or a partition of it is mounted, is swap, or is held by device mapper, md or LVM; unmount it \
         (lsblk shows where), and run the command again"
    )]
    Busy(String),
    /// It cannot be written to.
    #[error("{0}: is write-protected: cards have a switch for that, and `blockdev --setrw` undoes a setting by hand")]
    ReadOnly(String),
    /// It exists, but an image cannot be written to it.
    #[error("{path}: is a {what}; name a block device, or a file")]
    Kind {
        /// As the user named it, escaped.
        path: String,
        /// Such as "directory".
        what: &'static str,
    },
    /// There is no such device, and a file must not be made there.
    #[error("{0}: there is no such device; lsblk shows those that there are")]
    NoDevice(String),
    /// It is the source itself.
    #[error("{0}: is the source itself; name another device")]
    Itself(String),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run the command as root, or as a user who may write to it",
        _ => "",
    }
}

/// An opened device or file. Nobody mounts a device meanwhile, nor does udev look at it.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    name: String,
    file: File,
    /// The same file, opened to bypass the page cache; a device is always opened so.
    direct: Option<File>,
    size: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Device { sector_size: u64, discard_unit: Option<u64> },
    File { is_new: bool },
}

/// How a file is made, or lengthened if it is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The bytes that it has at least.
    pub size: u64,
    /// Its permission bits before the umask, if it is made. If only the owner has any, a file that exists loses the
    /// bits of all others.
    pub mode: u32,
}

impl Target {
    /// Opens a block device exclusively, or a regular file. A file that is missing or too short is made or lengthened.
    /// Nothing is written.
    ///
    /// `source` is the file that is read at the same time, if there is one.
    ///
    /// # Errors
    /// If it is something else, in use, write-protected, or cannot be opened.
    pub fn open(path: &Path, source: Option<&Path>, new: NewFile) -> Result<Self, TargetError> {
        let name = escape::path(path);
        let failed = |error: io::Error| TargetError::Open { path: name.clone(), error };
        match fs::metadata(path) {
            Ok(found) => {
                if source.is_some_and(|source| is_one(source, path) || is_one(path, source)) {
                    return Err(TargetError::Itself(name));
                }
                match found.file_type() {
                    kind if kind.is_block_device() => Self::device(path, name, found.rdev()),
                    kind if kind.is_file() => Self::existing(path, name.clone(), new).map_err(failed),
                    kind => Err(TargetError::Kind { path: name, what: kind_name(kind) }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_among_devices(path) => {
                Err(TargetError::NoDevice(name))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(path, name.clone(), new).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn device(path: &Path, name: String, number: u64) -> Result<Self, TargetError> {
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC | OFlags::DIRECT;
        let failed = |error: io::Error| TargetError::Open { path: name.clone(), error };
        let opened = (0..TURNS).find_map(|_| match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::BUSY) => {
                thread::sleep(TURN);
                None
            }
            opened => Some(opened),
        });
        if about(number).is_some_and(|device| number_in(&device.join("ro")) == Some(1))
            || matches!(opened, Some(Err(Errno::ROFS)))
        {
            return Err(TargetError::ReadOnly(name));
        }
        let Some(opened) = opened else { return Err(TargetError::Busy(name)) };
        let mut file = File::from(opened.map_err(|error| failed(error.into()))?);
        // While this is locked, udev does not look at it, and looks when it is closed. Without a lock all is well, too.
        let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
        (0..TURNS).take_while(|_| lock()).for_each(|_| thread::sleep(TURN));
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let sector_size = rustix::fs::ioctl_blksszget(&file).map_err(|error| failed(error.into()))?.into();
        let discard_unit = discard_unit(number).map(|unit| unit.max(sector_size));
        Ok(Self {
            path: path.to_owned(),
            name,
            file,
            direct: None,
            size,
            kind: Kind::Device { sector_size, discard_unit },
        })
    }

    fn existing(path: &Path, name: String, new: NewFile) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another program has locked it; wait for that to end")
        })?;
        let metadata = file.metadata()?;
        // A private file loses other users' permissions before its first byte is written.
        if new.mode & OTHERS == 0 && metadata.mode() & OTHERS != 0 {
            file.set_permissions(Permissions::from_mode(metadata.mode() & OWNER))?;
        }
        let len = metadata.len();
        if len < new.size {
            file.set_len(new.size)?;
        }
        Ok(Self::of_file(path, name, file, len.max(new.size), false))
    }

    fn make(path: &Path, name: String, new: NewFile) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(new.mode).open(path)?;
        let lock = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        let made = lock.map_err(io::Error::from).and_then(|()| file.set_len(new.size));
        let target = Self::of_file(path, name, file, new.size, true);
        made.inspect_err(|_| target.remove())?;
        Ok(target)
    }

    fn of_file(path: &Path, name: String, file: File, size: u64, is_new: bool) -> Self {
        let direct = open_direct(&file).ok();
        Self { path: path.to_owned(), name, file, direct, size, kind: Kind::File { is_new } }
    }

    /// The device that a disk must be laid out for.
    pub fn space(&self) -> Space {
        let sector_size = match self.kind {
            Kind::Device { sector_size, .. } => Some(sector_size),
            Kind::File { .. } => None,
        };
        Space { size: self.size, sector_size, limit: None }
    }

    /// Whether it is a file that was not there before.
    pub fn is_new_file(&self) -> bool {
        matches!(self.kind, Kind::File { is_new: true })
    }

    /// Removes the file if it was not there before: half an image is useless.
    pub fn remove(&self) {
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = self.file.metadata().map(id).ok();
        if self.is_new_file() && ours.is_some() && fs::symlink_metadata(&self.path).map(id).ok() == ours {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn is_whole_units(&self, at: ByteOffset, len: usize) -> bool {
        at.0.is_multiple_of(UNIT) && (len as u64).is_multiple_of(UNIT)
    }
}

/// Whether one is the other, a partition of the other, or the file behind the other, a loop device.
fn is_one(one: &Path, other: &Path) -> bool {
    let (Ok(of_one), Ok(of_other)) = (fs::metadata(one), fs::metadata(other)) else { return false };
    if (of_one.dev(), of_one.ino()) == (of_other.dev(), of_other.ino()) {
        return true;
    }
    let device =
        |metadata: &fs::Metadata| metadata.file_type().is_block_device().then(|| about(metadata.rdev())).flatten();
    let Some(other) = device(&of_other) else { return false };
    let backing = fs::read_to_string(other.join("loop/backing_file")).unwrap_or_default();
    let is_behind = one.canonicalize().is_ok_and(|one| one.as_os_str() == backing.trim_end_matches('\n'));
    is_behind || device(&of_one).is_some_and(|one| one.starts_with(&other))
}

/// Whether the directory of a path is one of devices: a file made there is gone with the next start, and fills memory.
fn is_among_devices(path: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = absolute.parent().and_then(|parent| parent.canonicalize().ok()).unwrap_or(absolute);
    there.starts_with("/dev") && !there.starts_with("/dev/shm")
}

/// The kernel's directory about a device.
fn about(number: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// The number in a file of such a directory.
fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The unit in which a device discards, in bytes, if it can.
fn discard_unit(number: u64) -> Option<u64> {
    let device = about(number)?;
    // A partition has none of its own.
    let whole = if device.join("partition").exists() { device.parent()?.to_owned() } else { device };
    let unit = number_in(&whole.join("queue/discard_granularity"))?.max(UNIT);
    (number_in(&whole.join("queue/discard_max_bytes"))? > 0).then_some(unit)
}

fn open_direct(file: &File) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT;
    rustix::fs::open(Path::new(&path), flags, Mode::empty()).map(File::from)
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Whether the operating system says that it cannot do such things at all.
fn is_unsupported(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NODEV].contains(&error)
}

impl Medium for Target {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&self, bytes: &[u8], at: ByteOffset) -> io::Result<()> {
        // A filesystem may open a file for direct writes and then refuse this write.
        let direct = self.direct.as_ref().filter(|_| self.is_whole_units(at, bytes.len()));
        match direct.map(|direct| direct.write_all_at(bytes, at.0)) {
            Some(Err(error)) if is_invalid(&error) => self.file.write_all_at(bytes, at.0),
            Some(written) => written,
            None => self.file.write_all_at(bytes, at.0),
        }
    }

    fn read_at(&self, bytes: &mut [u8], at: ByteOffset) -> io::Result<()> {
        let direct = self.direct.as_ref().filter(|_| self.is_whole_units(at, bytes.len()));
        match direct.map(|direct| direct.read_exact_at(bytes, at.0)) {
            Some(Err(error)) if is_invalid(&error) => {}
            Some(read) => return read,
            None => {}
        }
        if matches!(self.kind, Kind::File { .. }) {
            // Everything was flushed, so the kernel can drop its copy.
            let _ = rustix::fs::fadvise(&self.file, at.0, NonZeroU64::new(bytes.len() as u64), Advice::DontNeed);
        }
        self.file.read_exact_at(bytes, at.0)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn zero(&self, range: Range<u64>) -> io::Result<bool> {
        if matches!(self.kind, Kind::Device { .. }) {
            return Ok(false);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, range.start, range.end.saturating_sub(range.start)) {
            Ok(()) => Ok(true),
            Err(error) if is_unsupported(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn discard_unit(&self) -> Option<u64> {
        match self.kind {
            Kind::Device { discard_unit, .. } => discard_unit,
            Kind::File { .. } => Some(UNIT),
        }
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        match self.kind {
            Kind::Device { .. } => ioctl::discard(&self.file, &range),
            Kind::File { .. } => match self.zero(range)? {
                true => Ok(()),
                false => Err(Errno::OPNOTSUPP.into()),
            },
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self.kind {
            Kind::Device { .. } => match ioctl::reread_partitions(&self.file) {
                // A loop device may be one without partitions, and a partition has none.
                Err(error) if is_invalid(&error) => Ok(()),
                reread => reread,
            },
            Kind::File { .. } => Ok(()),
        }
    }
}
