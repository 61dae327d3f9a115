//! zst: a raw image, compressed by zstd in frames that a seek table lists.
//!
//! Source: RFC 8878 and "Zstandard Seekable Format", version 0.1.0, of contrib/seekable_format. The table is a
//! skippable frame at the end of the file. For each frame it has the length in the file, the length on the disk, and
//! perhaps a checksum. We do not look at that checksum, because frames have their own. Numbers are little-endian.

use super::fields::{le32, le64};
use super::mapped::{Map, Packed, Piece, Place};
use super::unpack::Method;
use super::{Form, Opened, corrupt, disk, read, unsupported};
use crate::read::{Bytes, ReadError, Window};

/// What a frame starts with.
const FRAME: u32 = 0xfd2f_b528;
/// The first bytes of a frame that decoders skip, without the lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;
/// What the seek table's frame starts with.
pub(crate) const TABLE: u32 = 0x184d_2a5e;
/// What a file with a seek table ends with.
pub(crate) const SEEKABLE: u32 = 0x8f92_eab1;
/// The table's end: the number of frames, what entries hold, [`SEEKABLE`].
pub(crate) const FOOTER: u64 = 9;
/// What a skippable frame has before its contents: its magic and their length.
const SKIPPABLE_HEADER: u64 = 8;
/// Of the footer's fifth byte: entries have checksums.
const CHECKSUMS: u8 = 0x80;
/// Bits of it that may be set: the lowest two mean nothing.
const DESCRIPTOR: u8 = CHECKSUMS | 3;
/// The format allows no more frames.
pub(crate) const FRAMES_MAX: u64 = 0x800_0000;
/// A frame of more bytes on the disk is not worth being called seekable.
const FRAME_MAX: u64 = 16 << 20;
/// The places in the table that are kept in memory: 1 MiB.
const POINTS_MAX: u64 = 1 << 16;
/// The entries that are read at once when the file is opened.
const SCANNED: u64 = 4096;

/// The remedy if there is no seek table, or one that cannot be used.
const UNPACK: &str = "unpack it with `zstd -d`";

/// Whether a file that starts with `start` has this form.
pub(super) fn recognise(file: &Window, start: &[u8]) -> bool {
    match le32(start, 0) {
        FRAME => true,
        magic if magic & !0xf == SKIPPABLE => {
            let next = SKIPPABLE_HEADER + u64::from(le32(start, 4));
            magic_at(file, next) == Some(FRAME) || has_table(file)
        }
        _ => false,
    }
}

fn magic_at(file: &Window, at: u64) -> Option<u32> {
    let mut magic = [0; 4];
    read(Form::Zst, file, "frame", at, &mut magic).ok().map(|()| u32::from_le_bytes(magic))
}

fn has_table(file: &Window) -> bool {
    file.len().checked_sub(4).and_then(|at| magic_at(file, at)) == Some(SEEKABLE)
}

/// Opens a file with this magic.
pub(super) fn open(file: &Window) -> Opened {
    if !has_table(file) {
        let why = "has no seek table, so that none of its bytes can be read without all those before it";
        return Err(unsupported(Form::Zst, why, UNPACK));
    }
    let map = Zst::open(file)?;
    Ok((format!("seekable, frames: {}", map.frames), disk(file, map)))
}

/// Where the frames are.
#[derive(Debug)]
struct Zst {
    file: Window,
    /// Where the table's entries start.
    table: u64,
    frames: u64,
    entry: Entry,
    /// The entries from one kept place to the next.
    stride: u64,
    /// The first byte of each `stride`th frame, on the disk and in the file.
    points: Vec<Frame>,
    size: u64,
    /// The most bytes of a frame on the disk.
    largest: u64,
}

/// Where a frame starts.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    on_disk: u64,
    in_file: u64,
}

/// What an entry of the table holds.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Both lengths.
    Plain,
    /// And a checksum.
    WithSum,
}

