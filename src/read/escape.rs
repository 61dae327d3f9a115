//! Escapes names from an image for people. Everything that could move a cursor, end a line or turn text around is
//! written out.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `name` in printable characters, in a way that no other name has: control and formatting characters as `\n` or
/// `\u{202e}`, bytes that are not UTF-8 as `\xff`, a backslash as `\\`.
pub fn name(name: &OsStr) -> String {
    bytes(name.as_bytes())
}

/// A path, like [`name`]; the root of a filesystem, which is the empty path, as `/`.
pub fn path(path: &Path) -> String {
    if path.as_os_str().is_empty() { "/".to_owned() } else { name(path.as_os_str()) }
}

/// Any bytes, like [`name`].
pub fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut out, c));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Text that is UTF-8 already, like [`name`].
pub fn text(text: &str) -> String {
    bytes(text.as_bytes())
}

fn push(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c.is_control() || is_format(c) => out.extend(c.escape_default()),
        c => out.push(c),
    }
}

/// Whether a character shows nothing itself but changes how others show: Unicode's line separators, marks of
/// direction and invisible characters.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_gets_out() {
        for (raw, shown) in [
            (&b"plain-1.2"[..], "plain-1.2"),
            ("Größe №2 日本".as_bytes(), "Größe №2 日本"),
            (b"a\nb\tc\r", "a\\nb\\tc\\r"),
            (b"\x1b[31m", "\\u{1b}[31m"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{202e}gpj.exe".as_bytes(), "\\u{202e}gpj.exe"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            (b"\\n", "\\\\n"),
        ] {
            assert_eq!(bytes(raw), shown);
        }
        assert_eq!(path(Path::new("")), "/");
    }

    #[test]
    fn different_names_look_different() {
        let names: Vec<Vec<u8>> = (0..=255u8).flat_map(|b| [vec![b], vec![b'\\', b], vec![b'\\', b'x', b]]).collect();
        let shown: BTreeSet<String> = names.iter().map(|name| bytes(name)).collect();
        assert_eq!(shown.len(), names.len());
    }
}
