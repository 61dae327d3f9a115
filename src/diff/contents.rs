//! Which files differ in their bytes, found out on all cores.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::Partition;
use crate::progress::{Cancel, Progress};
use crate::read::{FileSystem, ReadError};
use crate::threads;

use super::DiffError;

/// Contents are read in pieces of this many bytes.
const PIECE: usize = 1 << 20;
/// Files that a thread takes at once: neighbours on the disk, as a rule.
const BATCH: usize = 64;

/// The paths among `paths` whose contents differ, in order. The files have the same length in both.
pub(super) fn differing(
    before: &Partition,
    after: &Partition,
    paths: &[PathBuf],
    jobs: NonZeroUsize,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<PathBuf>, DiffError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let next = AtomicUsize::new(0);
    let batches: Vec<&[PathBuf]> = paths.chunks(BATCH).collect();
    let work = || -> Result<Vec<PathBuf>, DiffError> {
        let (before, after) = (before.open()?, after.open()?);
        let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
        let mut differing = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            for path in *batch {
                cancel.check()?;
                if differ(before.as_ref(), after.as_ref(), path, &mut buffers, progress, cancel)? {
                    differing.push(path.clone());
                }
            }
        }
        Ok(differing)
    };
    let threads = jobs.get().min(batches.len());
    let found = threads::together(threads, work).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut all = found.concat();
    all.sort();
    Ok(all)
}

fn differ(
    before: &dyn FileSystem,
    after: &dyn FileSystem,
    path: &Path,
    buffers: &mut [Vec<u8>; 2],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<bool, DiffError> {
    let (mut before, mut after) = (before.open(path)?, after.open(path)?);
    let [one, other] = buffers;
    let mut at: u64 = 0;
    loop {
        cancel.check()?;
        // What is a hole in both is the same in both, and may be larger than all disks.
        at = at.max(before.stored(at).start.min(after.stored(at).start));
        let got = before.read_at(at, one)?;
        let same = after.read_at(at, other)?;
        if one.get(..got) != other.get(..same) {
            return Ok(true);
        }
        progress.advance(0, got as u64);
        at = at.saturating_add(got as u64);
        if got < PIECE {
            return Ok(false);
        }
    }
}

impl From<ReadError> for DiffError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
