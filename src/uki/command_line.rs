//! The command line in a unified kernel image, and the root hash in it. Pure.

use crate::discoverable::Tree;

/// Digits of a root hash: of sha256, in hexadecimal.
pub const HASH_DIGITS: usize = 64;

/// The root hash of `tree` that a command line tells; the last one counts.
pub fn root_hash(tree: Tree, command_line: &str) -> Option<&str> {
    let words = command_line.split_whitespace();
    words.filter_map(|word| word.strip_prefix(tree.hash_parameter())?.strip_prefix('=')).next_back()
}

/// A command line with a place for a root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// All of it. The place of the root hash has zeros.
    pub text: String,
    /// Where the digits of the root hash are in it, in bytes.
    pub hash_at: Option<usize>,
}

impl CommandLine {
    /// Appends the root hash of `verified`, which is not known yet, to `parameters`.
    pub fn new(parameters: &str, verified: Option<Tree>) -> Self {
        let mut text = parameters.trim().to_owned();
        let hash_at = verified.map(|tree| {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(tree.hash_parameter());
            text.push('=');
            let at = text.len();
            text.push_str(&"0".repeat(HASH_DIGITS));
            at
        });
        Self { text, hash_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_at_the_end() {
        let zeros = "0".repeat(HASH_DIGITS);
        let line = CommandLine::new(" init=/x quiet\n", Some(Tree::Usr));
        assert_eq!(line.text, format!("init=/x quiet usrhash={zeros}"));
        assert_eq!(&line.text[line.hash_at.unwrap()..], zeros);
        assert_eq!(root_hash(Tree::Usr, &line.text), Some(zeros.as_str()));
        assert_eq!(CommandLine::new("", Some(Tree::Root)).text, format!("roothash={zeros}"));
        assert_eq!(CommandLine::new("quiet", None), CommandLine { text: "quiet".to_owned(), hash_at: None });
        assert_eq!(root_hash(Tree::Usr, "usrhash=a xusrhash=b usrhash=c usrhash"), Some("c"));
    }
}
