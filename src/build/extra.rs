//! The partitions beside the ESP and the nix filesystem: bytes that are copied as they are, and swap areas.

use std::fs::File;
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

    /// Copies all contents to their partitions, and makes swap areas. Nothing lies there yet.
    pub(super) fn write(&self, image: &File, planned: &[Partition], context: Context<'_>) -> Result<(), BuildError> {
        let Context { options, progress, cancel } = context;
        let files = planned.iter().filter_map(|partition| {
            let Role::Extra(index) = partition.role else { return None };
            let (path, len) = self.0.get(index)?.file.clone()?;
            (len > 0).then_some((path, len, ByteOffset(partition.offset)))
        });
        let jobs = Jobs(files.collect());
        for partition in planned {
            if let Some(area) = &partition.swap {
                let page = swap::first_page(partition.size, area.page_size, area.uuid, &area.label);
                image.write_all_at(&page, partition.offset)?;
            }
        }
        if !jobs.is_empty() {
            copy::run(&jobs, image, options.copy, progress, cancel)?;
        }
        Ok(())
    }
}

/// Files, their lengths in bytes, and where in the image they go.
struct Jobs(Vec<(PathBuf, u64, ByteOffset)>);

impl Files for Jobs {
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

impl CopyJobs for Jobs {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let (_, len, destination) = self.0[index];
        // Partitions are whole MiB, so that there is room for the rest of the last page.
        vec![Piece { destination, len: len.next_multiple_of(PAGE as u64) }]
    }
}
