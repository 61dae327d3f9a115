//! The drawings of the page: the disk to scale, and what takes the space in a filesystem. Pure.

use std::fmt::{self, Write};

use super::super::draw::divide;
use super::super::report::*;
use super::super::size::{count, counted, human};
use super::super::text::{percent, region_name};
use super::super::treemap::{Rect, squarify};
use super::esc;

/// The width of drawings, in their own units.
const WIDTH: u32 = 1000;
/// As many rectangles as an eye can make use of; the rest is one.
const MOST: usize = 400;
/// Digits of a hash and the dash in the name of a store path.
const HASH: usize = 33;

/// The disk, from left to right.
pub(super) fn disk(out: &mut String, report: &Report) -> fmt::Result {
    let sizes: Vec<u64> = report.regions.iter().map(|region| region.size).collect();
    // In steps of four units, so that the smallest can be seen and pointed at.
    let Some(widths) = divide(&sizes, 250) else { return Ok(()) };
    writeln!(out, "<svg class=\"disk\" viewBox=\"0 0 {WIDTH} 96\" role=\"img\" aria-label=\"The disk to scale\">")?;
    let mut x = 0;
    for (region, width) in report.regions.iter().zip(widths) {
        let width = u32::try_from(width).unwrap_or(0).saturating_mul(4);
        write_region(out, report, region, x, width)?;
        x = x.saturating_add(width);
    }
    writeln!(out, "<text x=\"0\" y=\"92\" class=\"scale\">0</text>")?;
    writeln!(
        out,
        "<text x=\"{WIDTH}\" y=\"92\" class=\"scale\" text-anchor=\"end\">{}</text>\n</svg>",
        human(report.size)
    )
}

fn write_region(out: &mut String, report: &Report, region: &Region, x: u32, width: u32) -> fmt::Result {
    let partition = report.partitions.iter().find(|partition| Some(partition.number) == region.partition);
    let class = match (region.kind, partition) {
        (RegionKind::Partition, Some(partition)) => format!("p{}", partition.number % 6),
        (RegionKind::Table, _) => "table".to_owned(),
        _ => "gap".to_owned(),
    };
    let fs = partition.and_then(|partition| partition.filesystem.as_ref());
    let used = fs.map_or(String::new(), |fs| format!(", {} used, {} free", human(fs.used), human(fs.free)));
    let title =
        format!("{}: {} from byte {}{used}", region_name(report, region), human(region.size), count(region.offset));
    writeln!(out, "<g class=\"{class}\"><title>{}</title>", esc(&title))?;
    let inner = width.saturating_sub(1);
    writeln!(out, "<rect class=\"all\" x=\"{x}\" y=\"0\" width=\"{inner}\" height=\"76\" rx=\"3\"/>")?;
    if let Some(fs) = fs {
        let share = u128::from(fs.used) * u128::from(inner) / u128::from(fs.size.max(1));
        let full = u32::try_from(share).unwrap_or(inner).clamp(u32::from(fs.used > 0), inner);
        writeln!(out, "<rect class=\"used\" x=\"{x}\" y=\"0\" width=\"{full}\" height=\"76\" rx=\"3\"/>")?;
    }
    let name = partition.map_or(
        if region.kind == RegionKind::Gap { "not in use".to_owned() } else { "GPT".to_owned() },
        |partition| {
            let format = fs.map_or("unknown", |fs| fs.format);
            if partition.name.is_empty() {
                format!("{} · {format}", partition.number)
            } else {
                format!("{} · {}", partition.number, partition.name)
            }
        },
    );
    for (line, y, class) in [(name, 34, "name"), (human(region.size), 54, "size")] {
        if text_width(&line, 14) + 8.0 <= f64::from(width) {
            let middle = x.saturating_add(width / 2);
            writeln!(
                out,
                "<text x=\"{middle}\" y=\"{y}\" class=\"{class}\" text-anchor=\"middle\">{}</text>",
                esc(&line)
            )?;
        }
    }
    writeln!(out, "</g>")
}

/// About how wide a text is in letters of this size.
#[expect(clippy::cast_precision_loss, reason = "a guess")]
fn text_width(text: &str, size: u32) -> f64 {
    text.chars().count() as f64 * f64::from(size) * 0.58
}

