//! Second readers, where both accept what there is: `ext4-view`, which knows nothing of ours, and what `fuzz/` has.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ext4_view::{Ext4, FileType, Path as TheirPath};
use sane_image::image::Image;
use sane_image::read::{Entry, FileSystem, Kind};

use super::commands::Tree;

/// Bytes of a file that are compared.
const MAX_BYTES: usize = 64 << 10;

/// What a map of extents in an inode starts with.
const EXTENT_MAGIC: [u8; 2] = [0x0a, 0xf3];

/// Compares all that both read of an ext4.
pub(crate) fn ext4(image: &Image, trees: &[Tree], file: &File) {
    let ([partition], [tree]) = (image.partitions(), trees) else { return };
    let Ok(ours) = partition.open() else { return };
    let file = file.try_clone().expect("one more descriptor");
    // What it makes of a damaged image is not ours to judge: neither an error nor a panic is a difference.
    let differences = quietly(|| {
        let theirs = Ext4::load(Box::new(file)).ok()?;
        // Of two entries with one name, each reader may choose.
        let same = |one: &(PathBuf, Entry), other: &(PathBuf, Entry)| one.0 == other.0;
        let single = tree.found.chunk_by(same).filter(|entries| entries.len() == 1).flatten();
        let mut differences = single.map(|(path, entry)| difference(ours.as_ref(), &theirs, path, entry));
        differences.find_map(|difference| difference)
    });
    if let Some(Some(difference)) = differences {
        panic!("{difference}");
    }
}

/// Compares an EROFS, and what of it was found, with what another reader makes of it; gives the first difference.
pub(crate) type Compare = fn(&dyn FileSystem, &[(PathBuf, Entry)], &File) -> Option<String>;

/// The second reader of EROFS. It needs a newer Rust than this package, so that only `fuzz/` has it.
pub(crate) static EROFS: OnceLock<Compare> = OnceLock::new();

/// Compares all that both read of an EROFS.
pub(crate) fn erofs(image: &Image, trees: &[Tree], file: &File) {
    let ([partition], [tree], Some(compare)) = (image.partitions(), trees, EROFS.get()) else { return };
    let Ok(ours) = partition.open() else { return };
    if let Some(Some(difference)) = quietly(|| compare(ours.as_ref(), &tree.found, file)) {
        panic!("{difference}");
    }
}

/// Runs what may panic without being at fault for us.
fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(run)).ok();
    set_hook(hook);
    result
}

fn difference(ours: &dyn FileSystem, theirs: &Ext4, path: &Path, entry: &Entry) -> Option<String> {
    let absolute = [b"/", path.as_os_str().as_bytes()].concat();
    let at = TheirPath::try_from(absolute.as_slice()).ok()?;
    let metadata = theirs.symlink_metadata(at).ok()?;
    let kind = match metadata.file_type() {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    };
    let own = entry.metadata;
    let differs = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Some(format!("{path:?}: {what} {one:?}, ext4-view says {other:?}"))
    };
    if kind != own.kind {
        return differs("kind", &own.kind, &kind);
    }
    let of_them = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    if of_them != (own.permissions, own.uid, own.gid) {
        return differs("mode and owners", &(own.permissions, own.uid, own.gid), &of_them);
    }
    match kind {
        Kind::File => {
            if metadata.len() != own.len {
                return differs("length", &own.len, &metadata.len());
            }
            let (one, other) = (start(ours, path)?, their_start(theirs, at)?);
            (one != other).then(|| format!("{path:?}: contents differ from ext4-view's"))
        }
        Kind::Symlink => {
            let (one, other) = (ours.read_link(path).ok()?, theirs.read_link(at).ok()?);
            let other: &[u8] = other.as_ref();
            // By the length alone it takes a short target for one in the inode; the kernel goes by the blocks.
            if other.starts_with(&EXTENT_MAGIC) {
                return None;
            }
            if one.as_bytes() == other { None } else { differs("target", &one, &other) }
        }
        Kind::Directory => {
            let mut names: Vec<Vec<u8>> = Vec::new();
            for entry in theirs.read_dir(at).ok()?.take(5000) {
                names.push(entry.ok()?.file_name().as_ref().to_vec());
            }
            names.retain(|name| name != b"." && name != b"..");
            names.sort();
            let own: Vec<Vec<u8>> = ours.list(path).ok()?.iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
            if own == names { None } else { differs("names", &own.len(), &names.len()) }
        }
        Kind::Special => None,
    }
}

fn start(ours: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MAX_BYTES];
    let len = ours.open(path).ok()?.read_at(0, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

fn their_start(theirs: &Ext4, path: TheirPath<'_>) -> Option<Vec<u8>> {
    let mut file = theirs.open(path).ok()?;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 4096]);
    while bytes.len() < MAX_BYTES {
        match file.read_bytes(&mut piece).ok()? {
            0 => break,
            len => bytes.extend_from_slice(&piece[..len]),
        }
    }
    bytes.truncate(MAX_BYTES);
    Some(bytes)
}
