//! The disk of a plan as a [`Source`]. Its bytes come from the layouts and from the files of the closure. They can be
//! read at any place, and no image is needed.
//!
//! All metadata is made once and kept in memory, a few hundred bytes for each file. The contents of files are read when
//! they are asked for.

use std::fs::File;
use std::mem;
use std::ops::Range;
use std::path::PathBuf;

use super::extra::swap_pages;
use super::known::{Known, KnownFiles, Pieces, PlacedPiece};
use super::map::{self, Gaps};
use super::{BuildError, Context, Prepared, bios_boot};
use crate::copy::{self, CopyJobs, Means, Moved, PartReader, Places, Summary, WantedAt};
use crate::disk::gpt;
use crate::disk::memory::Memory;
use crate::disk::region::Region;
use crate::formats::{Filled, FormatError, Reader, Source, write_data};
use crate::map::{Extent, Held, ImageMap};
use crate::plan::Role;
use crate::threads;
use crate::units::ByteOffset;
use crate::vfat;

/// The bytes that are moved at once where the engines of `copy` do not.
const AT_ONCE: u64 = 1 << 20;

/// Shows `see` the planned disk, of whose nix filesystem all bytes are known.
///
/// # Errors
/// If the metadata cannot be made, and those of `see`.
pub(super) fn with<T>(
    prepared: &Prepared,
    nix: &dyn Known,
    context: Context<'_>,
    see: impl FnOnce(&dyn Source) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let plan = &prepared.plan;
    let starts = plan.partitions.iter().map(|partition| (partition.role, ByteOffset(partition.offset)));
    let fats: Vec<_> = starts.clone().filter_map(|(role, at)| Some((prepared.fats.of(role)?, at))).collect();
    let nix_start = starts.into_iter().find(|(role, _)| *role == Role::Nix).map_or(ByteOffset(0), |(_, at)| at);
    let fresh = Memory::default();
    let metadata = prepared.hash_tree().unwrap_or(&fresh);
    gpt::write(&plan.gpt, &mut Region::in_memory(metadata, ByteOffset(0), plan.size)?)?;
    swap_pages(&plan.partitions).for_each(|(at, page)| metadata.write(at, &page));
    bios_boot(plan).into_iter().for_each(|(at, bytes)| metadata.write(at, bytes));
    for (fat, start) in &fats {
        let mut region = Region::in_memory(metadata, *start, fat.layout.size())?;
        vfat::write_structures(&fat.layout, &fat.tree, &mut region, context.cancel)?;
    }
    nix.write_metadata(metadata, nix_start, context.cancel)?;
    let fats = fats.iter().map(|(fat, start)| vfat::contents::Contents::new(&fat.layout, &fat.tree, *start));
    let fats: Vec<_> = fats.collect();
    let extra = prepared.extra.files(&plan.partitions);
    let mut nix = nix.files(nix_start);
    let nix = nix.iter_mut().map(PartFiles::known);
    let parts = fats.iter().map(|fat| PartFiles::new(fat, false)).chain([PartFiles::new(&extra, true)]).chain(nix);
    let parts = parts.collect();
    see(&Planned { map: map::disk(prepared, Gaps::Zeros), metadata, parts })
}

/// A disk that is planned.
struct Planned<'a> {
    map: ImageMap,
    /// All that is in no file.
    metadata: &'a Memory,
    /// The files of each kind of partition.
    parts: Vec<PartFiles<'a>>,
}

/// The files of one kind of partition.
struct PartFiles<'a> {
    jobs: &'a dyn CopyJobs,
    /// Where their bytes are, in the order of the disk.
    pieces: Vec<PlacedPiece>,
    /// Whether all pieces start and end at pages, so that the engines of `copy` can move them.
    by_pages: bool,
}

impl<'a> PartFiles<'a> {
    fn new(jobs: &'a dyn CopyJobs, by_pages: bool) -> Self {
        let mut pieces = Vec::new();
        for file in 0..jobs.len() {
            let mut offset = 0;
            for piece in jobs.pieces(file) {
                let start = piece.destination.0;
                pieces.push(PlacedPiece { disk: start..start + piece.len, file, offset });
                offset += piece.len;
            }
        }
        Self::with_pieces(jobs, pieces, by_pages)
    }

    fn with_pieces(jobs: &'a dyn CopyJobs, mut pieces: Vec<PlacedPiece>, by_pages: bool) -> Self {
        pieces.sort_by_key(|piece| piece.disk.start);
        Self { jobs, pieces, by_pages }
    }

