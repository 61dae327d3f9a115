//! Compresses pieces of contents into physical clusters that the kernel can read.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst`, "Data compression", and for the limits of the two methods what
//! its `fs/erofs/decompressor.c` and `decompressor_zstd.c` accept.
//!
//! mkfs.erofs fills physical clusters of a fixed size, so that each has to wait for the one before it. Here the pieces of
//! a file have a fixed size before compression instead, so that all cores compress at once, and each piece takes as many
//! blocks as it needs. Half a block of every piece is lost by that, which longer pieces make up for.

use super::format::{BLOCK_BYTES, Lz4Config, ZstdConfig, algorithm};
use crate::spec::ErofsCompression;
use zerocopy::IntoBytes;

/// The bytes of a file that are compressed as one.
///
/// A read of a few bytes costs the decompression of a piece. Physical clusters of 128 KiB, as large images usually have
/// them, hold about as much. `docs/explanation/erofs.md` has the sizes that other lengths give.
pub const PIECE_BYTES: usize = 1 << PIECE_BITS;
const PIECE_BITS: u8 = 18;
/// The most blocks of a piece.
pub const PIECE_BLOCKS: usize = PIECE_BYTES / BLOCK_BYTES;
/// The greatest distance of a match in LZ4, in bytes.
const LZ4_MAX_DISTANCE: u16 = u16::MAX;

/// The number of a method on the disk: an [`algorithm`].
pub fn disk_id(method: ErofsCompression) -> u8 {
    match method {
        ErofsCompression::Lz4 => algorithm::LZ4,
        ErofsCompression::Zstd(_) => algorithm::ZSTD,
    }
}

/// What follows the superblock of a filesystem that is compressed: the length of the method's record, and the record.
pub fn config(method: ErofsCompression) -> Vec<u8> {
    let pieces = u16::try_from(PIECE_BLOCKS).expect("pieces have less than 256 MiB");
    match method {
        ErofsCompression::Lz4 => with_length(
            Lz4Config { max_distance: LZ4_MAX_DISTANCE.into(), max_pclusterblks: pieces.into(), reserved: [0; 10] }
                .as_bytes(),
        ),
        // A frame of ours says how long its contents are, and then that is its window.
        ErofsCompression::Zstd(_) => {
            with_length(ZstdConfig { format: 0, windowlog: PIECE_BITS - 10, reserved: [0; 4] }.as_bytes())
        }
    }
}

fn with_length(record: &[u8]) -> Vec<u8> {
    let len = u16::try_from(record.len()).expect("a record is short");
    [&len.to_le_bytes(), record].concat()
}

/// The most blocks with which compression of a piece of `len` bytes is worth it: one less than it has.
fn most_blocks(len: usize) -> usize {
    len.div_ceil(BLOCK_BYTES).saturating_sub(1)
}

/// One thread's means to compress.
pub enum Compressor {
    /// LZ4, with room for what it gives.
    Lz4(Vec<u8>),
    /// zstd, with room for what it gives.
    Zstd(Box<zstd::bulk::Compressor<'static>>, Vec<u8>),
}

impl Compressor {
    /// The means for a method.
    ///
    /// # Panics
    /// If there is no memory for them.
    pub fn new(method: ErofsCompression) -> Self {
        match method {
            ErofsCompression::Lz4 => Self::Lz4(vec![0; lz4_flex::block::get_maximum_output_size(PIECE_BYTES)]),
            ErofsCompression::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(level.into()).expect("levels 1 to 22 are zstd's");
                Self::Zstd(Box::new(compressor), vec![0; PIECE_BYTES])
            }
        }
    }

