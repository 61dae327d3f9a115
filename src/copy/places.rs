//! The places of a disk's bytes in a file that is not compressed.

use std::ops::Range;

use crate::units::ByteOffset;

/// Ranges of a disk and their places in a file, both in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<Place>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    disk: Range<u64>,
    at: u64,
}

impl Places {
    /// The whole of a disk of `size` bytes, each at its own offset: those of a raw image.
    pub fn same(size: u64) -> Self {
        let mut places = Self::default();
        places.add(0..size, ByteOffset(0));
        places
    }

    /// Adds a range of the disk, which is after all others so far, and which is in the file from byte `at` on.
    pub fn add(&mut self, disk: Range<u64>, ByteOffset(at): ByteOffset) {
        if disk.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.disk.end == disk.start && last.at + (last.disk.end - last.disk.start) == at => {
                last.disk.end = disk.end;
            }
            _ => self.0.push(Place { disk, at }),
        }
    }

    /// The parts of a range of the disk that have a place, with their places.
    pub fn of(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, ByteOffset)> + '_ {
        let first = self.0.partition_point(|place| place.disk.end <= range.start);
        let found = self.0.iter().skip(first).take_while(move |place| place.disk.start < range.end);
        found.map(move |place| {
            let part = place.disk.start.max(range.start)..place.disk.end.min(range.end);
            let at = ByteOffset(place.at + (part.start - place.disk.start));
            (part, at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_were_put() {
        let mut places = Places::default();
        for (disk, at) in [(10..20, 100), (20..30, 110), (40..50, 120), (50..50, 0), (50..60, 200)] {
            places.add(disk, ByteOffset(at));
        }
        let of = |range| places.of(range).map(|(part, at)| (part, at.0)).collect::<Vec<_>>();
        assert_eq!(of(0..100), [(10..30, 100), (40..50, 120), (50..60, 200)]);
        assert_eq!(of(15..41), [(15..30, 105), (40..41, 120)]);
        assert_eq!(of(30..40), []);
        assert_eq!(of(49..51), [(49..50, 129), (50..51, 200)]);
        assert_eq!(Places::same(5).of(1..9).collect::<Vec<_>>(), [(1..5, ByteOffset(1))]);
    }
}
