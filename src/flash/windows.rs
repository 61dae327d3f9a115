//! The pieces of a disk that are written and read at once, and their order. Pure.

use std::ops::Range;

use super::ENDS;
use super::medium::UNIT;
use crate::map::ImageMap;
use crate::read::ranges::gaps;

/// The most bytes of a window: enough for every device to be at its fastest.
pub(super) const WINDOW: u64 = 4 << 20;

/// The first bytes of a disk, written last: an MBR and the header of a GPT, with sectors of up to 4096 bytes.
const HEAD: u64 = 2 * 4096;

/// The last bytes of a disk, in which the backup of a GPT is as a rule: wiped before anybody can stop that.
const BACKUP: u64 = 64 << 10;

/// Neighbours that are handled by one thread at once: at most [`WINDOW`] bytes from the first to the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// In order; none touches the next. Each starts at a unit, and ends at one or with the disk.
    pub(super) pieces: Vec<Range<u64>>,
}

/// All windows of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    size: u64,
    /// In the order of the disk. Those of its ends are windows of their own.
    pub(super) windows: Vec<Window>,
    /// Which of them are written before the ends are.
    pub(super) most: Range<usize>,
    /// The ranges that are not written: in order, none touches the next.
    pub(super) free: Vec<Range<u64>>,
}

impl Plan {
    /// Everything on the map of a disk that is `size` bytes long.
    pub(super) fn new(map: &ImageMap, size: u64) -> Self {
        let mut units = map.read_units(UNIT);
        units.iter_mut().for_each(|unit| unit.end = unit.end.min(size));
        units.retain(|unit| !unit.is_empty());
        let free = gaps(&units, 0..size);
        let [_, end, start] = ends(size);
        let bounds = [HEAD, end.end, start.start];
        let mut windows: Vec<Window> = Vec::new();
        let mut frame = None;
        for piece in units.into_iter().flat_map(|unit| cut(unit, bounds)) {
            let place = (piece.start / WINDOW, bounds.map(|bound| piece.start >= bound));
            match windows.last_mut() {
                Some(last) if frame == Some(place) => last.pieces.push(piece),
                _ => windows.push(Window { pieces: vec![piece] }),
            }
            frame = Some(place);
        }
        let before = |bound: u64| windows.partition_point(|window| window.start() < bound);
        let most = before(end.end)..before(start.start).max(before(end.end));
        Self { size, windows, most, free }
    }

    /// The windows of the ends in the order in which they are written: the end, the start, the first sectors.
    pub(super) fn ends(&self) -> [Range<usize>; 3] {
        let heads = self.windows.partition_point(|window| window.start() < HEAD);
        [self.most.end..self.windows.len(), heads..self.most.start, 0..heads]
    }

    /// The ranges that are wiped, in the order in which that is done: first the tables themselves.
    pub(super) fn wiped(&self) -> [Range<u64>; 4] {
        let [head, start, end] = ends(self.size);
        let backup = self.size.saturating_sub(BACKUP);
        let backup = (backup - backup % UNIT).clamp(end.start, end.end);
        [head, backup..end.end, start, end.start..backup]
    }

    /// The bytes of a part of the windows.
    pub(super) fn len(&self, windows: Range<usize>) -> u64 {
        self.windows.get(windows).unwrap_or_default().iter().map(Window::len).sum()
    }

    /// The bytes that are written, and how many of them are zeros.
    pub(super) fn bytes(&self, map: &ImageMap) -> (u64, u64) {
        let data: u64 =
            map.data_units(UNIT).iter().map(|unit| unit.end.min(self.size).saturating_sub(unit.start)).sum();
        let all = self.len(0..self.windows.len());
        (all, all.saturating_sub(data))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free.iter().map(|range| range.end - range.start).sum()
    }
}

impl Window {
    pub(super) fn start(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.start)
    }

    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.end - piece.start).sum()
    }
}

/// The first sectors of a disk, the rest of its first MiB, and its last MiB, as far as they are there: disjoint.
fn ends(size: u64) -> [Range<u64>; 3] {
    let (head, end) = (HEAD.min(size), ENDS.min(size));
    let start = size.saturating_sub(ENDS);
    let start = (start - start % UNIT).max(end);
    [0..head, head..end, start..size]
}

/// A range, cut where a window may have to end.
fn cut(range: Range<u64>, bounds: [u64; 3]) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let frame = (at / WINDOW + 1).saturating_mul(WINDOW);
        let next = bounds.into_iter().filter(|&bound| bound > at).chain([frame, range.end]).min()?;
        let piece = at..next;
        at = next;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::map::{Held, MapBuilder};

    proptest! {
        /// Every unit that somebody reads is in one window, and every other one is free.
        #[test]
        fn windows_share_out_the_disk(
            extents in prop::collection::vec((0..40 * UNIT, 0..3 * UNIT, any::<bool>()), 0..12),
            far in prop::collection::vec((0..24u64 << 20, 1..6u64 << 20), 0..4),
            size in prop_oneof![0..20 * UNIT, 0..24u64 << 20].prop_map(|size| size - size % 512),
        ) {
            let mut map = MapBuilder::default();
            for (start, len, is_data) in extents {
                map.add(start..start + len, if is_data { Held::Contents } else { Held::Zeros });
            }
            far.into_iter().for_each(|(start, len)| map.add(start..start + len, Held::Contents));
            let map = map.finish(size);
            let plan = Plan::new(&map, size);
            let pieces: Vec<_> = plan.windows.iter().flat_map(|window| &window.pieces).cloned().collect();
            prop_assert!(pieces.windows(2).all(|two| two[0].end <= two[1].start));
            for unit in (0..size).step_by(4096).map(|at| at..(at + UNIT).min(size)) {
                let is_read = map.within(unit.clone()).next().is_some();
                let holds = |piece: &&Range<u64>| piece.start <= unit.start && unit.end <= piece.end;
                prop_assert_eq!(pieces.iter().filter(holds).count(), usize::from(is_read), "{:?}", unit);
                prop_assert_eq!(plan.free.iter().any(|free| free.contains(&unit.start)), !is_read, "{:?}", unit);
            }
            for window in &plan.windows {
                let end = window.pieces.last().unwrap().end;
                prop_assert_eq!(window.start() / WINDOW, (end - 1) / WINDOW);
            }
            let [last, start, head] = plan.ends();
            prop_assert_eq!((head.start, head.end, start.end, plan.most.end, last.end),
                (0, start.start, plan.most.start, last.start, plan.windows.len()));
            let in_ends = |at: u64| plan.wiped().iter().any(|wiped| wiped.contains(&at));
            for (index, window) in plan.windows.iter().enumerate() {
                prop_assert_eq!(in_ends(window.start()), !plan.most.contains(&index));
            }
            let (all, zeros) = plan.bytes(&map);
            prop_assert_eq!(all + plan.free_bytes(), size);
            prop_assert!(zeros <= all);
        }
    }
}
