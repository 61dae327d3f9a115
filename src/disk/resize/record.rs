//! An entry of an MBR. It says in two ways where the partition is.

use crate::disk::table::mbr::{ENTRIES, ENTRY, PROTECTIVE};
use crate::read::Bytes;
use crate::units::{ByteOffset, Lba};

use super::{ResizeError, read};

/// The sectors of a track and the heads of a cylinder in the geometry that all tools assume.
const SECTORS: u64 = 63;
const HEADS: u64 = 255;
/// A cylinder has 10 bits.
const CYLINDERS: u64 = 1024;
/// "Beyond what cylinder, head and sector can express", for a partition and for the entry that stands for a GPT.
const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
const BEYOND_PROTECTIVE: [u8; 3] = [0xff; 3];

/// Where the entries of an MBR are: the boot code before them is never touched.
pub(super) const OFFSET: ByteOffset = ByteOffset(ENTRIES.start as u64);

/// An entry as its bytes: the status, the first sector as head, sector and cylinder, the type, the last sector so, the
/// first sector as a number, the number of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record([u8; ENTRY]);

impl Record {
    /// The four entries of the MBR of a disk.
    pub(super) fn read_all(disk: &dyn Bytes) -> Result<Vec<Self>, ResizeError> {
        let bytes = read(disk, OFFSET, ENTRIES.len() as u64)?;
        let (records, _) = bytes.as_chunks();
        Ok(records.iter().copied().map(Self).collect())
    }

    /// The bytes of entries.
    pub(super) fn bytes(records: &[Self]) -> Vec<u8> {
        records.iter().flat_map(|record| record.0).collect()
    }

    pub(super) fn kind(self) -> u8 {
        self.0[4]
    }

    pub(super) fn is_used(self) -> bool {
        self.kind() != 0 && self.sectors() != 0
    }

    pub(super) fn is_protective(self) -> bool {
        self.kind() == PROTECTIVE
    }

    pub(super) fn first(self) -> Lba {
        let [.., a, b, c, d, _, _, _, _] = self.0;
        Lba(u32::from_le_bytes([a, b, c, d]).into())
    }

    pub(super) fn sectors(self) -> u64 {
        let [.., a, b, c, d] = self.0;
        u32::from_le_bytes([a, b, c, d]).into()
    }

    /// The sector after its last: both numbers have 32 bits.
    pub(super) fn end(self) -> u64 {
        self.first().0 + self.sectors()
    }

    /// The same from `first` on with `sectors` sectors, or `None` if 32 bits cannot express its end.
    pub(super) fn placed(self, first: u64, sectors: u64) -> Option<Self> {
        let (first_bytes, sector_bytes) = (u32::try_from(first).ok()?, u32::try_from(sectors).ok()?);
        let end = first.checked_add(sectors).filter(|&end| end <= 1 << 32)?;
        let mut placed = self;
        placed.0[8..12].copy_from_slice(&first_bytes.to_le_bytes());
        placed.0[12..16].copy_from_slice(&sector_bytes.to_le_bytes());
        if first != self.first().0 {
            placed.0[1..4].copy_from_slice(&self.moved([self.0[1], self.0[2], self.0[3]], self.first().0, first));
        }
        if end != self.end() {
            let last = |end: u64| end.saturating_sub(1);
            placed.0[5..8].copy_from_slice(&self.moved([self.0[5], self.0[6], self.0[7]], last(self.end()), last(end)));
        }
        Some(placed)
    }

    /// What stands for the sector `to` as head, sector and cylinder, where `bytes` stand for the sector `from`: written
    /// in the same way. It is a marker if the tool that made the entry writes only markers.
    fn moved(self, bytes: [u8; 3], from: u64, to: u64) -> [u8; 3] {
        let beyond = if self.is_protective() { BEYOND_PROTECTIVE } else { BEYOND };
        // An end that was beyond need not stay there. The other end shows how its tool writes it.
        let counts = [self.0[1], self.0[2], self.0[3]] == chs(self.first().0).unwrap_or(BEYOND);
        match chs(from) {
            Some(usual) if usual == bytes => chs(to).unwrap_or(beyond),
            None if counts && bytes == BEYOND && !self.is_protective() => chs(to).unwrap_or(BEYOND),
            _ => bytes,
        }
    }
}

