//! Keeps units of a container that were unpacked: compressed clusters, grains and frames.
//!
//! Threads that want different units wait for each other only during a look-up. Of threads that want the same unit, the
//! first one unpacks it, and the others wait.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::read::ReadError;

/// The memory for units, in bytes.
const BUDGET: usize = 64 << 20;
/// The parts that threads lock apart from each other.
const SHARDS: usize = 8;
/// The most units in a part: they are searched one after the other.
const UNITS_MAX: usize = 64;

/// One unit's bytes.
pub(super) type Unit = Arc<Vec<u8>>;

/// The last used units.
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    /// How many units a part has.
    units: usize,
}

#[derive(Default)]
struct Shard {
    /// The least recently used first.
    slots: Vec<(u64, Arc<Slot>)>,
}

/// A unit, or `None` while it is being unpacked.
type Slot = Mutex<Option<Unit>>;

impl Cache {
    /// Room for units of at most `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        let units = BUDGET.checked_div(SHARDS.saturating_mul(largest)).unwrap_or(UNITS_MAX).clamp(1, UNITS_MAX);
        Self { shards: std::array::from_fn(|_| Mutex::default()), units }
    }

    /// The unit of this number, unpacked by `unpack` if it is not there.
    ///
    /// # Errors
    /// Those of `unpack`.
    pub(super) fn get(
        &self,
        number: u64,
        unpack: impl FnOnce() -> Result<Vec<u8>, ReadError>,
    ) -> Result<Unit, ReadError> {
        let slot = self.slot(number);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unit) = &*slot {
            return Ok(Arc::clone(unit));
        }
        let unit = Arc::new(unpack()?);
        *slot = Some(Arc::clone(&unit));
        Ok(unit)
    }

    /// The place of a unit, which is now the last used one.
    fn slot(&self, number: u64) -> Arc<Slot> {
        let shards = SHARDS as u64;
        let shard = usize::try_from(number % shards).ok().and_then(|index| self.shards.get(index));
        let Some(shard) = shard else { return Arc::default() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut shard.slots;
        let found = match slots.iter().rposition(|(key, _)| *key == number) {
            Some(index) => slots.remove(index),
            None => {
                if slots.len() >= self.units {
                    slots.remove(0);
                }
                (number, Arc::default())
            }
        };
        let slot = Arc::clone(&found.1);
        slots.push(found);
        slot
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("units", &self.units).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let cache = Cache::new(16 << 20);
        let mut unpacked = Vec::new();
        for number in [0, 8, 8, 0, 16, 16, 1, 16] {
            let unpack = || {
                unpacked.push(number);
                Ok(vec![7])
            };
            cache.get(number, unpack).unwrap();
        }
        // One unit of this size has room in each part; 0, 8 and 16 are of one part.
        assert_eq!(unpacked, [0, 8, 0, 16, 1]);
    }

    #[test]
    fn what_fails_is_tried_again() {
        let cache = Cache::new(1);
        cache.get(1, || Err(ReadError::NotFound(String::new()))).unwrap_err();
        assert_eq!(*cache.get(1, || Ok(vec![1])).unwrap(), [1]);
        assert_eq!(*cache.get(1, || panic!("it is there")).unwrap(), [1]);
    }

    #[test]
    fn memory_is_bounded() {
        for largest in [0, 512, 1 << 16, 2 << 20, 16 << 20] {
            let cache = Cache::new(largest);
            (0..10_000).for_each(|number| drop(cache.get(number, || Ok(Vec::new())).unwrap()));
            let held = cache.shards.iter().map(|shard| shard.lock().unwrap().slots.len()).sum::<usize>();
            assert!(held > 0 && held * largest <= 2 * BUDGET, "{held} of {largest}");
        }
    }
}
