//! Unpacks what is compressed, on several threads: a cluster that does not unpack to its length is all that tells of damage.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Checker;
use crate::erofs::volume::stream::unpack_extent;
use crate::erofs::volume::{Disk, Extent};
use crate::read::ReadError;
use crate::threads;

/// So many extents are collected before they are unpacked.
const BATCH: usize = 1 << 14;
/// More threads than this find no more room in caches.
const MOST_THREADS: usize = 16;

/// An extent that is compressed, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub(super) nid: u64,
    pub(super) extent: Extent,
}

impl Checker<'_> {
    /// Unpacks the extents collected so far, once there are enough.
    pub(super) fn check_some_contents(&mut self) -> Result<(), ReadError> {
        if self.packed.len() >= BATCH { self.check_contents() } else { Ok(()) }
    }

    /// Unpacks all extents collected so far.
    pub(super) fn check_contents(&mut self) -> Result<(), ReadError> {
        let packed = std::mem::take(&mut self.packed);
        for (nid, error) in broken(self.disk, &packed, self.threads.get()) {
            self.note::<()>(nid, Err(error))?;
        }
        Ok(())
    }
}

/// Those that do not unpack, each with the reason; in the order that they came in.
fn broken(disk: Disk<'_>, packed: &[Packed], threads: usize) -> Vec<(u64, ReadError)> {
    let next = AtomicUsize::new(0);
    let found = threads::together(threads.min(MOST_THREADS).min(packed.len()), || {
        let (mut room, mut found) = (Vec::new(), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = packed.get(index) else { return found };
            match unpack_extent(disk, one.nid, one.extent, std::mem::take(&mut room)) {
                Ok(bytes) => room = bytes,
                Err(error) => found.push((index, one.nid, error)),
            }
        }
    });
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    found.sort_by_key(|(index, ..)| *index);
    found.into_iter().map(|(_, nid, error)| (nid, error)).collect()
}
