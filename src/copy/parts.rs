//! Cuts files into parts, and puts parts into batches. A batch is what a thread works on at once.

use std::ops::Range;

use super::jobs::{CopyJobs, PackJobs, Piece, Unit};
use crate::disk::pages::PAGE;
use crate::units::ByteOffset;

/// A range of a file that is contiguous in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The index of the file.
    pub(super) file: usize,
    /// The length of the whole file, in bytes.
    pub(super) size: u64,
    /// Where in the file it starts.
    pub(super) offset: u64,
    /// Where in the image it goes; nowhere if it is kept.
    pub(super) destination: Option<ByteOffset>,
    /// Its length in bytes.
    pub(super) len: u64,
}

impl Part {
    /// Its bytes, counted from the start of the file.
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    /// Whether the file ends with it.
    pub(super) fn is_last(&self) -> bool {
        self.offset + self.len == self.size
    }
}

/// All parts of all files in order, a batch at a time.
pub(super) struct Batches<'a> {
    jobs: &'a dyn CopyJobs,
    /// The longest part, in bytes: a larger file is shared out among threads.
    max_part: u64,
    /// Parts are gathered until they have this many bytes.
    batch_bytes: u64,
    next_file: usize,
    /// The file that is being cut, and how far.
    cut: Option<Cut>,
}

struct Cut {
    file: usize,
    size: u64,
    pieces: Vec<Piece>,
    /// The piece that is being cut.
    piece: usize,
    /// The bytes of it that are cut off already.
    of_piece: u64,
    /// The bytes of the file that are cut off already.
    of_file: u64,
    /// Whether what is past the pieces is kept.
    keeps_rest: bool,
}

impl<'a> Batches<'a> {
    pub(super) fn new(jobs: &'a dyn CopyJobs, max_part: u64, batch_bytes: u64) -> Self {
        Self { jobs, max_part, batch_bytes, next_file: 0, cut: None }
    }

    fn next_part(&mut self) -> Option<Part> {
        loop {
            if let Some(part) = self.cut.as_mut().and_then(|cut| cut.next(self.max_part)) {
                return Some(part);
            }
            let file = self.next_file;
            if file == self.jobs.len() {
                return None;
            }
            self.next_file += 1;
            let (size, pieces) = (self.jobs.size(file), self.jobs.pieces(file));
            let keeps_rest = self.jobs.keeps_rest();
            self.cut = Some(Cut { file, size, pieces, piece: 0, of_piece: 0, of_file: 0, keeps_rest });
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
        let Self { file, size, of_file: offset, .. } = *self;
        if offset == size {
            return None;
        }
        if self.pieces.is_empty() {
            self.of_file = size;
            return Some(Part { file, size, offset, destination: None, len: size });
        }
        let Some(piece) = self.pieces.get(self.piece) else {
            self.of_file = size;
            return self.keeps_rest.then_some(Part { file, size, offset, destination: None, len: size - offset });
        };
        let len = (piece.len - self.of_piece).min(size - offset).min(max_part);
        let destination = Some(ByteOffset(piece.destination.0 + self.of_piece));
        self.of_file += len;
        self.of_piece += len;
        if self.of_piece == piece.len {
            (self.piece, self.of_piece) = (self.piece + 1, 0);
        }
        Some(Part { file, size, offset, destination, len })
    }
}

/// All units of all files in order, a batch at a time.
pub(super) struct UnitBatches<'a> {
    jobs: &'a dyn PackJobs,
    /// Units are gathered as long as they have no more than this many bytes, each rounded up to a page.
    batch_bytes: usize,
    unit_bytes: usize,
    file: usize,
    offset: u64,
}

impl<'a> UnitBatches<'a> {
    /// `batch_bytes` is at least as long as a unit.
    pub(super) fn new(jobs: &'a dyn PackJobs, batch_bytes: usize) -> Self {
        Self { jobs, batch_bytes, unit_bytes: jobs.unit_bytes(), file: 0, offset: 0 }
    }

    /// The unit that comes next.
    fn peek(&mut self) -> Option<Unit> {
        while self.file < self.jobs.len() {
            let left = self.jobs.size(self.file) - self.offset;
            if left > 0 {
                let len = usize::try_from(left).map_or(self.unit_bytes, |left| left.min(self.unit_bytes));
                return Some(Unit { file: self.file, offset: self.offset, len });
            }
            (self.file, self.offset) = (self.file + 1, 0);
        }
        None
    }
}

