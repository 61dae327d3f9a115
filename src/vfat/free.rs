//! The free bytes of a FAT: the clusters that the table marks as free. Nobody reads them before writing them.

use std::ops::Range;

use super::reader::Reader;
use super::volume::{Next, Table};
use crate::read::ReadError;
use crate::read::ranges::Free;
use crate::units::ByteOffset;

impl Reader {
    /// The free ranges. No chain of a file leads to them: what has such a chain is not opened.
    pub(super) fn free_ranges(&self) -> Result<Vec<Range<u64>>, ReadError> {
        let mut table = Table::new(&*self.bytes, &self.shape);
        let mut free = Free::default();
        for cluster in 2..self.shape.clusters.saturating_add(2) {
            if table.next(cluster)? == Next::Free {
                let ByteOffset(start) = self.shape.cluster_offset(cluster);
                free.add(start..start.saturating_add(self.shape.cluster.into()));
            }
        }
        Ok(free.into_list())
    }
}
