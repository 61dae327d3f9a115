//! How many threads the commands take.

use std::num::NonZeroUsize;
use std::thread;

/// A thread that waits for a disk leaves its core to others; with more than four for each core, they only wait for each
/// other. Copying takes two threads for each core that it is given.
const MOST_A_CORE: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// As many threads as a user asks for, at most as many as this machine can use; one for each core by default.
pub(super) fn count(jobs: Option<NonZeroUsize>) -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    jobs.map_or(cores, |jobs| jobs.min(cores.saturating_mul(MOST_A_CORE)))
}

/// The value of `--jobs`.
pub(super) fn parse_jobs(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "it must be a number, at least 1; without --jobs, there is one thread per core")
}
