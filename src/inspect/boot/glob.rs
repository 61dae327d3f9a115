//! Patterns, as for `default` in loader.conf. Pure.

/// A pattern: `*` any characters, `?` any one, `[a-z]` one of those, a backslash the next one as it is, all others
/// themselves; in any case.
pub(super) struct Pattern {
    /// `None` if it has a `[` without an end, so that it stands for nothing.
    parts: Option<Vec<Part>>,
}

/// What a pattern is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Any bytes, or none.
    Any,
    /// Any byte.
    One,
    /// A byte in any case.
    Byte(u8),
    /// One of several.
    Set(Set),
}

/// Bytes, in lower case: a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Set {
    low: u128,
    high: u128,
}

impl Pattern {
    /// Takes time and memory in proportion to the length.
    pub(super) fn new(text: &str) -> Self {
        Self { parts: parts(text.as_bytes()) }
    }

    /// Whether it stands for all of `text`.
    ///
    /// Takes time in proportion to the square of the length of `text` at most, however long the pattern is.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(parts) = &self.parts else { return false };
        let text = text.as_bytes();
        let (mut p, mut t) = (0, 0);
        // Where the last star was, and what it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = text.get(t) {
            match (parts.get(p), star) {
                (Some(Part::Any), _) => {
                    star = Some((p, t));
                    p += 1;
                }
                (Some(part), _) if part.is(byte) => (p, t) = (p + 1, t + 1),
                (_, Some((at, taken))) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                (_, None) => return false,
            }
        }
        parts.get(p..).is_some_and(|rest| rest.iter().all(|part| *part == Part::Any))
    }
}

impl Part {
    /// Whether it stands for a byte.
    fn is(self, byte: u8) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Byte(wanted) => wanted.eq_ignore_ascii_case(&byte),
            Self::Set(set) => set.has(byte.to_ascii_lowercase()),
        }
    }
}

impl Set {
    fn add(&mut self, byte: u8) {
        let bit = 1 << (byte % 128);
        if byte < 128 { self.low |= bit } else { self.high |= bit }
    }

    fn has(self, byte: u8) -> bool {
        let bits = if byte < 128 { self.low } else { self.high };
        bits >> (byte % 128) & 1 == 1
    }
}

fn parts(mut pattern: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some((&first, rest)) = pattern.split_first() {
        let (part, len) = match (first, rest) {
            (b'*', _) => (Part::Any, 1),
            (b'?', _) => (Part::One, 1),
            (b'[', rest) => set(rest).map(|(set, len)| (Part::Set(set), len + 1))?,
            (b'\\', [byte, ..]) => (Part::Byte(*byte), 2),
            (byte, _) => (Part::Byte(byte), 1),
        };
        // Two stars are no more than one.
        if part != Part::Any || parts.last() != Some(&Part::Any) {
            parts.push(part);
        }
        pattern = pattern.get(len..)?;
    }
    Some(parts)
}

/// What follows a `[`, and its length with the `]`; `None` without an end.
fn set(bytes: &[u8]) -> Option<(Set, usize)> {
    let (mut at, mut set) = (0, Set::default());
    loop {
        let (low, len) = match bytes.get(at..)? {
            [b']', ..] if at > 0 => return Some((set, at + 1)),
            [b'\\', low, ..] => (*low, 2),
            [low, ..] => (*low, 1),
            [] => return None,
        };
        at += len;
        let high = match bytes.get(at..)? {
            [b'-', high, ..] if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).for_each(|byte| set.add(byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in [
            ("nixos-*", "nixos-generation-1.conf"),
            ("*", ""),
            ("*.conf", "a.conf.conf"),
            ("a*b*c", "aXbYbc"),
            ("A?c", "abC"),
            ("same.conf", "same.conf"),
            ("a[0-9x]c", "a7c"),
            ("a[0-9X]c", "axc"),
            ("[]]", "]"),
            ("[a-]", "-"),
            ("a\\*", "a*"),
            ("**a**", "a"),
            ("[\u{7f}-\u{ff}]?", "\u{ff}"),
        ] {
            assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("nixos-*", "xnixos-1"),
            ("a", "ab"),
            ("ab", "a"),
            ("*b", "a"),
            ("?", ""),
            ("", "a"),
            ("[a", "a"),
            ("a[0-9]", "ab"),
            ("a\\*", "ab"),
        ] {
            assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_long_pattern_takes_no_longer() {
        let text = "a".repeat(199);
        for long in ["*a", "**", "*[ab]", "["] {
            let pattern = Pattern::new(&format!("*{}b", long.repeat(1 << 18)));
            assert!((0..1000).all(|_| !pattern.matches(&text)), "{long}");
        }
    }
}
