//! Hashes blocks.

use sha2::{Digest as _, Sha256};

use super::Salt;
use super::format::DIGEST_SIZE;
use super::layout::BlockSize;

/// The digest of a block.
pub(super) type Digest = [u8; DIGEST_SIZE];

/// Hashes blocks of one size with one salt.
#[derive(Clone)]
pub(super) struct Hasher {
    salted: Sha256,
    of_zeros: Digest,
}

impl Hasher {
    pub(super) fn new(salt: &Salt, size: BlockSize) -> Self {
        let salted = Sha256::new_with_prefix(salt.as_bytes());
        let of_zeros = salted.clone().chain_update(vec![0; size.as_usize()]).finalize().into();
        Self { salted, of_zeros }
    }

    /// The digest of a whole block.
    pub(super) fn digest(&self, block: &[u8]) -> Digest {
        // Free space is long, and looking is far faster than hashing.
        if is_zero(block) { self.of_zeros } else { self.salted.clone().chain_update(block).finalize().into() }
    }

    /// Appends the digests of the blocks of `size` bytes in `bytes`.
    pub(super) fn digests(&self, bytes: &[u8], size: BlockSize, to: &mut Vec<u8>) {
        bytes.chunks_exact(size.as_usize()).for_each(|block| to.extend_from_slice(&self.digest(block)));
    }
}

/// Whether all bytes of a block, a multiple of 64 bytes, are zero. Most blocks are not zero from their start on.
fn is_zero(block: &[u8]) -> bool {
    block.chunks_exact(64).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_the_digest_of_zeros() {
        let size = BlockSize::default();
        let hasher = Hasher::new(&Salt::new(b"salt").unwrap(), size);
        let mut block = vec![0; size.as_usize()];
        let digest = |block: &[u8]| Digest::from(Sha256::new().chain_update(b"salt").chain_update(block).finalize());
        assert_eq!(hasher.digest(&block), digest(&block));
        for at in [0, 63, 64, 4095] {
            block.fill(0);
            block[at] = 0x80;
            assert!(!is_zero(&block));
            assert_eq!(hasher.digest(&block), digest(&block));
        }
    }
}
