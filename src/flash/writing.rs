//! Writes to the medium: wipes both ends, discards free space, writes everything that somebody reads, and writes the
//! ends last.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::FlashCause;
use super::gate::Gate;
use super::medium::Medium;
use super::windows::{Plan, WINDOW, Window};
use crate::copy::Means;
use crate::disk::pages::PageBuffer;
use crate::formats::{Reader, Source};
use crate::progress::Cancel;
use crate::threads;
use crate::units::ByteOffset;

/// The fewest and the most threads: while one waits for the device, another reads. Each holds a window.
const THREADS_LEAST: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
const THREADS_MOST: NonZeroUsize = NonZeroUsize::new(12).expect("not zero");

/// The bytes that are discarded at once, at first and at least, in bytes: a signal waits for the end of that.
const DISCARD_FIRST: u64 = 64 << 20;
const DISCARD_LEAST: u64 = 4 << 20;
/// A discard that took longer is followed by a shorter one.
const DISCARD_LATE: Duration = Duration::from_millis(200);

/// A window's bytes and the byte that readers may want.
pub(super) const BUFFER: usize = (4 << 20) + 1;
const _: () = assert!(BUFFER as u64 == WINDOW + 1);

/// A disk on its way to a medium.
pub(super) struct Writing<'a> {
    source: &'a dyn Source,
    medium: &'a dyn Medium,
    plan: &'a Plan,
    means: Means<'a>,
    gate: Gate,
    sums: Vec<AtomicU64>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(source: &'a dyn Source, medium: &'a dyn Medium, plan: &'a Plan, means: Means<'a>) -> Self {
        let sums = plan.windows.iter().map(|_| AtomicU64::new(0)).collect();
        Self { source, medium, plan, means, gate: Gate::default(), sums }
    }

    /// The sum of what was written of each window.
    pub(super) fn sums(&self) -> &[AtomicU64] {
        &self.sums
    }

    /// Makes both ends of the medium zeros, first the tables on them. A request to stop is obeyed when these are gone.
    pub(super) fn wipe_ends(&self, cancel: &Cancel) -> Result<(), FlashCause> {
        self.means.progress.stage("wiping the old partition table", 0, 0);
        let zeros = PageBuffer::new(BUFFER);
        let never = Cancel::new();
        for (number, range) in self.plan.wiped().into_iter().enumerate() {
            let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
            let bytes = zeros.bytes().get(..len).unwrap_or_default();
            self.put(bytes, range.start, if number < 2 { &never } else { cancel })?;
            if number == 1 {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Writes bytes in pieces that are soon done.
    fn put(&self, mut bytes: &[u8], mut at: u64, cancel: &Cancel) -> Result<(), FlashCause> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(self.gate.piece().min(bytes.len()));
            let len = now.len() as u64;
            let done = self.gate.pass(len, cancel, || self.medium.write_at(now, ByteOffset(at)))?;
            done.map_err(|error| FlashCause::Write { at, error })?;
            at += len;
            bytes = rest;
        }
        Ok(())
    }

    /// Discards what nobody reads, if that is possible, and returns how many bytes that were.
    pub(super) fn discard(&self) -> Result<u64, FlashCause> {
        let Some(unit) = self.medium.discard_unit() else { return Ok(0) };
        self.means.progress.stage("discarding free space", 0, self.plan.free_bytes());
        let (mut discarded, mut most) = (0, DISCARD_FIRST.next_multiple_of(unit));
        for free in &self.plan.free {
            let (mut at, end) = (free.start.next_multiple_of(unit), free.end - free.end % unit);
            while at < end {
                self.means.cancel.check()?;
                let piece = at..end.min(at.saturating_add(most));
                let started = Instant::now();
                if self.medium.discard(piece.clone()).is_err() {
                    // What cannot be discarded stays: nobody reads it.
                    return Ok(discarded);
                }
                let is_late = started.elapsed() > DISCARD_LATE;
                most = if is_late { (most / 2).max(DISCARD_LEAST) } else { most.saturating_mul(2) };
                most = most.min(1 << 40).next_multiple_of(unit);
                self.means.progress.advance(0, piece.end - piece.start);
                discarded += piece.end - piece.start;
                at = piece.end;
            }
        }
        Ok(discarded)
    }

    /// Writes all but the ends.
    pub(super) fn write_most(&self) -> Result<(), FlashCause> {
        self.means.progress.stage("writing", 0, self.plan.len(self.plan.most.clone()));
        let threads = threads(self.means);
        threads::share_out(self.plan.most.clone(), threads, || self.worker(self.means.cancel), Worker::write)?;
        self.flush()
    }

    /// Writes the ends, one flushed before the next: the end of the disk, its start, the first sectors.
    pub(super) fn write_ends(&self) -> Result<(), FlashCause> {
        self.means.cancel.check()?;
        self.means.progress.stage("writing the partition table", 0, 0);
        let never = Cancel::new();
        let mut worker = self.worker(&never);
        for windows in self.plan.ends() {
            windows.into_iter().try_for_each(|window| worker.write(window))?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), FlashCause> {
        self.medium.flush().map_err(|error| FlashCause::Flush { error })
    }

    fn worker<'b>(&'b self, cancel: &'b Cancel) -> Worker<'b> {
        Worker { writing: self, cancel, reader: None, buffer: PageBuffer::new(BUFFER) }
    }
}

/// How many threads read and write.
pub(super) fn threads(means: Means<'_>) -> NonZeroUsize {
    means.options.threads.saturating_add(2).clamp(THREADS_LEAST, THREADS_MOST)
}

struct Worker<'a> {
    writing: &'a Writing<'a>,
    cancel: &'a Cancel,
    reader: Option<Box<dyn Reader + 'a>>,
    buffer: PageBuffer,
}

