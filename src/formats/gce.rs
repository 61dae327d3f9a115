//! The form from which Google's cloud makes images: a gzipped tar with one file, `disk.raw`, whose holes take no room.
//!
//! Google wants what `tar --format=oldgnu -Sczf` makes, and refuses other tars for small differences. So each byte of
//! this tar is the same as GNU tar's. The map of the disk says which pieces of the disk are in it, before a byte is
//! read.
//!
//! The gzip (RFC 1952) has one member, because some readers do not look for a second one. The parts of its deflate
//! stream are made independently of each other, and so are the parts of its checksum.

use std::io::Write;
use std::ops::Range;

use crc32fast::Hasher;
use flate2::Compression;
use tar::{EntryType, Header};

use super::deflate::{self, Deflater};
use super::limits::{check_sectors, check_size};
use super::ordered::{Pack, Unit, in_order};
use super::{Format, FormatError, Making, Source};
use crate::copy::Means;
use crate::gnu_sparse::{Piece, describe, stored};
use crate::map::ImageMap;
use crate::units::ByteOffset;

/// Google's disks have a whole number of these.
pub(super) const SIZE_UNIT: u64 = 1 << 30;
/// Pieces are whole numbers of so many bytes. With fewer there would be more pieces, which take more room than the zeros
/// between them.
const GRAIN: u64 = 64 << 10;
/// The bytes of the disk that a thread compresses at once.
const UNIT: usize = 4 << 20;
/// The unit of a tar.
const BLOCK: u64 = 512;
/// GNU tar writes whole numbers of these.
const RECORD: u64 = 20 * BLOCK;
/// What a gzip starts with: its magic, deflate, no name, no time, no hint of the level, no system.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block of deflate.
const LAST: [u8; 2] = [3, 0];

/// Writes the disk in order.
pub(super) fn stream(source: &dyn Source, to: &mut (dyn Write + Send), making: Making<'_>) -> Result<(), FormatError> {
    let Making { level, means, .. } = making;
    let size = source.map().size();
    check_sectors(Format::Gce, &making)?;
    check_size(Format::Gce, size, SIZE_UNIT, u64::MAX)?;
    let level = deflate::level(Format::Gce, level)?;
    means.progress.stage("compressing", 0, size);
    pack_disk(source, to, level, means)
}

/// Writes a disk of any size.
fn pack_disk(
    source: &dyn Source,
    to: &mut (dyn Write + Send),
    level: Compression,
    means: Means<'_>,
) -> Result<(), FormatError> {
    let pieces = source.map().data_units(GRAIN);
    let mut gzip = Gzip::start(to)?;
    gzip.add_bytes(&head(source.map(), &pieces), level)?;
    in_order(source, UNIT, means, || Packer::new(&pieces, level), |_, sum, packed| gzip.add(&sum, packed))?;
    // Two blocks of zeros end a tar.
    let len = (gzip.len() + 2 * BLOCK).next_multiple_of(RECORD) - gzip.len();
    gzip.add_bytes(&vec![0; usize::try_from(len).unwrap_or_default()], level)?;
    gzip.finish()
}

/// The header of the file, and the blocks after it that list further pieces.
fn head(map: &ImageMap, data: &[Range<u64>]) -> Vec<u8> {
    let size = map.size();
    let piece = |range: &Range<u64>| Piece { at: range.start, len: range.end - range.start };
    let mut pieces: Vec<Piece> = data.iter().map(piece).collect();
    // The file's end, so that a hole before it is one. GNU tar always writes it, if it asks the system for the holes.
    pieces.push(Piece { at: size, len: 0 });
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..8].copy_from_slice(b"disk.raw");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(stored(&pieces));
    header.set_entry_type(EntryType::Regular);
    let mut more = Vec::new();
    let is_whole = matches!(pieces.as_slice(), [Piece { at: 0, len }, _] if *len == size);
    if !is_whole {
        header.set_entry_type(EntryType::GNUSparse);
        more = describe(&mut header, &pieces, size);
    }
    set_sum(&mut header);
    [header.as_bytes(), more.as_slice()].concat()
}

