//! The contents of directories. Pure.
//!
//! Source: <https://erofs.docs.kernel.org/en/latest/core_ondisk.html>, "Directories".

use std::iter;

use zerocopy::IntoBytes;

use super::Nid;
use super::format::{BLOCK_BYTES, DIRENT_SIZE, Dirent};

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The inode that it leads to.
    pub nid: Nid,
    /// What that is: one of [`file_type`](super::format::file_type).
    pub file_type: u8,
}

/// The names of a directory, `.` and `..` among them, in the order of their bytes; the others come in that order.
pub fn with_dots<'a, T: 'a>(
    others: impl Iterator<Item = T> + 'a,
    dots: [T; 2],
    name: impl Fn(&T) -> &[u8] + 'a,
) -> impl Iterator<Item = T> + 'a {
    let mut others = others.peekable();
    let mut dots = dots.into_iter().peekable();
    iter::from_fn(move || match (others.peek(), dots.peek()) {
        (Some(other), Some(dot)) if name(other) < name(dot) => others.next(),
        (_, Some(_)) => dots.next(),
        _ => others.next(),
    })
}

/// The length in bytes of a directory with these names, which are all that it has.
pub fn size(name_lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut full, mut used) = (0, 0);
    for len in name_lengths {
        let entry = DIRENT_SIZE + len;
        if used + entry > BLOCK_BYTES {
            (full, used) = (full + 1, 0);
        }
        used += entry;
    }
    full * BLOCK_BYTES as u64 + used as u64
}

/// The bytes of a directory with these entries, which are all that it has, in the order of their names.
pub fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let (block, others) = rest.split_at(fitting(rest));
        encode_block(block, &mut bytes);
        rest = others;
    }
    bytes
}

/// How many of the first entries fit into a block.
fn fitting(entries: &[Entry<'_>]) -> usize {
    let ends = entries.iter().scan(0, |used, entry| {
        *used += DIRENT_SIZE + entry.name.len();
        Some(*used)
    });
    ends.take_while(|&end| end <= BLOCK_BYTES).count()
}

fn encode_block(entries: &[Entry<'_>], bytes: &mut Vec<u8>) {
    let mut name_at = entries.len() * DIRENT_SIZE;
    for Entry { name, nid, file_type } in entries {
        let nameoff = u16::try_from(name_at).expect("within a block").into();
        let dirent = Dirent { nid: nid.0.into(), nameoff, file_type: *file_type, reserved: 0 };
        bytes.extend_from_slice(dirent.as_bytes());
        name_at += name.len();
    }
    entries.iter().for_each(|entry| bytes.extend_from_slice(entry.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&'static str]) -> Vec<&'static str> {
        with_dots(names.iter().copied(), [".", ".."], |name| name.as_bytes()).collect()
    }

    #[test]
    fn dots_stand_where_their_bytes_say() {
        assert_eq!(sorted(&[]), [".", ".."]);
        assert_eq!(sorted(&["a", "b"]), [".", "..", "a", "b"]);
        assert_eq!(sorted(&["!", "-x", ".-", "..a", ".a", "/"]), ["!", "-x", ".", ".-", "..", "..a", ".a", "/"]);
    }

    #[test]
    fn a_block_is_filled_to_its_last_byte() {
        // 12 + 244 bytes are a sixteenth of a block.
        let names: Vec<Vec<u8>> = (0..33).map(|n| format!("{n:0244}").into_bytes()).collect();
        for (count, wanted) in [(0, 0), (1, 256), (16, 4096), (17, 4096 + 256), (33, 8192 + 256)] {
            let entry = |name| Entry { name, nid: Nid(7), file_type: 1 };
            let entries: Vec<_> = names[..count].iter().map(|name| entry(name)).collect();
            let bytes = encode(&entries);
            assert_eq!(bytes.len(), wanted);
            assert_eq!(size(entries.iter().map(|entry| entry.name.len())), wanted as u64);
        }
        let longer = [12 + 244 + 1; 16].map(|len| len - 12);
        assert_eq!(size(longer.into_iter()), 4096 + 257);
    }
}
