//! Targets of whole images: an input is the number of a base and patches of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sane_image::image::Image;
use sane_image::image::known;
use sane_image::image::store::StoreLocation;
use sane_image::store::StoreDir;

use super::base::Base;
use super::commands;
use super::files::Files;
use super::seconds;
use super::sums::Sums;

macro_rules! base {
    ($name:literal, $sums:expr) => {
        Base::new($name, include_bytes!(concat!("../bases/", $name, ".zst")), $sums)
    };
}

/// The bases of a target; none if its inputs are texts.
pub(crate) fn bases(target: &str) -> &'static [Base] {
    match target {
        "ext4" => ext4_bases(),
        "btrfs" => btrfs_bases(),
        "vfat" => vfat_bases(),
        "erofs" => erofs_bases(),
        "disk" => disk_bases(),
        "verity" => verity_bases(),
        "database" => database_bases(),
        "container" => container_bases(),
        _ => &[],
    }
}

fn ext4_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("ext4-plain", Sums::none),
            base!("ext4-blocks", Sums::none),
            base!("ext4-journal", Sums::none),
            base!("ext4-ours", Sums::none),
            base!("ext4-sums", Sums::none),
        ]
    })
}

fn btrfs_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("btrfs-ours", Sums::btrfs),
            base!("btrfs-zstd", Sums::btrfs),
            base!("btrfs-lzo", Sums::btrfs),
            base!("btrfs-zlib", Sums::btrfs),
            base!("btrfs-mixed", Sums::btrfs),
        ]
    })
}

fn erofs_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("erofs-ours", Sums::erofs),
            base!("erofs-plain", Sums::erofs),
            base!("erofs-chunks", Sums::erofs),
            base!("erofs-lz4", Sums::erofs),
            base!("erofs-lz4hc", Sums::erofs),
            base!("erofs-zstd", Sums::erofs),
            base!("erofs-deflate", Sums::erofs),
            base!("erofs-fragments", Sums::erofs),
            base!("erofs-dedupe", Sums::erofs),
        ]
    })
}

fn vfat_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("fat12", Sums::none),
            base!("fat16", Sums::none),
            base!("fat32", Sums::none),
            base!("fat-ours", Sums::none),
        ]
    })
}

fn disk_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![base!("disk-ours", Sums::gpt), base!("disk-mbr", Sums::none), base!("disk-4096", Sums::gpt)]
    })
}

pub(super) fn verity_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("verity-ours", Sums::gpt),
            base!("verity-small-blocks", Sums::gpt),
            base!("verity-hashes", Sums::none),
            base!("verity-chromeos", Sums::none),
        ]
    })
}

fn database_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("database", Sums::none),
            base!("database-log", Sums::none),
            base!("database-log-wal", Sums::none),
            base!("database-hot", Sums::none),
            base!("database-hot-journal", Sums::none),
        ]
    })
}

pub(crate) fn container_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            base!("container-qcow2", Sums::none),
            base!("container-qcow2-deflate", Sums::none),
            base!("container-qcow2-zstd", Sums::none),
            base!("container-qcow2-extended", Sums::none),
            base!("container-vmdk", Sums::none),
            base!("container-vmdk-stream", Sums::none),
            base!("container-vhd", Sums::vhd),
            base!("container-vhd-fixed", Sums::vhd),
            base!("container-vhdx", Sums::vhdx),
            base!("container-zst", Sums::none),
        ]
    })
}

/// Chooses the base that the first byte of an input names, and patches it with the rest.
pub(crate) fn patched<T>(bases: &[Base], input: &[u8], look: impl FnOnce(usize, &File, u64) -> T) -> Option<T> {
    let (first, patches) = input.split_first()?;
    let number = usize::from(*first).checked_rem(bases.len())?;
    Some(bases.get(number)?.patched(patches, |file, len| look(number, file, len)))
}

/// Copies an image into a file, leaving out zeros.
pub(crate) fn save(file: &File, len: u64, out: &Path) {
    let out = File::create(out).expect("a file");
    out.set_len(len).expect("a file");
    let mut piece = vec![0; 1 << 16];
    for at in (0..len).step_by(piece.len()) {
        let size = usize::try_from(len - at).map_or(piece.len(), |rest| rest.min(piece.len()));
        file.read_exact_at(&mut piece[..size], at).expect("all of it");
        if piece[..size].iter().any(|&byte| byte != 0) {
            out.write_all_at(&piece[..size], at).expect("a file");
        }
    }
}

/// The image in `file`.
pub(super) fn image(file: &File) -> Option<Image> {
    let file = file.try_clone().expect("one more descriptor");
    match Image::from_file(file) {
        Ok(image) => Some(image),
        Err(error) => {
            drop(error.to_string());
            None
        }
    }
}

pub(crate) fn ext4(input: &[u8]) {
    patched(ext4_bases(), input, |_, file, _| {
        let Some(image) = image(file) else { return };
        seconds::ext4(&image, &commands::all(&image), file);
    });
}

pub(crate) fn btrfs(input: &[u8]) {
    patched(btrfs_bases(), input, |_, file, _| image(file).as_ref().map(commands::all));
}

pub(crate) fn erofs(input: &[u8]) {
    patched(erofs_bases(), input, |_, file, _| {
        let Some(image) = image(file) else { return };
        seconds::erofs(&image, &commands::all(&image), file);
    });
}

pub(crate) fn vfat(input: &[u8]) {
    patched(vfat_bases(), input, |_, file, _| image(file).as_ref().map(commands::all));
}

pub(crate) fn disk(input: &[u8]) {
    patched(disk_bases(), input, |_, file, _| image(file).as_ref().map(commands::all));
}

/// Nix's database as `inspect` and `verify` read it; the files beside it are those of its base.
pub(crate) fn database(input: &[u8]) {
    patched(database_bases(), input, |number, file, len| {
        let bases = database_bases();
        let whole = |number: usize| bases[number].patched(&[], all_of);
        let patched = all_of(file, len);
        let (database, log, journal) = match number {
            0 => (patched, None, None),
            1 => (patched, Some(whole(2)), None),
            2 => (whole(1), Some(patched), None),
            3 => (patched, None, Some(whole(4))),
            _ => (whole(3), None, Some(patched)),
        };
        let mut files = Files::new().file("store/x", b"").file("db.sqlite", &database);
        for (name, contents) in [("db.sqlite-wal", log), ("db.sqlite-journal", journal)] {
            if let Some(contents) = contents {
                files = files.file(name, &contents);
            }
        }
        let location = StoreLocation {
            root: PathBuf::new(),
            store: PathBuf::from("store"),
            registration: None,
            database: Some(PathBuf::from("db.sqlite")),
            store_dir: StoreDir::new("/nix/store").expect("a store"),
        };
        let known = known::read(any_image(), 1, &files, &location);
        let database = known.database.expect("there is one");
        match database.listed.registrations {
            Ok(registrations) => drop(registrations),
            Err(why) => assert!(!why.chars().any(char::is_control), "{why:?}"),
        }
    });
}

fn all_of(file: &File, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).expect("a small file")];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    bytes
}

/// What a database is never looked for in.
fn any_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| vfat_bases()[0].patched(&[], |file, _| image(file).expect("a base is an image")))
}