    /// Takes the pieces out of `files`.
    fn known(files: &'a mut KnownFiles<'_>) -> Self {
        let KnownFiles { jobs, pieces } = files;
        match pieces {
            Pieces::Pages => Self::new(&**jobs, true),
            Pieces::Among(pieces) => Self::with_pieces(&**jobs, mem::take(pieces), false),
        }
    }

    /// The parts of files in a range of the disk, and where in it they are.
    fn within(&self, range: Range<u64>) -> Vec<WantedAt> {
        let first = self.pieces.partition_point(|piece| piece.disk.end <= range.start);
        let found = self.pieces.iter().skip(first).take_while(|piece| piece.disk.start < range.end);
        let wanted = found.map(|piece| {
            let disk = piece.disk.start.max(range.start)..piece.disk.end.min(range.end);
            let size = self.jobs.size(piece.file);
            let inside = |at: u64| (piece.offset + (at - piece.disk.start)).min(size);
            let at = usize::try_from(disk.start - range.start).unwrap_or(usize::MAX);
            WantedAt { file: piece.file, range: inside(disk.start)..inside(disk.end), at }
        });
        wanted.filter(|wanted| !wanted.range.is_empty()).collect()
    }

    /// Has the engines move them.
    fn copy(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Summary, FormatError> {
        let moved = Moved { jobs: self.jobs, to: places };
        Ok(copy::run(&moved, to, means.options, means.progress, means.cancel)?)
    }

    /// The range of the disk that they are in.
    fn range(&self) -> Range<u64> {
        let start = self.pieces.first().map_or(0, |piece| piece.disk.start);
        start..self.pieces.last().map_or(start, |piece| piece.disk.end)
    }
}

impl Source for Planned<'_> {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        let parts = self.parts.iter().map(|part| (part, PartReader::new(part.jobs))).collect();
        Ok(Box::new(PlannedReader { metadata: self.metadata, parts }))
    }

    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError> {
        // Every byte has its place, so that neither has to wait for the other.
        let (copied, ()) = threads::both_or_none(
            means.options.threads,
            means.cancel,
            |cancel| {
                let whole = self.parts.iter().filter(|part| part.by_pages && !part.pieces.is_empty());
                let means = Means { cancel, ..means };
                whole.map(|part| part.copy(to, places, means)).collect::<Result<Vec<_>, FormatError>>()
            },
            |cancel| {
                let means = Means { cancel, ..means };
                let by_hand = |held, range| fill_by_hand(self, held, range, to, places, means);
                let others = self.parts.iter().filter(|part| !part.by_pages);
                others.map(PartFiles::range).try_for_each(|range| by_hand(Held::Contents, range))?;
                by_hand(Held::Metadata, 0..self.map.size())
            },
        )?;
        Ok(copied.into_iter().reduce(Summary::and))
    }

    fn file_at(&self, at: u64) -> Option<PathBuf> {
        self.parts.iter().find_map(|part| {
            let found = part.within(at..at.saturating_add(1));
            found.first().map(|wanted| part.jobs.source(wanted.file).into_path())
        })
    }
}

/// Writes all that is `held` in a range of the disk, through memory.
fn fill_by_hand(
    source: &Planned<'_>,
    held: Held,
    range: Range<u64>,
    to: &File,
    places: &Places,
    means: Means<'_>,
) -> Result<(), FormatError> {
    let mut reader = source.reader()?;
    let mut buffer = Vec::new();
    for Extent { range, .. } in source.map.within(range).filter(|extent| extent.held == held) {
        for (part, ByteOffset(into)) in places.of(range) {
            let mut at = part.start;
            while at < part.end {
                means.cancel.check()?;
                let end = part.end.min(at + AT_ONCE);
                let len = usize::try_from(end - at).unwrap_or_default();
                buffer.resize(len + 1, 0);
                reader.read(at..end, &mut buffer)?;
                write_data(to, into + (at - part.start), &buffer[..len])?;
                at = end;
            }
        }
    }
    Ok(())
}

struct PlannedReader<'a> {
    metadata: &'a Memory,
    parts: Vec<(&'a PartFiles<'a>, PartReader<'a>)>,
}

impl Reader for PlannedReader<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        self.metadata.read(range.start, buffer);
        for (files, reader) in &self.parts {
            let wanted = files.within(range.clone());
            if !wanted.is_empty() {
                reader.read(&wanted, buffer)?;
            }
        }
        Ok(())
    }
}
