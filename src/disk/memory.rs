//! A part of a disk in memory: what is written there and is not zero.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes that are kept together. Metadata lies in long runs, so that little is kept in vain.
const CHUNK: usize = 32 << 10;

/// Bytes that read as zeros until they are written. Several threads may write at once.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<u64, Box<[u8; CHUNK]>>>);

impl Memory {
    /// Puts `bytes` from byte `at` on.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut chunks = self.lock();
        for (number, inside, part) in parts(at, bytes.len()) {
            let chunk = chunks.entry(number).or_insert_with(|| Box::new([0; CHUNK]));
            chunk[inside].copy_from_slice(&bytes[part]);
        }
    }

    /// Fills `buffer` from byte `at` on.
    pub fn read(&self, at: u64, buffer: &mut [u8]) {
        let chunks = self.lock();
        for (number, inside, part) in parts(at, buffer.len()) {
            match chunks.get(&number) {
                Some(chunk) => buffer[part].copy_from_slice(&chunk[inside]),
                None => buffer[part].fill(0),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8; CHUNK]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks that `len` bytes from `at` on are in: the number of each, and the range in it and among those bytes.
fn parts(at: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + done as u64;
        let start = usize::try_from(here % CHUNK as u64).expect("less than a chunk");
        let part = (len - done).min(CHUNK - start);
        let found = (part > 0).then(|| (here / CHUNK as u64, start..start + part, done..done + part));
        done += part;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_all_others_are_zeros() {
        let memory = Memory::default();
        let start = 5 * CHUNK as u64 - 3;
        memory.write(start, &[7; CHUNK + 9]);
        memory.write(1 << 60, b"far");
        memory.write(0, b"");
        let mut read = vec![1; CHUNK + 11];
        memory.read(start - 1, &mut read);
        assert_eq!((read[0], read[CHUNK + 10]), (0, 0));
        assert!(read[1..CHUNK + 10].iter().all(|&byte| byte == 7));
        let mut far = [1; 5];
        memory.read((1 << 60) - 1, &mut far);
        assert_eq!(&far, b"\0far\0");
    }
}
