//! A report as one page. It has no script, needs nothing from elsewhere, and is well-formed XML, too. Pure.

use std::fmt::{self, Write};

use super::report::*;
use super::size::{count, counted, human};
use super::text::{boot_code, depthcharge, first_names, knowledge, outside, percent, verity_data};

mod map;

/// As many of the largest things as are in the table.
const LARGEST: usize = 30;
/// As many boot entries as are shown at once, beside the default.
const ENTRIES: usize = 5;
const STYLE: &str = include_str!("style.css");

/// The report as a page.
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    // A String takes whatever is written.
    let _ = write_page(&mut out, report);
    out
}

/// Text that stands for itself in XML, attributes included; characters that XML does not know are written out.
pub(super) fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let name = esc(report.image.rsplit('/').next().unwrap_or(&report.image));
    writeln!(out, "<!DOCTYPE html>")?;
    writeln!(out, "<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>")?;
    writeln!(out, "<title>{name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>")?;
    write_head(out, report, &name)?;
    write_list(out, "Problems", "bad", &report.problems)?;
    write_list(out, "Warnings", "warn", &report.warnings)?;
    writeln!(out, "<section>\n<h2>The disk</h2>")?;
    map::disk(out, report)?;
    write_partitions(out, report)?;
    writeln!(out, "</section>")?;
    write_boot(out, report)?;
    // What takes most of the space comes first.
    let bytes = |partition: &&PartitionReport| partition.filesystem.as_ref().map_or(0, |fs| fs.file_bytes);
    let mut partitions: Vec<&PartitionReport> = report.partitions.iter().collect();
    partitions.sort_by_key(|partition| std::cmp::Reverse(bytes(partition)));
    for partition in partitions {
        write_contents(out, partition)?;
    }
    write_details(out, report)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

fn write_head(out: &mut String, report: &Report, name: &str) -> fmt::Result {
    let path = esc(&report.image);
    writeln!(out, "<header>\n<h1 title=\"{path}\">{name}</h1>\n<dl class=\"cards\">")?;
    let mut card = |term: &str, value: &str, more: &str, class: &str| {
        let (term, value, more) = (esc(term), esc(value), esc(more));
        writeln!(out, "<div class=\"{class}\"><dt>{term}</dt><dd>{value}<small>{more}</small></dd></div>")
    };
    let table = match (&report.table, &report.mbr) {
        (Some(table), _) => format!("GPT, {}-byte sectors", table.sector_size),
        (None, Some(mbr)) => format!("MBR, {}-byte sectors", mbr.sector_size),
        (None, None) => "a bare partition".to_owned(),
    };
    let container = report.container.as_ref().map(|container| format!("; in a {} file", container.format));
    let table = table + container.as_deref().unwrap_or_default();
    card("Image", &human(report.size), &table, "")?;
    let filesystems = || report.partitions.iter().filter_map(|partition| partition.filesystem.as_ref());
    let sum = |of: fn(&FilesystemReport) -> u64| filesystems().fold(0u64, |sum, fs| sum.saturating_add(of(fs)));
    card("Files", &count(sum(|fs| fs.files)), &format!("{} in all", human(sum(|fs| fs.file_bytes))), "")?;
    card(
        "Free",
        &human(sum(|fs| fs.free)),
        &format!("in {}", counted(report.partitions.len() as u64, "partition")),
        "",
    )?;
    if let Some(store) = filesystems().find_map(|fs| fs.store.as_ref()) {
        let (covered, class) = coverage(store);
        card("Store paths", &count(store.paths), &covered, class)?;
    }
    let default = report.boot.iter().flat_map(|boot| &boot.entries).find(|entry| entry.default);
    match default {
        Some(entry) => {
            let missing = entry.files().filter(|(_, file)| file.found.is_none()).count();
            let more = if missing == 0 {
                "all its files are there".to_owned()
            } else {
                format!("{} missing", counted(missing as u64, "file"))
            };
            let class = if missing == 0 { "good" } else { "bad" };
            card("Boots", entry.title.as_deref().unwrap_or(&entry.id), &more, class)?;
        }
        None => match (report.started_by_depthcharge(), &report.boot_code) {
            (Some(number), _) => card("Boots", &format!("partition {number}"), "by depthcharge", "good")?,
            (None, Some(code)) => card("Boots", code.name, "by BIOS", "")?,
            (None, None) => card("Boots", "nothing", "no boot entry was found", "warn")?,
        },
    }
    let (state, class) = if report.problems.is_empty() { ("none", "good") } else { ("found", "bad") };
    card("Problems", state, "verify looks deeper", class)?;
    writeln!(out, "</dl>\n</header>")
}

