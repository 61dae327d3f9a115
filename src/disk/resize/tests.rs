//! Tests of tables whose last partition gets another size: tables as we write them, and as other programs might.

use std::io::{Read, Seek, SeekFrom};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::disk::gpt::{GptLayout, PartitionRequest, write};
use crate::disk::mbr::MbrPartition;
use crate::disk::table::{MbrTable, Table};
use crate::spec::Activity;
use crate::units::MIB;

const LINUX: Uuid = Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
const DISK: Uuid = Uuid::from_u128(0x44444444_4444_4444_8888_888888888888);
const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

/// A disk as we lay it out, the last partition having this size.
fn layout(sector_size: SectorSize, padding: u64, last: u64) -> GptLayout {
    let parts = [("EFI System", MIB), ("Größe №2", last)].into_iter().zip(1..).map(|((name, size), guid)| {
        let (name, guid) = (name.to_owned(), Uuid::from_u128(guid));
        PartitionRequest { name, type_guid: LINUX, guid, size, attributes: 1 << 59 | 1 }
    });
    GptLayout::new(sector_size, padding, 5000, DISK, &parts.collect::<Vec<_>>()).unwrap()
}

/// The same with a hybrid MBR that names the first of `numbers`, of the two partitions.
fn with_hybrid(layout: GptLayout, numbers: &[u32]) -> GptLayout {
    let named = numbers.iter().map(|&number| {
        let plan = layout.partitions.iter().find(|plan| plan.number == number).unwrap();
        MbrPartition::new("x", number, [plan.first, plan.last], 0x83, Activity::Inactive).unwrap()
    });
    let named = named.collect();
    layout.with_hybrid(named)
}

fn disk(layout: &GptLayout) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(layout.disk_size).unwrap();
    write(layout, &mut file).unwrap();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// The disk that a caller makes, whose partition is zeros.
fn apply(old: &[u8], start: u64, size: u64, resized: &Resized) -> Vec<u8> {
    let mut new = old[..index(start)].to_vec();
    new.resize(index(resized.disk_size), 0);
    let mut at = 0;
    for (offset, bytes) in &resized.writes {
        let end = offset.0 + bytes.len() as u64;
        assert!(at <= offset.0 && (end <= start || offset.0 >= start + size), "{offset}..{end}");
        new[index(offset.0)..index(end)].copy_from_slice(bytes);
        at = end;
    }
    new
}

fn resize(old: &Vec<u8>, number: u32, size: u64) -> Result<Vec<u8>, String> {
    let table = Table::read(old).unwrap().unwrap();
    let resized = resize_last(old, &table, number, size).map_err(|error| error.to_string())?;
    let entry = table.partitions().iter().find(|entry| entry.number == number).unwrap();
    Ok(apply(old, entry.extent(table.sector_size).0.0, size, &resized))
}

fn read_whole(disk: &Vec<u8>) -> Table {
    let table = Table::read(disk).unwrap().unwrap();
    assert_eq!(table.faults, []);
    table
}

