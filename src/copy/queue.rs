//! Shares out numbered work among threads, in order and a batch at a time.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Neighbouring items that one thread takes at a time: enough that threads rarely meet at the counter.
const BATCH: usize = 32;

/// Calls `work` once for each of `0..len`, on `threads` threads, each with a worker of its own.
///
/// # Errors
/// Of the errors that occurred, the one with the lowest item; items not yet begun are given up.
pub(super) fn drain<W, E: Send>(
    len: usize,
    threads: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let run = || {
        let mut worker = worker();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= len {
                return;
            }
            for item in start..len.min(start + BATCH) {
                if let Err(error) = work(&mut worker, item) {
                    let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    if failed.as_ref().is_none_or(|(first, _)| item < *first) {
                        *failed = Some((item, error));
                    }
                    // Everything later is given up; what others have begun they finish.
                    next.fetch_max(len, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(len.div_ceil(BATCH)) {
            scope.spawn(run);
        }
        run();
    });
    let failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn every_item_is_done_once() {
        for (len, n) in [(0, 3), (1, 1), (1000, 1), (1000, 4)] {
            let done: Vec<_> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            let result: Result<(), ()> = drain(
                len,
                threads(n),
                || (),
                |(), item| {
                    done[item].fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            );
            assert_eq!(result, Ok(()));
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn the_first_error_wins_and_ends_the_work() {
        let done = AtomicUsize::new(0);
        let result = drain(
            1_000_000,
            threads(4),
            || (),
            |(), item| {
                done.fetch_add(1, Ordering::Relaxed);
                if item >= 70 { Err(item) } else { Ok(()) }
            },
        );
        assert_eq!(result, Err(70));
        assert!(done.into_inner() < 1_000);
    }
}
