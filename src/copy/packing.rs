//! The work of one thread on contents that are changed: it reads and changes units, has them placed, and writes them.

use std::mem;

use super::image::Image;
use super::jobs::{Form, PackJobs, Packer, Unit};
use super::source::{Ahead, OldFiles, Source, Wanted};
use super::{CopyError, WINDOW_BYTES};
use crate::disk::pages::{PAGE, PageBuffer};
use crate::progress::{Cancel, Progress};
use crate::threads::Turns;
use crate::units::ByteOffset;

/// A thread that transforms.
pub(super) struct PackWorker<'a> {
    jobs: &'a dyn PackJobs,
    image: &'a Image<'a>,
    turns: &'a Turns,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    packer: Box<dyn Packer + 'a>,
    old: OldFiles,
    /// A unit as it is read.
    raw: Vec<u8>,
    /// A unit as the packer leaves it.
    packed: Vec<u8>,
    /// What is to be stored of a batch, each unit on pages of its own.
    buffer: PageBuffer,
    stored: Vec<Stored>,
}

/// A unit in the buffer.
struct Stored {
    unit: Unit,
    form: Form,
    /// Where in the buffer it starts, at a page.
    start: usize,
    /// Its length as it is stored, in bytes; never more than that of the unit.
    len: usize,
}

impl Stored {
    /// One past its last page in the buffer.
    fn end(&self) -> usize {
        self.start + self.len.next_multiple_of(PAGE)
    }
}

impl<'a> PackWorker<'a> {
    pub(super) fn new(
        jobs: &'a dyn PackJobs,
        image: &'a Image<'a>,
        turns: &'a Turns,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        let raw = vec![0; jobs.unit_bytes() + 1];
        let buffer = PageBuffer::new(WINDOW_BYTES);
        let packer = jobs.packer();
        let (old, packed, stored) = (OldFiles::default(), Vec::new(), Vec::new());
        Self { jobs, image, turns, progress, cancel, packer, old, raw, packed, buffer, stored }
    }

    /// Transforms and writes the units of the batch `number`.
    pub(super) fn pack(&mut self, number: usize, batch: &[Unit]) -> Result<(), CopyError> {
        let way_out = self.turns.way_out();
        self.gather(batch)?;
        let place = |stored: &Stored| {
            let bytes = &self.buffer.bytes()[stored.start..][..stored.len];
            self.jobs.place(stored.unit, stored.form, bytes)
        };
        let places = self.turns.take(number, || self.stored.iter().map(place).collect::<Vec<_>>());
        // Without a turn another thread has failed, and its error is the one to report.
        places.map_or(Ok(()), |places| self.write(&places))?;
        way_out.done();
        Ok(())
    }

    fn gather(&mut self, batch: &[Unit]) -> Result<(), CopyError> {
        self.stored.clear();
        let mut at = 0;
        let wanted =
            batch.iter().map(|unit| Wanted { file: unit.file, range: unit.offset..unit.offset + unit.len as u64 });
        let old = mem::take(&mut self.old);
        for (&unit, source) in batch.iter().zip(Ahead::new(self.jobs, &old, wanted)) {
            self.cancel.check()?;
            let stored = self.transform(unit, source?.as_ref(), at)?;
            at = stored.end();
            self.stored.push(stored);
            let is_last = unit.offset + unit.len as u64 == self.jobs.size(unit.file);
            self.progress.advance(u64::from(is_last), unit.len as u64);
        }
        self.old = old;
        Ok(())
    }

    /// Reads a unit and puts what is to be stored of it into the buffer.
    fn transform(&mut self, unit: Unit, source: &Source<'_>, start: usize) -> Result<Stored, CopyError> {
        source.read(unit.offset, unit.len, &mut self.raw)?;
        let raw = &self.raw[..unit.len];
        self.packed.clear();
        let form = match source.stored_unit(unit.offset, unit.len)? {
            None => self.packer.pack(unit, raw, &mut self.packed),
            Some(stored) => self.packer.pack_again(unit, raw, stored, &mut self.packed),
        };
        let (form, bytes) = match form {
            Form::Packed if self.packed.len() < raw.len() => (Form::Packed, self.packed.as_slice()),
            _ => (Form::Raw, raw),
        };
        let stored = Stored { unit, form, start, len: bytes.len() };
        let pages = &mut self.buffer.bytes_mut()[start..stored.end()];
        pages[..bytes.len()].copy_from_slice(bytes);
        pages[bytes.len()..].fill(0);
        Ok(stored)
    }

    /// Writes the units to their places, neighbours together.
    fn write(&self, places: &[Option<ByteOffset>]) -> Result<(), CopyError> {
        let mut landing = self.stored.iter().zip(places).filter_map(|(stored, place)| Some((stored, (*place)?)));
        let Some((first, mut at)) = landing.next() else { return Ok(()) };
        let (mut start, mut last) = (first.start, first);
        for (stored, place) in landing {
            let follows = stored.start == last.end() && place.0 == at.0 + (stored.start - start) as u64;
            if !follows {
                self.write_run(at, start, last)?;
                (at, start) = (place, stored.start);
            }
            last = stored;
        }
        self.write_run(at, start, last)
    }

    /// Writes the buffer from `start` up to the end of `last`.
    fn write_run(&self, at: ByteOffset, start: usize, last: &Stored) -> Result<(), CopyError> {
        let pages = &self.buffer.bytes()[start..last.end()];
        self.image.write_pages(at, pages, self.jobs.observer()).map_err(|source| {
            let path = self.jobs.source(last.unit.file).into_path();
            CopyError::Write { path, offset: at, source }
        })
    }
}
