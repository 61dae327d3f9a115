//! What GRUB reads: grub.cfg, by its manual, and by what `grub-emu` makes of it.
//!
//! ```text
//! grub.cfg ─ lexer, script ─▶ commands ─ run ─▶ lines of menus ─ run ─▶ entries
//! ```

use std::path::{Path, PathBuf};

use self::disk::Disk;
use self::run::{Item, Run, Sink};
use self::scope::{Scope, Seen};
use super::{BootEntry, BootFs, BootReport, Loader, MAX_ENTRIES, MAX_TEXT, Parts, Volume, escape, shown};
use crate::read::{Format, Kind, ReadError};

mod choice;
mod disk;
mod entry;
mod lexer;
mod run;
mod scope;
mod script;
mod search;
mod test;

/// As deep as menus stand in each other.
const MAX_MENUS: usize = 8;
/// Where it is from the root of a system, or of its own partition. Fedora calls it GRUB 2.
const CONFIGURATIONS: [&str; 4] = ["grub/grub.cfg", "boot/grub/grub.cfg", "grub2/grub.cfg", "boot/grub2/grub.cfg"];
/// Where distributions have one for UEFI, which leads to the other.
const OF_VENDORS: &str = "EFI";
/// As many directories of a filesystem as can be roots of systems.
const MAX_ROOTS: usize = 64;
/// The subvolumes that distributions boot from.
const USUAL_ROOTS: [&str; 5] = ["", "@", "root", "@rootfs", "@boot"];

