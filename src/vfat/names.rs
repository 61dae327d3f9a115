//! The names that FAT can hold, and the room that they take. Pure.

use std::ffi::OsStr;

use thiserror::Error;

use crate::source::tree::{FileTree, NodeIndex};

/// The longest name, in UTF-16 code units.
const LONG_NAME_MAX: usize = 255;

/// UTF-16 code units of a long name in one directory entry.
pub(super) const UNITS_PER_ENTRY: usize = 13;

/// A reason why FAT cannot hold a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// FAT stores UTF-16, so that bytes which are not text have no place.
    #[error("the name is not UTF-8, and FAT stores text only")]
    NotUtf8,
    /// One of `"*/:<>?\|`, a control character or a noncharacter.
    #[error("FAT names cannot hold the character {0:?}")]
    Character(char),
    /// FAT drops dots and spaces at the end of a name.
    #[error("FAT names cannot end in a dot or a space")]
    TrailingDotOrSpace,
    /// More than 255 UTF-16 code units.
    #[error("the name has {0} UTF-16 code units, but FAT names have at most 255")]
    TooLong(usize),
}

/// The name as text, if FAT can hold it.
pub(super) fn check(name: &OsStr) -> Result<&str, NameFault> {
    let name = name.to_str().ok_or(NameFault::NotUtf8)?;
    let units = name.encode_utf16().count();
    if units > LONG_NAME_MAX {
        return Err(NameFault::TooLong(units));
    }
    name.chars().try_for_each(check_character)?;
    if name.ends_with(['.', ' ']) {
        return Err(NameFault::TrailingDotOrSpace);
    }
    Ok(name)
}

/// The name of a node whose name was checked.
pub(super) fn text(tree: &FileTree, node: NodeIndex) -> &str {
    tree.name(node).to_str().expect("names were checked")
}

fn check_character(c: char) -> Result<(), NameFault> {
    match c {
        // U+FFFF pads the long names' entries.
        '"' | '*' | '/' | ':' | '<' | '>' | '?' | '\\' | '|' | '\0'..='\x1f' | '\x7f' | '\u{ffff}' => {
            Err(NameFault::Character(c))
        }
        _ => Ok(()),
    }
}

/// The number of 32-byte directory entries that hold the long form of `name`; its short form takes one more.
pub(super) fn long_entries(name: &str) -> u32 {
    let units = name.encode_utf16().count();
    u32::try_from(units.div_ceil(UNITS_PER_ENTRY)).expect("a checked name has at most 255 units")
}

/// The form in which names are compared: equal for two names that some reader takes for one.
///
/// Readers fold a character to one character by a table: Linux by that of its character set, EDK2 ASCII and Latin-1,
/// Windows most of Unicode. So `ß` is no `SS` for any of them, and no letter beyond ASCII is one of ASCII.
pub(super) fn folded(name: &str) -> String {
    let fold = |c: char| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) if c.is_ascii() || !upper.is_ascii() => upper,
            _ => c,
        }
    };
    name.chars().map(fold).collect()
}

/// When in its directory a name is created: names of lower rank come first.
///
/// The short aliases of longer names look like `TEXTFI~1.TXT`. A name that is like one comes first, so that no other is
/// given it.
pub(super) fn creation_rank(name: &str) -> u8 {
    u8::from(!name.contains('~') || !is_short(name))
}

/// Whether a short name can hold `name`, but for its case.
fn is_short(name: &str) -> bool {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    (1..=8).contains(&base.len())
        && extension.len() <= 3
        && base.chars().chain(extension.chars()).all(is_short_character)
}

/// Whether a short name can hold the character, in upper case.
pub(super) fn is_short_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c)
}

#[cfg(test)]
mod unit {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_fat_holds() {
        for name in [
            "a",
            "extlinux.conf",
            "a.b.c",
            ".hidden",
            ".a",
            "Ünï",
            "a+b,c;d=e[f]",
            " lead",
            "日本",
            "🙂",
            &"n".repeat(255),
        ] {
            assert_eq!(check(OsStr::new(name)), Ok(name));
        }
        let fault = |name: &[u8]| check(OsStr::from_bytes(name)).unwrap_err();
        for c in "\"*:<>?\\|\u{1}\n\u{7f}\u{ffff}".chars() {
            assert_eq!(fault(format!("a{c}b").as_bytes()), NameFault::Character(c));
        }
        assert_eq!(fault(b"a."), NameFault::TrailingDotOrSpace);
        assert_eq!(fault(b"a "), NameFault::TrailingDotOrSpace);
        assert_eq!(fault(b"a\xff"), NameFault::NotUtf8);
        assert_eq!(fault(&[b'n'; 256]), NameFault::TooLong(256));
    }

    #[test]
    fn entries_count_code_units() {
        assert_eq!([1, 13, 14, 26, 27, 255].map(|n| long_entries(&"ä".repeat(n))), [1, 1, 2, 2, 3, 20]);
    }

    #[test]
    fn names_fold_one_to_one() {
        assert_eq!(["Straße", "ärger", "дом", "ſıﬁ", "日"].map(folded), ["STRAßE", "ÄRGER", "ДОМ", "ſıﬁ", "日"]);
    }

    #[test]
    fn likely_aliases_come_first() {
        let rank = |names: &[&str]| names.iter().map(|name| creation_rank(name)).collect::<Vec<_>>();
        assert_eq!(rank(&["a~1", "TEXTFI~1.TXT", "~.x"]), [0; 3]);
        assert_eq!(
            rank(&["a", "a b~1", "textfile~.txt", "a~1.text", ".a~1", "é~1", "a.b~1.c", "ſ~1", "ﬁ~1.x"]),
            [1; 9]
        );
    }
}
