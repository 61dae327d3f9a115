//! dm-verity: a tree of hashes over the bytes of a partition. The kernel checks each block against it at each read.
//!
//! The root hash proves all of the data. It stands in the kernel's command line (`usrhash=` or `roothash=`), and its
//! two halves are the GUIDs of the data partition and of the hash partition (Discoverable Partitions Specification).
//!
//! ```text
//! hash partition   superblock │ top block │ …  │ level 1 │ level 0
//!                                                          one digest for each block of the data
//! ```
//!
//! [`Layout`] says where each level is, and is known before a byte of the data is. [`write`](fn@write) reads the data
//! once, on all cores, and gives the [`RootHash`]. [`Area::find`] reads a superblock again, [`check`](fn@check)
//! recomputes the tree.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use self::format::{DIGEST_SIZE, SALT_MAX};
use crate::identity::NAMESPACE;

mod area;
mod check;
pub mod format;
mod hash;
mod layout;
mod tree;

pub use area::Area;
pub use check::{Checked, Runs, check};
pub use layout::{BlockSize, Layout, LayoutError, Level, Shape};
pub use tree::{Data, Part, write};

/// The hash of the top of the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootHash([u8; DIGEST_SIZE]);

impl RootHash {
    /// The root hash with these bytes.
    pub fn new(bytes: [u8; DIGEST_SIZE]) -> Self {
        Self(bytes)
    }

    /// The GUID of the data partition: the first 128 bits.
    pub fn data_guid(&self) -> Uuid {
        Uuid::from_u128(u128::from_be_bytes(self.half(0)))
    }

    /// The GUID of the hash partition: the last 128 bits.
    pub fn hash_guid(&self) -> Uuid {
        Uuid::from_u128(u128::from_be_bytes(self.half(1)))
    }

    /// The root hash whose halves are these two GUIDs.
    pub fn of_guids(data: Uuid, hash: Uuid) -> Self {
        let mut bytes = [0; DIGEST_SIZE];
        let (first, last) = bytes.split_at_mut(DIGEST_SIZE / 2);
        first.copy_from_slice(data.as_bytes());
        last.copy_from_slice(hash.as_bytes());
        Self(bytes)
    }

    fn half(&self, number: usize) -> [u8; DIGEST_SIZE / 2] {
        let mut halves = self.0.chunks_exact(DIGEST_SIZE / 2);
        halves.nth(number).and_then(|half| half.try_into().ok()).unwrap_or_default()
    }
}

/// 64 hexadecimal digits, as `usrhash=` and `veritysetup` have it.
impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

impl Serialize for RootHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no root hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a root hash of {} hexadecimal digits", 2 * DIGEST_SIZE)]
pub struct BadRootHash;

impl FromStr for RootHash {
    type Err = BadRootHash;

    fn from_str(text: &str) -> Result<Self, BadRootHash> {
        let is_hex = text.len() == 2 * DIGEST_SIZE && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (first, last) = text.split_at_checked(DIGEST_SIZE).filter(|_| is_hex).ok_or(BadRootHash)?;
        let half = |digits| u128::from_str_radix(digits, 16).map(Uuid::from_u128).map_err(|_| BadRootHash);
        Ok(Self::of_guids(half(first)?, half(last)?))
    }
}

/// What is hashed before each block: at most 256 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(Vec<u8>);

impl Salt {
    /// The salt of these bytes, or `None` if it is too long for a superblock.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= SALT_MAX).then(|| Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Hexadecimal digits, or `-` if it is empty, as `veritysetup` has it.
impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { hex(f, &self.0) }
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({self})")
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// What tells one hash area from another. Nothing in it is random: it follows from the UUID of the filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UUID of the hash area.
    pub uuid: Uuid,
    /// The salt: 32 bytes, as `veritysetup` and `systemd-repart` have it.
    pub salt: Salt,
}

impl Identity {
    /// The identity of the hash area over the filesystem with this UUID.
    pub fn of(filesystem: Uuid) -> Self {
        let derive = |what: &str| format!("{what} of filesystem {filesystem}");
        let salt = Sha256::new().chain_update(NAMESPACE.as_bytes()).chain_update(derive("verity salt")).finalize();
        Self { uuid: Uuid::new_v5(&NAMESPACE, derive("verity hash area").as_bytes()), salt: Salt(salt.to_vec()) }
    }
}

/// What `layout.json` and `plan` say of a hash partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// 64 hexadecimal digits; null as long as the data is not written.
    pub root_hash: Option<RootHash>,
    /// Hexadecimal digits.
    pub salt: Salt,
    /// The UUID of the hash area.
    pub uuid: Uuid,
    /// The bytes of the data partition that the tree covers, from its first one.
    pub data_size: u64,
    /// The bytes of the superblock's block and the tree.
    pub hash_size: u64,
}

impl Described {
    /// The description of a hash area.
    pub fn new(layout: &Layout, root_hash: Option<RootHash>) -> Self {
        let Shape { uuid, salt, .. } = layout.shape().clone();
        Self { root_hash, salt, uuid, data_size: layout.data_size(), hash_size: layout.size() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    #[test]
    fn the_halves_of_a_root_hash_are_the_guids() {
        let root: RootHash = HEX.parse().unwrap();
        assert_eq!(root.to_string(), HEX);
        assert_eq!(root.data_guid().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(root.hash_guid().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(RootHash::of_guids(root.data_guid(), root.hash_guid()), root);
        assert_eq!(HEX.to_uppercase().parse(), Ok(root));
        for text in ["", "00", &HEX[1..], &format!("{HEX}0"), &HEX.replace('f', "+"), &HEX.replace("ff", "é")] {
            assert_eq!(text.parse::<RootHash>(), Err(BadRootHash), "{text}");
        }
    }

    #[test]
    fn identities_follow_from_the_filesystem() {
        let [one, other] = [1, 2].map(|number| Identity::of(Uuid::from_u128(number)));
        assert_eq!(one, Identity::of(Uuid::from_u128(1)));
        assert_ne!(one.uuid, other.uuid);
        assert_ne!(one.salt, other.salt);
        assert_eq!(one.salt.as_bytes().len(), 32);
        assert_eq!(Salt::new(&[0; 257]), None);
        assert_eq!(Salt::new(&[]).unwrap().to_string(), "-");
        assert_eq!(Salt::new(&[1, 0xab]).unwrap().to_string(), "01ab");
    }
}
