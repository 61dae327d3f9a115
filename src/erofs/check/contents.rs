//! Unpacks what is compressed, on all cores: a cluster that does not unpack to its length is all that tells of damage.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use super::Checker;
use crate::erofs::volume::stream::unpack_extent;
use crate::erofs::volume::{Disk, Extent};
use crate::read::ReadError;

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
        for (nid, error) in broken(self.disk, &packed) {
            self.note::<()>(nid, Err(error))?;
        }
        Ok(())
    }
}

/// Those that do not unpack, each with the reason; in the order that they came in.
fn broken(disk: Disk<'_>, packed: &[Packed]) -> Vec<(u64, ReadError)> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS);
    let found = Mutex::new(Vec::new());
    let work = |part: &[Packed]| {
        let mut room = Vec::new();
        for one in part {
            match unpack_extent(disk, one.nid, one.extent, std::mem::take(&mut room)) {
                Ok(bytes) => room = bytes,
                Err(error) => {
                    if let Ok(mut found) = found.lock() {
                        found.push((one.nid, error));
                    }
                }
            }
        }
    };
    let size = packed.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let mut parts = packed.chunks(size);
        let own = parts.next();
        for part in parts {
            let work = &work;
            scope.spawn(move || work(part));
        }
        own.into_iter().for_each(work);
    });
    found.into_inner().unwrap_or_default()
}
