//! What may stand in `grub.cfg` as a word, in quotes, or on a line; pure.
//!
//! Facts: the chapter "Shell-like scripting" of GRUB's manual.

use std::iter::Peekable;
use std::path::PathBuf;
use std::str::Chars;

use crate::spec::validate::{absolute_path, check_component};

/// Ends a word, unless it is quoted.
const SEPARATORS: [char; 7] = ['{', '}', '|', '&', ';', '<', '>'];
/// What GRUB takes for another thing than itself, in a word without quotes.
const SPECIAL: [char; 5] = ['"', '\'', '\\', '$', '#'];
/// The argument of grub-install that an image can honour: it names modules of the core image.
const MODULES: &str = "--modules=";

/// A text of any number of lines.
///
/// nixpkgs hands it to its installer in an attribute of XML, which has no tabulators and no carriage returns.
pub(super) fn text(text: String) -> Result<String, String> {
    if text.contains('\0') { Err("holds a NUL character".to_owned()) } else { Ok(text.replace(['\t', '\r'], " ")) }
}

/// A text that ends no line.
pub(super) fn one_line(line: String) -> Result<String, String> {
    if line.contains('\n') { Err(format!("{line:?} has more than one line")) } else { text(line) }
}

/// A word for GRUB, which may be empty, or hold variables and quotes.
pub(super) fn word(word: String) -> Result<String, String> {
    if is_word(&word) { one_line(word) } else { Err(format!("{word:?} is not one word for GRUB")) }
}

/// A word that GRUB takes as it is.
pub(super) fn plain_word(word: String) -> Result<String, String> {
    let is_plain = !word.is_empty() && !word.contains(|c| is_separator(c) || SPECIAL.contains(&c) || c.is_control());
    if is_plain { Ok(word) } else { Err("holds blanks, or a character that GRUB takes for something else".to_owned()) }
}

/// Blanks outside quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blanks {
    /// There are none.
    None,
    /// They separate words.
    Separate,
}

/// Whether GRUB takes a text for words and nothing else.
pub(crate) fn is_words(text: &str) -> bool {
    is_sound(text, Blanks::Separate)
}

/// Whether GRUB takes it for one word, or for nothing.
fn is_word(text: &str) -> bool {
    is_sound(text, Blanks::None)
}

fn is_sound(text: &str, blanks: Blanks) -> bool {
    let mut quote = None;
    let mut is_start = true;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let was_start = std::mem::replace(&mut is_start, false);
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None | Some('"'), '\\') if chars.next().is_none() => return false,
            (None | Some('"'), '$') if !is_variable(&mut chars) => return false,
            (None, '#') if was_start => return false,
            (None, ' ' | '\t') if blanks == Blanks::Separate => is_start = true,
            (None, _) if is_separator(c) => return false,
            _ => {}
        }
    }
    quote.is_none()
}

/// Whether a variable's name follows; takes it, if it stands in braces.
fn is_variable(chars: &mut Peekable<Chars<'_>>) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if chars.next_if_eq(&'{').is_none() {
        return chars.peek().is_some_and(|c| is_name(*c));
    }
    let is_long = chars.next_if(|c| is_name(*c)).is_some();
    while chars.next_if(|c| is_name(*c)).is_some() {}
    is_long && chars.next() == Some('}')
}

fn is_separator(c: char) -> bool {
    c.is_ascii_whitespace() || SEPARATORS.contains(&c)
}

/// What stands between `"` and `"` as it is.
pub(super) fn in_double_quotes(text: String) -> Result<String, String> {
    let is_title = !text.trim().is_empty() && !text.contains(|c: char| c.is_control() || "\"\\$".contains(c));
    if is_title { Ok(text) } else { Err(format!("{text:?} is not a title for GRUB, which has no \", \\ or $")) }
}

/// What stands between `'` and `'`.
pub(super) fn color(text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.contains(|c: char| c.is_control() || c == '\'') => Err(format!("{text:?} is not a colour")),
        text => Ok(text),
    }
}

/// A picture, whose name's ending is that of the module that reads it.
pub(super) fn picture(path: Option<String>) -> Result<Option<PathBuf>, String> {
    let path = path.map(absolute_path).transpose()?;
    match path.as_ref().and_then(|path| path.extension()?.to_str()) {
        Some(ending) if !ending.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(format!("{ending:?} is not the ending of a picture's name"))
        }
        _ => Ok(path),
    }
}

pub(super) fn one_of(text: String, choices: &[&str]) -> Result<String, String> {
    if choices.contains(&text.as_str()) { Ok(text) } else { Err(format!("{text:?} is not known")) }
}

pub(super) fn directory_name(name: String) -> Result<String, String> {
    match check_component(&name) {
        Ok(()) if !name.contains(|c: char| c == '/' || c.is_control()) => Ok(name),
        _ => Err(format!("{name:?} is not a directory's name")),
    }
}

pub(super) fn mount_point(path: String) -> Result<PathBuf, String> {
    absolute_path(one_line(path)?)
}

pub(super) fn empty_or_path(path: String) -> Result<String, String> {
    match path.is_empty() {
        true => Ok(path),
        false => mount_point(path.clone()).map(|_| path),
    }
}

pub(super) fn device(device: String) -> Result<String, String> {
    match device.as_str() {
        "nodev" => Ok(device),
        _ => mount_point(device.clone()).map(|_| device),
    }
}

pub(super) fn install_arg(arg: String) -> Result<String, String> {
    match arg.strip_prefix(MODULES) {
        Some(_) => one_line(arg),
        None => Err(format!("{arg:?} is an argument that only grub-install knows")),
    }
}
