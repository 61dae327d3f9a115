//! Files with large holes, which in a tar take no room either: GNU tar's own old format for them, which bsdtar and
//! libarchive read as well.
//!
//! The header has the first four pieces of the file that are there, and the file's true size; further pieces stand in
//! blocks of 21 after it. Source: "Basic Tar Format" and "Storing Sparse Files" in the manual of GNU tar.

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::Piece;
use crate::read::Contents;

/// A file without a hole of so many bytes is written as it reads: it is the same for everybody then.
const LARGE_HOLE: u64 = 1 << 20;
/// Pieces are rounded to whole blocks of this size.
const BLOCK: u64 = 512;
/// Pieces in a block after the header.
const PIECES: usize = 21;

/// The pieces of a file of `len` bytes between its large holes; `None` if it has none.
pub(super) fn pieces(contents: &dyn Contents, len: u64) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut at, mut has_hole) = (0, false);
    while at < len {
        let data = contents.stored(at);
        let start = data.start.clamp(at, len) / BLOCK * BLOCK;
        let end = data.end.max(at.saturating_add(1)).checked_next_multiple_of(BLOCK).unwrap_or(len).min(len);
        let is_large = start.saturating_sub(at) >= LARGE_HOLE;
        has_hole |= is_large;
        at = if data.start >= len { len } else { end };
        match pieces.last_mut() {
            _ if data.start >= len => {}
            Some(last) if !is_large => last.len = end.saturating_sub(last.at),
            None if !is_large => pieces.push(Piece { at: 0, len: end }),
            _ => pieces.push(Piece { at: start, len: end.saturating_sub(start) }),
        }
    }
    // The file's end, so that a hole before it is one.
    pieces.push(Piece { at: len, len: 0 });
    has_hole.then_some(pieces)
}

/// The bytes that stand in the tar.
pub(super) fn stored(pieces: &[Piece]) -> u64 {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
}

/// Writes the pieces into the header; what it has no room for is returned, for the blocks after it.
pub(super) fn describe(header: &mut Header, pieces: &[Piece], len: u64) -> Vec<u8> {
    let Some(gnu) = header.as_gnu_mut() else { return Vec::new() };
    gnu.realsize = number(len);
    let (first, rest) = pieces.split_at(pieces.len().min(gnu.sparse.len()));
    gnu.sparse.iter_mut().zip(first).for_each(|(slot, piece)| set(slot, piece));
    gnu.isextended = [u8::from(!rest.is_empty())];
    let mut blocks = rest.chunks(PIECES).peekable();
    let mut bytes = Vec::new();
    while let Some(block) = blocks.next() {
        let mut extended = GnuExtSparseHeader::new();
        extended.sparse.iter_mut().zip(block).for_each(|(slot, piece)| set(slot, piece));
        extended.isextended = [u8::from(blocks.peek().is_some())];
        bytes.extend_from_slice(extended.as_bytes());
    }
    bytes
}

fn set(slot: &mut GnuSparseHeader, piece: &Piece) {
    (slot.offset, slot.numbytes) = (number(piece.at), number(piece.len));
}

/// A number as GNU tar writes it: eleven octal digits and a NUL, or in base 256 if it has more.
fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if value < 1 << 33 {
        let digits = format!("{value:011o}");
        field.iter_mut().zip(digits.bytes()).for_each(|(byte, digit)| *byte = digit);
    } else {
        field[0] = 0x80;
        field.iter_mut().rev().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    field
}
