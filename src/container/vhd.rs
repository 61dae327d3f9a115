//! VHD: the form of Virtual PC, Azure and Xen; fixed and dynamic.
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0. A fixed disk is its bytes and a
//! footer of 512 bytes. A dynamic disk has a copy of the footer at its start, and a table that says where the blocks of
//! the disk are. Each block begins with one bit for each of its sectors. Numbers are big-endian.

use super::fields::{be32, be64};
use super::mapped::{Map, Piece, Place, joined};
use super::{CONVERT, Form, Opened, corrupt, disk, read, unsupported};
use crate::read::{Bytes, ReadError, Window};
use crate::units::ByteOffset;

/// What a footer starts with.
pub(crate) const COOKIE: &[u8] = b"conectix";
/// What the header of a dynamic disk starts with.
const DYNAMIC_COOKIE: &[u8] = b"cxsparse";
/// The size of the footer, and the unit of the table.
pub(crate) const SECTOR: u64 = 512;
/// The size of a dynamic disk's header.
const DYNAMIC_HEADER: usize = 1024;
/// Where the footer and the header have their checksums.
pub(crate) const SUM: usize = 64;
const DYNAMIC_SUM: usize = 36;
/// The type of a fixed disk.
pub(crate) const FIXED: u32 = 2;
/// In the table: a block that is not there.
const NO_BLOCK: u32 = u32::MAX;
/// Entries of a table; 2 MiB blocks of the largest disk are a million.
const BLOCKS_MAX: u64 = 16 << 20;
/// Entries that are read at once.
const PAGE: u64 = 1024;
/// Bytes of a block's bitmap that are read at once.
const BITS: u64 = 512;

/// Whether a file has this form: a dynamic disk by its start, a fixed one only by its footer.
pub(super) fn recognise(file: &Window, start: &[u8]) -> bool {
    start.starts_with(COOKIE) || footer(file).is_some_and(|footer| be32(&footer, 60) == FIXED)
}

/// The footer at the end, if it is right.
fn footer(file: &Window) -> Option<[u8; 512]> {
    sound(file, file.len().checked_sub(SECTOR)?)
}

/// The footer or its copy at `at`, if it is right.
fn sound(file: &Window, at: u64) -> Option<[u8; 512]> {
    let mut footer = [0; 512];
    file.read_exact_at(ByteOffset(at), &mut footer).ok()?;
    (footer.starts_with(COOKIE) && has_sum(&footer, SUM)).then_some(footer)
}

/// Whether the checksum at `at` is right.
fn has_sum(bytes: &[u8], at: usize) -> bool {
    be32(bytes, at) == sum(bytes, at)
}

/// The checksum that belongs at `at`: the sum of all other bytes, with every bit changed.
pub(crate) fn sum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
    !others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add((*byte).into()))
}

/// Opens a file with this magic.
pub(super) fn open(file: &Window) -> Opened {
    let footer = footer(file).or_else(|| sound(file, 0));
    let footer = footer.ok_or_else(|| wrong("footer", "neither it nor its copy has a right checksum"))?;
    let size = be64(&footer, 48);
    match be32(&footer, 60) {
        FIXED => {
            let disk = file.slice(ByteOffset(0), size).filter(|_| file.len() - size >= SECTOR);
            let why = || format!("a disk of {size} bytes, but fewer are before the footer; the file is cut short");
            Ok(("fixed".to_owned(), disk.ok_or_else(|| wrong("footer", why()))?))
        }
        3 => Ok(("dynamic".to_owned(), disk(file, Dynamic::open(file, be64(&footer, 16), size)?))),
        4 => {
            let why = "is differencing: a part of the disk is in its parent, another file";
            Err(unsupported(Form::Vhd, why, "make one image of both with `qemu-img convert -O raw`"))
        }
        kind => Err(unsupported(Form::Vhd, &format!("has type {kind}, which is unknown"), CONVERT)),
    }
}

/// Where the blocks of a dynamic disk are.
#[derive(Debug)]
struct Dynamic {
    file: Window,
    size: u64,
    table: u64,
    block_bits: u32,
}

