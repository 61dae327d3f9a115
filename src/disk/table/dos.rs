//! The partition table that PCs had before GPT. Raspberry Pis and the SD card images of nixpkgs still have it. It has
//! four entries in the MBR. One of them may lead to a chain of further entries.
//!
//! The numbers are those of Linux. A primary partition has the number of its entry. Logical partitions count from 5 in
//! the order of the chain.

use std::collections::BTreeSet;

use super::mbr::{ENTRIES, ENTRY, PROTECTIVE};
use crate::read::{Bytes, Fault, ReadError};
use crate::units::{ByteOffset, Lba, SectorSize};

/// The types of an extended partition: by CHS, by LBA, and Linux's own.
pub(in crate::disk) const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Linux gives no higher number.
const MAX_NUMBER: u32 = 255;
/// Records that are followed; each has a partition, as a rule.
const MAX_RECORDS: usize = 256;
/// The bytes of a record; the rest of its sector is not looked at.
const RECORD: usize = 512;
/// Where the disk's identity stands.
const SIGNATURE: std::ops::Range<usize> = 440..444;

/// A disk's MBR and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MbrTable {
    /// The unit of every [`Lba`] here. Nothing in an MBR says it.
    pub sector_size: SectorSize,
    /// The size of the disk in bytes.
    pub disk_size: u64,
    /// The disk's identity; 0 if it has none.
    pub signature: u32,
    /// Primary and logical partitions by number. An extended one, which has nothing but others in it, is not among them.
    pub partitions: Vec<MbrEntry>,
    /// The sectors of the extended partitions' records.
    pub records: Vec<Lba>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// What is right but unusual, each a sentence.
    pub notes: Vec<String>,
}

/// A partition of an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrEntry {
    /// As Linux counts.
    pub number: u32,
    /// Whether old firmware starts it.
    pub is_active: bool,
    /// What it is for.
    pub kind: u8,
    /// Its first sector.
    pub first: Lba,
    /// How many it has.
    pub sectors: u64,
}

impl MbrEntry {
    /// Its first byte and its size in bytes.
    pub fn extent(&self, sector_size: SectorSize) -> (ByteOffset, u64) {
        let start = self.first.to_bytes(sector_size).unwrap_or(ByteOffset(u64::MAX));
        (start, self.sectors.saturating_mul(sector_size.bytes()))
    }

    /// The sector after its last.
    pub(in crate::disk) fn end(&self) -> u64 {
        self.first.0.saturating_add(self.sectors)
    }

    fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }
}

/// A record of four entries, numbered from 1; those not in use left out. `None` if it has no signature, or an entry
/// whose first byte is none that an entry has.
fn record(bytes: &[u8; RECORD]) -> Option<Vec<MbrEntry>> {
    let entries = bytes.get(ENTRIES)?.chunks_exact(ENTRY).zip(1..);
    let mut found = Vec::new();
    for (raw, number) in entries {
        let word = |at: usize| Some(u32::from_le_bytes(*raw.get(at..)?.first_chunk()?));
        let (&status, &kind) = (raw.first()?, raw.get(4)?);
        if status & 0x7f != 0 {
            return None;
        }
        let (first, sectors) = (Lba(word(8)?.into()), word(12)?.into());
        if kind != 0 && sectors != 0 {
            found.push(MbrEntry { number, is_active: status != 0, kind, first, sectors });
        }
    }
    bytes.ends_with(&[0x55, 0xaa]).then_some(found)
}

fn read_record(disk: &dyn Bytes, at: Lba, sector_size: SectorSize) -> Result<Option<Vec<MbrEntry>>, ReadError> {
    let mut bytes = [0; RECORD];
    match at.to_bytes(sector_size).filter(|start| start.0.saturating_add(RECORD as u64) <= disk.len()) {
        Some(start) => disk.read_exact_at(start, &mut bytes)?,
        None => return Ok(None),
    }
    Ok(record(&bytes))
}

