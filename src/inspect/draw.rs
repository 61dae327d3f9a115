//! A drawing of the disk to scale, in characters. Pure.
//!
//! ```text
//! ┌─┬─────┬────────────────┬──────────────────────────────┬─┐
//! │▒│     │█░░░░░░░░░░░░░░░│████████████████████░░░░░░░░░░│▒│
//! │ │     │     1 vfat     │            2 ext4            │ │
//! └─┴─────┴────────────────┴──────────────────────────────┴─┘
//! ```
//!
//! Small parts are drawn larger than they are, so that they can be seen.

use super::report::{PartitionReport, Region, RegionKind, Report};

/// The colours of partitions, as ANSI codes, one after the other.
const COLOURS: [&str; 5] = ["34", "32", "35", "36", "33"];

/// The drawing in lines of `width` columns, or nothing where there are too many regions for that.
pub(super) fn draw(report: &Report, width: usize, colour: bool) -> String {
    let borders = report.regions.len().saturating_add(1);
    let sizes: Vec<u64> = report.regions.iter().map(|region| region.size).collect();
    let Some(widths) = width.checked_sub(borders).and_then(|columns| divide(&sizes, columns)) else {
        return String::new();
    };
    let cells: Vec<Cell> = report
        .regions
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(i, (region, width))| Cell::new(report, region, width, i))
        .collect();
    let border = |left: &str, between: &str, right: &str| {
        let lines: Vec<String> = cells.iter().map(|cell| "─".repeat(cell.width)).collect();
        format!("{left}{}{right}\n", lines.join(between))
    };
    let row = |content: &dyn Fn(&Cell) -> String| {
        let contents: Vec<String> = cells.iter().map(content).collect();
        format!("│{}│\n", contents.join("│"))
    };
    [
        border("┌", "┬", "┐"),
        row(&|cell| cell.paint(&cell.fill, colour)),
        row(&|cell| cell.paint(&format!("{:^width$}", cell.label, width = cell.width), colour)),
        border("└", "┴", "┘"),
    ]
    .concat()
}

struct Cell {
    width: usize,
    fill: String,
    label: String,
    colour: &'static str,
}

impl Cell {
    fn new(report: &Report, region: &Region, width: usize, index: usize) -> Self {
        let partition = report.partitions.iter().find(|partition| Some(partition.number) == region.partition);
        let (fill, labels) = match (region.kind, partition) {
            (RegionKind::Partition, Some(partition)) => (fill(partition, width), labels(partition)),
            (RegionKind::Table, _) => {
                ("▒".repeat(width), vec![if report.mbr.is_some() { "MBR" } else { "GPT" }.to_owned()])
            }
            _ => (" ".repeat(width), vec!["not in use".to_owned(), "gap".to_owned()]),
        };
        let label = labels.into_iter().find(|label| label.chars().count() <= width).unwrap_or_default();
        let colour = match region.kind {
            RegionKind::Partition => COLOURS.get(index % COLOURS.len()).copied().unwrap_or("0"),
            RegionKind::Table | RegionKind::Gap => "2",
        };
        Self { width, fill, label, colour }
    }

    fn paint(&self, text: &str, colour: bool) -> String {
        if colour { format!("\x1b[{}m{text}\x1b[0m", self.colour) } else { text.to_owned() }
    }
}

/// How full a partition is.
fn fill(partition: &PartitionReport, width: usize) -> String {
    if partition.verity.is_some() {
        return "█".repeat(width);
    }
    if partition.swap.is_some() {
        return "░".repeat(width);
    }
    let Some(fs) = &partition.filesystem else { return "?".repeat(width) };
    let share = u128::from(fs.used) * width as u128 / u128::from(fs.size.max(1));
    let full = usize::try_from(share).unwrap_or(width).clamp(usize::from(fs.used > 0), width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// What a partition can be called, from long to short.
fn labels(partition: &PartitionReport) -> Vec<String> {
    let number = partition.number;
    let other = match (&partition.swap, &partition.verity) {
        (Some(_), _) => "swap",
        (None, Some(_)) => "verity",
        (None, None) => "unknown",
    };
    let format = partition.filesystem.as_ref().map_or(other, |fs| fs.format);
    vec![format!("{number} {format}"), number.to_string()]
}

/// Divides `columns` among `sizes` as they are to each other, at least one each; `None` if there are too few.
pub(super) fn divide(sizes: &[u64], columns: usize) -> Option<Vec<usize>> {
    let mut left = columns;
    let mut widths = vec![0; sizes.len()];
    // What would get less than one column gets one, and the others divide the rest.
    let mut small = vec![false; sizes.len()];
    loop {
        let sum: u128 = sizes.iter().zip(&small).filter(|(_, small)| !**small).map(|(&size, _)| u128::from(size)).sum();
        let is_small = |size: u64| u128::from(size) * (left as u128) < sum.max(1);
        let Some(found) = (0..sizes.len()).find(|&i| !small[i] && is_small(sizes[i])) else { break };
        (small[found], widths[found]) = (true, 1);
        left = left.checked_sub(1)?;
    }
    let large: Vec<usize> = (0..sizes.len()).filter(|&i| !small[i]).collect();
    let mut rest: u128 = large.iter().map(|&i| u128::from(sizes[i])).sum();
    // Each takes its share of what is left then, so that the sum is exact.
    for i in large {
        let share = (u128::from(sizes[i]) * left as u128 * 2 + rest).checked_div(rest * 2).unwrap_or(0);
        widths[i] = usize::try_from(share).ok()?.clamp(1, left.max(1));
        left = left.checked_sub(widths[i])?;
        rest -= u128::from(sizes[i]);
    }
    if let Some(widest) = (0..widths.len()).max_by_key(|&i| widths[i]) {
        widths[widest] += left;
    }
    Some(widths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_things_are_seen() {
        assert_eq!(divide(&[17, 16 << 20, 64 << 20, 400 << 20, 17], 60).unwrap(), [1, 2, 8, 48, 1]);
        assert_eq!(divide(&[1, 1], 10).unwrap(), [5, 5]);
        assert_eq!(divide(&[], 10).unwrap(), [0; 0]);
        assert_eq!(divide(&[1, 2, 3], 2), None);
        assert_eq!(divide(&[u64::MAX, u64::MAX, 1], 21).unwrap(), [10, 10, 1]);
    }

    proptest! {
        #[test]
        fn no_column_is_lost(sizes in prop::collection::vec(0..u64::MAX, 1..40), columns in 40..200usize) {
            let widths = divide(&sizes, columns).unwrap();
            prop_assert_eq!(widths.iter().sum::<usize>(), columns);
            prop_assert!(widths.iter().all(|&width| width > 0));
        }
    }
}
