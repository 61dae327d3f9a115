//! The two lists that Nix's `closureInfo` makes: `store-paths` and `registration`.
//!
//! `store-paths` has a path a line. `registration` is what `nix-store --load-db` reads on the first
//! boot; per path it has these lines, with nothing between one path and the next:
//!
//! ```text
//! /nix/store/<hash>-<name>       the path
//! sha256:<52 base-32 digits>     the hash of its NAR
//! 12345                          the size of its NAR in bytes
//!                                its deriver; empty in a closureInfo
//! 2                              the number of its references
//! /nix/store/…                   the references, one a line, itself among them
//! ```
//!
//! Both are read strictly: a list that is cut short must not pass for a smaller closure.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use thiserror::Error;

use super::path::{StoreDir, StorePath, StorePathError, check_base_name};

/// The name of `registration` at the root of an image's nix filesystem, where NixOS looks for it on the
/// first boot.
pub const IMAGE_FILE_NAME: &str = "nix-path-registration";

/// The directory at the root of an image's nix filesystem with Nix's database of its store paths, where the running system
/// cannot write to that filesystem and takes a copy.
pub const IMAGE_DATABASE: &str = "nix-database";

/// The digits of a SHA-256 in Nix's base 32.
const SHA256_DIGITS: usize = 52;

/// The digits of a SHA-256 in base 16, which `nix-store --dump-db` writes without a prefix.
const SHA256_HEX_DIGITS: usize = 64;

/// The digits of a SHA-256 in base 64, with the padding.
const SHA256_BASE64_DIGITS: usize = 44;

/// What is registered of one store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The path that is registered.
    pub path: StorePath,
    /// The SHA-256 of its NAR.
    pub nar_hash: [u8; 32],
    /// The size of its NAR in bytes.
    pub nar_size: u64,
    /// The derivation that built it, where known; not in the closure as a rule.
    pub deriver: Option<StorePath>,
    /// The paths that it refers to, in the order of the file, itself among them if it does.
    pub references: Vec<StorePath>,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: LineProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineProblem {
    /// Not the store path that belongs here.
    #[error(transparent)]
    Path(#[from] StorePathError),
    /// Not a hash of the one kind that Nix registers.
    #[error("{0:?} is not a hash of the form sha256:<{SHA256_DIGITS} base-32 or {SHA256_HEX_DIGITS} hex digits>")]
    Hash(String),
    /// Not a plain decimal number of 64 bits.
    #[error("{0:?} is not a number")]
    Number(String),
    /// Bytes that no list of store paths holds.
    #[error("not UTF-8")]
    NotUtf8,
    /// The file ends within a line or within a record.
    #[error("the file is cut short here")]
    CutShort,
}

/// The paths in `store-paths`, in the order of the file.
///
/// # Errors
/// Names the first line that is not a path in `store_dir` with a newline at its end.
pub fn parse_store_paths(bytes: &[u8], store_dir: &StoreDir) -> Result<Vec<StorePath>, LineError> {
    let mut reader = Reader::new(bytes, store_dir);
    let mut paths = Vec::new();
    while !reader.is_at_end() {
        paths.push(reader.store_path()?);
    }
    Ok(paths)
}

/// The records in `registration`, in the order of the file.
///
/// # Errors
/// Names the first line that breaks the format.
pub fn parse_registration(bytes: &[u8], store_dir: &StoreDir) -> Result<Vec<Registration>, LineError> {
    let mut reader = Reader::new(bytes, store_dir);
    let mut registrations = Vec::new();
    while !reader.is_at_end() {
        registrations.push(reader.registration()?);
    }
    Ok(registrations)
}

/// Reads typed lines off the front of a file.
struct Reader<'a> {
    rest: &'a [u8],
    /// The number of the last line that was read, from 1.
    line: usize,
    store_dir: &'a StoreDir,
    /// Every path read so far, so that the many references to one path share its text.
    known: BTreeSet<StorePath>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], store_dir: &'a StoreDir) -> Self {
        Self { rest: bytes, line: 0, store_dir, known: BTreeSet::new() }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn registration(&mut self) -> Result<Registration, LineError> {
        let path = self.store_path()?;
        let nar_hash = self.parse(|text| sha256(text).ok_or_else(|| LineProblem::Hash(text.to_owned())))?;
        let nar_size = self.number()?;
        let deriver = self.deriver()?;
        let count = self.number()?;
        let references = (0..count).map(|_| self.store_path()).collect::<Result<_, _>>()?;
        Ok(Registration { path, nar_hash, nar_size, deriver, references })
    }

    fn store_path(&mut self) -> Result<StorePath, LineError> {
        let text = self.text()?;
        if let Some(path) = self.known.get(text) {
            return Ok(path.clone());
        }
        let path = StorePath::from_absolute_path(text, self.store_dir).map_err(|error| self.error(error))?;
        self.known.insert(path.clone());
        Ok(path)
    }

    fn deriver(&mut self) -> Result<Option<StorePath>, LineError> {
        let store_dir = self.store_dir;
        self.parse(|text| match text {
            "" => Ok(None),
            _ => Ok(Some(StorePath::from_absolute_path(text, store_dir)?)),
        })
    }

    fn number(&mut self) -> Result<u64, LineError> {
        self.parse(|text| decimal(text).ok_or_else(|| LineProblem::Number(text.to_owned())))
    }

    fn parse<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, LineProblem>) -> Result<T, LineError> {
        let text = self.text()?;
        parse(text).map_err(|problem| self.error(problem))
    }

    /// The next line without its newline.
    fn text(&mut self) -> Result<&'a str, LineError> {
        self.line += 1;
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let (line, rest) = end
            .and_then(|end| Some((self.rest.get(..end)?, self.rest.get(end + 1..)?)))
            .ok_or_else(|| self.error(LineProblem::CutShort))?;
        self.rest = rest;
        str::from_utf8(line).map_err(|_| self.error(LineProblem::NotUtf8))
    }

    fn error(&self, problem: impl Into<LineProblem>) -> LineError {
        LineError { line: self.line, problem: problem.into() }
    }
}

