//! Tests that all forms with a reader must pass.

use std::process::Command;

use proptest::prelude::*;

use super::Format;
use super::sample::{GIB, KIB, MIB, Sample, broken, judge, qemu_check, qemu_compare};
use crate::disk::oracle;

/// The forms that have files of their own for any whole number of sectors.
const FORMS: [Format; 5] = [Format::Zst, Format::Qcow2, Format::Qcow2Zstd, Format::Vmdk, Format::Vhdx];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_disk_comes_back(
        size in 1..20_000_u64,
        data in prop::collection::vec((0..20_000_u64, 1..300_u64), 0..6),
    ) {
        let size = size * 512;
        let data: Vec<_> = data
            .into_iter()
            .map(|(start, len)| (start * 512).min(size)..((start + len) * 512).min(size))
            .filter(|range| !range.is_empty())
            .collect();
        let sample = Sample::new(size, &data, 0..0);
        for format in FORMS {
            let file = sample.make(format, 2).unwrap();
            prop_assert!(sample.reads_back(&file), "{}", format);
        }
    }
}

/// Data at the start, in the middle of a unit, across the tables of qcow2, in other tables, and at the end, which is in no
/// whole cluster.
fn sample() -> Sample {
    let size = 3 * GIB + 5 * MIB + 512;
    let table = 512 * MIB;
    let data = [
        0..3 * MIB,
        9 * MIB + 700..9 * MIB + 90_000,
        table - KIB..table + 3 * KIB,
        2 * GIB..2 * GIB + 1,
        size - 700..size,
    ];
    Sample::new(size, &data, 20 * MIB..24 * MIB)
}

#[test]
fn qcow2_is_what_qemu_reads() {
    let sample = sample();
    for format in [Format::Qcow2, Format::Qcow2Zstd] {
        let file = sample.make_all_ways(format);
        assert!(sample.reads_back(&file), "{format}");
        if oracle::available("qemu-img") {
            qemu_check(&file, "qcow2").unwrap();
            qemu_compare(&sample, &file, "qcow2").unwrap();
        }
    }
}

/// The first count of the first block of counts, and an entry of the L1 table.
#[test]
fn wrong_tables_of_qcow2_are_seen() {
    let sample = sample();
    let file = sample.make(Format::Qcow2, 2).unwrap();
    if oracle::available("qemu-img") {
        qemu_check(&broken(&file, (2 << 16) + 1, &[0]), "qcow2").unwrap_err();
        qemu_compare(&sample, &broken(&file, (3 << 16) + 5, &[0xff]), "qcow2").unwrap_err();
    }
    assert!(!sample.reads_back(&broken(&file, (3 << 16) + 5, &[0xff])));
}

#[test]
fn zstd_unpacks_a_zst() {
    let size = 30 * MIB + 512;
    let sample =
        Sample::new(size, &[0..3 * MIB, 9 * MIB + 700..9 * MIB + 90_000, size - 700..size], 20 * MIB..24 * MIB);
    let file = sample.make_all_ways(Format::Zst);
    assert!(sample.reads_back(&file));
    if oracle::available("zstd") {
        judge(Command::new("zstd").args(["-qt"]).arg(&file)).unwrap();
        judge(Command::new("zstd").args(["-qt"]).arg(broken(&file, 5000, &[1, 2, 3]))).unwrap_err();
    }
}
