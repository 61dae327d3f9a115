//! Compares versions as boot loaders do. Source: UAPI.10 ("Version Format Specification"). Pure.

use std::cmp::Ordering;

/// Compares two versions. Characters that no version has are passed over.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        one = from(one, is_of_version);
        other = from(other, is_of_version);
        // What starts with a tilde is before all, even before the end: 6.10~rc1 comes before 6.10.
        if let Some(unequal) = separator(b'~', &mut one, &mut other) {
            return unequal;
        }
        if one.is_empty() || other.is_empty() {
            // What has more is newer.
            return other.is_empty().cmp(&one.is_empty());
        }
        for byte in [b'-', b'^', b'.'] {
            if let Some(unequal) = separator(byte, &mut one, &mut other) {
                return unequal;
            }
        }
        let is_number = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let unequal = if is_number(one) || is_number(other) {
            let [a, b] = [one, other].map(|text| from(text, |byte| byte != b'0'));
            let [(a, rest), (b, other_rest)] = [a, b].map(|text| split(text, u8::is_ascii_digit));
            (one, other) = (rest, other_rest);
            // A number is newer than no number.
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        } else {
            let [(a, rest), (b, other_rest)] = [one, other].map(|text| split(text, u8::is_ascii_alphabetic));
            (one, other) = (rest, other_rest);
            a.cmp(b)
        };
        if unequal != Ordering::Equal {
            return unequal;
        }
    }
}

fn is_of_version(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"~-^.".contains(&byte)
}

/// Goes over a separator that both have; if only one has it, that one is older.
fn separator(byte: u8, one: &mut &[u8], other: &mut &[u8]) -> Option<Ordering> {
    match (one.strip_prefix(&[byte]), other.strip_prefix(&[byte])) {
        (Some(rest), Some(other_rest)) => (*one, *other) = (rest, other_rest),
        (Some(_), None) => return Some(Ordering::Less),
        (None, Some(_)) => return Some(Ordering::Greater),
        (None, None) => {}
    }
    None
}

/// The text from the first byte on that `is` takes.
fn from(text: &[u8], is: impl Fn(u8) -> bool) -> &[u8] {
    text.get(text.iter().position(|&byte| is(byte)).unwrap_or(text.len())..).unwrap_or_default()
}

/// The bytes at the start that `is` takes, and the rest.
fn split(text: &[u8], is: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::disk::oracle::{available, run};

    /// Those of the specification, and what people have.
    #[test]
    fn versions_are_in_the_order_of_the_specification() {
        for (older, newer) in [
            ("~", ""),
            ("", "1"),
            ("", "-"),
            ("1~", "1"),
            ("6.10~rc1", "6.10"),
            ("122.1", "123~rc1-1"),
            ("123~rc1", "123"),
            ("123", "123-a"),
            ("123-a", "123-a.1"),
            ("123-a.1", "123-1"),
            ("123-1", "123-1.1"),
            ("123-1.1", "123^post1"),
            ("123^post1", "123.a-1"),
            ("123.a-1", "123.1-1"),
            ("123.1-1", "123a-1"),
            ("123a-1", "124-1"),
            ("6.9.1", "6.12.1"),
            ("Generation 9", "Generation 10"),
            ("nixos-generation-2.conf", "nixos-generation-11.conf"),
            ("B", "a"),
            ("ab", "abc"),
        ] {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
            assert_eq!(compare(newer, newer), Ordering::Equal);
        }
        for (one, other) in [("001", "1"), ("1_2", "1+2"), ("a b", "a\u{fc}b"), ("123.", "123..")] {
            let is_equal = compare(one, other) == Ordering::Equal;
            assert_eq!(is_equal, other != "123..", "{one} {other}");
        }
    }

    /// systemd's own comparison, where it is installed.
    #[test]
    fn systemd_compares_alike() {
        let parts = ["1", "01", "10", "a", "ab", "B", "~", "-", "^", ".", "_", "rc", ""];
        if !available("systemd-analyze") {
            return;
        }
        let mut seed = 1usize;
        for _ in 0..400 {
            let mut version = || {
                (0..4).fold(String::from("1"), |version, _| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    version + parts[(seed >> 33) % parts.len()]
                })
            };
            let (one, other) = (version(), version());
            let said = run(Command::new("systemd-analyze").args(["compare-versions", &one, &other]));
            let said = String::from_utf8(said.stdout).unwrap();
            let sign = match compare(&one, &other) {
                Ordering::Less => "<",
                Ordering::Equal => "==",
                Ordering::Greater => ">",
            };
            assert_eq!(said.trim_end(), format!("{one} {sign} {other}"));
        }
    }
}
