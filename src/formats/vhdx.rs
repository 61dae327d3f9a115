//! VHDX, dynamic: the form of Hyper-V.
//!
//! Source: Microsoft, [MS-VHDX]. Numbers are little-endian. Everything is laid out before a byte is read:
//!
//! ```text
//!   0 MiB   identifier, headers, tables of regions: 64 KiB each, the latter twice
//!   1 MiB   log: empty
//!   2 MiB   metadata: what is known of the disk
//!   3 MiB   table of blocks, in whole MiB
//!   …       blocks with data, in the order of the disk
//! ```

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

use super::limits::check_size;
use super::{Filled, Format, FormatError, Making, Places, Source};
use crate::container::vhdx as known;
use crate::container::vhdx::MIB;
use crate::map::ImageMap;
use crate::units::{ByteOffset, SectorSize};

/// The bytes of a block. Microsoft recommends this size, the smallest possible one, for Linux: ext4 has something in
/// each of its groups, and larger blocks would be full of space that is free. A table of them has 8 KiB for each GiB.
const BLOCK: u64 = MIB;
/// The size of the log, and of the metadata.
const REGION: u64 = MIB;
const LOG: u64 = MIB;
const METADATA: u64 = LOG + REGION;
const BLOCKS: u64 = METADATA + REGION;
/// Sectors of disks of today; only a hint.
const PHYSICAL_SECTOR: u32 = 4096;

/// Writes the disk.
pub(super) fn write(source: &dyn Source, to: &File, making: Making<'_>) -> Result<Filled, FormatError> {
    let layout = Layout::new(source.map(), making.sector_size)?;
    to.set_len(layout.file_size()).map_err(FormatError::Write)?;
    let put = |at: u64, bytes: &[u8]| to.write_all_at(bytes, at).map_err(FormatError::Write);
    put(0, &identifier())?;
    for (sequence, at) in (1..).zip(known::HEADERS) {
        put(at, &header(sequence, making.identity))?;
    }
    for at in known::REGIONS {
        put(at, &layout.regions())?;
    }
    put(METADATA, &layout.metadata(making.identity))?;
    layout.put_table(put)?;
    source.fill(to, &layout.places(), making.means)
}

/// Where everything is.
struct Layout {
    size: u64,
    sector: SectorSize,
    /// The blocks that have data, by their numbers.
    data: Vec<Range<u64>>,
}

impl Layout {
    fn new(map: &ImageMap, sector: SectorSize) -> Result<Self, FormatError> {
        check_size(Format::Vhdx, map.size(), sector.bytes(), known::SIZE_MAX)?;
        let data = map.data_units(BLOCK).into_iter().map(|range| range.start / BLOCK..range.end / BLOCK);
        Ok(Self { size: map.size(), sector, data: data.collect() })
    }

    /// The blocks of the whole disk.
    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    /// The blocks that one bitmap would describe.
    fn chunk(&self) -> u64 {
        known::chunk(self.sector.bytes(), BLOCK)
    }

    /// The bytes of the region of the table of blocks.
    fn table_size(&self) -> u64 {
        let entries = self.blocks() + (self.blocks() - 1) / self.chunk();
        (entries * 8).next_multiple_of(MIB)
    }

    /// Where the first block with data is.
    fn first_block(&self) -> u64 {
        BLOCKS + self.table_size()
    }

    fn file_size(&self) -> u64 {
        self.first_block() + self.data.iter().map(|blocks| blocks.end - blocks.start).sum::<u64>() * BLOCK
    }