/// The checksum as GNU tar writes it: six digits, a NUL and a space.
fn set_sum(header: &mut Header) {
    header.as_old_mut().cksum = *b"        ";
    let sum = header.as_bytes().iter().fold(0_u32, |sum, &byte| sum + u32::from(byte));
    header.as_old_mut().cksum[..7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Packs what of a unit stands in the tar.
struct Packer<'a> {
    pieces: &'a [Range<u64>],
    deflater: Deflater,
    /// The pieces of the unit that are in the tar.
    bytes: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn new(pieces: &'a [Range<u64>], level: Compression) -> Self {
        Self { pieces, deflater: Deflater::raw(level), bytes: Vec::new() }
    }

    /// The parts of a range of the disk that stand in the tar, as ranges of that range.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let first = self.pieces.partition_point(|piece| piece.end <= range.start);
        let found = self.pieces.iter().skip(first).take_while(move |piece| piece.start < range.end);
        let index = move |at: u64| usize::try_from(at.clamp(range.start, range.end) - range.start).unwrap_or(UNIT);
        found.map(move |piece| index(piece.start)..index(piece.end))
    }
}

impl Pack for Packer<'_> {
    /// The checksum of what was packed, and its length.
    type Note = Hasher;

    fn pack(&mut self, at: ByteOffset, unit: Unit<'_>, output: &mut Vec<u8>) -> Result<Hasher, FormatError> {
        let len = match unit {
            Unit::Data(bytes) => bytes.len(),
            Unit::Zeros(len) => len,
        };
        self.bytes.clear();
        for part in self.parts(at.0..at.0 + len as u64) {
            match unit {
                Unit::Data(bytes) => self.bytes.extend_from_slice(&bytes[part]),
                Unit::Zeros(_) => self.bytes.resize(self.bytes.len() + part.len(), 0),
            }
        }
        pack(&mut self.deflater, &self.bytes, output)
    }
}

/// Appends a part of the gzip, and returns its checksum and length.
fn pack(deflater: &mut Deflater, bytes: &[u8], output: &mut Vec<u8>) -> Result<Hasher, FormatError> {
    let mut sum = Hasher::new();
    if !bytes.is_empty() {
        sum.update(bytes);
        deflater.part(bytes, output)?;
    }
    Ok(sum)
}

/// A gzip as far as it is written.
struct Gzip<'a> {
    to: &'a mut (dyn Write + Send),
    /// The checksum of what was packed, and its length.
    sum: Hasher,
}

impl<'a> Gzip<'a> {
    fn start(to: &'a mut (dyn Write + Send)) -> Result<Self, FormatError> {
        to.write_all(&GZIP).map_err(FormatError::Write)?;
        Ok(Self { to, sum: Hasher::new() })
    }

    fn len(&self) -> u64 {
        self.sum.total_len()
    }

    fn add(&mut self, sum: &Hasher, packed: &[u8]) -> Result<(), FormatError> {
        self.sum.combine(sum);
        self.to.write_all(packed).map_err(FormatError::Write)
    }

    fn add_bytes(&mut self, bytes: &[u8], level: Compression) -> Result<(), FormatError> {
        let mut packed = Vec::new();
        let sum = pack(&mut Deflater::raw(level), bytes, &mut packed)?;
        self.add(&sum, &packed)
    }

