//! Clusters compressed by zstd, one after the other. Their places are known only when they are made. So the header,
//! which is at the start, is written last, and all tables follow the clusters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::super::ordered::{Pack, Unit, in_order, is_zero};
use super::super::{Format, FormatError, Making, Source};
use super::{
    CLUSTER, CLUSTER_BITS, COMPRESSED, COPIED, COUNTS, ENTRIES, Header, TABLE_BYTES, Table, count_clusters, l1_entries,
    put, put_entries,
};
use crate::units::ByteOffset;

/// The bytes of the disk that a thread takes at once: whole clusters.
const UNIT: usize = 4 << 20;
/// The unit of the length of a compressed cluster in an entry.
const SECTOR: u64 = 512;
/// The bits of an entry below the number of sectors.
const OFFSET_BITS: u32 = 62 - (CLUSTER_BITS - 8);

/// Writes the disk into `to`, an empty file.
pub(in super::super) fn write(source: &dyn Source, to: &File, making: Making<'_>) -> Result<(), FormatError> {
    let Making { level, means, .. } = making;
    let size = source.map().size();
    let l1_entries = l1_entries(Format::Qcow2Zstd, size)?;
    means.progress.stage("compressing", 0, size);
    let mut file = Clusters::new(to, l1_entries);
    file.out.write_all(&[0; 1 << CLUSTER_BITS]).map_err(FormatError::Write)?;
    in_order(source, UNIT, means, || Packer::new(level), |at, forms, bytes| file.put(at, &forms, bytes))?;
    file.finish(size)
}

/// How a cluster is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Not at all: it is zeros.
    Zeros,
    /// As it is.
    Plain,
    /// In so many bytes.
    Packed(usize),
}

struct Packer {
    compressor: Compressor<'static>,
    /// A last cluster that the disk has not all of.
    padded: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    fn new(level: i32) -> Self {
        let compressor = Compressor::new(level).expect("the level is one of zstd's");
        Self { compressor, padded: Vec::new(), packed: Vec::new() }
    }

    fn cluster(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<Form, FormatError> {
        if is_zero(bytes) {
            return Ok(Form::Zeros);
        }
        self.padded.clear();
        let bytes = match bytes.len() as u64 {
            CLUSTER => bytes,
            _ => {
                self.padded.extend_from_slice(bytes);
                self.padded.resize(1 << CLUSTER_BITS, 0);
                &self.padded
            }
        };
        self.packed.clear();
        self.packed.reserve(compress_bound(bytes.len()));
        let len = self.compressor.compress_to_buffer(bytes, &mut self.packed).map_err(FormatError::Write)?;
        // One that became no shorter by a sector is not worth unpacking.
        if (len as u64).next_multiple_of(SECTOR) < CLUSTER {
            output.extend_from_slice(&self.packed);
            return Ok(Form::Packed(len));
        }
        output.extend_from_slice(bytes);
        Ok(Form::Plain)
    }
}

impl Pack for Packer {
    /// The form of each cluster of a unit; of none, if all are zeros.
    type Note = Vec<Form>;

    fn pack(&mut self, _: ByteOffset, bytes: Unit<'_>, output: &mut Vec<u8>) -> Result<Vec<Form>, FormatError> {
        match bytes {
            Unit::Zeros(_) => Ok(Vec::new()),
            Unit::Data(bytes) => bytes.chunks(1 << CLUSTER_BITS).map(|cluster| self.cluster(cluster, output)).collect(),
        }
    }
}

/// The file as it grows.
struct Clusters<'a> {
    file: &'a File,
    out: BufWriter<&'a File>,
    /// The end of what is written.
    at: u64,
    /// How often each cluster of the file is used.
    counts: Vec<u16>,
    l1_entries: u64,
    /// The L2 tables that have entries, by number.
    tables: BTreeMap<u64, Vec<u64>>,
}

impl<'a> Clusters<'a> {
    /// A file whose header, a cluster, is there.
    fn new(file: &'a File, l1_entries: u64) -> Self {
        let out = BufWriter::with_capacity(1 << 20, file);
        Self { file, out, at: CLUSTER, counts: vec![1], l1_entries, tables: BTreeMap::new() }
    }

