//! A disk with a few ranges that come from a file: those that an installer wrote in its rehearsal.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::copy::Means;
use crate::formats::{Filled, FormatError, Places, Reader, Source};
use crate::map::{Extent, Held, ImageMap, MapBuilder};
use crate::read::{Bytes, Window};
use crate::units::ByteOffset;

/// A disk, and what lies over it.
pub(super) struct Overlaid<'a> {
    disk: &'a dyn Source,
    over: Window,
    /// What of the disk comes from the file, where it has the same place: in order and disjoint, small enough for memory.
    ranges: &'a [Range<u64>],
    map: ImageMap,
}

impl<'a> Overlaid<'a> {
    /// The disk with these ranges of `over`, in order and disjoint.
    pub(super) fn new(disk: &'a dyn Source, over: Window, ranges: &'a [Range<u64>]) -> Self {
        let mut map = MapBuilder::default();
        ranges.iter().for_each(|range| map.add(range.clone(), Held::Contents));
        disk.map().extents().iter().for_each(|Extent { range, held }| map.add(range.clone(), *held));
        Self { disk, over, ranges, map: map.finish(disk.map().size()) }
    }

    /// The bytes that lie over a range of the disk, and where they are.
    fn within(&self, range: Range<u64>) -> impl Iterator<Item = Result<(u64, Vec<u8>), FormatError>> + '_ {
        let parts = self.ranges.iter().map(move |over| over.start.max(range.start)..over.end.min(range.end));
        parts.filter(|part| !part.is_empty()).map(|part| {
            let mut bytes = vec![0; usize::try_from(part.end - part.start).unwrap_or_default()];
            self.over.read_exact_at(ByteOffset(part.start), &mut bytes)?;
            Ok((part.start, bytes))
        })
    }
}

impl Source for Overlaid<'_> {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(OverlaidReader { disk: self.disk.reader()?, overlaid: self }))
    }

    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError> {
        let filled = self.disk.fill(to, places, means)?;
        for over in self.within(0..self.map.size()) {
            let (at, bytes) = over?;
            for (part, ByteOffset(into)) in places.of(at..at + bytes.len() as u64) {
                let index = |place: u64| usize::try_from(place - at).unwrap_or(usize::MAX);
                let bytes = bytes.get(index(part.start)..index(part.end)).unwrap_or_default();
                to.write_all_at(bytes, into).map_err(FormatError::Write)?;
            }
        }
        Ok(filled)
    }

    fn file_at(&self, at: u64) -> Option<PathBuf> {
        let is_over = self.ranges.iter().any(|range| range.contains(&at));
        if is_over { None } else { self.disk.file_at(at) }
    }
}

struct OverlaidReader<'a> {
    disk: Box<dyn Reader + 'a>,
    overlaid: &'a Overlaid<'a>,
}

impl Reader for OverlaidReader<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        self.disk.read(range.clone(), buffer)?;
        for over in self.overlaid.within(range.clone()) {
            let (at, bytes) = over?;
            let start = usize::try_from(at - range.start).unwrap_or(usize::MAX);
            let part = buffer.get_mut(start..start + bytes.len()).unwrap_or_default();
            part.copy_from_slice(bytes.get(..part.len()).unwrap_or_default());
        }
        Ok(())
    }
}
