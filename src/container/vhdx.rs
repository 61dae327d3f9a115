//! VHDX: the form of Hyper-V; fixed and dynamic.
//!
//! Source: Microsoft, [MS-VHDX]. There are two headers; the newer one that is right counts. A table lists the regions.
//! One region describes the disk. Another one has a table that says where the blocks of the disk are. Numbers are
//! little-endian.

use uuid::{Uuid, uuid};

use super::fields::{le16, le32, le64};
use super::mapped::{Map, Piece, Place, joined};
use super::{CONVERT, Form, Opened, corrupt, disk, read, unsupported};
use crate::read::{Bytes, ReadError, Window};

/// What a file of this form starts with.
pub(crate) const MAGIC: &[u8] = b"vhdxfile";

/// Where the two headers are.
pub(crate) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Their size.
pub(crate) const HEADER: usize = 4096;
/// Where the two copies of the table of regions are.
pub(crate) const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
/// The size of that table, and of that of what is known.
pub(crate) const TABLE: usize = 64 << 10;
/// Entries of both are of this size.
pub(crate) const ENTRY: usize = 32;
/// The unit of offsets of blocks.
pub(crate) const MIB: u64 = 1 << 20;
/// The largest disk: 64 TiB.
pub(crate) const SIZE_MAX: u64 = 64 << 40;
/// The entries that are read at once.
const PAGE: u64 = 512;

pub(crate) const BLOCKS: Uuid = uuid!("2dc27766-f623-4200-9d64-115e9bfd4a08");
pub(crate) const METADATA: Uuid = uuid!("8b7ca206-4790-4b9a-b8fe-575f050f886e");

