//! What the boot sector says, limited to what the image can hold.

use super::{u8_at, u16_at, u32_at};
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

/// Bytes of the boot sector that mean anything, whatever the size of sectors.
pub(in crate::vfat) const BOOT_BYTES: usize = 512;
/// Bytes of a directory entry.
pub(in crate::vfat) const ENTRY_BYTES: u32 = 32;

/// The width of an entry of the table of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vfat) enum Bits {
    Fat12,
    Fat16,
    Fat32,
}

/// The measures of a filesystem.
#[derive(Clone, Debug)]
pub(in crate::vfat) struct Shape {
    pub(in crate::vfat) boot: [u8; BOOT_BYTES],
    pub(in crate::vfat) bits: Bits,
    /// In bytes.
    pub(in crate::vfat) sector: u32,
    /// In bytes.
    pub(in crate::vfat) cluster: u32,
    /// In sectors: the whole.
    pub(in crate::vfat) sectors: u32,
    /// Sectors before the first table.
    pub(in crate::vfat) reserved: u32,
    /// Copies of the table.
    pub(in crate::vfat) fats: u32,
    /// The copy that counts, if the others do not follow it.
    pub(in crate::vfat) active: Option<u32>,
    /// In sectors.
    pub(in crate::vfat) fat_sectors: u32,
    /// Entries of the root directory of FAT12 and FAT16.
    pub(in crate::vfat) root_entries: u32,
    /// The root directory's first cluster, on FAT32.
    pub(in crate::vfat) root_cluster: u32,
    /// The number of clusters; the first is number 2.
    pub(in crate::vfat) clusters: u32,
}

fn corrupt(why: impl Into<String>) -> ReadError {
    ReadError::corrupt("boot sector", why)
}

/// Reads the start of the boot sector.
pub(in crate::vfat) fn boot_sector(bytes: &dyn Bytes) -> Result<[u8; BOOT_BYTES], ReadError> {
    let mut boot = [0; BOOT_BYTES];
    bytes.read_exact_at(ByteOffset(0), &mut boot)?;
    Ok(boot)
}

/// Whether a boot sector is one of FAT's, as far as constants show.
pub(in crate::vfat) fn is_fat(boot: &[u8; BOOT_BYTES]) -> bool {
    let sector = u16_at(boot, 11);
    boot.ends_with(&[0x55, 0xaa])
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && u8_at(boot, 13).is_power_of_two()
        && u16_at(boot, 14) > 0
        && (1..=2).contains(&u8_at(boot, 16))
        && (u8_at(boot, 21) == 0xf0 || u8_at(boot, 21) >= 0xf8)
}

impl Shape {
    /// Reads the boot sector.
    pub(in crate::vfat) fn new(bytes: &dyn Bytes) -> Result<Self, ReadError> {
        let boot = boot_sector(bytes)?;
        if !is_fat(&boot) {
            let why = "is no boot sector of FAT: its signature, sector size, clusters or media byte is impossible";
            return Err(corrupt(why));
        }
        let sector = u32::from(u16_at(&boot, 11));
        let cluster = sector.saturating_mul(u8_at(&boot, 13).into());
        let (reserved, fats) = (u32::from(u16_at(&boot, 14)), u32::from(u8_at(&boot, 16)));
        let root_entries = u32::from(u16_at(&boot, 17));
        let (small, large) = (u32::from(u16_at(&boot, 19)), u32_at(&boot, 32));
        let sectors = if small == 0 { large } else { small };
        let short_fat = u32::from(u16_at(&boot, 22));
        let is_fat32 = short_fat == 0;
        let fat_sectors = if is_fat32 { u32_at(&boot, 36) } else { short_fat };
        if u64::from(sectors).saturating_mul(sector.into()) > bytes.len() {
            let len = bytes.len();
            return Err(corrupt(format!("says {sectors} sectors of {sector} bytes, but there are only {len} bytes")));
        }
        if (small == 0) == (large == 0) && small != large {
            return Err(corrupt("says the number of sectors twice"));
        }
        let root_sectors = root_entries.saturating_mul(ENTRY_BYTES).div_ceil(sector);
        let tables = fats.checked_mul(fat_sectors).and_then(|tables| tables.checked_add(reserved));
        let before = tables.and_then(|tables| tables.checked_add(root_sectors)).filter(|&before| before < sectors);
        let Some(before) = before.filter(|_| fat_sectors > 0) else {
            return Err(corrupt(format!("leaves no room for clusters in {sectors} sectors")));
        };
        let per_cluster = u32::from(u8_at(&boot, 13));
        let clusters = sectors.saturating_sub(before).checked_div(per_cluster).unwrap_or(0);
        let bits = bits(clusters, is_fat32)?;
        if (bits == Bits::Fat32) != (root_entries == 0) {
            return Err(corrupt(format!("says {root_entries} entries of the root directory")));
        }
        let shape = Self {
            boot,
            bits,
            sector,
            cluster,
            sectors,
            reserved,
            fats,
            active: (is_fat32 && boot[40] & 0x80 != 0).then_some(u32::from(boot[40] & 0x0f)),
            fat_sectors,
            root_entries,
            root_cluster: if is_fat32 { u32_at(&boot, 44) } else { 0 },
            clusters,
        };
        shape.validate()?;
        Ok(shape)
    }

