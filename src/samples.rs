//! Contents for tests.

/// Bytes that do not compress, others for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// Bytes that compress well, but not like a single run.
pub(crate) fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"the quick brown fox "[(i + i / 777) % 20]).collect()
}