/// A rectangle for everything that takes space, by its size.
pub(super) fn treemap(out: &mut String, fs: &FilesystemReport) -> fmt::Result {
    let usages: Vec<&Usage> = fs.contents.iter().filter(|usage| usage.size > 0).collect();
    let (shown, rest) = usages.split_at(usages.len().min(MOST));
    let mut sizes: Vec<u64> = shown.iter().map(|usage| usage.size).collect();
    let rest_size = rest.iter().fold(0u64, |sum, usage| sum.saturating_add(usage.size));
    // The sizes must be sorted; the rest goes to its place among them.
    let place = sizes.partition_point(|&size| size >= rest_size);
    let has_rest = rest_size > 0;
    if has_rest {
        sizes.insert(place, rest_size);
    }
    let height = if fs.store.is_some() { 520.0 } else { 220.0 };
    let within = Rect { x: 0.0, y: 0.0, width: f64::from(WIDTH), height };
    writeln!(
        out,
        "<svg class=\"treemap\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"What takes the space\">"
    )?;
    for (i, rect) in squarify(&sizes, within).into_iter().enumerate() {
        let index = if has_rest && i > place { i - 1 } else { i };
        if has_rest && i == place {
            let title = format!("{} more: {}", count(rest.len() as u64), human(rest_size));
            write_tile(out, rect, "rest", &title, &format!("{} more", count(rest.len() as u64)), &human(rest_size))?;
        } else if let Some(usage) = shown.get(index) {
            let (size, share) = (human(usage.size), percent(usage.size, fs.file_bytes));
            let title = format!("{}\n{size}, {share}, {}", usage.path, counted(usage.files, "file"));
            let name = short_name(&usage.path);
            write_tile(out, rect, &format!("t{}", hue(name)), &title, name, &size)?;
        }
    }
    writeln!(out, "</svg>")
}

/// The last name of a path; of a store path without its hash.
pub(super) fn short_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_digit = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let has_hash = name
        .as_bytes()
        .get(..HASH)
        .is_some_and(|start| start.ends_with(b"-") && start.iter().take(HASH - 1).all(is_digit));
    if has_hash { name.get(HASH..).unwrap_or(name) } else { name }
}

/// One of twelve colours, the same for all versions of a package.
fn hue(name: &str) -> u32 {
    let stem = name.split(|c: char| c == '-' || c == '.' || c.is_ascii_digit()).next().unwrap_or(name);
    stem.bytes().fold(7, |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % 12
}

fn write_tile(out: &mut String, rect: Rect, class: &str, title: &str, name: &str, size: &str) -> fmt::Result {
    let Rect { x, y, width, height } = rect;
    let (inner_width, inner_height) = ((width - 1.0).max(0.2), (height - 1.0).max(0.2));
    write!(out, "<g class=\"{class}\"><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" ", esc(title))?;
    write!(out, "width=\"{inner_width:.1}\" height=\"{inner_height:.1}\" rx=\"2\"/>")?;
    if let Some((label, font)) = label(name, width - 10.0, height - 6.0) {
        let (left, base) = (x + 5.0, y + 4.0 + f64::from(font));
        write!(out, "<text x=\"{left:.1}\" y=\"{base:.1}\" font-size=\"{font}\">{}</text>", esc(&label))?;
        let (small, below) = (font.min(14).saturating_sub(2).max(9), base + f64::from(font) * 1.05);
        if below + 4.0 < y + height && text_width(size, small) < width - 10.0 {
            write!(
                out,
                "<text x=\"{left:.1}\" y=\"{below:.1}\" font-size=\"{small}\" class=\"size\">{}</text>",
                esc(size)
            )?;
        }
    }
    writeln!(out, "</g>")
}

/// As much of a name as fits, and the size of its letters; `None` where nothing would be read.
fn label(name: &str, width: f64, height: f64) -> Option<(String, u32)> {
    let fits = |font: &u32| f64::from(*font) * 1.2 <= height && text_width(name, *font) <= width;
    if let Some(font) = [22, 18, 15, 13, 11, 10].into_iter().find(fits) {
        return Some((name.to_owned(), font));
    }
    let letters = (1..name.chars().count())
        .rev()
        .find(|&n| text_width(&name.chars().take(n).collect::<String>(), 10) + 6.0 <= width)?;
    (letters >= 5 && height >= 12.0).then(|| (name.chars().take(letters).chain(['…']).collect(), 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_paths_are_called_by_their_names() {
        assert_eq!(short_name("nix/store/0q43idch209zsdngl8yl79x0y79aajib-nix-2.8.1"), "nix-2.8.1");
        assert_eq!(short_name("EFI/nixos"), "nixos");
        assert_eq!(short_name("nix/store/short-x"), "short-x");
        assert_eq!(hue("linux-6.12.1"), hue("linux-6.9"));
    }

    #[test]
    fn labels_fit() {
        assert_eq!(label("nix", 300.0, 100.0), Some(("nix".to_owned(), 22)));
        assert_eq!(label("a-long-name-of-a-package", 100.0, 50.0).unwrap().0, "a-long-name-of-a…");
        assert_eq!(label("nix", 300.0, 5.0), None);
        assert_eq!(label("abcdefghijk", 20.0, 50.0), None);
    }
}