impl Iterator for UnitBatches<'_> {
    type Item = Vec<Unit>;

    fn next(&mut self) -> Option<Vec<Unit>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(unit) = self.peek() {
            bytes += unit.len.next_multiple_of(PAGE);
            if bytes > self.batch_bytes {
                break;
            }
            self.offset += unit.len as u64;
            batch.push(unit);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Files, Form, Packer};
    use crate::source::tree::Origin;
    use std::path::PathBuf;

    /// Sizes of files, and the pieces they go to.
    struct Jobs(Vec<(u64, Vec<Piece>)>);

    impl Files for Jobs {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn size(&self, index: usize) -> u64 {
            self.0[index].0
        }
        fn source(&self, _index: usize) -> Origin {
            Origin::Host(PathBuf::new())
        }
        fn total_bytes(&self) -> u64 {
            0
        }
    }

    impl CopyJobs for Jobs {
        fn pieces(&self, index: usize) -> Vec<Piece> {
            self.0[index].1.clone()
        }
    }

    /// Files of these sizes that nobody packs.
    struct Nothing(Vec<u64>);

    impl Files for Nothing {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn size(&self, index: usize) -> u64 {
            self.0[index]
        }
        fn source(&self, _index: usize) -> Origin {
            Origin::Host(PathBuf::new())
        }
        fn total_bytes(&self) -> u64 {
            self.0.iter().sum()
        }
    }

    impl PackJobs for Nothing {
        fn unit_bytes(&self) -> usize {
            2 * PAGE
        }
        fn packer(&self) -> Box<dyn Packer + '_> {
            unreachable!("nobody packs")
        }
        fn place(&self, _unit: Unit, _form: Form, _stored: &[u8]) -> Option<ByteOffset> {
            unreachable!("nobody packs")
        }
    }

    type Cuts = Vec<Vec<(usize, u64, Option<u64>, u64)>>;

    fn cut(files: &[(u64, &[(u64, u64)])], max_part: u64, batch_bytes: u64) -> Cuts {
        let piece = |&(start, len): &(u64, u64)| Piece { destination: ByteOffset(start), len };
        let jobs = Jobs(files.iter().map(|(size, pieces)| (*size, pieces.iter().map(piece).collect())).collect());
        let batches = Batches::new(&jobs, max_part, batch_bytes);
        let numbers = |p: &Part| (p.file, p.offset, p.destination.map(|at| at.0), p.len);
        batches.map(|batch| batch.iter().map(numbers).collect()).collect()
    }

    #[test]
    fn files_are_cut_at_pieces_and_at_the_longest_part() {
        let cut = cut(&[(25, &[(100, 10), (200, 20)]), (1, &[(300, 10)])], 8, 8);
        let expected: [&[_]; 3] = [
            &[(0, 0, Some(100), 8)],
            &[(0, 8, Some(108), 2), (0, 10, Some(200), 8)],
            &[(0, 18, Some(208), 7), (1, 0, Some(300), 1)],
        ];
        assert_eq!(cut, expected);
    }

    #[test]
    fn small_files_share_a_batch() {
        let files: Vec<(u64, &[(u64, u64)])> = vec![(3, &[(0, 10)]), (4, &[(10, 10)]), (5, &[(20, 10)])];
        let expected = [vec![(0, 0, Some(0), 3), (1, 0, Some(10), 4)], vec![(2, 0, Some(20), 5)]];
        assert_eq!(cut(&files, 100, 7), expected);
        assert!(cut(&[], 100, 7).is_empty());
    }

    #[test]
    fn a_file_without_pieces_is_one_part_and_an_empty_file_is_none() {
        assert_eq!(cut(&[(25, &[]), (0, &[])], 8, 8), [[(0, 0, None, 25)]]);
    }

    #[test]
    fn units_fill_batches_but_never_more() {
        let page = PAGE as u64;
        let files = Nothing(vec![5 * page + 1, 0, 1, 2 * page]);
        let batches: Vec<Vec<_>> = UnitBatches::new(&files, 4 * PAGE)
            .map(|batch| batch.iter().map(|u| (u.file, u.offset / page, u.len)).collect())
            .collect();
        // A unit is two pages long.
        let expected: [&[_]; 3] =
            [&[(0, 0, 2 * PAGE), (0, 2, 2 * PAGE)], &[(0, 4, PAGE + 1), (2, 0, 1)], &[(3, 0, 2 * PAGE)]];
        assert_eq!(batches, expected);
    }
}