pub(crate) const PARAMETERS: Uuid = uuid!("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
pub(crate) const DISK_SIZE: Uuid = uuid!("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
pub(crate) const LOGICAL_SECTOR: Uuid = uuid!("8141bf1d-a96f-4709-ba47-f233a8faab5f");
pub(crate) const PHYSICAL_SECTOR: Uuid = uuid!("cda348c7-445d-4471-9cc9-e9885251c556");
pub(crate) const IDENTITY: Uuid = uuid!("beca12ab-b2e6-4523-93ef-c309e000c746");

/// Of the parameters' flags.
const LEAVE_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 1 << 1;
/// Of a region's flags.
pub(crate) const REGION_REQUIRED: u32 = 1;
/// Flags of an item: it describes the disk, not the file; a reader must understand it.
pub(crate) const OF_DISK: u32 = 1 << 1;
pub(crate) const ITEM_REQUIRED: u32 = 1 << 2;

/// States of a block.
pub(crate) const ZERO: u64 = 2;
pub(crate) const PRESENT: u64 = 6;
const PARTLY_PRESENT: u64 = 7;

/// Opens a file with this magic.
pub(super) fn open(file: &Window) -> Opened {
    check_header(file)?;
    let (blocks, metadata) = regions(file)?;
    let (map, flags) = Vhdx::open(file, blocks, metadata)?;
    let variant = if flags & LEAVE_ALLOCATED == 0 { "dynamic" } else { "fixed" };
    Ok((variant.to_owned(), disk(file, map)))
}

/// Refuses a disk with changes that are in its log only.
fn check_header(file: &Window) -> Result<(), ReadError> {
    let headers = HEADERS.iter().filter_map(|&at| {
        let mut header = vec![0; HEADER];
        read(Form::Vhdx, file, "header", at, &mut header).ok()?;
        (header.starts_with(b"head") && has_sum(&mut header)).then_some(header)
    });
    let newest = headers.max_by_key(|header| le64(header, 8));
    let header = newest.ok_or_else(|| wrong("header", "neither of the two has a right checksum"))?;
    if le16(&header, 66) != 1 {
        return Err(unsupported(Form::Vhdx, &format!("has version {}, not 1", le16(&header, 66)), CONVERT));
    }
    if !guid(&header, 48).is_nil() {
        let why = "has changes in its log that its tables may lack: it is in use, or its writer was interrupted";
        return Err(unsupported(Form::Vhdx, why, "repair it with `qemu-img check -r all`"));
    }
    Ok(())
}

/// Whether the checksum after the magic is right. It is zero afterwards.
fn has_sum(bytes: &mut [u8]) -> bool {
    let said = le32(bytes, 4);
    if let Some(sum) = bytes.get_mut(4..8) {
        sum.fill(0);
    }
    crc32c::crc32c(bytes) == said
}

fn guid(bytes: &[u8], at: usize) -> Uuid {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>());
    bytes.map_or(Uuid::nil(), |bytes| Uuid::from_bytes_le(*bytes))
}

/// A region: where it starts, and how many bytes it has.
type Region = (u64, u64);

/// The region of the blocks, and that of what is known.
fn regions(file: &Window) -> Result<(Region, Region), ReadError> {
    let mut tables = REGIONS.iter().filter_map(|&at| {
        let mut table = vec![0; TABLE];
        read(Form::Vhdx, file, "region table", at, &mut table).ok()?;
        (table.starts_with(b"regi") && has_sum(&mut table)).then_some(table)
    });
    let table = tables.next().ok_or_else(|| wrong("region table", "neither of the two has a right checksum"))?;
    let count = usize::try_from(le32(&table, 8)).unwrap_or(usize::MAX);
    let (mut blocks, mut metadata) = (None, None);
    for entry in table.get(16..).unwrap_or_default().chunks_exact(ENTRY).take(count) {
        let region = (le64(entry, 16), u64::from(le32(entry, 24)));
        match guid(entry, 0) {
            BLOCKS => blocks = Some(region),
            METADATA => metadata = Some(region),
            other if le32(entry, 28) & REGION_REQUIRED != 0 => {
                return Err(unsupported(Form::Vhdx, &format!("needs region {other}, which is unknown"), CONVERT));
            }
            _ => {}
        }
    }
    let missing = || wrong("region table", "the region of the block table or of the metadata is missing");
    blocks.zip(metadata).ok_or_else(missing)
}

/// The blocks that one bitmap of sectors would describe. In the table, an entry for that bitmap follows theirs.
pub(crate) fn chunk(sector: u64, block: u64) -> u64 {
    (sector << 23) / block
}

/// Where the blocks are.
#[derive(Debug)]
struct Vhdx {
    file: Window,
    size: u64,
    table: u64,
    block_bits: u32,
    /// Blocks from one entry for a bitmap to the next; the last block before such an entry is followed by it.
    chunk: u64,
}

/// What the metadata say.
#[derive(Debug, Default)]
struct Known {
    block: u32,
    flags: u32,
    size: u64,
    sector: u32,
}

impl Known {
    fn read(file: &Window, (at, len): Region) -> Result<Self, ReadError> {
        let mut table = vec![0; TABLE];
        read(Form::Vhdx, file, "metadata", at, &mut table)?;
        if !table.starts_with(b"metadata") {
            return Err(wrong("metadata", format!("wrong magic number at byte {at}")));
        }
        let mut known = Self::default();
        let entries = table.chunks_exact(ENTRY).skip(1).take(le16(&table, 10).into());
        for entry in entries {
            let offset = u64::from(le32(entry, 16));
            let mut item = [0; 8];
            let mut value = |size: usize| {
                let bytes = item.get_mut(..size).unwrap_or_default();
                let is_inside = offset.checked_add(size as u64).is_some_and(|end| end <= len);
                let offset = at.checked_add(offset).filter(|_| is_inside);
                let offset = offset.ok_or_else(|| wrong("metadata", "an item lies past their end"))?;
                read(Form::Vhdx, file, "metadata", offset, bytes)?;
                Ok::<_, ReadError>(le64(&item, 0))
            };
            match guid(entry, 0) {
                PARAMETERS => {
                    let value = value(8)?.to_le_bytes();
                    (known.block, known.flags) = (le32(&value, 0), le32(&value, 4));
                }
                DISK_SIZE => known.size = value(8)?,
                LOGICAL_SECTOR => known.sector = le32(&value(4)?.to_le_bytes(), 0),
                PHYSICAL_SECTOR | IDENTITY => {}
                _ if known.flags & HAS_PARENT != 0 => {}
                other if le32(entry, 24) & ITEM_REQUIRED != 0 && other != Uuid::nil() => {
                    return Err(unsupported(Form::Vhdx, &format!("needs item {other}, which is unknown"), CONVERT));
                }
                _ => {}
            }
        }
        Ok(known)
    }
}

impl Vhdx {
    fn open(file: &Window, (table, len): Region, metadata: Region) -> Result<(Self, u32), ReadError> {
        let known = Known::read(file, metadata)?;
        if known.flags & HAS_PARENT != 0 {
            let why = "is differencing: a part of the disk is in its parent, another file";
            return Err(unsupported(Form::Vhdx, why, "make one image of both with `qemu-img convert -O raw`"));
        }
        let (block, sector, size) = (u64::from(known.block), u64::from(known.sector), known.size);
        if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block) {
            return Err(wrong("metadata", format!("blocks of {block} bytes, not a power of two from 1 to 256 MiB")));
        }
        if !matches!(sector, 512 | 4096) || size > SIZE_MAX {
            return Err(wrong("metadata", format!("a disk of {size} bytes in sectors of {sector}")));
        }
        let chunk = chunk(sector, block);
        let blocks = size.div_ceil(block);
        let entries = blocks + blocks.saturating_sub(1) / chunk;
        let end = table.checked_add(entries * 8);
        if entries * 8 > len || end.is_none_or(|end| end > file.len()) {
            let why = format!("its {len} bytes at byte {table} do not hold {entries} entries, or lie past the file");
            return Err(wrong("block table", why));
        }
        Ok((Self { file: file.clone(), size, table, block_bits: block.trailing_zeros(), chunk }, known.flags))
    }

    fn piece(&self, entry: u64, start: u64, from: u64) -> Result<Piece, ReadError> {
        let len = (1_u64 << self.block_bits).saturating_sub(from);
        let offset = (entry >> 20).saturating_mul(MIB);
        let place = match entry & 7 {
            // Not there, undefined, zeros, unmapped.
            0..=3 => Place::Zero,
            PRESENT => Place::Stored(offset.saturating_add(from)),
            PARTLY_PRESENT => {
                let why = "only parts of it are there, though the disk has no parent";
                return Err(wrong(&format!("block of the disk's byte {start}"), why));
            }
            state => return Err(wrong(&format!("block of the disk's byte {start}"), format!("state {state}"))),
        };
        Ok(Piece { len, place })
    }
}

impl Map for Vhdx {
    fn form(&self) -> Form {
        Form::Vhdx
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn largest_unit(&self) -> usize {
        0
    }

    fn find(&self, at: u64, wanted: u64) -> Result<Piece, ReadError> {
        let size = 1_u64 << self.block_bits;
        let (block, from) = (at >> self.block_bits, at & (size - 1));
        let left = self.size.div_ceil(size).saturating_sub(block).min(self.chunk - block % self.chunk);
        let count = from.saturating_add(wanted).div_ceil(size).min(left).clamp(1, PAGE);
        let mut page = vec![0; usize::try_from(count * 8).unwrap_or_default()];
        let entry = block + block / self.chunk;
        read(Form::Vhdx, &self.file, "block table", self.table.saturating_add(entry * 8), &mut page)?;
        let pieces = (block..).zip(page.chunks_exact(8)).map(|(number, entry)| {
            let from = if number == block { from } else { 0 };
            self.piece(le64(entry, 0), number << self.block_bits, from)
        });
        Ok(joined(pieces)?.unwrap_or(Piece { len: 0, place: Place::Zero }))
    }
}

fn wrong(what: &str, why: impl Into<String>) -> ReadError {
    corrupt(Form::Vhdx, what, why)
}
