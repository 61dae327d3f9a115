//! A treemap: rectangles whose areas are in proportion to given sizes, and that are as near to squares as possible.
//! Pure.
//!
//! The method is the squarified treemap of Bruls, Huizing and van Wijk (2000). Rows are laid along the shorter side of
//! the area that is left. A row takes one more rectangle as long as that makes its worst rectangle more like a square.

/// A rectangle, `y` downwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    fn shorter(&self) -> f64 {
        self.width.min(self.height)
    }
}

/// Divides `within` among `sizes`, which are sorted from large to small. Sizes of zero get no area.
pub(super) fn squarify(sizes: &[u64], within: Rect) -> Vec<Rect> {
    let total: f64 = sizes.iter().map(|&size| to_f64(size)).sum();
    if total <= 0.0 || within.shorter() <= 0.0 {
        return vec![Rect { width: 0.0, height: 0.0, ..within }; sizes.len()];
    }
    let scale = within.width * within.height / total;
    let areas: Vec<f64> = sizes.iter().map(|&size| to_f64(size) * scale).collect();
    let mut rects = Vec::with_capacity(areas.len());
    let mut left = within;
    let mut rest = areas.as_slice();
    while !rest.is_empty() {
        let len = row_len(rest, left.shorter());
        let (row, after) = rest.split_at(len);
        left = lay(row, left, &mut rects);
        rest = after;
    }
    rects
}

#[expect(clippy::cast_precision_loss, reason = "areas on a screen")]
fn to_f64(size: u64) -> f64 {
    size as f64
}

/// How many of `areas` make the best first row along a side of this length: one at least.
fn row_len(areas: &[f64], side: f64) -> usize {
    let mut sum = 0.0;
    let mut best = f64::INFINITY;
    let largest = areas.first().copied().unwrap_or_default();
    for (len, &area) in areas.iter().enumerate() {
        sum += area;
        let worst = worst(largest, area, sum, side);
        if worst > best {
            return len.max(1);
        }
        best = worst;
    }
    areas.len()
}

/// The worst ratio of sides in a row of this sum along this side, whose rectangles lie between these areas.
fn worst(largest: f64, smallest: f64, sum: f64, side: f64) -> f64 {
    let thickness = sum / side;
    let ratio = |area: f64| {
        let length = area / thickness;
        (length / thickness).max(thickness / length)
    };
    if smallest > 0.0 { ratio(largest).max(ratio(smallest)) } else { f64::MAX }
}

/// Lays a row along the shorter side of `left`; returns what is left then.
fn lay(row: &[f64], left: Rect, rects: &mut Vec<Rect>) -> Rect {
    let sum: f64 = row.iter().sum();
    let Rect { x, y, width, height } = left;
    if width >= height {
        let thickness = if height > 0.0 { (sum / height).min(width) } else { 0.0 };
        let mut at = y;
        for &area in row {
            let length = if sum > 0.0 { height * area / sum } else { 0.0 };
            rects.push(Rect { x, y: at, width: thickness, height: length });
            at += length;
        }
        Rect { x: x + thickness, width: width - thickness, ..left }
    } else {
        let thickness = if width > 0.0 { (sum / width).min(height) } else { 0.0 };
        let mut at = x;
        for &area in row {
            let length = if sum > 0.0 { width * area / sum } else { 0.0 };
            rects.push(Rect { x: at, y, width: length, height: thickness });
            at += length;
        }
        Rect { y: y + thickness, height: height - thickness, ..left }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WITHIN: Rect = Rect { x: 10.0, y: 20.0, width: 600.0, height: 400.0 };

    /// The example in the paper: 6 × 4 with 6, 6, 4, 3, 2, 2, 1.
    #[test]
    fn the_example_of_the_paper_comes_out() {
        let within = Rect { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        let rects = squarify(&[6, 6, 4, 3, 2, 2, 1], within);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let is = |rect: Rect, x, y, width, height| {
            close(rect.x, x) && close(rect.y, y) && close(rect.width, width) && close(rect.height, height)
        };
        assert!(is(rects[0], 0.0, 0.0, 3.0, 2.0), "{rects:?}");
        assert!(is(rects[1], 0.0, 2.0, 3.0, 2.0), "{rects:?}");
        assert!(is(rects[2], 3.0, 0.0, 12.0 / 7.0, 7.0 / 3.0), "{rects:?}");
        assert!(is(rects[3], 3.0 + 12.0 / 7.0, 0.0, 9.0 / 7.0, 7.0 / 3.0), "{rects:?}");
    }

    #[test]
    fn nothing_has_no_area() {
        assert_eq!(squarify(&[], WITHIN), []);
        for sizes in [&[0, 0][..], &[5, 0, 0]] {
            let rects = squarify(sizes, WITHIN);
            assert!(rects.iter().all(|rect| rect.width.is_finite() && rect.height.is_finite()), "{rects:?}");
            assert!(rects.last().unwrap().width * rects.last().unwrap().height < 1e-9);
        }
        assert!(squarify(&[1], Rect::default())[0].width <= 0.0);
    }

    proptest! {
        #[test]
        fn areas_are_true_and_disjoint(mut sizes in prop::collection::vec(1..1_000_000u64, 1..60)) {
            sizes.sort_by(|a, b| b.cmp(a));
            let total: u64 = sizes.iter().sum();
            let rects = squarify(&sizes, WITHIN);
            prop_assert_eq!(rects.len(), sizes.len());
            for (i, (rect, &size)) in rects.iter().zip(&sizes).enumerate() {
                let share = rect.width * rect.height / (600.0 * 400.0);
                prop_assert!((share - size as f64 / total as f64).abs() < 1e-6);
                prop_assert!(rect.x >= 10.0 - 1e-6 && rect.x + rect.width <= 610.0 + 1e-6);
                prop_assert!(rect.y >= 20.0 - 1e-6 && rect.y + rect.height <= 420.0 + 1e-6);
                for other in &rects[..i] {
                    let apart = other.x + other.width <= rect.x + 1e-6
                        || rect.x + rect.width <= other.x + 1e-6
                        || other.y + other.height <= rect.y + 1e-6
                        || rect.y + rect.height <= other.y + 1e-6;
                    prop_assert!(apart, "{:?} {:?}", other, rect);
                }
            }
        }
    }
}
