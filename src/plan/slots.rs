//! The sizes of slots for updates. Pure.

use thiserror::Error;

use crate::spec::Updates;
use crate::units::{MIB, align_up};

/// What is to be there has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SlotError {
    /// The store is larger than its slot.
    #[error("updates.slotSize: {slot} bytes are too few: the store needs {needed}; set slotSize to {} at least", needed.next_multiple_of(MIB))]
    Store {
        /// The size asked for, in bytes.
        slot: u64,
        /// What the filesystem of the store needs, in bytes.
        needed: u64,
    },
}

/// The size in bytes of each slot of the store, which now needs `data` bytes: by default half as much again.
///
/// # Errors
/// If the size asked for is too small.
pub fn slot_size(updates: &Updates, data: u64) -> Result<u64, SlotError> {
    match updates.slot_size {
        Some(slot) if slot < data => Err(SlotError::Store { slot, needed: data }),
        Some(slot) => Ok(slot),
        // What is too large is told when partitions get their places.
        None => Ok(align_up(data.saturating_add(data / 2), MIB).unwrap_or(u64::MAX - u64::MAX % MIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(slot_size: Option<u64>) -> Updates {
        Updates { name: "host".to_owned(), version: "1".to_owned(), slot_size }
    }

    #[test]
    fn a_slot_has_room_for_growth() {
        for (data, slot) in [(1, MIB), (2 * MIB, 3 * MIB), (2 * MIB + 4096, 4 * MIB), (100 * MIB, 150 * MIB)] {
            assert_eq!(slot_size(&updates(None), data), Ok(slot), "{data}");
        }
        assert!(slot_size(&updates(None), u64::MAX).is_ok_and(|slot| slot.is_multiple_of(MIB)));
    }

    #[test]
    fn a_slot_has_the_size_asked_for() {
        let asked_for = updates(Some(8 * MIB));
        for data in [1, 8 * MIB] {
            assert_eq!(slot_size(&asked_for, data), Ok(8 * MIB));
        }
        let told = slot_size(&asked_for, 8 * MIB + 1).unwrap_err().to_string();
        assert_eq!(
            told,
            "updates.slotSize: 8388608 bytes are too few: the store needs 8388609; set slotSize to 9437184 at least"
        );
    }
}
