//! Decodes bytes that the kernel and udev write as a backslash and digits. They do so because a space would end a
//! field. Pure.

/// What `/proc` and fstab(5) mean: `\040` is a space.
pub(crate) fn octal(text: &[u8]) -> Vec<u8> {
    decode(text, octal_escape)
}

/// What udev means: `\x20` is a space.
pub(crate) fn hex(text: &[u8]) -> Vec<u8> {
    decode(text, hex_escape)
}

/// What either means.
pub(crate) fn any(text: &[u8]) -> Vec<u8> {
    decode(text, |text| hex_escape(text).or_else(|| octal_escape(text)))
}

/// The byte that an escape at the start of a text stands for, and what follows it.
type Escape = fn(&[u8]) -> Option<(u8, &[u8])>;

/// Other characters stay as they are.
fn decode(text: &[u8], escape: Escape) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = escape(rest).unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn octal_escape(text: &[u8]) -> Option<(u8, &[u8])> {
    digits(text.strip_prefix(b"\\")?, 3, 8)
}

fn hex_escape(text: &[u8]) -> Option<(u8, &[u8])> {
    digits(text.strip_prefix(b"\\x")?, 2, 16)
}

/// A byte in so many digits, without the sign that the standard library would take.
fn digits(text: &[u8], count: usize, radix: u32) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_at_checked(count)?;
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
    Some((u8::from_str_radix(digits, radix).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        assert_eq!(octal(b"a\\040b\\\\04\\089\\+40\\777\\x20"), b"a b\\\\04\\089\\+40\\777\\x20");
        assert_eq!(hex(b"Fit\\xc3\\xa9\\x2g\\x\\x+2\\040"), b"Fit\xc3\xa9\\x2g\\x\\x+2\\040");
        assert_eq!(any(b"\\x20\\040\\"), b"  \\");
    }
}
