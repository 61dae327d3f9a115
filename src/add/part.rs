//! One filesystem of an image, laid out again.

use std::fs::File;
use std::ops::Range;

use uuid::Uuid;

use super::AddError;
use super::merge::{Merged, merge};
use crate::btrfs::volume::Volumes;
use crate::build::BuildError;
use crate::build::nix::{Choice, NixPart};
use crate::copy::Means;
use crate::disk::region::Region;
use crate::image::Partition;
use crate::read::{Bytes, Format, Method, ReadError, Summary};
use crate::source::own::OwnEntry;
use crate::source::tree::FileTree;
use crate::spec::Compression;
use crate::units::{ByteOffset, SectorSize};
use crate::vfat::{self, VfatError, VfatLayout, VfatParams};

/// Where a FAT's boot sector says how long its sectors are.
const SECTOR_SIZE_AT: ByteOffset = ByteOffset(11);

/// A partition with its filesystem laid out again, ready to be written.
pub(super) struct NewPart<'a> {
    pub(super) partition: &'a Partition,
    /// How many files it has in the place of others.
    pub(super) replaced: u64,
    filesystem: NewFilesystem,
    /// Whether the partition becomes as large as its filesystem.
    grows: bool,
}

enum NewFilesystem {
    Boot { tree: Box<FileTree>, layout: Box<VfatLayout> },
    Nix(Box<NixPart>),
}

impl<'a> NewPart<'a> {
    /// Reads a filesystem, and lays it out with `own`, unless that is there already; at the end of a disk it may grow.
    pub(super) fn prepare(
        partition: &'a Partition,
        own: &[OwnEntry],
        grows: bool,
        means: Means<'_>,
    ) -> Result<Option<Self>, AddError> {
        let fs = partition.open()?;
        let summary = fs.summary().clone();
        if summary.format == Format::Erofs {
            return Err(AddError::ReadOnly { number: partition.number });
        }
        means.progress.stage(&format!("reading partition {}", partition.number), 0, 0);
        let merged = merge(fs.as_ref(), own, means.cancel)?;
        if !merged.is_new {
            return Ok(None);
        }
        let replaced = merged.replaced;
        let filesystem = match summary.format {
            Format::Vfat => {
                let layout = VfatLayout::new(&merged.tree, &vfat_params(partition, &summary)?);
                let layout = layout.map_err(|error| of_image(error, partition.number))?;
                NewFilesystem::Boot { tree: Box::new(merged.tree), layout: Box::new(layout) }
            }
            Format::Ext4 | Format::Btrfs | Format::Erofs => {
                let nix = lay_out(partition, &summary, merged)?;
                let nix = if grows { nix.at_least(partition.size)? } else { within(nix, &summary, partition)? };
                NewFilesystem::Nix(Box::new(nix))
            }
        };
        Ok(Some(Self { partition, replaced, filesystem, grows }))
    }

    /// The size of the new partition in bytes; until it is written, the most that it can become.
    pub(super) fn size(&self) -> u64 {
        match &self.filesystem {
            NewFilesystem::Nix(nix) if self.grows => nix.partition_size(),
            _ => self.partition.size,
        }
    }

    /// The bytes of the old image, `len` bytes long, that the new one does not have.
    pub(super) fn gone(&self, len: u64) -> Range<u64> {
        let start = self.partition.offset.0.min(len);
        // Behind the last partition is the end of the partition table, which is written anew if the size changes.
        let end = if self.size() == self.partition.size { start.saturating_add(self.partition.size) } else { len };
        start..end.min(len)
    }

    /// Writes the filesystem to the new image.
    pub(super) fn write(&mut self, image: &File, means: Means<'_>) -> Result<(), AddError> {
        let at = self.partition.offset;
        match &mut self.filesystem {
            NewFilesystem::Boot { tree, layout } => {
                let mut region = Region::new(image, at, layout.size()).map_err(BuildError::from)?;
                let old = self.partition.open()?;
                let Means { progress, cancel, .. } = means;
                vfat::write(layout, tree, &mut region, progress, cancel, Some(old.as_ref()))
                    .map_err(BuildError::from)?;
            }
            NewFilesystem::Nix(nix) => {
                nix.write(image, at, means)?;
            }
        }
        Ok(())
    }
}

/// Who has the image may have no spec to change.
fn of_image(error: VfatError, number: u32) -> AddError {
    match error {
        VfatError::DoesNotFit { missing, at_least, largest, .. } => {
            AddError::Full { number, missing, at_least, largest }
        }
        error => BuildError::from(error).into(),
    }
}

/// The options for a new FAT that is like the old one.
fn vfat_params(partition: &Partition, summary: &Summary) -> Result<VfatParams, ReadError> {
    let mut field = [0; 2];
    partition.bytes().read_exact_at(SECTOR_SIZE_AT, &mut field)?;
    let sector_size = match u16::from_le_bytes(field) {
        512 => SectorSize::B512,
        4096 => SectorSize::B4096,
        other => return Err(ReadError::Unsupported(format!("a FAT with sectors of {other} bytes cannot be laid out"))),
    };
    let digits = summary.uuid.replace('-', "");
    let volume_id = u32::from_str_radix(&digits, 16)
        .map_err(|_| ReadError::Unsupported(format!("a FAT without a volume id ({:?})", summary.uuid)))?;
    Ok(VfatParams { size: summary.size, sector_size, volume_id, label: summary.label.clone() })
}

/// Lays out an ext4 or btrfs with as much free as there was.
fn lay_out(partition: &Partition, summary: &Summary, merged: Merged) -> Result<NixPart, AddError> {
    let unnamed = |_| ReadError::Unsupported(format!("a filesystem without a UUID ({:?})", summary.uuid));
    let uuid = Uuid::parse_str(&summary.uuid).map_err(unnamed)?;
    let choice = Choice { uuid, label: summary.label.clone(), free_bytes: summary.free };
    let old = Some(partition.clone());
    let Merged { tree, subvolumes, methods, .. } = merged;
    if summary.format == Format::Ext4 {
        return Ok(NixPart::ext4(tree, choice, old)?);
    }
    let method = match methods.into_iter().collect::<Vec<_>>().as_slice() {
        [] => None,
        [one] => Some(compression(*one)),
        _ => return Err(AddError::Obstacles(vec!["files compressed in several ways".to_owned()])),
    };
    let nix = NixPart::btrfs(Volumes::of(tree, "", subvolumes), method, choice, old)?;
    Ok(nix.with_counted_free(summary.free)?)
}

/// How new files are compressed; old ones stay as they are.
fn compression(method: Method) -> Compression {
    match method {
        Method::Zlib => Compression::Zlib(3),
        Method::Lzo => Compression::Lzo,
        Method::Zstd => Compression::Zstd(3),
    }
}

/// The filesystem with as much free as its partition, which cannot grow, has room for.
fn within(mut nix: NixPart, summary: &Summary, partition: &Partition) -> Result<NixPart, AddError> {
    let mut free = summary.free;
    while let Some(over @ 1..) = nix.size().checked_sub(partition.size) {
        free = free.checked_sub(over).ok_or(AddError::NoRoom { number: partition.number, missing: over })?;
        nix = nix.with_counted_free(free)?;
    }
    Ok(nix)
}
