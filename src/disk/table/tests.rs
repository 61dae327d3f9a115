//! Tests of tables as we write them, and damaged ones. The `gpt` crate reads the same tables.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use ::gpt::GptConfig;
use ::gpt::disk::LogicalBlockSize;
use proptest::prelude::*;

use super::*;
use crate::disk::gpt::{GptLayout, PartitionRequest, write};
use crate::disk::mbr::MbrPartition;
use crate::spec::Activity;
use crate::units::MIB;

const ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
const DISK: Uuid = Uuid::from_u128(0x44444444_4444_4444_8888_888888888888);
const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

fn request(name: &str, guid: u128, size: u64) -> PartitionRequest {
    PartitionRequest { name: name.to_owned(), type_guid: ESP, guid: Uuid::from_u128(guid), size, attributes: 1 << 59 }
}

fn layout(sector_size: SectorSize, padding: u64) -> GptLayout {
    GptLayout::new(sector_size, padding, 0, DISK, &[request("EFI System", 1, 2 * MIB), request("Größe\n", 2, MIB)])
        .unwrap()
}

fn disk(layout: &GptLayout) -> (File, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(layout.disk_size).unwrap();
    write(layout, &mut file).unwrap();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (file, bytes)
}

fn read(bytes: &[u8]) -> Table {
    Table::read(&bytes.to_vec()).unwrap().unwrap()
}

fn faults(bytes: &[u8]) -> Vec<String> {
    read(bytes).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_written_is_read() {
    for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|size| [(size, 0), (size, MIB)]) {
        let layout = layout(sector_size, padding);
        let table = read(&disk(&layout).1);
        assert_eq!(table.faults, []);
        assert_eq!(table.notes.len(), usize::from(padding > 0), "{:?}", table.notes);
        assert_eq!((table.sector_size, table.disk_size), (sector_size, layout.disk_size));
        let header = table.header().unwrap();
        assert_eq!((header.lba, header.entries_lba, header.disk_guid), (Lba(1), layout.entries_lba, DISK));
        assert_eq!(table.backup.as_ref().unwrap().lba, layout.backup_header);
        let found: Vec<_> = table
            .partitions()
            .iter()
            .map(|e| (e.number, e.name.as_str(), e.guid, e.first, e.last, e.attributes))
            .collect();
        let planned: Vec<_> = layout
            .partitions
            .iter()
            .map(|p| (p.number, p.name.as_str(), p.guid, p.first, p.last, p.attributes))
            .collect();
        assert_eq!(found, planned);
        assert_eq!(
            table.partitions()[0].extent(sector_size),
            (layout.partitions[0].first.to_bytes(sector_size).unwrap(), 2 * MIB)
        );
    }
}

#[test]
fn the_gpt_crate_reads_the_same() {
    for (sector_size, block_size) in SECTOR_SIZES.into_iter().zip([LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096]) {
        let (file, bytes) = disk(&layout(sector_size, MIB));
        let theirs = GptConfig::new().logical_block_size(block_size).open_from_device(file).unwrap();
        let ours = read(&bytes);
        for (their, our) in [(theirs.primary_header(), &ours.primary), (theirs.backup_header(), &ours.backup)] {
            let (their, our) = (their.unwrap(), our.as_ref().unwrap());
            assert_eq!((their.current_lba, their.backup_lba), (our.my_lba.0, our.alternate_lba.0));
            assert_eq!((their.first_usable, their.last_usable), (our.first_usable.0, our.last_usable.0));
            assert_eq!((their.disk_guid, their.part_start), (our.disk_guid, our.entries_lba.0));
            assert_eq!(
                (their.num_parts, their.part_size, their.crc32_parts),
                (our.entries, our.entry_size, our.entries_crc32)
            );
        }
        for (number, their) in theirs.partitions() {
            let our = ours.partitions().iter().find(|entry| entry.number == *number).unwrap();
            assert_eq!((their.part_guid, their.part_type_guid.guid), (our.guid, our.type_guid));
            assert_eq!((their.first_lba, their.last_lba, &their.name), (our.first.0, our.last.0, &our.name));
        }
    }
}

/// Each bit of the two headers and of the entries in use; of the others one bit each.
#[test]
fn one_flipped_bit_is_found_and_partitions_are_still_read() {
    let layout = layout(SectorSize::B512, 0);
    let (_, bytes) = disk(&layout);
    let whole = read(&bytes);
    let end = bytes.len();
    let entries = [1024, end - 512 - 128 * 128];
    let headers = [512..512 + 92, end - 512..end - 512 + 92];
    let bits = headers
        .into_iter()
        .flatten()
        .chain(entries.into_iter().flat_map(|at| at..at + 256))
        .flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let sparse =
        entries.into_iter().flat_map(|at| (256..128 * 128).step_by(127).map(move |more| (at + more, more % 8)));
    let reserved = [(512 + 92, 0), (1023, 7), (end - 1, 3), (510, 0), (446 + 4, 1), (446 + 8, 0), (446 + 12, 5)];
    for (at, bit) in bits.chain(sparse).chain(reserved) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << bit;
        let damaged = read(&bytes);
        assert!(!damaged.faults.is_empty(), "byte {at} bit {bit}");
        assert_eq!(damaged.partitions(), whole.partitions(), "byte {at} bit {bit}");
    }
}

