//! The rules for single fields. They turn JSON's plain types into checked ones, or say what is wrong.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fields::Object;
use super::file_system::NixPlace;
use crate::store::path::check_base_name;
use crate::store::registration::{IMAGE_DATABASE, IMAGE_FILE_NAME};
use crate::units::{MIB, SectorSize, nearest_multiples};

/// The most bytes that a size, or all sizes of a spec together, may be: the longest file on Linux.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The longest file name on Linux in bytes.
const NAME_MAX: usize = 255;

/// What the image itself puts at the root of the nix filesystem.
const RESERVED_AT_ROOT: [&str; 3] = ["lost+found", IMAGE_FILE_NAME, IMAGE_DATABASE];

/// A file name to which `.img` is added.
pub(super) fn file_name(name: String) -> Result<String, String> {
    if check_component(&name).is_err() || name.contains('/') || name.contains(char::is_control) {
        return Err(format!("{name:?} is not a plain file name"));
    }
    if name.len() + ".img".len() > NAME_MAX {
        return Err(format!("is {} bytes long; with \".img\", a file name has at most {NAME_MAX}", name.len()));
    }
    Ok(name)
}

/// A path from the root.
pub(super) fn absolute_path(text: String) -> Result<PathBuf, String> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(text.into()),
        false => Err(format!("{text:?} is not an absolute path")),
    }
}

/// A shell command or none.
pub(super) fn command(command: Option<String>) -> Result<Option<String>, &'static str> {
    match &command {
        Some(text) if text.trim().is_empty() => Err("is empty"),
        Some(text) if text.contains('\0') => Err("holds a NUL character"),
        _ => Ok(command),
    }
}

/// A directory to make on the nix filesystem, as path from its root; `None` if it is there anyway.
///
/// `place` is where the nix filesystem is mounted and the store in it, if that is known.
pub(super) fn extra_directory(text: &str, place: Option<&NixPlace>) -> Result<Option<PathBuf>, String> {
    let names = text.strip_prefix('/').ok_or_else(|| format!("{text:?} is not an absolute path"))?;
    names.split('/').try_for_each(check_component).map_err(|problem| format!("{text:?} has {problem}"))?;
    let Some(NixPlace { mount_point, store }) = place else { return Ok(None) };

    let path = Path::new(text);
    let relative = path.strip_prefix(mount_point).map_err(|_| {
        format!("{text:?} is outside the nix filesystem, which is mounted at {}", mount_point.display())
    })?;
    if store.starts_with(path) {
        return Ok(None);
    }
    let in_store = first_component(path.strip_prefix(store).unwrap_or(Path::new("")));
    if in_store.is_some_and(|name| check_base_name(name).is_ok()) {
        return Err(format!("{text:?} is a store path or inside one"));
    }
    match first_component(relative).filter(|name| RESERVED_AT_ROOT.contains(name)) {
        Some(name) => Err(format!("{text:?} collides with {name:?}, which every image has there")),
        None => Ok(Some(relative.to_owned())),
    }
}

fn first_component(path: &Path) -> Option<&str> {
    path.iter().next()?.to_str()
}

/// Accepts what a directory may have as a name.
pub(super) fn check_component(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("an empty component"),
        "." | ".." => Err("a \".\" or \"..\" component"),
        _ if name.contains('\0') => Err("a NUL character"),
        _ if name.len() > NAME_MAX => Err("a component of over 255 bytes"),
        _ => Ok(()),
    }
}

/// A number of bytes.
pub(super) fn size(value: Value) -> Result<u64, String> {
    if let Some(bytes) = value.as_str().and_then(bytes_of) {
        return Err(format!("{value} is a text, where {bytes} is the number of bytes"));
    }
    value
        .as_u64()
        .filter(|&bytes| bytes <= MAX_SIZE)
        .ok_or_else(|| format!("{value} is not a whole number from 0 to {MAX_SIZE}"))
}

/// The number of bytes that people mean by a text such as `512M`, `1.5 GiB` or `8 GB`: a single letter stands for a
/// power of 1024, as for dd(1).
fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_uppercase();
    let (prefix, base) = match unit.strip_suffix("IB").or(unit.strip_suffix('I')) {
        Some(prefix) => (prefix, 1024),
        None => unit.strip_suffix('B').map_or((unit.as_str(), 1024), |prefix| (prefix, 1000_u128)),
    };
    let power = ["", "K", "M", "G", "T", "P"].iter().position(|known| *known == prefix)?;
    let unit = base.checked_pow(u32::try_from(power).ok()?)?;
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    // Tenths and smaller parts of a unit, as a whole number of bytes or not at all.
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let scaled = format!("{whole}{part}").parse::<u128>().ok()?.checked_mul(unit)?;
    u64::try_from(scaled / scale).ok().filter(|&bytes| scaled.is_multiple_of(scale) && bytes <= MAX_SIZE)
}

/// A number of bytes of something that cannot be empty.
pub(super) fn nonzero_size(value: Value) -> Result<u64, String> {
    match size(value)? {
        0 => Err("is zero".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The size of a disk in bytes.
pub(super) fn disk_size(value: Value) -> Result<u64, String> {
    let bytes = nonzero_size(value)?;
    match bytes.is_multiple_of(MIB) {
        true => Ok(bytes),
        false => Err(format!("{bytes} is not a whole number of MiB; {} would be", nearest_multiples(bytes, MIB))),
    }
}

/// The sector size of a disk.
pub(super) fn sector_size(value: Value) -> Result<SectorSize, String> {
    value.as_u64().and_then(SectorSize::new).ok_or_else(|| format!("{value} is not a sector size of disks"))
}

/// A number of bytes that fills whole sectors, whose size is known unless it is itself a mistake.
pub(super) fn padding(value: Value, sector_size: Option<SectorSize>) -> Result<u64, String> {
    let bytes = size(value)?;
    match sector_size.map(SectorSize::bytes) {
        Some(sector) if !bytes.is_multiple_of(sector) => {
            Err(format!("{bytes} is not a multiple of sectorSize, which is {sector}"))
        }
        _ => Ok(bytes),
    }
}

/// Checks that all sizes together are a size; notes a mistake at the largest if they are not.
pub(super) fn check_total(top: &mut Object<'_>, sizes: [(&str, Option<u64>); 4]) {
    let known = || sizes.iter().filter_map(|(key, size)| Some(((*size)?, *key)));
    let total = known().try_fold(0_u64, |total, (size, _)| total.checked_add(size));
    if total.is_none_or(|total| total > MAX_SIZE)
        && let Some((_, key)) = known().max()
    {
        let others: Vec<_> = known().map(|(_, other)| other).filter(|other| *other != key).collect();
        let problem = format!("is over {MAX_SIZE} bytes together with {}", others.join(", "));
        let path = top.member(key);
        let remedy = format!("set {path} to fewer bytes");
        top.note(path, problem, remedy);
    }
}
