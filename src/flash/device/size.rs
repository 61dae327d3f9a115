//! Sizes as they are printed on cards and disks: in powers of ten.

/// A size for people: `31.9 GB`, cut off rather than rounded up.
pub fn human(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("EB", 1_000_000_000_000_000_000),
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10)),
        None => format!("{bytes} B"),
    }
}

/// A size in bytes, with commas: `31,914,983,424 bytes`.
pub fn exact(bytes: u64) -> String {
    let digits = bytes.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let plural = if bytes == 1 { "" } else { "s" };
    format!("{out} byte{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_printed_on_cards() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (31_914_983_424, "31.9 GB"),
            (999_999_999, "999.9 MB"),
            (2_000_398_934_016, "2.0 TB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(exact(31_914_983_424), "31,914,983,424 bytes");
        assert_eq!([exact(0), exact(1), exact(1000)], ["0 bytes", "1 byte", "1,000 bytes"]);
    }
}