    fn finish(self) -> Result<(), FormatError> {
        // The length by 32 bits, as the format has it.
        let len = self.len().to_le_bytes();
        let end = [&LAST[..], &self.sum.finalize().to_le_bytes(), &len[..4]].concat();
        self.to.write_all(&end).map_err(FormatError::Write)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::disk::oracle;
    use crate::formats::sample::{GIB, KIB, MIB, Sample, broken, judge};
    use crate::units::SectorSize;

    /// A disk with this many pieces of noise, some of which share a unit.
    fn sample(size: u64, pieces: u64) -> Sample {
        let data: Vec<_> = (0..pieces).map(|number| number * 1280 * KIB..number * 1280 * KIB + 192 * KIB).collect();
        Sample::new(size, &data, 0..0)
    }

    fn unzipped(file: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut tar).unwrap();
        tar
    }

    /// The tar of the raw disk that GNU tar makes.
    fn gnu(sample: &Sample) -> Vec<u8> {
        let disk = sample.path("disk.raw");
        std::fs::rename(&sample.raw, &disk).unwrap();
        let mut tar = Command::new("tar");
        tar.args([
            "--format=oldgnu",
            "--hole-detection=raw",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ]);
        tar.args(["--mode=0644", "-Scf", "-", "-C"]).arg(disk.parent().unwrap()).arg("disk.raw");
        let output = oracle::run(&mut tar);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(disk, &sample.raw).unwrap();
        output.stdout
    }

    #[test]
    fn it_is_what_gnu_tar_makes() {
        if !oracle::available("tar") {
            return;
        }
        // All pieces in the header; then some in one more block; then in several.
        for pieces in [0, 3, 4, 5, 25, 26, 60] {
            let sample = sample(76 * MIB, pieces);
            let mut file = Vec::new();
            sample.with_means(2, |disk, means| pack_disk(disk, &mut file, Compression::new(6), means)).unwrap();
            let (ours, theirs) = (unzipped(file.as_slice()), gnu(&sample));
            let first = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert!(first.is_none() && ours.len() == theirs.len(), "{pieces} pieces: byte {first:?} differs");
        }
    }

    /// Data at both ends, odd lengths, zeros within data, and a size that eleven octal digits do not hold.
    #[test]
    fn a_disk_comes_back() {
        let size = 9 * GIB;
        let data = [0..KIB, MIB + 512..2 * MIB, 32 * MIB - 9..32 * MIB + 9, 100 * MIB..104 * MIB, size - 700..size];
        let sample = Sample::new(size, &data, 2 * MIB..4 * MIB);
        let file = sample.make_all_ways(Format::Gce);
        if oracle::available("gzip") {
            let test = |file: &Path| judge(Command::new("gzip").arg("-t").stdin(std::fs::File::open(file).unwrap()));
            test(&file).unwrap();
            let len = file.metadata().unwrap().len();
            // A byte of the stream, one of the checksum, and one of the length.
            for at in [len / 2, len - 8, len - 3] {
                test(&broken(&file, at, &[0xaa])).unwrap_err();
            }
        }
        if oracle::available("tar") && oracle::available("qemu-img") {
            let unpack =
                |file: &Path| judge(Command::new("tar").arg("-xSzf").arg(file).arg("-C").arg(sample.path(".")));
            let compare = || {
                let disks = [sample.raw.clone(), sample.path("disk.raw")];
                judge(Command::new("qemu-img").args(["compare", "-f", "raw", "-F", "raw"]).args(disks))
            };
            unpack(&file).unwrap();
            compare().unwrap();
            let disk = std::fs::File::options().write(true).open(sample.path("disk.raw")).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&disk, &[7], 5 * GIB).unwrap();
            compare().unwrap_err();
        }
    }

    #[test]
    fn other_disks_are_refused() {
        let file = tempfile::tempfile().unwrap();
        for (size, level, sector, part) in [
            (GIB + MIB, 6, SectorSize::B512, "multiple of 1073741824"),
            (GIB, 0, SectorSize::B512, "level 0 is not one of 1 to 9"),
            (GIB, 6, SectorSize::B4096, "sectors of 4096 bytes"),
        ] {
            let error =
                Sample::new(size, &[], 0..0).write(Format::Gce, &file, level, sector, 1).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
