//! Which line of a menu the variable `default` means. Pure.

use super::run::Item;

/// The line that boots, and what is left of `default` for the menu that it opens; `None` of an empty menu.
///
/// `default` is a number, or a title or an identity, or several of these with `>` between them, of which a title has two
/// for one of its own. What is no line means the first.
pub(super) fn choose<'d>(items: &[Item<'_>], default: &'d str) -> Option<(usize, &'d str)> {
    let (first, rest) = split(default);
    let by_name = || {
        let name = first.replace(">>", ">");
        items.iter().position(|item| item.id.as_deref() == Some(&name) || item.title == name)
    };
    let at = match number(first) {
        Some(number) => usize::try_from(number).ok().filter(|&number| number < items.len()),
        None => by_name(),
    };
    match at {
        Some(at) => Some((at, rest)),
        None => (!items.is_empty()).then_some((0, "")),
    }
}

/// What is before and behind the first single `>`.
fn split(default: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(at) = default.get(from..).and_then(|rest| rest.find('>')) {
        let at = from.saturating_add(at);
        let behind = default.get(at.saturating_add(1)..).unwrap_or_default();
        if !behind.starts_with('>') {
            return (default.get(..at).unwrap_or_default(), behind);
        }
        from = at.saturating_add(2);
    }
    (default, "")
}

/// The number that a text starts with.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ => (text, 10),
    };
    let len = digits.chars().take_while(|c| c.is_digit(radix)).count();
    let digits = digits.get(..len).filter(|digits| !digits.is_empty())?;
    Some(u64::from_str_radix(digits, radix).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(title: &str, id: Option<&str>) -> Item<'static> {
        Item { title: title.to_owned(), rest: Vec::new(), id: id.map(str::to_owned), block: &[], is_menu: false }
    }

    /// Each answer is that of `grub-emu` 2.06 with the same menu.
    #[test]
    fn the_default_is_the_line_that_grub_boots() {
        let items = [
            item("A", None),
            item("B", Some("idb")),
            item("B b", None),
            item("S", Some("ids")),
            item("a>b", Some("gt")),
            item("1 A", None),
        ];
        for (default, wanted) in [
            ("1", (1, "")),
            ("9", (0, "")),
            ("B", (1, "")),
            ("idb", (1, "")),
            ("B b", (2, "")),
            ("01", (1, "")),
            ("1x", (1, "")),
            ("S>S1", (3, "S1")),
            ("S>1", (3, "1")),
            ("ids>s1id>x", (3, "s1id>x")),
            ("a>>b", (4, "")),
            ("a>b", (0, "")),
            ("nothere", (0, "")),
            ("", (0, "")),
            ("-1", (0, "")),
            ("1 A", (1, "")),
            (" 1", (1, "")),
            ("0x1", (1, "")),
            ("gt", (4, "")),
            ("3>9", (3, "9")),
            ("99999999999999999999", (0, "")),
        ] {
            assert_eq!(choose(&items, default), Some(wanted), "{default}");
        }
        assert_eq!(choose(&[], "0"), None);
    }
}
