//! Compares the bytes of files, on all cores.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::Partition;
use crate::progress::{Cancel, Progress};
use crate::read::{Contents, FileSystem, ReadError};
use crate::threads;

use super::{DiffError, Which};

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
    let (tell_before, tell_after) =
        (&DiffError::read(Which::Before, before) as &Tell, &DiffError::read(Which::After, after) as &Tell);
    let work = || -> Result<Vec<PathBuf>, DiffError> {
        let one = Opened { fs: before.open().map_err(tell_before)?, tell: tell_before };
        let other = Opened { fs: after.open().map_err(tell_after)?, tell: tell_after };
        let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
        let mut differing = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            for path in *batch {
                cancel.check()?;
                if differ(&one, &other, path, &mut buffers, progress, cancel)? {
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

/// Makes of an error one that says where it comes from.
type Tell = dyn Fn(ReadError) -> DiffError + Sync;

/// One of the two filesystems.
struct Opened<'a> {
    fs: Box<dyn FileSystem>,
    tell: &'a Tell,
}

impl Opened<'_> {
    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, DiffError> {
        self.fs.open(path).map_err(self.tell)
    }
}

fn differ(
    before: &Opened<'_>,
    after: &Opened<'_>,
    path: &Path,
    buffers: &mut [Vec<u8>; 2],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<bool, DiffError> {
    let (mut one, mut other) = (before.open(path)?, after.open(path)?);
    let [bytes, other_bytes] = buffers;
    let mut at: u64 = 0;
    loop {
        cancel.check()?;
        // A hole in both is the same in both. It may be larger than any disk.
        at = at.max(one.stored(at).start.min(other.stored(at).start));
        let got = one.read_at(at, bytes).map_err(before.tell)?;
        let same = other.read_at(at, other_bytes).map_err(after.tell)?;
        if bytes.get(..got) != other_bytes.get(..same) {
            return Ok(true);
        }
        progress.advance(0, got as u64);
        at = at.saturating_add(got as u64);
        if got < PIECE {
            return Ok(false);
        }
    }
}