/// The store directory of the first line, if that is the path of something in a store.
pub fn store_dir_of(registration: &[u8]) -> Option<StoreDir> {
    let line = registration.split(|&byte| byte == b'\n').next()?;
    let (directory, base_name) = str::from_utf8(line).ok()?.rsplit_once('/')?;
    StoreDir::new(directory).ok().filter(|_| check_base_name(base_name).is_ok())
}

/// A hash in one of the forms that Nix takes, as bytes: in base 16, 32 or 64 after `sha256:`, in base 64 after `sha256-`,
/// or in base 16 by itself.
pub(crate) fn sha256(text: &str) -> Option<[u8; 32]> {
    if let Some(digits) = text.strip_prefix("sha256-") {
        return base64(digits);
    }
    let prefixed = text.strip_prefix("sha256:");
    let digits = prefixed.unwrap_or(text);
    match digits.len() {
        SHA256_DIGITS if prefixed.is_some() => nix_base32::from_nix_base32(digits)?.try_into().ok(),
        SHA256_BASE64_DIGITS if prefixed.is_some() => base64(digits),
        SHA256_HEX_DIGITS => hex(digits),
        _ => None,
    }
}

fn base64(digits: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(digits).ok()?.try_into().ok()
}

fn hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

/// A number as Nix writes it: no sign, no zero in front.
fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
    const B: &str = "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-b";
    const HASH: &str = "sha256:000y5y39fnxp2ijj8cmdgvmia6wwcrws1q6fbcr1fkf5rs2dm8lr";

    fn store() -> StoreDir {
        StoreDir::new("/nix/store").unwrap()
    }

    fn two_records() -> String {
        format!("{B}\n{HASH}\n120\n\n2\n{A}\n{B}\n{A}\n{HASH}\n18446744073709551615\n{A}.drv\n0\n")
    }

    fn parse_error(text: &str) -> String {
        parse_registration(text.as_bytes(), &store()).unwrap_err().to_string()
    }

    #[test]
    fn records_are_read_in_order() {
        let registrations = parse_registration(two_records().as_bytes(), &store()).unwrap();
        let [b, a] = registrations.as_slice() else { panic!("{registrations:?}") };
        assert_eq!((b.path.as_str(), b.nar_size, &b.deriver), (B, 120, &None));
        assert_eq!(b.nar_hash[..4], [0x99, 0xa2, 0xda, 0x84]);
        assert_eq!(b.references, [a.path.clone(), b.path.clone()]);
        assert_eq!((a.path.as_str(), a.nar_size), (A, u64::MAX));
        assert_eq!(a.deriver.as_ref().unwrap().as_str(), format!("{A}.drv"));
        assert!(a.references.is_empty());
    }

    #[test]
    fn a_hash_is_the_same_in_all_its_forms() {
        let bytes = nix_base32::from_nix_base32(HASH.strip_prefix("sha256:").unwrap()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // From `nix hash to-sri` and `nix hash to-base64`.
        let base64 = "maLahM7FTRcyW87goHlmnBsV636tMiRlFLdbl4YvHgA=";
        for text in [
            HASH.to_owned(),
            hex.clone(),
            format!("sha256:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256-{base64}"),
            format!("sha256:{base64}"),
        ] {
            assert_eq!(sha256(&text).unwrap().as_slice(), bytes, "{text}");
        }
        assert_eq!(sha256("sha512-maLahM7FTRcyW87goHlmnBsV636tMiRlFLdbl4YvHgA="), None);
        assert_eq!(sha256("sha256-maLahM7FTRcyW87goHlmnBsV636tMiRlFLdbl4YvHg=="), None);
        for text in [&hex[1..], &hex.replace('9', "g"), &HASH["sha256:".len()..], &format!("+{}", &hex[1..])] {
            assert_eq!(sha256(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_line_tells_the_store() {
        assert_eq!(store_dir_of(two_records().as_bytes()), Some(store()));
        assert_eq!(store_dir_of(b"/gnu/store/0q43idch209zsdngl8yl79x0y79aajib-a\n").unwrap().as_str(), "/gnu/store");
        assert_eq!(store_dir_of(b""), None);
        assert_eq!(store_dir_of(b"/etc/passwd\n"), None);
    }

    #[test]
    fn store_paths_are_read_in_order() {
        let paths = parse_store_paths(format!("{B}\n{A}\n").as_bytes(), &store()).unwrap();
        assert_eq!(paths.iter().map(StorePath::as_str).collect::<Vec<_>>(), [B, A]);
    }

    #[test]
    fn empty_files_are_an_empty_closure() {
        assert_eq!(parse_store_paths(b"", &store()), Ok(vec![]));
        assert_eq!(parse_registration(b"", &store()), Ok(vec![]));
    }

    #[test]
    fn a_file_cut_anywhere_but_between_records_is_refused() {
        let text = two_records();
        let first_record = text.find(&format!("{A}\n{HASH}")).unwrap();
        for end in (1..text.len()).filter(|&end| end != first_record) {
            assert!(parse_registration(&text.as_bytes()[..end], &store()).is_err(), "{:?}", &text[..end]);
        }
        let error = parse_store_paths(A.as_bytes(), &store()).unwrap_err();
        assert_eq!(error, LineError { line: 1, problem: LineProblem::CutShort });
    }

    #[test]
    fn errors_name_the_line() {
        let record = |hash: &str, size: &str, deriver: &str, count: &str| {
            format!("{A}\n{HASH}\n1\n\n0\n{B}\n{hash}\n{size}\n{deriver}\n{count}\n")
        };
        let good_hash_bad_digit = HASH.replace("000y", "000e");
        for (text, message) in [
            (record("sha256:abc", "1", "", "0"), "line 7: \"sha256:abc\" is not a hash of the form"),
            (record(&HASH.replace("256", "512"), "1", "", "0"), "line 7: "),
            (record(&good_hash_bad_digit, "1", "", "0"), "line 7: "),
            (record(HASH, "-1", "", "0"), "line 8: \"-1\" is not a number"),
            (record(HASH, "+1", "", "0"), "line 8: "),
            (record(HASH, "01", "", "0"), "line 8: "),
            (record(HASH, "", "", "0"), "line 8: "),
            (record(HASH, "18446744073709551616", "", "0"), "line 8: "),
            (record(HASH, "1", "unknown-deriver", "0"), "line 9: \"unknown-deriver\" is not directly in the store"),
            (record(HASH, "1", "", "one"), "line 10: "),
            (record(HASH, "1", "", "1"), "line 11: the file is cut short here"),
            (record(HASH, "1", "", "18446744073709551615"), "line 11: the file is cut short here"),
            (record(HASH, "1", "", "0") + "\n", "line 11: \"\" is not directly in the store"),
        ] {
            assert!(parse_error(&text).starts_with(message), "{}", parse_error(&text));
        }
    }

    #[test]
    fn carriage_returns_and_stray_bytes_are_refused() {
        assert_eq!(
            parse_error(&two_records().replace('\n', "\r\n")),
            format!(r#"line 1: "{B}\r" has the character '\r' in its name; Nix allows letters, digits and +-._?="#)
        );
        let error = parse_store_paths(b"\xff\n", &store()).unwrap_err();
        assert_eq!(error, LineError { line: 1, problem: LineProblem::NotUtf8 });
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_store_paths(&bytes, &store());
            let _ = parse_registration(&bytes, &store());
        }

        #[test]
        fn no_change_of_a_byte_panics(at in 0..two_records().len(), byte: u8) {
            let mut bytes = two_records().into_bytes();
            bytes[at] = byte;
            let _ = parse_registration(&bytes, &store());
        }
    }
}
