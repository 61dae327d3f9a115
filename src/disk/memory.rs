//! A part of a disk in memory. It keeps what is written and is not zero.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes that are kept together.
const PAGE: usize = 4096;
/// The parts of a page that are kept only if they are not all zeros: most directories are a few names in a block.
const PART: usize = 512;

/// Bytes that read as zeros until they are written. Several threads may write at once.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<u64, Packed>>);

/// A page without its parts of zeros.
#[derive(Debug, Default)]
struct Packed {
    /// A bit for each part that is kept.
    kept: u8,
    bytes: Box<[u8]>,
}

const _: () = assert!(PAGE / PART == 8, "a bit for each part");

impl Packed {
    fn of(page: &[u8; PAGE]) -> Self {
        let mut kept = 0;
        let mut bytes = Vec::new();
        for (number, part) in page.chunks_exact(PART).enumerate() {
            if part.iter().any(|&byte| byte != 0) {
                kept |= 1 << number;
                bytes.extend_from_slice(part);
            }
        }
        Self { kept, bytes: bytes.into_boxed_slice() }
    }

    fn unpack(&self, page: &mut [u8; PAGE]) {
        let mut bytes = self.bytes.chunks_exact(PART);
        for (number, part) in page.chunks_exact_mut(PART).enumerate() {
            match (self.kept >> number & 1 == 1).then(|| bytes.next()).flatten() {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
        }
    }
}

impl Memory {
    /// Puts `bytes` from byte `at` on.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut pages = self.lock();
        for (number, inside, part) in parts(at, bytes.len()) {
            let packed = pages.entry(number).or_default();
            let mut page = [0; PAGE];
            packed.unpack(&mut page);
            page[inside].copy_from_slice(&bytes[part]);
            *packed = Packed::of(&page);
        }
    }

    /// Fills `buffer` from byte `at` on.
    pub fn read(&self, at: u64, buffer: &mut [u8]) {
        let pages = self.lock();
        buffer.fill(0);
        let Some(last) = (buffer.len() as u64).checked_sub(1) else { return };
        let mut page = [0; PAGE];
        for (&number, packed) in pages.range(at / PAGE as u64..=(at + last) / PAGE as u64) {
            let start = number * PAGE as u64;
            packed.unpack(&mut page);
            let (from, to) = (start.max(at), (start + PAGE as u64).min(at + buffer.len() as u64));
            let index = |byte: u64, base: u64| usize::try_from(byte - base).expect("within a page and the buffer");
            buffer[index(from, at)..index(to, at)].copy_from_slice(&page[index(from, start)..index(to, start)]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Packed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages that `len` bytes from `at` on are in: the number of each, and the range in it and among those bytes.
fn parts(at: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + done as u64;
        let start = usize::try_from(here % PAGE as u64).expect("less than a page");
        let part = (len - done).min(PAGE - start);
        let found = (part > 0).then(|| (here / PAGE as u64, start..start + part, done..done + part));
        done += part;
        found
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_and_all_others_are_zeros(
            writes in prop::collection::vec((0..40_000_usize, 0..9_000_usize, 0..3_u8), 0..12),
            reads in prop::collection::vec((0..40_000_usize, 0..20_000_usize), 1..6),
        ) {
            let (memory, mut wanted) = (Memory::default(), vec![0; 60_000]);
            for (at, len, byte) in writes {
                memory.write(at as u64, &vec![byte; len]);
                wanted[at..at + len].fill(byte);
            }
            for (at, len) in reads {
                let mut read = vec![9; len];
                memory.read(at as u64, &mut read);
                prop_assert_eq!(&read, &wanted[at..at + len]);
            }
        }
    }

    #[test]
    fn places_may_be_far() {
        let memory = Memory::default();
        memory.write(1 << 60, b"far");
        let mut far = [1; 5];
        memory.read((1 << 60) - 1, &mut far);
        assert_eq!(&far, b"\0far\0");
    }
}
