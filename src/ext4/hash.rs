//! Half MD4, the hash that orders an htree directory.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/directory.rst`, "Hash Tree Directories", which
//! describes a hash of three MD4-like rounds of eight steps over 32 bytes of name at a time.

/// The key of a directory entry in an htree: entries are sorted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameHash {
    /// The half that htree nodes store. Its lowest bit is always clear: they use it as a flag.
    pub major: u32,
    /// The half that only orders entries of the same major hash.
    pub minor: u32,
}

/// A filesystem's own key to the hash (`s_hash_seed`), so that names do not collide alike everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub [u32; 4]);

/// Taken instead of a seed of zeros: MD4's initial state.
const DEFAULT_SEED: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The largest major hash is reserved to mean "end of directory" to the kernel's readdir.
const END_OF_DIRECTORY: u32 = 0x7fff_ffff << 1;

impl HashSeed {
    /// The seed made of a UUID's bytes, as an on-disk superblock holds them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        Self(std::array::from_fn(|i| u32::from_le_bytes(words[i])))
    }

    /// The hash of a file name.
    pub fn hash(self, name: &[u8]) -> NameHash {
        let mut state = if self.0 == [0; 4] { DEFAULT_SEED } else { self.0 };
        let mut rest = name;
        while !rest.is_empty() {
            mix(&mut state, words(rest));
            rest = rest.get(32..).unwrap_or_default();
        }
        let major = state[1] & !1;
        let major = if major == END_OF_DIRECTORY { END_OF_DIRECTORY - 2 } else { major };
        NameHash { major, minor: state[2] }
    }
}

/// Up to 32 bytes as eight words, most significant byte first, filled up with the remaining length.
///
/// Bytes count as signed ([`FLAGS_SIGNED_HASH`](super::format::FLAGS_SIGNED_HASH)), which shows in non-ASCII names.
fn words(rest: &[u8]) -> [u32; 8] {
    #[allow(clippy::cast_possible_truncation, reason = "names are at most 255 bytes long")]
    let padding = u32::from_le_bytes([rest.len() as u8; 4]);
    std::array::from_fn(|word| {
        let bytes = rest.iter().skip(4 * word).take(4);
        bytes.fold(padding, |value, &byte| (value << 8).wrapping_add_signed(i32::from(byte.cast_signed())))
    })
}

/// Mixes eight words of input into the state.
fn mix(state: &mut [u32; 4], input: [u32; 8]) {
    type Boolean = fn(u32, u32, u32) -> u32;
    /// One round: its function, its constant, the order of the inputs, its four rotations.
    const ROUNDS: [(Boolean, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| (x & y) | (!x & z), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y) | (x & z) | (y & z), 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (boolean, constant, order, rotations) in ROUNDS {
        for (step, index) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(boolean(b, c, d)).wrapping_add(input[index]).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(rotations[step % 4]), b, c);
        }
    }
    for (word, mixed) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(mixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `debugfs -R 'dx_hash -h half_md4 -s <seed> <name>'` says.
    #[test]
    fn agrees_with_debugfs() {
        let seed = HashSeed::from_bytes(*uuid::uuid!("333fa1eb-588c-456e-b81c-d1d343cd0e01").as_bytes());
        let hash = |name: &str| seed.hash(name.as_bytes());
        assert_eq!(hash("hello"), NameHash { major: 0x0a5a_fb0a, minor: 0xd2dd_fff6 });
        assert_eq!(hash("Főtanúsítvány=Class_Gold_of_more_than_32_bytes"), NON_ASCII);
        assert_eq!(hash(&"x".repeat(255)), LONGEST);
        assert_eq!(HashSeed([0; 4]).hash(b"hello"), UNSEEDED);
    }

    const NON_ASCII: NameHash = NameHash { major: 0x9d1e_d732, minor: 0x8712_1ec8 };
    const LONGEST: NameHash = NameHash { major: 0x0164_eb82, minor: 0x5ca1_49d9 };
    const UNSEEDED: NameHash = NameHash { major: 0x1746_da32, minor: 0x4200_13b5 };
}
