//! A disk that exists: an image in any form, or a file that has just been made.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::ordered::THREADS_MAX;
use super::{Filled, FormatError, Places, Reader, Source};
use crate::copy::{self, Means, Span, data_runs};
use crate::map::{Extent, Held, ImageMap, MapBuilder};
use crate::progress::Progress;
use crate::read::{Bytes, Window};
use crate::threads;
use crate::units::ByteOffset;

/// The bytes that are read at once where the kernel does not copy.
const AT_ONCE: u64 = 4 << 20;

/// After data, zeros are looked for from the next multiple of these bytes on.
const LOOK: u64 = 1 << 20;

/// A disk and what is known of it.
#[derive(Clone, Debug)]
pub struct Existing {
    bytes: Window,
    map: ImageMap,
}

impl Existing {
    /// The disk with these bytes, of which `map` is true. What is free is taken for zeros, whatever is there.
    pub fn new(bytes: Window, map: ImageMap) -> Self {
        Self { bytes, map }
    }

    /// The same, after a look at which of its data are holes, or zeros in a container: these are not read any more.
    pub fn with_known_zeros(self) -> Self {
        let mut builder = MapBuilder::default();
        for Extent { range, held } in self.map.extents() {
            let mut at = range.start;
            while at < range.end && held.is_data() {
                let data = self.bytes.data_from(at).min(range.end);
                builder.add(at..data, Held::Zeros);
                at = range.end.min((data / LOOK + 1).saturating_mul(LOOK));
                builder.add(data..at, *held);
            }
            builder.add(at..range.end, *held);
        }
        Self { map: builder.finish(self.map.size()), bytes: self.bytes }
    }

    /// Where the disk's bytes lie in the file as they are, the ranges of it that have data.
    fn spans<'a>(&'a self, places: &'a Places) -> impl Iterator<Item = Span> + Send + 'a {
        let data = self.map.extents().iter().filter(|extent| extent.held.is_data());
        data.flat_map(|extent| places.of(extent.range.clone())).map(|(from, to)| Span { from, to })
    }

    /// The same in pieces that are read at once, without what is known to be zero.
    fn pieces<'a>(&'a self, places: &'a Places, progress: &'a dyn Progress) -> impl Iterator<Item = Span> + Send + 'a {
        let mut spans = self.spans(places);
        let mut rest: Option<Span> = None;
        std::iter::from_fn(move || {
            loop {
                let Span { from, to } = rest.take().or_else(|| spans.next())?;
                let start = self.bytes.data_from(from.start).min(from.end);
                progress.advance(0, start - from.start);
                if start == from.end {
                    continue;
                }
                // Compressed containers have units that end there.
                let end = from.end.min((start / AT_ONCE + 1).saturating_mul(AT_ONCE));
                let after = Span { from: end..from.end, to: ByteOffset(to.0 + (end - from.start)) };
                rest = Some(after).filter(|after| !after.from.is_empty());
                return Some(Span { from: start..end, to: ByteOffset(to.0 + (start - from.start)) });
            }
        })
    }

    fn fill_by_hand(&self, to: &File, places: &Places, means: Means<'_>) -> Result<(), FormatError> {
        let pieces = self.pieces(places, means.progress);
        threads::share_out(pieces, means.options.threads.min(THREADS_MAX), Vec::new, |buffer, piece| {
            means.cancel.check()?;
            let Span { from, to: ByteOffset(at) } = piece;
            buffer.resize(usize::try_from(from.end - from.start).unwrap_or_default(), 0);
            self.bytes.read_exact_at(ByteOffset(from.start), buffer)?;
            write_data(to, at, buffer)?;
            means.progress.advance(0, buffer.len() as u64);
            Ok(())
        })
    }
}

/// Writes what is not zero, by pages.
pub(crate) fn write_data(to: &File, at: u64, bytes: &[u8]) -> Result<(), FormatError> {
    for run in data_runs(bytes) {
        let place = at + run.start as u64;
        to.write_all_at(&bytes[run], place).map_err(FormatError::Write)?;
    }
    Ok(())
}

impl Source for Existing {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(self))
    }

    fn fill(&self, to: &File, places: &Places, means: Means<'_>) -> Result<Filled, FormatError> {
        let bytes = self.spans(places).map(|span| span.from.end - span.from.start).sum();
        means.progress.stage("copying the disk", 0, bytes);
        let Some((file, start)) = self.bytes.file() else {
            return self.fill_by_hand(to, places, means).map(|()| None);
        };
        let moved = self
            .spans(places)
            .map(|span| Span { from: span.from.start + start.0..span.from.end + start.0, to: span.to });
        copy::spans(file, &moved.collect::<Vec<_>>(), to, means.progress, means.cancel)?;
        Ok(None)
    }
}

impl Reader for &Existing {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        buffer.fill(0);
        for Extent { range: data, .. } in self.map.within(range.clone()).filter(|extent| extent.held.is_data()) {
            let index = |at: u64| usize::try_from(at - range.start).unwrap_or(usize::MAX);
            let part = buffer.get_mut(index(data.start)..index(data.end)).unwrap_or_default();
            self.bytes.read_exact_at(ByteOffset(data.start), part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_zeros_that_somebody_reads() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * MIB).unwrap();
        file.write_all_at(&[7; 10], 10 * MIB + 5000).unwrap();
        file.write_all_at(&[7; 4096], 40 * MIB).unwrap();
        let mut builder = MapBuilder::default();
        builder.add(MIB..20 * MIB, Held::Contents);
        builder.add(30 * MIB..31 * MIB, Held::Zeros);
        builder.add(40 * MIB + 1..41 * MIB, Held::Metadata);
        let map = builder.finish(64 * MIB);
        let existing = Existing::new(Window::new(file, 64 * MIB), map.clone()).with_known_zeros();
        let found = existing.map();
        assert_eq!(found.read_units(1), map.read_units(1));
        // If the filesystem of these tests reports no holes, all of it is data.
        let data = found.data_units(1);
        assert!(data == map.data_units(1) || data == [10 * MIB + 4096..11 * MIB, 40 * MIB + 1..41 * MIB], "{data:?}");
        let mut buffer = vec![1; 10_001];
        (&existing).read(10 * MIB..10 * MIB + 10_000, &mut buffer).unwrap();
        assert_eq!(buffer[4999..5011], [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    }
}
