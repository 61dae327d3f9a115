//! Sizes for people.

/// A number of bytes in the unit that suits it: `572 B`, `64.0 MiB`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, cut off rather than rounded up: 1023.99 KiB is no MiB.
    let mut unit = 0;
    let mut value = bytes;
    while value >= 1024 * 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    let tenths = u128::from(value) * 10 / 1024;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

/// A count with commas: `92,940`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2,000 files`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    match what.strip_suffix('y').filter(|_| number != 1) {
        Some(stem) => format!("{} {stem}ies", count(number)),
        None => format!("{} {what}{s}", count(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (161_480_704, "154.0 MiB"),
            (4_811_230_000, "4.4 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn counts_have_commas() {
        assert_eq!([0, 999, 1000, 92_940, 1_234_567].map(count), ["0", "999", "1,000", "92,940", "1,234,567"]);
        assert_eq!(counted(1, "directory"), "1 directory");
        assert_eq!(counted(21_973, "directory"), "21,973 directories");
        assert_eq!(counted(0, "file"), "0 files");
    }
}