/// Adds what the first grub.cfg of the image says to `found`.
pub(super) fn examine(parts: &Parts<'_>, found: &mut BootReport) -> Result<(), ReadError> {
    let places: [fn(&Volume<'_>) -> Vec<PathBuf>; 2] = [usual_places, places_of_vendors];
    for places in places {
        for volume in parts.in_order() {
            let boot = BootFs { partition: volume.number, fs: volume.fs, nix: parts.nix.as_ref() };
            let disk = Disk { parts };
            for path in places(volume) {
                let path = Path::new("/").join(path);
                let Some((place, metadata)) = path.to_str().and_then(|path| disk.find_on(volume.number, path)) else {
                    continue;
                };
                if metadata.kind == Kind::File {
                    let text = boot.text_at(&place, MAX_TEXT, &mut found.notes)?;
                    add(&disk, &boot, &place, &text, found);
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Below the root, and below each subvolume that may be the root of a system.
fn usual_places(volume: &Volume<'_>) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = vec![PathBuf::new()];
    if volume.fs.summary().format == Format::Btrfs {
        roots = USUAL_ROOTS.iter().map(PathBuf::from).collect();
        let above = directories(volume, Path::new(""));
        let below = above.iter().flat_map(|directory| directories(volume, directory)).collect::<Vec<_>>();
        let more = above.into_iter().chain(below).filter(|path| !roots.contains(path));
        let more: Vec<PathBuf> = more.take(MAX_ROOTS).collect();
        roots.extend(more);
    }
    roots.iter().flat_map(|root| CONFIGURATIONS.iter().map(|path| root.join(path))).collect()
}

fn places_of_vendors(volume: &Volume<'_>) -> Vec<PathBuf> {
    if volume.fs.summary().format != Format::Vfat {
        return Vec::new();
    }
    directories(volume, Path::new(OF_VENDORS)).iter().map(|directory| directory.join("grub.cfg")).collect()
}

/// The first directories in a directory, but hidden ones.
fn directories(volume: &Volume<'_>, path: &Path) -> Vec<PathBuf> {
    let mut entries = volume.fs.list(path).unwrap_or_default();
    entries.truncate(MAX_ENTRIES);
    let directories = entries
        .iter()
        .filter(|entry| entry.metadata.kind == Kind::Directory && !entry.name.as_encoded_bytes().starts_with(b"."));
    directories.take(MAX_ROOTS).map(|entry| path.join(&entry.name)).collect()
}

fn add(disk: &Disk<'_>, boot: &BootFs<'_>, place: &Path, text: &str, found: &mut BootReport) {
    let script = script::parse(text);
    let mut run = Run::new(disk);
    let mut scope = Scope::default();
    let device = disk.device(boot.partition);
    let directory = place.parent().unwrap_or(Path::new("")).to_string_lossy();
    scope.set("prefix", Some(format!("({device})/{directory}")));
    scope.set("config_directory", Some(format!("({device})/{directory}")));
    scope.set("root", Some(device));
    let mut sink = Sink::default();
    run.run(&script.commands, &mut scope, &mut sink, 0);
    let default = scope.get("default").unwrap_or_default().to_owned();
    let timeout = scope.get("timeout").filter(|timeout| !timeout.is_empty()).map(escape::text);
    let mut entries = Vec::new();
    menu(
        &mut run,
        boot,
        Menu { items: sink.items, scope: &scope, default: Some(&default), path: "", depth: 0 },
        &mut entries,
    );
    let default = match (sink.is_saved, default.as_str()) {
        (true, _) => Some("saved".to_owned()),
        (false, "") => None,
        (false, default) => Some(escape::text(default)),
    };
    found.configure(Loader::Grub, (boot.partition, place), default, timeout);
    found.entries.append(&mut entries);
    let path = shown(place);
    for (line, what) in &script.faults {
        found.warnings.push(format!("{path}, line {line}: {what}; GRUB skips the command"));
    }
    found.warnings.extend(run.missing.iter().map(|what| format!("{path}: {what}")));
    found.notes.extend(run.notes.iter().map(|note| format!("{path}: {note}")));
}

/// A menu whose lines are known.
struct Menu<'s, 'c> {
    items: Vec<Item<'s>>,
    scope: &'c Scope<'c>,
    /// Which line boots, if this is the menu in which one does.
    default: Option<&'c str>,
    /// The titles that lead here, each with a `>` behind it.
    path: &'c str,
    depth: usize,
}

/// Adds the entries of a menu and of the menus in it.
fn menu<'s>(run: &mut Run<'s, '_>, boot: &BootFs<'_>, menu: Menu<'s, '_>, entries: &mut Vec<BootEntry>) {
    let Menu { items, scope, default, path, depth } = menu;
    let chosen = default.and_then(|default| choice::choose(&items, default));
    for (i, item) in items.into_iter().enumerate() {
        let id = format!("{path}{}", item.title.replace('>', ">>"));
        if entries.len() >= MAX_ENTRIES || !run.work(id.len().saturating_add(1)) {
            run.note("it has more entries than are looked at here".to_owned());
            return;
        }
        let rest = chosen.filter(|(at, _)| *at == i).map(|(_, rest)| rest);
        let seen = if item.is_menu { Seen::Exported } else { Seen::All };
        let mut inner = Scope::within(scope, seen);
        for (i, value) in std::iter::once(Some(item.title.clone())).chain(item.rest).enumerate() {
            inner.set(&i.saturating_add(1).to_string(), value);
        }
        let mut sink = Sink::default();
        if item.is_menu {
            if depth >= MAX_MENUS {
                run.note("its menus stand in each other deeper than is looked at here".to_owned());
                continue;
            }
            run.run(item.block, &mut inner, &mut sink, 0);
            let path = format!("{id}>");
            let inner =
                Menu { items: sink.items, scope: &inner, default: rest, path: &path, depth: depth.saturating_add(1) };
            self::menu(run, boot, inner, entries);
            continue;
        }
        run.run(item.block, &mut inner, &mut sink, 0);
        if !run.is_whole() {
            return;
        }
        let loaded = sink.boot;
        entries.push(BootEntry {
            loader: Loader::Grub,
            id: escape::text(&id),
            title: Some(escape::text(&item.title)),
            version: None,
            tries_left: None,
            default: rest.is_some(),
            kernel: loaded.kernel,
            initrds: loaded.initrds,
            device_tree: loaded.device_tree,
            device_tree_overlays: Vec::new(),
            init: boot.init(&loaded.options),
            options: escape::text(&loaded.options),
        });
    }
}

#[cfg(test)]
mod tests;
