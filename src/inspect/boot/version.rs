//! Versions as people compare them. Pure.

use std::cmp::Ordering;

/// Compares two versions: runs of digits as numbers, what lies between them by bytes.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        if one.is_empty() || other.is_empty() {
            return one.len().cmp(&other.len());
        }
        let [(word, digits, rest), (other_word, other_digits, other_rest)] = [one, other].map(split);
        let numbers = [digits, other_digits].map(|digits| digits.trim_start_matches('0'));
        let by_number = numbers[0].len().cmp(&numbers[1].len()).then_with(|| numbers[0].cmp(numbers[1]));
        match word.cmp(other_word).then(by_number) {
            Ordering::Equal => (one, other) = (rest, other_rest),
            unequal => return unequal,
        }
    }
}

/// What comes before the first digit, the digits, and the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let (word, rest) = text.split_at(text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len()));
    let (digits, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    (word, digits, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        for (smaller, larger) in [
            ("6.9.1", "6.12.1"),
            ("Generation 9", "Generation 10"),
            ("1", "1.1"),
            ("nixos-generation-2.conf", "nixos-generation-11.conf"),
            ("a", "b"),
            ("", "0"),
        ] {
            assert_eq!(compare(smaller, larger), Ordering::Less, "{smaller} {larger}");
            assert_eq!(compare(larger, smaller), Ordering::Greater);
            assert_eq!(compare(larger, larger), Ordering::Equal);
        }
    }
}
