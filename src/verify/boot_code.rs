//! What a BIOS starts: whether it is whole, and GRUB's what its files say.

use std::path::{Path, PathBuf};

use super::{Fault, Place, Report};
use crate::grub::embedded::{self, Code, Embedded, differs_from_boot};
use crate::grub::format::CORE_MAX;
use crate::image::Image;
use crate::read::{self, FileSystem, Kind, ReadError, escape};

/// Where GRUB's files are, from what is mounted at /, or from a filesystem of their own; Fedora says grub2.
const DIRECTORIES: [&str; 4] = ["boot/grub/i386-pc", "grub/i386-pc", "boot/grub2/i386-pc", "grub2/i386-pc"];
/// As many directories of a filesystem's root are looked into: they can be subvolumes with a root each.
const ROOTS: usize = 64;

/// Adds what is wrong with the boot code of a disk. Returns the partition without a filesystem that it is in.
pub(super) fn check(image: &Image, report: &mut Report) -> Option<u32> {
    if image.is_bare() {
        return None;
    }
    let disk = image.bytes();
    let found = match embedded::look(&disk, image.table(), image.mbr()) {
        Ok(found) => found,
        Err(error) => {
            report.faults.push(Fault::of_error(Place::Table, "boot code", error));
            return None;
        }
    };
    report.faults.extend(found.faults.iter().map(|fault| Fault::structure(Place::Table, fault.clone())));
    report.notes.extend(found.notes.iter().cloned());
    if found.code == Code::Grub && found.stage.is_some() {
        compare(image, &found, report);
    }
    found.stage.and_then(|stage| stage.partition)
}

/// Compares with the files from which it was written. Where there are several, with one of them it has to agree.
fn compare(image: &Image, found: &Embedded, report: &mut Report) {
    let mut differences = Vec::new();
    for (partition, files) in files(image) {
        let place = format!("partition {partition}, {}", escape::path(&files.directory));
        match differs(image, found, &files) {
            Ok(None) => return,
            Ok(Some(fault)) => differences.push(format!("{} ({place})", fault.why)),
            Err(error) => report.notes.push(format!("GRUB's files, {place}, cannot be read: {error}")),
        }
    }
    match differences.into_iter().next() {
        Some(why) => {
            let fault = read::Fault { what: "boot code".to_owned(), why };
            report.faults.push(Fault::structure(Place::Table, fault));
        }
        None => report.notes.push("GRUB's boot code was not compared: its files were not found".to_owned()),
    }
}

fn differs(image: &Image, found: &Embedded, files: &Files) -> Result<Option<read::Fault>, ReadError> {
    let disk = image.bytes();
    let core = found.differs_from_core(&disk, &files.core)?;
    match (core, &files.boot) {
        (None, Some(boot)) => differs_from_boot(&disk, boot),
        (core, _) => Ok(core),
    }
}

/// What `grub-install` keeps of what it writes to a disk.
struct Files {
    directory: PathBuf,
    core: Vec<u8>,
    boot: Option<Vec<u8>>,
}

/// All that are on the disk, and the number of their partition.
fn files(image: &Image) -> Vec<(u32, Files)> {
    let mut found = Vec::new();
    for partition in image.partitions().iter().filter(|partition| partition.format().is_some()) {
        // What cannot be read here is told by the check of the filesystem.
        let Ok(fs) = partition.open() else { continue };
        for root in roots(fs.as_ref()) {
            let directories = DIRECTORIES.iter().map(|directory| root.join(directory));
            let all = directories.filter_map(|directory| {
                let core = contents(fs.as_ref(), &directory.join("core.img"))?;
                let boot = contents(fs.as_ref(), &directory.join("boot.img"));
                Some((partition.number, Files { directory, core, boot }))
            });
            found.extend(all);
        }
    }
    found
}

/// Where a running system may have its root in a filesystem.
fn roots(fs: &dyn FileSystem) -> Vec<PathBuf> {
    let entries = fs.list(Path::new("")).unwrap_or_default().into_iter();
    let directories = entries.filter(|entry| entry.metadata.kind == Kind::Directory).take(ROOTS);
    std::iter::once(PathBuf::new()).chain(directories.map(|entry| PathBuf::from(entry.name))).collect()
}

/// A file's contents, if it can be read and is no larger than those of GRUB.
fn contents(fs: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let len = usize::try_from(fs.metadata(path).ok()?.len).ok().filter(|&len| len <= CORE_MAX)?;
    let mut bytes = vec![0; len];
    let read = fs.open(path).ok()?.read_at(0, &mut bytes).ok()?;
    (read == len).then_some(bytes)
}