impl Entry {
    fn size(self) -> u64 {
        match self {
            Self::Plain => 8,
            Self::WithSum => 12,
        }
    }
}

impl Zst {
    fn open(file: &Window) -> Result<Self, ReadError> {
        let mut footer = [0; 9];
        let end = file.len();
        read(Form::Zst, file, "seek table", end.saturating_sub(FOOTER), &mut footer)?;
        let frames = u64::from(le32(&footer, 0));
        let [_, _, _, _, descriptor, ..] = footer;
        if descriptor & !DESCRIPTOR != 0 || frames > FRAMES_MAX {
            return Err(wrong(format!(
                "{frames} frames, descriptor {descriptor:#04x}, which the format does not allow"
            )));
        }
        let entry = if descriptor & CHECKSUMS == 0 { Entry::Plain } else { Entry::WithSum };
        let contents = frames * entry.size() + FOOTER;
        let start = end.checked_sub(contents + SKIPPABLE_HEADER);
        let start = start.ok_or_else(|| wrong(format!("{frames} frames, more than the file has room for")))?;
        let mut header = [0; 8];
        read(Form::Zst, file, "seek table", start, &mut header)?;
        if le32(&header, 0) != TABLE || u64::from(le32(&header, 4)) != contents {
            return Err(wrong(format!("no table of {frames} frames starts at byte {start}")));
        }
        let stride = frames.div_ceil(POINTS_MAX).max(1);
        let table = start + SKIPPABLE_HEADER;
        let mut map =
            Self { file: file.clone(), table, frames, entry, stride, points: Vec::new(), size: 0, largest: 0 };
        let end = map.scan()?;
        if end.in_file != start {
            return Err(wrong(format!("its frames end at byte {}, and it starts at byte {start}", end.in_file)));
        }
        map.size = end.on_disk;
        Ok(map)
    }

    /// Looks at the whole table once, and gives where its last frame ends.
    fn scan(&mut self) -> Result<Frame, ReadError> {
        let mut at = Frame::default();
        for first in (0..self.frames).step_by(usize::try_from(SCANNED).unwrap_or(1)) {
            let entries = self.entries(first, SCANNED)?;
            for (number, (in_file, on_disk)) in (first..).zip(entries) {
                if number.is_multiple_of(self.stride) {
                    self.points.push(at);
                }
                if on_disk > FRAME_MAX {
                    let why = format!("has a frame of {on_disk} bytes, more than the {FRAME_MAX} that are read");
                    return Err(unsupported(Form::Zst, &why, UNPACK));
                }
                self.largest = self.largest.max(on_disk);
                // At most 2^27 numbers of 32 bits each.
                at = Frame { on_disk: at.on_disk + on_disk, in_file: at.in_file + in_file };
            }
        }
        Ok(at)
    }

    /// The lengths of frames in the file and on the disk.
    fn entries(&self, first: u64, most: u64) -> Result<Vec<(u64, u64)>, ReadError> {
        let size = self.entry.size();
        let len = most.min(self.frames.saturating_sub(first)) * size;
        let mut entries = vec![0; usize::try_from(len).unwrap_or_default()];
        read(Form::Zst, &self.file, "seek table", self.table + first * size, &mut entries)?;
        let lengths = |entry: &[u8]| (u64::from(le32(entry, 0)), le64(entry, 0) >> 32);
        Ok(entries.chunks_exact(usize::try_from(size).unwrap_or(8)).map(lengths).collect())
    }
}

