//! VMDK, streamOptimized: the form that VMware, VirtualBox and AWS import. It is one file, in which each grain of the
//! disk is compressed.
//!
//! Source: VMware, "Virtual Disk Format 5.0". Numbers are little-endian; places are counted in sectors. The file is
//! made from its first byte to its last:
//!
//! ```text
//! header, which leaves it to the footer where the directory is
//! descriptor
//! for each 32 MiB of the disk:  grains with data, a marker before each; a marker, and the table of these grains
//! marker, directory of the tables
//! marker, footer: the header once more
//! marker of the end
//! ```
//!
//! Programs that import the file read it in that order, by the markers. Machines find grains by the tables.

use std::io::Write;

use flate2::Compression;
use uuid::Uuid;

use super::deflate::{self, Deflater};
use super::limits::{check_sectors, check_size, impossible};
use super::ordered::{Pack, Unit, in_order, is_zero};
use super::{Format, FormatError, Making, Source};
use crate::container::vmdk::{AT_END, COMPRESSED, LINE_ENDS, MAGIC, SECTOR};
use crate::units::ByteOffset;

/// A flag: the line endings in the header show whether the file was copied as text.
const HAS_LINE_ENDS: u32 = 1;
/// Of the flags: there are markers.
const HAS_MARKERS: u32 = 1 << 17;
/// The bytes of a grain: what VMware takes, and AWS demands.
const GRAIN: usize = 64 << 10;
/// The grains that a table describes.
const TABLE: usize = 512;
/// The bytes of the disk that a thread compresses at once.
const UNIT: usize = 4 << 20;
/// The bytes of a sector, to pad structures in memory.
const BLOCK: usize = 512;
/// The sectors of the descriptor, with room for what others add to it.
const DESCRIPTOR: u64 = 20;
/// The sector of the first grain.
const OVERHEAD: usize = 128;
/// VMware's largest disk.
const SIZE_MAX: u64 = 62 << 40;

/// What follows a marker.
#[derive(Clone, Copy)]
enum Marker {
    End = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

/// Writes the disk in order.
pub(super) fn stream(source: &dyn Source, to: &mut (dyn Write + Send), making: Making<'_>) -> Result<(), FormatError> {
    let Making { level, identity, means, .. } = making;
    let size = source.map().size();
    check_sectors(Format::Vmdk, &making)?;
    check_size(Format::Vmdk, size, SECTOR, SIZE_MAX)?;
    let level = deflate::level(Format::Vmdk, level)?;
    means.progress.stage("compressing", 0, size);
    let mut file = Vmdk { to, sectors: size / SECTOR, at: 0, table: Vec::new(), directory: Vec::new() };
    file.start(identity)?;
    in_order(source, UNIT, means, || Packer::new(level), |_, grains, packed| file.add(&grains, packed))?;
    file.finish()
}

struct Packer {
    deflater: Deflater,
    /// Puts a stream's frame around what cannot be compressed.
    frame: Deflater,
    /// A grain that the disk's end has cut off, with zeros behind it.
    whole: Vec<u8>,
}

impl Packer {
    fn new(level: Compression) -> Self {
        let (deflater, frame) = (Deflater::zlib(level), Deflater::zlib(Compression::none()));
        Self { deflater, frame, whole: Vec::new() }
    }

    /// Appends a grain of the disk with its marker, in whole sectors, and returns how many.
    fn grain(&mut self, at: u64, grain: &[u8], output: &mut Vec<u8>) -> Result<u32, FormatError> {
        let start = output.len();
        output.extend((at / SECTOR).to_le_bytes());
        output.extend([0; 4]);
        let packed = output.len();
        let mut grain = grain;
        if grain.len() < GRAIN {
            self.whole.clear();
            self.whole.extend_from_slice(grain);
            self.whole.resize(GRAIN, 0);
            grain = &self.whole;
        }
        self.deflater.stream(grain, output)?;
        // Readers have room for a grain that grew by a sector, and a low level can make more of it.
        if output.len() - packed > GRAIN {
            output.truncate(packed);
            self.frame.stream(grain, output)?;
        }
        let len = length(output.len() - packed);
        output[packed - 4..packed].copy_from_slice(&len.to_le_bytes());
        pad(output, start);
        Ok(length((output.len() - start) / BLOCK))
    }
}

impl Pack for Packer {
    /// The sectors that each grain takes; 0 for one of zeros.
    type Note = Vec<u32>;

