//! The partitions besides the ESP and the nix filesystem: bytes that are copied as they are, and swap areas.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{BuildError, Context};
use crate::copy::{self, CopyJobs, Files, Piece};
use crate::disk::pages::PAGE;
use crate::plan::{Partition, Role};
use crate::source::raw::RawContents;
use crate::source::tree::Origin;
use crate::spec::Spec;
use crate::swap;
use crate::units::ByteOffset;

/// The contents of all extra partitions, in the order of the spec.
pub(super) struct ExtraParts(Vec<RawContents>);

impl ExtraParts {
    pub(super) fn prepare(spec: &Spec, context: Context<'_>) -> Result<Self, BuildError> {
        let partitions = spec.extra_partitions.iter().enumerate();
        let found = partitions.map(|(index, extra)| RawContents::find(index, extra, context.options.store_root));
        Ok(Self(found.collect::<Result<_, _>>()?))
    }

    /// The size of each partition in bytes.
    pub(super) fn sizes(&self) -> Vec<u64> {
        self.0.iter().map(|contents| contents.size).collect()
    }

    /// The files that are copied to partitions, and their places.
    pub(super) fn files(&self, planned: &[Partition]) -> ExtraFiles {
        let files = planned.iter().filter_map(|partition| {
            let Role::Extra(index) = partition.role else { return None };
            let (path, len) = self.0.get(index)?.file.clone()?;
            (len > 0).then_some((path, len, ByteOffset(partition.offset)))
        });
        ExtraFiles(files.collect())
    }

    /// Whether the partition of this index has contents of its own.
    pub(super) fn has_file(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|contents| contents.file.is_some())
    }

    /// Copies all contents to their partitions, and makes swap areas. Nothing lies there yet.
    pub(super) fn write(&self, image: &File, planned: &[Partition], context: Context<'_>) -> Result<(), BuildError> {
        let Context { options, progress, cancel } = context;
        swap_pages(planned).try_for_each(|(at, page)| image.write_all_at(&page, at))?;
        let files = self.files(planned);
        if !files.is_empty() {
            copy::run(&files, image, options.copy, progress, cancel)?;
        }
        Ok(())
    }
}

/// The first page of each swap area, and at which byte of the disk it goes.
pub(super) fn swap_pages(planned: &[Partition]) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    planned.iter().filter_map(|partition| {
        let area = partition.swap.as_ref()?;
        let page = swap::first_page(partition.size, area.page_size, area.uuid, &area.label);
        Some((partition.offset, page))
    })
}

/// Files, their lengths in bytes, and where in the image they go.
pub(super) struct ExtraFiles(Vec<(PathBuf, u64, ByteOffset)>);

impl ExtraFiles {
    /// The bytes of the disk that they take.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(_, len, at)| at.0..at.0 + len)
    }
}

impl Files for ExtraFiles {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn size(&self, index: usize) -> u64 {
        self.0[index].1
    }

    fn source(&self, index: usize) -> Origin {
        Origin::Host(self.0[index].0.clone())
    }

    fn total_bytes(&self) -> u64 {
        self.0.iter().map(|(_, len, _)| len).sum()
    }
}

impl CopyJobs for ExtraFiles {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let (_, len, destination) = self.0[index];
        // Partitions are whole MiB, so that there is room for the rest of the last page.
        vec![Piece { destination, len: len.next_multiple_of(PAGE as u64) }]
    }
}
