//! Writes units of a disk to a file that grows. Units are read and changed in parallel, and written in order.

use std::num::NonZeroUsize;

use super::{FormatError, Source};
use crate::copy::Means;
use crate::threads::{self, Turns};
use crate::units::ByteOffset;

/// More threads than this are not started: each holds a unit, what becomes of it, and what it transforms with.
pub(super) const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// What one thread transforms units with.
pub(super) trait Pack {
    /// What is noted of a unit for the step that writes it.
    type Note: Send;

    /// Appends to `output` what becomes of the unit that starts at `at`: of its bytes, or of nothing but zeros.
    ///
    /// `output` is empty.
    ///
    /// # Errors
    /// If it cannot be transformed.
    fn pack(&mut self, at: ByteOffset, bytes: Unit<'_>, output: &mut Vec<u8>) -> Result<Self::Note, FormatError>;
}

/// The bytes of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit<'a> {
    /// These, one of which is not zero.
    Data(&'a [u8]),
    /// So many zeros.
    Zeros(usize),
}

/// Transforms the whole disk in units of `unit` bytes, and gives each to `put`, in order. The last one may be shorter.
///
/// Units without data are not read.
///
/// # Errors
/// The first error in the order of the disk among those that occurred.
pub(super) fn in_order<P: Pack>(
    source: &dyn Source,
    unit: usize,
    means: Means<'_>,
    packer: impl Fn() -> P + Sync,
    put: impl FnMut(ByteOffset, P::Note, &[u8]) -> Result<(), FormatError> + Send,
) -> Result<(), FormatError> {
    let size = source.map().size();
    let put = std::sync::Mutex::new(put);
    let turns = Turns::default();
    let worker = || Worker { source, reader: None, packer: packer(), buffer: vec![0; unit + 1], output: Vec::new() };
    let units = (0..size).step_by(unit).enumerate();
    threads::share_out(units, means.options.threads.min(THREADS_MAX), worker, |worker, (number, at)| {
        means.cancel.check()?;
        let way_out = turns.way_out();
        let len = usize::try_from(size - at).map_or(unit, |left| left.min(unit));
        let note = worker.work(ByteOffset(at), len)?;
        let put = || {
            let mut put = put.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            put(ByteOffset(at), note, &worker.output)
        };
        // Without a turn another thread has failed, and its error is the one to report.
        turns.take(number, put).unwrap_or(Ok(()))?;
        way_out.done();
        means.progress.advance(0, len as u64);
        Ok(())
    })
}

struct Worker<'a, P> {
    source: &'a dyn Source,
    reader: Option<Box<dyn super::Reader + 'a>>,
    packer: P,
    /// A unit, and the byte that readers may want.
    buffer: Vec<u8>,
    output: Vec<u8>,
}

impl<P: Pack> Worker<'_, P> {
    fn work(&mut self, at: ByteOffset, len: usize) -> Result<P::Note, FormatError> {
        let range = at.0..at.0 + len as u64;
        self.output.clear();
        let mut unit = Unit::Zeros(len);
        if self.source.map().has_data(range.clone()) {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(self.source.reader()?),
            };
            reader.read(range, &mut self.buffer[..=len])?;
            let bytes = &self.buffer[..len];
            if !is_zero(bytes) {
                unit = Unit::Data(bytes);
            }
        }
        self.packer.pack(at, unit, &mut self.output)
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Most of what is not zero shows in its first bytes.
    bytes.iter().take(64).all(|&byte| byte == 0) && bytes.chunks(4096).all(|chunk| *chunk == [0; 4096][..chunk.len()])
}
