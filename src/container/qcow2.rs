//! qcow2, versions 2 and 3: the form of QEMU.
//!
//! Source: QEMU, docs/interop/qcow2.rst. A disk is divided into clusters. A table of two levels says where each cluster
//! is in the file, or that it is zeros. Snapshots in the file are ignored. Numbers are big-endian.

use super::fields::{be32, be64};
use super::mapped::{Map, Packed, Piece, Place, joined};
use super::unpack::Method;
use super::{CONVERT, Form, Opened, corrupt, disk, read, unsupported};
use crate::read::{Bytes, ReadError, Window};

/// What a file of this form starts with.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// The header of version 2.
const HEADER_2: usize = 72;
/// The least header of version 3.
const HEADER_3: usize = 104;
/// A header with the type of compression.
const HEADER_MAX: usize = 112;
/// The bits of a cluster's size that QEMU allows.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU takes no larger first table: 32 MiB.
const L1_ENTRIES_MAX: u64 = 4 << 20;
/// The bytes of a table that are read at once.
const PAGE: u64 = 4096;

/// Bits of incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
pub(crate) const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The bits of an entry that are an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Of a cluster's entry: it is compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Of a cluster's entry: it is zeros.
const ZERO: u64 = 1;
/// The parts of a cluster with states of their own, where the image has such.
const SUBCLUSTERS: u64 = 32;

/// Whether parts of clusters have states of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entries {
    /// 8 bytes for a cluster.
    Plain,
    /// 16: a bit for each part that it is there, and one that it is zeros.
    Extended,
}

/// Where the clusters are.
#[derive(Debug)]
struct Qcow2 {
    file: Window,
    version: u32,
    size: u64,
    cluster_bits: u32,
    l1_offset: u64,
    entries: Entries,
    method: Method,
}

/// Opens a file with this magic.
pub(super) fn open(file: &Window) -> Opened {
    let map = Qcow2::open(file)?;
    let variant = format!("version {}", map.version);
    Ok((variant, disk(file, map)))
}

impl Qcow2 {
    fn open(file: &Window) -> Result<Self, ReadError> {
        let mut header = vec![0; HEADER_MAX];
        read(Form::Qcow2, file, "header", 0, header.get_mut(..HEADER_2).unwrap_or_default())?;
        let version = be32(&header, 4);
        let incompatible = match version {
            2 => 0,
            3 => read_rest(file, &mut header)?,
            _ => return Err(no(&format!("has version {version}, not 2 or 3"), CONVERT)),
        };
        refuse_features(incompatible)?;
        refuse_others(file, &header)?;
        let cluster_bits = be32(&header, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(wrong("header", format!("clusters of 2^{cluster_bits} bytes; they have 2^9 to 2^21")));
        }
        let has_type = incompatible & COMPRESSION_TYPE != 0;
        let map = Self {
            file: file.clone(),
            version,
            size: be64(&header, 24),
            cluster_bits,
            l1_offset: be64(&header, 40),
            entries: if incompatible & EXTENDED_L2 == 0 { Entries::Plain } else { Entries::Extended },
            method: match header.get(HEADER_3) {
                Some(1) if has_type => Method::Zstd,
                Some(kind) if has_type && *kind != 0 => {
                    return Err(no(&format!("has compression type {kind}, which is unknown"), CONVERT));
                }
                _ => Method::Deflate,
            },
        };
        map.check(be32(&header, 36).into())?;
        Ok(map)
    }