/// Makes the checksums of both headers right, and those of the entries, as far as there can be any.
fn sign(disk: &mut [u8]) {
    for at in [512, disk.len() - 512] {
        let field = |at: usize| u64::from(u32::from_le_bytes(*disk[at..].first_chunk().unwrap()));
        let (size, entries) = (index(field(at + 12)), index(field(at + 72) * 512));
        let len = index(field(at + 80).saturating_mul(field(at + 84)));
        let entries = entries.checked_add(len).and_then(|end| disk.get(entries..end));
        let crc = crc32fast::hash(entries.unwrap_or_default());
        disk[at + 88..at + 92].copy_from_slice(&crc.to_le_bytes());
        disk[at + 16..at + 20].fill(0);
        let crc = crc32fast::hash(&disk[at..at + size.min(512)]);
        disk[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn ours_becomes_what_another_build_gives() {
    for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|size| [(size, 0), (size, MIB)]) {
        for numbers in [&[][..], &[2], &[1, 2], &[1]] {
            let built = |last: u64| disk(&with_hybrid(layout(sector_size, padding, last), numbers));
            let old = built(2 * MIB);
            for size in [1, 2, 3, 9].map(|size| size * MIB) {
                let new = resize(&old, 2, size).unwrap();
                assert!(new == built(size), "{sector_size:?} {padding} {numbers:?} {size}");
            }
        }
    }
}

/// The same table for a disk of another size: the last partition gets the room, or stays as it is.
#[test]
fn ours_fits_as_another_build_would_have_it() {
    let apply = |old: &[u8], fit: &Fit, size: u64| {
        let mut new = old.to_vec();
        fit.free.iter().for_each(|free| new[index(free.start)..index(free.end)].fill(0));
        new.resize(index(size), 0);
        fit.writes.iter().for_each(|(at, bytes)| new[index(at.0)..index(at.0) + bytes.len()].copy_from_slice(bytes));
        new
    };
    for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|size| [(size, 0), (size, MIB)]) {
        for numbers in [&[][..], &[2], &[1, 2], &[1]] {
            let built = |last: u64| disk(&with_hybrid(layout(sector_size, padding, last), numbers));
            let old = built(2 * MIB);
            let table = read_whole(&old);
            for size in [2, 3, 9].map(|size| size * MIB) {
                let wanted = built(size);
                let room = Room { size: wanted.len() as u64, end: u64::MAX };
                let fitted = fit(&old, &table, Some(2), room).unwrap();
                assert!(apply(&old, &fitted, room.size) == wanted, "{sector_size:?} {padding} {numbers:?} {size}");
                assert_eq!(
                    fitted.grown.map(|grown| grown.to - grown.from),
                    Some(size - 2 * MIB).filter(|&more| more > 0)
                );
                let kept = fit(&old, &table, None, room).unwrap();
                let kept = read_whole(&apply(&old, &kept, room.size));
                assert_eq!(kept.partitions(), table.partitions());
                assert_eq!(kept.header().unwrap().last_usable, read_whole(&wanted).header().unwrap().last_usable);
            }
            let error = fit(&old, &table, Some(2), Room { size: MIB, end: u64::MAX }).unwrap_err();
            assert!(matches!(error, ResizeError::TooSmall { .. }), "{error}");
        }
    }
    // An MBR that cannot tell so much keeps the partition, and the disk is larger.
    let old = disk(&with_hybrid(layout(SectorSize::B512, 0, 2 * MIB), &[2]));
    let fitted = fit(&old, &read_whole(&old), Some(2), Room { size: 3 << 40, end: u64::MAX }).unwrap();
    assert_eq!((fitted.grown, fitted.free.len()), (None, 2));
}

/// A disk without partitions has a backup all the same.
#[test]
fn an_empty_table_fits() {
    let old = disk(&GptLayout::new(SectorSize::B512, 0, 0, DISK, &[]).unwrap());
    let room = Room { size: old.len() as u64 + 5 * MIB + 512, end: u64::MAX };
    let fitted = fit(&old, &read_whole(&old), None, room).unwrap();
    let mut new = old;
    new.resize(index(room.size), 0);
    fitted.writes.iter().for_each(|(at, bytes)| new[index(at.0)..index(at.0) + bytes.len()].copy_from_slice(bytes));
    assert_eq!(read_whole(&new).backup.unwrap().lba.0, room.size / 512 - 1);
}

#[test]
fn an_mbr_fits() {
    let old = mbr([0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    let table = MbrTable::read(&old, SectorSize::B512).unwrap().unwrap();
    let fitted = |grow, size, end| fit_mbr(&old, &table, grow, Room { size, end });
    let grown = |size, end| fitted(Some(3), size, end).unwrap().grown.map(|grown| (grown.from / MIB, grown.to / MIB));
    assert_eq!(grown(100 * MIB + 512, u64::MAX), Some((12, 100)));
    assert_eq!(grown(100 * MIB + 512, 50 * MIB + 5), Some((12, 50)));
    assert_eq!(grown(5 << 40, u64::MAX), Some((12, 2 << 20)));
    assert_eq!(grown(12 * MIB + 512, u64::MAX), None);
    assert_eq!(fitted(None, 100 * MIB, u64::MAX).unwrap(), Fit::default());
    assert!(matches!(fitted(None, 11 * MIB, 0), Err(ResizeError::TooSmall { needed, .. }) if needed == 12 * MIB));
}

/// More bytes than a Vec should have: the sizes at which the MBR's fields are full.
#[test]
fn ours_stays_ours_at_any_size() {
    let image = |layout: &GptLayout| {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(layout.disk_size).unwrap();
        write(layout, &mut file).unwrap();
        crate::read::Window::new(file, layout.disk_size)
    };
    let sizes = [MIB, 7 << 30, 9 << 30, 2 << 40, 3 << 40];
    for (from, to) in sizes.into_iter().flat_map(|from| sizes.map(|to| (from, to))) {
        let [old, new] = [from, to].map(|size| layout(SectorSize::B512, 0, size));
        let (bytes, built) = (image(&old), image(&new));
        let table = Table::read(&bytes).unwrap().unwrap();
        let resized = resize_last(&bytes, &table, 2, to).unwrap();
        assert_eq!(resized.disk_size, new.disk_size);
        for (offset, bytes) in &resized.writes {
            let mut found = vec![0; bytes.len()];
            built.read_exact_at(*offset, &mut found).unwrap();
            assert!(found == *bytes, "{from} {to} at {offset}");
        }
    }
}

#[test]
fn what_nobody_knows_stays() {
    let mut old = disk(&layout(SectorSize::B512, MIB, 2 * MIB));
    let (entries, end) = (1024 + (1 << 20), old.len());
    let backup_entries = end - 33 * 512;
    for at in [512, end - 512] {
        old[at + 12..at + 16].copy_from_slice(&100_u32.to_le_bytes());
        old[at + 92..at + 100].copy_from_slice(b"unknown!");
    }
    for at in [entries, backup_entries] {
        // After the end of a name, and in an entry that is not in use.
        old[at + 127] = 7;
        old[at + 128 + 120..at + 128 + 128].fill(9);
        old[at + 3 * 128 + 100] = 5;
    }
    old[..440].fill(0xc3);
    old[600 * 1024..600 * 1024 + 100].fill(0xee);
    sign(&mut old);
    let before = read_whole(&old);
    let new = resize(&old, 2, 5 * MIB).unwrap();
    let after = read_whole(&new);
    let (start, shift) = (index(before.partitions()[1].extent(SectorSize::B512).0.0), 3 << 20);
    let differing = |old: &[u8], new: &[u8]| (0..old.len()).filter(|&at| old[at] != new[at]).collect::<Vec<_>>();
    let allowed = |at: usize| {
        let fields = [16..20, 32..40, 48..56, 88..92].map(|field| field.start + 512..field.end + 512);
        fields.iter().any(|field| field.contains(&at))
            || (446 + 5..446 + 16).contains(&at)
            || (entries + 128 + 40..entries + 128 + 48).contains(&at)
    };
    assert!(differing(&old[..start], &new[..start]).into_iter().all(allowed));
    assert_eq!(new[512 + 92..512 + 100], *b"unknown!");
    let tail = differing(&old[backup_entries..], &new[backup_entries + shift..]);
    let at = |field: std::ops::Range<usize>| field.start + 32 * 512..field.end + 32 * 512;
    let allowed = [at(16..20), at(24..32), at(48..56), at(72..80), at(88..92), 128 + 40..128 + 48];
    assert!(tail.iter().all(|byte| allowed.iter().any(|field| field.contains(byte))), "{tail:?}");
    assert_eq!(after.disk_size, before.disk_size + (3 << 20));
    assert_eq!(after.partitions()[0], before.partitions()[0]);
    assert_eq!(after.partitions()[1].extent(SectorSize::B512).1, 5 * MIB);
}

/// The distance from the partition to the backup stays, with what is in it, until it is room that was left over.
#[test]
fn the_backup_is_as_far_as_it_was_or_near() {
    let moved = |more: u64| {
        let mut layout = layout(SectorSize::B512, 0, 2 * MIB);
        layout.disk_size += more;
        let more = more / 512;
        layout.last_usable.0 += more;
        layout.backup_entries.0 += more;
        layout.backup_header.0 += more;
        let mut disk = disk(&layout);
        let behind = index(layout.partitions[1].last.0 + 1) * 512;
        disk[behind..behind + 5].copy_from_slice(b"trail");
        (disk, layout.disk_size)
    };
    for more in [0, 512, 700 * 512, MIB] {
        let (old, disk_size) = moved(more);
        let new = resize(&old, 2, 5 * MIB + 512).unwrap();
        assert_eq!(new.len() as u64, disk_size + 3 * MIB + 512, "{more}");
        let end = index(read_whole(&new).partitions()[1].last.0 + 1) * 512;
        assert_eq!(new[end..end + 5], *b"trail");
    }
    for more in [2 * MIB, 100 * MIB] {
        let new = resize(&moved(more).0, 2, 5 * MIB).unwrap();
        let table = read_whole(&new);
        let end = (table.partitions()[1].last.0 + 1) * 512;
        assert_eq!(table.disk_size, end + MIB);
        assert_eq!(table.header().unwrap().last_usable.0, table.disk_size / 512 - 34);
        assert!(is_zero(&new[index(end)..index(end) + 1000]));
    }
}

#[test]
fn a_disk_that_is_larger_than_its_table_ends_with_it() {
    let mut old = disk(&layout(SectorSize::B512, 0, 2 * MIB));
    old.extend(vec![1; 3_000_000]);
    assert_eq!(resize(&old, 2, 4 * MIB).unwrap(), disk(&layout(SectorSize::B512, 0, 4 * MIB)));
}

#[test]
fn an_entry_of_type_ee_is_what_it_was() {
    let layout = with_hybrid(layout(SectorSize::B512, 0, 2 * MIB), &[1]);
    let plain = disk(&self::layout(SectorSize::B512, 0, 2 * MIB));
    let mut full = plain.clone();
    full[446 + 12..446 + 16].fill(0xff);
    assert_eq!(resize(&full, 2, 4 * MIB).unwrap()[446 + 12..446 + 16], [0xff; 4], "any size is none of ours");
    // One behind the partitions, as tools of a Mac make it.
    let mut behind = disk(&layout);
    let (end, sectors) = (layout.partitions[1].last.0 + 1, layout.disk_size / 512);
    let number = |number: u64| u32::try_from(number).unwrap().to_le_bytes();
    let record = [&[0, 0xfe, 0xff, 0xff, 0xee, 0xfe, 0xff, 0xff][..], &number(end), &number(sectors - end)].concat();
    behind[446 + 32..446 + 48].copy_from_slice(&record);
    let new = resize(&behind, 2, 4 * MIB).unwrap();
    assert_eq!(new[446 + 40..446 + 44], number(end + 4096));
    assert_eq!(new[446 + 44..446 + 48], number(sectors - end));
    let mut other = disk(&layout);
    other[446 + 32..446 + 48].copy_from_slice(&record);
    other[446 + 32 + 4] = 0x83;
    let error = resize(&other, 2, 4 * MIB).unwrap_err();
    assert!(error.contains(&format!("names LBA {end} to {}", sectors - 1)), "{error}");
}

#[test]
fn what_cannot_be_is_told() {
    let old = disk(&layout(SectorSize::B512, 0, 2 * MIB));
    let end = old.len();
    let with = |range: std::ops::Range<usize>| {
        let mut disk = old.clone();
        disk[range].iter_mut().for_each(|byte| *byte = !*byte & 0x7f);
        resize(&disk, 2, MIB).unwrap_err()
    };
    let hybrid = disk(&with_hybrid(layout(SectorSize::B512, 0, 2 * MIB), &[2]));
    let lines = [
        resize(&old, 1, MIB).unwrap_err(),
        resize(&old, 3, MIB).unwrap_err(),
        resize(&old, 2, 0).unwrap_err(),
        resize(&old, 2, 1000).unwrap_err(),
        resize(&old, 2, u64::MAX - 511).unwrap_err(),
        resize(&old, 2, 1 << 63).unwrap_err(),
        resize(&hybrid, 2, 2 << 40).unwrap_err(),
        with(512..520),
        with(end - 512..end - 504),
        with(1024 + 56..1024 + 57),
        with(510..511),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    partition 1 is not the last one: partition 2 ends after it; only the last one can be resized
    there is no partition 3; name one that sane-image inspect shows
    0 bytes are not a size for partition 2; use a multiple of 512 bytes, more than 0
    1000 bytes are not a size for partition 2; use a multiple of 512 bytes, more than 0
    the disk would be larger than 9223372036854775807 bytes; use a smaller size
    the disk would be larger than 9223372036854775807 bytes; use a smaller size
    partition 2 would end past the 2199023255552 bytes that an MBR can describe; use a smaller size or a GPT
    the primary GPT header is missing; repair the table with sgdisk -e first
    the backup GPT header is missing; repair the table with sgdisk -e first
    the partition table is damaged (GPT entries at LBA 2: checksum 78e83812, but their bytes give abc9e4ab; 1 more); repair it first, with sgdisk or fdisk
    the partition table is damaged (protective MBR: its signature 55 aa is missing); repair it first, with sgdisk or fdisk
    ");
}

// ---- MBR

/// A disk of 20 MiB: partition 1, and `last` from 4 MiB on with 8 MiB.
fn mbr(last: [u8; 8]) -> Vec<u8> {
    let mut disk = vec![0; 20 << 20];
    disk[..446].fill(0xc3);
    let mut entry = |index: usize, head: [u8; 8], first: u32, sectors: u32| {
        let at = 446 + index * 16;
        disk[at..at + 16].copy_from_slice(&[&head[..], &first.to_le_bytes(), &sectors.to_le_bytes()].concat());
    };
    entry(1, [0x80, 32, 33, 0, 0x0c, 65, 1, 0], 2048, 2048);
    entry(2, last, 8192, 16_384);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn resize_mbr(old: &Vec<u8>, number: u32, size: u64) -> Result<Vec<u8>, String> {
    let table = MbrTable::read(old, SectorSize::B512).unwrap().unwrap();
    let resized = resize_last_mbr(old, &table, number, size).map_err(|error| error.to_string())?;
    Ok(apply(old, 8192 * 512, size, &resized))
}

#[test]
fn an_mbr_has_a_new_number_of_sectors_and_the_rest_of_its_bytes() {
    let mut old = mbr([0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    old.truncate((12 << 20) + 5000);
    old[(12 << 20) + 4000] = 1;
    for size in [MIB, 8 * MIB, 30 * MIB + 512] {
        let new = resize_mbr(&old, 3, size).unwrap();
        let table = MbrTable::read(&new, SectorSize::B512).unwrap().unwrap();
        assert_eq!((table.faults, table.partitions.len()), (vec![], 2));
        assert_eq!(table.partitions[1].sectors * 512, size);
        assert_eq!(new.len() as u64, (4 << 20) + size + 5000);
        assert_eq!(new[new.len() - 1000], 1);
        let field = 446 + 32 + 12;
        assert_eq!((&new[..field], &new[field + 4..512]), (&old[..field], &old[field + 4..512]));
    }
    // More than 1 MiB behind the partition is left out.
    assert_eq!(resize_mbr(&mbr([0, 1, 2, 3, 0x83, 4, 5, 6]), 3, MIB).unwrap().len(), 5 << 20);
}

#[test]
fn what_an_mbr_cannot_be_is_told() {
    let plain = mbr([0, 0, 0, 0, 0x83, 0, 0, 0]);
    // A container at 4 MiB whose first record has a partition 1 MiB further on.
    let mut container = mbr([0, 0, 0, 0, 0x0f, 0, 0, 0]);
    let record = [&[0, 0, 0, 0, 0x83, 0, 0, 0][..], &2048_u32.to_le_bytes(), &4096_u32.to_le_bytes()].concat();
    container[(4 << 20) + 446..(4 << 20) + 462].copy_from_slice(&record);
    container[(4 << 20) + 510..(4 << 20) + 512].copy_from_slice(&[0x55, 0xaa]);
    let mut damaged = plain.clone();
    damaged[446 + 32 + 15] = 1;
    let lines = [
        resize_mbr(&plain, 2, MIB).unwrap_err(),
        resize_mbr(&plain, 1, MIB).unwrap_err(),
        resize_mbr(&plain, 3, 100).unwrap_err(),
        resize_mbr(&plain, 3, 2 << 40).unwrap_err(),
        resize_mbr(&plain, 3, u64::MAX - 511).unwrap_err(),
        resize_mbr(&container, 5, MIB).unwrap_err(),
        resize_mbr(&container, 3, MIB).unwrap_err(),
        resize_mbr(&container, 2, MIB).unwrap_err(),
        resize_mbr(&damaged, 3, MIB).unwrap_err(),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    partition 2 is not the last one: partition 3 ends after it; only the last one can be resized
    there is no partition 1; name one that sane-image inspect shows
    100 bytes are not a size for partition 3; use a multiple of 512 bytes, more than 0
    partition 3 would end past the 2199023255552 bytes that an MBR can describe; use a smaller size or a GPT
    partition 3 would end past the 2199023255552 bytes that an MBR can describe; use a smaller size or a GPT
    partition 5 is a logical one, whose size cannot be changed; use a disk with primary partitions or a GPT
    there is no partition 3; name one that sane-image inspect shows
    partition 2 is not the last one: partition 3 ends after it; only the last one can be resized
    the partition table is damaged (partition 3: ends at LBA 16801791, past the end of the disk at LBA 40960); repair it first, with sgdisk or fdisk
    ");
    let most = (2 << 40) - (4 << 20);
    let table = MbrTable::read(&plain, SectorSize::B512).unwrap().unwrap();
    assert_eq!(resize_last_mbr(&plain, &table, 3, most).unwrap().disk_size, 2 << 40);
    assert!(resize_last_mbr(&plain, &table, 3, most + 512).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is on the disk: it is refused, or what comes out is right.
    #[test]
    fn no_bytes_panic(
        changes in prop::collection::vec((0..512usize * 40, any::<u8>()), 0..3),
        fields in prop::collection::vec((0..92usize, any::<u8>()), 0..3),
        number in 0..4u32,
        size in prop_oneof![(1..10_000u64).prop_map(|sectors| sectors * 512), any::<u64>()],
    ) {
        let mut old = disk(&layout(SectorSize::B512, 0, 2 * MIB));
        let end = old.len();
        for (at, byte) in fields {
            // Signed again below, in both copies: a table that only looks right.
            old[512 + at] = byte;
            old[end - 512 + at] = byte;
        }
        sign(&mut old);
        for (at, byte) in changes {
            old[at] = byte;
        }
        let Some(table) = Table::read(&old).unwrap() else { return Ok(()) };
        if let Ok(resized) = resize_last(&old, &table, number, size)
            && resized.disk_size < 1 << 30
        {
            let entry = table.partitions().iter().find(|entry| entry.number == number).unwrap();
            let new = apply(&old, entry.extent(table.sector_size).0.0, size, &resized);
            prop_assert_eq!(Table::read(&new).unwrap().unwrap().faults, []);
        }
    }

    #[test]
    fn no_mbr_panics(entries in prop::collection::vec(any::<u8>(), 64), number in 0..7u32, size: u64) {
        let mut old = mbr([0; 8]);
        old[446..510].copy_from_slice(&entries);
        (0..4).for_each(|i| {
            old[446 + i * 16] &= 0x80;
            old[446 + i * 16 + 10] = 0;
            old[446 + i * 16 + 11] = 0;
            old[446 + i * 16 + 14] = 0;
            old[446 + i * 16 + 15] = 0;
        });
        if let Some(table) = MbrTable::read(&old, SectorSize::B512).unwrap() {
            let _ = resize_last_mbr(&old, &table, number, size);
            let _ = resize_last_mbr(&old, &table, number, size % (1 << 31) * 512);
        }
    }
}