    /// The blocks with data, and where they are.
    fn placed(&self) -> impl Iterator<Item = (Range<u64>, u64)> + '_ {
        self.data.iter().scan(self.first_block(), |next, blocks| {
            let at = *next;
            *next += (blocks.end - blocks.start) * BLOCK;
            Some((blocks.clone(), at))
        })
    }

    fn places(&self) -> Places {
        let mut places = Places::default();
        for (blocks, at) in self.placed() {
            places.add(blocks.start * BLOCK..(blocks.end * BLOCK).min(self.size), ByteOffset(at));
        }
        places
    }

    /// Writes the table of blocks, a chunk at a time.
    ///
    /// All that is not there is said to be zeros, not to be undefined: readers may give anything for the latter.
    fn put_table(&self, put: impl Fn(u64, &[u8]) -> Result<(), FormatError>) -> Result<(), FormatError> {
        let mut placed = self.placed().flat_map(|(blocks, at)| {
            let start = blocks.start;
            blocks.map(move |block| (block, at + (block - start) * BLOCK))
        });
        let mut next = placed.next();
        let mut at = BLOCKS;
        let chunk = usize::try_from(self.chunk()).unwrap_or(usize::MAX);
        let mut blocks = 0..self.blocks();
        while !blocks.is_empty() {
            let mut entries: Vec<u8> = Vec::new();
            for block in blocks.by_ref().take(chunk) {
                let here = next.filter(|(number, _)| *number == block).map(|(_, at)| at);
                if here.is_some() {
                    next = placed.next();
                }
                entries.extend(here.map_or(known::ZERO, |at| at | known::PRESENT).to_le_bytes());
            }
            // That of the bitmap, which only a disk with a parent has.
            entries.extend(0_u64.to_le_bytes());
            if blocks.is_empty() {
                // Behind the last block there is none.
                entries.truncate(entries.len() - 8);
            }
            put(at, &entries)?;
            at += entries.len() as u64;
        }
        Ok(())
    }

    fn regions(&self) -> Vec<u8> {
        let regions = [(known::BLOCKS, BLOCKS, self.table_size()), (known::METADATA, METADATA, REGION)];
        let mut table = Vec::new();
        table.extend(b"regi\0\0\0\0");
        table.extend(length(regions.len()).to_le_bytes());
        table.extend([0; 4]);
        for (id, at, len) in regions {
            table.extend(id.to_bytes_le());
            table.extend(at.to_le_bytes());
            table.extend(u32::try_from(len).expect("64 TiB have half a GiB").to_le_bytes());
            table.extend(known::REGION_REQUIRED.to_le_bytes());
        }
        table.resize(known::TABLE, 0);
        with_sum(table)
    }

    /// The table of what is known, and that.
    fn metadata(&self, identity: Uuid) -> Vec<u8> {
        // No flags: blocks are added as they are written, and there is no parent.
        let parameters = u32::try_from(BLOCK).expect("a MiB").to_le_bytes().into_iter().chain([0; 4]).collect();
        let sector = u32::try_from(self.sector.bytes()).expect("512 or 4096");
        let items: [(Uuid, u32, Vec<u8>); 5] = [
            (known::PARAMETERS, 0, parameters),
            (known::DISK_SIZE, known::OF_DISK, self.size.to_le_bytes().into()),
            (known::LOGICAL_SECTOR, known::OF_DISK, sector.to_le_bytes().into()),
            (known::PHYSICAL_SECTOR, known::OF_DISK, PHYSICAL_SECTOR.to_le_bytes().into()),
            (known::IDENTITY, known::OF_DISK, derive(&identity, "disk").to_bytes_le().into()),
        ];
        let mut table = Vec::new();
        table.extend(b"metadata\0\0");
        table.extend(u16::try_from(items.len()).expect("five").to_le_bytes());
        table.resize(known::ENTRY, 0);
        let mut values = Vec::new();
        for (id, flags, value) in items {
            table.extend(id.to_bytes_le());
            table.extend((length(known::TABLE) + length(values.len())).to_le_bytes());
            table.extend(length(value.len()).to_le_bytes());
            table.extend((flags | known::ITEM_REQUIRED).to_le_bytes());
            table.extend([0; 4]);
            values.extend(value);
        }
        table.resize(known::TABLE, 0);
        table.extend(values);
        table
    }
}

/// What the file starts with: the magic, and who made it.
fn identifier() -> Vec<u8> {
    let mut identifier = known::MAGIC.to_vec();
    identifier.extend("sane-image".encode_utf16().flat_map(u16::to_le_bytes));
    identifier
}

