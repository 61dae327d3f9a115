//! Decompresses extents, which may hold any bytes.
//!
//! Source: as for [`compress`](crate::btrfs::compress).

use std::io::Read;

use flate2::{Decompress, FlushDecompress};

use crate::btrfs::format::{SECTOR_BYTES, compression};

/// The largest window that a zstd stream of at most 128 KiB needs, as a power of 2.
const ZSTD_WINDOW_LOG: u32 = 17;
/// The length of a length in an LZO stream.
const LZO_LENGTH_BYTES: usize = 4;

/// What `stored` decompresses to, at most `len` bytes; or `None` if it does not.
pub(super) fn decompress(method: u8, stored: &[u8], len: usize) -> Option<Vec<u8>> {
    match method {
        compression::ZLIB => zlib(stored, len),
        compression::LZO => lzo(stored, len),
        compression::ZSTD => zstd(stored, len),
        _ => None,
    }
}

fn zlib(stored: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut output = vec![0; len];
    let mut stream = Decompress::new(true);
    stream.decompress(stored, &mut output, FlushDecompress::Finish).ok()?;
    output.truncate(usize::try_from(stream.total_out()).ok()?);
    (!output.is_empty()).then_some(output)
}

fn zstd(stored: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut stream = zstd::stream::read::Decoder::with_buffer(stored).ok()?.single_frame();
    stream.window_log_max(ZSTD_WINDOW_LOG).ok()?;
    let mut output = Vec::with_capacity(len);
    stream.take(len as u64).read_to_end(&mut output).ok()?;
    (!output.is_empty()).then_some(output)
}

/// The pieces of an LZO stream, each of a sector; no length crosses the end of a sector of the stream, which may end in
/// what was skipped for that.
fn lzo(stored: &[u8], len: usize) -> Option<Vec<u8>> {
    let end = length(stored, 0)?;
    let stored = stored.get(..end)?;
    let (mut at, mut output) = (LZO_LENGTH_BYTES, Vec::with_capacity(len));
    let mut sector = [0; SECTOR_BYTES];
    while output.len() < len {
        let left = SECTOR_BYTES.checked_sub(at % SECTOR_BYTES)?;
        if left < LZO_LENGTH_BYTES {
            at = at.checked_add(left)?;
        }
        if at >= end {
            break;
        }
        let start = at.checked_add(LZO_LENGTH_BYTES)?;
        let past = start.checked_add(length(stored, at)?)?;
        let got = lzokay::decompress::decompress(stored.get(start..past)?, &mut sector).ok()?;
        output.extend_from_slice(sector.get(..got)?);
        at = past;
    }
    output.truncate(len);
    (!output.is_empty()).then_some(output)
}

fn length(stored: &[u8], at: usize) -> Option<usize> {
    let bytes = stored.get(at..at.checked_add(LZO_LENGTH_BYTES)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}
