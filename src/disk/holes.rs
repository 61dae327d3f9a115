//! Files with holes: finds their data, and the places where two of them differ.
//!
//! Only data is read, so an image of gigabytes that is all holes costs nothing. On a filesystem without holes this is
//! slower, but never wrong.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The bytes that are compared at once.
const BLOCK: u64 = 1 << 20;

/// What a file is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Before<'a> {
    /// Zeros everywhere.
    Zeros,
    /// Another file.
    File(&'a File),
    /// These bytes, from the start of the range that is compared.
    Bytes(&'a [u8]),
}

/// The parts of `range` in which `file` has data: in order, disjoint, and not touching each other.
///
/// Moves the file's position. What is past the file's end is a hole.
///
/// # Errors
/// What the operating system says.
pub fn data(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < range.end => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?.min(range.end);
        parts.push(start..at);
    }
    Ok(parts)
}

/// Where `after` differs from `before` in `range`: for each piece of data that is in one of them, from the first byte
/// that differs to the last. In order and disjoint.
///
/// Moves the files' positions. What is past a file's end is zeros.
///
/// # Errors
/// What the operating system says.
pub fn differences(before: Before<'_>, after: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    for part in parts(before, after, range.clone())? {
        let first = first_difference(before, after, &range, part.clone())?;
        let Some(first) = first else { continue };
        let last = last_difference(before, after, &range, first..part.end)?;
        found.push(first..last + 1);
    }
    Ok(found)
}

/// All data of both, as if it were one file's.
fn parts(before: Before<'_>, after: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut all = data(after, range.clone())?;
    match before {
        Before::Zeros => {}
        Before::File(file) => all.extend(data(file, range)?),
        Before::Bytes(_) => all = vec![range],
    }
    all.sort_unstable_by_key(|part| part.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for part in all {
        match merged.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => merged.push(part),
        }
    }
    Ok(merged)
}

fn first_difference(before: Before<'_>, after: &File, base: &Range<u64>, part: Range<u64>) -> io::Result<Option<u64>> {
    let mut at = part.start;
    while at < part.end {
        let block = at..part.end.min(at + BLOCK);
        let [old, new] = both(before, after, base, &block)?;
        if let Some(index) = old.iter().zip(&new).position(|(old, new)| old != new) {
            return Ok(Some(at + index as u64));
        }
        at = block.end;
    }
    Ok(None)
}

/// The last byte of `part` that differs. Its first one does.
fn last_difference(before: Before<'_>, after: &File, base: &Range<u64>, part: Range<u64>) -> io::Result<u64> {
    let mut end = part.end;
    while end > part.start {
        let block = part.start.max(end.saturating_sub(BLOCK))..end;
        let [old, new] = both(before, after, base, &block)?;
        if let Some(index) = old.iter().zip(&new).rposition(|(old, new)| old != new) {
            return Ok(block.start + index as u64);
        }
        end = block.start;
    }
    Ok(part.start)
}

fn both(before: Before<'_>, after: &File, base: &Range<u64>, block: &Range<u64>) -> io::Result<[Vec<u8>; 2]> {
    let old = match before {
        Before::Zeros => vec![0; length(block)],
        Before::File(file) => read(file, block)?,
        Before::Bytes(bytes) => {
            let from = length(&(base.start..block.start));
            bytes.iter().copied().skip(from).chain(std::iter::repeat(0)).take(length(block)).collect()
        }
    };
    Ok([old, read(after, block)?])
}

/// The bytes of a range of a file, and zeros for what is past its end.
///
/// # Errors
/// What the operating system says.
pub fn read(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length(range)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], range.start + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// Of a range that fits in memory.
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("a range that fits in memory")
}

