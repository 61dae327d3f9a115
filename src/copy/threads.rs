//! Shares out work among threads, in order.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Calls `work` once for each item, on `threads` threads, each with a worker of its own.
///
/// # Errors
/// Of the errors that occurred, that of the earliest item; items not yet begun are given up.
pub(super) fn share_out<T, W, E: Send>(
    items: impl Iterator<Item = T> + Send,
    threads: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = Mutex::new(items.enumerate());
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next().filter(|_| !stop.load(Ordering::Relaxed));
    let run = || {
        let mut worker = worker();
        while let Some((number, item)) = next() {
            if let Err(error) = work(&mut worker, item) {
                stop.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failed = Some((number, error));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(run);
        }
        run();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// Lets threads do one step of their work in the order of their items, whoever comes first.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<Turn>,
    moved: Condvar,
}

#[derive(Default)]
struct Turn {
    /// The number of the item whose turn it is.
    next: usize,
    /// Somebody has given up: there will be no further turns.
    over: bool,
}

impl Turns {
    /// Waits until all items before `number` have had their turn, and does `step`; `None` if one of them never will.
    pub(super) fn take<T>(&self, number: usize, step: impl FnOnce() -> T) -> Option<T> {
        let lock = self.lock();
        let waiting = |turn: &mut Turn| turn.next != number && !turn.over;
        let lock = self.moved.wait_while(lock, waiting).unwrap_or_else(PoisonError::into_inner);
        if lock.over {
            return None;
        }
        // Nobody else can have the turn meanwhile; they need not wait for the lock to see that.
        drop(lock);
        let done = step();
        self.lock().next += 1;
        self.moved.notify_all();
        Some(done)
    }

    /// Says that an item will not take its turn, so that nobody waits for it.
    pub(super) fn give_up(&self) {
        self.lock().over = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn threads(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn every_item_is_done_once() {
        for (len, n) in [(0, 3), (1, 1), (1000, 1), (1000, 4)] {
            let done: Vec<_> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            let count = |(): &mut (), item: usize| {
                done[item].fetch_add(1, Ordering::Relaxed);
                Ok::<_, ()>(())
            };
            assert_eq!(share_out(0..len, threads(n), || (), count), Ok(()));
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn turns_come_in_order() {
        let (turns, taken) = (Turns::default(), Mutex::new(Vec::new()));
        let take = |(): &mut (), item: usize| turns.take(item, || taken.lock().unwrap().push(item)).ok_or(item);
        assert_eq!(share_out(0..1000, threads(4), || (), take), Ok(()));
        assert_eq!(taken.into_inner().unwrap(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_one_who_gave_up() {
        let turns = Turns::default();
        let take = |(): &mut (), item: usize| {
            if item == 70 {
                turns.give_up();
                return Err(70);
            }
            // Whoever gets no turn is not to blame.
            turns.take(item, || ());
            Ok(())
        };
        assert_eq!(share_out(0..1_000, threads(4), || (), take), Err(70));
    }

    #[test]
    fn the_first_error_wins_and_ends_the_work() {
        let done = AtomicUsize::new(0);
        let fail_late = |(): &mut (), item: usize| {
            done.fetch_add(1, Ordering::Relaxed);
            if item >= 70 { Err(item) } else { Ok(()) }
        };
        assert_eq!(share_out(0..1_000_000, threads(4), || (), fail_late), Err(70));
        assert!(done.into_inner() < 1_000);
    }
}
