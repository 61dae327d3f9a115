//! The engine that works everywhere: read into memory, write from there.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::{CopyError, CopyJob};
use crate::progress::Cancel;
use crate::units::ByteOffset;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// The grain in which zeros are looked for: a page, and a block of the filesystems below and above.
const GRAIN: usize = 4096;
/// Files at least this long are asked for their holes before they are read, in bytes.
const SPARSE_MIN: u64 = 4 << 20;

/// One thread's state.
pub(super) struct Copier<'a> {
    image: &'a File,
    buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(image: &'a File) -> Self {
        Self { image, buffer: vec![0; BUFFER_BYTES] }
    }

    pub(super) fn copy(&mut self, job: &CopyJob, cancel: &Cancel) -> Result<(), CopyError> {
        let file = open(job)?;
        let mut at = 0;
        while at < job.size {
            cancel.check()?;
            let data = next_data(&file, job, at)?;
            for start in data.clone().step_by(BUFFER_BYTES) {
                let len = (data.end - start).min(BUFFER_BYTES as u64);
                let buffer = &mut self.buffer[..usize::try_from(len).unwrap_or(BUFFER_BYTES)];
                read_exact(&file, job, start, buffer)?;
                write_pieces(self.image, job, start, buffer)?;
            }
            at = data.end;
        }
        check_end(&file, job)
    }
}

/// Opens the source and makes sure that it is still the regular file that was laid out.
fn open(job: &CopyJob) -> Result<File, CopyError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(&job.source, flags, Mode::empty()).map_err(|e| read_error(&job.source, e.into()))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(|e| read_error(&job.source, e))?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(changed(job, "now not a regular file".to_owned())),
        len if len != job.size => Err(changed(job, format!("now {len}"))),
        _ => Ok(file),
    }
}

/// The next stretch of the file at or after `at` that is not a hole.
fn next_data(file: &File, job: &CopyJob, at: u64) -> Result<Range<u64>, CopyError> {
    if job.size < SPARSE_MIN {
        return Ok(at..job.size);
    }
    let seek = |from| match rustix::fs::seek(file, from) {
        Ok(found) => Ok(Some(found.min(job.size))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(read_error(&job.source, e.into())),
    };
    let Some(start) = seek(SeekFrom::Data(at))? else {
        return Ok(job.size..job.size);
    };
    let end = seek(SeekFrom::Hole(start))?.unwrap_or(job.size);
    Ok(start..end)
}

fn read_exact(file: &File, job: &CopyJob, at: u64, buffer: &mut [u8]) -> Result<(), CopyError> {
    file.read_exact_at(buffer, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => changed(job, "now shorter".to_owned()),
        _ => read_error(&job.source, e),
    })
}

/// A file that has grown since it was opened would be cut off: an error.
fn check_end(file: &File, job: &CopyJob) -> Result<(), CopyError> {
    match file.read_at(&mut [0], job.size) {
        Ok(0) => Ok(()),
        Ok(_) => Err(changed(job, "now longer".to_owned())),
        Err(e) => Err(read_error(&job.source, e)),
    }
}

/// Writes bytes of the file from `at` on to where its pieces lie in the image.
fn write_pieces(image: &File, job: &CopyJob, at: u64, bytes: &[u8]) -> Result<(), CopyError> {
    let mut piece_start = 0;
    let end = at + bytes.len() as u64;
    for piece in &job.pieces {
        let piece_end = piece_start + piece.len;
        let part = at.max(piece_start)..end.min(piece_end);
        if !part.is_empty() {
            let destination = ByteOffset(piece.destination.0 + (part.start - piece_start));
            let in_buffer = offset(part.start - at)..offset(part.end - at);
            write_data(image, job, destination, &bytes[in_buffer])?;
        }
        piece_start = piece_end;
    }
    Ok(())
}

/// Writes what is not zero, in runs of whole grains.
fn write_data(image: &File, job: &CopyJob, destination: ByteOffset, bytes: &[u8]) -> Result<(), CopyError> {
    let is_zero = |grain: &[u8]| *grain == [0; GRAIN][..grain.len()];
    let mut at = 0;
    for run in bytes.chunks(GRAIN).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let len: usize = run.iter().map(|grain| grain.len()).sum();
        if !is_zero(run[0]) {
            let offset = ByteOffset(destination.0 + at as u64);
            image.write_all_at(&bytes[at..at + len], offset.0).map_err(|source| CopyError::Write {
                path: job.source.clone(),
                offset,
                source,
            })?;
        }
        at += len;
    }
    Ok(())
}

fn offset(within_buffer: u64) -> usize {
    usize::try_from(within_buffer).expect("an offset within a buffer")
}

fn read_error(path: &Path, source: io::Error) -> CopyError {
    CopyError::Read { path: path.to_owned(), source }
}

fn changed(job: &CopyJob, found: String) -> CopyError {
    CopyError::Changed { path: job.source.clone(), expected: job.size, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Piece;
    use proptest::prelude::*;
    use std::io::Write;

    fn source(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn job(source: &tempfile::NamedTempFile, size: u64, lens: &[u64]) -> CopyJob {
        let mut destination = 10_000_000;
        let mut pieces = Vec::new();
        for &len in lens {
            // Backwards, so that order in the file and order in the image differ.
            destination -= len + 4096;
            pieces.push(Piece { destination: ByteOffset(destination), len });
        }
        CopyJob { source: source.path().to_owned(), size, pieces }
    }

    fn copy(job: &CopyJob) -> Result<File, CopyError> {
        let image = tempfile::tempfile().unwrap();
        image.set_len(10_000_000).unwrap();
        Copier::new(&image).copy(job, &Cancel::new())?;
        Ok(image)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the pieces and wherever the zeros, the bytes arrive.
        #[test]
        fn bytes_arrive(
            blocks in prop::collection::vec((any::<bool>(), 1usize..300), 1..6),
            tail in 1usize..4096,
            lens in prop::collection::vec(1u64..200, 0..6),
        ) {
            let mut bytes = Vec::new();
            for (zero, count) in blocks {
                bytes.resize(bytes.len() + count * GRAIN, if zero { 0 } else { 0xa5 });
            }
            bytes.truncate(bytes.len() - (GRAIN - tail));
            let size = bytes.len() as u64;
            let mut lens: Vec<u64> = lens.into_iter().map(|len| len * GRAIN as u64).collect();
            lens.push(size.saturating_sub(lens.iter().sum()).next_multiple_of(GRAIN as u64));
            let file = source(&bytes);
            let job = job(&file, size, &lens);
            let image = copy(&job).unwrap();
            let mut back = Vec::new();
            for piece in &job.pieces {
                let mut part = vec![0; offset(piece.len)];
                image.read_exact_at(&mut part, piece.destination.0).unwrap();
                back.extend(part);
            }
            prop_assert!(back[..bytes.len()] == bytes[..]);
            prop_assert!(back[bytes.len()..].iter().all(|&b| b == 0));
        }
    }

    #[test]
    fn a_file_that_is_not_as_laid_out_is_an_error() {
        let file = source(b"12345");
        for size in [4, 6] {
            assert!(matches!(copy(&job(&file, size, &[4096])), Err(CopyError::Changed { .. })));
        }
        let mut gone = job(&file, 5, &[4096]);
        gone.source.push("nowhere");
        assert!(matches!(copy(&gone), Err(CopyError::Read { .. })));
    }

    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let file = source(b"start");
        let size = 9_000_000;
        file.as_file().set_len(size).unwrap();
        let image = copy(&job(&file, size, &[9_003_008])).unwrap();
        assert!(image.metadata().unwrap().blocks() <= 16);
    }
}
