//! Reads parts of files into memory, for callers that write them elsewhere.

use std::ops::Range;

use super::CopyError;
use super::jobs::Files;
use super::source::{Ahead, OldFiles, Wanted};

/// A part of a file and where in memory it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAt {
    /// The index of the file.
    pub file: usize,
    /// The bytes of it: within its length.
    pub range: Range<u64>,
    /// Where in the buffer the first of them goes.
    pub at: usize,
}

/// Reads files, some way ahead. One for each thread.
pub struct PartReader<'a> {
    files: &'a dyn Files,
    old: OldFiles,
}

impl<'a> PartReader<'a> {
    /// Reads these files.
    pub fn new(files: &'a dyn Files) -> Self {
        Self { files, old: OldFiles::default() }
    }

    /// Fills `buffer`, which is all zeros, with parts of files, in the order of their places in it. The buffer is one
    /// byte longer than the parts, so that a read can find out whether a file ends.
    ///
    /// # Errors
    /// If a file cannot be read, or is not what it was when it was laid out.
    pub fn read(&self, wanted: &[WantedAt], buffer: &mut [u8]) -> Result<(), CopyError> {
        let ahead = wanted.iter().map(|part| Wanted { file: part.file, range: part.range.clone() });
        for (part, source) in wanted.iter().zip(Ahead::new(self.files, &self.old, ahead)) {
            let source = source?;
            let mut rest = part.range.clone();
            while rest.start < rest.end {
                let data = source.next_data(rest.clone())?;
                rest.start = data.end;
                let index = |at: u64| usize::try_from(at - part.range.start).unwrap_or(usize::MAX);
                let buffer = buffer.get_mut(part.at + index(data.start)..).unwrap_or_default();
                source.read(data.start, index(part.range.start + (data.end - data.start)), buffer)?;
            }
            // A file that was skipped as a hole was not read to its end.
            source.check_size()?;
        }
        Ok(())
    }
}
