//! Partitions besides the ESP and the nix filesystem, and the entries of a hybrid MBR.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use uuid::Uuid;

use super::fields::{Object, as_is};
use super::swap::{Swap, SwapFields};
use super::{device, validate};

/// The most partitions that an MBR names beside the one of type EE that stands for the GPT.
const HYBRID_MAX: usize = 3;
/// The MBR's types of entries that hold more partitions: they would be read as a chain of such tables.
const MBR_EXTENDED: [u8; 6] = [0x05, 0x0f, 0x15, 0x1f, 0x85, 0x91];
/// The MBR's type of the entry that protects a GPT (UEFI specification 2.10, section 5.2.3).
const MBR_PROTECTIVE: u8 = 0xee;
/// What `hybridMbr` calls the two partitions that every image has.
const BOOT: &str = "boot";
const NIX: &str = "nix";

/// A partition whose bytes are given, or which is a swap area, or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraPartition {
    /// Its name in the table; no other extra partition has it.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its identity, unless that is to be derived.
    pub guid: Option<Uuid>,
    /// The attribute bits of its entry.
    pub attributes: u64,
    /// Its size in bytes, not zero; that of its contents if there is none.
    pub size: Option<u64>,
    /// The file whose bytes it starts with; absolute. Without one, it has a size.
    pub contents: Option<PathBuf>,
    /// The swap area that it is; not with contents.
    pub swap: Option<Swap>,
    /// Where it is.
    pub place: Place,
}

/// Where an extra partition is. The nix partition is the last in any case, so that it can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the ESP.
    BeforeBoot,
    /// Between the ESP and the nix partition.
    AfterBoot,
}

/// A partition that the MBR names, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HybridEntry {
    /// Which.
    pub partition: PartitionName,
    /// The MBR's type of it: neither 0, nor EE, nor one of an extended partition.
    pub kind: u8,
    /// Whether it is marked active.
    pub activity: Activity,
}

/// Which partition of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionName {
    /// The ESP.
    Boot,
    /// The filesystem of the store.
    Nix,
    /// The one at this index of `extraPartitions`.
    Extra(usize),
}

/// The MBR's mark of the partition that a BIOS boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has the mark.
    Active,
    /// It has none.
    Inactive,
}

/// Reads `extraPartitions`.
pub(super) fn read_extra(top: &mut Object<'_>) -> Option<Vec<ExtraPartition>> {
    let path = top.member("extraPartitions");
    let values = top.optional("extraPartitions", "a list of objects", Vec::<Value>::new(), as_is)?;
    let mut names = BTreeSet::from([BOOT.to_owned(), NIX.to_owned()]);
    let read = values.into_iter().enumerate().map(|(i, value)| {
        let path = format!("{path}[{i}]");
        let partition = read_one(top.nested(path.clone(), value)?, &path)?;
        if !names.insert(partition.name.clone()) {
            let problem = format!("{:?} is the name of another partition", partition.name);
            top.note(format!("{path}.name"), problem, format!("set {path}.name to another"));
        }
        Some(partition)
    });
    // All are read, so that all mistakes are reported, before a bad one makes the list void.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn read_one(mut entry: Object<'_>, path: &str) -> Option<ExtraPartition> {
    let swap = SwapFields::read(&mut entry);
    let name = read_name(&mut entry, &swap, path);
    let type_guid = entry.required("typeGuid", "the GUID of a partition type", |text: String| device::guid(&text));
    let guid = entry
        .optional("uuid", "a UUID or null", None, |text: Option<String>| text.map(|t| device::guid(&t)).transpose());
    let attributes =
        entry.optional("attributes", "64 bits as a number or as \"0x…\"", 0.into(), |value| bits(&value, u64::MAX));
    let size = entry.optional("size", "a number of bytes or null", None, |value: Option<Value>| {
        value.map(validate::nonzero_size).transpose()
    });
    let contents = entry.optional("contents", "the absolute path of a file, or null", None, |text: Option<String>| {
        text.map(validate::absolute_path).transpose()
    });
    let place = entry.optional("place", "\"beforeBoot\" or \"afterBoot\"", "afterBoot".to_owned(), place);
    if matches!((size, &contents), (Some(None), Some(None))) {
        let remedy = format!("set {path}.size to a number of bytes, or {path}.contents to a file");
        entry.note(path.to_owned(), "has neither a size nor contents", remedy);
    }
    let guid = guid.map(|guid| check_guid(guid, &swap, path, &mut entry));
    let has_contents = contents.as_ref().is_some_and(Option::is_some);
    let swap = type_guid.and_then(|type_guid| swap.area(type_guid, has_contents, path, &mut entry));
    entry.finish();
    Some(ExtraPartition {
        name: name?,
        type_guid: type_guid?,
        guid: guid?,
        swap,
        attributes: attributes?,
        size: size?,
        contents: contents?,
        place: place?,
    })
}

