//! Names and versions of packages, as Nix separates them: see `builtins.parseDrvName` and `builtins.compareVersions` in
//! the Nix manual.

use std::cmp::Ordering;

/// Splits the part of a store path's name after the hash: the version starts after the first dash that no letter
/// follows; it is empty if there is none.
pub fn split(name: &str) -> (&str, &str) {
    let dashes = name.match_indices('-').map(|(at, _)| at);
    let pairs = dashes.filter_map(|at| Some((name.get(..at)?, name.get(at + 1..)?)));
    let mut versions = pairs.filter(|(_, version)| version.chars().next().is_some_and(|c| !c.is_ascii_alphabetic()));
    versions.next().unwrap_or((name, ""))
}

/// Which of two versions is newer. Components are runs of digits and runs of other characters, apart from dots and
/// dashes; numbers are newer than words and than nothing, `pre` is older than everything.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    while !one.is_empty() || !other.is_empty() {
        match compare_components(next(&mut one), next(&mut other)) {
            Ordering::Equal => {}
            order => return order,
        }
    }
    Ordering::Equal
}

fn next<'a>(version: &mut &'a str) -> &'a str {
    let rest = version.trim_start_matches(['.', '-']);
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
    let end = rest.find(|c: char| matches!(c, '.' | '-') || c.is_ascii_digit() != is_number).unwrap_or(rest.len());
    let (component, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *version = rest;
    component
}

fn compare_components(one: &str, other: &str) -> Ordering {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.trim_start_matches('0').to_owned());
    let rank = |text: &str| match text {
        "pre" => 0,
        "" => 1,
        _ if number(text).is_some() => 3,
        _ => 2,
    };
    match (rank(one), rank(other)) {
        (3, 3) => {
            let [one, other] = [one, other].map(|text| number(text).unwrap_or_default());
            (one.len(), one).cmp(&(other.len(), other))
        }
        (2, 2) => one.cmp(other),
        (one, other) => one.cmp(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_start_at_the_first_dash_before_no_letter() {
        for (text, name, version) in [
            ("hello-2.12", "hello", "2.12"),
            ("gcc-wrapper-13.2.0", "gcc-wrapper", "13.2.0"),
            ("openssl-3.0.8-bin", "openssl", "3.0.8-bin"),
            ("python3.11-pip-23.0", "python3.11-pip", "23.0"),
            ("etc", "etc", ""),
            ("unit-dbus.service", "unit-dbus.service", ""),
            ("source-", "source-", ""),
            ("a-_1", "a", "_1"),
            ("nixos-system-host-26.05.20261101.abc", "nixos-system-host", "26.05.20261101.abc"),
        ] {
            assert_eq!(split(text), (name, version), "{text}");
        }
    }

    /// The pairs are those of the Nix manual and of `nix eval --expr 'builtins.compareVersions …'`.
    #[test]
    fn versions_compare_as_in_nix() {
        for (older, newer) in [
            ("1.0", "2.3"),
            ("2.1", "2.3"),
            ("2.3", "2.3.1"),
            ("2.3.1", "3.1"),
            ("2.3", "2.3a"),
            ("2.3a", "2.3.1"),
            ("2.3pre1", "2.3"),
            ("2.3pre3", "2.3pre12"),
            ("2.3a", "2.3c"),
            ("2.3pre1", "2.3c"),
            ("2.3pre1", "2.3q"),
            ("9", "10"),
            ("99999999999999999999", "100000000000000000000"),
            ("", "1"),
        ] {
            assert_eq!(
                (compare(older, newer), compare(newer, older)),
                (Ordering::Less, Ordering::Greater),
                "{older} {newer}"
            );
        }
        for (one, same) in [("2.3.1", "2.3.1"), ("1-2", "1.2"), ("1.02", "1.2"), ("", "")] {
            assert_eq!(compare(one, same), Ordering::Equal, "{one} {same}");
        }
    }
}
