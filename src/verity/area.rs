//! A hash area as it is found.

use uuid::Uuid;
use zerocopy::FromBytes;

use super::format::{DIGEST_SIZE, HASH_TYPE, SHA256, SIGNATURE, Superblock, VERSION};
use super::hash::Hasher;
use super::layout::{BlockSize, Layout, Shape};
use super::{RootHash, Salt};
use crate::read::{Bytes, Fault, ReadError, escape};
use crate::units::ByteOffset;

/// A hash area. Nothing that its superblock says need be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The UUID of the hash area.
    pub uuid: Uuid,
    /// The algorithm, as the kernel names it. It may hold anything: to be escaped.
    pub algorithm: String,
    /// What is hashed before each block, or as much of it as there is room for.
    pub salt: Salt,
    /// The number of data blocks.
    pub data_blocks: u64,
    /// The bytes of a data block.
    pub data_block_size: u32,
    /// The bytes of a hash block.
    pub hash_block_size: u32,
    version: u32,
    hash_type: u32,
    salt_size: u16,
    has_reserved: bool,
    layout: Option<Layout>,
}

impl Area {
    /// The hash area at the start of `bytes`, or `None` if there is no superblock.
    pub fn find(bytes: &dyn Bytes) -> Option<Self> {
        let mut superblock = [0; size_of::<Superblock>()];
        bytes.read_exact_at(ByteOffset(0), &mut superblock).ok()?;
        let superblock = Superblock::read_from_bytes(&superblock).ok()?;
        if superblock.signature != SIGNATURE {
            return None;
        }
        let salt_size = superblock.salt_size.get();
        let salt = superblock.salt.get(..usize::from(salt_size)).unwrap_or(&superblock.salt);
        let algorithm = superblock.algorithm.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut area = Self {
            uuid: Uuid::from_bytes(superblock.uuid),
            algorithm: String::from_utf8_lossy(algorithm).into_owned(),
            salt: Salt::new(salt)?,
            data_blocks: superblock.data_blocks.get(),
            data_block_size: superblock.data_block_size.get(),
            hash_block_size: superblock.hash_block_size.get(),
            version: superblock.version.get(),
            hash_type: superblock.hash_type.get(),
            salt_size,
            has_reserved: superblock.pad1 != [0; 6] || superblock.pad2 != [0; 168],
            layout: None,
        };
        area.layout = area.find_layout();
        Some(area)
    }

    fn find_layout(&self) -> Option<Layout> {
        let is_ours = self.version == VERSION && self.hash_type == HASH_TYPE && self.algorithm.as_bytes() == SHA256;
        let data_block_size = BlockSize::new(self.data_block_size)?;
        let hash_block_size = BlockSize::new(self.hash_block_size)?;
        let (uuid, salt, data_blocks) = (self.uuid, self.salt.clone(), self.data_blocks);
        is_ours.then(|| Layout::of(Shape { uuid, salt, data_blocks, data_block_size, hash_block_size }).ok())?
    }

    /// Where its levels are, or `None` if it is not one that can be recomputed here.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    /// The bytes of data that it says that it covers.
    pub fn data_size(&self) -> u64 {
        self.data_blocks.saturating_mul(self.data_block_size.into())
    }

    /// Why no kernel would take it in a partition of `size` bytes.
    pub fn faults(&self, size: u64) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |why: String| faults.push(Fault { what: "dm-verity superblock".to_owned(), why });
        if self.version != VERSION {
            fault(format!("is of version {}, but there is only version {VERSION}", self.version));
        }
        if self.hash_type > HASH_TYPE {
            fault(format!("says hash type {}, but there are only 0 and {HASH_TYPE}", self.hash_type));
        }
        for (what, bytes) in [("data", self.data_block_size), ("hash", self.hash_block_size)] {
            if BlockSize::new(bytes).is_none() {
                fault(format!("says that {what} blocks have {bytes} bytes: no power of two from 512 to 524288"));
            }
        }
        if usize::from(self.salt_size) > self.salt.as_bytes().len() {
            fault(format!("says that the salt has {} bytes, more than the superblock has", self.salt_size));
        }
        if self.has_reserved {
            fault("reserved bytes are not zero".to_owned());
        }
        match &self.layout {
            Some(layout) if layout.size() > size => {
                fault(format!("needs {} bytes for its tree, but the partition has {size} bytes", layout.size()));
            }
            None if self.unsupported().is_none() && self.version == VERSION && self.has_block_sizes() => {
                fault(format!("says that there are {} data blocks: there is no such tree", self.data_blocks));
            }
            _ => {}
        }
        faults
    }

    fn has_block_sizes(&self) -> bool {
        BlockSize::new(self.data_block_size).and(BlockSize::new(self.hash_block_size)).is_some()
    }

    /// What of a sound superblock keeps the tree from being recomputed here, in words.
    pub fn unsupported(&self) -> Option<String> {
        if self.algorithm.as_bytes() != SHA256 {
            return Some(format!("its algorithm is {:?}, not sha256", escape::text(&self.algorithm)));
        }
        (self.hash_type == 0).then(|| "its salt stands behind the blocks (hash type 0)".to_owned())
    }

    /// The hash of the top block; `None` if there is none (over a single data block), or not one that can be computed.
    ///
    /// # Errors
    /// If the area cannot be read, or is shorter than its tree.
    pub fn root(&self, bytes: &dyn Bytes) -> Result<Option<RootHash>, ReadError> {
        let Some(layout) = &self.layout else { return Ok(None) };
        let Some(top) = layout.levels().last() else { return Ok(None) };
        let Shape { salt, hash_block_size, .. } = layout.shape();
        let mut block = vec![0; hash_block_size.as_usize()];
        bytes.read_exact_at(top.start, &mut block)?;
        Ok(Some(RootHash(Hasher::new(salt, *hash_block_size).digest(&block))))
    }
}

/// The digest with this number in some bytes.
pub(super) fn digest_at(bytes: &[u8], number: u64) -> Option<&[u8]> {
    let start = usize::try_from(number).ok()?.checked_mul(DIGEST_SIZE)?;
    bytes.get(start..start.checked_add(DIGEST_SIZE)?)
}
