//! A report for people, as text. Pure.

use std::fmt::{self, Write};

use super::draw::draw;
use super::report::*;
use super::size::{count, counted, human};

/// As many of the largest things as are named.
const LARGEST: usize = 10;
/// As many names of one kind as are listed.
const NAMES: usize = 10;

/// How the text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether there are colours.
    pub colour: bool,
}

/// The report as text.
pub fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    // A String takes whatever is written.
    let _ = write_report(&mut out, report, style);
    out
}

fn write_report(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    writeln!(out, "{}: {} ({} bytes)", report.image, human(report.size), count(report.size))?;
    if let Some(ContainerReport { format, variant, file_size }) = &report.container {
        writeln!(out, "{format} ({variant}) in a file of {} ({} bytes)", human(*file_size), count(*file_size))?;
    }
    write_table(out, report)?;
    writeln!(out, "\n{}", draw(report, style.width, style.colour))?;
    write_regions(out, report)?;
    for partition in &report.partitions {
        writeln!(out)?;
        write_partition(out, partition)?;
    }
    writeln!(out)?;
    if let Some(code) = &report.boot_code {
        writeln!(out, "What a BIOS starts: {}", boot_code(code))?;
    }
    let started = report.started_by_depthcharge();
    if let Some(number) = started {
        writeln!(out, "What boots on a Chromebook: partition {number}, by depthcharge")?;
    }
    match &report.boot {
        Some(boot) => write_boot(out, boot)?,
        None if started.is_some() || report.boot_code.is_some() => {}
        None => writeln!(out, "What boots: nothing that systemd-boot, extlinux, GRUB, Limine or UEFI would find")?,
    }
    for partition in &report.partitions {
        write_largest(out, partition)?;
    }
    write_list(out, "Warnings", &report.warnings)?;
    write_list(out, "Problems", &report.problems)
}

fn write_list(out: &mut String, title: &str, lines: &[String]) -> fmt::Result {
    if !lines.is_empty() {
        writeln!(out, "\n{title}")?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn write_table(out: &mut String, report: &Report) -> fmt::Result {
    if let Some(mbr) = &report.mbr {
        writeln!(out, "MBR, sectors of {} bytes, disk identifier {}", mbr.sector_size, mbr.signature)?;
        return mbr.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"));
    }
    let Some(table) = &report.table else { return writeln!(out, "a bare partition, without a partition table") };
    writeln!(out, "GPT, sectors of {} bytes, disk GUID {}", table.sector_size, table.disk_guid)?;
    for (name, header) in [("primary", &table.primary), ("backup", &table.backup)] {
        let Some(header) = header else {
            writeln!(out, "  {name}: not there")?;
            continue;
        };
        let state = |is_intact: bool| if is_intact { "intact" } else { "DAMAGED" };
        let (offset, entries) = (count(header.offset), count(header.entries_offset));
        let (header_state, entries_state) = (state(header.intact), state(header.entries_intact));
        let number = header.entries;
        writeln!(
            out,
            "  {name}: header at byte {offset} {header_state}, {number} entries at byte {entries} {entries_state}"
        )?;
    }
    table.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))
}

/// What a region is, in words.
pub(super) fn region_name(report: &Report, region: &Region) -> String {
    let partition = report.partitions.iter().find(|partition| Some(partition.number) == region.partition);
    match (region.kind, partition) {
        (RegionKind::Table, _) => "partition table".to_owned(),
        (RegionKind::Partition, Some(partition)) => format!("partition {}", partition_name(partition)),
        _ => "not in use".to_owned(),
    }
}

fn partition_name(partition: &PartitionReport) -> String {
    match partition.name.as_str() {
        "" => partition.number.to_string(),
        name => format!("{} \"{name}\"", partition.number),
    }
}

fn write_regions(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "{:>16} {:>12}", "from byte", "size")?;
    for region in &report.regions {
        let (offset, size) = (count(region.offset), human(region.size));
        writeln!(out, "{offset:>16} {size:>12}  {}", region_name(report, region))?;
    }
    Ok(())
}

fn write_partition(out: &mut String, partition: &PartitionReport) -> fmt::Result {
    let raw = || partition.mbr.map_or_else(|| partition.type_guid.to_string(), |mbr| format!("type {:02x}", mbr.kind));
    let kind = partition.type_name.clone().unwrap_or_else(raw);
    let is_bare = partition.type_guid.is_nil() && partition.mbr.is_none();
    writeln!(
        out,
        "Partition {}{}",
        partition_name(partition),
        if is_bare { String::new() } else { format!(": {kind}") }
    )?;
    match partition.mbr {
        Some(mbr) => writeln!(out, "  partition UUID {}{}", mbr.uuid(), if mbr.active { ", active" } else { "" })?,
        None if is_bare => {}
        None => writeln!(out, "  GUID {}", partition.guid)?,
    }
    if let Some(one) = &partition.depthcharge {
        writeln!(out, "  {}", depthcharge(one))?;
    }
    match (&partition.filesystem, &partition.swap) {
        (Some(fs), _) => write_filesystem(out, fs),
        (None, Some(swap)) => {
            writeln!(out, "  swap, label \"{}\", UUID {}", swap.label, swap.uuid)?;
            writeln!(out, "  {} in pages of {}", human(swap.size), human(swap.page_size))
        }
        (None, None) => match &partition.verity {
            Some(verity) => write_verity(out, verity),
            None => writeln!(out, "  no filesystem that can be read"),
        },
    }
}

