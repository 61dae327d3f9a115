//! Directory entries: short ones, and the long names before them.

use super::super::alias::short_checksum;
use super::super::clock::Clock;
use super::shape::shown;
use super::{Bits, Shape, u8_at, u16_at, u32_at};

/// Attribute: the entry is the volume's label.
pub(in crate::vfat) const ATTRIBUTE_LABEL: u8 = 0x08;
/// Attribute: the entry is a directory.
pub(in crate::vfat) const ATTRIBUTE_DIRECTORY: u8 = 0x10;
/// Attributes of a part of a long name.
const ATTRIBUTES_LONG: u8 = 0x0f;
/// The first byte of an entry that was removed.
const REMOVED: u8 = 0xe5;
/// In place of a first byte of 0xe5 in a name.
const REALLY_E5: u8 = 0x05;
/// Marks the last part of a long name, which comes first.
const LAST_PART: u8 = 0x40;
/// Windows NT's flags in byte 12: the name, or its extension, was given in lower case.
const LOWER_BASE: u8 = 0x08;
/// As [`LOWER_BASE`].
const LOWER_EXTENSION: u8 = 0x10;
/// The most parts of a long name.
const MOST_PARTS: u8 = 20;

/// An entry that is a file, a directory or the volume's label.
#[derive(Clone, Debug)]
pub(in crate::vfat) struct Entry {
    pub(in crate::vfat) short: [u8; 11],
    /// The long name, if there is a whole one. As Linux takes it, it ends at its first zero, whatever follows.
    pub(in crate::vfat) long: Option<Vec<u16>>,
    pub(in crate::vfat) attributes: u8,
    /// Which parts of the short name are to be shown in lower case.
    lower: u8,
    /// The first cluster, or 0.
    pub(in crate::vfat) cluster: u32,
    pub(in crate::vfat) created: Clock,
    /// A date without a time.
    pub(in crate::vfat) accessed: Clock,
    pub(in crate::vfat) modified: Clock,
    /// In bytes.
    pub(in crate::vfat) size: u32,
    /// What is wrong with its long name.
    pub(in crate::vfat) problem: Option<&'static str>,
}

impl Entry {
    pub(in crate::vfat) fn is_directory(&self) -> bool {
        self.attributes & ATTRIBUTE_DIRECTORY != 0
    }

    /// The name as people know it, not escaped.
    pub(in crate::vfat) fn name(&self) -> String {
        self.long.as_deref().map_or_else(|| self.short_name(), String::from_utf16_lossy)
    }

    /// The label that it is.
    pub(in crate::vfat) fn label(&self) -> String {
        shown(&self.real_short())
    }

    fn real_short(&self) -> [u8; 11] {
        let mut short = self.short;
        if let Some(first) = short.first_mut().filter(|first| **first == REALLY_E5) {
            *first = 0xe5;
        }
        short
    }

    /// The short name with its dot.
    fn short_name(&self) -> String {
        let short = self.real_short();
        let (base, extension) = short.split_at(8);
        let lowered = |text: String, flag: u8| if self.lower & flag == 0 { text } else { text.to_ascii_lowercase() };
        let (base, extension) = (lowered(shown(base), LOWER_BASE), lowered(shown(extension), LOWER_EXTENSION));
        if extension.is_empty() { base } else { format!("{base}.{extension}") }
    }

    /// Whether it is `.` or `..`.
    pub(in crate::vfat) fn is_dots(&self) -> bool {
        self.short == *b".          " || self.short == *b"..         "
    }

    /// What is wrong with its short name.
    pub(in crate::vfat) fn short_problem(&self) -> Option<&'static str> {
        let forbidden =
            |byte: &u8| *byte < 0x20 || byte.is_ascii_lowercase() || b"\"*+,./:;<=>?[\\]|\x7f".contains(byte);
        match self.short {
            _ if self.is_dots() => None,
            [b' ', ..] => Some("has a short name that starts with a space"),
            [first, rest @ ..] if (forbidden(&first) && first != REALLY_E5) || rest.iter().any(forbidden) => {
                Some("has a short name with a character that cannot be in one")
            }
            _ => None,
        }
    }

    /// Why its name cannot be shown as a file's name.
    pub(in crate::vfat) fn name_problem(&self) -> Option<&'static str> {
        let name = self.name();
        match name.as_str() {
            "" => Some("has no name"),
            "." | ".." => Some("has a name that leads elsewhere"),
            _ if name.contains(['/', '\0']) => Some("has a name with a slash or a NUL"),
            _ => None,
        }
    }
}

