//! Files with large holes. The holes take no room in the tar.

use crate::gnu_sparse::Piece;
use crate::read::Contents;

/// A file without a hole of so many bytes is written as it reads: it is the same for everybody then.
const LARGE_HOLE: u64 = 1 << 20;
/// Pieces are rounded to whole blocks of this size.
const BLOCK: u64 = 512;

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
