//! The use of every byte of a disk, before a byte is read. Pure.
//!
//! The code that lays out a part of a disk enters its ranges here. The code that writes files and devices asks here.
//! Zeros and free space are different. Zeros are read by somebody, so a used device must get them. Free space is not
//! read before it is written.

use std::ops::Range;

/// What a range of a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Structures of a partition table, a filesystem or a swap area.
    Metadata,
    /// Bytes of files, or of a partition whose structure is not known here.
    Contents,
    /// Zeros that somebody reads: of a journal, a FAT, an inode table.
    Zeros,
}

impl Held {
    /// Whether there may be bytes that are not zero.
    pub fn is_data(self) -> bool {
        self != Self::Zeros
    }
}

/// A range of a disk, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// From its first byte to past its last one: at least one.
    pub range: Range<u64>,
    /// What is there.
    pub held: Held,
}

/// What a disk holds. Bytes that are in no extent are free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageMap {
    size: u64,
    extents: Vec<Extent>,
}

/// Gathers the extents of a disk, in any order.
#[derive(Clone, Debug, Default)]
pub struct MapBuilder {
    extents: Vec<Extent>,
}

impl MapBuilder {
    /// Notes that `held` is in `range`. An empty range is ignored.
    pub fn add(&mut self, range: Range<u64>, held: Held) {
        if range.is_empty() {
            return;
        }
        match self.extents.last_mut() {
            Some(last) if last.held == held && last.range.end == range.start => last.range.end = range.end,
            _ => self.extents.push(Extent { range, held }),
        }
    }

    /// Adds everything that another one has, `by` bytes further on.
    pub fn add_moved(&mut self, other: &Self, by: u64) {
        for Extent { range, held } in &other.extents {
            self.add(range.start.saturating_add(by)..range.end.saturating_add(by), *held);
        }
    }

    /// The map of a disk of `size` bytes. Where extents overlap, data counts for more than zeros; what lies past the end is
    /// left out.
    pub fn finish(self, size: u64) -> ImageMap {
        let mut data = self.clone();
        data.extents.retain(|extent| extent.held.is_data());
        let data = in_order(data.extents, size);
        let mut zeros = self;
        zeros.extents.retain(|extent| !extent.held.is_data());
        let zeros = without(in_order(zeros.extents, size), &data);
        let mut extents = data;
        extents.extend(zeros);
        extents.sort_unstable_by_key(|extent| extent.range.start);
        ImageMap { size, extents }
    }
}

/// Disjoint extents in the order of the disk; the start of one that overlaps another is cut off.
fn in_order(mut extents: Vec<Extent>, size: u64) -> Vec<Extent> {
    extents.sort_by_key(|extent| extent.range.start);
    let mut builder = MapBuilder::default();
    let mut at = 0;
    for Extent { range, held } in extents {
        let range = range.start.max(at)..range.end.min(size);
        at = at.max(range.end);
        builder.add(range, held);
    }
    builder.extents
}

/// The parts of `extents` that are in none of `others`; both are in order.
fn without(extents: Vec<Extent>, others: &[Extent]) -> Vec<Extent> {
    let mut left = MapBuilder::default();
    let mut others = others.iter().peekable();
    for Extent { range, held } in extents {
        let mut at = range.start;
        while let Some(other) = others.next_if(|other| other.range.end <= range.end) {
            left.add(at..other.range.start.max(at), held);
            at = at.max(other.range.end);
        }
        let end = others.peek().map_or(range.end, |other| other.range.start.clamp(at.min(range.end), range.end));
        left.add(at..end, held);
    }
    left.extents
}

impl ImageMap {
    /// A disk of which nothing is known but its bytes.
    pub fn unknown(size: u64) -> Self {
        let mut builder = MapBuilder::default();
        builder.add(0..size, Held::Contents);
        builder.finish(size)
    }

    /// The size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All that is not free: in order, disjoint, within the disk.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The parts of `range` that are not free, in order.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let first = self.extents.partition_point(|extent| extent.range.end <= range.start);
        let found = self.extents.iter().skip(first).take_while(move |extent| extent.range.start < range.end);
        found.map(move |extent| Extent {
            range: extent.range.start.max(range.start)..extent.range.end.min(range.end),
            held: extent.held,
        })
    }

    /// Whether there may be a byte in `range` that is not zero.
    pub fn has_data(&self, range: Range<u64>) -> bool {
        self.within(range).any(|extent| extent.held.is_data())
    }

    /// The ranges that have data, as whole units of `unit` bytes from the start of the disk: in order, and none touches
    /// the next. The last unit may reach past the end of the disk.
    pub fn data_units(&self, unit: u64) -> Vec<Range<u64>> {
        self.units(unit, Held::is_data)
    }

    /// The same of all that is not free.
    pub fn read_units(&self, unit: u64) -> Vec<Range<u64>> {
        self.units(unit, |_| true)
    }

    fn units(&self, unit: u64, counts: impl Fn(Held) -> bool) -> Vec<Range<u64>> {
        let mut units: Vec<Range<u64>> = Vec::new();
        for Extent { range, .. } in self.extents.iter().filter(|extent| counts(extent.held)) {
            let (start, end) = (range.start - range.start % unit, range.end.next_multiple_of(unit));
            match units.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => units.push(start..end),
            }
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELD: [Held; 3] = [Held::Metadata, Held::Contents, Held::Zeros];

    proptest! {
        /// Each byte has the strongest state that was added for it; of equal ones, the first.
        #[test]
        fn each_byte_has_its_place(added in prop::collection::vec((0..60_u64, 0..20_u64, 0..3_usize), 0..20)) {
            const SIZE: u64 = 64;
            let mut builder = MapBuilder::default();
            added.iter().for_each(|&(start, len, held)| builder.add(start..start + len, HELD[held]));
            let map = builder.finish(SIZE);
            let extents = map.extents();
            prop_assert!(extents.iter().all(|extent| !extent.range.is_empty() && extent.range.end <= SIZE));
            prop_assert!(extents.windows(2).all(|two| two[0].range.end <= two[1].range.start));
            for at in 0..SIZE {
                let told: Vec<Held> =
                    added.iter().filter(|(start, len, _)| (*start..start + len).contains(&at)).map(|told| HELD[told.2]).collect();
                let found = map.within(at..at + 1).next().map(|extent| extent.held);
                prop_assert_eq!(found.is_some(), !told.is_empty(), "byte {}", at);
                prop_assert_eq!(map.has_data(at..at + 1), told.iter().any(|held| held.is_data()), "byte {}", at);
            }
            for unit in [1, 4, 7] {
                let units = map.data_units(unit);
                prop_assert!(units.windows(2).all(|two| two[0].end < two[1].start));
                for number in 0..SIZE.div_ceil(unit) {
                    let range = number * unit..(number + 1) * unit;
                    let listed = units.iter().any(|units| units.contains(&range.start));
                    prop_assert_eq!(listed, map.has_data(range), "unit {} of {}", number, unit);
                }
            }
        }
    }
}