#[test]
fn faults_name_what_is_wrong() {
    let (_, bytes) = disk(&layout(SectorSize::B512, 0));
    let end = bytes.len();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        faults(&bytes).join("\n")
    };
    let no_primary = with(&|bytes| bytes[512..1024].fill(0));
    assert_eq!(no_primary, "GPT header at LBA 1: there is none");
    let no_backup = with(&|bytes| bytes[end - 512..].fill(0));
    assert_eq!(no_backup, format!("backup GPT header at LBA {}: there is none", end / 512 - 1));
    let cut = with(&|bytes| bytes.truncate(3 << 20));
    assert!(cut.contains("past the end of the disk, which has been cut off"), "{cut}");
    assert!(cut.contains("partition 2 (\"Größe\\n\"): ends at LBA"), "{cut}");
    let no_mbr = with(&|bytes| bytes[..512].fill(0));
    assert_eq!(no_mbr, "protective MBR: its signature 55 aa is missing");
    let entry = with(&|bytes| bytes[1024 + 32] ^= 8);
    assert!(entry.starts_with("GPT entries at LBA 2: checksum "), "{entry}");
    assert!(entry.contains("GPT headers disagree: partition 1: LBA 2056 to 6143, type"), "{entry}");
}

/// Damage that checksums cover: a tool that made it so.
#[test]
fn partitions_have_to_be_apart_and_on_the_disk() {
    let layout = layout(SectorSize::B512, 0);
    let made = |change: &dyn Fn(&mut GptLayout)| {
        let mut layout = layout.clone();
        change(&mut layout);
        faults(&disk(&layout).1).join("\n")
    };
    assert_eq!(
        made(&|layout| layout.partitions[1].first = Lba(6000)),
        "partition 2 (\"Größe\\n\"): overlaps partition 1 (\"EFI System\")"
    );
    assert_eq!(
        made(&|layout| layout.partitions[1].guid = Uuid::from_u128(1)),
        "partition 2 (\"Größe\\n\"): has the GUID of partition 1 (\"EFI System\")"
    );
    assert_eq!(
        made(&|layout| layout.partitions[0].last = Lba(7)),
        "partition 1 (\"EFI System\"): ends at LBA 7, before its start at LBA 2048"
    );
    assert!(made(&|layout| layout.partitions[1].last = Lba(1 << 40)).contains("past the end of the disk"));
    assert!(made(&|layout| layout.partitions[0].first = Lba(3)).contains("is not within the usable"));
    assert!(made(&|layout| layout.partitions[0].guid = Uuid::nil()).contains("its GUID is all zeros"));
}

#[test]
fn a_hybrid_names_partitions() {
    let layout = layout(SectorSize::B512, 0);
    let named =
        MbrPartition::new("nix", 2, [layout.partitions[1].first, layout.partitions[1].last], 0x83, Activity::Inactive)
            .unwrap();
    let hybrid = |partition| {
        let bytes = disk(&layout.clone().with_hybrid(vec![partition])).1;
        (faults(&bytes).join("\n"), read(&bytes).notes.join("\n"))
    };
    let note = "the MBR is a hybrid: it names partition 2 as type 83";
    assert_eq!(hybrid(named), (String::new(), note.to_owned()));
    let note = "the MBR is a hybrid: it names LBA 9 to 17, which is no partition of the table, as type 0c, active";
    assert_eq!(
        hybrid(MbrPartition { kind: 0x0c, activity: Activity::Active, first: 9, sectors: 9, ..named }),
        (String::new(), note.to_owned())
    );
    // What stands for the GPT ends neither with the disk nor where a partition starts.
    let mut bytes = disk(&layout.clone().with_hybrid(vec![named])).1;
    bytes[446 + 16 + 12] ^= 1;
    assert!(faults(&bytes).join("\n").contains("its entry of type EE covers"), "{:?}", faults(&bytes));
}

#[test]
fn a_disk_that_is_larger_than_its_table_is_no_fault() {
    let (file, bytes) = disk(&layout(SectorSize::B512, 0));
    file.set_len(bytes.len() as u64 + 5 * MIB).unwrap();
    file.write_all_at(b"EFI PARTY", bytes.len() as u64 + 5 * MIB - 512).unwrap();
    let grown = [bytes, vec![0; 5 << 20]].concat();
    let table = read(&grown);
    assert_eq!(table.faults, []);
    assert!(table.notes[0].contains("5242880 bytes before the end"), "{:?}", table.notes);
}

#[test]
fn what_is_no_table_is_none() {
    for bytes in [vec![], vec![0; 511], vec![0; 1 << 20], vec![0xff; 1 << 16]] {
        assert_eq!(Table::read(&bytes).unwrap(), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(changes in prop::collection::vec((0..40_000usize, any::<u8>()), 0..200), large: bool) {
        let layout = layout(if large { SectorSize::B4096 } else { SectorSize::B512 }, 0);
        let (_, mut bytes) = disk(&layout);
        for (at, byte) in changes {
            // Half of them where the structures are thickest.
            let at = if byte % 2 == 0 { at % 92 + if large { 4096 } else { 512 } } else { at };
            bytes[at] = byte;
        }
        let _ = Table::read(&bytes).unwrap();
    }

    #[test]
    fn no_header_panics(fields in prop::collection::vec(any::<u8>(), 84), crc: bool) {
        let mut header = [SIGNATURE.as_slice(), &fields].concat();
        if crc {
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[16..20].fill(0);
            let crc = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
        }
        let mut bytes = vec![0; 1 << 16];
        bytes[512..604].copy_from_slice(&header);
        bytes[(1 << 16) - 512..][..92].copy_from_slice(&header);
        prop_assert!(!read(&bytes).faults.is_empty());
    }
}