impl MbrTable {
    /// The table of a disk with this sector size, or `None` if it has none: there is no entry, one of them starts past
    /// the end or in the MBR, or one stands for a GPT.
    ///
    /// # Errors
    /// If the disk cannot be read; never for what is on it.
    pub fn read(disk: &dyn Bytes, sector_size: SectorSize) -> Result<Option<Self>, ReadError> {
        let Some(primary) = read_record(disk, Lba(0), sector_size)? else { return Ok(None) };
        let end = disk.len() / sector_size.bytes();
        let cannot_be = |entry: &MbrEntry| entry.kind == PROTECTIVE || entry.first.0 == 0 || entry.first.0 >= end;
        if primary.is_empty() || primary.iter().any(cannot_be) {
            return Ok(None);
        }
        let mut signature = [0; SIGNATURE.end - SIGNATURE.start];
        disk.read_exact_at(ByteOffset(SIGNATURE.start as u64), &mut signature)?;
        let (extended, partitions): (Vec<_>, Vec<_>) = primary.into_iter().partition(MbrEntry::is_extended);
        let mut table = Self {
            sector_size,
            disk_size: disk.len(),
            signature: u32::from_le_bytes(signature),
            partitions,
            records: Vec::new(),
            faults: Vec::new(),
            notes: Vec::new(),
        };
        for container in extended {
            let (number, first, end) = (container.number, container.first, container.end());
            table
                .notes
                .push(format!("partition {number} is an extended one, from LBA {first} to {}", end.saturating_sub(1)));
            table.read_chain(disk, &container)?;
        }
        table.check(end);
        Ok(Some(table))
    }

    /// Reads the logical partitions. Each record has one of them, placed from itself on, and the next record, placed from
    /// the container's start on.
    fn read_chain(&mut self, disk: &dyn Bytes, container: &MbrEntry) -> Result<(), ReadError> {
        let mut met = BTreeSet::new();
        let mut next = Some(container.first);
        while let Some(at) = next.take() {
            if !met.insert(at) {
                self.fault(at, "was met before: the chain leads in a circle");
                break;
            }
            if met.len() > MAX_RECORDS {
                self.fault(at, "is one record more than there can be partitions");
                break;
            }
            let Some(entries) = read_record(disk, at, self.sector_size)? else {
                self.fault(at, "is not a record of partitions");
                break;
            };
            self.records.push(at);
            let (links, logical): (Vec<_>, Vec<_>) = entries.into_iter().partition(MbrEntry::is_extended);
            for entry in logical {
                let number = self.partitions.iter().map(|entry| entry.number).max().unwrap_or(0).max(4) + 1;
                if number > MAX_NUMBER {
                    self.fault(at, "has more partitions than Linux gives numbers to");
                    return Ok(());
                }
                let logical = MbrEntry { number, first: Lba(at.0.saturating_add(entry.first.0)), ..entry };
                if logical.first < container.first || logical.end() > container.end() {
                    let why = format!("does not lie in the extended partition {}", container.number);
                    self.faults.push(Fault { what: format!("partition {number}"), why });
                }
                self.partitions.push(logical);
            }
            next = links.first().map(|link| Lba(container.first.0.saturating_add(link.first.0)));
        }
        Ok(())
    }

    fn fault(&mut self, at: Lba, why: &str) {
        self.faults.push(Fault { what: format!("extended boot record at LBA {at}"), why: why.to_owned() });
    }

    /// Checks that partitions are on the disk and do not overlap.
    fn check(&mut self, end: u64) {
        for (i, entry) in self.partitions.iter().enumerate() {
            let mut fault = |why: String| self.faults.push(Fault { what: format!("partition {}", entry.number), why });
            if entry.end() > end {
                fault(format!("ends at LBA {}, past the end of the disk at LBA {end}", entry.end() - 1));
            }
            for other in self.partitions.iter().take(i) {
                if entry.first.0 < other.end() && other.first.0 < entry.end() {
                    fault(format!("overlaps partition {}", other.number));
                }
            }
        }
        let active: Vec<_> = self.partitions.iter().filter(|entry| entry.is_active).collect();
        if let [_, second, ..] = active.as_slice() {
            let why = "is active, and another one is, too; with two active entries a BIOS boots neither".to_owned();
            self.faults.push(Fault { what: format!("partition {}", second.number), why });
        }
    }

