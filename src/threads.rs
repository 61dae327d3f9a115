//! Runs work on several threads, but on no more than there is work for. If the system gives no thread, the calling
//! thread does everything.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, ScopedJoinHandle};

pub(crate) use self::turns::Turns;
use crate::progress::Cancel;

mod turns;

/// Runs `work` on up to `threads` threads, the calling one among them, and returns what each of them gave.
pub(crate) fn together<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = |_| Builder::new().spawn_scoped(scope, &work).ok();
        let others: Vec<_> = (1..threads).map_while(spawn).collect();
        let mut given = vec![work()];
        given.extend(others.into_iter().map(join));
        given
    })
}

/// Runs two pieces of work side by side, or one after the other on a single thread.
pub(crate) fn both<A, B: Send>(
    threads: NonZeroUsize,
    one: impl FnOnce() -> A,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let other = Mutex::new(Some(other));
    let take = || other.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let run = || take().map(|other| other());
        let spawned = (threads.get() > 1).then(|| Builder::new().spawn_scoped(scope, run).ok()).flatten();
        let one = one();
        let given = spawned.map_or_else(run, join);
        (one, given.expect("nobody else has taken it"))
    })
}

/// Like [`both`], but once one of them fails, the other is told that it works in vain.
///
/// # Errors
/// That of the one that failed first.
pub(crate) fn both_or_none<A, B: Send, E: Send>(
    threads: NonZeroUsize,
    cancel: &Cancel,
    one: impl FnOnce(&Cancel) -> Result<A, E>,
    other: impl FnOnce(&Cancel) -> Result<B, E> + Send,
) -> Result<(A, B), E> {
    let cancel = &cancel.for_part();
    let first = AtomicUsize::new(0);
    let failed = |which| {
        let _ = first.compare_exchange(0, which, Ordering::Relaxed, Ordering::Relaxed);
        cancel.tell_in_vain();
    };
    let given = both(threads, || one(cancel).inspect_err(|_| failed(1)), || other(cancel).inspect_err(|_| failed(2)));
    match given {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(_), Err(error)) if first.into_inner() == 2 => Err(error),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Calls `work` once for each item, on up to `threads` threads, each with a worker of its own.
///
/// # Errors
/// Of the errors that occurred, that of the earliest item; items not yet begun are given up.
pub(crate) fn share_out<T, W, E: Send>(
    items: impl Iterator<Item = T> + Send,
    threads: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let most = items.size_hint().1.unwrap_or(usize::MAX);
    let items = Mutex::new(items.enumerate());
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next().filter(|_| !stop.load(Ordering::Relaxed));
    together(threads.get().min(most), || {
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
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// The result of a thread; its panic goes on in ours.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
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
            let count = |(): &mut (), item: usize| {
                done[item].fetch_add(1, Ordering::Relaxed);
                Ok::<_, ()>(())
            };
            assert_eq!(share_out(0..len, threads(n), || (), count), Ok(()));
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn there_are_no_more_workers_than_items() {
        let workers = AtomicUsize::new(0);
        let worker = || _ = workers.fetch_add(1, Ordering::Relaxed);
        assert_eq!(share_out(0..3, threads(1_000_000), worker, |_, _| Ok::<_, ()>(())), Ok(()));
        assert!(workers.into_inner() <= 3);
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

    #[test]
    fn two_pieces_of_work_give_both_results() {
        for n in [1, 2] {
            assert_eq!(both(threads(n), || 1, || "two"), (1, "two"));
            let cancel = Cancel::new();
            assert_eq!(both_or_none(threads(n), &cancel, |_| Ok::<_, ()>(1), |_| Ok("two")), Ok((1, "two")));
        }
    }

    /// Would wait for ever if it were not told.
    fn wait(cancel: &Cancel) -> Result<(), &'static str> {
        loop {
            cancel.check().map_err(|_| "in vain")?;
            thread::yield_now();
        }
    }

    #[test]
    fn what_fails_ends_what_runs_beside_it() {
        let cancel = Cancel::new();
        for n in [1, 2] {
            assert_eq!(both_or_none(threads(n), &cancel, |_| Err::<(), _>("one"), wait), Err("one"));
        }
        assert_eq!(both_or_none(threads(2), &cancel, wait, |_| Err::<(), _>("two")), Err("two"));
        // What is a part of a part is told, too.
        let parts = |cancel: &Cancel| both_or_none(threads(2), cancel, wait, wait).map(drop);
        assert_eq!(both_or_none(threads(2), &cancel, parts, |_| Err::<(), _>("two")), Err("two"));
        assert_eq!(cancel.check(), Ok(()));
        cancel.request(15);
        let stopped = |cancel: &Cancel| cancel.check();
        assert_eq!(both_or_none(threads(2), &cancel, stopped, stopped).unwrap_err().signal, 15);
    }
}
