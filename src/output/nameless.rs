//! Files without a name. Nobody sees them, and they are gone when their process ends, even if it is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::Builder;

use super::HIDDEN;

/// Opens a new file on the filesystem of `directory`, of which `path` is a directory.
///
/// # Errors
/// If the filesystem knows no such files, or whatever else the operating system says.
pub fn open_at(directory: impl AsFd, path: &Path, mode: Mode) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, path, flags, mode)?))
}

/// Gives a file without a name the free name `name` in `directory`.
///
/// # Errors
/// If something has that name, or whatever else the operating system says.
pub fn link_at(file: &File, directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    // The way that needs no privilege.
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, own, directory, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// Whether files without a name can be made on the filesystem of a directory, and given names later.
///
/// There are filesystems without links, and places without /proc: better to know that before than after the work.
pub fn can_link(directory: impl AsFd) -> bool {
    let probe = open_at(&directory, Path::new("."), Mode::from(0o600));
    let link = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        link_at(probe.as_ref().map_err(|error| io::Error::from(error.kind()))?, &directory, name)?;
        Ok(rustix::fs::unlinkat(&directory, name, AtFlags::empty())?)
    };
    // Its name is gone when it has one.
    Builder::new().prefix(HIDDEN).make_in("", link).map(|named| named.into_temp_path().keep()).is_ok()
}

/// Opens a new file in a directory, if it can be given a name later.
pub(super) fn open(directory: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    if !can_link(&directory) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    open_at(directory, Path::new("."), Mode::from(mode))
}

/// Gives a file a hidden name in a directory, which goes when it is dropped.
pub(super) fn hidden(directory: &Path, file: &File) -> io::Result<tempfile::TempPath> {
    let named = Builder::new().prefix(HIDDEN).make_in(directory, |path| link_at(file, CWD, path.as_os_str()))?;
    Ok(named.into_temp_path())
}