    /// What a common type is for, in words.
    pub fn type_name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            0x01 => "FAT12",
            0x04 | 0x06 => "FAT16",
            0x07 => "NTFS or exFAT",
            0x0b => "FAT32",
            0x0c => "FAT32 (LBA)",
            0x0e => "FAT16 (LBA)",
            0x82 => "Linux swap",
            0x83 => "Linux filesystem",
            0x8e => "Linux LVM",
            0xef => "EFI system",
            0xfd => "Linux RAID",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 1000;

    fn entry(sector: &mut [u8], slot: usize, kind: u8, first: u32, sectors: u32) {
        let at = 446 + 16 * slot;
        sector[at + 4] = kind;
        sector[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    }

    /// Partition 1, and 5 and 6 in an extended one.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 512 * usize::try_from(SECTORS).unwrap()];
        entry(&mut disk, 0, 0x0b, 8, 92);
        entry(&mut disk, 2, 0x0f, 100, 900);
        entry(&mut disk[100 * 512..], 0, 0x83, 10, 190);
        entry(&mut disk[100 * 512..], 1, 0x05, 200, 300);
        entry(&mut disk[300 * 512..], 0, 0x83, 20, 280);
        disk
    }

    fn read(disk: &Vec<u8>) -> MbrTable {
        MbrTable::read(disk, SectorSize::B512).unwrap().unwrap()
    }

    fn faults(disk: &Vec<u8>) -> Vec<String> {
        read(disk).faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn logical_partitions_are_counted_from_five() {
        let table = read(&disk());
        let found: Vec<_> = table.partitions.iter().map(|p| (p.number, p.kind, p.first.0, p.sectors)).collect();
        assert_eq!(found, [(1, 0x0b, 8, 92), (5, 0x83, 110, 190), (6, 0x83, 320, 280)]);
        assert_eq!((table.records, table.faults), (vec![Lba(100), Lba(300)], vec![]));
    }

    #[test]
    fn chains_end() {
        let mut circle = disk();
        entry(&mut circle[300 * 512..], 1, 0x05, 0, 900);
        assert_eq!(faults(&circle), ["extended boot record at LBA 100: was met before: the chain leads in a circle"]);
        let mut cut = disk();
        cut[300 * 512 + 510] = 0;
        assert_eq!(faults(&cut), ["extended boot record at LBA 300: is not a record of partitions"]);
        entry(&mut cut[100 * 512..], 1, 0x05, u32::MAX, 1);
        assert!(faults(&cut)[0].ends_with("is not a record of partitions"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let mut bad = disk();
        entry(&mut bad, 0, 0x0b, 8, 103);
        entry(&mut bad, 1, 0x83, 990, 20);
        entry(&mut bad[300 * 512..], 0, 0x83, 20, 900);
        assert_eq!(
            faults(&bad),
            [
                "partition 6: does not lie in the extended partition 3",
                "partition 2: ends at LBA 1009, past the end of the disk at LBA 1000",
                "partition 5: overlaps partition 1",
                "partition 6: ends at LBA 1219, past the end of the disk at LBA 1000",
                "partition 6: overlaps partition 2",
            ]
        );
    }

    #[test]
    fn what_is_no_table_is_none() {
        let is_table = |disk: &Vec<u8>| MbrTable::read(disk, SectorSize::B512).unwrap().is_some();
        assert!(is_table(&disk()));
        for (at, byte) in [(511, 0), (446, 1), (446 + 4, 0xee)] {
            let mut other = disk();
            other[at] = byte;
            assert!(!is_table(&other), "{at}");
        }
        let mut far = disk();
        entry(&mut far, 3, 0x83, 1000, 1);
        assert!(!is_table(&far));
        assert!(!is_table(&vec![0; 4096]) && !is_table(&vec![0; 100]));
    }
}
