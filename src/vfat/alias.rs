//! The short names of files that have long ones. Pure.
//!
//! If the file's name in capitals is a short name, it is that. Otherwise it is `TEXTFI~1.TXT` up to `~4`, then
//! `TE021F~1.TXT` with a checksum of the name in the middle. A few look-ups find a free one, even if many thousands of
//! names share a prefix and have similar checksums: checksums with no number left are remembered.

use std::collections::{BTreeMap, BTreeSet};

/// A short name: eight bytes, and three of the extension, padded with spaces.
pub(super) type Alias = [u8; 11];

/// The bytes of a short name before its extension.
const BASE: usize = 8;
/// Numbers after a long prefix.
const LONG_PREFIX_NUMBERS: std::ops::RangeInclusive<u32> = 1..=4;
/// Numbers after a short prefix and a checksum.
const CHECKSUM_NUMBERS: std::ops::RangeInclusive<u32> = 1..=9;

/// The short names of a directory.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    given: BTreeSet<Alias>,
    /// For a checksum whose numbers are all used: a later one that may have some left.
    full: BTreeMap<Alias, BTreeMap<u16, u16>>,
}

impl Aliases {
    /// Gives `name` a short name that no other has. There are more than a directory has entries.
    pub(super) fn give(&mut self, name: &str) -> Alias {
        let wish = Wish::new(name);
        let first = wish.candidates().find(|alias| !self.given.contains(alias));
        let alias = first.unwrap_or_else(|| self.checked(&wish));
        self.given.insert(alias);
        alias
    }

    /// The first that is free of those with a checksum, from the name's own on.
    fn checked(&mut self, wish: &Wish) -> Alias {
        let full = self.full.entry(wish.around_checksum()).or_default();
        for _ in 0..=u16::MAX {
            let sum = skip_full(full, wish.checksum);
            if let Some(alias) = wish.with_checksum(sum).find(|alias| !self.given.contains(alias)) {
                return alias;
            }
            full.insert(sum, sum.wrapping_add(1));
        }
        unreachable!("half a million short names for a directory of 65,536 entries")
    }
}

/// The first checksum from `sum` on that is not known to be full. What it goes by then leads there at once.
fn skip_full(full: &mut BTreeMap<u16, u16>, sum: u16) -> u16 {
    let mut end = sum;
    while let Some(&next) = full.get(&end) {
        end = next;
    }
    let mut at = sum;
    while let Some(next) = full.get_mut(&at) {
        at = std::mem::replace(next, end);
    }
    end
}

/// The part of a name that fits into a short one.
struct Wish {
    base: Vec<u8>,
    extension: Vec<u8>,
    /// Whether that is all of the name, but for its case.
    is_whole: bool,
    checksum: u16,
}

impl Wish {
    fn new(name: &str) -> Self {
        let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let (base, is_base_whole) = shortened(base, BASE);
        let (extension, is_extension_whole) = shortened(extension, size_of::<Alias>() - BASE);
        let is_whole = is_base_whole && is_extension_whole;
        Self { base, extension, is_whole, checksum: checksum(name) }
    }

    /// Short names for it without a checksum, the best first.
    fn candidates(&self) -> impl Iterator<Item = Alias> + '_ {
        // No short name starts with a space: `.env` becomes one with the extension in front.
        let (whole, in_front) = match self.is_whole {
            true if self.base.is_empty() => (None, Some(&self.extension)),
            true => (Some(padded(&self.base, &self.extension)), None),
            false => (None, None),
        };
        let in_front = in_front.into_iter().flat_map(|base| (1..).map(move |n| padded(&numbered(base, n), b"")));
        let long = LONG_PREFIX_NUMBERS.map(|n| padded(&numbered(prefix(&self.base, 6), n), &self.extension));
        whole.into_iter().chain(in_front.take(9999)).chain(long)
    }

    /// The part that all its short names with a checksum have in common.
    fn around_checksum(&self) -> Alias {
        padded(prefix(&self.base, 2), &self.extension)
    }

    /// Short names for it with this checksum, the best first.
    fn with_checksum(&self, sum: u16) -> impl Iterator<Item = Alias> + '_ {
        let base = [prefix(&self.base, 2), format!("{sum:04X}").as_bytes()].concat();
        CHECKSUM_NUMBERS.map(move |n| padded(&numbered(&base, n), &self.extension))
    }
}

/// The first bytes of a part of a name that a short one can hold, at most `most`, and whether they are all of it.
fn shortened(part: &str, most: usize) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    let mut is_whole = true;
    for c in part.chars() {
        if kept.len() == most {
            return (kept, false);
        }
        match c {
            ' ' | '.' => is_whole = false,
            c if super::names::is_short_character(c) => kept.extend(u8::try_from(c.to_ascii_uppercase())),
            _ => {
                kept.push(b'_');
                is_whole = false;
            }
        }
    }
    (kept, is_whole)
}

fn prefix(base: &[u8], most: usize) -> &[u8] {
    &base[..base.len().min(most)]
}

fn numbered(base: &[u8], number: u32) -> Vec<u8> {
    [base, format!("~{number}").as_bytes()].concat()
}

fn padded(base: &[u8], extension: &[u8]) -> Alias {
    let mut alias = [b' '; size_of::<Alias>()];
    let (to_base, to_extension) = alias.split_at_mut(BASE);
    to_base.iter_mut().zip(base).for_each(|(to, from)| *to = *from);
    to_extension.iter_mut().zip(extension).for_each(|(to, from)| *to = *from);
    alias
}

/// The BSD checksum of a name's characters.
fn checksum(name: &str) -> u16 {
    name.chars().fold(0_u16, |sum, c| {
        let low = u16::try_from(u32::from(c) & 0xffff).unwrap_or(0);
        sum.rotate_right(1).wrapping_add(low)
    })
}

/// The sum over a short name which ties the entries of a long name to it.
pub(super) fn short_checksum(alias: &Alias) -> u8 {
    alias.iter().fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

#[cfg(test)]
mod unit {
    use super::*;

    fn text(alias: Alias) -> String {
        String::from_utf8(alias.to_vec()).unwrap()
    }

    #[test]
    fn short_names_are_kept_and_others_numbered() {
        let mut aliases = Aliases::default();
        let mut give = |name: &str| text(aliases.give(name));
        assert_eq!(give("Kernel.efi"), "KERNEL  EFI");
        assert_eq!(give("a b.c"), "AB~1    C  ");
        assert_eq!(give("textfile-long.txt"), "TEXTFI~1TXT");
        assert_eq!(give("textfile-longer.text"), "TEXTFI~1TEX");
        for number in 2..5 {
            assert_eq!(give(&format!("textfile-{number}.txt")), format!("TEXTFI~{number}TXT"));
        }
        let fifth = give("textfile-5.txt");
        assert!(fifth.starts_with("TE") && fifth.ends_with("~1TXT"), "{fifth}");
        assert_eq!([give(".env"), give(".hidden"), give("日本")], ["ENV~1      ", "~1      HID", "__~1       "]);
    }

    #[test]
    fn none_is_given_twice() {
        let mut aliases = Aliases::default();
        let given: BTreeSet<_> = (0..32_767).map(|n| aliases.give(&format!("one prefix {n:05}.dtb"))).collect();
        assert_eq!(given.len(), 32_767);
    }
}
