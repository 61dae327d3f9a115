//! `sane-image diff`.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::BinaryBytes;
use sane_image::diff::boot::EntryDiff;
use sane_image::diff::disk::{Difference, PartitionDiff, Value};
use sane_image::diff::files::{Aspect, FileChange, FileDiff};
use sane_image::diff::packages::{Change, PackageDiff, StoreDiff, Totals, Version};
use sane_image::diff::side::Side;
use sane_image::diff::{self, Depth, Diff, DiffError, Options, PartitionFiles, Which};
use sane_image::image::Image;
use sane_image::progress::Cancel;
use sane_image::read::{Kind, Metadata, ReadError, escape};
use serde_json::json;

use super::look::{self, Outcome};
use super::{progress, threads, verify};

/// Two values of more characters than this stand below each other.
const LONG: usize = 80;
/// The most files outside the store that are listed for each partition, unless all files are asked for.
const OUTSIDE: usize = 100;

/// Show what changed from one image to the next, or from a closure to an image.
///
/// Compares partitions, filesystems, files outside the store, store paths by name and version, and what boots. Exits 1
/// if anything differs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What did the update change?
    sane-image diff old/nixos.img result/nixos.img
  Does the disk still hold what was built?
    sane-image diff /nix/store/…-closure-info /dev/sda")]
pub(super) struct DiffArgs {
    /// An image, one partition's bare image, or a closure: a closureInfo directory, or the registration in one
    #[arg(value_name = "A")]
    before: PathBuf,
    /// What to compare it with
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Compare file by file, contents included
    #[arg(long)]
    files: bool,
    /// Print the differences as JSON; docs/reference/diff-json.md explains it
    #[arg(long)]
    json: bool,
    /// How many threads to use, at most four per core; the result is the same [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

pub(super) fn run(args: &DiffArgs, cancel: &Cancel) -> Result<Outcome> {
    let [before, after] = [open(&args.before)?, open(&args.after)?];
    let is_whole = tell_waiting(&before, &args.before).and(tell_waiting(&after, &args.after));
    let progress = progress::for_stderr();
    let depth = if args.files { Depth::Files } else { Depth::Summary };
    let options = Options { depth, jobs: threads::count(args.jobs), progress: progress.as_ref(), cancel };
    let diff = diff::diff(&before, &after, options).map_err(|error| name_image(error, args))?;
    drop(progress);
    let mut out = look::stdout();
    if args.json {
        writeln!(out, "{:#}", json(&diff))?;
    } else {
        let [before, after] = [&args.before, &args.after].map(|path| escape::path(path));
        if diff.is_empty() {
            writeln!(out, "{before} and {after} do not differ")?;
        } else {
            writeln!(out, "<<< {before}\n>>> {after}")?;
            out.write_all(text(&diff, depth).as_bytes())?;
        }
    }
    out.flush()?;
    Ok(is_whole.and(if diff.is_empty() { Outcome::Done } else { Outcome::Failed }))
}

/// Says of which image something cannot be read.
fn name_image(error: DiffError, args: &DiffArgs) -> anyhow::Error {
    let DiffError::Read { which, partition, source } = error else { return error.into() };
    let path = match which {
        Which::Before => &args.before,
        Which::After => &args.after,
    };
    anyhow::Error::from(source).context(format!("{}: partition {partition}", escape::path(path)))
}

/// An image, a closureInfo directory, or the registration in one.
fn open(path: &Path) -> Result<Side> {
    if !path.is_dir() {
        match Image::open(path) {
            Ok(image) => return Ok(Side::Image(Box::new(image))),
            Err(error @ ReadError::Open { .. }) => return Err(error.into()),
            // A file that is no image may be a registration, which starts with a store path.
            Err(error) => {
                return verify::read_registration(path)
                    .map(Side::Closure)
                    .map_err(|_| error)
                    .with_context(|| format!("{}: is neither an image nor a registration", escape::path(path)));
            }
        }
    }
    verify::read_registration(path).map(Side::Closure)
}

/// Tells of the filesystems of which not all is compared.
fn tell_waiting(side: &Side, path: &Path) -> Outcome {
    let Side::Image(image) = side else { return Outcome::Done };
    image.partitions().iter().fold(Outcome::Done, |outcome, partition| {
        let name = format!("{}: partition {}", escape::path(path), partition.number);
        // What cannot be opened is reported elsewhere.
        partition.open().map_or(outcome, |fs| outcome.and(look::tell_waiting(fs.as_ref(), &name)))
    })
}

// ---- for people

fn text(diff: &Diff, depth: Depth) -> String {
    let mut text = String::new();
    if let Some(disk) = &diff.disk {
        if !disk.table.is_empty() {
            text.push_str("\ndisk\n");
            text.push_str(&differences(&disk.table));
        }
        disk.partitions.iter().for_each(|partition| text.push_str(&partition_text(partition)));
    }
    diff.outside.iter().for_each(|files| text.push_str(&outside_text(files, depth)));
    if !diff.store.is_empty() {
        text.push_str(&store_text(&diff.store));
    }
    if !diff.boot.is_empty() {
        text.push_str("\nboot entries\n");
        diff.boot.iter().for_each(|entry| text.push_str(&entry_text(entry)));
    }
    diff.files.iter().for_each(|files| text.push_str(&files_text(files)));
    text
}

fn partition_text(partition: &PartitionDiff) -> String {
    let name = if partition.name.is_empty() { String::new() } else { format!(" \"{}\"", partition.name) };
    let (number, what) = numbers(partition.before, partition.after);
    let rows = differences(&partition.differences);
    format!("\npartition {number}{name}{what}\n{rows}")
}

/// A partition's number or numbers, and whether it came or went.
fn numbers(before: Option<u32>, after: Option<u32>) -> (String, &'static str) {
    match (before, after) {
        (Some(before), Some(after)) if before != after => (format!("{before} → {after}"), ""),
        (Some(_), Some(number)) => (number.to_string(), ""),
        (None, Some(number)) => (number.to_string(), ": added"),
        (Some(number), None) => (number.to_string(), ": removed"),
        (None, None) => (String::new(), ""),
    }
}

fn differences(differences: &[Difference]) -> String {
    table(differences.iter().flat_map(|Difference { field, before, after }| {
        let (before, after) = (value(before), value(after));
        if before.chars().count() + after.chars().count() > LONG {
            return vec![vec![words(field), format!("- {before}")], vec![String::new(), format!("+ {after}")]];
        }
        vec![vec![words(field), format!("{before} → {after}")]]
    }))
}

/// `typeGuid` as "type guid".
fn words(field: &str) -> String {
    let spaced = field.chars().flat_map(|c| c.is_uppercase().then_some(' ').into_iter().chain(c.to_lowercase()));
    spaced.collect()
}

fn value(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => {
            let short = BinaryBytes(*bytes).to_string();
            if *bytes < 1024 { short } else { format!("{short} ({bytes})") }
        }
        Value::Text(text) if text.is_empty() => "\"\"".to_owned(),
        Value::Text(text) => text.clone(),
        Value::None => "none".to_owned(),
    }
}