    /// Appends the physical cluster of a piece of at most [`PIECE_BYTES`]: whole blocks, which end with what `bytes` compress
    /// to, after zeros. Appends nothing and returns `false` if that saves no block.
    pub fn compress(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> bool {
        let most = most_blocks(bytes.len()) * BLOCK_BYTES;
        let stream = match self {
            _ if most == 0 => None,
            Self::Lz4(room) => lz4_flex::block::compress_into(bytes, room).ok().and_then(|len| room.get(..len)),
            Self::Zstd(compressor, room) => {
                let len = room.get_mut(..most).and_then(|room| compressor.compress_to_buffer(bytes, room).ok());
                len.and_then(|len| room.get(..len))
            }
        };
        let Some(stream) = stream.filter(|stream| stream.len() <= most) else { return false };
        output.resize(output.len() + stream.len().next_multiple_of(BLOCK_BYTES) - stream.len(), 0);
        output.extend_from_slice(stream);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{noise, text};

    const METHODS: [ErofsCompression; 4] =
        [ErofsCompression::Lz4, ErofsCompression::Zstd(1), ErofsCompression::Zstd(3), ErofsCompression::Zstd(22)];

    /// As the kernel does it: what comes first of a cluster that is not zero is where the stream starts.
    fn decompress(method: ErofsCompression, cluster: &[u8], len: usize) -> Vec<u8> {
        let start = cluster.iter().position(|&byte| byte != 0).unwrap();
        assert!(start < BLOCK_BYTES);
        match method {
            ErofsCompression::Lz4 => lz4_flex::block::decompress(&cluster[start..], len).unwrap(),
            ErofsCompression::Zstd(_) => zstd::bulk::decompress(&cluster[start..], len).unwrap(),
        }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for method in METHODS {
            let mut compressor = Compressor::new(method);
            for (len, bytes) in [4097, 5000, 8192, 70_000, PIECE_BYTES - 1, PIECE_BYTES]
                .map(|len| (len, text(len)))
                .into_iter()
                .chain([
                    (PIECE_BYTES, vec![0; PIECE_BYTES]),
                    (PIECE_BYTES, [noise(1, PIECE_BYTES - 8192), vec![7; 8192]].concat()),
                ])
            {
                let mut output = b"before".to_vec();
                assert!(compressor.compress(&bytes, &mut output), "{method:?} of {len}");
                let blocks = (output.len() - 6) / BLOCK_BYTES;
                assert!((output.len() - 6).is_multiple_of(BLOCK_BYTES) && blocks <= most_blocks(len));
                assert!(decompress(method, &output[6..], len) == bytes, "{method:?} of {len}");
            }
        }
    }

    #[test]
    fn what_saves_no_block_is_left_alone() {
        for method in METHODS {
            let mut compressor = Compressor::new(method);
            let mut output = Vec::new();
            for bytes in [noise(1, PIECE_BYTES), noise(1, 4097), text(4096), text(1), vec![0; 4096]] {
                assert!(!compressor.compress(&bytes, &mut output) && output.is_empty(), "{method:?}");
            }
            assert!(compressor.compress(&text(PIECE_BYTES), &mut output), "{method:?}");
        }
    }

    /// The output depends only on the piece, not on what was compressed before it.
    #[test]
    fn nothing_is_remembered() {
        for method in METHODS {
            let (mut fresh, mut used) = (Compressor::new(method), Compressor::new(method));
            let (mut first, mut second) = (Vec::new(), Vec::new());
            used.compress(&noise(1, 100_000), &mut second);
            used.compress(&text(PIECE_BYTES), &mut second);
            second.clear();
            assert!(fresh.compress(&text(9_000), &mut first) && used.compress(&text(9_000), &mut second));
            assert!(first == second, "{method:?}");
        }
    }

    /// The kernel refuses frames whose window is larger than the record says.
    #[test]
    fn frames_have_the_window_of_the_record() {
        let mut output = Vec::new();
        for method in METHODS.into_iter().filter(|method| *method != ErofsCompression::Lz4) {
            for len in [5000, PIECE_BYTES] {
                output.clear();
                Compressor::new(method).compress(&text(len), &mut output);
                let start = output.iter().position(|&byte| byte != 0).unwrap();
                // The descriptor of the frame: a single segment, whose window is as long as its contents; no checksum.
                assert_eq!(output[start + 4] & 0b0010_0111, 0b0010_0000, "{method:?}");
                assert_eq!(zstd::zstd_safe::get_frame_content_size(&output[start..]).unwrap(), Some(len as u64));
            }
        }
        assert_eq!(config(ErofsCompression::Zstd(3)), [6, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(config(ErofsCompression::Lz4)[..6], [14, 0, 255, 255, 64, 0]);
    }
}