/// A sector as head, sector and cylinder, or `None` if it is beyond those.
fn chs(lba: u64) -> Option<[u8; 3]> {
    let (track, sector) = (lba / SECTORS, lba % SECTORS + 1);
    let (cylinder, head) = (track / HEADS, track % HEADS);
    let low = |number: u64| u8::try_from(number & 0xff).ok();
    (cylinder < CYLINDERS).then_some(())?;
    Some([low(head)?, low(sector | cylinder >> 8 << 6)?, low(cylinder)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: [u8; 3], kind: u8, end: [u8; 3], first: u32, sectors: u32) -> Record {
        let bytes = [&[0x80][..], &start, &[kind], &end, &first.to_le_bytes(), &sectors.to_le_bytes()].concat();
        Record(bytes.try_into().unwrap())
    }

    /// By the formula of the specification: LBA = (cylinder × 255 + head) × 63 + sector - 1.
    #[test]
    fn sectors_have_a_head_and_a_cylinder() {
        assert_eq!(chs(0), Some([0, 1, 0]));
        assert_eq!(chs(62), Some([0, 63, 0]));
        assert_eq!(chs(63), Some([1, 1, 0]));
        assert_eq!(chs(2048), Some([32, 33, 0]));
        assert_eq!(chs(256 * 255 * 63), Some([0, 0x41, 0]));
        assert_eq!(chs(1024 * 255 * 63 - 1), Some([254, 0xff, 0xff]));
        assert_eq!(chs(1024 * 255 * 63), None);
    }

    #[test]
    fn ends_are_told_as_before() {
        let end = |record: Record, sectors: u64| record.placed(record.first().0, sectors).unwrap().0[5..8].to_vec();
        let usual = chs(4095).unwrap();
        let counted = record([32, 33, 0], 0x83, usual, 2048, 2048);
        assert_eq!(end(counted, 4096), chs(6143).unwrap());
        assert_eq!(end(counted, 1 << 30), BEYOND);
        assert_eq!(end(counted, 2048), usual);
        let far = record([32, 33, 0], 0x83, BEYOND, 2048, 1 << 30);
        assert_eq!(end(far, 2048), usual);
        assert_eq!(end(far, 1 << 31), BEYOND);
        // One who writes nothing but the marker, or nothing.
        for bytes in [BEYOND, [0xff; 3], [0; 3], [1, 2, 3]] {
            assert_eq!(end(record(bytes, 0x83, bytes, 2048, 2048), 4096), bytes);
            assert_eq!(end(record(bytes, 0x83, bytes, 2048, 1 << 30), 4096), bytes);
        }
        let protective = record([0, 2, 0], PROTECTIVE, [0xff; 3], 1, 1 << 30);
        assert_eq!(end(protective, 2048), [0xff; 3]);
        let protective = record([0, 2, 0], PROTECTIVE, chs(2047).unwrap(), 1, 2047);
        assert_eq!(end(protective, 4095), chs(4095).unwrap());
        assert_eq!(end(protective, 1 << 30), [0xff; 3]);
    }

    #[test]
    fn numbers_end_at_32_bits() {
        let one = record([0; 3], 0x83, [0; 3], 2048, 1);
        assert_eq!(one.placed(2048, (1 << 32) - 2048).unwrap().end(), 1 << 32);
        assert_eq!(one.placed(2048, (1 << 32) - 2047), None);
        assert_eq!(one.placed(1 << 32, 1), None);
        assert_eq!(one.placed(u64::MAX, u64::MAX), None);
    }
}