fn store_text(store: &StoreDiff) -> String {
    let mut text = String::from("\nstore paths\n");
    let mut packages: Vec<&PackageDiff> = store.packages.iter().collect();
    packages.sort_by_key(|package| (package.change, package.name.clone()));
    text.push_str(&table(packages.into_iter().map(package_row)));
    let StoreDiff { added, removed, altered, before, after, .. } = store;
    let altered = match altered.len() {
        0 => String::new(),
        n => format!(", {n} with different contents under the same name"),
    };
    text.push_str(&format!(
        "  {} → {} paths: {} added, {} removed{altered}; {} → {} of NARs ({})\n",
        before.paths,
        after.paths,
        added.len(),
        removed.len(),
        BinaryBytes(before.nar_bytes),
        BinaryBytes(after.nar_bytes),
        delta(before.nar_bytes, after.nar_bytes)
    ));
    text
}

fn package_row(package: &PackageDiff) -> Vec<String> {
    let (before, after) = (versions(&package.before), versions(&package.after));
    let versions = match package.change {
        Change::Added => after,
        Change::Removed => before,
        Change::Rebuilt => after,
        _ => format!("{before} → {after}"),
    };
    let delta = delta(package.bytes_before, package.bytes_after);
    vec![change_name(package.change).to_owned(), package.name.clone(), versions, delta]
}

