//! Boot sectors with GRUB's fields and none of its code, for tests.

use zerocopy::IntoBytes;

use super::format::*;

/// Stands for boot.img.
pub(super) fn boot_img() -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, value: &[u8]| bytes[at..][..value.len()].copy_from_slice(value);
    put(0, &BOOT_START);
    put(KERNEL_SECTOR.start, &1_u64.to_le_bytes());
    put(BOOT_DRIVE, &[0xff, 0xfa]);
    put(DRIVE_CHECK.start, &NO_CHECK);
    put(0xbc, &LOADS_KERNEL_SECTOR);
    put(0x180, &[b"GRUB \0", BOOT_TEXT].concat());
    put(SIGNATURE_OFFSET, &SIGNATURE);
    bytes
}

/// Stands for a core image of `len` bytes.
pub(super) fn core_img(len: usize) -> Vec<u8> {
    let bytes = (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap());
    let mut bytes = [vec![0; SECTOR], bytes.skip(SECTOR).collect()].concat();
    let mut put = |at: usize, value: &[u8]| bytes[at..][..value.len()].copy_from_slice(value);
    put(0x128, DISKBOOT_TEXT);
    let sectors = u16::try_from((len - SECTOR).div_ceil(SECTOR)).unwrap();
    put(FIRST_RUN, RawRun { start: UNPLACED.into(), len: sectors.into(), segment: FIRST_SEGMENT.into() }.as_bytes());
    let compressed = u32::try_from(len - SECTOR - 100).unwrap();
    let sizes = RawSizes { compressed: compressed.into(), uncompressed: (2 * compressed).into(), redundancy: 0.into() };
    put(SIZES, sizes.as_bytes());
    bytes
}

/// Sectors of the disk of [`disk`].
const SECTORS: u64 = 400;
/// Where its BIOS boot partition, number 1, is: first and last sector.
pub(super) const BIOS_BOOT: (u64, u64) = (40, 140);
/// Where its partition 2 is, which a BIOS is to start.
pub(super) const MARKED: (u64, u64) = (150, 360);

/// A disk with a GPT of two partitions and nothing else.
pub(super) fn disk() -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(SECTORS).unwrap() * SECTOR];
    let types = [0x2168_6148_6449_6e6f_744e_6565_6445_4649_u128, 0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4];
    let mut entries = vec![0; 128 * 128];
    for (index, (kind, (first, last))) in types.into_iter().zip([BIOS_BOOT, MARKED]).enumerate() {
        let guids = [kind, 7 + index as u128].map(|guid| uuid::Uuid::from_u128(guid).to_bytes_le());
        let numbers = [first, last, 4 * index as u64].map(u64::to_le_bytes);
        let entry = [guids.concat(), numbers.concat()].concat();
        entries[index * 128..][..entry.len()].copy_from_slice(&entry);
    }
    let header = |crc: u32| {
        let starts =
            [&b"EFI PART"[..], &0x1_0000_u32.to_le_bytes(), &92_u32.to_le_bytes(), &crc.to_le_bytes(), &[0; 4]];
        let places = [1, SECTORS - 1, 34, SECTORS - 34].map(u64::to_le_bytes).concat();
        let ends = [128, 128, crc32fast::hash(&entries)].map(u32::to_le_bytes).concat();
        [&starts.concat(), &places, &[9; 16][..], &2_u64.to_le_bytes(), &ends].concat()
    };
    let header = header(crc32fast::hash(&header(0)));
    disk[SECTOR..][..header.len()].copy_from_slice(&header);
    disk[2 * SECTOR..][..entries.len()].copy_from_slice(&entries);
    disk[SIGNATURE_OFFSET..][..2].copy_from_slice(&SIGNATURE);
    disk
}

/// The same with GRUB for a BIOS, of a core image of `len` bytes.
pub(super) fn grub_disk(len: usize) -> Vec<u8> {
    let mut disk = disk();
    let first = crate::units::Lba(BIOS_BOOT.0);
    let code = super::embed(&boot_img(), &core_img(len), first).unwrap();
    disk[..CODE].copy_from_slice(&code.mbr);
    disk[usize::try_from(BIOS_BOOT.0).unwrap() * SECTOR..][..code.partition.len()].copy_from_slice(&code.partition);
    disk
}
