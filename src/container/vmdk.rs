//! VMDK: the form of VMware; monolithicSparse and streamOptimized, which keep everything in one file.
//!
//! Source: VMware, "Virtual Disk Format 5.0". A disk is divided into grains. A directory says where the tables are, and
//! a table says where its grains are. In a streamOptimized file each grain is compressed and stands after a marker.
//! Numbers are little-endian.

use super::fields::{le16, le32, le64};
use super::mapped::{Map, Packed, Piece, Place, joined};
use super::unpack::Method;
use super::{CONVERT, Form, Opened, corrupt, disk, read, unsupported};
use crate::read::{Bytes, ReadError, Window, escape};

/// What a sparse extent starts with.
pub(crate) const MAGIC: &[u8] = b"KDMV";
/// What a descriptor in a file of its own starts with.
pub(super) const DESCRIPTOR: &[u8] = b"# Disk Descript";
/// What an extent of ESX starts with.
pub(super) const ESX: &[u8] = b"COWD\x01\0\0\0";

/// The unit of all offsets.
pub(crate) const SECTOR: u64 = 512;
/// Of the flags: an entry of 1 is a grain of zeros.
const ZERO_GRAINS: u32 = 1 << 2;
/// Of the flags: grains are compressed.
pub(crate) const COMPRESSED: u32 = 1 << 16;
/// The offset of a directory that the footer knows.
pub(crate) const AT_END: u64 = u64::MAX;
/// The line endings that a copy as text would change.
pub(crate) const LINE_ENDS: &[u8] = b"\n \r\n";
/// A grain's marker: its first sector and the length of the compressed bytes.
pub(crate) const MARKER: u64 = 12;
/// Sectors of a compressed grain; VMware's have 128.
const PACKED_GRAIN_MAX: u64 = 2048;
/// Sectors of any grain.
const GRAIN_MAX: u64 = 1 << 21;
/// Entries of the directory: 64 MiB.
const TABLES_MAX: u64 = 16 << 20;
/// As much of a descriptor as is read.
const DESCRIPTOR_MAX: u64 = 64 << 10;
/// The entries that are read at once.
const PAGE: u64 = 1024;

/// Opens a file with one of the magics.
pub(super) fn open(file: &Window, start: &[u8]) -> Opened {
    if start.starts_with(DESCRIPTOR) {
        let descriptor = Descriptor::read(file, 0, file.len())?;
        let why = format!("is only the descriptor of a disk ({}) that is in other files", descriptor.kind);
        return Err(unsupported(Form::Vmdk, &why, CONVERT));
    }
    if start.starts_with(ESX) {
        return Err(unsupported(Form::Vmdk, "is a sparse extent of ESX, a part of a disk", CONVERT));
    }
    let map = Vmdk::open(file)?;
    Ok((map.kind.clone(), disk(file, map)))
}

/// What the text in a VMDK says.
struct Descriptor {
    /// Its `createType`, made fit for a message.
    kind: String,
    has_parent: bool,
}

impl Descriptor {
    fn read(file: &Window, at: u64, len: u64) -> Result<Self, ReadError> {
        let mut text = vec![0; usize::try_from(len.min(DESCRIPTOR_MAX)).unwrap_or_default()];
        read(Form::Vmdk, file, "descriptor", at, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        let text = text.split('\0').next().unwrap_or_default();
        let value = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim().trim_matches('"'))
        };
        let kind = value("createType").ok_or_else(split)?;
        let kind = escape::text(&kind.chars().take(64).collect::<String>());
        let has_parent = value("parentCID").is_some_and(|parent| !parent.eq_ignore_ascii_case("ffffffff"));
        Ok(Self { kind, has_parent })
    }
}

/// Where the grains are.
#[derive(Debug)]
struct Vmdk {
    file: Window,
    kind: String,
    size: u64,
    /// Bytes of a grain.
    grain: u64,
    /// Grains of a table.
    table: u64,
    /// Where the directory is.
    directory: u64,
    flags: u32,
}

