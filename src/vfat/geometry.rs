//! Where the parts of a FAT32 filesystem lie, given its size; pure.
//!
//! ```text
//! sector 0  boot sector     1  FSInfo     6  backup boot sector     7  backup FSInfo
//! sector 8  the first FAT, then the second, then the clusters, of which the first (number 2) begins the root
//! ```
//!
//! The arithmetic is that of fatfs 0.3.6, which leaves no choice but the cluster size; the writer checks that
//! both agree.

use super::error::VfatError;
use crate::units::{ByteOffset, MIB, SectorSize, align_up};

/// Sectors before the first FAT.
pub(super) const RESERVED_SECTORS: u64 = 8;
/// Copies of the FAT.
const FATS: u64 = 2;
/// Bytes of a FAT entry.
const FAT_ENTRY: u64 = 4;
/// The number of the first cluster: the FAT's first two entries stand for none.
pub(super) const FIRST_CLUSTER: u32 = 2;
/// The fewest clusters that we make. FAT32 starts at 65,525, but implementations are off by a few in both
/// directions; specification and EDK2 advise to keep 16 away.
const CLUSTERS_MIN: u64 = 65_525 + 16 + 1;
/// The most bytes of a FAT: fatfs 0.3.6 counts its bits in 32 bits. That is half of what FAT32 can number, and makes
/// filesystems of nearly 512 GiB.
const FAT_MAX: u64 = u32::MAX as u64 / 8;
/// The largest cluster that we make, in bytes: what every firmware reads, and the page size.
const CLUSTER_SIZE_MAX: u64 = 4096;

/// The measures of a FAT32 filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// In bytes.
    pub(super) sector_size: u64,
    /// In bytes.
    pub(super) cluster_size: u64,
    /// The size of the whole in sectors.
    pub(super) sectors: u32,
    /// The number of clusters.
    pub(super) clusters: u32,
    /// The bytes of one FAT.
    pub(super) fat_bytes: u64,
    /// Where the first cluster starts.
    data: ByteOffset,
}

impl Geometry {
    /// The measures for `size` bytes, with the largest clusters that still make it FAT32.
    pub(super) fn new(size: u64, sector_size: SectorSize) -> Result<Self, VfatError> {
        let sector = sector_size.bytes();
        if !size.is_multiple_of(sector) {
            return Err(VfatError::PartialSector { size, sector_size: sector });
        }
        let fitting = cluster_sizes(sector)
            .map(|cluster| (cluster, cluster_count(size, sector, cluster)))
            .find(|&(_, clusters)| clusters >= CLUSTERS_MIN);
        let Some((cluster_size, clusters)) = fitting else {
            return Err(VfatError::TooSmall { size, sector_size: sector, at_least: smallest(sector) });
        };
        let fat = fat_sectors(size / sector, sector, cluster_size);
        let too_large = || VfatError::TooLarge { size, cluster_size };
        if fat.checked_mul(sector).is_none_or(|bytes| bytes > FAT_MAX) {
            return Err(too_large());
        }
        let clusters = u32::try_from(clusters).map_err(|_| too_large())?;
        let sectors = u32::try_from(size / sector).map_err(|_| too_large())?;
        let data = ByteOffset((RESERVED_SECTORS + FATS * fat) * sector);
        Ok(Self { sector_size: sector, cluster_size, sectors, clusters, fat_bytes: fat * sector, data })
    }

    /// Where cluster `number` starts; the first is number 2.
    pub(super) fn cluster_offset(&self, number: u32) -> ByteOffset {
        ByteOffset(self.data.0 + u64::from(number - FIRST_CLUSTER) * self.cluster_size)
    }

    /// Where each FAT has its entry for cluster `number`.
    pub(super) fn fat_entries(&self, number: u32) -> [ByteOffset; 2] {
        let first = RESERVED_SECTORS * self.sector_size + u64::from(number) * FAT_ENTRY;
        [ByteOffset(first), ByteOffset(first + self.fat_bytes)]
    }

    /// The number of clusters that hold `bytes`.
    pub(super) fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size)
    }
}

/// The cluster sizes in bytes that we make, largest first.
fn cluster_sizes(sector: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(CLUSTER_SIZE_MAX), |size| Some(size / 2)).take_while(move |&size| size >= sector)
}

/// Sectors of one FAT: enough for an entry for each cluster that fits beside the FATs, and two more.
fn fat_sectors(sectors: u64, sector: u64, cluster: u64) -> u64 {
    let per_cluster = cluster / sector;
    let rest = sectors.saturating_sub(RESERVED_SECTORS);
    (rest + u64::from(FIRST_CLUSTER) * per_cluster).div_ceil(cluster / FAT_ENTRY + FATS)
}

/// The whole clusters that fit into `size` bytes beside all else.
fn cluster_count(size: u64, sector: u64, cluster: u64) -> u64 {
    let sectors = size / sector;
    let overhead = RESERVED_SECTORS + FATS * fat_sectors(sectors, sector, cluster);
    sectors.saturating_sub(overhead) / (cluster / sector)
}

/// The smallest size in bytes, a multiple of 1 MiB, with enough clusters to be FAT32.
fn smallest(sector: u64) -> u64 {
    let mut size = align_up(CLUSTERS_MIN * sector, MIB).unwrap_or(u64::MAX);
    while cluster_count(size, sector, sector) < CLUSTERS_MIN {
        size += MIB;
    }
    size
}

#[cfg(test)]
mod unit {
    use super::*;

    fn cluster_size(mib: u64, sector: SectorSize) -> u64 {
        Geometry::new(mib * MIB, sector).unwrap().cluster_size
    }

    #[test]
    fn clusters_grow_with_the_size() {
        let sizes = [33, 64, 65, 128, 129, 256, 257, 512, 33 << 10].map(|mib| cluster_size(mib, SectorSize::B512));
        assert_eq!(sizes, [512, 512, 1024, 1024, 2048, 2048, 4096, 4096, 4096]);
        assert_eq!(cluster_size(257, SectorSize::B4096), 4096);
    }

    #[test]
    fn the_smallest_size_said_is_the_smallest() {
        for sector in [SectorSize::B512, SectorSize::B4096] {
            let Err(VfatError::TooSmall { at_least, .. }) = Geometry::new(MIB, sector) else { panic!() };
            assert!(Geometry::new(at_least, sector).is_ok());
            assert!(matches!(Geometry::new(at_least - MIB, sector), Err(VfatError::TooSmall { .. })));
        }
    }

    #[test]
    fn the_limits_hold() {
        for sector in [SectorSize::B512, SectorSize::B4096] {
            assert!(Geometry::new(511 << 30, sector).is_ok());
            for size in [513 << 30, 1 << 45, u64::MAX - 4095] {
                assert!(matches!(Geometry::new(size, sector), Err(VfatError::TooLarge { .. })), "{size}");
            }
        }
        assert!(matches!(Geometry::new(MIB + 1, SectorSize::B512), Err(VfatError::PartialSector { .. })));
    }
}
