//! The contents of the clusters of a chain. The chains of the filesystem are known to be whole.

use super::shape::ENTRY_BYTES;
use super::{Bits, Next, Shape, Table};
use crate::read::{Bytes, ReadError};
use crate::units::ByteOffset;

/// The bytes of a chain of clusters, for reading at any place. Forwards is fast.
pub(in crate::vfat) struct Clusters<'a> {
    bytes: &'a dyn Bytes,
    shape: &'a Shape,
    table: Table<'a>,
    first: u32,
    /// A cluster of the chain, and how many come before it.
    at: (u32, u64),
}

impl<'a> Clusters<'a> {
    /// The chain that starts at a cluster.
    pub(in crate::vfat) fn new(bytes: &'a dyn Bytes, shape: &'a Shape, first: u32) -> Self {
        Self { bytes, shape, table: Table::new(bytes, shape), first, at: (first, 0) }
    }

    /// Fills `buf` from `offset` bytes into the chain.
    ///
    /// # Errors
    /// If the chain is shorter, or whatever else is wrong with the image.
    pub(in crate::vfat) fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let cluster_bytes = u64::from(self.shape.cluster.max(1));
        let mut offset = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            self.seek(offset / cluster_bytes)?;
            let inside = offset % cluster_bytes;
            let (start, run) = (self.at.0, self.run((rest.len() as u64).saturating_add(inside))?);
            let len = usize::try_from(run.saturating_sub(inside)).unwrap_or(usize::MAX).min(rest.len());
            let Some((now, later)) = rest.split_at_mut_checked(len).filter(|_| len > 0) else { break };
            let ByteOffset(place) = self.shape.cluster_offset(start);
            self.bytes.read_exact_at(ByteOffset(place.saturating_add(inside)), now)?;
            offset = offset.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    /// Goes to the cluster that `count` others come before.
    fn seek(&mut self, count: u64) -> Result<(), ReadError> {
        if count < self.at.1 {
            self.at = (self.first, 0);
        }
        while self.at.1 < count {
            let next = self.next()?.ok_or_else(|| self.broken("ends before its file does"))?;
            self.at = (next, self.at.1.saturating_add(1));
        }
        if self.shape.is_cluster(self.at.0) { Ok(()) } else { Err(self.broken("starts nowhere")) }
    }

    /// Goes over clusters that lie one after another, up to `most` bytes or a little more; returns how many bytes they
    /// are.
    fn run(&mut self, most: u64) -> Result<u64, ReadError> {
        let mut len = u64::from(self.shape.cluster);
        while len < most {
            match self.next()? {
                Some(next) if next == self.at.0.saturating_add(1) => {
                    self.at = (next, self.at.1.saturating_add(1));
                    len = len.saturating_add(self.shape.cluster.into());
                }
                _ => break,
            }
        }
        Ok(len)
    }

    /// The cluster after the one it is at, if there is one.
    fn next(&mut self) -> Result<Option<u32>, ReadError> {
        match self.table.next(self.at.0)? {
            Next::Cluster(next) => Ok(Some(next)),
            Next::End => Ok(None),
            Next::Free | Next::Bad | Next::Invalid(_) => Err(self.broken("leads nowhere")),
        }
    }

    fn broken(&self, why: &str) -> ReadError {
        ReadError::corrupt("FAT", format!("the chain of cluster {} {why}", self.first))
    }
}

/// All bytes of the directory that starts at a cluster; of the root if there is none.
///
/// # Errors
/// Whatever is wrong with the image.
pub(in crate::vfat) fn directory_bytes(
    bytes: &dyn Bytes,
    shape: &Shape,
    cluster: Option<u32>,
) -> Result<Vec<u8>, ReadError> {
    let first = match (cluster, shape.bits) {
        (None, Bits::Fat12 | Bits::Fat16) => {
            let len = shape.root_entries.saturating_mul(ENTRY_BYTES);
            let mut contents = vec![0; usize::try_from(len).unwrap_or(0)];
            bytes.read_exact_at(shape.sector_offset(shape.root_sector()), &mut contents)?;
            return Ok(contents);
        }
        (None, Bits::Fat32) => shape.root_cluster,
        (Some(cluster), _) => cluster,
    };
    let mut clusters = Clusters::new(bytes, shape, first);
    let mut contents = Vec::new();
    // No chain has more clusters than there are.
    for _ in 0..shape.clusters {
        let start = contents.len();
        contents.resize(start.saturating_add(usize::try_from(shape.cluster).unwrap_or(0)), 0);
        clusters.read_exact_at(start as u64, contents.get_mut(start..).unwrap_or_default())?;
        if clusters.next()?.is_none() {
            break;
        }
    }
    Ok(contents)
}
