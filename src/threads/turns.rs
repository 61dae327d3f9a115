//! Makes threads take turns in a fixed order.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lets threads do one step of their work in the order of their items, whichever thread comes first.
#[derive(Default)]
pub(crate) struct Turns {
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
    pub(crate) fn take<T>(&self, number: usize, step: impl FnOnce() -> T) -> Option<T> {
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

    /// What a thread holds while it has an item: it takes its turn, or all who wait for it learn that it never will.
    pub(crate) fn way_out(&self) -> WayOut<'_> {
        WayOut(self)
    }

    /// Says that an item will not take its turn, so that nobody waits for it.
    fn give_up(&self) {
        self.lock().over = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives up when it is dropped, unless the item is [`done`](Self::done).
pub(crate) struct WayOut<'a>(&'a Turns);

impl WayOut<'_> {
    /// The item had its turn, and all is well.
    pub(crate) fn done(self) {
        mem::forget(self);
    }
}

impl Drop for WayOut<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::threads::share_out;

    const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();

    #[test]
    fn turns_come_in_order() {
        let (turns, taken) = (Turns::default(), Mutex::new(Vec::new()));
        let take = |(): &mut (), item: usize| turns.take(item, || taken.lock().unwrap().push(item)).ok_or(item);
        assert_eq!(share_out(0..1000, FOUR, || (), take), Ok(()));
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
        assert_eq!(share_out(0..1_000, FOUR, || (), take), Err(70));
    }
}