/// A long name as its parts come in.
struct Parts {
    /// From the last part to the first.
    units: Vec<[u16; 13]>,
    next: u8,
    checksum: u8,
}

/// What the entries of a directory hold.
pub(in crate::vfat) struct Entries {
    pub(in crate::vfat) entries: Vec<Entry>,
    /// What is wrong besides the entries.
    pub(in crate::vfat) problems: Vec<&'static str>,
}

/// Reads the entries of a directory.
pub(in crate::vfat) fn entries(shape: &Shape, directory: &[u8]) -> Entries {
    let mut found = Entries { entries: Vec::new(), problems: Vec::new() };
    let mut parts: Option<Parts> = None;
    for raw in directory.as_chunks::<32>().0 {
        match raw {
            [0, ..] => break,
            [REMOVED, ..] => {
                found.orphan(parts.take().is_some());
            }
            _ if u8_at(raw, 11) & 0x3f == ATTRIBUTES_LONG => {
                let (next, broken) = part(parts.take(), raw);
                parts = next;
                found.orphan(broken);
            }
            _ => found.entries.push(short(shape, raw, parts.take())),
        }
    }
    found.orphan(parts.is_some());
    found
}

impl Entries {
    fn orphan(&mut self, is_one: bool) {
        const WHY: &str = "has parts of a long name that belong to no entry";
        if is_one && !self.problems.contains(&WHY) {
            self.problems.push(WHY);
        }
    }
}

/// Takes a part of a long name; returns whether the parts before it were incomplete.
fn part(before: Option<Parts>, raw: &[u8; 32]) -> (Option<Parts>, bool) {
    let (order, checksum) = (u8_at(raw, 0), u8_at(raw, 13));
    let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    let units = places.map(|at| u16_at(raw, at));
    let number = order & !LAST_PART;
    if order & LAST_PART != 0 && (1..=MOST_PARTS).contains(&number) {
        return (Some(Parts { units: vec![units], next: number.saturating_sub(1), checksum }), before.is_some());
    }
    match before {
        Some(mut parts) if number > 0 && number == parts.next && checksum == parts.checksum => {
            parts.units.push(units);
            parts.next = number.saturating_sub(1);
            (Some(parts), false)
        }
        _ => (None, true),
    }
}

fn short(shape: &Shape, raw: &[u8; 32], parts: Option<Parts>) -> Entry {
    let mut name = [0; 11];
    name.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
    let (long, problem) = match parts.map(|parts| long_name(&parts, &name)) {
        None => (None, None),
        Some(Ok((units, problem))) => (Some(units), problem),
        Some(Err(problem)) => (None, Some(problem)),
    };
    let high = if shape.bits == Bits::Fat32 { u32::from(u16_at(raw, 20)) } else { 0 };
    let cluster = high << 16 | u32::from(u16_at(raw, 26));
    Entry {
        short: name,
        long,
        attributes: u8_at(raw, 11),
        lower: u8_at(raw, 12),
        cluster,
        created: Clock { date: u16_at(raw, 16), time: u16_at(raw, 14), hundredths: u8_at(raw, 13) },
        accessed: Clock { date: u16_at(raw, 18), ..Clock::default() },
        modified: Clock { date: u16_at(raw, 24), time: u16_at(raw, 22), hundredths: 0 },
        size: u32_at(raw, 28),
        problem,
    }
}

/// A long name, and what is wrong with it, if it can still be used.
type LongName = (Vec<u16>, Option<&'static str>);

/// Joins the parts of a long name, which ends at a zero and is padded with ones. An error is that there is none.
fn long_name(parts: &Parts, short: &[u8; 11]) -> Result<LongName, &'static str> {
    if parts.next != 0 {
        return Err("has a long name that is not complete");
    }
    if parts.checksum != short_checksum(short) {
        return Err("has a long name that belongs to another short name");
    }
    let units: Vec<u16> = parts.units.iter().rev().flatten().copied().collect();
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    let (name, rest) = units.split_at_checked(end).unwrap_or((&units, &[]));
    const WRONG_END: &str = "has a long name that does not end as it should";
    let padded = rest.iter().skip(1).all(|&unit| unit == 0xffff);
    if name.is_empty() || name.len() > 255 || name.contains(&0xffff) {
        return Err(WRONG_END);
    }
    if char::decode_utf16(name.iter().copied()).any(|unit| unit.is_err()) {
        return Err("has a long name that is not UTF-16");
    }
    Ok((name.to_vec(), (!padded).then_some(WRONG_END)))
}
