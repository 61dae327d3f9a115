//! What is in an image: everything that can be known about it as a [`Report`], then as text, as JSON or as a page.
//!
//! Of a damaged image, the report has what can be read; the rest is in [`problems`](Report::problems).

use uuid::Uuid;

use crate::image::sealed::sealed;
use crate::image::{Image, PartName, Partition, store};
use crate::read::{Bytes, FileSystem, escape};

mod boot;
mod depthcharge;
mod disk;
mod draw;
mod filesystem;
mod html;
mod report;
mod size;
mod text;
mod treemap;

pub use html::html;
pub use report::*;
pub use text::{Style, text};

/// Looks at all of `image`, but at no contents of files that are not needed to tell what boots.
pub fn inspect(image: &Image, name: &str) -> Report {
    let mut report = Report {
        version: VERSION,
        image: name.to_owned(),
        size: image.bytes().len(),
        container: image.container().map(|container| ContainerReport {
            format: container.form.name(),
            variant: container.variant.clone(),
            file_size: container.file_size,
        }),
        table: image.table().map(disk::table),
        mbr: image.mbr().map(disk::mbr),
        boot_code: None,
        regions: disk::regions(image),
        partitions: Vec::new(),
        boot: None,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let faults = image.table().map(|table| &table.faults).or(image.mbr().map(|mbr| &mbr.faults));
    report.problems.extend(faults.into_iter().flatten().map(ToString::to_string));
    disk::boot_code(image, &mut report);
    let mut opened = Vec::new();
    let sealed = sealed(image);
    for one in &sealed {
        let faults = one.area.faults(one.hashes.bytes().len()).into_iter();
        report.problems.extend(faults.map(|fault| format!("partition {}: {fault}", one.hashes.number)));
    }
    for partition in image.partitions() {
        let mut partition_report = disk::partition(partition, image.mbr(), &sealed);
        if partition.format().is_some() {
            match partition.open() {
                Ok(fs) => {
                    partition_report.filesystem =
                        Some(filesystem::examine(image, fs.as_ref(), partition.number, &mut report));
                    opened.push((partition.number, fs));
                }
                Err(error) => report.problems.push(format!("partition {}: {}", partition.number, chain(&error))),
            }
        }
        report.partitions.push(partition_report);
    }
    depthcharge::choose(&mut report.partitions);
    report.boot = boot::examine(&parts(image, &opened), &mut report.problems);
    warn(&mut report);
    report
}

/// What a booting system finds, or `None` if there is nothing, or nothing that can be read.
pub fn boot(image: &Image) -> Option<BootReport> {
    let open = |partition: &Partition| Some((partition.number, partition.open().ok()?));
    let opened: Vec<_> = image.partitions().iter().filter_map(open).collect();
    boot::examine(&parts(image, &opened), &mut Vec::new())
}

/// What boot loaders can read of the filesystems that were opened.
fn parts<'a>(image: &Image, opened: &'a [(u32, Box<dyn FileSystem>)]) -> boot::Parts<'a> {
    let number = |part| image.find(&part).ok().map(|partition| partition.number);
    let nix = number(PartName::Nix);
    let nix = opened.iter().find(|(number, _)| Some(*number) == nix).map(|(number, fs)| boot::NixFs {
        partition: *number,
        fs: fs.as_ref(),
        location: store::locate(fs.as_ref()).ok().flatten(),
    });
    let volume = |(number, fs): &'a (u32, Box<dyn FileSystem>)| {
        let partition = image.partitions().iter().find(|partition| partition.number == *number);
        let guid = partition.map_or(Uuid::nil(), |partition| partition.guid);
        boot::Volume { number: *number, guid, fs: fs.as_ref() }
    };
    boot::Parts {
        numbering: match (image.table(), image.mbr()) {
            (Some(_), _) => boot::Numbering::Gpt,
            (None, Some(_)) => boot::Numbering::Mbr,
            (None, None) => boot::Numbering::None,
        },
        volumes: opened.iter().map(volume).collect(),
        boot: number(PartName::Boot),
        extended: extended_boot(image).map(|partition| partition.number),
        nix,
    }
}

/// The partition with further entries for the boot loader on the ESP.
fn extended_boot(image: &Image) -> Option<&Partition> {
    image.partitions().iter().find(|partition| partition.is_xbootldr())
}

/// What a booting system finds on `fs`, and what of it cannot be read.
pub(crate) fn boot_on(fs: &dyn FileSystem) -> (Option<BootReport>, Vec<String>) {
    let mut problems = Vec::new();
    let volumes = vec![boot::Volume { number: 1, guid: Uuid::nil(), fs }];
    let parts = boot::Parts { numbering: boot::Numbering::Gpt, volumes, boot: Some(1), extended: None, nix: None };
    let found = boot::examine(&parts, &mut problems);
    (found, problems)
}

/// What is hardly meant.
fn warn(report: &mut Report) {
    let mut warnings = report.boot.as_mut().map(|boot| std::mem::take(&mut boot.warnings)).unwrap_or_default();
    for entry in report.boot.iter().flat_map(|boot| &boot.entries) {
        let missing = entry.files().filter(|(_, file)| file.found.is_none());
        warnings
            .extend(missing.map(|(what, file)| format!("boot entry {}: {what} {} is missing", entry.id, file.path)));
    }
    let filesystems =
        report.partitions.iter().filter_map(|partition| Some((partition.number, partition.filesystem.as_ref()?)));
    for (number, store) in filesystems.filter_map(|(number, fs)| Some((number, fs.store.as_ref()?))) {
        let mut warn = |paths: &[String], what: &str| {
            warnings.extend(paths.iter().map(|path| format!("partition {number}: store path {path}: {what}")));
        };
        if let Some(registration) = &store.registration {
            warn(&registration.missing, "registered but not there");
            // In a store that was used there is more than an image had.
            if store.database.is_none() {
                warn(&registration.unregistered, "there but not registered");
            }
        }
        if let Some(database) = &store.database {
            warn(&database.valid.missing, "valid by the database but not there");
        }
    }
    report.warnings.extend(warnings);
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Report {
    /// The report as JSON, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Nothing in a report can fail to be JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// A name in a report: escaped.
fn shown(path: &std::path::Path) -> String {
    escape::path(path)
}
