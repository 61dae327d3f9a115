//! Reads what a mapping tells of. The cluster that was unpacked last is kept.

use std::cell::RefCell;

use super::super::format::incompat;
use super::mapping::{Extent, Mapping, Place};
use super::unpack::{self, Amount, Problem};
use super::{Disk, Inode, corrupt, inode_name, located, unsupported};
use crate::read::ReadError;

/// A file that is read.
#[derive(Debug)]
pub(in crate::erofs) struct Stream {
    nid: u64,
    size: u64,
    pub(in crate::erofs) mapping: Mapping,
    /// The first byte of the extent that was unpacked last, and its bytes.
    unpacked: Option<(u64, Vec<u8>)>,
}

/// The packed inode, which has ends of many files; read when a file needs it.
#[derive(Debug, Default)]
pub(in crate::erofs) struct Fragments(RefCell<Option<Stream>>);

impl Stream {
    /// The contents of an inode.
    pub(in crate::erofs) fn open(disk: Disk<'_>, inode: &Inode) -> Result<Self, ReadError> {
        let mapping = disk.map(inode, &mut |_| ())?;
        Ok(Self::new(inode, mapping))
    }

    /// The contents of an inode whose mapping is known.
    pub(in crate::erofs) fn new(inode: &Inode, mapping: Mapping) -> Self {
        Self { nid: inode.nid, size: inode.size, mapping, unpacked: None }
    }

    /// Bytes of contents.
    pub(in crate::erofs) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` from `offset` bytes into the file, and returns how many bytes it got: fewer only at the file's end.
    pub(in crate::erofs) fn read_at(
        &mut self,
        disk: Disk<'_>,
        fragments: &Fragments,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, ReadError> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        let mut rest = buf.get_mut(..wanted).unwrap_or_default();
        let mut at = offset;
        while !rest.is_empty() {
            let extent = *self.mapping.at(at).ok_or_else(|| corrupt(self.nid, "has a gap in its contents"))?;
            let len = usize::try_from(extent.end.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len());
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(len);
            self.fill(disk, fragments, extent, at, piece)?;
            at = at.saturating_add(piece.len() as u64);
            rest = after;
        }
        Ok(wanted)
    }

    /// Fills a piece that lies in one extent.
    fn fill(
        &mut self,
        disk: Disk<'_>,
        fragments: &Fragments,
        extent: Extent,
        at: u64,
        piece: &mut [u8],
    ) -> Result<(), ReadError> {
        let within = at.saturating_sub(extent.start);
        match extent.place {
            Place::Hole => piece.fill(0),
            Place::Raw(byte) => disk.read(byte.saturating_add(within), piece)?,
            Place::Fragment(byte) => fragments.read(disk, self.nid, byte.saturating_add(within), piece)?,
            Place::Packed { .. } => {
                if self.unpacked.as_ref().is_none_or(|(start, _)| *start != extent.start) {
                    let room = self.unpacked.take().map(|(_, room)| room).unwrap_or_default();
                    self.unpacked = Some((extent.start, unpack_extent(disk, self.nid, extent, room)?));
                }
                let bytes = self.unpacked.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                let source = bytes.get(from..).and_then(|bytes| bytes.get(..piece.len()));
                piece.copy_from_slice(source.ok_or_else(|| corrupt(self.nid, "has a gap in its contents"))?);
            }
        }
        Ok(())
    }
}

/// What an extent unpacks to. `room` is reused.
pub(in crate::erofs) fn unpack_extent(
    disk: Disk<'_>,
    nid: u64,
    extent: Extent,
    mut room: Vec<u8>,
) -> Result<Vec<u8>, ReadError> {
    let Place::Packed { at, stored, method, partial } = extent.place else { return Ok(Vec::new()) };
    let outside = || corrupt(nid, "has contents outside the filesystem");
    let bytes = disk.slice(at, stored.into())?.ok_or_else(outside)?;
    room.resize(usize::try_from(extent.end.saturating_sub(extent.start)).unwrap_or(0), 0);
    let amount = if partial { Amount::Start } else { Amount::All };
    let ends_with_cluster = disk.shape.has_incompat(incompat::ZERO_PADDING);
    match unpack::unpack(method, &bytes, amount, ends_with_cluster, &mut room) {
        Ok(()) => Ok(room),
        Err(Problem::Unknown) => Err(unsupported(nid, format!("compression with {}", method.name()))),
        Err(Problem::Corrupt) => {
            let (start, len) = (extent.start, room.len());
            let name = method.name();
            Err(corrupt(
                nid,
                format!("its {stored} bytes of {name} at byte {at} are not the {len} bytes from byte {start} on"),
            ))
        }
    }
}

impl Fragments {
    /// Fills `piece`, a part of the file `of`, from a byte of the packed inode.
    pub(super) fn read(&self, disk: Disk<'_>, of: u64, at: u64, piece: &mut [u8]) -> Result<(), ReadError> {
        let mut packed = self.0.borrow_mut();
        if packed.is_none() {
            *packed = Some(open_packed(disk, of)?);
        }
        let Some(stream) = packed.as_mut() else { return Ok(()) };
        // It has no fragments itself, so this goes no deeper.
        let nid = stream.nid;
        let len = stream.read_at(disk, self, at, piece).map_err(|error| match error {
            ReadError::Corrupt(fault) if fault.what == inode_name(nid) => {
                corrupt(of, format!("in the packed inode, {}", fault.why))
            }
            other => located(other, nid, || inode_name(of)),
        })?;
        if len < piece.len() {
            return Err(corrupt(of, format!("has contents at byte {at} of the packed inode, which ends before")));
        }
        Ok(())
    }
}

fn open_packed(disk: Disk<'_>, of: u64) -> Result<Stream, ReadError> {
    let nid = disk.shape.packed().ok_or_else(|| corrupt(of, "has contents in the packed inode, but there is none"))?;
    let stream = Stream::open(disk, &disk.inode(nid)?)?;
    if stream.mapping.extents.iter().any(|extent| matches!(extent.place, Place::Fragment(_))) {
        return Err(corrupt(nid, "is the packed inode, but has contents in the packed inode"));
    }
    Ok(stream)
}
