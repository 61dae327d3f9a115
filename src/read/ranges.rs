//! Ranges of bytes, in order. No range touches the next.

use std::ops::Range;

/// No more ranges are remembered, whatever an image says: 4 MiB of them.
const MOST: usize = 1 << 18;

/// Free ranges, added in order. What would be too many is left out: it counts as used.
#[derive(Debug, Default)]
pub(crate) struct Free(Vec<Range<u64>>);

impl Free {
    pub(crate) fn add(&mut self, range: Range<u64>) {
        let is_full = self.0.len() >= MOST;
        match self.0.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() || is_full => {}
            _ => self.0.push(range),
        }
    }

    pub(crate) fn into_list(self) -> Vec<Range<u64>> {
        self.0
    }
}

/// Used ranges, added in order. Where there would be too many, what is free between two of them counts as used.
#[derive(Debug, Default)]
pub(crate) struct Used(Vec<Range<u64>>);

impl Used {
    pub(crate) fn add(&mut self, range: Range<u64>) {
        let is_full = self.0.len() >= MOST;
        match self.0.last_mut() {
            Some(last) if last.end == range.start || is_full => last.end = last.end.max(range.end),
            _ if range.is_empty() => {}
            _ => self.0.push(range),
        }
    }

    pub(crate) fn list(&self) -> &[Range<u64>] {
        &self.0
    }
}

/// All that is in any of the ranges, which are in no order.
pub(crate) fn union(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// The parts of `whole` that are in none of the ranges, which are in order.
pub(crate) fn gaps(ranges: &[Range<u64>], whole: Range<u64>) -> Vec<Range<u64>> {
    let mut at = whole.start;
    let mut gaps = Vec::new();
    for range in ranges.iter().filter(|range| range.end > whole.start && range.start < whole.end) {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < whole.end {
        gaps.push(at..whole.end);
    }
    gaps
}

/// Whether these are ranges in order, within `len` bytes, none of them empty or touching the one before.
pub(crate) fn are_sound(ranges: &[Range<u64>], len: u64) -> bool {
    let are_apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(one, next)| one.end < next.start);
    are_apart && ranges.iter().all(|range| !range.is_empty() && range.end <= len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unions_and_gaps_share_out_all_bytes(ranges in prop::collection::vec((0..50_u64, 0..9_u64), 0..12), start in 0..9_u64) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            let all = union(ranges.clone());
            prop_assert!(are_sound(&all, 60));
            let gaps = gaps(&all, start..55);
            prop_assert!(are_sound(&gaps, 55));
            for at in 0..60 {
                let is_in = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&at));
                prop_assert_eq!(is_in(&all), is_in(&ranges));
                prop_assert_eq!(is_in(&gaps), (start..55).contains(&at) && !is_in(&ranges));
            }
        }
    }

    /// Whatever is left out is on the safe side.
    #[test]
    fn too_many_are_used() {
        let (mut free, mut used) = (Free::default(), Used::default());
        let ranges = (0..MOST as u64 + 10).map(|number| number * 4..number * 4 + 2);
        ranges.for_each(|range| {
            free.add(range.clone());
            used.add(range);
        });
        let end = (MOST as u64 + 9) * 4 + 2;
        assert_eq!(free.into_list().last().unwrap().end, (MOST as u64 - 1) * 4 + 2);
        assert_eq!((used.list().len(), used.list().last().unwrap().end), (MOST, end));
    }
}
