//! VHD, fixed: the form that Azure takes. It has the bytes of the disk at their own offsets, and after them a footer of
//! 512 bytes.
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0. Numbers are big-endian.
//!
//! The footer has the size twice: in bytes, and as a geometry, which cannot express most sizes. A reader decides by the
//! name of the program that made the file which one counts. For disks made by Windows it is the bytes, in Azure,
//! Hyper-V and QEMU alike.

use std::fs::File;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

use super::limits::{check_sectors, check_size};
use super::{Filled, Format, FormatError, Making, Places, Source};
use crate::container::vhd::{COOKIE, FIXED, SECTOR, SUM, sum};
use crate::units::MIB;

/// What Azure wants: the disk without the footer has a whole number of these.
const UNIT: u64 = MIB;
/// Hyper-V and QEMU take no larger ones.
const SIZE_MAX: u64 = 2040 << 30;
/// The most sectors that a geometry can express.
const GEOMETRY_MAX: u64 = 65535 * 16 * 255;

/// Writes the disk and the footer.
pub(super) fn write(source: &dyn Source, to: &File, making: Making<'_>) -> Result<Filled, FormatError> {
    let size = source.map().size();
    check_sectors(Format::Vhd, &making)?;
    check_size(Format::Vhd, size, UNIT, SIZE_MAX)?;
    to.set_len(size + SECTOR).map_err(FormatError::Write)?;
    let filled = source.fill(to, &Places::same(size), making.means)?;
    to.write_all_at(&footer(size, making.identity), size).map_err(FormatError::Write)?;
    Ok(filled)
}

fn footer(size: u64, identity: Uuid) -> Vec<u8> {
    let geometry = Geometry::of(size / SECTOR);
    let mut footer = Vec::new();
    footer.extend(COOKIE);
    // A bit that is always set.
    footer.extend(2_u32.to_be_bytes());
    // The version of the format, 1.0.
    footer.extend(0x1_0000_u32.to_be_bytes());
    // A fixed disk has no other header.
    footer.extend(u64::MAX.to_be_bytes());
    // When it was made: the format's first second.
    footer.extend(0_u32.to_be_bytes());
    // By which program, of which version (10.0), on which system.
    footer.extend(b"win ");
    footer.extend(0xa_0000_u32.to_be_bytes());
    footer.extend(b"Wi2k");
    // The size when it was made, and now.
    footer.extend(size.to_be_bytes());
    footer.extend(size.to_be_bytes());
    footer.extend(geometry.cylinders.to_be_bytes());
    footer.extend([geometry.heads, geometry.sectors]);
    footer.extend(FIXED.to_be_bytes());
    // The checksum's place.
    footer.extend(0_u32.to_be_bytes());
    footer.extend(Uuid::new_v5(&identity, b"vhd").as_bytes());
    // The rest is zeros: no saved state of a running machine, and reserved bytes.
    footer.resize(512, 0);
    let sum = sum(&footer, SUM);
    footer[SUM..SUM + 4].copy_from_slice(&sum.to_be_bytes());
    footer
}

/// The geometry that an ATA disk of about that size reports.
#[derive(Debug, PartialEq, Eq)]
struct Geometry {
    cylinders: u16,
    heads: u8,
    sectors: u8,
}

impl Geometry {
    /// The specification's appendix.
    fn of(sectors: u64) -> Self {
        let sectors = sectors.min(GEOMETRY_MAX);
        let by = |per_track: u64, heads: u64| (per_track, heads, sectors / per_track);
        let (per_track, heads, tracks) = if sectors >= 65535 * 16 * 63 {
            by(255, 16)
        } else {
            let fits = |&(_, heads, tracks): &(u64, u64, u64)| heads <= 16 && tracks < heads * 1024;
            let few = by(17, (sectors / 17).div_ceil(1024).max(4));
            [few, by(31, 16)].into_iter().find(fits).unwrap_or_else(|| by(63, 16))
        };
        let byte = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        let cylinders = u16::try_from(tracks / heads).unwrap_or(u16::MAX);
        Self { cylinders, heads: byte(heads), sectors: byte(per_track) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::oracle;
    use crate::formats::sample::{KIB, Sample, broken, bytes, qemu_compare};
    use crate::units::SectorSize;

    #[test]
    fn geometries_are_those_of_the_specification() {
        let of = |sectors, wanted| {
            let Geometry { cylinders, heads, sectors: per_track } = Geometry::of(sectors);
            assert_eq!((cylinders, heads, per_track), wanted, "{sectors} sectors");
        };
        of(1, (0, 4, 17));
        // As Virtual PC and QEMU do for disks of 64 MiB, 1 GiB, 20 GiB, 127 GiB and all larger ones.
        of(131_072, (963, 8, 17));
        of(2 << 20, (2080, 16, 63));
        of(40 << 20, (41_610, 16, 63));
        of(254 << 20, (65_278, 16, 255));
        of(u64::MAX, (65_535, 16, 255));
    }

    fn sample() -> Sample {
        let size = 5 * MIB;
        let data = [0..KIB, MIB + 512..2 * MIB, 3 * MIB - KIB..4 * MIB - 7, size - 700..size];
        Sample::new(size, &data, 2 * MIB..2 * MIB + 8 * KIB)
    }

    #[test]
    fn a_disk_comes_back() {
        let sample = sample();
        let file = sample.make_all_ways(Format::Vhd);
        assert!(bytes(&file, 0, 5 << 20) == std::fs::read(&sample.raw).unwrap());
        assert_eq!(file.metadata().unwrap().len(), 5 * MIB + SECTOR);
        assert!(sample.reads_back(&file));
        assert!(!sample.reads_back(&broken(&file, MIB + 600, &[1])));
        // A byte of the identity: the checksum is wrong.
        assert!(!sample.reads_back(&broken(&file, 5 * MIB + 70, &[0])));
        if oracle::available("qemu-img") {
            qemu_compare(&sample, &file, "vpc").unwrap();
            qemu_compare(&sample, &broken(&file, MIB + 600, &[1]), "vpc").unwrap_err();
            // In a file of another program, the geometry counts.
            let mut footer = bytes(&file, 5 * MIB, 512);
            footer[28..32].copy_from_slice(b"vpc ");
            let sum = sum(&footer, SUM);
            footer[SUM..SUM + 4].copy_from_slice(&sum.to_be_bytes());
            let error = qemu_compare(&sample, &broken(&file, 5 * MIB, &footer), "vpc").unwrap_err();
            assert!(error.ends_with("is not 5242880"), "{error}");
        }
    }

    #[test]
    fn other_disks_are_refused() {
        let refused = |sample: Sample| sample.make(Format::Vhd, 1).unwrap_err().to_string();
        let error = refused(Sample::new(MIB + 512, &[], 0..0));
        assert_eq!(error, "vhd: the disk has 1049088 bytes, and must have a multiple of 1048576; give it such a size");
        let error = refused(Sample::new(SIZE_MAX + MIB, &[], 0..0));
        assert!(error.contains("at most 2190433320960"), "{error}");
        let file = tempfile::tempfile().unwrap();
        let error = sample().write(Format::Vhd, &file, 6, SectorSize::B4096, 1).unwrap_err().to_string();
        assert!(error.contains("sectors of 4096 bytes"), "{error}");
    }
}