impl Worker<'_> {
    /// Reads a window and writes it.
    fn write(&mut self, number: usize) -> Result<(), FlashCause> {
        let Writing { source, plan, means, sums, .. } = self.writing;
        let Some(window) = plan.windows.get(number) else { return Ok(()) };
        let mut sum = Sum::default();
        for piece in &window.pieces {
            self.cancel.check()?;
            let bytes = read(*source, &mut self.reader, piece, self.buffer.bytes_mut())?;
            sum.add(bytes);
            let len = bytes.len();
            self.put(piece, len)?;
            means.progress.advance(0, len as u64);
        }
        if let Some(noted) = sums.get(number) {
            noted.store(sum.value(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes the first bytes of the buffer, in pieces that are soon done.
    fn put(&self, piece: &Range<u64>, len: usize) -> Result<(), FlashCause> {
        let Writing { source, medium, .. } = self.writing;
        let failed = |error| FlashCause::Write { at: piece.start, error };
        if !source.map().has_data(piece.clone()) && medium.zero(piece.clone()).map_err(failed)? {
            return Ok(());
        }
        self.writing.put(self.buffer.bytes().get(..len).unwrap_or_default(), piece.start, self.cancel)
    }
}

/// The bytes of a piece of the disk, at the start of the buffer: only what may have data is read.
pub(super) fn read<'b, 's>(
    source: &'s dyn Source,
    reader: &mut Option<Box<dyn Reader + 's>>,
    piece: &Range<u64>,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], FlashCause> {
    let len = usize::try_from(piece.end - piece.start).unwrap_or_default();
    let buffer = buffer.get_mut(..=len).unwrap_or_default();
    if source.map().has_data(piece.clone()) {
        let reader = match reader {
            Some(reader) => reader,
            none => none.insert(source.reader()?),
        };
        reader.read(piece.clone(), buffer)?;
    } else {
        buffer.fill(0);
    }
    Ok(buffer.get(..len).unwrap_or_default())
}

/// A checksum of a window: two sums of 32 bits with different polynomials, so that the disk need not
/// be read twice to be compared.
#[derive(Default)]
pub(super) struct Sum {
    castagnoli: u32,
    ieee: crc32fast::Hasher,
}

impl Sum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.castagnoli = crc32c::crc32c_append(self.castagnoli, bytes);
        self.ieee.update(bytes);
    }

    pub(super) fn value(self) -> u64 {
        u64::from(self.castagnoli) << 32 | u64::from(self.ieee.finalize())
    }
}

impl Window {
    /// The whole of it, in bytes of the disk.
    pub(super) fn span(&self) -> Range<u64> {
        self.start()..self.pieces.last().map_or(0, |piece| piece.end)
    }
}