/// The partition's name, which the path of its swap device may also give.
fn read_name(entry: &mut Object<'_>, swap: &SwapFields, path: &str) -> Option<String> {
    const WANTED: &str = "a name of 1 to 36 characters";
    let Some(known) = swap.partition_name() else { return entry.required("name", WANTED, device::partition_name) };
    let name = entry.optional("name", WANTED, known.to_owned(), device::partition_name)?;
    if name != known {
        let remedy = format!("set {path}.name to {known:?}, or leave it out");
        entry.note(format!("{path}.name"), format!("{name:?} is not what swapDevice says"), remedy);
    }
    Some(name)
}

/// The partition's UUID, which the path of its swap device may also give.
fn check_guid(guid: Option<Uuid>, swap: &SwapFields, path: &str, entry: &mut Object<'_>) -> Option<Uuid> {
    let known = swap.partition_uuid();
    if let (Some(guid), Some(known)) = (guid, known)
        && guid != known
    {
        let remedy = format!("set {path}.uuid to \"{known}\" or null");
        entry.note(format!("{path}.uuid"), format!("\"{guid}\" is not what swapDevice says"), remedy);
    }
    guid.or(known)
}

fn place(text: String) -> Result<Place, String> {
    match text.as_str() {
        "beforeBoot" => Ok(Place::BeforeBoot),
        "afterBoot" => Ok(Place::AfterBoot),
        _ => Err(format!("{text:?} is not a place")),
    }
}

/// Reads `hybridMbr`. `extra` is what could be read of `extraPartitions`.
pub(super) fn read_hybrid(top: &mut Object<'_>, extra: Option<&[ExtraPartition]>) -> Option<Vec<HybridEntry>> {
    let path = top.member("hybridMbr");
    let values = top.optional("hybridMbr", "a list of objects", Vec::<Value>::new(), |values: Vec<Value>| {
        let fits = values.len() <= HYBRID_MAX;
        fits.then_some(values).ok_or("names more than the 3 partitions for which an MBR has room beside the GPT")
    })?;
    let mut seen = Vec::new();
    let mut active = None;
    let read = values.into_iter().enumerate().map(|(i, value)| {
        let path = format!("{path}[{i}]");
        let entry = read_hybrid_entry(top.nested(path.clone(), value)?, extra)?;
        if seen.contains(&entry.partition) {
            let path = format!("{path}.partition");
            let remedy = format!("set {path} to another");
            top.note(path, "is named twice", remedy);
        }
        seen.push(entry.partition);
        if entry.activity == Activity::Active
            && let Some(first) = active.replace(i)
        {
            let problem = format!(
                "is a second active entry besides hybridMbr[{first}]; with two active entries a BIOS boots neither"
            );
            let path = format!("{path}.bootable");
            let remedy = format!("set {path} to false");
            top.note(path, problem, remedy);
        }
        Some(entry)
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn read_hybrid_entry(mut entry: Object<'_>, extra: Option<&[ExtraPartition]>) -> Option<HybridEntry> {
    let wanted = "\"boot\", \"nix\" or the name of an extra partition";
    let partition = entry.required("partition", wanted, |name: String| partition_name(&name, extra));
    let kind = entry.required("type", "a type of the MBR such as \"0x0c\"", |value: Value| mbr_type(&value));
    let activity = entry.optional("bootable", "true or false", false, |bootable| {
        as_is(if bootable { Activity::Active } else { Activity::Inactive })
    });
    entry.finish();
    Some(HybridEntry { partition: partition?, kind: kind?, activity: activity? })
}

/// The partition called `name`. If the extra ones are not known, one of them may be meant.
fn partition_name(name: &str, extra: Option<&[ExtraPartition]>) -> Result<PartitionName, String> {
    match (name, extra) {
        (BOOT, _) => Ok(PartitionName::Boot),
        (NIX, _) => Ok(PartitionName::Nix),
        (_, None) => Ok(PartitionName::Extra(0)),
        (_, Some(extra)) => {
            let found = extra.iter().position(|partition| partition.name == name);
            found.map(PartitionName::Extra).ok_or_else(|| format!("{name:?} is not a partition of the image"))
        }
    }
}

fn mbr_type(value: &Value) -> Result<u8, String> {
    match u8::try_from(bits(value, u8::MAX.into())?) {
        Ok(0) => Err("0 stands for an unused entry".to_owned()),
        Ok(MBR_PROTECTIVE) => Err("0xee is the type of the entry that stands for the GPT".to_owned()),
        Ok(kind) if MBR_EXTENDED.contains(&kind) => {
            Err(format!("{kind:#04x} is the type of an extended partition, whose contents are a table of partitions"))
        }
        Ok(kind) => Ok(kind),
        Err(error) => Err(error.to_string()),
    }
}

/// A number up to `max`, or a text that writes it in hexadecimal.
fn bits(value: &Value, max: u64) -> Result<u64, String> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = value.as_u64().or_else(|| u64::from_str_radix(digits?, 16).ok());
    number.filter(|&number| number <= max).ok_or_else(|| format!("{value} is not a whole number from 0 to {max:#x}"))
}
