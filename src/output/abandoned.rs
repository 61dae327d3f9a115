//! Removes what killed runs have left: hidden files and directories that no living process has locked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock, statfs};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Characters that are put after a prefix to make a name of it.
const RANDOM: usize = 6;
/// The magics of filesystems whose locks are seen by all who can see the file: ext2 to ext4, XFS, btrfs, tmpfs,
/// overlayfs, F2FS, bcachefs, ZFS, vfat, exFAT. On others, other hosts may not see a lock, so nothing is removed.
const LOCAL: [u32; 10] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x4d44,
    0x2011_bab0,
];

/// Whether a new hidden file or directory is ours to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Nobody will remove it.
    Held,
    /// Somebody took it for abandoned before it was locked.
    Lost,
}

/// Locks a new file or directory, as long as it is open.
pub(super) fn lock(file: &File) -> io::Result<Lock> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(Lock::Lost),
        // Whoever cannot lock cannot take it for abandoned either.
        Err(_) => Ok(Lock::Held),
        Ok(()) if file.metadata()?.nlink() == 0 => Ok(Lock::Lost),
        Ok(()) => Ok(Lock::Held),
    }
}

/// Removes our own unused files and directories in `directory` whose names are `prefix` and six characters.
///
/// What cannot be removed stays. That is not an error.
pub(super) fn sweep(directory: &Path, prefix: &str) {
    let is_local = |found: rustix::fs::StatFs| u32::try_from(found.f_type).is_ok_and(|magic| LOCAL.contains(&magic));
    if !statfs(directory).is_ok_and(is_local) {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.as_encoded_bytes().strip_prefix(prefix.as_bytes());
        if random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes one file or directory unless somebody else owns it or has it locked.
fn remove(path: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let (found, named) = (file.metadata()?, || fs::symlink_metadata(path));
    if found.uid() != geteuid().as_raw() {
        return Ok(());
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // Before the lock, it may have been removed, and another one made.
    let named = named()?;
    if (named.dev(), named.ino()) != (found.dev(), found.ino()) {
        return Ok(());
    }
    match found {
        found if found.is_dir() => fs::remove_dir_all(path),
        found if found.is_file() => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = ".x-";

    fn left(directory: &Path) -> Vec<String> {
        sweep(directory, PREFIX);
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in [".x-aaaaaa", ".x-held00", ".x-short", ".x-a-dash", "x-aaaaaa"] {
            fs::write(at(name), "").unwrap();
        }
        for name in [".x-bbbbbb", ".x-held11"] {
            fs::create_dir_all(at(name).join("below")).unwrap();
        }
        std::os::unix::fs::symlink("x-aaaaaa", at(".x-cccccc")).unwrap();
        let held = [".x-held00", ".x-held11"].map(|name| File::open(at(name)).unwrap());
        held.iter().for_each(|file| assert_eq!(lock(file).unwrap(), Lock::Held));
        assert_eq!(left(dir.path()), [".x-a-dash", ".x-cccccc", ".x-held00", ".x-held11", ".x-short", "x-aaaaaa"]);
        // A program that another test has just started may have them open, too, so that to close them would not do.
        held.iter().for_each(|file| flock(file, FlockOperation::Unlock).unwrap());
        assert_eq!(left(dir.path()), [".x-a-dash", ".x-cccccc", ".x-short", "x-aaaaaa"]);
    }

    #[test]
    fn a_lock_that_comes_too_late_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".x-aaaaaa");
        let (mine, theirs) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(lock(&mine).unwrap(), Lock::Lost);
        fs::remove_file(&path).unwrap();
        drop(theirs);
        assert_eq!(lock(&mine).unwrap(), Lock::Lost);
    }
}
