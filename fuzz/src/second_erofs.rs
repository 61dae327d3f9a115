//! The crate `erofs-rs`, which knows nothing of ours, as a second reader of EROFS.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use sane_image::read::{Entry, FileSystem, Kind};

/// Bytes of a file that are compared while fuzzing.
const START: u64 = 64 << 10;
/// Bytes that are compared at once.
const PIECE: usize = 1 << 16;

type Theirs<'a> = EroFS<SliceImage<'a>>;

/// Where the superblock has the algorithms that it may have used, and the bit of zstd in it.
const ALGORITHMS: (usize, u8) = (1024 + 0x54, 1 << 3);

/// The first difference in what was found of an EROFS in `file`, with the start of each file's contents. What erofs-rs
/// does not read is none, nor are contents packed by zstd: of a damaged frame, its decoder makes other bytes than libzstd,
/// which the kernel and we have.
pub fn start(ours: &dyn FileSystem, found: &[(PathBuf, Entry)], file: &File) -> Option<String> {
    let bytes = all_of(file);
    let theirs = EroFS::new(SliceImage::new(&bytes)).ok()?;
    let (at, zstd) = ALGORITHMS;
    let is_zstd = bytes.get(at).is_some_and(|algorithms| algorithms & zstd != 0);
    let max = if is_zstd { 0 } else { START };
    // Of two entries with one name, each reader may choose.
    let same = |one: &(PathBuf, Entry), other: &(PathBuf, Entry)| one.0 == other.0;
    let single = found.chunk_by(same).filter(|entries| entries.len() == 1).flatten();
    single.filter_map(|(path, entry)| difference(ours, &theirs, path, entry, max)?.err()).next()
}

/// All differences between what both read of a sound EROFS, and what erofs-rs does not read, with how many paths there are.
pub fn whole(ours: &dyn FileSystem, file: &File) -> (u64, Vec<String>) {
    let bytes = all_of(file);
    let theirs = match EroFS::new(SliceImage::new(&bytes)) {
        Ok(theirs) => theirs,
        Err(error) => return (0, vec![error.to_string()]),
    };
    let (mut paths, mut differences, mut todo) = (0, Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = todo.pop() {
        for entry in ours.list(&directory).expect("our own image is read") {
            let path = directory.join(&entry.name);
            paths += 1;
            match difference(ours, &theirs, &path, &entry, u64::MAX) {
                Some(Ok(())) => {}
                Some(Err(difference)) => differences.push(difference),
                None => differences.push(format!("{path:?}: not read by erofs-rs")),
            }
            if entry.metadata.kind == Kind::Directory {
                todo.push(path);
            }
        }
    }
    (paths, differences)
}

fn all_of(file: &File) -> Vec<u8> {
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(len).expect("room for it")];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    bytes
}

fn inode(theirs: &Theirs<'_>, path: &Path) -> Option<Inode> {
    let parent = path.parent()?.as_os_str().as_bytes();
    let name = path.file_name()?.as_bytes();
    let entries = theirs.read_dir(parent).ok()?;
    entries.take(200_000).map_while(Result::ok).find(|entry| entry.dir_entry.file_name() == name).map(|entry| entry.inode)
}

/// `None` if erofs-rs does not read it.
fn difference(
    ours: &dyn FileSystem,
    theirs: &Theirs<'_>,
    path: &Path,
    entry: &Entry,
    max: u64,
) -> Option<Result<(), String>> {
    let (own, inode) = (entry.metadata, inode(theirs, path)?);
    let kind = match () {
        () if inode.is_file() => Kind::File,
        () if inode.is_dir() => Kind::Directory,
        () if inode.is_symlink() => Kind::Symlink,
        () => Kind::Special,
    };
    let differ = |what: &str, one: &dyn Debug, other: &dyn Debug| {
        Some(Err(format!("{path:?}: {what} {one:?}, erofs-rs says {other:?}")))
    };
    if kind != own.kind {
        return differ("kind", &own.kind, &kind);
    }
    let of_them = (inode.permissions().mode() & 0o7777, inode.uid(), inode.gid());
    let of_us = (own.permissions, own.uid, own.gid);
    if (u32::from(of_us.0), of_us.1, of_us.2) != of_them {
        return differ("mode and owners", &of_us, &of_them);
    }
    match kind {
        Kind::File if inode.data_size() != own.len => differ("length", &own.len, &inode.data_size()),
        Kind::File => contents(ours, theirs, path, inode, own.len.min(max)),
        Kind::Symlink => {
            let one = ours.read_link(path).ok()?.into_vec();
            let other = theirs.read_link_inode(inode).ok()?.as_bytes().to_vec();
            if one == other { Some(Ok(())) } else { differ("target", &one, &other) }
        }
        Kind::Directory => {
            let mut names = BTreeSet::new();
            for entry in theirs.read_dir(path.as_os_str().as_bytes()).ok()? {
                names.insert(entry.ok()?.dir_entry.file_name().to_vec());
            }
            let own = ours.list(path).ok()?.into_iter().map(|entry| entry.name.into_vec()).collect::<BTreeSet<_>>();
            if own == names { Some(Ok(())) } else { differ("names", &own, &names) }
        }
        Kind::Special => Some(Ok(())),
    }
}

fn contents(
    ours: &dyn FileSystem,
    theirs: &Theirs<'_>,
    path: &Path,
    inode: Inode,
    len: u64,
) -> Option<Result<(), String>> {
    let mut ours = ours.open(path).ok()?;
    let mut theirs = theirs.open_inode_file(inode).ok()?;
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < len {
        let size = usize::try_from(len - at).map_or(PIECE, |rest| rest.min(PIECE));
        if ours.read_at(at, &mut one[..size]).ok()? != size {
            return None;
        }
        theirs.read_exact(&mut other[..size]).ok()?;
        if one[..size] != other[..size] {
            return Some(Err(format!("{path:?}: contents differ from erofs-rs's in the piece from byte {at} on")));
        }
        at += size as u64;
    }
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use sane_image::image::Image;

    use super::*;
    use crate::targets::images::bases;

    /// What differs is seen, of each kind; what does not is not.
    #[test]
    fn differences_are_seen() {
        for base in bases("erofs") {
            base.patched(&[], |file, _| {
                let image = Image::from_file(file.try_clone().unwrap()).unwrap();
                let ours = image.partitions()[0].open().unwrap();
                let (paths, differences) = whole(ours.as_ref(), file);
                assert!(paths > 10 && differences.is_empty(), "{}: {differences:?}", base.name);
                let mut directories = vec![PathBuf::new()];
                let mut found = Vec::new();
                while let Some(directory) = directories.pop() {
                    for entry in ours.list(&directory).unwrap() {
                        let path = directory.join(&entry.name);
                        directories.extend((entry.metadata.kind == Kind::Directory).then(|| path.clone()));
                        found.push((path, entry));
                    }
                }
                assert_eq!(start(ours.as_ref(), &found, file), None);
                let mut changed = |change: fn(&mut Entry), wanted: &str| {
                    let mut found = found.clone();
                    let place = found.iter().position(|(_, entry)| entry.metadata.kind == Kind::File).unwrap();
                    change(&mut found[place].1);
                    let said = start(ours.as_ref(), &found, file).unwrap_or_default();
                    assert!(said.contains(wanted), "{}: {said}", base.name);
                };
                changed(|entry| entry.metadata.len += 1, "length");
                changed(|entry| entry.metadata.permissions ^= 1, "mode and owners");
                changed(|entry| entry.metadata.kind = Kind::Symlink, "kind");
            });
        }
    }
}