fn header(sequence: u64, identity: Uuid) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(b"head\0\0\0\0");
    header.extend(sequence.to_le_bytes());
    // The two GUIDs: for writes to the file, and for writes of the machine to the disk.
    header.extend(derive(&identity, "file").to_bytes_le());
    header.extend(derive(&identity, "data").to_bytes_le());
    // Nothing in the log is valid.
    header.extend(Uuid::nil().to_bytes_le());
    // The version of the log, and that of the format.
    header.extend(0_u16.to_le_bytes());
    header.extend(1_u16.to_le_bytes());
    header.extend(u32::try_from(REGION).expect("a MiB").to_le_bytes());
    header.extend(LOG.to_le_bytes());
    header.resize(known::HEADER, 0);
    with_sum(header)
}

/// The same, with its checksum behind its magic, where zeros are.
fn with_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn derive(identity: &Uuid, what: &str) -> Uuid {
    Uuid::new_v5(identity, format!("vhdx {what}").as_bytes())
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("no more than a few tables")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::oracle;
    use crate::formats::sample::{GIB, KIB, Sample, broken, bytes, qemu_check, qemu_compare};

    /// A disk of so many bytes with data on both sides of the range that one bitmap would describe.
    fn sample(size: u64) -> Sample {
        let edge = 4 * GIB;
        let data = [0..KIB, MIB + 512..2 * MIB, 7 * MIB..9 * MIB + 5, edge - 9..edge + 9, size - 700..size];
        Sample::new(size, &data, 2 * MIB..4 * MIB)
    }

    #[test]
    fn a_disk_comes_back() {
        let sample = sample(4 * GIB + 5 * MIB + 1536);
        let file = sample.make_all_ways(Format::Vhdx);
        // Blocks 0, 1, 7 to 9, 4095, 4096 and the last.
        assert_eq!(file.metadata().unwrap().len(), (4 + 8) * MIB);
        assert!(sample.reads_back(&file));
        assert!(!sample.reads_back(&broken(&file, 4 * MIB + 3, &[0x55])));
        let entry = |number: u64| u64::from_le_bytes(bytes(&file, 3 * MIB + number * 8, 8).try_into().unwrap());
        let entries = [0, 1, 2, 4095, 4096, 4097, 4102, 4103].map(entry);
        assert_eq!(entries, [4 * MIB + 6, 5 * MIB + 6, 2, 9 * MIB + 6, 0, 10 * MIB + 6, 11 * MIB + 6, 0]);
        if oracle::available("qemu-img") {
            qemu_check(&file, "vhdx").unwrap();
            qemu_compare(&sample, &file, "vhdx").unwrap();
            qemu_compare(&sample, &broken(&file, 4 * MIB + 3, &[0x55]), "vhdx").unwrap_err();
            // A block past the file.
            qemu_check(&broken(&file, 3 * MIB + 8, &(99 * MIB + 6).to_le_bytes()), "vhdx").unwrap_err();
        }
    }

    #[test]
    fn one_header_and_one_table_of_regions_will_do() {
        let size = 9 * MIB;
        let sample = Sample::new(size, &[0..KIB, size - 700..size], 0..0);
        let file = sample.make(Format::Vhdx, 2).unwrap();
        for at in known::HEADERS.into_iter().chain(known::REGIONS) {
            let file = broken(&file, at + 12, &[0xff]);
            assert!(sample.reads_back(&file));
            // QEMU never looks at the second table of regions.
            if at != known::REGIONS[0] && oracle::available("qemu-img") {
                qemu_compare(&sample, &file, "vhdx").unwrap();
            }
        }
        let [one, other] = known::HEADERS;
        let headless = broken(&broken(&file, one + 12, &[0xff]), other + 12, &[0xff]);
        assert!(!sample.reads_back(&headless));
    }

    /// A system that reads such a disk with sectors of 512 bytes finds no partitions on it.
    #[test]
    fn sectors_are_told() {
        let sample = sample(4 * GIB + 2 * MIB);
        let path = sample.path("disk.vhdx");
        let file = File::create_new(&path).unwrap();
        sample.write(Format::Vhdx, &file, 6, SectorSize::B4096, 1).unwrap();
        assert!(sample.reads_back(&path));
        let error = Sample::new(GIB + 512, &[], 0..0).write(Format::Vhdx, &file, 6, SectorSize::B4096, 1);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("multiple of 4096"), "{error}");
    }
}
