//! qcow2, version 3: the form of QEMU.
//!
//! Source: QEMU, docs/interop/qcow2.rst. The disk is divided into clusters. An L1 table says where the L2 tables are.
//! An L2 table says where 8192 clusters are. A cluster without a place reads as zeros. A table leads to blocks of
//! reference counts, which say how often each cluster of the file is used. Numbers are big-endian.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::limits::impossible;
use super::{Format, FormatError};
use crate::container::qcow2::{COMPRESSED, COMPRESSION_TYPE, MAGIC};

pub(super) mod packed;
pub(super) mod plain;

/// The exponent of the length of a cluster.
const CLUSTER_BITS: u32 = 16;
/// The bytes of a cluster: what `qemu-img` makes by default.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// The entries of a cluster of 64-bit numbers: of an L2 table.
const ENTRIES: u64 = CLUSTER / 8;
/// The bytes of the disk that an L2 table describes.
const TABLE_BYTES: u64 = ENTRIES * CLUSTER;
/// The counts in a block: of 16 bits each.
const COUNTS: u64 = CLUSTER / 2;
/// The exponent of the bits of a count.
const COUNT_ORDER: u32 = 4;
/// QEMU opens nothing with a longer L1 table, in bytes.
const L1_MAX: u64 = 32 << 20;
/// Of an entry: what it points to is used once, and can be written in place.
const COPIED: u64 = 1 << 63;
/// zstd, as a way to compress clusters.
const ZSTD: u8 = 1;

/// Where the tables are that the header points to.
struct Header {
    size: u64,
    l1: Table,
    counts: Table,
    is_zstd: bool,
}

/// A table that starts at a cluster.
#[derive(Clone, Copy)]
struct Table {
    /// The number of its first cluster in the file.
    cluster: u64,
    /// The number of its entries.
    entries: u64,
}

impl Table {
    /// The clusters that it takes.
    fn clusters(self) -> u64 {
        self.entries.div_ceil(ENTRIES)
    }
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let low = |number: u64| u32::try_from(number).expect("the size was checked").to_be_bytes();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend(3_u32.to_be_bytes());
        // No backing file.
        bytes.extend([0; 12]);
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        // Not encrypted.
        bytes.extend([0; 4]);
        bytes.extend(low(self.l1.entries));
        bytes.extend((self.l1.cluster * CLUSTER).to_be_bytes());
        bytes.extend((self.counts.cluster * CLUSTER).to_be_bytes());
        bytes.extend(low(self.counts.clusters()));
        // No snapshots.
        bytes.extend([0; 12]);
        bytes.extend(if self.is_zstd { COMPRESSION_TYPE } else { 0 }.to_be_bytes());
        // Neither compatible nor autoclear features.
        bytes.extend([0; 16]);
        bytes.extend(COUNT_ORDER.to_be_bytes());
        bytes.extend(112_u32.to_be_bytes());
        bytes.extend([if self.is_zstd { ZSTD } else { 0 }, 0, 0, 0, 0, 0, 0, 0]);
        // No extensions.
        bytes.extend([0; 8]);
        bytes
    }
}

/// The number of entries of the L1 table for a disk of `size` bytes.
fn l1_entries(format: Format, size: u64) -> Result<u64, FormatError> {
    let entries = size.div_ceil(TABLE_BYTES).max(1);
    if entries * 8 > L1_MAX {
        let most = L1_MAX / 8 * TABLE_BYTES;
        let why = format!("a disk of {size} bytes is larger than the {most} that QEMU takes; make another form");
        return Err(impossible(format, why));
    }
    Ok(entries)
}

/// How many blocks of counts, and clusters of the table of those, a file has that has `others` clusters beside them.
fn count_clusters(others: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (1, 1);
    loop {
        let needed = (others + blocks + table).div_ceil(COUNTS);
        if needed == blocks {
            return (blocks, table);
        }
        // More of them only need more.
        (blocks, table) = (needed, needed.div_ceil(ENTRIES));
    }
}

/// Writes 64-bit numbers from the start of a cluster on.
fn put_entries(to: &File, cluster: u64, entries: impl IntoIterator<Item = u64>) -> Result<(), FormatError> {
    let bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_be_bytes).collect();
    put(to, cluster * CLUSTER, &bytes)
}

fn put(to: &File, at: u64, bytes: &[u8]) -> Result<(), FormatError> {
    to.write_all_at(bytes, at).map_err(FormatError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_disks_than_qemu_takes_are_refused() {
        let most = 2 << 50;
        assert_eq!(l1_entries(Format::Qcow2, most).unwrap() * 8, L1_MAX);
        let error = l1_entries(Format::Qcow2, most + 512).unwrap_err().to_string();
        assert!(error.contains("larger than the 2251799813685248"), "{error}");
    }

    #[test]
    fn counts_count_themselves() {
        for others in [1, 100, 32_765, 32_766, 32_767, 65_531, 1 << 28, (1 << 28) + 8000, 1 << 33] {
            let (blocks, table) = count_clusters(others);
            let all = others + blocks + table;
            assert!(blocks * COUNTS >= all && table * ENTRIES >= blocks, "{others}");
            assert!((blocks - 1) * COUNTS < all, "{others}");
        }
    }
}
