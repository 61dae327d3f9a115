//! Limits how much work a device has at once. It must be enough that the device never waits. It must be so little that
//! the device ends it within a moment when the user asks to stop.
//!
//! A write that has begun cannot be stopped, and the speed of a device is not known beforehand. So the limit grows
//! while each write ends soon, and shrinks when one does not.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::{Cancel, Cancelled};

/// The bytes under way at the start, at least, and at most.
const FIRST: u64 = 512 << 10;
const LEAST: u64 = 256 << 10;
const MOST: u64 = 16 << 20;
/// A piece is a part of what is under way, between these bytes.
const PIECE_LEAST: u64 = 128 << 10;
const PIECE_MOST: u64 = 4 << 20;
/// If a piece took less than `SOON`, more bytes may be under way; if it took more than `LATE`, fewer.
const SOON: Duration = Duration::from_millis(120);
const LATE: Duration = Duration::from_millis(350);
/// How often a waiting thread checks whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Lets pieces of work through: as many bytes at once as the device ends soon.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    under_way: u64,
    most: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: Mutex::new(State { under_way: 0, most: FIRST }), freed: Condvar::new() }
    }
}

impl Gate {
    /// The bytes that a piece should have now: whole pages.
    pub(super) fn piece(&self) -> usize {
        let piece = (self.lock().most / 4).clamp(PIECE_LEAST, PIECE_MOST);
        usize::try_from(piece - piece % 4096).unwrap_or(4096)
    }

    /// Waits until there is room for `len` bytes, and does the work.
    ///
    /// # Errors
    /// If the user asked to stop before there was room.
    pub(super) fn pass(
        &self,
        len: u64,
        cancel: &Cancel,
        work: impl FnOnce() -> io::Result<()>,
    ) -> Result<io::Result<()>, Cancelled> {
        let mut state = self.lock();
        loop {
            cancel.check()?;
            if state.under_way == 0 || state.under_way.saturating_add(len) <= state.most {
                break;
            }
            let waited = self.freed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.under_way += len;
        drop(state);
        let started = Instant::now();
        let done = work();
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(len);
        state.most = next(state.most, len, started.elapsed());
        drop(state);
        self.freed.notify_all();
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be under way after `len` bytes took so long.
fn next(most: u64, len: u64, took: Duration) -> u64 {
    match took {
        took if took < SOON => most.saturating_add(len).min(MOST),
        took if took > LATE => (most - most / 4).max(LEAST),
        _ => most,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::threads;

    /// The bytes under way on a device of a given speed settle at what it writes in about a third of a second.
    #[test]
    fn any_device_is_done_within_a_moment() {
        for mib_a_second in [1, 20, 90, 3000] {
            let mut most = FIRST;
            let takes = |bytes: u64| Duration::from_micros(bytes / mib_a_second * 1_000_000 / (1 << 20));
            for _ in 0..500 {
                most = next(most, (most / 4).clamp(PIECE_LEAST, PIECE_MOST), takes(most));
            }
            assert!(takes(most) <= Duration::from_millis(450), "{mib_a_second}: {most}");
            assert!(takes(most) >= Duration::from_millis(100) || most == MOST, "{mib_a_second}: {most}");
        }
    }

    #[test]
    fn no_more_passes_than_may() {
        let (gate, now, cancel) = (Gate::default(), AtomicU64::new(0), Cancel::new());
        let work = |(): &mut (), len: u64| {
            let done = gate.pass(len, &cancel, || {
                let under_way = now.fetch_add(len, Ordering::SeqCst) + len;
                assert!(under_way <= MOST || under_way == len);
                now.fetch_sub(len, Ordering::SeqCst);
                Ok(())
            });
            done.map(|done| done.unwrap())
        };
        let lens = (0..2000u64).map(|number| (number % 7 + 1) << 20);
        assert_eq!(threads::share_out(lens, NonZeroUsize::new(6).unwrap(), || (), work), Ok(()));
        cancel.request(2);
        assert_eq!(work(&mut (), 1), Err(Cancelled { signal: 2 }));
    }
}
