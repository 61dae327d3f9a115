//! Patterns, as for `default` in loader.conf. Pure.

/// Whether all of `text` is what `pattern` says: `*` any characters, `?` any one, `[a-z]` one of those, a backslash the
/// next one as it is, all others themselves; in any case.
///
/// Takes time in proportion to the product of the lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            _ => match (takes(pattern.get(p..).unwrap_or_default(), byte), star) {
                (Some(len), _) => (p, t) = (p + len, t + 1),
                (None, Some((at, taken))) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                (None, None) => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|&byte| byte == b'*')
}

/// The length of the first thing in `pattern` if it stands for `byte`.
fn takes(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => takes_of_set(set, byte).map(|len| len + 1),
        [b'\\', wanted, ..] => wanted.eq_ignore_ascii_case(&byte).then_some(2),
        [wanted, ..] => wanted.eq_ignore_ascii_case(&byte).then_some(1),
        [] => None,
    }
}

/// The same of what follows a `[`; one without an end stands for nothing.
fn takes_of_set(set: &[u8], byte: u8) -> Option<usize> {
    let (byte, mut at, mut is_in) = (byte.to_ascii_lowercase(), 0, false);
    loop {
        let (low, len) = match set.get(at..)? {
            [b']', ..] if at > 0 => return is_in.then_some(at + 1),
            [b'\\', low, ..] => (*low, 2),
            [low, ..] => (*low, 1),
            [] => return None,
        };
        at += len;
        let high = match set.get(at..)? {
            [b'-', high, ..] if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        is_in |= (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&byte);
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
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
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
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }
}