impl Dynamic {
    fn open(file: &Window, at: u64, size: u64) -> Result<Self, ReadError> {
        let mut header = vec![0; DYNAMIC_HEADER];
        read(Form::Vhd, file, "header", at, &mut header)?;
        if !header.starts_with(DYNAMIC_COOKIE) || !has_sum(&header, DYNAMIC_SUM) {
            return Err(wrong("header", format!("wrong magic number or checksum at byte {at}")));
        }
        let (table, blocks, block) = (be64(&header, 16), u64::from(be32(&header, 28)), be32(&header, 32));
        if !block.is_power_of_two() || u64::from(block) < SECTOR {
            return Err(wrong("header", format!("blocks of {block} bytes, not a power of two, at least 512")));
        }
        let needed = size.div_ceil(block.into());
        if needed > blocks || needed > BLOCKS_MAX {
            let why = format!("{blocks} blocks; the disk needs {needed}, and at most {BLOCKS_MAX} are read");
            return Err(wrong("header", why));
        }
        let end = table.checked_add(needed * 4);
        if end.is_none_or(|end| end > file.len()) {
            return Err(wrong("block table", format!("at byte {table} ends past the file")));
        }
        Ok(Self { file: file.clone(), size, table, block_bits: block.trailing_zeros() })
    }

    fn block(&self) -> u64 {
        1 << self.block_bits
    }

    /// The entries from that of a block on.
    fn entries(&self, block: u64, most: u64) -> Result<Vec<u32>, ReadError> {
        let count = most.min(PAGE).min(self.size.div_ceil(self.block()).saturating_sub(block));
        let mut page = vec![0; usize::try_from(count * 4).unwrap_or_default()];
        read(Form::Vhd, &self.file, "block table", self.table.saturating_add(block * 4), &mut page)?;
        Ok(page.chunks_exact(4).map(|entry| be32(entry, 0)).collect())
    }

    /// Where a block's bytes are, from one of them on. A sector without its bit is zeros.
    fn find_in_block(&self, start: u64, from: u64) -> Result<Piece, ReadError> {
        let bitmap = (self.block() / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
        let sector = from / SECTOR;
        let at = start.saturating_add(sector / 8);
        let count = BITS.min(bitmap.saturating_sub(sector / 8));
        let mut bits = vec![0; usize::try_from(count).unwrap_or_default()];
        read(Form::Vhd, &self.file, &format!("bitmap of the block at byte {start}"), at, &mut bits)?;
        let sectors = (sector..(sector / 8 + count) * 8).take_while(|number| number * SECTOR < self.block());
        let data = start.saturating_add(bitmap);
        let pieces = sectors.map(|number| {
            let skip = from.max(number * SECTOR);
            let byte = usize::try_from(number / 8 - sector / 8).ok().and_then(|index| bits.get(index)).copied();
            let is_there = byte.unwrap_or(0) >> (7 - number % 8) & 1 == 1;
            let place = if is_there { Place::Stored(data.saturating_add(skip)) } else { Place::Zero };
            Ok(Piece { len: (number + 1) * SECTOR - skip, place })
        });
        Ok(joined(pieces)?.unwrap_or(Piece { len: 0, place: Place::Zero }))
    }
}

impl Map for Dynamic {
    fn form(&self) -> Form {
        Form::Vhd
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn largest_unit(&self) -> usize {
        0
    }

    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError> {
        let (block, from) = (at >> self.block_bits, at & (self.block() - 1));
        let most = from.saturating_add(wanted).div_ceil(self.block());
        let entries = self.entries(block, most)?;
        let holes = entries.iter().take_while(|entry| **entry == NO_BLOCK).count() as u64;
        match entries.first() {
            Some(&entry) if holes == 0 => self.find_in_block(u64::from(entry) * SECTOR, from),
            _ => Ok(Piece { len: (holes << self.block_bits).saturating_sub(from), place: Place::Zero }),
        }
    }
}

fn wrong(what: &str, why: impl Into<String>) -> ReadError {
    corrupt(Form::Vhd, what, why)
}
