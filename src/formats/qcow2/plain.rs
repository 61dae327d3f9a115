//! Clusters without compression. All places are known beforehand: header, counts, L1, L2, then the clusters in the
//! order of the disk. So the engines of `copy` fill the file, and a filesystem that can share extents does so.

use std::fs::File;
use std::ops::Range;

use super::super::{Filled, Format, FormatError, Making, Source};
use super::{
    CLUSTER, CLUSTER_BITS, COPIED, COUNTS, ENTRIES, Header, TABLE_BYTES, Table, count_clusters, l1_entries, put,
    put_entries,
};
use crate::copy::Places;
use crate::map::ImageMap;
use crate::units::ByteOffset;

/// Writes the disk into `to`, an empty file.
pub(in super::super) fn write(source: &dyn Source, to: &File, making: Making<'_>) -> Result<Filled, FormatError> {
    let layout = Layout::new(source.map())?;
    to.set_len(layout.clusters * CLUSTER).map_err(FormatError::Write)?;
    layout.write_tables(to)?;
    let filled = source.fill(to, &layout.places(), making.means)?;
    let header = Header { size: layout.size, l1: layout.l1, counts: layout.counts, is_zstd: false };
    put(to, 0, &header.encode())?;
    Ok(filled)
}

/// Where everything is in the file.
struct Layout {
    size: u64,
    /// The ranges of the disk that have a place, in whole clusters.
    data: Vec<Range<u64>>,
    /// Which L2 tables there are: their numbers, in order.
    tables: Vec<u64>,
    counts: Table,
    l1: Table,
    /// The cluster of the first block of counts.
    first_block: u64,
    /// The cluster of the first L2 table.
    first_l2: u64,
    /// The first cluster of the disk's own.
    first_data: u64,
    /// All clusters of the file.
    clusters: u64,
}

impl Layout {
    fn new(map: &ImageMap) -> Result<Self, FormatError> {
        let size = map.size();
        let data = map.data_units(CLUSTER);
        let mut tables: Vec<u64> =
            data.iter().flat_map(|range| range.start / TABLE_BYTES..range.end.div_ceil(TABLE_BYTES)).collect();
        tables.dedup();
        let l1_entries = l1_entries(Format::Qcow2, size)?;
        let data_clusters: u64 = data.iter().map(|range| (range.end - range.start) / CLUSTER).sum();
        let others = 1 + l1_entries.div_ceil(ENTRIES) + tables.len() as u64 + data_clusters;
        let (blocks, counts_clusters) = count_clusters(others);
        let counts = Table { cluster: 1, entries: blocks };
        let first_block = counts.cluster + counts_clusters;
        let l1 = Table { cluster: first_block + blocks, entries: l1_entries };
        let first_l2 = l1.cluster + l1.clusters();
        let first_data = first_l2 + tables.len() as u64;
        let clusters = first_data + data_clusters;
        Ok(Self { size, data, tables, counts, l1, first_block, first_l2, first_data, clusters })
    }

    fn write_tables(&self, to: &File) -> Result<(), FormatError> {
        let blocks = self.first_block..self.first_block + self.counts.entries;
        put_entries(to, self.counts.cluster, blocks.clone().map(|cluster| cluster * CLUSTER))?;
        for (number, block) in (0..).zip(blocks) {
            let used = self.clusters.saturating_sub(number * COUNTS).min(COUNTS);
            let ones: Vec<u8> = (0..used).flat_map(|_| 1_u16.to_be_bytes()).collect();
            put(to, block * CLUSTER, &ones)?;
        }
        let mut l1 = vec![0; usize::try_from(self.l1.entries).expect("it was checked")];
        for (l2, &table) in (self.first_l2..).zip(&self.tables) {
            l1[usize::try_from(table).expect("it is in L1")] = (l2 * CLUSTER) | COPIED;
        }
        put_entries(to, self.l1.cluster, l1)?;
        self.write_l2(to)
    }

    fn write_l2(&self, to: &File) -> Result<(), FormatError> {
        let mut at = self.first_data;
        for (l2, &table) in (self.first_l2..).zip(&self.tables) {
            let mut entries = vec![0; usize::try_from(ENTRIES).expect("small")];
            let told = table * TABLE_BYTES..(table + 1) * TABLE_BYTES;
            let first = self.data.partition_point(|range| range.end <= told.start);
            for range in self.data[first..].iter().take_while(|range| range.start < told.end) {
                for guest in (range.start.max(told.start)..range.end.min(told.end)).step_by(1 << CLUSTER_BITS) {
                    entries[usize::try_from((guest - told.start) / CLUSTER).expect("less than the entries")] =
                        (at * CLUSTER) | COPIED;
                    at += 1;
                }
            }
            put_entries(to, l2, entries)?;
        }
        Ok(())
    }

    fn places(&self) -> Places {
        let mut places = Places::default();
        let mut at = self.first_data * CLUSTER;
        for range in &self.data {
            places.add(range.start..range.end.min(self.size), ByteOffset(at));
            at += range.end - range.start;
        }
        places
    }
}