    fn pack(&mut self, at: ByteOffset, bytes: Unit<'_>, output: &mut Vec<u8>) -> Result<Vec<u32>, FormatError> {
        let bytes = match bytes {
            Unit::Data(bytes) => bytes,
            Unit::Zeros(len) => return Ok(vec![0; len.div_ceil(GRAIN)]),
        };
        let grains = (at.0..).step_by(GRAIN).zip(bytes.chunks(GRAIN));
        grains.map(|(at, grain)| if is_zero(grain) { Ok(0) } else { self.grain(at, grain, output) }).collect()
    }
}

/// The file as far as it is written.
struct Vmdk<'a> {
    to: &'a mut (dyn Write + Send),
    /// The sectors of the disk.
    sectors: u64,
    /// The sectors that are written.
    at: u64,
    /// Where the grains of the next table are; 0 for a grain of zeros.
    table: Vec<u32>,
    /// Where the tables are; 0 for one without grains.
    directory: Vec<u32>,
}

impl Vmdk<'_> {
    fn start(&mut self, identity: Uuid) -> Result<(), FormatError> {
        self.put(header(self.sectors, AT_END))?;
        let mut descriptor = descriptor(self.sectors, identity).into_bytes();
        descriptor.resize(OVERHEAD * BLOCK - BLOCK, 0);
        self.put(descriptor)
    }

    /// Adds the next grains of the disk.
    fn add(&mut self, grains: &[u32], packed: &[u8]) -> Result<(), FormatError> {
        for &sectors in grains {
            let at = if sectors == 0 { 0 } else { self.sector()? };
            self.table.push(at);
            self.at += u64::from(sectors);
        }
        self.to.write_all(packed).map_err(FormatError::Write)?;
        // Units end where tables end.
        if self.table.len() == TABLE { self.end_table() } else { Ok(()) }
    }

    fn end_table(&mut self) -> Result<(), FormatError> {
        let mut table = std::mem::take(&mut self.table);
        if table.iter().all(|&grain| grain == 0) {
            self.directory.push(0);
            return Ok(());
        }
        table.resize(TABLE, 0);
        let at = self.put_marked(Marker::Table, little(&table))?;
        self.directory.push(at);
        Ok(())
    }

    fn finish(mut self) -> Result<(), FormatError> {
        if !self.table.is_empty() {
            self.end_table()?;
        }
        let directory = little(&self.directory);
        let at = self.put_marked(Marker::Directory, directory)?;
        self.put_marked(Marker::Footer, header(self.sectors, at.into()))?;
        self.put(marker(Marker::End, 0))
    }

    /// Writes a structure with its marker, and returns its first sector.
    fn put_marked(&mut self, kind: Marker, bytes: Vec<u8>) -> Result<u32, FormatError> {
        self.put(marker(kind, (bytes.len() as u64).div_ceil(SECTOR)))?;
        let at = self.sector()?;
        self.put(bytes)?;
        Ok(at)
    }

    fn put(&mut self, mut bytes: Vec<u8>) -> Result<(), FormatError> {
        pad(&mut bytes, 0);
        self.at += bytes.len() as u64 / SECTOR;
        self.to.write_all(&bytes).map_err(FormatError::Write)
    }

    /// The sector that is written next.
    fn sector(&self) -> Result<u32, FormatError> {
        let too_large = "the file would be larger than 2 TiB, more than its tables can point to; use vhdx";
        u32::try_from(self.at).map_err(|_| impossible(Format::Vmdk, too_large))
    }
}

