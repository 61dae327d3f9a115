//! The table of clusters. It says which cluster follows each.

use super::{Bits, Shape, u8_at, u16_at, u32_at};
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

/// Bytes of the table that are read at once.
const WINDOW: u64 = 1 << 16;

/// What an entry of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vfat) enum Next {
    /// The cluster is free.
    Free,
    /// The next cluster of the chain; there is such a one.
    Cluster(u32),
    /// The chain ends.
    End,
    /// The cluster is not to be used.
    Bad,
    /// No cluster has this number.
    Invalid(u32),
}

/// The copy of the table that counts, read through a window.
pub(in crate::vfat) struct Table<'a> {
    bytes: &'a dyn Bytes,
    shape: &'a Shape,
    window: Vec<u8>,
    /// Where the window starts in the table.
    start: u64,
}

impl<'a> Table<'a> {
    pub(in crate::vfat) fn new(bytes: &'a dyn Bytes, shape: &'a Shape) -> Self {
        Self { bytes, shape, window: Vec::new(), start: 0 }
    }

    /// The raw entry of a cluster, or of the two numbers that no cluster has.
    pub(in crate::vfat) fn raw(&mut self, cluster: u32) -> Result<u32, ReadError> {
        let cluster64 = u64::from(cluster);
        let at = match self.shape.bits {
            Bits::Fat12 => cluster64.saturating_add(cluster64 / 2),
            Bits::Fat16 => cluster64.saturating_mul(2),
            Bits::Fat32 => cluster64.saturating_mul(4),
        };
        self.read_to(at)?;
        let index = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(match self.shape.bits {
            Bits::Fat12 => {
                let pair = u16::from(u8_at(&self.window, index))
                    | u16::from(u8_at(&self.window, index.saturating_add(1))) << 8;
                u32::from(if cluster.is_multiple_of(2) { pair & 0x0fff } else { pair >> 4 })
            }
            Bits::Fat16 => u16_at(&self.window, index).into(),
            Bits::Fat32 => u32_at(&self.window, index) & 0x0fff_ffff,
        })
    }

    /// Moves the window over the entry at byte `at`. FAT12's entries, which straddle bytes, all fit into one.
    fn read_to(&mut self, at: u64) -> Result<(), ReadError> {
        let start = at / WINDOW * WINDOW;
        if start == self.start && !self.window.is_empty() {
            return Ok(());
        }
        let len = u64::from(self.shape.fat_sectors).saturating_mul(self.shape.sector.into());
        let wanted = usize::try_from(len.saturating_sub(start).min(WINDOW)).unwrap_or(0);
        self.window.resize(wanted, 0);
        self.start = start;
        let ByteOffset(table) = self.shape.sector_offset(self.shape.table_sector(self.shape.active.unwrap_or(0)));
        self.bytes.read_exact_at(ByteOffset(table.saturating_add(start)), &mut self.window)
    }

    /// What follows a cluster.
    pub(in crate::vfat) fn next(&mut self, cluster: u32) -> Result<Next, ReadError> {
        let raw = self.raw(cluster)?;
        let last = match self.shape.bits {
            Bits::Fat12 => 0x0fff,
            Bits::Fat16 => 0xffff,
            Bits::Fat32 => 0x0fff_ffff,
        };
        Ok(match raw {
            0 => Next::Free,
            _ if raw >= last & !7 => Next::End,
            _ if raw == last & !8 => Next::Bad,
            _ if self.shape.is_cluster(raw) => Next::Cluster(raw),
            _ => Next::Invalid(raw),
        })
    }
}
