//! Packs inodes with what follows them into blocks. Pure.

/// Slots in a block.
pub(super) const SLOTS: usize = 128;

/// Where things of at least a slot go so that few slots stay empty and none crosses the end of a block: for each, the
/// number of its first slot; and the number of blocks.
///
/// The longest go first, each into the fullest block that has room for it. What is longer than a block comes last, from
/// the start of a block on.
pub(super) fn pack(lengths: &[usize]) -> (Vec<usize>, usize) {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut places = vec![0; lengths.len()];
    let mut blocks = Rooms::default();
    let (longer, others): (Vec<_>, Vec<_>) = longest_first.into_iter().partition(|&index| lengths[index] > SLOTS);
    for index in others {
        places[index] = blocks.take(lengths[index]);
    }
    for index in longer {
        places[index] = blocks.count * SLOTS;
        blocks.count += lengths[index].div_ceil(SLOTS);
    }
    (places, blocks.count)
}

/// Blocks that are not full, by how many of their slots are free.
struct Rooms {
    by_free: [Vec<usize>; SLOTS + 1],
    count: usize,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { by_free: std::array::from_fn(|_| Vec::new()), count: 0 }
    }
}

impl Rooms {
    /// The first of `len` slots in the fullest block that has as many.
    fn take(&mut self, len: usize) -> usize {
        debug_assert!((1..=SLOTS).contains(&len));
        let found = (len..=SLOTS).find_map(|free| Some((free, self.by_free[free].pop()?)));
        let (free, block) = found.unwrap_or_else(|| {
            self.count += 1;
            (SLOTS, self.count - 1)
        });
        self.by_free[free - len].push(block);
        block * SLOTS + (SLOTS - free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_overlaps_or_crosses_a_block(lengths in prop::collection::vec(1..=SLOTS, 0..300), longer in 0..1000_usize) {
            let lengths: Vec<_> = lengths.into_iter().chain((longer > SLOTS).then_some(longer)).collect();
            let (places, blocks) = pack(&lengths);
            let mut taken = vec![false; blocks * SLOTS];
            for (place, len) in places.iter().zip(&lengths) {
                prop_assert_eq!(place / SLOTS + (*len).div_ceil(SLOTS) - 1, (place + len - 1) / SLOTS);
                for slot in &mut taken[*place..place + len] {
                    prop_assert!(!*slot);
                    *slot = true;
                }
            }
            // Two blocks of which each is at most half full would have been one.
            let used: usize = lengths.iter().sum();
            prop_assert!(blocks <= 1 || used * 2 > blocks * SLOTS);
        }
    }

    #[test]
    fn small_things_fill_the_gaps() {
        let lengths: Vec<usize> = (0..64).flat_map(|_| [70, 50, 8]).collect();
        assert_eq!(pack(&lengths).1, 64);
    }
}
