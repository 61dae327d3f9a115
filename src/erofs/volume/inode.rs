//! Inodes: in their short or their complete form, and what both say.
//!
//! Source: <https://erofs.docs.kernel.org>, "Core On-disk Format", section "Inodes".

use super::super::format::{
    self, DataLayout, FORMAT_ALL, FORMAT_EXTENDED, FORMAT_NLINK_1, InodeCompact, InodeExtended, MODE_DIRECTORY,
    MODE_REGULAR, MODE_SYMLINK, MODE_TYPE, NID_METABOX, file_type,
};
use super::{Disk, corrupt, unsupported};
use crate::read::{Kind, Metadata, ReadError};
use crate::times::Timestamp;

/// The types of inodes, as modes have them, that are neither files, nor directories, nor links; with the type that an
/// entry of a directory says for each.
const SPECIAL: [(u16, u8); 4] = [
    (0o020_000, file_type::CHARACTER),
    (0o060_000, file_type::BLOCK),
    (0o010_000, file_type::FIFO),
    (0o140_000, file_type::SOCKET),
];

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::erofs) struct Inode {
    pub(in crate::erofs) nid: u64,
    /// Where it starts, in bytes.
    pub(in crate::erofs) start: u64,
    /// Where it and its extended attributes end, in bytes.
    pub(in crate::erofs) end: u64,
    pub(in crate::erofs) layout: DataLayout,
    pub(in crate::erofs) xattr_icount: u16,
    pub(in crate::erofs) mode: u16,
    pub(in crate::erofs) kind: Kind,
    pub(in crate::erofs) links: u32,
    /// Bytes of contents.
    pub(in crate::erofs) size: u64,
    /// What its layout makes of it.
    pub(in crate::erofs) u: u32,
    pub(in crate::erofs) uid: u32,
    pub(in crate::erofs) gid: u32,
    pub(in crate::erofs) time: Timestamp,
}

impl Disk<'_> {
    /// Reads an inode.
    pub(in crate::erofs) fn inode(&self, nid: u64) -> Result<Inode, ReadError> {
        if nid & NID_METABOX != 0 {
            return Err(unsupported(nid, "a place in a metabox"));
        }
        let outside = || corrupt(nid, "lies outside the filesystem");
        let start = self.shape.inode(nid).ok_or_else(outside)?;
        let compact: InodeCompact = self.parse(start)?.ok_or_else(outside)?;
        let format = compact.format.get();
        let extended = match format & FORMAT_EXTENDED {
            0 => None,
            _ => Some(self.parse::<InodeExtended>(start)?.ok_or_else(outside)?),
        };
        if format & (!FORMAT_ALL | FORMAT_NLINK_1) != 0 {
            return Err(unsupported(nid, format!("the format {format:#x}")));
        }
        let layout = DataLayout::of_format(format);
        let layout = layout.ok_or_else(|| unsupported(nid, format!("the format {format:#x}")))?;
        let mode = compact.mode.get();
        let kind = kind(mode).ok_or_else(|| corrupt(nid, format!("has the mode {mode:#o}")))?;
        let xattr_icount = compact.xattr_icount.get();
        let len = if extended.is_some() { size_of::<InodeExtended>() } else { size_of::<InodeCompact>() };
        let end = start.saturating_add(len as u64).saturating_add(format::xattr_bytes(xattr_icount) as u64);
        if end > self.shape.len {
            return Err(corrupt(nid, "has extended attributes outside the filesystem"));
        }
        let s = &self.shape.superblock;
        let epoch = s.epoch.get().cast_signed();
        let mut inode = Inode {
            nid,
            start,
            end,
            layout,
            xattr_icount,
            mode,
            kind,
            links: compact.nb.get().into(),
            size: compact.size.get().into(),
            u: compact.u.get(),
            uid: compact.uid.get().into(),
            gid: compact.gid.get().into(),
            time: Timestamp {
                seconds: epoch.saturating_add(compact.mtime.get().into()),
                nanoseconds: s.fixed_nsec.get(),
            },
        };
        if let Some(extended) = extended {
            inode.links = extended.nlink.get();
            inode.size = extended.size.get();
            inode.u = extended.u.get();
            inode.uid = extended.uid.get();
            inode.gid = extended.gid.get();
            let seconds = extended.mtime.get().cast_signed();
            inode.time = Timestamp { seconds, nanoseconds: extended.mtime_nsec.get() };
        }
        if inode.size > i64::MAX.cast_unsigned() {
            return Err(corrupt(nid, format!("has a size of {} bytes, but no file has so many", inode.size)));
        }
        Ok(inode)
    }
}

impl Inode {
    pub(in crate::erofs) fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind,
            permissions: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            len: if self.kind == Kind::Special { 0 } else { self.size },
            mtime: self.time.seconds,
        }
    }

    /// Whether its time can be.
    pub(in crate::erofs) fn time_is_valid(&self) -> bool {
        self.time.is_valid()
    }

    /// What an entry of a directory says of the type.
    pub(in crate::erofs) fn file_type(&self) -> u8 {
        match self.kind {
            Kind::File => file_type::REGULAR,
            Kind::Directory => file_type::DIRECTORY,
            Kind::Symlink => file_type::SYMLINK,
            Kind::Special => {
                let known = SPECIAL.iter().find(|(mode, _)| *mode == self.mode & MODE_TYPE);
                known.map_or(file_type::UNKNOWN, |(_, file_type)| *file_type)
            }
        }
    }
}

fn kind(mode: u16) -> Option<Kind> {
    match mode & MODE_TYPE {
        MODE_REGULAR => Some(Kind::File),
        MODE_DIRECTORY => Some(Kind::Directory),
        MODE_SYMLINK => Some(Kind::Symlink),
        other => SPECIAL.iter().any(|(mode, _)| *mode == other).then_some(Kind::Special),
    }
}
