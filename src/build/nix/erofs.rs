//! The filesystem of the store as an EROFS.

use std::fs::File;

use super::{Choice, Goal, opener};
use crate::build::BuildError;
use crate::build::known::{Known, KnownFiles, Pieces, PlacedPiece};
use crate::copy::{self, CopyJobs, Means};
use crate::disk::memory::Memory;
use crate::disk::region::Region;
use crate::erofs::contents::Contents;
use crate::erofs::layout::{Layout, Parameters};
use crate::erofs::writer::{self, Gathering};
use crate::image::Partition;
use crate::progress::Cancel;
use crate::source::tree::FileTree;
use crate::threads;
use crate::units::ByteOffset;

pub(crate) struct ErofsPart {
    pub(super) tree: FileTree,
    pub(super) layout: Layout,
    old: Option<Partition>,
    pub(super) goal: Goal,
}

impl ErofsPart {
    /// There is no free space in it, whatever is asked for.
    pub(super) fn prepare(tree: FileTree, choice: Choice, old: Option<Partition>) -> Result<Self, BuildError> {
        let Choice { uuid, label, .. } = choice;
        let layout = Layout::new(&tree, Parameters { uuid, label })?;
        Ok(Self { tree, layout, old, goal: Goal::Least(0) })
    }

    pub(super) fn toward(self, goal: Goal) -> Result<Self, BuildError> {
        let size = goal.size(self.layout.needed())?;
        Ok(Self { layout: self.layout.at_least(size), goal, ..self })
    }

    pub(super) fn write(&self, image: &File, at: ByteOffset, means: Means<'_>) -> Result<copy::Summary, BuildError> {
        let Means { options, progress, cancel } = means;
        let pages = options.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        let gathering = Gathering::new(&self.layout, &self.tree, &region);
        let contents = Contents::all(&self.layout, &self.tree, at, opener(&self.old), &gathering);
        let (copied, written) = threads::both(
            options.threads,
            || copy::run(&contents, image, options, progress, cancel),
            || gathering.write_others(cancel),
        );
        let copied = copied?;
        written?;
        Ok(copied)
    }
}

impl Known for ErofsPart {
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