fn write_verity(out: &mut String, verity: &VerityReport) -> fmt::Result {
    writeln!(out, "  dm-verity hashes, {}", verity_data(verity))?;
    let root = verity.root_hash.map_or_else(|| "cannot be computed here".to_owned(), |root| root.to_string());
    let named = if verity.named_by_guids { ", as the GUIDs of both partitions say" } else { "" };
    writeln!(out, "  root hash {root}{named}")?;
    writeln!(out, "  {}, salt {}, UUID {}", verity.algorithm, verity.salt, verity.uuid)
}

/// What a hash area is for, in words.
pub(super) fn verity_data(verity: &VerityReport) -> String {
    let size = human(verity.data_size);
    match verity.data_partition {
        Some(number) => format!("for {size} of partition {number}"),
        None => format!("for {size} that are not in this image"),
    }
}

/// What a BIOS starts, in words.
pub(super) fn boot_code(code: &BootCodeReport) -> String {
    let size = code.size.map_or(String::new(), |size| format!(", {}", human(size)));
    let place = match (code.partition, code.offset) {
        (Some(number), _) => format!(", from partition {number}{size}"),
        (None, Some(offset)) => format!(", from byte {}{size}", count(offset)),
        (None, None) => String::new(),
    };
    format!("{}{place}", code.name)
}

/// What a Chromebook's firmware makes of a partition, in words.
pub(super) fn depthcharge(one: &DepthchargeReport) -> String {
    let tries = counted(one.tries.into(), "try");
    let before = if one.successful { "successful" } else { "not successful yet" };
    let verdict = if one.starts { "depthcharge starts it" } else { "depthcharge does not start it" };
    format!("{verdict}: priority {}, {tries} left, {before}", one.priority)
}

fn write_filesystem(out: &mut String, fs: &FilesystemReport) -> fmt::Result {
    writeln!(out, "  {}, label \"{}\", UUID {}", fs.format, fs.label, fs.uuid)?;
    let (size, used, free) = (human(fs.size), human(fs.used), human(fs.free));
    writeln!(
        out,
        "  {size}: {used} used ({}), {free} free, in blocks of {}",
        percent(fs.used, fs.size),
        human(fs.block_size.into())
    )?;
    let (files, bytes) = (counted(fs.files, "file"), human(fs.file_bytes));
    let (directories, links) = (counted(fs.directories, "directory"), counted(fs.links, "link"));
    let special = if fs.special > 0 { format!(", {}", counted(fs.special, "special file")) } else { String::new() };
    writeln!(out, "  {files} of {bytes}, {directories}, {links}{special}")?;
    if !fs.features.is_empty() {
        writeln!(out, "  features: {}", fs.features.join(" "))?;
    }
    fs.store.as_ref().map_or(Ok(()), |store| write_store(out, store))?;
    fs.outside_store.as_ref().and_then(outside).map_or(Ok(()), |outside| writeln!(out, "  {outside}"))
}

/// What is outside a store, in words; `None` if nothing is.
pub(super) fn outside(one: &OutsideReport) -> Option<String> {
    (one.files > 0).then(|| format!("{} outside the store, {}", counted(one.files, "file"), human(one.size)))
}

fn write_store(out: &mut String, store: &StoreReport) -> fmt::Result {
    let (paths, size) = (counted(store.paths, "path"), human(store.size));
    writeln!(
        out,
        "  store {} in {}: {paths} of {size}; to be mounted at {}",
        store.store_dir, store.path, store.mount_point
    )?;
    if let Some(problem) = &store.registration_problem {
        writeln!(out, "  a nix-path-registration that cannot be used: {problem}")?;
    } else if store.registration.is_none() && store.database.is_none() {
        return writeln!(out, "  no nix-path-registration and no database: Nix will know none of them");
    }
    if let Some(registration) = &store.registration {
        let paths = counted(registration.paths, "path");
        write!(out, "  {} covers ", registration.path)?;
        match (registration.missing.len(), registration.unregistered.len()) {
            (0, 0) => writeln!(out, "all of them"),
            (missing, unregistered) => {
                writeln!(out, "{paths}: {missing} of them not there, {unregistered} others there but not registered")
            }
        }?;
    }
    store.database.as_ref().map_or(Ok(()), |database| writeln!(out, "  {}", knowledge(database, store)))
}

