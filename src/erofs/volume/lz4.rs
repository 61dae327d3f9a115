//! The start of what an LZ4 block unpacks to, where its own end does not matter or is not known.
//!
//! Source: `lz4_Block_format.md` of the LZ4 project.

/// Bytes that every match has besides its length.
const MIN_MATCH: usize = 4;
/// A length in a token that goes on in the bytes after it.
const GOES_ON: usize = 15;

/// Fills `output` with the first bytes that `stored` unpacks to, or returns `None` if it unpacks to less or not at all.
pub(super) fn start(stored: &[u8], output: &mut [u8]) -> Option<()> {
    let (mut input, mut filled) = (stored, 0);
    while filled < output.len() {
        let (&token, rest) = input.split_first()?;
        input = rest;
        let literals = length(usize::from(token >> 4), &mut input)?;
        let wanted = literals.min(output.len().checked_sub(filled)?);
        let target = output.get_mut(filled..filled.checked_add(wanted)?)?;
        target.copy_from_slice(input.get(..wanted)?);
        filled = filled.checked_add(wanted)?;
        if filled == output.len() {
            return Some(());
        }
        let (distance, rest) = input.get(literals..)?.split_first_chunk::<2>()?;
        input = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let matched = length(usize::from(token & 15), &mut input)?.checked_add(MIN_MATCH)?;
        let from = filled.checked_sub(distance).filter(|_| distance > 0)?;
        let end = filled.checked_add(matched)?.min(output.len());
        repeat(output, from, filled, end)?;
        filled = end;
    }
    Some(())
}

/// A length whose first 4 bits are in the token.
fn length(first: usize, input: &mut &[u8]) -> Option<usize> {
    let mut len = first;
    if first == GOES_ON {
        loop {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            len = len.checked_add(byte.into())?;
            if byte != u8::MAX {
                break;
            }
        }
    }
    Some(len)
}

/// Fills `output` from `to` up to `end` with what starts at `from`, which may run into itself.
fn repeat(output: &mut [u8], from: usize, mut to: usize, end: usize) -> Option<()> {
    while to < end {
        // What is there already can be taken at once, and doubles each time.
        let len = to.checked_sub(from)?.min(end.checked_sub(to)?);
        output.copy_within(from..from.checked_add(len)?, to);
        to = to.checked_add(len)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_of_a_block_is_had() {
        // 20 literals, a match that runs into itself, literals that end the block.
        let text = b"abcdefghijklmnopqrst";
        let mut block = vec![0xf4, 5];
        block.extend_from_slice(text);
        block.extend_from_slice(&[3, 0, 0x50]);
        block.extend_from_slice(b"-end-");
        let whole = [&text[..], b"rstrstrs", b"-end-"].concat();
        for len in 0..=whole.len() {
            let mut output = vec![0; len];
            start(&block, &mut output).unwrap();
            assert_eq!(output, whole[..len]);
        }
        assert_eq!(start(&block, &mut vec![0; whole.len() + 1]), None);
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        for block in [&[0x10, b'a', 2, 0][..], &[0x10, b'a', 0, 0], &[0xf0, 255], &[0x20, b'a'], &[]] {
            assert_eq!(start(block, &mut [0; 40]), None, "{block:?}");
        }
    }
}
