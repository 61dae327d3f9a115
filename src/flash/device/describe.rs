//! Describes a device to the user before it is erased. All text that comes from the device is escaped.

use super::size::{exact, human};
use super::{Device, Filesystem, Partition};
use crate::read::escape;

/// Lines about a device and all that is on it.
pub fn describe(device: &Device) -> Vec<String> {
    let mut lines = vec![device.title()];
    let mut add = |what: &str, text: String| lines.push(format!("  {what:<11}{text}"));
    let identity = &device.identity;
    add("model", identity.name().map_or_else(|| "not known".to_owned(), |name| escape::text(&name)));
    if let Some(serial) = &identity.serial {
        add("serial", escape::text(serial));
    }
    add("size", format!("{} ({})", human(device.size), exact(device.size)));
    add("sectors", sectors(device));
    add("attached", format!("{}, {}", device.bus.name(), device.attachment.name()));
    add("holds", holds(device));
    lines.extend(table(&device.partitions));
    lines
}

/// What is on a device, in one line.
pub fn summary(device: &Device) -> String {
    let names = device.partitions.iter().map(|partition| {
        let name = partition_name(partition);
        match &partition.filesystem {
            Some(filesystem) if name.is_empty() => escape::text(&filesystem.kind),
            Some(filesystem) => format!("{name} ({})", escape::text(&filesystem.kind)),
            None if name.is_empty() => format!("partition {}", partition.number),
            None => name,
        }
    });
    let names: Vec<_> = names.collect();
    match (&device.filesystem, names.as_slice()) {
        (None, [_, ..]) => names.join(", "),
        (Some(filesystem), _) => of(filesystem),
        (None, []) if !device.is_known => "cannot be read".to_owned(),
        (None, []) => device.table.as_ref().map_or("nothing known", |_| "no partitions").to_owned(),
    }
}

fn sectors(device: &Device) -> String {
    let (logical, physical) = (device.sector_size, device.physical_sector_size);
    if physical > logical {
        format!("{logical} bytes, of {physical} in the hardware")
    } else {
        format!("{logical} bytes")
    }
}

fn holds(device: &Device) -> String {
    let mounted = at(device.uses.mounts.iter().map(|mount| escape::path(&mount.path)).collect());
    let filesystem = device.filesystem.as_ref().map(of);
    let partitions = match device.partitions.len() {
        1 => "1 partition".to_owned(),
        number => format!("{number} partitions"),
    };
    let what = match (&device.table, filesystem) {
        (Some(table), _) => format!("{table} with {partitions}"),
        // The kernel may know partitions of a table that is no more.
        (None, Some(filesystem)) if device.partitions.is_empty() => filesystem,
        (None, Some(filesystem)) => format!("{filesystem}, and {partitions} according to the kernel"),
        (None, None) if !device.partitions.is_empty() => partitions,
        (None, None) if device.is_known => "nothing that sane-image knows".to_owned(),
        (None, None) => "not known: it cannot be read".to_owned(),
    };
    format!("{what}{mounted}")
}

fn of(filesystem: &Filesystem) -> String {
    let kind = escape::text(&filesystem.kind);
    if filesystem.label.is_empty() { kind } else { format!("{kind} \"{}\"", escape::text(&filesystem.label)) }
}

/// The label of the filesystem, or else the name in the table.
fn partition_name(partition: &Partition) -> String {
    let label = partition.filesystem.as_ref().map(|filesystem| &filesystem.label).filter(|label| !label.is_empty());
    escape::text(label.unwrap_or(&partition.name))
}

/// A line for each partition, in columns.
fn table(partitions: &[Partition]) -> Vec<String> {
    let rows = partitions.iter().map(|partition| {
        let kind = partition.filesystem.as_ref().map_or_else(|| "-".to_owned(), |fs| escape::text(&fs.kind));
        let label = partition.filesystem.as_ref().map(|fs| escape::text(&fs.label)).unwrap_or_default();
        let names = match (escape::text(&partition.name), label) {
            (name, label) if label.is_empty() || label == name => name,
            (name, label) if name.is_empty() => label,
            (name, label) => format!("{label} ({name})"),
        };
        let mounts = partition.uses.all_mounts().iter().map(|mount| escape::path(&mount.path)).collect();
        let mut uses = at(mounts);
        if partition.uses.is_swap {
            uses.push_str(", in use as swap");
        }
        [partition.number.to_string(), human(partition.size), kind, format!("{names}{uses}")]
    });
    columns(&rows.collect::<Vec<_>>()).into_iter().map(|line| format!("    {line}")).collect()
}

fn at(mounts: Vec<String>) -> String {
    if mounts.is_empty() { String::new() } else { format!(", mounted at {}", mounts.join(" and ")) }
}

/// Texts in columns that are as wide as they must be.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