/// The header of a disk of so many sectors, whose directory is at a sector.
fn header(sectors: u64, directory: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    // The version of a stream that ESXi accepts; it refuses older ones.
    header.extend(3_u32.to_le_bytes());
    header.extend((HAS_LINE_ENDS | COMPRESSED | HAS_MARKERS).to_le_bytes());
    header.extend(sectors.to_le_bytes());
    header.extend((GRAIN as u64 / SECTOR).to_le_bytes());
    header.extend(1_u64.to_le_bytes());
    header.extend(DESCRIPTOR.to_le_bytes());
    header.extend(length(TABLE).to_le_bytes());
    // There is no second directory.
    header.extend(0_u64.to_le_bytes());
    header.extend(directory.to_le_bytes());
    header.extend((OVERHEAD as u64).to_le_bytes());
    // It is not in use.
    header.push(0);
    header.extend(LINE_ENDS);
    // Deflate.
    header.extend(1_u16.to_le_bytes());
    header
}

/// The marker before a structure of so many sectors.
fn marker(kind: Marker, sectors: u64) -> Vec<u8> {
    let mut marker = sectors.to_le_bytes().to_vec();
    // A grain would have its length here.
    marker.extend([0; 4]);
    marker.extend((kind as u32).to_le_bytes());
    marker
}

/// What the disk is, in text.
///
/// There is no identity of VirtualBox: it refuses a second disk with the same, and makes one of its own if there is none.
fn descriptor(sectors: u64, identity: Uuid) -> String {
    // Writes to the disk change the last 32 bits. All ones mean that there is no disk.
    let content = Uuid::new_v5(&identity, b"vmdk").as_u128() & !(1 << 31);
    let id = content & u128::from(u32::MAX);
    let (heads, per_track) = (255, 63);
    let cylinders = (sectors / (heads * per_track)).max(1);
    format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={id:08x}\n\
         parentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\
         \n\
         # Extent description\n\
         RDONLY {sectors} SPARSE \"disk.vmdk\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.virtualHWVersion = \"4\"\n\
         ddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{per_track}\"\n\
         ddb.longContentID = \"{content:032x}\"\n"
    )
}

/// Fills the last sector of what starts at `start` with zeros.
fn pad(bytes: &mut Vec<u8>, start: usize) {
    let len = (bytes.len() - start).next_multiple_of(BLOCK);
    bytes.resize(start + len, 0);
}

