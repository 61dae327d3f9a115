//! Adds files to an image that exists. The filesystems that get files are read, laid out again with the new files, and
//! written to a new image. Everything else is copied as it is.
//!
//! The last partition of the disk grows by the size of its new files, so that it has as much free space as before. Any
//! other partition must have enough free space. The old image is never written to.

use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::mounts::MountsError;
use self::part::NewPart;
use crate::build::{BuildError, OutputFile};
use crate::container::Form;
use crate::copy::{self, Means, Span};
use crate::disk::resize::{self, ResizeError, Resized};
use crate::image::sealed::sealed;
use crate::image::{Image, PartName, Partition, store};
use crate::output::{OutputError, Privacy};
use crate::progress::Cancelled;
use crate::read::{Bytes, ReadError};
use crate::source::own::{self, ExtraFiles, FatMount, OwnEntry, OwnError, OwnFiles, OwnKind, Places};
use crate::source::tree::TreeError;
use crate::spec::Reserved;
use crate::vfat::Largest;

mod merge;
pub mod mounts;
mod part;

/// The partitions in the table of an MBR itself; those with higher numbers are logical.
const PRIMARY_PARTITIONS: u32 = 4;

/// Why there is no new image.
#[derive(Debug, Error)]
pub enum AddError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image is no raw one.
    #[error("is in a {} container, and only a raw image can be changed; make one first with `sane-image convert --format raw`", .0.name())]
    Container(Form),
    /// The files cannot be in the image.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The image holds what cannot be written back, a line each.
    #[error("has things that cannot be written again; nothing was done:\n{}", .0.join("\n"))]
    Obstacles(Vec<String>),
    /// A partition that cannot grow is too small.
    #[error(
        "partition {number} has no room for the files: {missing} bytes are missing, and it cannot grow, for it is not \
         the last one, or a logical one; leave some files out"
    )]
    NoRoom {
        /// Its number.
        number: u32,
        /// How many bytes are missing.
        missing: u64,
    },
    /// An ESP or XBOOTLDR partition is too small.
    #[error(
        "partition {number} has no room for the files: {missing} bytes are missing, and it cannot grow; remove files \
         from it, or build the image again with {at_least} bytes for it (bootPartSize of the spec, or espSize beside an \
         XBOOTLDR partition). The largest:{}",
        Largest(largest)
    )]
    Full {
        /// Its number.
        number: u32,
        /// How many bytes are missing.
        missing: u64,
        /// The smallest size in bytes that would do.
        at_least: u64,
        /// The largest files and their sizes in bytes.
        largest: Vec<(PathBuf, u64)>,
    },
    /// A partition holds a filesystem that nothing is added to.
    #[error(
        "partition {number} is an erofs, which is read-only as long as it exists; build the image again with the files \
         in its spec, or add files for its other filesystems only"
    )]
    ReadOnly {
        /// Its number.
        number: u32,
    },
    /// It is not known where the files belong.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// The partition table cannot have a larger partition.
    #[error(transparent)]
    Resize(#[from] ResizeError),
    /// The files make no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The new image cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl AddError {
    /// Whether it is the image that cannot be added to, whatever is to be added and wherever.
    pub fn is_of_image(&self) -> bool {
        match self {
            Self::Read(_)
            | Self::Container(_)
            | Self::Obstacles(_)
            | Self::NoRoom { .. }
            | Self::Full { .. }
            | Self::ReadOnly { .. }
            | Self::Mounts(_)
            | Self::Resize(_) => true,
            Self::Own(_) | Self::Tree(_) | Self::Build(_) | Self::Cancelled(_) => false,
        }
    }
}

impl From<OutputError> for AddError {
    fn from(error: OutputError) -> Self {
        Self::Build(error.into())
    }
}

/// What was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Regular files and links that were laid over the image.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// How many of them were there before.
    pub replaced: u64,
    /// The size of the new image in bytes.
    pub size: u64,
}

/// Lays `extra` over the image in the file `from`, and writes the result to `out`, which may be the same name.
///
/// # Errors
/// If the image cannot be read or holds what cannot be written back, or if the files do not fit.
pub fn add(from: &Path, extra: &ExtraFiles, out: &Path, means: Means<'_>) -> Result<Added, AddError> {
    let output = OutputFile::open(out, Privacy::Owner)?;
    let image = Image::open(from)?;
    check_raw(&image)?;
    let own = own_files(&image, extra, means)?;
    let mut parts = Vec::new();
    let xbootldr = image.partitions().iter().find(|partition| partition.is_xbootldr());
    let xbootldr = xbootldr.map(|partition| (PartName::Number(partition.number), &own.xbootldr));
    for (name, entries) in [(PartName::Boot, &own.boot)].into_iter().chain(xbootldr).chain([(PartName::Nix, &own.nix)])
    {
        if !entries.is_empty() {
            check_unsealed(&image, &name)?;
            parts.extend(NewPart::prepare(image.find(&name)?, entries, is_last(&image, &name)?, means)?);
        }
    }
    let mut added = count(&own);
    added.replaced = parts.iter().map(|part| part.replaced).sum();
    added.size = write(&image, &mut parts, &output, means)?;
    means.progress.stage("writing out", 0, 0);
    means.cancel.check()?;
    output.publish()?;
    Ok(added)
}

/// Refuses an image in a container.
pub(crate) fn check_raw(image: &Image) -> Result<(), AddError> {
    image.container().map_or(Ok(()), |container| Err(AddError::Container(container.form)))
}