/// What a database knows of a store, in a sentence.
pub(super) fn knowledge(database: &DatabaseReport, store: &StoreReport) -> String {
    let DatabaseReport { partition, path, valid, waiting } = database;
    let known = match valid.paths {
        None => "cannot be read".to_owned(),
        Some(paths) => match (valid.missing.len(), valid.unregistered.len()) {
            (0, 0) => "knows all of them".to_owned(),
            (0, 1) => format!("knows {paths} of {}; 1 is not valid", store.paths),
            (0, unregistered) => format!("knows {paths} of {}; {unregistered} are not valid", store.paths),
            (missing, unregistered) => {
                format!(
                    "knows {}: {missing} of them not there, {unregistered} others there but not valid",
                    counted(paths, "path")
                )
            }
        },
    };
    let with = match waiting.iter().fold(0u64, |sum, file| sum.saturating_add(file.size)) {
        0 => String::new(),
        size => format!("; {} of changes wait in {}", human(size), list(waiting)),
    };
    format!("{path} in partition {partition} {known}{with}")
}

fn list(waiting: &[Waiting]) -> String {
    waiting.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(" and ")
}

fn write_boot(out: &mut String, boot: &BootReport) -> fmt::Result {
    writeln!(out, "What boots, from partition {}", boot.partition)?;
    for program in &boot.firmware {
        let what = program.what.as_ref().map_or(String::new(), |what| format!(": {what}"));
        writeln!(out, "  UEFI starts {} ({}){what}", program.path, human(program.size))?;
    }
    for configuration in &boot.configurations {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let (default, timeout) = (value(&configuration.default), value(&configuration.timeout));
        let partition = configuration.partition.map_or(String::new(), |number| format!("partition {number}, "));
        writeln!(out, "  {partition}{}: default {default}, timeout {timeout}", configuration.path)?;
    }
    boot.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))?;
    boot.entries.iter().try_for_each(|entry| write_entry(out, entry))?;
    boot.credentials.iter().try_for_each(|one| writeln!(out, "  credential {} ({})", one.path, human(one.size)))
}

fn write_entry(out: &mut String, entry: &BootEntry) -> fmt::Result {
    let mark = if entry.default { "*" } else { " " };
    // Of a menu's line, the id ends with the title.
    let is_in_id = |title: &String| entry.id == *title || entry.id.ends_with(&format!(">{title}"));
    let title = entry.title.as_ref().filter(|title| !is_in_id(title));
    let title = title.map_or(String::new(), |title| format!(": {title}"));
    let version = entry.version.as_ref().map_or(String::new(), |version| format!(" ({version})"));
    writeln!(out, "{mark} {} {}{title}{version}", entry.loader.name(), entry.id)?;
    for (what, file) in entry.files() {
        match &file.found {
            Some(found) => writeln!(out, "    {what:<12} {} ({})", file.path, human(found.size))?,
            None => writeln!(out, "    {what:<12} {} MISSING", file.path)?,
        }
    }
    if entry.options.is_empty() { Ok(()) } else { writeln!(out, "    {:<12} {}", "options", entry.options) }
}

fn write_largest(out: &mut String, partition: &PartitionReport) -> fmt::Result {
    let Some(fs) = partition.filesystem.as_ref().filter(|fs| fs.contents.len() > 1) else { return Ok(()) };
    let shown = fs.contents.iter().filter(|usage| usage.size > 0).take(LARGEST);
    let largest = fs.contents.first().map_or(1, |usage| usage.size.max(1));
    writeln!(out, "\nLargest in partition {}", partition.number)?;
    for usage in shown {
        let bar = "█".repeat(usize::try_from(u128::from(usage.size) * 16 / u128::from(largest)).unwrap_or(0).max(1));
        let (size, share) = (human(usage.size), percent(usage.size, fs.file_bytes));
        writeln!(out, "  {size:>10} {share:>7} {bar:<16} {}", usage.path)?;
    }
    let rest = fs.contents.iter().filter(|usage| usage.size > 0).skip(LARGEST);
    let (number, bytes) =
        rest.fold((0u64, 0u64), |(n, sum), usage| (n.saturating_add(1), sum.saturating_add(usage.size)));
    if number > 0 {
        writeln!(out, "  {:>10} {:>7} {:<16} {} more", human(bytes), percent(bytes, fs.file_bytes), "", count(number))?;
    }
    Ok(())
}

/// `12.3 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The first names of a list, and how many more there are.
pub(super) fn first_names(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMES).filter(|&more| more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}