impl Map for Zst {
    fn form(&self) -> Form {
        Form::Zst
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn largest_unit(&self) -> usize {
        usize::try_from(self.largest).unwrap_or(usize::MAX)
    }

    fn find(&self, at: u64, _: u64) -> Result<Piece, ReadError> {
        let point = self.points.partition_point(|point| point.on_disk <= at).saturating_sub(1);
        let mut frame = self.points.get(point).copied().unwrap_or_default();
        let first = point as u64 * self.stride;
        for (number, (in_file, on_disk)) in (first..).zip(self.entries(first, self.stride)?) {
            let end = frame.on_disk.saturating_add(on_disk);
            if end <= at {
                frame = Frame { on_disk: end, in_file: frame.in_file.saturating_add(in_file) };
                continue;
            }
            // No writer makes a frame so much longer than what is in it.
            if on_disk > self.largest || in_file > 2 * FRAME_MAX {
                return Err(wrong(format!("frame {number} has {in_file} bytes for {on_disk} of the disk")));
            }
            let (Ok(len), Ok(packed_len)) = (usize::try_from(on_disk), usize::try_from(in_file)) else { break };
            let left = end.saturating_sub(at);
            let (start, at, method) = (frame.on_disk, frame.in_file, Method::Zstd);
            let packed = Packed { start, len, least: len, number, at, packed_len, method };
            return Ok(Piece { len: left, place: Place::Packed(packed) });
        }
        Err(wrong(format!("no frame has the disk's byte {at}")))
    }
}

fn wrong(why: impl Into<String>) -> ReadError {
    corrupt(Form::Zst, "seek table", why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::units::ByteOffset;

    /// A file of these frames, and of lengths in the table that may be others.
    fn file(frames: &[&[u8]], lengths: impl Fn(usize, u32) -> u32) -> Window {
        let (mut bytes, mut table) = (Vec::new(), Vec::new());
        for (number, frame) in frames.iter().enumerate() {
            let packed = zstd::bulk::compress(frame, 1).unwrap();
            bytes.extend_from_slice(&packed);
            table.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            table.extend(lengths(number, u32::try_from(frame.len()).unwrap()).to_le_bytes());
        }
        bytes.extend(TABLE.to_le_bytes());
        bytes.extend(u32::try_from(table.len() + 9).unwrap().to_le_bytes());
        bytes.extend(table);
        bytes.extend(u32::try_from(frames.len()).unwrap().to_le_bytes());
        bytes.push(0);
        bytes.extend(SEEKABLE.to_le_bytes());
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        Window::new(file, bytes.len() as u64)
    }

    #[test]
    fn more_frames_than_places_are_kept() {
        let bytes: Vec<u8> = (0..150_000_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
        let frames: Vec<&[u8]> = bytes.chunks(1).collect();
        let (_, disk) = open(&file(&frames, |_, len| len)).unwrap();
        assert_eq!(disk.len(), 150_000);
        for at in [0, 1, 2, 3, 65_535, 65_536, 99_998, 149_990] {
            let mut read = [0; 10];
            disk.read_exact_at(ByteOffset(at), &mut read).unwrap();
            let at = usize::try_from(at).unwrap();
            assert_eq!(read, bytes[at..at + 10], "{at}");
        }
    }

    #[test]
    fn frames_may_be_empty() {
        let (_, disk) = open(&file(&[b"", b"01", b"", b"", b"234", b""], |_, len| len)).unwrap();
        let mut read = [0; 5];
        disk.read_exact_at(ByteOffset(0), &mut read).unwrap();
        assert_eq!(&read, b"01234");
        assert!(disk.read_exact_at(ByteOffset(5), &mut [0]).is_err());
        assert_eq!(open(&file(&[], |_, len| len)).unwrap().1.len(), 0);
    }

    #[test]
    fn lengths_that_are_not_true_are_told() {
        for wrong in [1, 3, 4096] {
            let (_, disk) = open(&file(&[b"01", b"23"], |number, len| if number == 1 { wrong } else { len })).unwrap();
            let error = disk.read_exact_at(ByteOffset(2), &mut [0]).unwrap_err().to_string();
            assert!(error.contains("zst compressed data of the disk's byte 2"), "{error}");
            disk.read_exact_at(ByteOffset(1), &mut [0]).unwrap();
        }
        let error = open(&file(&[b"01"], |_, _| u32::MAX)).unwrap_err().to_string();
        assert!(error.contains("frame of 4294967295 bytes") && error.contains("zstd -d"), "{error}");
    }
}