/// Refuses to add to a filesystem whose every block is proved.
fn check_unsealed(image: &Image, name: &PartName) -> Result<(), AddError> {
    let number = image.find(name)?.number;
    let sealed = sealed(image);
    let proof = sealed.iter().find(|one| one.data.is_some_and(|data| data.number == number));
    proof.map_or(Ok(()), |proof| {
        let hashes = proof.hashes.number;
        Err(AddError::Obstacles(vec![format!(
            "partition {number}: the dm-verity tree in partition {hashes}, which new files would break; build the image \
             again with `--extra-files`"
        )]))
    })
}

/// Puts files into filesystems of a raw image, each in the place of the one that is there, and writes the result to `output`.
///
/// # Errors
/// As of [`add`].
pub(crate) fn replace(
    image: &Image,
    files: &[(&Partition, Vec<OwnEntry>)],
    output: &OutputFile,
    means: Means<'_>,
) -> Result<(), AddError> {
    let mut parts = Vec::new();
    for (partition, entries) in files.iter().filter(|(_, entries)| !entries.is_empty()) {
        parts.extend(NewPart::prepare(partition, entries, false, means)?);
    }
    write(image, &mut parts, output, means).map(drop)
}

/// Where each of the files goes. Tells what may be wrong with them.
fn own_files(image: &Image, extra: &ExtraFiles, means: Means<'_>) -> Result<OwnFiles, AddError> {
    let host = mounts::host_mounts(image)?;
    let nix = image.find(&PartName::Nix).ok().map(Partition::open).transpose()?;
    let location = nix.as_deref().map(store::locate).transpose()?.flatten();
    let (reserved, store_dir) = match &location {
        Some(found) => (Reserved { root: found.root.clone(), store: found.store.clone() }, found.store_dir.as_path()),
        None => (Reserved { root: "".into(), store: "nix/store".into() }, Path::new("/nix/store")),
    };
    let places = Places {
        mounts: &host.table,
        reserved,
        store_dir,
        boot: FatMount { mount_point: &host.boot_mount_point, options: &host.boot_options },
        xbootldr: host.xbootldr.as_ref().map(|(mount_point, options)| FatMount { mount_point, options }),
    };
    let own = own::gather_extra(places, extra, means.cancel)?;
    own.warnings.iter().for_each(|warning| means.progress.warn(warning));
    Ok(own)
}

fn count(own: &OwnFiles) -> Added {
    let mut added = Added::default();
    for OwnEntry { kind, .. } in own.boot.iter().chain(&own.xbootldr).chain(&own.nix) {
        added.files += u64::from(*kind != OwnKind::Directory);
        added.bytes += if let OwnKind::File { size, .. } = kind { *size } else { 0 };
    }
    added
}

/// Whether a partition is the last on its disk, and so can grow; a logical one would have to take another with it.
fn is_last(image: &Image, name: &PartName) -> Result<bool, AddError> {
    let partition = image.find(name)?;
    let is_logical = partition.mbr.is_some() && partition.number > PRIMARY_PARTITIONS;
    Ok(!is_logical && image.partitions().iter().all(|other| other.offset <= partition.offset))
}

/// Writes the new image, and returns its size in bytes.
fn write(image: &Image, parts: &mut [NewPart<'_>], output: &OutputFile, means: Means<'_>) -> Result<u64, AddError> {
    let most = parts.iter().map(|part| part.partition.offset.0.saturating_add(part.size())).max().unwrap_or(0);
    output.set_len(most.max(image.bytes().len()))?;
    // Faults of the table are reported before the long work.
    resize(image, parts)?;
    let bytes = image.bytes();
    let (file, _) = bytes.file().expect("it is in no container");
    let kept: Vec<Span> = kept(image, parts).into_iter().map(Span::same).collect();
    if !kept.is_empty() {
        let bytes = kept.iter().map(|span| span.from.end - span.from.start).sum();
        means.progress.stage("copying the old files", 0, bytes);
        copy::spans(file, &kept, output.file(), means.progress, means.cancel).map_err(BuildError::from)?;
    }
    for part in parts.iter_mut() {
        part.write(output.file(), means)?;
    }
    let resized = resize(image, parts)?;
    output.set_len(resized.disk_size)?;
    for (at, bytes) in &resized.writes {
        std::os::unix::fs::FileExt::write_all_at(output.file(), bytes, at.0).map_err(BuildError::Region)?;
    }
    Ok(resized.disk_size)
}

/// The ranges of the old image that the new one has as they are.
fn kept(image: &Image, parts: &[NewPart<'_>]) -> Vec<Range<u64>> {
    let len = image.bytes().len();
    let mut kept = Vec::new();
    let mut at = 0;
    let mut gone: Vec<_> = parts.iter().map(|part| part.gone(len)).collect();
    gone.sort_unstable_by_key(|range| range.start);
    for range in gone {
        kept.push(at..range.start);
        at = range.end;
    }
    kept.push(at..len);
    kept.retain(|range| !range.is_empty());
    kept
}

/// What changes on the disk when a partition gets its new size.
fn resize(image: &Image, parts: &[NewPart<'_>]) -> Result<Resized, AddError> {
    let len = image.bytes().len();
    let Some(part) = parts.iter().find(|part| part.size() != part.partition.size) else {
        return Ok(Resized { disk_size: len, writes: Vec::new() });
    };
    let (number, size) = (part.partition.number, part.size());
    match (image.table(), image.mbr()) {
        (Some(table), _) => Ok(resize::resize_last(&image.bytes(), table, number, size)?),
        (None, Some(table)) => Ok(resize::resize_last_mbr(&image.bytes(), table, number, size)?),
        (None, None) => Ok(Resized { disk_size: size, writes: Vec::new() }),
    }
}
