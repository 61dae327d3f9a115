//! Deflate, for the forms that use it.
//!
//! The bytes come from this program's own library, so they are the same on every host.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::limits::impossible;
use super::{Format, FormatError};

/// A level that is one of the form's.
///
/// # Errors
/// If it is not.
pub(super) fn level(form: Format, level: i32) -> Result<Compression, FormatError> {
    let levels = form.levels().unwrap_or(0..=0);
    let known = u32::try_from(level).ok().filter(|_| levels.contains(&level));
    known.map(Compression::new).ok_or_else(|| {
        let (first, last) = (levels.start(), levels.end());
        impossible(form, format!("level {level} is not one of {first} to {last}"))
    })
}

/// One thread's means to compress.
pub(super) struct Deflater(Compress);

impl Deflater {
    /// For streams with a header and a checksum (RFC 1950).
    pub(super) fn zlib(level: Compression) -> Self {
        Self(Compress::new(level, true))
    }

    /// For streams without (RFC 1951).
    pub(super) fn raw(level: Compression) -> Self {
        Self(Compress::new(level, false))
    }

    /// Appends a whole stream.
    pub(super) fn stream(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
        self.run(bytes, FlushCompress::Finish, output)
    }

    /// Appends a part of a stream that ends at the end of a byte, and needs nothing of what came before.
    pub(super) fn part(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
        self.run(bytes, FlushCompress::Sync, output)
    }

    fn run(&mut self, bytes: &[u8], flush: FlushCompress, output: &mut Vec<u8>) -> Result<(), FormatError> {
        self.0.reset();
        let mut rest = bytes;
        loop {
            output.reserve(rest.len() + rest.len() / 64 + 256);
            let before = self.0.total_in();
            let status =
                self.0.compress_vec(rest, output, flush).map_err(io::Error::from).map_err(FormatError::Write)?;
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            // If room is left, nothing is held back for lack of room.
            let is_out = rest.is_empty() && output.len() < output.capacity();
            if status == Status::StreamEnd || (is_out && matches!(flush, FlushCompress::Sync)) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::samples::noise;

    #[test]
    fn parts_make_one_stream() {
        let parts = [vec![0; 300_000], noise(7, 100_000), Vec::new(), b"text ".repeat(9_000)];
        for number in 1..=9 {
            let mut deflater = Deflater::raw(level(Format::Gce, number).unwrap());
            let mut stream = Vec::new();
            parts.iter().for_each(|part| deflater.part(part, &mut stream).unwrap());
            stream.extend([3, 0]);
            let mut unpacked = Vec::new();
            flate2::read::DeflateDecoder::new(stream.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == parts.concat(), "level {number}");
        }
    }

    #[test]
    fn a_level_is_one_of_the_form() {
        for bad in [i32::MIN, -1, 0, 10, 22] {
            let error = level(Format::Vmdk, bad).unwrap_err().to_string();
            assert_eq!(error, format!("vmdk: level {bad} is not one of 1 to 9"));
        }
    }
}