    /// Holds the first table against the size of the disk and the file.
    fn check(&self, l1_entries: u64) -> Result<(), ReadError> {
        if i64::try_from(self.size).is_err() {
            return Err(wrong("header", format!("a disk of {} bytes, more than a disk can have", self.size)));
        }
        let needed = self.size.div_ceil(self.l1_covers());
        if needed > l1_entries || l1_entries > L1_ENTRIES_MAX {
            let (size, max) = (self.size, L1_ENTRIES_MAX);
            let why =
                format!("{l1_entries} entries; a disk of {size} bytes needs {needed}, and QEMU takes at most {max}");
            return Err(wrong("L1 table", why));
        }
        if !self.is_aligned(self.l1_offset) {
            return Err(wrong("L1 table", format!("starts at byte {}, within a cluster", self.l1_offset)));
        }
        let end = needed.checked_mul(8).and_then(|len| len.checked_add(self.l1_offset));
        if end.is_none_or(|end| end > self.file.len()) {
            return Err(wrong("L1 table", format!("at byte {} ends past the file", self.l1_offset)));
        }
        Ok(())
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn is_aligned(&self, offset: u64) -> bool {
        offset & (self.cluster() - 1) == 0
    }

    fn entry_size(&self) -> u64 {
        match self.entries {
            Entries::Plain => 8,
            Entries::Extended => 16,
        }
    }

    /// The clusters of a table of the second level, which is one cluster.
    fn l2_entries(&self) -> u64 {
        self.cluster() / self.entry_size()
    }

    /// The bytes of the disk that one entry of the first table describes: at most 2^39.
    fn l1_covers(&self) -> u64 {
        self.l2_entries() * self.cluster()
    }

    /// What a run of entries of the first table without any second one says.
    fn find_hole(&self, index: u64, wanted: u64) -> Result<u64, ReadError> {
        let last = self.size.div_ceil(self.l1_covers());
        let entries = wanted.div_ceil(self.l1_covers()).min(PAGE / 8).min(last.saturating_sub(index)).max(1);
        let page = self.page("L1 table", self.l1_offset.saturating_add(8 * index), entries * 8)?;
        let zeros = page.chunks_exact(8).take_while(|entry| be64(entry, 0) & OFFSET == 0);
        Ok(zeros.count() as u64)
    }

    fn page(&self, what: &str, at: u64, len: u64) -> Result<Vec<u8>, ReadError> {
        let mut page = vec![0; usize::try_from(len.min(PAGE)).unwrap_or_default()];
        read(Form::Qcow2, &self.file, what, at, &mut page)?;
        Ok(page)
    }

    /// The pieces of one cluster from a byte in it on.
    fn pieces(&self, entry: &[u8], cluster: u64, from: u64) -> Result<Vec<Piece>, ReadError> {
        let start = cluster << self.cluster_bits;
        let descriptor = be64(entry, 0);
        let len = self.cluster().saturating_sub(from);
        if descriptor & COMPRESSED != 0 {
            return Ok(vec![Piece { len, place: Place::Packed(self.packed(descriptor, start)?) }]);
        }
        let offset = descriptor & OFFSET;
        if !self.is_aligned(offset) {
            return Err(wrong(&at(start), format!("data at byte {offset}, within a cluster of the file")));
        }
        if self.entries == Entries::Extended {
            return self.subclusters(be64(entry, 8), offset, start, from);
        }
        if descriptor & ZERO != 0 && self.version == 2 {
            return Err(wrong(&at(start), "a cluster of zeros, which version 2 does not have"));
        }
        let is_zero = descriptor & ZERO != 0 || offset == 0;
        Ok(vec![Piece { len, place: if is_zero { Place::Zero } else { Place::Stored(offset.saturating_add(from)) } }])
    }

    /// The parts of a cluster from a byte in it on. Parts that are neither there nor zeros would come from a backing
    /// file; there is none.
    fn subclusters(&self, states: u64, offset: u64, start: u64, from: u64) -> Result<Vec<Piece>, ReadError> {
        let size = self.cluster() / SUBCLUSTERS;
        let (there, zero) = (states & 0xffff_ffff, states >> 32);
        if there & zero != 0 {
            return Err(wrong(&at(start), "it says of the same parts that they have data and that they are zeros"));
        }
        if there != 0 && offset == 0 {
            return Err(wrong(&at(start), "it says that some parts have data, but not where"));
        }
        let pieces = (from / size..SUBCLUSTERS).map(|number| {
            let skip = from.max(number * size);
            let place = if there >> number & 1 == 0 { Place::Zero } else { Place::Stored(offset.saturating_add(skip)) };
            Piece { len: (number + 1) * size - skip, place }
        });
        Ok(pieces.collect())
    }

    fn packed(&self, descriptor: u64, start: u64) -> Result<Packed, ReadError> {
        let sector_bits = self.cluster_bits - 8;
        let offset_bits = 62 - sector_bits;
        let offset = descriptor & ((1 << offset_bits) - 1);
        let sectors = (descriptor & (COMPRESSED - 1)) >> offset_bits & ((1 << sector_bits) - 1);
        // The last sector is whole, though the file may end in it.
        let end = (offset / 512 + sectors + 1) * 512;
        let len = end.min(self.file.len()).checked_sub(offset).filter(|len| *len > 0);
        let len = len.and_then(|len| usize::try_from(len).ok());
        Ok(Packed {
            start,
            len: self.largest_unit(),
            least: self.largest_unit(),
            number: start >> self.cluster_bits,
            at: offset,
            packed_len: len
                .ok_or_else(|| wrong(&at(start), format!("data at byte {offset}, past the end of the file")))?,
            method: self.method,
        })
    }
}

impl Map for Qcow2 {
    fn form(&self) -> Form {
        Form::Qcow2
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn largest_unit(&self) -> usize {
        1 << self.cluster_bits
    }

    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError> {
        let (index, within) = (at / self.l1_covers(), at % self.l1_covers());
        let zeros = self.find_hole(index, wanted)?;
        if zeros > 0 {
            return Ok(Piece {
                len: zeros.saturating_mul(self.l1_covers()).saturating_sub(within),
                place: Place::Zero,
            });
        }
        let table = be64(&self.page("L1 table", self.l1_offset.saturating_add(8 * index), 8)?, 0) & OFFSET;
        if !self.is_aligned(table) {
            return Err(wrong("L2 table", format!("starts at byte {table}, within a cluster")));
        }
        let (first, from) = (within >> self.cluster_bits, within & (self.cluster() - 1));
        let size = self.entry_size();
        let clusters = from.saturating_add(wanted).div_ceil(self.cluster());
        let entries = clusters.min(self.l2_entries().saturating_sub(first)).min(PAGE / size).max(1);
        let page = self.page("L2 table", table.saturating_add(first * size), entries * size)?;
        let cluster = at >> self.cluster_bits;
        let entries = page.chunks_exact(usize::try_from(size).unwrap_or(8)).zip(cluster..);
        let pieces = entries.flat_map(|(entry, number)| {
            let from = if number == cluster { from } else { 0 };
            match self.pieces(entry, number, from) {
                Ok(pieces) => pieces.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        });
        Ok(joined(pieces)?.unwrap_or(Piece { len: 0, place: Place::Zero }))
    }
}

/// Reads what version 3 has more than version 2, and gives the incompatible features.
fn read_rest(file: &Window, header: &mut [u8]) -> Result<u64, ReadError> {
    read(Form::Qcow2, file, "header", 0, header.get_mut(..HEADER_3).unwrap_or_default())?;
    let len = usize::try_from(be32(header, 100)).unwrap_or(usize::MAX);
    if len < HEADER_3 || !len.is_multiple_of(8) {
        return Err(wrong("header", format!("its length is {len} bytes; it is at least {HEADER_3}, a multiple of 8")));
    }
    let incompatible = be64(header, 72);
    if incompatible & COMPRESSION_TYPE != 0 {
        if len < HEADER_MAX {
            return Err(wrong("header", format!("{len} bytes, too short for the type of compression that it names")));
        }
        read(Form::Qcow2, file, "header", 0, header)?;
    }
    Ok(incompatible)
}

fn refuse_features(incompatible: u64) -> Result<(), ReadError> {
    const REPAIR: &str =
        "repair it with `qemu-img check -r all`, or make a raw image of it with `qemu-img convert -O raw`";
    let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
    if incompatible & EXTERNAL_DATA != 0 {
        return Err(no("has its data in another file (external data file)", CONVERT));
    }
    if incompatible & CORRUPT != 0 {
        return Err(no("is marked as corrupt", REPAIR));
    }
    if incompatible & DIRTY != 0 {
        return Err(no("is marked as dirty: it is in use, or its writer was interrupted", REPAIR));
    }
    let unknown = incompatible & !known;
    if unknown != 0 {
        let bits: Vec<_> = (0..64).filter(|bit| unknown >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
        let why = format!("has incompatible features that are unknown: bit {}", bits.join(", bit "));
        return Err(no(&why, CONVERT));
    }
    Ok(())
}

/// Refuses a disk that is not all here, or not in clear.
fn refuse_others(file: &Window, header: &[u8]) -> Result<(), ReadError> {
    match be32(header, 32) {
        0 => {}
        1 => return Err(no("is encrypted (AES)", CONVERT)),
        2 => return Err(no("is encrypted (LUKS)", CONVERT)),
        method => return Err(no(&format!("is encrypted by method {method}, which is unknown"), CONVERT)),
    }
    let (offset, len) = (be64(header, 8), be32(header, 16));
    if offset == 0 {
        return Ok(());
    }
    // Its name has at most 1023 bytes.
    let mut name = vec![0; usize::try_from(len.min(1023)).unwrap_or_default()];
    let name = match read(Form::Qcow2, file, "name of the backing file", offset, &mut name) {
        Ok(()) => String::from_utf8_lossy(&name).into_owned(),
        Err(_) => String::new(),
    };
    let why = format!("has a backing file, \"{}\", with a part of the disk", crate::read::escape::text(&name));
    Err(no(&why, "make one image of both with `qemu-img convert -O raw`"))
}

/// How the data of a cluster is called.
fn at(start: u64) -> String {
    format!("cluster of the disk's byte {start}")
}

fn no(why: &str, remedy: &str) -> ReadError {
    unsupported(Form::Qcow2, why, remedy)
}

fn wrong(what: &str, why: impl Into<String>) -> ReadError {
    corrupt(Form::Qcow2, what, why)
}
