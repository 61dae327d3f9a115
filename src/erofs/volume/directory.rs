//! The entries of directories.
//!
//! Source: <https://erofs.docs.kernel.org>, "Core On-disk Format", section "Directories".

use zerocopy::FromBytes;

use super::super::format::{DIRENT_SIZE, Dirent, NAME_MAX};
use super::{Disk, Fragments, Inode, Stream, corrupt};
use crate::read::ReadError;

/// So many times the size of the filesystem a directory may have in bytes: what is compressed or shared can be larger.
pub(in crate::erofs) const MOST_GROWTH: u64 = 16;

/// An entry as it stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) struct RawEntry<'a> {
    pub(in crate::erofs) nid: u64,
    pub(in crate::erofs) file_type: u8,
    pub(in crate::erofs) name: &'a [u8],
}

/// The entries in a block of a directory, up to the first that cannot be.
pub(in crate::erofs) fn entries(block: &[u8]) -> impl Iterator<Item = Result<RawEntry<'_>, String>> {
    let first = dirent(block, 0).map_or(0, |dirent| usize::from(dirent.nameoff.get()));
    let is_well = first >= DIRENT_SIZE && first.is_multiple_of(DIRENT_SIZE) && first <= block.len();
    let broken = (!is_well).then(|| Err(format!("the names start at byte {first}")));
    let count = if is_well { first / DIRENT_SIZE } else { 0 };
    broken.into_iter().chain((0..count).map(move |index| entry(block, index, count)))
}

fn dirent(block: &[u8], index: usize) -> Option<Dirent> {
    let bytes = block.get(index.checked_mul(DIRENT_SIZE)?..)?;
    Dirent::read_from_prefix(bytes).ok().map(|(dirent, _)| dirent)
}

fn entry(block: &[u8], index: usize, count: usize) -> Result<RawEntry<'_>, String> {
    let broken = || format!("entry {index} has no name");
    let here = dirent(block, index).ok_or_else(broken)?;
    let start = usize::from(here.nameoff.get());
    let next = index.saturating_add(1);
    let end = if next < count {
        dirent(block, next).map(|next| usize::from(next.nameoff.get()))
    } else {
        let rest = block.get(start..);
        rest.map(|rest| start.saturating_add(rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())))
    };
    let name = end.and_then(|end| block.get(start..end)).ok_or_else(broken)?;
    match name_problem(name) {
        Some(problem) => Err(format!("entry {index} has {problem}")),
        None => Ok(RawEntry { nid: here.nid.get(), file_type: here.file_type, name }),
    }
}

fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        [] => Some("an empty name"),
        _ if name.len() > NAME_MAX => Some("a name of more than 255 bytes"),
        _ if name.contains(&0) => Some("a name with a NUL"),
        _ if name.contains(&b'/') => Some("a name with a slash"),
        _ => None,
    }
}

impl Disk<'_> {
    /// Calls `visit` with each block of a directory and its number in it, in order.
    pub(in crate::erofs) fn directory_blocks(
        &self,
        inode: &Inode,
        stream: &mut Stream,
        fragments: &Fragments,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut block = Vec::new();
        for number in 0..self.shape.blocks_of(inode.size) {
            self.directory_block(inode, stream, fragments, number, &mut block)?;
            visit(number, &block)?;
        }
        Ok(())
    }

    /// Reads one block of a directory.
    pub(in crate::erofs) fn directory_block(
        &self,
        inode: &Inode,
        stream: &mut Stream,
        fragments: &Fragments,
        number: u64,
        block: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if inode.size > self.shape.len.saturating_mul(MOST_GROWTH) {
            return Err(corrupt(inode.nid, format!("is a directory of {} bytes, which cannot be", inode.size)));
        }
        block.resize(usize::try_from(self.shape.block_size).unwrap_or(0), 0);
        let len = stream.read_at(*self, fragments, self.shape.block(number), block)?;
        block.truncate(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    /// A block with these starts of names, and these bytes behind the entries.
    fn block(starts: &[u16], names: &[u8]) -> Vec<u8> {
        let dirent = |&start| Dirent { nid: 7.into(), nameoff: u16::into(start), file_type: 1, reserved: 0 };
        let mut block: Vec<u8> = starts.iter().flat_map(|start| dirent(start).as_bytes().to_vec()).collect();
        block.extend_from_slice(names);
        block
    }

    fn read(block: &[u8]) -> Vec<Result<String, String>> {
        entries(block).map(|entry| entry.map(|entry| entry.name.escape_ascii().to_string())).collect()
    }

    #[test]
    fn names_end_where_the_next_starts_or_at_a_nul() {
        let names = |names: &[&str]| names.iter().map(|name| Ok((*name).to_owned())).collect::<Vec<_>>();
        assert_eq!(read(&block(&[24, 25], b"abc")), names(&["a", "bc"]));
        assert_eq!(read(&block(&[24, 25], b"abc\0\0d")), names(&["a", "bc"]));
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        for (starts, names) in [
            (&[11_u16][..], &b"a"[..]),
            (&[13], b"aa"),
            (&[0], b"a"),
            (&[500], b"a"),
            (&[12], b""),
            (&[12], b"a/b"),
            (&[24, 24], b"a"),
            (&[24, 23], b"a"),
            (&[24, 26], b"a\0b"),
        ] {
            assert!(read(&block(starts, names)).iter().any(Result::is_err), "{starts:?} {names:?}");
        }
        assert!(read(&[]).iter().any(Result::is_err));
    }
}
