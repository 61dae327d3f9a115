//! Our own readers, run over images and held against what others say is in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sane_image::image;
use sane_image::read::{Bytes, Entry, Fault, FileSystem, Format, Kind, ReadError, Window};
use sane_image::units::ByteOffset;

use super::image::Partition;

/// The bytes of a partition of an image.
pub(crate) fn window(image: &Path, partition: Partition) -> Window {
    let file = File::open(image).unwrap();
    let len = file.metadata().unwrap().len();
    Window::new(file, len).slice(ByteOffset(partition.offset), partition.size).unwrap()
}

/// A filesystem of any format; what bears no magic is left to FAT to refuse.
pub(crate) fn open(bytes: Arc<dyn Bytes>) -> Result<Box<dyn FileSystem>, ReadError> {
    let format = image::recognise(&*bytes).unwrap_or(Format::Vfat);
    image::open_filesystem(format, bytes)
}

/// What our writers could not write again: of the whole filesystem, then of each file, with its path.
///
/// # Panics
/// If something cannot be read.
pub(crate) fn obstacles(filesystem: &dyn FileSystem) -> Vec<String> {
    let (found, errors) = walk(filesystem, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let mut all = filesystem.obstacles().unwrap();
    for path in [PathBuf::new()].into_iter().chain(found.into_keys()) {
        let rest = filesystem.rest(&path).unwrap();
        all.extend(rest.obstacles.iter().map(|obstacle| format!("{}: {obstacle}", path.display())));
    }
    all
}

/// What the check of its format finds.
pub(crate) fn check(bytes: &dyn Bytes) -> Result<Vec<Fault>, ReadError> {
    image::check_filesystem(image::recognise(bytes).unwrap_or(Format::Vfat), bytes, NonZeroUsize::MIN)
}

/// The faults as lines; an error is one, too.
pub(crate) fn faults(bytes: &dyn Bytes) -> Vec<String> {
    match check(bytes) {
        Ok(faults) => faults.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// # Panics
/// If there is a fault.
#[track_caller]
pub(crate) fn expect_sound(image: &Path, partition: Partition) {
    assert_eq!(faults(&window(image, partition)), [""; 0]);
}

/// All contents of a file, read in pieces of an odd size.
pub(crate) fn contents(filesystem: &dyn FileSystem, path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut file = filesystem.open(path)?;
    let (mut all, mut piece) = (Vec::new(), vec![0; 70_001]);
    loop {
        let read = file.read_at(all.len() as u64, &mut piece)?;
        all.extend_from_slice(&piece[..read]);
        if read == 0 || all.len() as u64 >= most {
            return Ok(all);
        }
    }
}

/// The paths of all files of a filesystem, with what is known of each; at most `most` of them.
pub(crate) fn walk(filesystem: &dyn FileSystem, most: usize) -> (BTreeMap<PathBuf, Entry>, Vec<ReadError>) {
    let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop().filter(|_| found.len() < most) {
        match filesystem.list(&directory) {
            Err(error) => errors.push(error),
            Ok(entries) => {
                for entry in entries {
                    let path = directory.join(&entry.name);
                    if entry.metadata.kind == Kind::Directory && path.components().count() < 64 {
                        todo.push(path.clone());
                    }
                    found.insert(path, entry);
                }
            }
        }
    }
    (found, errors)
}

/// Where our reader and a directory of the host differ.
pub(crate) fn differences(filesystem: &dyn FileSystem, root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    compare_directory(filesystem, root, Path::new(""), &mut found);
    found
}

fn compare_directory(filesystem: &dyn FileSystem, root: &Path, at: &Path, found: &mut Vec<String>) {
    let ours = match filesystem.list(at) {
        Ok(entries) => entries,
        Err(error) => return found.push(format!("{}: {error}", at.display())),
    };
    let mut theirs: Vec<OsString> =
        fs::read_dir(root.join(at)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    theirs.sort();
    let names: Vec<&OsString> = ours.iter().map(|entry| &entry.name).collect();
    if names != theirs.iter().collect::<Vec<_>>() {
        found.push(format!("{}: {names:?} are not {theirs:?}", at.display()));
        return;
    }
    for entry in ours {
        let path = at.join(&entry.name);
        if let Err(difference) = compare_entry(filesystem, root, &path, &entry) {
            found.push(format!("{}: {difference}", path.display()));
        }
        if entry.metadata.kind == Kind::Directory {
            compare_directory(filesystem, root, &path, found);
        }
    }
}

fn compare_entry(filesystem: &dyn FileSystem, root: &Path, path: &Path, entry: &Entry) -> Result<(), String> {
    let (theirs, ours) = (fs::symlink_metadata(root.join(path)).unwrap(), entry.metadata);
    let kind = match theirs.file_type() {
        t if t.is_dir() => Kind::Directory,
        t if t.is_file() => Kind::File,
        t if t.is_symlink() => Kind::Symlink,
        t => {
            assert!(t.is_fifo() || t.is_char_device() || t.is_block_device() || t.is_socket());
            Kind::Special
        }
    };
    let len = if kind == Kind::Directory { ours.len } else { theirs.len() };
    let wanted = (kind, theirs.mode() & 0o7777, theirs.uid(), theirs.gid(), len, theirs.mtime());
    let is = (ours.kind, u32::from(ours.permissions), ours.uid, ours.gid, ours.len, ours.mtime);
    if is != wanted {
        return Err(format!("{is:?} should be {wanted:?}"));
    }
    if filesystem.metadata(path).map_err(|error| error.to_string())? != ours {
        return Err("its metadata differ from its directory's".to_owned());
    }
    match kind {
        Kind::Symlink => {
            let target = filesystem.read_link(path).map_err(|error| error.to_string())?;
            (target == fs::read_link(root.join(path)).unwrap()).then_some(()).ok_or("another target".to_owned())
        }
        Kind::File => {
            let bytes = contents(filesystem, path, u64::MAX).map_err(|error| error.to_string())?;
            (bytes == fs::read(root.join(path)).unwrap()).then_some(()).ok_or("other contents".to_owned())
        }
        _ => Ok(()),
    }
}

/// A partition in memory with one bit turned, for as long as `look` looks.
pub(crate) fn with_flip<T>(bytes: &mut Vec<u8>, at: usize, bit: u8, look: impl FnOnce(&Vec<u8>) -> T) -> T {
    bytes[at] ^= 1 << bit;
    let seen = look(bytes);
    bytes[at] ^= 1 << bit;
    seen
}

/// A partition in memory.
pub(crate) fn load(image: &Path, partition: Partition) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(partition.size).unwrap()];
    File::open(image).unwrap().read_exact_at(&mut bytes, partition.offset).unwrap();
    bytes
}

/// Opens, walks, reads and checks any bytes at all; that it comes back is the point.
pub(crate) fn exercise(bytes: impl Bytes + 'static) {
    const MOST: u64 = 1 << 20;
    let bytes: Arc<dyn Bytes> = Arc::new(bytes);
    if let Ok(filesystem) = open(Arc::clone(&bytes)) {
        let (found, _) = walk(&*filesystem, 2000);
        drop(filesystem.obstacles());
        for (path, entry) in found {
            drop(filesystem.rest(&path));
            match entry.metadata.kind {
                Kind::File => drop(contents(&*filesystem, &path, MOST)),
                Kind::Symlink => drop(filesystem.read_link(&path)),
                _ => drop(filesystem.metadata(&path)),
            }
        }
    }
    if let Ok(faults) = check(&*bytes) {
        assert!(faults.len() <= 1001);
    }
}
