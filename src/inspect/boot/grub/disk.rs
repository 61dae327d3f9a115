//! The image as GRUB sees it: devices with names, and files on them.

use std::path::{Path, PathBuf};

use super::super::{BootFs, FileReport, MAX_PATH, Numbering, Parts, Place, Volume, filesystem, shown};
use crate::read::resolve::{AtRoot, Last};
use crate::read::{Format, Kind, Metadata, escape, resolve};

/// As GRUB calls the disk that it was started from.
const DISK: &str = "hd0";
/// As much of what grub-editenv writes as is read; it writes 1024 bytes.
const MAX_ENVIRONMENT: u64 = 1 << 14;

pub(in super::super) struct Disk<'a> {
    pub(super) parts: &'a Parts<'a>,
}

impl<'a> Disk<'a> {
    /// The partitions with a filesystem, in order.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &'a Volume<'a>> {
        self.parts.volumes.iter()
    }

    /// A partition's name.
    pub(super) fn device(&self, number: u32) -> String {
        match self.parts.numbering {
            Numbering::Gpt => format!("{DISK},gpt{number}"),
            Numbering::Mbr => format!("{DISK},msdos{number}"),
            Numbering::None => DISK.to_owned(),
        }
    }

    /// The number of the partition of this name, if it is one with a filesystem.
    fn number(&self, device: &str) -> Option<u32> {
        let number = match (self.parts.numbering, device.strip_prefix(DISK)?) {
            (Numbering::None, "") => self.parts.volumes.first()?.number,
            (numbering, rest) => {
                let rest = rest.strip_prefix(',')?;
                let kind = if numbering == Numbering::Gpt { "gpt" } else { "msdos" };
                rest.strip_prefix(kind).unwrap_or(rest).parse().ok()?
            }
        };
        self.volumes().any(|volume| volume.number == number).then_some(number)
    }

    /// What is at a path such as `(hd0,gpt2)/boot/grub`; without a device it is on `root`.
    pub(super) fn find(&self, path: &str, root: Option<&str>) -> Option<(u32, PathBuf, Metadata)> {
        let (device, path) = match path.strip_prefix('(') {
            Some(rest) => rest.split_once(')')?,
            None => (root?, path),
        };
        let number = self.number(device)?;
        let (path, metadata) = self.find_on(number, path)?;
        Some((number, path, metadata))
    }

    /// What is at a path of a partition.
    pub(super) fn find_on(&self, number: u32, path: &str) -> Option<(PathBuf, Metadata)> {
        let fs = self.volumes().find(|volume| volume.number == number)?.fs;
        if path.len() > MAX_PATH || !path.starts_with('/') {
            return None;
        }
        if fs.summary().format == Format::Vfat {
            let place = BootFs { partition: number, fs, nix: None }.place(path).ok()?;
            let metadata = fs.metadata(&place).ok()?;
            return Some((place, metadata));
        }
        resolve(fs, &AtRoot, Path::new(path), Last::Follow).ok()
    }

    /// A file that an entry names; `raw` is how it is written.
    pub(super) fn file(&self, raw: &str, path: Option<&str>, root: Option<&str>) -> FileReport {
        let found = path.and_then(|path| self.find(path, root));
        let found = found.filter(|(_, _, metadata)| metadata.kind == Kind::File);
        let found =
            found.map(|(partition, path, metadata)| Place { partition, path: shown(&path), size: metadata.len });
        FileReport { path: escape::text(raw), found }
    }

    /// What grub-editenv wrote to a file.
    pub(super) fn environment(&self, path: &str, root: Option<&str>) -> Option<String> {
        let (number, path, metadata) = self.find(path, root)?;
        let fs = self.volumes().find(|volume| volume.number == number)?.fs;
        if metadata.kind != Kind::File {
            return None;
        }
        let bytes = filesystem::read_up_to(fs, &path, MAX_ENVIRONMENT).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