/// Copies the data in `range` of one file to the same place of another, which has a hole there.
///
/// Moves the files' positions. Where the filesystem can, the files share it.
///
/// # Errors
/// What the operating system says.
pub fn copy_data(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    use std::io::Read;

    for part in data(from, range)? {
        seek(from, SeekFrom::Start(part.start))?;
        seek(to, SeekFrom::Start(part.start))?;
        // On Linux this is copy_file_range.
        let copied = io::copy(&mut from.take(part.end - part.start), &mut &*to)?;
        if copied != part.end - part.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(size: u64, chunks: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        chunks.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        file
    }

    #[test]
    fn data_is_found_between_holes() {
        let found = data(&file(64 * MIB, &[(MIB, b"x"), (9 * MIB, b"y")]), 0..64 * MIB).unwrap();
        assert!(found.iter().map(|part| part.end - part.start).sum::<u64>() < MIB, "{found:?}");
        assert!(found.iter().any(|part| part.contains(&MIB)) && found.iter().any(|part| part.contains(&(9 * MIB))));
        assert_eq!(data(&file(8 * MIB, &[]), 0..64 * MIB).unwrap(), []);
        assert_eq!(data(&file(8 * MIB, &[(MIB, b"x")]), 2 * MIB..64 * MIB).unwrap(), []);
        assert_eq!(data(&file(MIB, &[(0, &[1; 9000])]), 10..20).unwrap(), [10..20]);
    }

    #[test]
    fn differences_are_exact() {
        let changed = file(64 * MIB, &[(MIB + 5, b"\0x\0\0y\0"), (9 * MIB - 1, &[1; 3 << 20])]);
        let wanted = [MIB + 6..MIB + 10, 9 * MIB - 1..12 * MIB - 1];
        assert_eq!(differences(Before::Zeros, &changed, 0..64 * MIB).unwrap(), wanted);
        assert_eq!(differences(Before::File(&file(64 * MIB, &[])), &changed, 0..64 * MIB).unwrap(), wanted);
        // The other way round: data that has become a hole.
        assert_eq!(differences(Before::File(&changed), &file(64 * MIB, &[]), 0..64 * MIB).unwrap(), wanted);
        assert_eq!(differences(Before::File(&changed), &changed, 0..64 * MIB).unwrap(), []);
        assert_eq!(
            differences(Before::Zeros, &changed, MIB + 8..9 * MIB).unwrap(),
            [MIB + 9..MIB + 10, wanted[1].start..9 * MIB]
        );
    }

    #[test]
    fn bytes_are_compared_from_their_range_on() {
        let changed = file(MIB, &[(100, b"abcdef")]);
        let found = |bytes: &[u8]| differences(Before::Bytes(bytes), &changed, 102..106).unwrap();
        assert_eq!(found(b"cdef"), []);
        assert_eq!(found(b"cxyf"), [103..105]);
        assert_eq!(found(b"cde"), [105..106]);
        assert_eq!(differences(Before::Bytes(&[7; 4]), &file(MIB, &[]), 102..106).unwrap(), [102..106]);
    }

    #[test]
    fn written_zeros_are_no_difference() {
        let zeros = file(8 * MIB, &[(MIB, &[0; 1 << 20])]);
        assert_eq!(differences(Before::Zeros, &zeros, 0..8 * MIB).unwrap(), []);
    }

    #[test]
    fn copies_keep_bytes_and_holes() {
        let from =
            file(64 * MIB, &[(MIB, b"before"), (9 * MIB + 3, &[7; 9000]), (20 * MIB, b"x"), (40 * MIB, b"after")]);
        let to = file(64 * MIB, &[]);
        copy_data(&from, &to, 8 * MIB..32 * MIB).unwrap();
        assert_eq!(differences(Before::File(&from), &to, 8 * MIB..32 * MIB).unwrap(), []);
        let found = data(&to, 0..64 * MIB).unwrap();
        assert!(found.iter().all(|part| part.start >= 8 * MIB && part.end <= 32 * MIB), "{found:?}");
        assert!(found.iter().map(|part| part.end - part.start).sum::<u64>() < MIB, "{found:?}");
    }
}