impl Vmdk {
    fn open(file: &Window) -> Result<Self, ReadError> {
        let mut header = read_header(file, 0)?;
        let descriptor = (le64(&header, 28), le64(&header, 36));
        let kind = check_descriptor(file, descriptor)?;
        if le64(&header, 56) == AT_END {
            // The last sector ends the stream, and the one before it is the footer.
            header = read_header(file, file.len().saturating_sub(2 * SECTOR))?;
        }
        let (flags, capacity, grain) = (le32(&header, 8), le64(&header, 12), le64(&header, 20));
        let (table, directory) = (u64::from(le32(&header, 44)), le64(&header, 56));
        let is_packed = flags & COMPRESSED != 0;
        if is_packed && le16(&header, 77) != 1 {
            let why = format!("is compressed by method {}, which is unknown", le16(&header, 77));
            return Err(unsupported(Form::Vmdk, &why, CONVERT));
        }
        let max = if is_packed { PACKED_GRAIN_MAX } else { GRAIN_MAX };
        if !grain.is_power_of_two() || grain > max {
            return Err(wrong("header", format!("grains of {grain} sectors, not a power of two up to {max}")));
        }
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR).filter(|bytes| i64::try_from(*bytes).is_ok());
        let size = bytes(capacity).ok_or_else(|| wrong("header", format!("a disk of {capacity} sectors")))?;
        let covers = grain.checked_mul(table).filter(|covers| *covers > 0);
        let tables = covers.map(|covers| capacity.div_ceil(covers)).filter(|tables| *tables <= TABLES_MAX);
        let (Some(tables), Some(directory)) = (tables, bytes(directory)) else {
            let why = format!("tables of {table} grains for a disk of {capacity} sectors");
            return Err(wrong("header", why));
        };
        if directory.saturating_add(tables * 4) > file.len() {
            return Err(wrong("grain directory", format!("at byte {directory} ends past the file")));
        }
        Ok(Self { file: file.clone(), kind, size, grain: grain * SECTOR, table, directory, flags })
    }

    /// The bytes of the disk that one table describes.
    fn covers(&self) -> u64 {
        self.grain.saturating_mul(self.table)
    }

    fn entries(&self, what: &str, at: u64, count: u64) -> Result<Vec<u32>, ReadError> {
        let mut page = vec![0; usize::try_from(count.clamp(1, PAGE) * 4).unwrap_or_default()];
        read(Form::Vmdk, &self.file, what, at, &mut page)?;
        Ok(page.chunks_exact(4).map(|entry| le32(entry, 0)).collect())
    }

    /// A grain from a byte in it on.
    fn piece(&self, entry: u32, start: u64, from: u64) -> Result<Piece, ReadError> {
        let len = self.grain.saturating_sub(from);
        let at = u64::from(entry) * SECTOR;
        let place = match entry {
            0 => Place::Zero,
            1 if self.flags & ZERO_GRAINS != 0 => Place::Zero,
            _ if self.flags & COMPRESSED != 0 => Place::Packed(self.packed(start, at)?),
            _ => Place::Stored(at.saturating_add(from)),
        };
        Ok(Piece { len, place })
    }

    fn packed(&self, start: u64, at: u64) -> Result<Packed, ReadError> {
        let what = format!("grain of the disk's byte {start}");
        let mut marker = [0; 12];
        read(Form::Vmdk, &self.file, &what, at, &mut marker)?;
        let (sector, packed_len) = (le64(&marker, 0), u64::from(le32(&marker, 8)));
        if sector != start / SECTOR || packed_len > 2 * self.grain + SECTOR {
            let why = format!("its marker at byte {at} says {packed_len} bytes for sector {sector}");
            return Err(wrong(&what, why));
        }
        let bytes = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Packed {
            start,
            len: bytes(self.grain),
            least: bytes(self.grain.min(self.size.saturating_sub(start))),
            number: start / self.grain,
            at: at.saturating_add(MARKER),
            packed_len: bytes(packed_len),
            method: Method::Zlib,
        })
    }
}

impl Map for Vmdk {
    fn form(&self) -> Form {
        Form::Vmdk
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn largest_unit(&self) -> usize {
        if self.flags & COMPRESSED == 0 { 0 } else { usize::try_from(self.grain).unwrap_or(usize::MAX) }
    }

    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError> {
        let (index, within) = (at / self.covers(), at % self.covers());
        let tables = wanted.div_ceil(self.covers()).min(self.size.div_ceil(self.covers()).saturating_sub(index));
        let directory = self.directory.saturating_add(index * 4);
        let directory = self.entries("grain directory", directory, tables)?;
        let holes = directory.iter().take_while(|entry| **entry == 0).count() as u64;
        let Some(&table) = directory.first().filter(|_| holes == 0) else {
            return Ok(Piece { len: holes.saturating_mul(self.covers()).saturating_sub(within), place: Place::Zero });
        };
        let (first, from) = (within / self.grain, within % self.grain);
        let count = from.saturating_add(wanted).div_ceil(self.grain).min(self.table.saturating_sub(first));
        // Where grains are compressed each has its marker to be looked at.
        let count = if self.flags & COMPRESSED == 0 { count } else { count.min(64) };
        let entries = self.entries("grain table", u64::from(table) * SECTOR + first * 4, count)?;
        let start = at - from;
        let pieces = (0..).zip(entries).map(|(number, entry)| {
            let start = start.saturating_add(self.grain.saturating_mul(number));
            self.piece(entry, start, if number == 0 { from } else { 0 })
        });
        Ok(joined(pieces)?.unwrap_or(Piece { len: 0, place: Place::Zero }))
    }
}

fn read_header(file: &Window, at: u64) -> Result<[u8; 512], ReadError> {
    let mut header = [0; 512];
    read(Form::Vmdk, file, "header", at, &mut header)?;
    if !header.starts_with(MAGIC) {
        return Err(wrong("footer", format!("wrong magic number at byte {at}: the file is cut short")));
    }
    let version = le32(&header, 4);
    if !(1..=3).contains(&version) {
        return Err(unsupported(Form::Vmdk, &format!("has version {version}, not 1 to 3"), CONVERT));
    }
    if header.get(73..77) != Some(LINE_ENDS) {
        return Err(wrong("header", "its line endings were changed: the file was copied as if it were text"));
    }
    Ok(header)
}

/// Holds what the embedded descriptor says against what can be read, and gives the kind.
fn check_descriptor(file: &Window, (at, len): (u64, u64)) -> Result<String, ReadError> {
    if at == 0 || len == 0 {
        return Err(split());
    }
    let descriptor = Descriptor::read(file, at.saturating_mul(SECTOR), len.saturating_mul(SECTOR))?;
    if descriptor.has_parent {
        let why = "is a delta link: a part of the disk is in its parent, another file";
        return Err(unsupported(Form::Vmdk, why, "make one image of both with `qemu-img convert -O raw`"));
    }
    match descriptor.kind.as_str() {
        "monolithicSparse" | "streamOptimized" => Ok(descriptor.kind),
        kind => Err(unsupported(Form::Vmdk, &format!("is of type {kind}, which has the disk in other files"), CONVERT)),
    }
}

/// The error for an extent whose disk is described elsewhere.
fn split() -> ReadError {
    unsupported(Form::Vmdk, "has no descriptor with a createType: it is one extent of a split disk", CONVERT)
}

fn wrong(what: &str, why: impl Into<String>) -> ReadError {
    corrupt(Form::Vmdk, what, why)
}