fn coverage(store: &StoreReport) -> (String, &'static str) {
    if let Some(DatabaseReport { valid, .. }) = &store.database {
        return match (valid.paths, valid.missing.len(), valid.unregistered.len()) {
            (None, ..) => ("the database cannot be read".to_owned(), "bad"),
            (_, 0, 0) => ("all valid".to_owned(), "good"),
            (_, 0, unregistered) => (format!("{unregistered} not valid"), "warn"),
            (_, missing, unregistered) => (format!("{missing} missing, {unregistered} not valid"), "bad"),
        };
    }
    match &store.registration {
        None if store.registration_problem.is_some() => ("registration damaged".to_owned(), "bad"),
        None => ("not registered".to_owned(), "warn"),
        Some(one) if one.missing.is_empty() && one.unregistered.is_empty() => ("all registered".to_owned(), "good"),
        Some(one) => (format!("{} missing, {} unregistered", one.missing.len(), one.unregistered.len()), "bad"),
    }
}

fn write_list(out: &mut String, title: &str, class: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section class=\"notice {class}\">\n<h2>{title}</h2>\n<ul>")?;
    lines.iter().try_for_each(|line| writeln!(out, "<li>{}</li>", esc(line)))?;
    writeln!(out, "</ul>\n</section>")
}

fn write_partitions(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<thead><tr><th>№</th><th>Name</th><th>Filesystem</th><th>Label</th><th>UUID</th>"
    )?;
    writeln!(
        out,
        "<th class=\"n\">Starts at</th><th class=\"n\">Size</th><th class=\"n\">Free</th><th class=\"n\">Files</th></tr></thead>\n<tbody>"
    )?;
    for partition in &report.partitions {
        let kind = partition.type_name.clone().unwrap_or_else(|| partition.type_guid.to_string());
        let name = if partition.name.is_empty() { "–" } else { &partition.name };
        let (number, name, title) = (partition.number, esc(name), esc(&format!("{kind}, GUID {}", partition.guid)));
        write!(out, "<tr><td><i class=\"dot p{}\"></i>{number}</td><td title=\"{title}\">{name}</td>", number % 6)?;
        let (offset, size) = (human(partition.offset), human(partition.size));
        match &partition.filesystem {
            Some(fs) => {
                let (features, label, uuid) = (esc(&fs.features.join(" ")), esc(&fs.label), esc(&fs.uuid));
                write!(out, "<td title=\"{features}\">{}</td><td>{label}</td><td><code>{uuid}</code></td>", fs.format)?;
                write!(out, "<td class=\"n\">{offset}</td><td class=\"n\">{size}</td>")?;
                writeln!(out, "<td class=\"n\">{}</td><td class=\"n\">{}</td></tr>", human(fs.free), count(fs.files))?;
            }
            None => {
                match (&partition.swap, &partition.verity) {
                    (Some(swap), _) => {
                        let title = format!("{} in pages of {}", human(swap.size), human(swap.page_size));
                        write!(out, "<td title=\"{title}\">swap</td><td>{}</td>", esc(&swap.label))?;
                        write!(out, "<td><code>{}</code></td>", swap.uuid)?;
                    }
                    (None, Some(verity)) => {
                        let root = verity.root_hash.map_or_else(|| "–".to_owned(), |root| root.to_string());
                        let title = esc(&format!("root hash {root}, salt {}", verity.salt));
                        write!(out, "<td title=\"{title}\">dm-verity</td><td>{}</td>", verity_data(verity))?;
                        write!(out, "<td><code>{}</code></td>", verity.uuid)?;
                    }
                    (None, None) => {
                        let what =
                            partition.depthcharge.as_ref().map_or("none that can be read".to_owned(), depthcharge);
                        write!(out, "<td colspan=\"3\" class=\"muted\">{what}</td>")?;
                    }
                }
                writeln!(out, "<td class=\"n\">{offset}</td><td class=\"n\">{size}</td><td></td><td></td></tr>")?;
            }
        }
    }
    writeln!(out, "</tbody>\n</table></div>")
}

