//! What a file has besides contents and [`Metadata`](super::Metadata): what is kept if the file is written again, and
//! what would be lost.

use super::escape;
use crate::times::Times;

/// No more extended attributes of a file are named.
const MOST_NAMED: usize = 8;

/// Modes as `stat` has them; ext4 and btrfs store them so.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const PIPE: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;

/// What a [`Metadata`](super::Metadata) does not have of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Its times. Where the format has none, those of a store.
    pub times: Times,
    /// The flags of its inode that the writer of the same format writes as they are, in that format's bits.
    pub flags: u32,
    /// What our writers cannot write, each as a short noun: "a device", "the flag immutable". Nothing else is lost when the
    /// file is read and written again.
    pub obstacles: Vec<String>,
}

impl Rest {
    /// These times and these obstacles, and times that no file can have among the latter.
    pub(crate) fn new(times: Times, mut obstacles: Vec<String>) -> Self {
        if !times.all().iter().all(|time| time.is_valid()) {
            obstacles.push("a time with 1,000,000,000 nanoseconds or more".to_owned());
        }
        Self { times, flags: 0, obstacles }
    }

    /// The same with these flags.
    pub(crate) fn with_flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }
}

/// What cannot be written because of a file's type, as its mode has it, and the number of names that lead to it.
pub(crate) fn of_mode(mode: u32, links: u32) -> Vec<String> {
    let kind = match mode & TYPE {
        CHARACTER | BLOCK => Some("a device"),
        PIPE => Some("a pipe"),
        SOCKET => Some("a socket"),
        _ => None,
    };
    let links = (links > 1 && mode & TYPE != DIRECTORY).then(|| format!("{links} hard links"));
    kind.map(str::to_owned).into_iter().chain(links).collect()
}

/// The bits of `flags` that are not in `form`, by their names: "the flag immutable".
pub(crate) fn of_flags(flags: u64, form: u64, names: &[(u64, &str)]) -> Vec<String> {
    let bits = (0..u64::BITS).map(|bit| 1_u64 << bit).filter(|bit| flags & !form & bit != 0);
    let name = |bit: u64| names.iter().find(|(known, _)| *known == bit).map(|(_, name)| format!("the flag {name}"));
    bits.map(|bit| name(bit).unwrap_or_else(|| format!("the flag {bit:#x}"))).collect()
}

/// Extended attributes, if there are any, by their names, which are any bytes.
pub(crate) fn of_attributes(mut names: Vec<Vec<u8>>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let more = names.len().saturating_sub(MOST_NAMED);
    let more = (more > 0).then(|| format!("{more} more"));
    let named = names.iter().take(MOST_NAMED).map(|name| escape::bytes(name)).chain(more);
    Some(format!("extended attributes ({})", named.collect::<Vec<_>>().join(", ")))
}

/// A label that is no text, so its reader could not return all of it.
pub(crate) fn of_label(label: &[u8]) -> Option<String> {
    str::from_utf8(label).is_err().then(|| "a label that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(of_mode(0o100_644, 1), [""; 0]);
        assert_eq!(of_mode(0o100_644, 3), ["3 hard links"]);
        assert_eq!(of_mode(0o040_755, 9), [""; 0]);
        assert_eq!(of_mode(0o020_600, 2), ["a device", "2 hard links"]);
        assert_eq!(
            [0o060_600, 0o010_600, 0o140_600].map(|mode| of_mode(mode, 1).join("")),
            ["a device", "a pipe", "a socket"]
        );
        assert_eq!(of_mode(0o120_777, 0), [""; 0]);
    }

    #[test]
    fn flags_are_named_or_numbered() {
        let names = [(0x10, "immutable"), (1 << 32, "verity")];
        assert_eq!(of_flags(0x31 | 1 << 32, 0x1, &names), ["the flag immutable", "the flag 0x20", "the flag verity"]);
        assert_eq!(of_flags(0x1, 0x1, &names), [""; 0]);
    }

    #[test]
    fn attributes_are_named_up_to_a_number() {
        let names = |names: &[&[u8]]| of_attributes(names.iter().map(|name| name.to_vec()).collect());
        assert_eq!(names(&[]), None);
        assert_eq!(
            names(&[b"user.x", b"security.capability"]).unwrap(),
            "extended attributes (security.capability, user.x)"
        );
        assert_eq!(names(&[b"user.\x1b\xff"]).unwrap(), "extended attributes (user.\\u{1b}\\xff)");
        let many = names(&[&b"user.x"[..]; 10]).unwrap();
        assert!(many.ends_with("user.x, 2 more)"), "{many}");
    }

    #[test]
    fn times_that_cannot_be_are_told() {
        let mut times = Times::STORE;
        assert_eq!(Rest::new(times, Vec::new()).obstacles, [""; 0]);
        times.birth.nanoseconds = 1_000_000_000;
        assert_eq!(Rest::new(times, Vec::new()).obstacles, ["a time with 1,000,000,000 nanoseconds or more"]);
    }
}
