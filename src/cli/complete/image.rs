//! What an image offers: its partitions, and the files in them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap_complete::engine::CompletionCandidate;
use sane_image::image::{Image, PartName};
use sane_image::read::resolve::Last;
use sane_image::read::{Kind, escape};

use super::super::look::Opened;
use super::words::Typed;

/// The partitions of the image that has been typed.
pub(in super::super) fn parts(current: &OsStr) -> Vec<CompletionCandidate> {
    let image = Typed::from_shell().image.and_then(|path| Image::open(&path).ok());
    let Some(image) = image else { return Vec::new() };
    let roles = [(PartName::Boot, "the ESP"), (PartName::Nix, "the filesystem with the store")];
    let roles = roles.into_iter().filter(|(part, _)| image.find(part).is_ok());
    let roles = roles.map(|(part, help)| (part.to_string(), help.to_owned()));
    let numbers = image.partitions().iter().map(|part| (part.number.to_string(), escape::text(&part.name)));
    let candidates =
        roles.chain(numbers).filter(|(name, _)| current.to_str().is_some_and(|start| name.starts_with(start)));
    candidates
        .map(|(name, help)| CompletionCandidate::new(name).help((!help.is_empty()).then(|| help.into())))
        .collect()
}

/// The files of the partition that has been typed whose paths start with `current`, one directory deep.
pub(in super::super) fn paths(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = Typed::from_shell();
    let opened = typed.image.zip(typed.part).and_then(|(image, part)| Opened::new(&image, &part).ok());
    opened.zip(current.to_str()).map(|(opened, current)| below(&opened, current)).unwrap_or_default()
}

fn below(opened: &Opened, current: &str) -> Vec<CompletionCandidate> {
    let (directory, start) = current.rfind('/').map_or(("", current), |slash| current.split_at(slash + 1));
    let place = if directory.is_empty() { Ok(PathBuf::new()) } else { find(opened, directory) };
    let Ok(entries) = place.and_then(|place| Ok(opened.fs.list(&place)?)) else { return Vec::new() };
    let names = entries.iter().filter_map(|entry| Some((entry.name.to_str()?, entry.metadata.kind)));
    // No name of an image may do anything to a terminal.
    let names = names.filter(|(name, _)| name.starts_with(start) && !name.contains(char::is_control));
    names
        .map(|(name, kind)| format!("{directory}{name}{}", if kind == Kind::Directory { "/" } else { "" }).into())
        .collect()
}

fn find(opened: &Opened, directory: &str) -> anyhow::Result<PathBuf> {
    Ok(opened.find(Path::new(directory), Last::Follow)?.0)
}
