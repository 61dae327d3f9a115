//! Reads a medium back and compares it with what was written.

use std::sync::atomic::{AtomicU64, Ordering};

use super::FlashCause;
use super::difference::{Difference, Found, Locate};
use super::gate::Gate;
use super::medium::Medium;
use super::windows::{Plan, Window};
use super::writing::{self, BUFFER, Sum};
use crate::copy::Means;
use crate::disk::pages::PageBuffer;
use crate::formats::Source;
use crate::threads;
use crate::units::ByteOffset;

/// Compares all windows with the sums of what was written.
pub(super) fn compare(
    source: &dyn Source,
    medium: &dyn Medium,
    plan: &Plan,
    sums: &[AtomicU64],
    locate: &dyn Locate,
    means: Means<'_>,
) -> Result<(), FlashCause> {
    let all = plan.windows.len();
    means.progress.stage("reading back", 0, plan.len(0..all));
    let comparing = Comparing { medium, means, gate: Gate::default() };
    let windows = plan.windows.iter().zip(sums);
    threads::share_out(
        windows,
        writing::threads(means),
        || PageBuffer::new(BUFFER),
        |buffer, (window, sum)| {
            if comparing.is_same(buffer, window, sum.load(Ordering::Relaxed))? {
                return Ok(());
            }
            let found = first_difference(source, medium, window)?;
            Err(Difference::new(window.span(), found, locate).into())
        },
    )
}

struct Comparing<'a> {
    medium: &'a dyn Medium,
    means: Means<'a>,
    gate: Gate,
}

impl Comparing<'_> {
    fn is_same(&self, buffer: &mut PageBuffer, window: &Window, wanted: u64) -> Result<bool, FlashCause> {
        let mut sum = Sum::default();
        for piece in &window.pieces {
            let mut at = piece.start;
            while at < piece.end {
                let len = self.gate.piece().min(usize::try_from(piece.end - at).unwrap_or(usize::MAX));
                let bytes = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
                let read =
                    self.gate.pass(len as u64, self.means.cancel, || self.medium.read_at(bytes, ByteOffset(at)))?;
                read.map_err(|error| FlashCause::Read { at, error })?;
                sum.add(bytes);
                self.means.progress.advance(0, len as u64);
                at += len as u64;
            }
        }
        Ok(sum.value() == wanted)
    }
}

/// The first byte of a window in which medium and source differ, if they still do.
fn first_difference(source: &dyn Source, medium: &dyn Medium, window: &Window) -> Result<Option<Found>, FlashCause> {
    let (mut theirs, mut ours) = (PageBuffer::new(BUFFER), PageBuffer::new(BUFFER));
    let mut reader = None;
    for piece in &window.pieces {
        let start = piece.start;
        let wanted = writing::read(source, &mut reader, piece, ours.bytes_mut())?;
        let found = theirs.bytes_mut().get_mut(..wanted.len()).unwrap_or_default();
        let read = medium.read_at(found, ByteOffset(start));
        read.map_err(|error| FlashCause::Read { at: start, error })?;
        if let Some((at, (&wanted, &found))) =
            (start..).zip(wanted.iter().zip(&*found)).find(|(_, (one, other))| one != other)
        {
            return Ok(Some(Found { at, wanted, found }));
        }
    }
    Ok(None)
}
