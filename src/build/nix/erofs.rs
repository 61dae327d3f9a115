//! The filesystem of the store as an EROFS.

use std::fs::File;

use super::{Choice, Goal, opener};
use crate::build::BuildError;
use crate::build::known::{Known, KnownFiles, Pieces, PlacedPiece};
use crate::copy::{self, CopyJobs, Means};
use crate::disk::memory::Memory;
use crate::disk::region::Region;
use crate::erofs::contents::Contents;
use crate::erofs::layout::{Layout, LayoutError, Packed, Parameters};
use crate::erofs::packs::Packs;
use crate::erofs::writer::{self, Gathering};
use crate::image::Partition;
use crate::plan::PlanError;
use crate::progress::Cancel;
use crate::source::tree::FileTree;
use crate::spec::ErofsCompression;
use crate::threads;
use crate::units::ByteOffset;

pub(crate) struct ErofsPart {
    pub(super) tree: FileTree,
    /// Where contents are compressed, until they are: no smaller than it will be.
    pub(super) layout: Layout,
    compression: Option<ErofsCompression>,
    old: Option<Partition>,
    pub(super) goal: Goal,
}

impl ErofsPart {
    /// There is no free space in it, whatever is asked for.
    pub(super) fn prepare(
        tree: FileTree,
        compression: Option<ErofsCompression>,
        choice: Choice,
        old: Option<Partition>,
    ) -> Result<Self, LayoutError> {
        let Choice { uuid, label, .. } = choice;
        let parameters = Parameters { uuid, label };
        let layout = match compression {
            None => Layout::new(&tree, parameters),
            Some(method) => Layout::worst(&tree, method, parameters),
        }?;
        Ok(Self { tree, layout, compression, old, goal: Goal::Least(0) })
    }

    pub(super) fn toward(self, goal: Goal) -> Result<Self, BuildError> {
        let layout = match (goal.size(self.layout.needed()), goal) {
            (Ok(size), _) => self.layout.at_least(size),
            // Compressed, they may have room.
            (Err(PlanError::TooSmall { .. }), Goal::Rest(rest))
                if self.compression.is_some() && rest.given().is_some() =>
            {
                self.layout
            }
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Self { layout, goal, ..self })
    }

    /// This, if its bytes are all known before contents are moved.
    pub(super) fn known(&self) -> Option<&dyn Known> {
        self.compression.is_none().then_some(self as &dyn Known)
    }

    pub(super) fn write(
        &mut self,
        image: &File,
        at: ByteOffset,
        means: Means<'_>,
    ) -> Result<copy::Summary, BuildError> {
        match self.compression {
            None => Known::write(self, image, at, means),
            Some(method) => self.write_packed(method, image, at, means),
        }
    }

    /// Compresses the contents, which tells where all else is, and writes that.
    fn write_packed(
        &mut self,
        method: ErofsCompression,
        image: &File,
        at: ByteOffset,
        means: Means<'_>,
    ) -> Result<copy::Summary, BuildError> {
        let Means { options, progress, cancel } = means;
        let packs = Packs::new(&self.tree, method, at, opener(&self.old));
        let packed = copy::pack(&packs, image, options, progress, cancel)?;
        let placement = packs.into_placement();
        let layout = Layout::packed(&self.tree, Packed { method, placement }, self.layout.parameters.clone())?;
        let size = self.goal.size(layout.needed())?;
        self.layout = layout.at_least(size);
        let pages = options.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        let gathering = Gathering::new(&self.layout, &self.tree, &region);
        let ends = Contents::ends_for(&self.layout, &self.tree, at, opener(&self.old), &gathering);
        Ok(packed.and(write_rest(&ends, &gathering, image, means)?))
    }
}

/// Writes files, and the metadata that they are gathered with.
fn write_rest(
    files: &dyn CopyJobs,
    gathering: &Gathering<'_>,
    image: &File,
    means: Means<'_>,
) -> Result<copy::Summary, BuildError> {
    let Means { options, progress, cancel } = means;
    let (copied, ()) = threads::both_or_none(
        options.threads,
        cancel,
        |cancel| Ok::<_, BuildError>(copy::run(files, image, options, progress, cancel)?),
        |cancel| Ok(gathering.write_others(cancel)?),
    )?;
    Ok(copied)
}

impl Known for ErofsPart {
    fn write(&self, image: &File, at: ByteOffset, means: Means<'_>) -> Result<copy::Summary, BuildError> {
        let pages = means.options.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        let gathering = Gathering::new(&self.layout, &self.tree, &region);
        let contents = Contents::all(&self.layout, &self.tree, at, opener(&self.old), &gathering);
        write_rest(&contents, &gathering, image, means)
    }

    fn write_metadata(&self, to: &Memory, at: ByteOffset, cancel: &Cancel) -> Result<(), BuildError> {
        let region = Region::in_memory(to, at, self.layout.size())?;
        Ok(writer::write(&self.layout, &self.tree, &region, cancel)?)
    }

    fn files(&self, at: ByteOffset) -> Vec<KnownFiles<'_>> {
        let old = opener(&self.old);
        let blocks = Contents::of_blocks(&self.layout, &self.tree, at, old);
        let ends = Contents::with_ends(&self.layout, &self.tree, at, old);
        let pieces = ends.ends().map(|end| PlacedPiece {
            disk: end.at.0..end.at.0 + end.len,
            file: end.file,
            offset: end.offset,
        });
        let pieces = Pieces::Among(pieces.collect());
        vec![known(blocks, Pieces::Pages), known(ends, pieces)]
    }
}

fn known<'a>(jobs: impl CopyJobs + 'a, pieces: Pieces) -> KnownFiles<'a> {
    KnownFiles { jobs: Box::new(jobs), pieces }
}
