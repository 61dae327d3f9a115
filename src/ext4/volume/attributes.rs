//! The names of extended attributes. They stand in an inode, in a block of their own, or in both.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/attributes.rst`.

use super::super::format::{self, XATTR_MAGIC, XattrEntry, XattrHeader};
use super::{Disk, Inode, Shape, Sums, parse};
use crate::read::ReadError;

/// Entries and the end of their list start at multiples of this many bytes.
const ALIGNMENT: usize = 4;
/// The attribute in which contents stand that fit into an inode.
const INLINE_DATA: &[u8] = b"system.data";

/// What the index of a name stands for, by index.
const PREFIXES: [&str; 10] = [
    "",
    "user.",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.",
    "",
    "security.",
    "system.",
    "system.richacl",
    "encryption.",
];

impl Disk<'_> {
    /// The names of an inode's extended attributes, or of what is wrong with them.
    ///
    /// # Errors
    /// Whatever is wrong with them; `what` names the inode.
    pub(in crate::ext4) fn attributes(&self, inode: &Inode, what: &str) -> Result<Vec<Vec<u8>>, ReadError> {
        let corrupt = |why: &str| ReadError::corrupt(what, why);
        let broken = || corrupt("has extended attributes that do not end");
        let raw = self.raw_inode(inode.number)?;
        let mut names = match raw.get(inode.end()..).filter(|_| inode.end() > Inode::CLASSIC) {
            Some(area) if starts_with_magic(area) => names(area.get(4..).unwrap_or_default()).ok_or_else(broken)?,
            _ => Vec::new(),
        };
        let block = inode.xattr_block();
        if block != 0 {
            if !self.shape().holds(block, 1) {
                return Err(corrupt("has its extended attributes outside the filesystem"));
            }
            let bytes = self.read_block(block)?;
            let header = parse::<XattrHeader>(&bytes).filter(|header| header.magic.get() == XATTR_MAGIC);
            let header = header.ok_or_else(|| corrupt("has no extended attributes where they should be"))?;
            let sum = self.shape().attributes_sum(block, &bytes);
            if self.shape().sums == Sums::Crc32c && sum != Some(header.checksum.get()) {
                return Err(corrupt("has extended attributes with a wrong checksum"));
            }
            names.extend(self::names(bytes.get(size_of::<XattrHeader>()..).unwrap_or_default()).ok_or_else(broken)?);
        }
        if inode.has(format::INODE_INLINE_DATA) {
            names.retain(|name| name != INLINE_DATA);
        }
        Ok(names)
    }
}

impl Shape {
    /// The checksum that a block of attributes should have: it starts from the block's number.
    pub(in crate::ext4) fn attributes_sum(&self, block: u64, bytes: &[u8]) -> Option<u32> {
        let seed = self.seed.with(&block.to_le_bytes());
        Some(seed.with(bytes.get(..16)?).with(&[0; 4]).with(bytes.get(20..)?).value())
    }
}

fn starts_with_magic(area: &[u8]) -> bool {
    area.first_chunk().is_some_and(|magic| u32::from_le_bytes(*magic) == XATTR_MAGIC)
}

/// The names of a list of entries, which ends at four zeros; `None` if it does not.
fn names(mut list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    while list.first_chunk()? != &[0; ALIGNMENT] {
        let entry: XattrEntry = parse(list)?;
        let rest = list.get(size_of::<XattrEntry>()..)?;
        let len = usize::from(entry.name_len);
        let prefix = match PREFIXES.get(usize::from(entry.name_index)) {
            Some(prefix) => (*prefix).to_owned(),
            None => format!("{}.", entry.name_index),
        };
        names.push([prefix.as_bytes(), rest.get(..len)?].concat());
        list = rest.get(len.next_multiple_of(ALIGNMENT)..)?;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u8, name: &str) -> Vec<u8> {
        let len = u8::try_from(name.len()).unwrap();
        let mut bytes = [&[len, index][..], &[0; 14], name.as_bytes()].concat();
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    #[test]
    fn lists_of_names() {
        let list = [entry(1, "x"), entry(6, "capability"), entry(2, ""), entry(99, "odd"), vec![0; 4]].concat();
        let found = names(&list).unwrap();
        assert_eq!(found, [&b"user.x"[..], b"security.capability", b"system.posix_acl_access", b"99.odd"]);
        assert_eq!(names(&[0; 4]), Some(Vec::new()));
        for len in 0..list.len() {
            assert_eq!(names(&list[..len]), None, "{len}");
        }
    }
}
