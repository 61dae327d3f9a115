//! Signals for commands that must not be stopped half-way. All other commands are ended by a signal at once.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use sane_image::progress::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on the first signal asks the work to stop and clean up, a second one ends the program at once.
///
/// A signal that was ignored when the program started stays ignored: `nohup` and the background jobs of shells rely on
/// it. The handlers do all of that themselves: a thread for it might not start.
pub(super) fn watch(cancel: &Cancel) -> Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_in(ignored, signal)) {
        let number = usize::try_from(signal).context("cannot watch for signals")?;
        // The order matters: the first handler decides by what the second one sets.
        flag::register_conditional_default(signal, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)))
            .and_then(|_| flag::register_usize(signal, cancel.flag(), number))
            .context("cannot watch for signals")?;
    }
    Ok(())
}

/// The signals that are ignored, as a mask: none if that is not known.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|shifted| shifted & 1 == 1)
}
