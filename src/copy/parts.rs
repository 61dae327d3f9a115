//! Cuts jobs into parts, and gathers parts into batches: the unit of work of a thread.

use super::{CopyJobs, Target};
use crate::units::ByteOffset;

/// A range of a file that is contiguous in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The job that it is part of.
    pub(super) job: usize,
    /// The length of the whole file, in bytes.
    pub(super) size: u64,
    /// Where in the file it starts.
    pub(super) offset: u64,
    /// Where in the image it goes.
    pub(super) destination: ByteOffset,
    /// Its length in bytes.
    pub(super) len: u64,
}

impl Part {
    /// One past its last byte in the file.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// Whether the file ends with it.
    pub(super) fn is_last(&self) -> bool {
        self.end() == self.size
    }
}

/// All parts of all jobs in order, a batch at a time.
pub(super) struct Batches<'a> {
    jobs: &'a dyn CopyJobs,
    /// The longest part, in bytes: a larger file is shared out among threads.
    max_part: u64,
    /// Parts are gathered until they have this many bytes.
    batch_bytes: u64,
    next_job: usize,
    /// The job that is being cut, and how far.
    cut: Option<Cut>,
}

struct Cut {
    job: usize,
    target: Target,
    /// The piece that is being cut.
    piece: usize,
    /// The bytes of it that are cut off already.
    of_piece: u64,
    /// The bytes of the file that are cut off already.
    of_file: u64,
}

impl<'a> Batches<'a> {
    pub(super) fn new(jobs: &'a dyn CopyJobs, max_part: u64, batch_bytes: u64) -> Self {
        Self { jobs, max_part, batch_bytes, next_job: 0, cut: None }
    }

    fn next_part(&mut self) -> Option<Part> {
        loop {
            if let Some(part) = self.cut.as_mut().and_then(|cut| cut.next(self.max_part)) {
                return Some(part);
            }
            let job = self.next_job;
            if job == self.jobs.len() {
                return None;
            }
            self.next_job += 1;
            let target = self.jobs.target(job);
            self.cut = Some(Cut { job, target, piece: 0, of_piece: 0, of_file: 0 });
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = Vec<Part>;

    fn next(&mut self) -> Option<Vec<Part>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < self.batch_bytes
            && let Some(part) = self.next_part()
        {
            bytes += part.len;
            batch.push(part);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

impl Cut {
    fn next(&mut self, max_part: u64) -> Option<Part> {
        let size = self.target.size;
        let piece = self.target.pieces.get(self.piece).filter(|_| self.of_file < size)?;
        let len = (piece.len - self.of_piece).min(size - self.of_file).min(max_part);
        let destination = ByteOffset(piece.destination.0 + self.of_piece);
        let part = Part { job: self.job, size, offset: self.of_file, destination, len };
        self.of_file += len;
        self.of_piece += len;
        if self.of_piece == piece.len {
            (self.piece, self.of_piece) = (self.piece + 1, 0);
        }
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Piece;
    use std::path::PathBuf;

    struct Jobs(Vec<Target>);

    impl CopyJobs for Jobs {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn target(&self, index: usize) -> Target {
            self.0[index].clone()
        }
        fn source(&self, _index: usize) -> PathBuf {
            PathBuf::new()
        }
        fn total_bytes(&self) -> u64 {
            0
        }
    }

    fn cut(files: &[(u64, &[(u64, u64)])], max_part: u64, batch_bytes: u64) -> Vec<Vec<(usize, u64, u64, u64)>> {
        let piece = |&(start, len): &(u64, u64)| Piece { destination: ByteOffset(start), len };
        let target =
            |&(size, pieces): &(u64, &[(u64, u64)])| Target { size, pieces: pieces.iter().map(piece).collect() };
        let jobs = Jobs(files.iter().map(target).collect());
        let batches = Batches::new(&jobs, max_part, batch_bytes);
        batches.map(|batch| batch.iter().map(|p| (p.job, p.offset, p.destination.0, p.len)).collect()).collect()
    }

    #[test]
    fn files_are_cut_at_pieces_and_at_the_longest_part() {
        let cut = cut(&[(25, &[(100, 10), (200, 20)]), (1, &[(300, 10)])], 8, 8);
        let expected: [&[_]; 4] =
            [&[(0, 0, 100, 8)], &[(0, 8, 108, 2), (0, 10, 200, 8)], &[(0, 18, 208, 7), (1, 0, 300, 1)], &[]];
        assert_eq!(cut, expected[..3]);
    }

    #[test]
    fn small_files_share_a_batch() {
        let files: Vec<(u64, &[(u64, u64)])> = vec![(3, &[(0, 10)]), (4, &[(10, 10)]), (5, &[(20, 10)])];
        assert_eq!(cut(&files, 100, 7), [vec![(0, 0, 0, 3), (1, 0, 10, 4)], vec![(2, 0, 20, 5)]]);
        assert!(cut(&[], 100, 7).is_empty());
    }
}