/// The treemap of a partition and the table of what is largest in it.
fn write_contents(out: &mut String, partition: &PartitionReport) -> fmt::Result {
    let Some(fs) = partition.filesystem.as_ref().filter(|fs| fs.file_bytes > 0) else { return Ok(()) };
    let what = if fs.store.is_some() { "The store" } else { "Contents" };
    let name = if partition.name.is_empty() { String::new() } else { format!(" “{}”", esc(&partition.name)) };
    writeln!(
        out,
        "<section>\n<h2>{what} <small>partition {}{name}: {} of {}</small></h2>",
        partition.number,
        counted(fs.files, "file"),
        human(fs.file_bytes)
    )?;
    if let Some(store) = &fs.store {
        write_store(out, store)?;
    }
    if let Some(outside) = fs.outside_store.as_ref().and_then(outside) {
        writeln!(out, "<p>{outside}</p>")?;
    }
    map::treemap(out, fs)?;
    let open = if fs.store.is_some() { " open=\"open\"" } else { "" };
    writeln!(
        out,
        "<details{open}><summary>Largest</summary>\n<div class=\"scroll\"><table class=\"largest\">\n<tbody>"
    )?;
    let largest = fs.contents.first().map_or(1, |usage| usage.size.max(1));
    for usage in fs.contents.iter().filter(|usage| usage.size > 0).take(LARGEST) {
        let width = percent(usage.size, largest).replace(' ', "");
        let (size, share, path) = (human(usage.size), percent(usage.size, fs.file_bytes), path(&usage.path));
        writeln!(
            out,
            "<tr><td class=\"n\">{size}</td><td class=\"n muted\">{share}</td><td class=\"bar\"><i style=\"width:{width}\"></i></td>\
             <td><code>{path}</code></td><td class=\"n muted\">{}</td></tr>",
            counted(usage.files, "file")
        )?;
    }
    writeln!(out, "</tbody>\n</table></div></details>\n</section>")
}

/// A path whose last name, of a store path without its hash, stands out.
fn path(path: &str) -> String {
    let name = map::short_name(path);
    let before = path.strip_suffix(name).unwrap_or_default();
    format!("<span class=\"muted\">{}</span>{}", esc(before), esc(name))
}

fn write_store(out: &mut String, store: &StoreReport) -> fmt::Result {
    let (dir, mount) = (esc(&store.store_dir), esc(&store.mount_point));
    write!(
        out,
        "<p><code>{dir}</code>, mounted at <code>{mount}</code>: {} of {}. ",
        counted(store.paths, "path"),
        human(store.size)
    )?;
    if let Some(problem) = &store.registration_problem {
        write!(out, "The nix-path-registration cannot be used: {}. ", esc(problem))?;
    } else if store.registration.is_none() && store.database.is_none() {
        write!(out, "There is no nix-path-registration and no database, so that Nix will know none of them.")?;
    }
    if let Some(registration) = &store.registration {
        let (path, paths) = (esc(&registration.path), counted(registration.paths, "path"));
        write!(out, "<code>{path}</code> registers {paths}. ")?;
    }
    if let Some(database) = &store.database {
        write!(out, "{}. ", esc(&knowledge(database, store)))?;
    }
    writeln!(out, "</p>")?;
    let registration = store.registration.iter().flat_map(|one| {
        [("bad", "Registered but not there", &one.missing), ("bad", "There but not registered", &one.unregistered)]
    });
    let database = store.database.iter().flat_map(|one| {
        let valid = &one.valid;
        [("bad", "Valid but not there", &valid.missing), ("muted", "There but not valid", &valid.unregistered)]
    });
    for (class, what, names) in registration.chain(database).filter(|(_, _, names)| !names.is_empty()) {
        writeln!(out, "<p class=\"{class}\">{what}: {}</p>", esc(&first_names(names)))?;
    }
    Ok(())
}

fn write_boot(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "<section>\n<h2>What boots</h2>")?;
    if let Some(code) = &report.boot_code {
        writeln!(out, "<p>A BIOS starts {}.</p>", esc(&boot_code(code)))?;
    }
    let started = report.started_by_depthcharge();
    if let Some(number) = started {
        writeln!(out, "<p>On a Chromebook: partition {number}, by depthcharge.</p>")?;
    }
    let Some(boot) = &report.boot else {
        if started.is_some() || report.boot_code.is_some() {
            return writeln!(out, "</section>");
        }
        return writeln!(
            out,
            "<p class=\"muted\">Nothing that systemd-boot, extlinux, GRUB, Limine or UEFI would find.</p>\n</section>"
        );
    };
    writeln!(out, "<ul class=\"plain\">")?;
    for program in &boot.firmware {
        let what = program.what.as_ref().map_or(String::new(), |what| format!(": {}", esc(what)));
        writeln!(out, "<li>UEFI starts <code>{}</code>, {}{what}</li>", esc(&program.path), human(program.size))?;
    }
    for configuration in &boot.configurations {
        let value = |value: &Option<String>| {
            value.as_ref().map_or("not set".to_owned(), |value| format!("<code>{}</code>", esc(value)))
        };
        let (default, timeout) = (value(&configuration.default), value(&configuration.timeout));
        let partition = configuration.partition.map_or(String::new(), |number| format!("partition {number}, "));
        let path = esc(&configuration.path);
        writeln!(out, "<li>{partition}<code>{path}</code>: default {default}, timeout {timeout}</li>")?;
    }
    boot.notes.iter().try_for_each(|note| writeln!(out, "<li class=\"muted\">{}</li>", esc(note)))?;
    for one in &boot.credentials {
        writeln!(out, "<li>credential <code>{}</code>, {}</li>", esc(&one.path), human(one.size))?;
    }
    writeln!(out, "</ul>\n<div class=\"entries\">")?;
    let is_shown = |i: usize, entry: &BootEntry| i < ENTRIES || entry.default;
    let entries = || boot.entries.iter().enumerate();
    entries().filter(|(i, entry)| is_shown(*i, entry)).try_for_each(|(_, entry)| write_entry(out, entry))?;
    writeln!(out, "</div>")?;
    let more = entries().filter(|(i, entry)| !is_shown(*i, entry)).count();
    if more > 0 {
        writeln!(out, "<details><summary>{more} more</summary>\n<div class=\"entries\">")?;
        entries().filter(|(i, entry)| !is_shown(*i, entry)).try_for_each(|(_, entry)| write_entry(out, entry))?;
        writeln!(out, "</div></details>")?;
    }
    writeln!(out, "</section>")
}