fn versions(versions: &[Version]) -> String {
    let each = versions.iter().map(|Version { version, paths }| {
        let version = if version.is_empty() { "<none>" } else { version };
        if *paths > 1 { format!("{version} ×{paths}") } else { version.to_owned() }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::Upgraded => "upgraded",
        Change::Downgraded => "downgraded",
        Change::Changed => "changed",
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Rebuilt => "rebuilt",
    }
}

fn delta(before: u64, after: u64) -> String {
    let size = BinaryBytes(after.abs_diff(before));
    match after.cmp(&before) {
        std::cmp::Ordering::Less => format!("-{size}"),
        std::cmp::Ordering::Equal => "±0".to_owned(),
        std::cmp::Ordering::Greater => format!("+{size}"),
    }
}

fn entry_text(entry: &EntryDiff) -> String {
    let EntryDiff { before, after, title, differences: changes } = entry;
    let title = if title.is_empty() { String::new() } else { format!("  \"{title}\"") };
    let (sign, id) = match (before, after) {
        (None, Some(id)) => ('+', id),
        (Some(id), None) => ('-', id),
        (_, Some(id)) => ('~', id),
        (None, None) => return String::new(),
    };
    let rows = differences(changes);
    let rows: String = rows.lines().map(|line| format!("  {line}\n")).collect();
    format!("  {sign} {id}{title}\n{rows}")
}

fn outside_text(files: &PartitionFiles, depth: Depth) -> String {
    let (number, what) = numbers(files.before, files.after);
    let most = if depth == Depth::Files { usize::MAX } else { OUTSIDE };
    let lines: String = files.files.iter().take(most).map(file_line).collect();
    let more = match files.files.len().saturating_sub(most) {
        0 => String::new(),
        more => format!("  and {more} more; --files lists them all\n"),
    };
    format!("\nfiles outside the store, partition {number}{what}\n{lines}{more}")
}

/// All files except those outside the store, which are listed elsewhere.
fn files_text(files: &PartitionFiles) -> String {
    let (number, what) = numbers(files.before, files.after);
    let lines: String = files.files.iter().filter(|file| !file.is_outside).map(file_line).collect();
    if lines.is_empty() { lines } else { format!("\nfiles of partition {number}{what}\n{lines}") }
}

fn file_line(file: &FileDiff) -> String {
    let path = escape::path(&file.path);
    let details = |metadata: Option<Metadata>| {
        let metadata = metadata.filter(|_| file.is_outside);
        metadata.map_or_else(String::new, |metadata| format!(" ({})", details(&metadata)))
    };
    match &file.change {
        FileChange::Added => format!("  + {path}{}\n", details(file.after)),
        FileChange::Removed => format!("  - {path}{}\n", details(file.before)),
        FileChange::Changed(aspects) => {
            let aspects: Vec<_> = aspects.iter().map(|aspect| aspect_text(*aspect, file)).collect();
            format!("  ~ {path}: {}\n", aspects.join(", "))
        }
    }
}

/// What a file is, its mode and owner.
fn details(metadata: &Metadata) -> String {
    let what = match metadata.kind {
        Kind::File => BinaryBytes(metadata.len).to_string(),
        Kind::Directory => "directory".to_owned(),
        Kind::Symlink => return format!("link, {}", owner(metadata)),
        Kind::Special => "special file".to_owned(),
    };
    format!("{what}, {:04o}, {}", metadata.permissions, owner(metadata))
}

fn owner(metadata: &Metadata) -> String {
    format!("{}:{}", metadata.uid, metadata.gid)
}

fn aspect_text(aspect: Aspect, file: &FileDiff) -> String {
    let name = aspect.name();
    let (Some(before), Some(after)) = (file.before, file.after) else { return name.to_owned() };
    match aspect {
        Aspect::Mode => format!("{name} {:04o} → {:04o}", before.permissions, after.permissions),
        Aspect::Owner => format!("{name} {} → {}", owner(&before), owner(&after)),
        Aspect::Kind | Aspect::Target | Aspect::Contents => name.to_owned(),
    }
}

/// Rows with their columns aligned. The last column is not padded, unless it has numbers.
fn table(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        let last = row.len().saturating_sub(1);
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = if column == last { 0 } else { width(column).unwrap_or(0).min(60) };
            line.push_str(&format!("  {cell:width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

// ---- for machines, as docs/reference/diff-json.md has it

fn json(diff: &Diff) -> serde_json::Value {
    let disk = diff.disk.as_ref().map(|disk| {
        json!({
            "table": disk.table.iter().map(json_difference).collect::<Vec<_>>(),
            "partitions": disk.partitions.iter().map(|partition| json!({
                "before": partition.before,
                "after": partition.after,
                "name": partition.name,
                "differences": partition.differences.iter().map(json_difference).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    });
    let boot = diff.boot.iter().map(|entry| {
        json!({
            "before": entry.before,
            "after": entry.after,
            "title": entry.title,
            "differences": entry.differences.iter().map(json_difference).collect::<Vec<_>>(),
        })
    });
    let [outside, files] =
        [&diff.outside, &diff.files].map(|partitions| partitions.iter().map(json_files).collect::<Vec<_>>());
    json!({
        "version": 1,
        "differs": !diff.is_empty(),
        "disk": disk,
        "outsideStore": outside,
        "store": json_store(&diff.store),
        "boot": boot.collect::<Vec<_>>(),
        "files": files,
    })
}

fn json_difference(difference: &Difference) -> serde_json::Value {
    let value = |value: &Value| match value {
        Value::Bytes(bytes) => json!(bytes),
        Value::Text(text) => json!(text),
        Value::None => json!(null),
    };
    json!({ "field": difference.field, "before": value(&difference.before), "after": value(&difference.after) })
}

fn json_store(store: &StoreDiff) -> serde_json::Value {
    let totals = |totals: Totals| json!({ "paths": totals.paths, "narBytes": totals.nar_bytes });
    let versions = |versions: &[Version]| {
        let each = versions.iter().map(|Version { version, paths }| json!({ "version": version, "paths": paths }));
        each.collect::<Vec<_>>()
    };
    let packages = store.packages.iter().map(|package| {
        json!({
            "name": package.name,
            "change": change_name(package.change),
            "before": { "versions": versions(&package.before), "narBytes": package.bytes_before },
            "after": { "versions": versions(&package.after), "narBytes": package.bytes_after },
        })
    });
    json!({
        "added": store.added,
        "removed": store.removed,
        "altered": store.altered,
        "before": totals(store.before),
        "after": totals(store.after),
        "packages": packages.collect::<Vec<_>>(),
    })
}

fn json_files(partition: &PartitionFiles) -> serde_json::Value {
    json!({
        "before": partition.before,
        "after": partition.after,
        "files": partition.files.iter().map(json_file).collect::<Vec<_>>(),
    })
}

fn json_file(file: &FileDiff) -> serde_json::Value {
    let facts = |metadata: Option<Metadata>| {
        metadata.map(|one| json!({ "mode": format!("{:04o}", one.permissions), "uid": one.uid, "gid": one.gid }))
    };
    let (change, aspects) = match &file.change {
        FileChange::Added => ("added", Vec::new()),
        FileChange::Removed => ("removed", Vec::new()),
        FileChange::Changed(aspects) => ("changed", aspects.iter().map(|aspect| aspect.name()).collect()),
    };
    json!({
        "path": escape::path(&file.path),
        "change": change,
        "aspects": aspects,
        "before": facts(file.before),
        "after": facts(file.after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb", "c"], ["dddd", "→", "ee"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(rows.into_iter()), "  a     bb  c\n  dddd  →   ee\n");
    }

    #[test]
    fn long_values_stand_below_each_other() {
        let difference = |before: &str, after: &str| {
            let [before, after] = [before, after].map(|text| Value::Text(text.to_owned()));
            differences(&[Difference { field: "options", before, after }])
        };
        assert_eq!(difference("a", "b"), "  options  a → b\n");
        let long = "x".repeat(80);
        assert_eq!(difference(&long, "b"), format!("  options  - {long}\n           + b\n"));
    }

    #[test]
    fn fields_are_words() {
        assert_eq!(words("typeGuid"), "type guid");
        assert_eq!(words("filesystemSize"), "filesystem size");
    }

    #[test]
    fn changes_of_size_have_signs() {
        assert_eq!((delta(1, 2), delta(2, 1), delta(2, 2)), ("+1 B".to_owned(), "-1 B".to_owned(), "±0".to_owned()));
    }
}
