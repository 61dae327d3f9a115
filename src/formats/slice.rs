//! A part of a disk, as a disk of its own.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use super::{Filled, FormatError, Places, Reader, Source, by_hand};
use crate::copy::Means;
use crate::map::{ImageMap, MapBuilder};

/// The bytes of a partition, or the first ones of it.
pub struct Slice<'a> {
    inner: &'a dyn Source,
    start: u64,
    map: ImageMap,
}

impl<'a> Slice<'a> {
    /// What is in `range` of a disk, in bytes; what lies past the end of the disk is left out.
    pub fn new(inner: &'a dyn Source, range: Range<u64>) -> Self {
        let range = range.start..range.end.min(inner.map().size()).max(range.start);
        let mut map = MapBuilder::default();
        for extent in inner.map().within(range.clone()) {
            map.add(extent.range.start - range.start..extent.range.end - range.start, extent.held);
        }
        Self { inner, start: range.start, map: map.finish(range.end - range.start) }
    }
}

impl Source for Slice<'_> {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(SliceReader { start: self.start, inner: self.inner.reader()? }))
    }

    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError> {
        by_hand::fill(self, to, places, means).map(|()| None)
    }

    fn file_at(&self, at: u64) -> Option<PathBuf> {
        self.inner.file_at(self.start.checked_add(at)?)
    }
}

struct SliceReader<'a> {
    start: u64,
    inner: Box<dyn Reader + 'a>,
}

impl Reader for SliceReader<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        self.inner.read(self.start + range.start..self.start + range.end, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Existing;
    use crate::map::Held;
    use crate::read::Window;

    #[test]
    fn a_slice_is_what_is_there() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..200).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let mut map = MapBuilder::default();
        map.add(50..120, Held::Contents);
        map.add(120..130, Held::Zeros);
        let disk = Existing::new(Window::new(file, 200), map.finish(200));
        for (range, data) in [(60..110, 0..50), (40..140, 10..80), (190..300, 0..0)] {
            let slice = Slice::new(&disk, range.clone());
            let size = range.end.min(200) - range.start;
            assert_eq!(slice.map().size(), size);
            let mut expected = vec![0; usize::try_from(size).unwrap()];
            data.clone()
                .for_each(|at: usize| expected[at] = u8::try_from(range.start).unwrap() + u8::try_from(at).unwrap());
            let mut read = vec![1; expected.len() + 1];
            slice.reader().unwrap().read(0..size, &mut read).unwrap();
            assert_eq!(read[..expected.len()], expected, "{range:?}");
        }
    }
}
