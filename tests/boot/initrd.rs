//! The initrd of a guest: what stage 1 runs, and from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use crate::archive::archive;
use crate::guest::fixture;
use crate::support::tree::{Entries, Entry};

/// What the initrd loads, in this order: disks; FAT and the two code pages of its names; btrfs.
const MODULES: [&str; 17] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "fat",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "libcrc32c",
    "zstd_compress",
    "raid6_pq",
    "xor-neon",
    "xor",
    "blake2b_generic",
    "btrfs",
];

/// The initrd of a kernel with these modules, which mounts what `fstab` lists.
pub(crate) fn initrd(busybox: &[u8], modules: &Path, fstab: &str) -> Vec<u8> {
    initrd_with("stage-1", busybox, modules, fstab)
}

/// The same with another of the fixtures as its init.
pub(crate) fn initrd_with(init: &str, busybox: &[u8], modules: &Path, fstab: &str) -> Vec<u8> {
    initrd_of(init, busybox, modules, &[], [(b"fstab".to_vec(), Entry::file(fstab))].into())
}

/// The same with more modules, loaded after the others, and with these files.
pub(crate) fn initrd_of(init: &str, busybox: &[u8], modules: &Path, more: &[&str], files: Entries) -> Vec<u8> {
    let find = |name: &str| {
        let file = format!("{name}.ko");
        let mut files = WalkDir::new(modules).into_iter().map(Result::unwrap);
        Some((
            file.clone(),
            Entry::file(fs::read(files.find(|entry| entry.file_name() == file.as_str())?.path()).unwrap()),
        ))
    };
    // A kernel that lacks one has it built in, or has no use for it: xor-neon.
    let found: Vec<_> = MODULES.iter().chain(more).filter_map(|name| Some((name, find(name)?))).collect();
    let order: String = found.iter().map(|(name, _)| format!("{name}\n")).collect();
    let modules = found.into_iter().map(|(_, module)| module).chain([("order".to_owned(), Entry::file(order))]);
    let root = Entry::dir([
        ("bin", Entry::dir([("busybox", Entry::executable(busybox))])),
        ("dev", Entry::Dir(BTreeMap::new())),
        ("init", Entry::executable(fixture(init))),
        ("mnt-root", Entry::Dir(BTreeMap::new())),
        ("modules", Entry::dir(modules)),
        ("proc", Entry::Dir(BTreeMap::new())),
        ("sys", Entry::Dir(BTreeMap::new())),
    ]);
    let Entry::Dir(mut entries) = root else { unreachable!() };
    entries.extend(files);
    archive(&entries)
}
