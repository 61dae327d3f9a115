//! Compresses units of contents into streams that the kernel can read.
//!
//! Source: btrfs(5), section on compression; "Btrfs on-disk format", section on file extents; for LZO the head of that
//! section and the kernel's `Documentation/staging/lzo.rst` for the stream itself. A unit is stored compressed only if
//! that saves at least a sector, or if then the whole file fits in its leaf. This is the kernel's rule, too. But the
//! kernel stops compressing a file whose start does not become smaller. Here every unit is judged by itself, as with
//! `compress-force`. So the bytes of a unit depend only on the unit.

use flate2::{Compress, FlushCompress, Status};
use lzokay::compress::{Dict, compress_no_alloc, compress_worst_size};

use super::format::{SECTOR_BYTES, SECTOR_SIZE, compression};
use super::placement::INLINE_MAX;
use crate::spec::Compression;

/// The length of a length in an LZO stream.
const LZO_LENGTH_BYTES: usize = 4;

/// The number of a compression on the disk.
pub fn disk_id(method: Option<Compression>) -> u8 {
    match method {
        None => compression::NONE,
        Some(Compression::Zlib(_)) => compression::ZLIB,
        Some(Compression::Lzo) => compression::LZO,
        Some(Compression::Zstd(_)) => compression::ZSTD,
    }
}

/// The most stored bytes with which compression of a unit of `len` bytes is worth it; 0 if none is.
///
/// `file_size` is that of the whole file, of which the unit is a part.
pub fn limit(file_size: u64, len: usize) -> usize {
    if file_size <= SECTOR_SIZE {
        return usize::try_from(INLINE_MAX).unwrap_or(usize::MAX).min(len.saturating_sub(1));
    }
    len.next_multiple_of(SECTOR_BYTES) - SECTOR_BYTES
}

/// One thread's means to compress.
pub enum Compressor {
    /// DEFLATE.
    Zlib(Box<Compress>),
    /// LZO, with its memory of what it has seen, which every sector starts anew, and room for one sector's output.
    Lzo(Box<Dict>, Vec<u8>),
    /// zstd.
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// The means for a way of compression.
    ///
    /// # Panics
    /// If there is no memory for them.
    pub fn new(method: Compression) -> Self {
        match method {
            Compression::Zlib(level) => {
                let level = flate2::Compression::new(level.into());
                Self::Zlib(Box::new(Compress::new(level, true)))
            }
            Compression::Lzo => Self::Lzo(Dict::new(), vec![0; compress_worst_size(SECTOR_BYTES)]),
            Compression::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(level.into()).expect("levels -15 to 15 are zstd's");
                Self::Zstd(Box::new(compressor))
            }
        }
    }

    /// Appends what `bytes` compress to, at most `limit` bytes; returns whether that was enough.
    pub fn compress(&mut self, bytes: &[u8], limit: usize, output: &mut Vec<u8>) -> bool {
        let start = output.len();
        let len = match self {
            _ if limit == 0 => None,
            Self::Zlib(stream) => {
                output.resize(start + limit, 0);
                stream.reset();
                let status = stream.compress(bytes, &mut output[start..], FlushCompress::Finish);
                let is_whole = matches!(status, Ok(Status::StreamEnd));
                usize::try_from(stream.total_out()).ok().filter(|_| is_whole)
            }
            Self::Zstd(compressor) => {
                output.resize(start + limit, 0);
                compressor.compress_to_buffer(bytes, &mut output[start..]).ok()
            }
            Self::Lzo(memory, room) => {
                lzo(bytes, limit, memory, room, output);
                Some(output.len() - start).filter(|&len| len <= limit)
            }
        };
        output.truncate(start + len.unwrap_or(0));
        len.is_some()
    }
}