fn write_entry(out: &mut String, entry: &BootEntry) -> fmt::Result {
    let (id, title) = (esc(&entry.id), esc(entry.title.as_deref().unwrap_or(&entry.id)));
    let class = if entry.default { "entry default" } else { "entry" };
    let badge = if entry.default { "<b class=\"badge\">default</b>" } else { "" };
    writeln!(
        out,
        "<article class=\"{class}\">\n<h3>{title} {badge}</h3>\n<p class=\"muted\">{} · <code>{id}</code>",
        entry.loader.name()
    )?;
    if let Some(version) = &entry.version {
        writeln!(out, " · {}", esc(version))?;
    }
    writeln!(out, "</p>\n<ul class=\"plain\">")?;
    for (what, file) in entry.files() {
        let path = esc(&file.path);
        match &file.found {
            Some(found) => writeln!(
                out,
                "<li><b class=\"good\">✓</b> {what} <code>{path}</code> <span class=\"muted\">{}</span></li>",
                human(found.size)
            )?,
            None => writeln!(
                out,
                "<li><b class=\"bad\">✗</b> {what} <code>{path}</code> <span class=\"bad\">is missing</span></li>"
            )?,
        }
    }
    if !entry.options.is_empty() {
        writeln!(out, "<li class=\"options\"><code>{}</code></li>", esc(&entry.options))?;
    }
    writeln!(out, "</ul>\n</article>")
}

/// What few look for: the two headers, features, identities.
fn write_details(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "<section>\n<h2>Details</h2>\n<dl class=\"details\">")?;
    let mut item = |term: &str, text: &str| writeln!(out, "<dt>{}</dt><dd>{}</dd>", esc(term), esc(text));
    if let Some(table) = &report.table {
        item("Disk GUID", &table.disk_guid.to_string())?;
        for (term, header) in [("Primary GPT", &table.primary), ("Backup GPT", &table.backup)] {
            let state = |is_intact: bool| if is_intact { "intact" } else { "damaged" };
            let text = header.as_ref().map_or("not there".to_owned(), |header| {
                let (offset, entries) = (count(header.offset), count(header.entries_offset));
                let (header_state, entries_state) = (state(header.intact), state(header.entries_intact));
                format!(
                    "header at byte {offset}, {header_state}; {} entries at byte {entries}, {entries_state}",
                    header.entries
                )
            });
            item(term, &text)?;
        }
        table.notes.iter().try_for_each(|note| item("Note", note))?;
    }
    if let Some(mbr) = &report.mbr {
        item("Disk identifier", &mbr.signature)?;
        mbr.notes.iter().try_for_each(|note| item("Note", note))?;
    }
    for partition in &report.partitions {
        let term = format!("Partition {}", partition.number);
        if let Some(mbr) = partition.mbr {
            item(&term, &format!("type {:02x}, partition UUID {}", mbr.kind, mbr.uuid()))?;
        }
        if !partition.type_guid.is_nil() {
            item(&term, &format!("type {}, GUID {}", partition.type_guid, partition.guid))?;
        }
        if let Some(fs) = &partition.filesystem {
            let features =
                if fs.features.is_empty() { String::new() } else { format!(", features {}", fs.features.join(" ")) };
            item(&term, &format!("{}, blocks of {}{features}", fs.format, human(fs.block_size.into())))?;
        }
    }
    writeln!(out, "</dl>\n</section>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_tag_or_an_attribute() {
        assert_eq!(
            esc("<a href=\"x\" b='y'>&\u{ffff}\u{1}"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\\u{ffff}\\u{1}"
        );
    }
}
