//! Changes to inputs that patch an image: a field is changed as a whole, to what fields of images hold.

use libfuzzer_sys::fuzzer_mutate;

use crate::targets::base::{Base, PATCH_HEAD};
use crate::targets::images::bases;

/// The same numbers for the same seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Changes the first `size` bytes of `data`; tells how many there are then.
pub fn mutate(target: &str, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let bases = bases(target);
    let mut numbers = Numbers((u64::from(seed) << 16) ^ 0x9e37_79b9_7f4a_7c15);
    if bases.is_empty() || numbers.below(3) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    if size == 0 {
        data[0] = numbers.next() as u8;
        return 1;
    }
    let base = &bases[usize::from(data[0]) % bases.len()];
    let patch = patch(base, &mut numbers);
    let starts = starts(&data[1..size]);
    let end = starts.last().map_or(1, |last| 1 + last);
    // In the place of a patch that is there, or after all of them.
    let kept = if starts.len() > 1 && numbers.below(2) == 0 {
        let chosen = usize::try_from(numbers.below(starts.len() as u64 - 1)).unwrap_or(0);
        let (from, to) = (1 + starts[chosen], 1 + starts[chosen + 1]);
        data.copy_within(to..end, from);
        end - (to - from)
    } else {
        end
    };
    if kept + patch.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[kept..kept + patch.len()].copy_from_slice(&patch);
    kept + patch.len()
}

/// Where whole patches start, and where the last of them ends.
fn starts(patches: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while let Some(head) = patches.get(at..at + PATCH_HEAD) {
        at += PATCH_HEAD + usize::from(head[3] & 15) + 1;
        if at > patches.len() {
            break;
        }
        starts.push(at);
    }
    starts
}

fn patch(base: &Base, numbers: &mut Numbers) -> Vec<u8> {
    let width = 1usize << numbers.below(4);
    let place = numbers.below(base.places()) & !(width as u64 - 1);
    let mut old = [0; 8];
    base.at(place, &mut old);
    let old = u64::from_le_bytes(old);
    let mut other = [0; 8];
    base.at(numbers.below(base.places()) & !(width as u64 - 1), &mut other);
    let bits = 8 * width as u64;
    let value = match numbers.below(8) {
        0 => 0,
        1 => u64::MAX >> numbers.below(bits),
        2 => 1 << numbers.below(bits),
        3 => old.wrapping_add(1 + numbers.below(16)),
        4 => old.wrapping_sub(1 + numbers.below(16)),
        5 => old ^ 1 << numbers.below(bits),
        6 => u64::from_le_bytes(other),
        _ => numbers.next() >> numbers.below(64),
    };
    let place = place.to_le_bytes();
    let one_copy = if numbers.below(8) == 0 { 0x80 } else { 0 };
    let mut patch = vec![place[0], place[1], place[2], (width as u8 - 1) | one_copy];
    patch.extend(&value.to_le_bytes()[..width]);
    patch
}
