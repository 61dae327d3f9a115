//! An image that exists, as the source of what is written to a device.

use std::num::NonZeroUsize;
use std::path::Path;

use super::device::human;
use super::difference::Locate;
use super::fitted::{FitError, Fitted, Space, Tables};
use crate::convert::Original;
use crate::formats::Source;
use crate::image::{Image, Partition, file_at};
use crate::progress::Progress;
use crate::read::{Format, ReadError, escape};
use crate::units::ByteOffset;

/// The attribute of a partition in a GPT that says that nobody writes to it (UAPI group, Discoverable Partitions).
const READ_ONLY: u64 = 1 << 60;

/// An image in any form that is read, and any other disk.
#[derive(Debug)]
pub struct ImageSource {
    original: Original,
}

impl ImageSource {
    /// Opens the image in a file or on a block device, and looks for what is free in it, on up to `threads` threads.
    ///
    /// # Errors
    /// As of [`Original::open`].
    pub fn open(path: &Path, threads: NonZeroUsize, progress: &dyn Progress) -> Result<Self, ReadError> {
        Ok(Self { original: Original::open(path, threads, progress)? })
    }

    /// The size of its disk in bytes.
    pub fn size(&self) -> u64 {
        self.original.source().map().size()
    }

    /// Whether the image is private: then what is made of it must be private, too.
    pub fn is_private(&self) -> bool {
        self.original.is_private()
    }

    /// A line about each of its partitions.
    pub fn partitions(&self) -> Vec<String> {
        let image = self.original.image();
        let bare = image.filter(|image| image.is_bare()).and_then(|image| image.partitions().first());
        if let Some(bare) = bare {
            return vec![format!("no partitions, a bare {}", format_name(bare))];
        }
        let partitions = image.map(Image::partitions).unwrap_or_default();
        let describe = |partition: &Partition| {
            let (number, size, name) = (partition.number, human(partition.size), escape::text(&partition.name));
            format!("partition {number}, {size} {}, \"{name}\"", format_name(partition))
        };
        partitions.iter().map(describe).collect()
    }

    /// Lays the image out for a device.
    ///
    /// # Errors
    /// As of [`Fitted::new`].
    pub fn fit(&self, space: Space) -> Result<Fitted<'_>, FitError> {
        let image = self.original.image();
        let gpt = image.and_then(Image::table).map(Tables::Gpt);
        let mbr = || image.and_then(Image::mbr).map(Tables::Mbr);
        let tables = gpt.or_else(mbr).filter(|_| !self.original.is_a_cd()).unwrap_or(Tables::None);
        Fitted::new(self.original.source(), tables, image.and_then(growing), space)
    }
}

fn format_name(partition: &Partition) -> &'static str {
    partition.format().map_or("of unknown contents", Format::name)
}

/// The partition that gets more room: the last of the disk, if its filesystem can be made larger where it is.
fn growing(image: &Image) -> Option<u32> {
    let last = image.partitions().iter().max_by_key(|partition| partition.offset.0.saturating_add(partition.size))?;
    let grows = matches!(last.format(), Some(Format::Ext4 | Format::Btrfs));
    (grows && !image.is_bare() && last.attributes & READ_ONLY == 0).then_some(last.number)
}

impl Locate for ImageSource {
    fn locate(&self, at: ByteOffset) -> Option<String> {
        let image = self.original.image()?;
        let is_in = |partition: &&Partition| at.0.checked_sub(partition.offset.0).is_some_and(|at| at < partition.size);
        let partition = image.partitions().iter().find(is_in)?;
        let inside = at.0.saturating_sub(partition.offset.0);
        let file = file_at(partition, inside).map(|path| format!(", in {path}")).unwrap_or_default();
        if image.is_bare() {
            return Some(format!("of the filesystem{file}"));
        }
        let name = match partition.name.as_str() {
            "" => String::new(),
            name => format!(" (\"{}\")", escape::text(name)),
        };
        Some(format!("byte {inside} of partition {}{name}{file}", partition.number))
    }
}