fn little(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a grain of 64 KiB is not much longer when compressed")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use flate2::read::ZlibDecoder;

    use super::*;
    use crate::container::fields::{le32, le64};
    use crate::disk::oracle;
    use crate::formats::sample::{KIB, MIB, Sample, broken, bytes, qemu_check, qemu_compare};
    use crate::samples::noise;
    use crate::units::SectorSize;

    /// A disk whose third table has no grains, and whose last grain is cut off.
    fn sample() -> Sample {
        let size = 130 * MIB + 1536;
        let data = [0..KIB, MIB + 512..2 * MIB, 32 * MIB - 9..32 * MIB + 9, 100 * MIB..104 * MIB, size - 700..size];
        Sample::new(size, &data, 2 * MIB..4 * MIB)
    }

    #[test]
    fn a_disk_comes_back() {
        let sample = sample();
        let file = sample.make_all_ways(Format::Vmdk);
        assert!(sample.reads_back(&file));
        // In the first grain's compressed bytes.
        let bad_grain = |file: &Path| broken(file, (OVERHEAD * BLOCK + 40) as u64, &[0xff; 4]);
        assert!(!sample.reads_back(&bad_grain(&file)));
        if oracle::available("qemu-img") {
            qemu_check(&file, "vmdk").unwrap();
            qemu_compare(&sample, &file, "vmdk").unwrap();
            qemu_compare(&sample, &bad_grain(&file), "vmdk").unwrap_err();
            // The first table's first grain is past the file.
            let directory = le64(&bytes(&file, file.metadata().unwrap().len() - 2 * SECTOR, 512), 56);
            let table = le32(&bytes(&file, directory * SECTOR, 4), 0);
            let bad_table = broken(&file, u64::from(table) * SECTOR, &u32::MAX.to_le_bytes());
            qemu_check(&bad_table, "vmdk").unwrap_err();
        }
    }

    /// As VirtualBox, ESXi and OVF tools import it: by the markers only, which have to agree with the tables.
    #[test]
    fn it_can_be_read_as_a_stream() {
        let sample = sample();
        let file = std::fs::read(sample.make(Format::Vmdk, 3).unwrap()).unwrap();
        assert_eq!(file.len() % BLOCK, 0);
        let mut disk = vec![0; usize::try_from(sample.size()).unwrap().next_multiple_of(GRAIN)];
        let (mut at, mut next, mut kinds, mut grains) = (OVERHEAD * BLOCK, 0, Vec::new(), vec![0; TABLE]);
        while at < file.len() {
            let (value, size) = (le64(&file, at), le32(&file, at + 8) as usize);
            let value = usize::try_from(value).unwrap();
            if size > 0 {
                assert!(value >= next && value % 128 == 0, "grains are in order");
                next = value + 1;
                grains[value / 128 % TABLE] = length(at / BLOCK);
                let into = &mut disk[value * BLOCK..][..GRAIN];
                ZlibDecoder::new(&file[at + 12..][..size]).read_exact(into).unwrap();
                at += (12 + size).next_multiple_of(BLOCK);
                continue;
            }
            let structure = &file[at + BLOCK..][..value * BLOCK];
            match le32(&file, at + 12) {
                0 => assert_eq!(at + BLOCK, file.len()),
                1 => assert_eq!(structure, little(&std::mem::replace(&mut grains, vec![0; TABLE]))),
                2 => {
                    let has_table: Vec<_> = structure.chunks(4).map(|entry| le32(entry, 0) != 0).collect();
                    assert_eq!(has_table[..6], [true, true, false, true, true, false]);
                }
                _ => {
                    assert_eq!(structure[..56], file[..56]);
                    assert_eq!(le64(&file, 56), AT_END);
                }
            }
            kinds.push(le32(&file, at + 12));
            at += BLOCK + value * BLOCK;
        }
        assert_eq!(kinds, [1, 1, 1, 1, 2, 3, 0]);
        disk.truncate(usize::try_from(sample.size()).unwrap());
        assert!(disk == std::fs::read(&sample.raw).unwrap());
    }

    /// VirtualBox has room for a grain of stored bytes with its marker, and no more than the last sector's rest.
    #[test]
    fn what_does_not_compress_hardly_grows() {
        for level in 1..=9 {
            let mut packer = Packer::new(Compression::new(level));
            let mut output = Vec::new();
            let sectors = packer.grain(0, &noise(level.into(), GRAIN), &mut output).unwrap();
            assert!(sectors <= 129, "level {level}: {sectors} sectors");
        }
    }

    #[test]
    fn other_disks_are_refused() {
        let file = tempfile::tempfile().unwrap();
        let refused = |size, level, sector, part: &str| {
            let sample = Sample::new(size, &[], 0..0);
            let error = sample.write(Format::Vmdk, &file, level, sector, 1).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(MIB + 1, 6, SectorSize::B512, "multiple of 512");
        refused(0, 6, SectorSize::B512, "has 0 bytes");
        refused(MIB, 10, SectorSize::B512, "level 10 is not one of 1 to 9");
        refused(MIB, 6, SectorSize::B4096, "sectors of 4096 bytes");
        let mut vmdk = Vmdk { to: &mut Vec::new(), sectors: 1, at: 1 << 32, table: Vec::new(), directory: Vec::new() };
        let error = vmdk.add(&[1], &[0; 512]).unwrap_err().to_string();
        assert!(error.contains("larger than 2 TiB"), "{error}");
    }
}
