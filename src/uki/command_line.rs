//! The command line in a unified kernel image, and the root hash in it. Pure.

/// Digits of a root hash: of sha256, in hexadecimal.
pub const HASH_DIGITS: usize = 64;

/// Which parameter tells a root hash, as systemd-veritysetup-generator(8) reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootHash {
    /// `usrhash=`, of `/dev/mapper/usr`.
    Usr,
    /// `roothash=`, of `/dev/mapper/root`.
    Root,
}

impl RootHash {
    /// The parameter's name.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Usr => "usrhash",
            Self::Root => "roothash",
        }
    }

    /// The root hash that a command line tells for it; the last one counts.
    pub fn of(self, command_line: &str) -> Option<&str> {
        let words = command_line.split_whitespace();
        words.filter_map(|word| word.strip_prefix(self.parameter())?.strip_prefix('=')).next_back()
    }

    /// The root hash that a command line tells, and for what.
    pub fn find(command_line: &str) -> Option<(Self, &str)> {
        [Self::Usr, Self::Root].into_iter().find_map(|hash| Some((hash, hash.of(command_line)?)))
    }
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
    /// Appends a root hash that is not known yet to `parameters`.
    pub fn new(parameters: &str, hash: Option<RootHash>) -> Self {
        let mut text = parameters.trim().to_owned();
        let hash_at = hash.map(|hash| {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(hash.parameter());
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
        let line = CommandLine::new(" init=/x quiet\n", Some(RootHash::Usr));
        assert_eq!(line.text, format!("init=/x quiet usrhash={zeros}"));
        assert_eq!(&line.text[line.hash_at.unwrap()..], zeros);
        assert_eq!(RootHash::find(&line.text), Some((RootHash::Usr, zeros.as_str())));
        assert_eq!(CommandLine::new("", Some(RootHash::Root)).text, format!("roothash={zeros}"));
        assert_eq!(CommandLine::new("quiet", None), CommandLine { text: "quiet".to_owned(), hash_at: None });
        assert_eq!(RootHash::Usr.of("usrhash=a xusrhash=b usrhash=c usrhash"), Some("c"));
    }
}
