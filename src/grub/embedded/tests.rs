//! What is on disks, sound and damaged.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::super::sample::{self, BIOS_BOOT, MARKED};
use super::*;

/// Bytes of the core image.
const LEN: usize = 3_000;
const CORE: usize = 40 * SECTOR;

fn look_at(disk: &Vec<u8>) -> Embedded {
    let table = Table::read(disk).unwrap();
    look(disk, table.as_ref(), None).unwrap()
}

/// All that is found wrong with a disk, with and without the files of /boot.
fn faults(disk: &Vec<u8>) -> String {
    let found = look_at(disk);
    let core = found.differs_from_core(disk, &sample::core_img(LEN)).unwrap();
    let boot = differs_from_boot(disk, &sample::boot_img()).unwrap();
    let all = found.faults.iter().chain(&core).chain(&boot);
    all.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn with(disk: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut disk = disk.to_vec();
    disk[at..][..value.len()].copy_from_slice(value);
    disk
}

fn run(first: u64, sectors: u64) -> Run {
    Run { first: Lba(first), sectors }
}

#[test]
fn what_was_embedded_is_found() {
    let disk = sample::grub_disk(LEN);
    let found = look_at(&disk);
    assert_eq!(found.code, Code::Grub);
    let stage = found.stage.clone().unwrap();
    let runs = vec![run(40, 1), run(41, 5)];
    assert_eq!(stage, Stage { first: Lba(40), partition: Some(1), runs, redundancy: 0 });
    assert_eq!(stage.size(), 6 * 512);
    assert!(found.faults.is_empty() && found.notes.is_empty(), "{found:?}");
    assert_eq!(faults(&disk), "");
}

#[test]
fn any_changed_byte_is_found() {
    let disk = sample::grub_disk(LEN);
    let code = (0..CODE).filter(|at| !PARAMETERS.contains(at));
    for at in code.chain(CORE..CORE + LEN) {
        for mask in [1, 0x80] {
            let damaged = with(&disk, at, &[disk[at] ^ mask]);
            assert!(!faults(&damaged).is_empty() || look_at(&damaged).code != Code::Grub, "byte {at:#x}");
        }
    }
    // What is behind the image belongs to nobody.
    assert_eq!(faults(&with(&disk, CORE + LEN, &[1])), "");
}

#[test]
fn faults_say_where_the_boot_code_leads() {
    let disk = sample::grub_disk(LEN);
    let to = |sector: u64| look_at(&with(&disk, KERNEL_SECTOR.start, &sector.to_le_bytes()));
    let why = |found: Embedded| found.faults.first().map_or(String::new(), |fault| fault.why.clone());
    assert_eq!(why(to(400)), "GRUB's boot.img loads sector 400, which is past the end of the disk");
    assert_eq!(
        why(to(u64::MAX)),
        format!("GRUB's boot.img loads sector {}, which is past the end of the disk", u64::MAX)
    );
    assert_eq!(why(to(41)), "GRUB's boot.img loads sector 41, where no core image of GRUB is");
    let listed = |start: u64, len: u16, segment: u16| {
        let raw = RawRun { start: start.into(), len: len.into(), segment: segment.into() };
        look_at(&with(&disk, CORE + FIRST_RUN, raw.as_bytes()))
    };
    assert!(why(listed(41, 5, 0x840)).contains("loads 5 sectors to segment 840, not 820"));
    assert!(why(listed(41, 0, 0x820)).contains("is empty"));
    assert!(why(listed(398, 5, 0x820)).contains("past the end of the disk"));
    assert!(why(listed(u64::MAX, 5, 0x820)).contains("past the end of the disk"));
    assert!(why(listed(2, 5, 0x820)).contains("where the partition table is"));
    assert!(why(listed(138, 5, 0x820)).contains("not all of them in partition 1"));
    assert!(
        why(listed(41, 4, 0x820)).contains("has 2560 bytes, the image at least 2908"),
        "{}",
        why(listed(41, 4, 0x820))
    );
}

#[test]
fn a_core_image_in_pieces_or_in_a_file_is_read_too() {
    let disk = sample::grub_disk(LEN);
    // The second half a few sectors further, in the list before the first.
    let raw =
        |start: u64, len: u16, segment: u16| RawRun { start: start.into(), len: len.into(), segment: segment.into() };
    let runs = [raw(50, 3, 0x860), raw(41, 2, 0x820)];
    let moved = disk[CORE + 3 * SECTOR..][..3 * SECTOR].to_vec();
    let pieces = with(&with(&disk, 50 * SECTOR, &moved), CORE + FIRST_RUN - 12, runs.as_bytes());
    assert_eq!(look_at(&pieces).stage.unwrap().runs, [run(40, 1), run(41, 2), run(50, 3)]);
    assert_eq!(faults(&pieces), "");
    assert!(!faults(&with(&pieces, 50 * SECTOR, &[!pieces[50 * SECTOR]])).is_empty());
    let elsewhere = look_at(&with(&disk, 512 * 2 + 128, &[0; 128]));
    assert_eq!(elsewhere.stage.unwrap().partition, Some(1));
    let core = disk[CORE..][..6 * SECTOR].to_vec();
    let file = with(&with(&disk, 200 * SECTOR, &core), KERNEL_SECTOR.start, &200_u64.to_le_bytes());
    let file = with(&file, 200 * SECTOR + FIRST_RUN, &201_u64.to_le_bytes());
    let found = look_at(&file);
    assert!(found.faults.is_empty() && found.notes[0].contains("in partition 2, which is no BIOS boot"), "{found:?}");
}

#[test]
fn redundancy_is_no_difference() {
    let disk = sample::grub_disk(LEN);
    let raw = RawRun { start: 41.into(), len: 11.into(), segment: FIRST_SEGMENT.into() };
    let disk = with(&with(&disk, CORE + FIRST_RUN, raw.as_bytes()), CORE + REDUNDANCY.start, &3_100_u32.to_le_bytes());
    assert_eq!(look_at(&disk).stage.unwrap().redundancy, 3_100);
    assert_eq!(faults(&disk), "");
    assert!(faults(&with(&disk, CORE + REDUNDANCY.start + 1, &[0])).contains("takes 12 sectors"));
}

#[test]
fn others_code_is_named() {
    let code =
        |parts: &[(usize, &[u8])]| parts.iter().fold(sample::disk(), |disk, (at, bytes)| with(&disk, *at, bytes));
    let syslinux: (usize, &[u8]) = (0, &[0x33, 0xc0, 0xfa, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc]);
    assert_eq!(look_at(&sample::disk()).code, Code::None);
    assert_eq!(look_at(&code(&[(0, b"\xfa\xeb")])).code, Code::Unknown);
    assert_eq!(look_at(&code(&[syslinux])).code, Code::Unknown);
    let gpt = look_at(&code(&[syslinux, (0xb6, b"Missing OS\r\n")]));
    assert_eq!((gpt.code, gpt.faults.len()), (Code::SyslinuxGpt, 0));
    let stage = gpt.stage.unwrap();
    assert_eq!((stage.first, stage.partition), (Lba(MARKED.0), Some(2)));
    let mbr = [syslinux, (0x11b, b"Multiple active partitions.\r\n"), (0x174, b"Operating system load error.\r\n")];
    let found = look_at(&code(&mbr));
    assert_eq!((found.code, found.faults.len()), (Code::SyslinuxMbr, 1), "no entry of an MBR is active");
    assert_eq!(look_at(&code(&[mbr[0], mbr[2]])).code, Code::SyslinuxNumber);
    // Halves of 1000 and 600 bytes.
    let limine = [(0, &b"\xeb\x3c\x90LIMINE  "[..]), (0x1a4, &[0xe8, 3, 0x58, 2])];
    let places = [(0x1a8, 50 * 512_u64), (0x1b0, BIOS_BOOT.0 * 512)].map(|(at, byte)| (at, byte.to_le_bytes()));
    let disk = places.iter().fold(code(&limine), |disk, (at, bytes)| with(&disk, *at, bytes));
    let found = look_at(&disk);
    assert_eq!((found.code, found.faults.len()), (Code::Limine, 0));
    assert_eq!(found.stage.unwrap().runs, [run(50, 2), run(40, 2)]);
    assert_eq!(look_at(&code(&limine)).faults.len(), 2, "both where sector 0 is");
}

#[test]
fn short_disks_hold_nothing() {
    for len in [0, 1, 511] {
        let found = look(&vec![0xff; len], None, None).unwrap();
        assert_eq!((found.code, found.stage), (Code::None, None));
    }
    let disk = sample::grub_disk(LEN)[..SECTOR].to_vec();
    assert_eq!(look(&disk, None, None).unwrap().faults.len(), 1);
}

proptest! {
    #[test]
    fn no_bytes_break_it(mut edits in proptest::collection::vec((0..60_000_usize, any::<[u8; 4]>()), 1..40), near in any::<bool>()) {
        let disk = sample::grub_disk(LEN);
        if near {
            // Where fields are.
            let fields = [0_usize, 0x5c, 0x1a4, CORE + 0x1e4, CORE + 0x1f4, CORE + 0x208, 512, 1024];
            edits.iter_mut().for_each(|(at, _)| *at = fields[*at % fields.len()] + *at % 16);
        }
        let disk = edits.iter().fold(disk, |disk, (at, bytes)| with(&disk, *at, bytes));
        faults(&disk);
    }
}
