//! The store directory and the paths in it.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

/// The digits of the hash that a store path's name starts with: 160 bits in Nix's base 32.
const DIGEST_LEN: usize = 32;

/// The longest name after the hash and its dash, in bytes, as in Nix: 255 with both and with a suffix
/// such as `.lock` or `.chroot`.
const NAME_MAX: usize = 211;

/// Text that is not a store directory or not a path in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} {reason}")]
pub struct StorePathError {
    /// The text as it was found.
    pub text: String,
    /// What is wrong with it.
    pub reason: StorePathReason,
}

/// Why a text is not a store directory or not a path in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StorePathReason {
    /// A store directory that is relative, the root, or not in its shortest form.
    #[error("is not an absolute path free of empty, \".\" and \"..\" components")]
    NotStoreDir,
    /// A path that is not directly in the store directory.
    #[error("is not directly in the store {0}")]
    NotInStore(StoreDir),
    /// The file name does not start with 32 base-32 digits and a dash.
    #[error("does not start with a hash of 32 digits (0-9, a-z without e, o, t, u) and a dash")]
    Digest,
    /// Nothing after the hash, or more than Nix allows.
    #[error("has a name of {0} bytes after the hash; Nix allows 1 to {NAME_MAX}")]
    NameLength(usize),
    /// A character that Nix does not allow in names.
    #[error("has the character {0:?} in its name; Nix allows letters, digits and +-._?=")]
    NameCharacter(char),
    /// A name that is, or starts with, `.` or `..` before a dash.
    #[error("has a name that starts with the component \".\" or \"..\"")]
    NameDots,
}

/// The directory that holds the store, such as `/nix/store`: absolute, in its shortest form, not the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreDir(Arc<str>);

impl StoreDir {
    /// The store directory of `text`.
    ///
    /// # Errors
    /// If it is relative, the root, or holds empty, `.` or `..` components or control characters.
    pub fn new(text: &str) -> Result<Self, StorePathError> {
        let is_plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
        match text.strip_prefix('/') {
            Some(names) if names.split('/').all(is_plain) => Ok(Self(text.into())),
            _ => Err(StorePathError { text: text.to_owned(), reason: StorePathReason::NotStoreDir }),
        }
    }

    /// As text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path of the image.
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An absolute path directly in the store: `<storeDir>/<hash>-<name>`. Ordered by its bytes; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// The store path of the absolute path `text`.
    ///
    /// # Errors
    /// If it is not directly in `store_dir`, or if Nix would not accept its name.
    pub fn from_absolute_path(text: &str, store_dir: &StoreDir) -> Result<Self, StorePathError> {
        let in_store = text.strip_prefix(store_dir.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match in_store.filter(|base_name| !base_name.contains('/')) {
            None => Err(StorePathReason::NotInStore(store_dir.clone())),
            Some(base_name) => check_base_name(base_name),
        }
        .map(|()| Self(text.into()))
        .map_err(|reason| StorePathError { text: text.to_owned(), reason })
    }

    /// The file name, `<hash>-<name>`.
    pub fn base_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, base_name)| base_name)
    }

    /// The whole path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole path, as it is in the image.
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for StorePath {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// Accepts the file names that Nix accepts: see `checkName` in its `path.cc`.
pub(crate) fn check_base_name(base_name: &str) -> Result<(), StorePathReason> {
    let (digest, rest) = base_name.split_at_checked(DIGEST_LEN).ok_or(StorePathReason::Digest)?;
    nix_base32::from_nix_base32(digest).ok_or(StorePathReason::Digest)?;
    let name = rest.strip_prefix('-').ok_or(StorePathReason::Digest)?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(StorePathReason::NameLength(name.len()));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    if let Some(c) = name.chars().find(|&c| !is_allowed(c)) {
        return Err(StorePathReason::NameCharacter(c));
    }
    match name.split('-').next() {
        Some("." | "..") => Err(StorePathReason::NameDots),
        _ => Ok(()),
    }
}

/// Whether Nix makes files of this name in its store that are no store paths: hard links of equal files, locks, roots of
/// sandboxes, and what is being made or deleted.
pub(crate) fn is_by_product(name: &str) -> bool {
    const NAMES: [&str; 2] = [".links", "trash"];
    const STARTS: [&str; 3] = [".tmp-", "tmp-", "add-"];
    const ENDS: [&str; 2] = [".lock", ".chroot"];
    NAMES.contains(&name)
        || STARTS.iter().any(|start| name.starts_with(start))
        || ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "0q43idch209zsdngl8yl79x0y79aajib";

    fn store() -> StoreDir {
        StoreDir::new("/nix/store").unwrap()
    }

    fn parse(text: &str) -> Result<StorePath, StorePathReason> {
        StorePath::from_absolute_path(text, &store()).map_err(|error| error.reason)
    }

    fn parse_name(name: &str) -> Result<StorePath, StorePathReason> {
        parse(&format!("/nix/store/{DIGEST}-{name}"))
    }

    #[test]
    fn true_names_are_read() {
        for name in ["nix-2.8.1", "a", ".gitignore", "..a", "a_b+c?d=e.drv", "-", &"n".repeat(211)] {
            let path = parse_name(name).unwrap();
            assert_eq!(path.base_name(), format!("{DIGEST}-{name}"));
            assert_eq!(path.to_string(), format!("/nix/store/{DIGEST}-{name}"));
        }
    }

    #[test]
    fn what_nix_refuses_is_refused() {
        use StorePathReason::{Digest, NameCharacter, NameDots, NameLength, NotInStore};
        for name in [".", "..", ".-a", "..-a"] {
            assert_eq!(parse_name(name), Err(NameDots), "{name}");
        }
        assert_eq!(parse_name(""), Err(NameLength(0)));
        assert_eq!(parse_name(&"n".repeat(212)), Err(NameLength(212)));
        for (name, bad) in [("a b", ' '), ("ä", 'ä'), ("a\r", '\r'), ("a\0", '\0')] {
            assert_eq!(parse_name(name), Err(NameCharacter(bad)));
        }
        let bad_digit = DIGEST.replace('0', "e");
        for base_name in [DIGEST, "short-a", &format!("{bad_digit}-a"), &format!("{DIGEST}a-a"), &"ä".repeat(32)] {
            assert_eq!(parse(&format!("/nix/store/{base_name}")), Err(Digest), "{base_name}");
        }
        for text in ["", "/nix/store", "/gnu/store/x", "/nix/storex", "nix/store/x"] {
            assert_eq!(parse(text), Err(NotInStore(store())), "{text}");
        }
        assert_eq!(parse(&format!("/nix/store/{DIGEST}-a/bin")), Err(NotInStore(store())));
        assert_eq!(parse(&format!("/nix/store//{DIGEST}-a")), Err(NotInStore(store())));
    }

    #[test]
    fn a_store_directory_is_absolute_and_plain() {
        for text in ["/nix/store", "/store", "/a/b/c"] {
            assert_eq!(StoreDir::new(text).unwrap().as_str(), text);
        }
        for text in ["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/./store", "/nix/../store", "/a\nb"] {
            assert!(StoreDir::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_text() {
        let error = StorePath::from_absolute_path("/usr/bin/env", &store()).unwrap_err();
        assert_eq!(error.to_string(), r#""/usr/bin/env" is not directly in the store /nix/store"#);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
            let _ = parse(&format!("/nix/store/{text}"));
            let _ = parse_name(&text);
            let _ = StoreDir::new(&text);
        }
    }
}
