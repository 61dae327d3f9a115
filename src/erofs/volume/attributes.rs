//! The names of extended attributes. They follow the inode, or stand in an area that files share.
//!
//! Source: <https://erofs.docs.kernel.org>, "Extended Attributes".

use zerocopy::FromBytes;

use super::super::format::{XattrHeader, compat, incompat};
use super::{Disk, Fragments, Inode, corrupt, unsupported};
use crate::read::ReadError;

/// The header of an attribute, and the unit that attributes start at, in bytes.
const HEAD: usize = 4;
/// In the index of a name: the prefix is one of the filesystem's own.
const LONG_PREFIX: u8 = 0x80;
/// What the index of a name stands for, by index.
const PREFIXES: [&str; 7] =
    ["", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "lustre.", "security."];

/// A name, without its prefix, and the whole attribute's bytes.
struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    len: usize,
}

fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    let (&[name_len, index, low, high], rest) = bytes.split_first_chunk::<HEAD>()?;
    let name = rest.get(..usize::from(name_len))?;
    let len = HEAD.checked_add(name.len())?.checked_add(u16::from_le_bytes([low, high]).into())?;
    Some(Attribute { index, name, len })
}

impl Disk<'_> {
    /// The names of an inode's extended attributes.
    pub(in crate::erofs) fn attributes(&self, inode: &Inode, fragments: &Fragments) -> Result<Vec<Vec<u8>>, ReadError> {
        let len = super::super::format::xattr_bytes(inode.xattr_icount) as u64;
        let area = self.slice(inode.end.saturating_sub(len), len)?.unwrap_or_default();
        if area.is_empty() {
            return Ok(Vec::new());
        }
        let broken = || corrupt(inode.nid, "has extended attributes that do not end");
        let (header, rest) = XattrHeader::read_from_prefix(&area).map_err(|_| broken())?;
        let shared = rest.get(..usize::from(header.shared_count).saturating_mul(4)).ok_or_else(broken)?;
        let mut own = rest.get(shared.len()..).unwrap_or_default();
        let mut names = Vec::new();
        for number in shared.as_chunks::<4>().0 {
            names.push(self.shared_attribute(inode, u32::from_le_bytes(*number), fragments)?);
        }
        while own.len() >= HEAD && own.iter().any(|&byte| byte != 0) {
            let attribute = attribute(own).filter(|attribute| attribute.len <= own.len()).ok_or_else(broken)?;
            names.push(self.attribute_name(inode, &attribute, fragments)?);
            own = own.get(attribute.len.next_multiple_of(HEAD)..).unwrap_or_default();
        }
        Ok(names)
    }

    fn shared_attribute(&self, inode: &Inode, number: u32, fragments: &Fragments) -> Result<Vec<u8>, ReadError> {
        if self.shape.has_compat(compat::SHARED_EA_IN_METABOX) {
            return Err(unsupported(inode.nid, "an extended attribute in a metabox"));
        }
        let start = self.shape.block(self.shape.superblock.xattr_blkaddr.get().into());
        let at = start.saturating_add(u64::from(number).saturating_mul(4));
        let most = (HEAD as u64).saturating_add(u8::MAX.into());
        let bytes = self.slice(at, most.min(self.shape.len.saturating_sub(at)))?.unwrap_or_default();
        let attribute =
            attribute(&bytes).ok_or_else(|| corrupt(inode.nid, "has an extended attribute outside the filesystem"))?;
        self.attribute_name(inode, &attribute, fragments)
    }

    fn attribute_name(
        &self,
        inode: &Inode,
        found: &Attribute<'_>,
        fragments: &Fragments,
    ) -> Result<Vec<u8>, ReadError> {
        let unknown = || corrupt(inode.nid, format!("has an extended attribute with the prefix {}", found.index));
        let mut name = if found.index & LONG_PREFIX == 0 {
            PREFIXES.get(usize::from(found.index)).ok_or_else(unknown)?.as_bytes().to_vec()
        } else {
            self.long_prefix(found.index & !LONG_PREFIX, fragments)?.ok_or_else(unknown)?
        };
        name.extend_from_slice(found.name);
        Ok(name)
    }

    /// A prefix of the filesystem's own: the index of one of [`PREFIXES`], and more.
    fn long_prefix(&self, index: u8, fragments: &Fragments) -> Result<Option<Vec<u8>>, ReadError> {
        let s = &self.shape.superblock;
        if !self.shape.has_incompat(incompat::XATTR_PREFIXES) || index >= s.xattr_prefix_count {
            return Ok(None);
        }
        let mut at = u64::from(s.xattr_prefix_start.get()).saturating_mul(4);
        let packed = self.shape.packed().filter(|_| !self.shape.has_compat(compat::PLAIN_XATTR_PFX));
        let read = |at: u64, len: u64| match packed {
            None => self.slice(at, len),
            Some(nid) => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                fragments.read(*self, nid, at, &mut bytes).map(|()| Some(bytes))
            }
        };
        for number in 0..=index {
            let Some(head) = read(at, 2)? else { return Ok(None) };
            let len = head.first_chunk::<2>().map_or(0, |head| u16::from_le_bytes(*head));
            if number == index {
                let Some(bytes) = read(at.saturating_add(2), len.into())? else { return Ok(None) };
                let Some((&base, infix)) = bytes.split_first() else { return Ok(None) };
                let base = PREFIXES.get(usize::from(base)).copied().unwrap_or_default();
                return Ok(Some([base.as_bytes(), infix].concat()));
            }
            at = super::align(at.saturating_add(2).saturating_add(len.into()), 4);
        }
        Ok(None)
    }
}