/// Appends an LZO stream as btrfs frames it: its whole length, then for each sector the length of what it compresses
/// to, and that. No length crosses the end of a sector of the stream. Stops once it is longer than `limit`.
fn lzo(bytes: &[u8], limit: usize, memory: &mut Dict, room: &mut [u8], output: &mut Vec<u8>) {
    let start = output.len();
    output.extend([0; LZO_LENGTH_BYTES]);
    for sector in bytes.chunks(SECTOR_BYTES) {
        let left = SECTOR_BYTES - (output.len() - start) % SECTOR_BYTES;
        if left < LZO_LENGTH_BYTES {
            output.resize(output.len() + left, 0);
        }
        let len = compress_no_alloc(sector, room, memory).expect("there is room for the worst case");
        output.extend(length(len));
        output.extend_from_slice(&room[..len]);
        if output.len() - start > limit {
            return;
        }
    }
    let len = output.len() - start;
    output[start..][..LZO_LENGTH_BYTES].copy_from_slice(&length(len));
}

fn length(len: usize) -> [u8; LZO_LENGTH_BYTES] {
    u32::try_from(len).expect("units have at most 128 KiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{noise, text};

    const METHODS: [Compression; 6] = [
        Compression::Zlib(1),
        Compression::Zlib(9),
        Compression::Lzo,
        Compression::Zstd(-15),
        Compression::Zstd(1),
        Compression::Zstd(15),
    ];

    fn decompress(method: Compression, stored: &[u8], len: usize) -> Vec<u8> {
        match method {
            Compression::Zstd(_) => zstd::bulk::decompress(stored, len).unwrap(),
            Compression::Zlib(_) => {
                let mut output = vec![0; len];
                let status =
                    flate2::Decompress::new(true).decompress(stored, &mut output, flate2::FlushDecompress::Finish);
                assert_eq!(status.unwrap(), Status::StreamEnd);
                output
            }
            Compression::Lzo => {
                let word = |at: usize| u32::from_le_bytes(stored[at..][..4].try_into().unwrap()) as usize;
                assert_eq!(word(0), stored.len());
                let (mut at, mut output) = (4, Vec::new());
                while at < stored.len() {
                    if at % SECTOR_BYTES > SECTOR_BYTES - 4 {
                        at = at.next_multiple_of(SECTOR_BYTES);
                    }
                    let len = word(at);
                    let mut sector = [0; SECTOR_BYTES];
                    let got = lzokay::decompress::decompress(&stored[at + 4..][..len], &mut sector).unwrap();
                    output.extend_from_slice(&sector[..got]);
                    at += 4 + len;
                }
                output
            }
        }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for method in METHODS {
            let mut compressor = Compressor::new(method);
            // The fastest of all finds nothing in so little.
            let shortest = if method == Compression::Zstd(-15) { 1000 } else { 100 };
            for len in [shortest, 4096, 4097, 70_000, 131_072] {
                let bytes = text(len);
                let mut output = b"before".to_vec();
                assert!(compressor.compress(&bytes, len, &mut output), "{method:?} of {len}");
                assert!(decompress(method, &output[6..], len) == bytes, "{method:?} of {len}");
            }
        }
    }

    #[test]
    fn what_does_not_compress_is_left_alone() {
        for method in METHODS {
            let mut compressor = Compressor::new(method);
            let mut output = Vec::new();
            assert!(!compressor.compress(&noise(1, 131_072), limit(1 << 20, 131_072), &mut output), "{method:?}");
            assert!(compressor.compress(&text(131_072), limit(1 << 20, 131_072), &mut output), "{method:?}");
        }
    }

    /// The output depends only on the unit, not on what was compressed before it.
    #[test]
    fn nothing_is_remembered() {
        for method in METHODS {
            let (mut fresh, mut used) = (Compressor::new(method), Compressor::new(method));
            let (mut first, mut second) = (Vec::new(), Vec::new());
            used.compress(&noise(1, 100_000), 1000, &mut second);
            used.compress(&text(131_072), 131_072, &mut second);
            second.clear();
            assert!(fresh.compress(&text(9_000), 9_000, &mut first) && used.compress(&text(9_000), 9_000, &mut second));
            assert!(first == second, "{method:?}");
        }
    }

    #[test]
    fn a_sector_has_to_be_saved() {
        assert_eq!([limit(1 << 20, 131_072), limit(1 << 20, 5_000), limit(1 << 20, 4_000)], [126_976, 4_096, 0]);
        assert_eq!([limit(4_096, 4_096), limit(100, 100), limit(1, 1)], [2_048, 99, 0]);
    }
}