    fn validate(&self) -> Result<(), ReadError> {
        let entries = u64::from(self.fat_sectors).saturating_mul(self.sector.into()).saturating_mul(8)
            / u64::from(self.entry_bits());
        if entries < u64::from(self.clusters).saturating_add(2) {
            return Err(corrupt(format!("its table has {entries} entries for {} clusters", self.clusters)));
        }
        if self.active.is_some_and(|active| active >= self.fats) {
            return Err(corrupt(format!("it says that table {} of {} is in use", self.active.unwrap_or(0), self.fats)));
        }
        if self.bits == Bits::Fat32 {
            if u16_at(&self.boot, 42) != 0 {
                return Err(ReadError::Unsupported(format!("FAT32 of version {}", u16_at(&self.boot, 42))));
            }
            if !self.is_cluster(self.root_cluster) {
                return Err(corrupt(format!("the root directory is at cluster {}", self.root_cluster)));
            }
            for (what, sector) in [("FSInfo", self.fs_info()), ("copy", self.backup())] {
                if sector >= self.reserved {
                    return Err(corrupt(format!("its {what} at sector {sector} is not before the tables")));
                }
            }
        }
        Ok(())
    }

    /// Bits of an entry of the table.
    pub(in crate::vfat) fn entry_bits(&self) -> u32 {
        match self.bits {
            Bits::Fat12 => 12,
            Bits::Fat16 => 16,
            Bits::Fat32 => 32,
        }
    }

    /// Whether it has the layout of FAT32, but too few clusters.
    pub(in crate::vfat) fn is_small_fat32(&self) -> bool {
        self.bits == Bits::Fat32 && self.clusters < FAT32_CLUSTERS
    }

    /// Where FAT32 keeps the number of free clusters: a sector, or 0.
    pub(in crate::vfat) fn fs_info(&self) -> u32 {
        u16_at(&self.boot, 48).into()
    }

    /// Where FAT32 keeps a copy of the boot sector: a sector, or 0.
    pub(in crate::vfat) fn backup(&self) -> u32 {
        u16_at(&self.boot, 50).into()
    }

    /// Where a sector starts.
    pub(in crate::vfat) fn sector_offset(&self, sector: u32) -> ByteOffset {
        ByteOffset(u64::from(sector).saturating_mul(self.sector.into()))
    }

    /// The first sector of a copy of the table.
    pub(in crate::vfat) fn table_sector(&self, copy: u32) -> u32 {
        self.reserved.saturating_add(copy.saturating_mul(self.fat_sectors))
    }

    /// The first sector of the root directory of FAT12 and FAT16.
    pub(in crate::vfat) fn root_sector(&self) -> u32 {
        self.table_sector(self.fats)
    }

    /// Whether there is a cluster of this number.
    pub(in crate::vfat) fn is_cluster(&self, cluster: u32) -> bool {
        cluster.checked_sub(2).is_some_and(|index| index < self.clusters)
    }

    /// Where a cluster starts.
    pub(in crate::vfat) fn cluster_offset(&self, cluster: u32) -> ByteOffset {
        let root = self.root_entries.saturating_mul(ENTRY_BYTES).div_ceil(self.sector);
        let ByteOffset(start) = self.sector_offset(self.root_sector().saturating_add(root));
        let index = u64::from(cluster.saturating_sub(2));
        ByteOffset(start.saturating_add(index.saturating_mul(self.cluster.into())))
    }

    /// The volume's number, if the extended boot signature says that there is one.
    pub(in crate::vfat) fn volume_id(&self) -> u32 {
        let at = if self.bits == Bits::Fat32 { 67 } else { 39 };
        if self.has_signature() { u32_at(&self.boot, at) } else { 0 }
    }

    /// The label in the boot sector, where the same signature says that there is one; without the spaces that fill it up.
    pub(in crate::vfat) fn label(&self) -> String {
        let at = if self.bits == Bits::Fat32 { 71 } else { 43 };
        let text = self.boot.get(at..).and_then(|rest| rest.get(..11)).filter(|_| self.has_signature());
        shown(text.unwrap_or_default())
    }

    fn has_signature(&self) -> bool {
        u8_at(&self.boot, if self.bits == Bits::Fat32 { 66 } else { 38 }) == 0x29
    }

    /// The byte of the boot sector whose lowest bit says that the filesystem was not unmounted.
    pub(in crate::vfat) fn state_byte(&self) -> usize {
        if self.bits == Bits::Fat32 { 65 } else { 37 }
    }
}

/// A name of fixed length as people know it: what is not ASCII depends on a code page that is not recorded.
pub(in crate::vfat) fn shown(text: &[u8]) -> String {
    let text: String = text.iter().map(|&b| if b.is_ascii() { char::from(b) } else { '\u{fffd}' }).collect();
    text.trim_end_matches(' ').to_owned()
}

/// The fewest clusters of FAT32.
const FAT32_CLUSTERS: u32 = 65_525;

/// Only the number of clusters decides the width of entries; the layout of the boot sector must agree. They differ
/// about FAT32 with too few clusters: for kernels the layout decides, for firmware the number.
fn bits(clusters: u32, is_fat32: bool) -> Result<Bits, ReadError> {
    match clusters {
        ..4085 if !is_fat32 => Ok(Bits::Fat12),
        4085..FAT32_CLUSTERS if !is_fat32 => Ok(Bits::Fat16),
        ..0x0fff_fff5 if is_fat32 => Ok(Bits::Fat32),
        _ => {
            let layout = if is_fat32 { "FAT32" } else { "FAT12 or FAT16" };
            Err(corrupt(format!("has {clusters} clusters, but the layout of {layout}")))
        }
    }
}