    /// Adds the clusters of a unit.
    fn put(&mut self, ByteOffset(start): ByteOffset, forms: &[Form], mut bytes: &[u8]) -> Result<(), FormatError> {
        for (&form, guest) in forms.iter().zip((start..).step_by(1 << CLUSTER_BITS)) {
            let (len, entry) = match form {
                Form::Zeros => continue,
                Form::Plain => {
                    self.pad()?;
                    (1 << CLUSTER_BITS, self.at | COPIED)
                }
                Form::Packed(len) => (len, packed_entry(self.at, len as u64)),
            };
            let (cluster, rest) = bytes.split_at(len);
            bytes = rest;
            self.count(form, len as u64);
            self.out.write_all(cluster).map_err(FormatError::Write)?;
            self.at += len as u64;
            let table = self.tables.entry(guest / TABLE_BYTES).or_insert_with(|| vec![0; 1 << (CLUSTER_BITS - 3)]);
            table[usize::try_from(guest % TABLE_BYTES / CLUSTER).expect("less than the entries")] = entry;
        }
        Ok(())
    }

    /// Counts the clusters of the file that `len` bytes at the end take: of compressed ones, whole sectors.
    fn count(&mut self, form: Form, len: u64) {
        let (first, past) = match form {
            Form::Packed(_) => (self.at / SECTOR * SECTOR, (self.at + len).next_multiple_of(SECTOR)),
            _ => (self.at, self.at + len),
        };
        for cluster in first / CLUSTER..past.div_ceil(CLUSTER) {
            let index = usize::try_from(cluster).expect("64-bit addresses");
            if index == self.counts.len() {
                self.counts.push(0);
            }
            // No cluster has room for so many.
            self.counts[index] = self.counts[index].saturating_add(1);
        }
    }

    /// Ends what is written at the end of a cluster.
    fn pad(&mut self) -> Result<(), FormatError> {
        let missing = self.at.next_multiple_of(CLUSTER) - self.at;
        let zeros = vec![0; usize::try_from(missing).expect("less than a cluster")];
        self.out.write_all(&zeros).map_err(FormatError::Write)?;
        self.at += missing;
        Ok(())
    }

    /// Adds all tables, and the header.
    fn finish(mut self, size: u64) -> Result<(), FormatError> {
        self.pad()?;
        self.out.flush().map_err(FormatError::Write)?;
        let to = self.file;
        let first_l2 = self.at / CLUSTER;
        let mut l1 = vec![0; usize::try_from(self.l1_entries).expect("it was checked")];
        for (l2, (&number, table)) in (first_l2..).zip(&self.tables) {
            l1[usize::try_from(number).expect("it is in L1")] = (l2 * CLUSTER) | COPIED;
            put_entries(to, l2, table.iter().copied())?;
        }
        let l1_table = Table { cluster: first_l2 + self.tables.len() as u64, entries: self.l1_entries };
        put_entries(to, l1_table.cluster, l1)?;
        let first_block = l1_table.cluster + l1_table.clusters();
        let (blocks, table) = count_clusters(first_block);
        let clusters = first_block + blocks + table;
        self.counts.resize(usize::try_from(clusters).expect("64-bit addresses"), 1);
        for (block, counts) in (first_block..).zip(self.counts.chunks(1 << (CLUSTER_BITS - 1))) {
            put(to, block * CLUSTER, &counts.iter().flat_map(|count| count.to_be_bytes()).collect::<Vec<_>>())?;
        }
        let counts = Table { cluster: first_block + blocks, entries: blocks };
        put_entries(to, counts.cluster, (first_block..first_block + blocks).map(|cluster| cluster * CLUSTER))?;
        to.set_len(clusters * CLUSTER).map_err(FormatError::Write)?;
        let header = Header { size, l1: l1_table, counts, is_zstd: true };
        put(to, 0, &header.encode())
    }
}

/// The entry of a compressed cluster of `len` bytes at byte `at` of the file.
fn packed_entry(at: u64, len: u64) -> u64 {
    let more_sectors = (at + len - 1) / SECTOR - at / SECTOR;
    COMPRESSED | more_sectors << OFFSET_BITS | at
}

const _: () = assert!(COUNTS == 1 << (CLUSTER_BITS - 1) && ENTRIES == 1 << (CLUSTER_BITS - 3));
