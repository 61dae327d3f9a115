//! zstd's seekable format: frames that each hold a piece of the disk, all of one length, and a table that says where
//! they are.
//!
//! Source: facebook/zstd, contrib/seekable_format/zstd_seekable_compression_format.md, version 0.1.0. Numbers are
//! little-endian. A program that does not know the table skips it: it is a frame of a kind that holds no content.

use std::io::Write;

use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::ordered::{Pack, Unit, in_order};
use super::{FormatError, Making, Source};
use crate::container::zst::{FOOTER, FRAMES_MAX, SEEKABLE, TABLE};
use crate::units::ByteOffset;

/// The bytes of the disk in a frame. Smaller ones compress worse: each starts without knowing what came before. With
/// larger ones, a reader of a single file unpacks more.
const FRAME: usize = 4 << 20;

/// Writes the disk in frames, and the table.
pub(super) fn stream(source: &dyn Source, to: &mut (dyn Write + Send), making: Making<'_>) -> Result<(), FormatError> {
    let Making { level, means, .. } = making;
    means.progress.stage("compressing", 0, source.map().size());
    let mut table = Table::default();
    in_order(
        source,
        FRAME,
        means,
        || Packer::new(level),
        |_, len, frame| {
            table.add(frame.len(), len);
            to.write_all(frame).map_err(FormatError::Write)
        },
    )?;
    to.write_all(&table.encode()?).map_err(FormatError::Write)
}

struct Packer {
    compressor: Compressor<'static>,
    /// The frame of a whole piece of zeros, once there was one.
    zeros: Vec<u8>,
}

impl Packer {
    fn new(level: i32) -> Self {
        let mut compressor = Compressor::new(level).expect("the level is one of zstd's");
        compressor.include_checksum(true).expect("zstd knows checksums");
        Self { compressor, zeros: Vec::new() }
    }

    fn compress(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
        output.reserve(compress_bound(bytes.len()));
        self.compressor.compress_to_buffer(bytes, output).map_err(FormatError::Write)?;
        Ok(())
    }
}

impl Pack for Packer {
    /// The bytes of the disk in the frame.
    type Note = usize;

    fn pack(&mut self, _: ByteOffset, bytes: Unit<'_>, output: &mut Vec<u8>) -> Result<usize, FormatError> {
        match bytes {
            Unit::Data(bytes) => self.compress(bytes, output).map(|()| bytes.len()),
            Unit::Zeros(FRAME) => {
                if self.zeros.is_empty() {
                    let mut zeros = Vec::new();
                    self.compress(&vec![0; FRAME], &mut zeros)?;
                    self.zeros = zeros;
                }
                output.extend_from_slice(&self.zeros);
                Ok(FRAME)
            }
            Unit::Zeros(len) => self.compress(&vec![0; len], output).map(|()| len),
        }
    }
}

/// The lengths of frames in the file and on the disk.
#[derive(Default)]
struct Table(Vec<(usize, usize)>);

impl Table {
    fn add(&mut self, in_file: usize, on_disk: usize) {
        self.0.push((in_file, on_disk));
    }

    /// A skippable frame of all entries without checksums, as each frame has one of its own, and the footer.
    fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let frames = u32::try_from(self.0.len()).ok().filter(|frames| u64::from(*frames) <= FRAMES_MAX);
        let frames = frames.ok_or_else(|| FormatError::Impossible {
            form: super::Format::Zst,
            why: format!("{} frames of {FRAME} bytes are more than a seek table holds", self.0.len()),
        })?;
        let length = |bytes: usize| u32::try_from(bytes).expect("a frame is not much longer than what is in it");
        let mut bytes = Vec::with_capacity(self.0.len() * 8 + 17);
        bytes.extend(TABLE.to_le_bytes());
        bytes.extend((frames * 8 + u32::try_from(FOOTER).expect("nine")).to_le_bytes());
        for &(in_file, on_disk) in &self.0 {
            bytes.extend(length(in_file).to_le_bytes());
            bytes.extend(length(on_disk).to_le_bytes());
        }
        bytes.extend(frames.to_le_bytes());
        // No checksums: each frame ends with that of its own content.
        bytes.push(0);
        bytes.extend(SEEKABLE.to_le_bytes());
        Ok(bytes)
    }
}
