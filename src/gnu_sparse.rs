//! Files with holes in a tar, in GNU tar's own old format. bsdtar, libarchive and Google read it, too.
//!
//! The header has the first four pieces of data, and the real size of the file. Further pieces stand in blocks of 21
//! after it. Source: "Basic Tar Format" and "Storing Sparse Files" in the manual of GNU tar.

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// Pieces in a block after the header.
const PIECES: usize = 21;

/// A part of a file that stands in the tar.
pub(crate) struct Piece {
    /// Its first byte in the file.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) len: u64,
}

/// The bytes that stand in the tar.
pub(crate) fn stored(pieces: &[Piece]) -> u64 {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
}

/// Writes the pieces into the header; what it has no room for is returned, for the blocks after it.
pub(crate) fn describe(header: &mut Header, pieces: &[Piece], len: u64) -> Vec<u8> {
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
