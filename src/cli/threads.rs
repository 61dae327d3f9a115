//! How many threads the commands take.

use std::num::NonZeroUsize;
use std::thread;

use anyhow::{Context, Result};

/// One thread a core.
pub(super) fn all_cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Makes the scan keep to `threads` as well.
pub(super) fn limit_threads(threads: NonZeroUsize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
    pool.build_global().context("cannot start threads")
}
