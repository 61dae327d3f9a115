//! Writes a disk to a device, so that a machine can boot from it. The result is right whatever the device held before.
//!
//! ```text
//! Source ─ fitted ─▶ Source              laid out for a disk of the device's size: the backup table at its end
//! its ImageMap ─ windows ─▶ Plan         what is written, in the order of the disk; both ends of the disk last
//! Plan ─ writing ─▶ the medium           wiped ends, discarded free space, all that is read, then the ends
//! the medium ─ comparing ─▶ Difference   read back past the page cache
//! ```
//!
//! Other programs find a table or a filesystem by the first and the last MiB of a disk. `flash` first makes both zeros.
//! It writes them when everything else is written and flushed, and the first sectors last. So a device that was pulled
//! out half-way never looks complete.
//!
//! Zeros that somebody reads are written like other data. A device need not read zeros where it has discarded
//! something, and some devices say that they do, and do not. Only a hole in a file is certain to read as zeros.
//! (BLKZEROOUT would make the kernel write the same zeros, but in one call that no signal ends.)

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::copy::Means;
use crate::formats::{FormatError, Source};
use crate::progress::{Cancel, Cancelled};

mod comparing;
pub mod device;
mod difference;
mod fitted;
mod gate;
mod image;
mod medium;
pub mod spec;
mod target;
#[cfg(test)]
mod tests;
mod windows;
mod writing;

pub use difference::{Difference, Locate};
pub use fitted::{FitError, Fitted, SourceBytes, Space, Tables};
pub use image::ImageSource;
pub use medium::Medium;
pub use target::{NewFile, Target, TargetError};

use comparing::compare;
use windows::Plan;
use writing::Writing;

/// The first and the last bytes of a disk that are wiped first and written last. All known tables have their headers
/// there, all known filesystems their first superblock, RAID and ZFS their labels.
const ENDS: u64 = 1 << 20;

/// Whether what was written is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// All of it is read past the page cache and compared.
    ReadBack,
    /// Nothing is read back.
    None,
}

/// What was done to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flashed {
    /// The bytes of the device that somebody will read: all of them were written, or are known to be zeros.
    pub written: u64,
    /// How many of them are zeros.
    pub zeros: u64,
    /// The bytes that nobody will read before writing them.
    pub free: u64,
    /// How many of these were discarded; the others keep their old bytes.
    pub discarded: u64,
    /// How long it took until all was written.
    pub writing: Duration,
    /// Whether all was read back and is right.
    pub is_compared: bool,
    /// Whether the kernel knows the new partitions.
    pub is_reread: bool,
}

/// Writes the disk to the medium, which has its size, reads it back, and has the kernel read its table.
///
/// `locate` says what a byte of the disk is part of, for the message about a wrong byte.
///
/// # Errors
/// If the disk cannot be read, the medium cannot be written or read, or has other bytes than were written; and if the
/// user asked to stop. Each error says in which state the medium is.
pub fn flash(
    source: &dyn Source,
    medium: &dyn Medium,
    check: Check,
    locate: &dyn Locate,
    means: Means<'_>,
) -> Result<Flashed, FlashError> {
    let error = |why: FlashCause, state| FlashError { why, state, name: medium.name().to_owned() };
    let plan = Plan::new(source.map(), medium.size());
    let writing = Writing::new(source, medium, &plan, means);
    means.cancel.check().map_err(|why| error(why.into(), State::Untouched))?;
    let at = |state| move |why| error(why, state);
    let never = Cancel::new();
    let started = Instant::now();
    writing.wipe_ends(means.cancel).map_err(|why| {
        // A request to stop is obeyed only when the old tables are gone.
        let is_gone = matches!(why, FlashCause::Cancelled(_));
        error(why, if is_gone { State::Unusable } else { State::Doubtful })
    })?;
    let discarded = writing.discard().map_err(at(State::Unusable))?;
    writing.write_most().map_err(at(State::Unusable))?;
    // From here to the last sector it does not stop when asked: these are only 2 MiB.
    if let Err(why) = writing.write_ends() {
        let is_wiped = writing.wipe_ends(&never).is_ok();
        return Err(error(why, if is_wiped { State::Unusable } else { State::Doubtful }));
    }
    let took = started.elapsed();
    if check == Check::ReadBack
        && let Err(why) = compare(source, medium, &plan, writing.sums(), locate, means)
    {
        // If it was not compared to its end, no fault is known.
        let state = match &why {
            FlashCause::Cancelled(_) => State::NotCompared,
            _ if writing.wipe_ends(&never).is_ok() => State::WipedAgain,
            _ => State::Doubtful,
        };
        let _ = medium.finish();
        return Err(error(why, state));
    }
    let is_reread = medium.finish().is_ok();
    let (written, zeros) = plan.bytes(source.map());
    let is_compared = check == Check::ReadBack;
    Ok(Flashed { written, zeros, free: plan.free_bytes(), discarded, writing: took, is_compared, is_reread })
}

/// A device that could not be made right: why, and in which state it is.
#[derive(Debug, Error)]
#[error("{why}; {}", state.of(name))]
pub struct FlashError {
    /// What went wrong.
    #[source]
    pub why: FlashCause,
    /// What is on the device.
    pub state: State,
    /// The name of the device.
    name: String,
}

/// What went wrong with a device.
#[derive(Debug, Error)]
pub enum FlashCause {
    /// The disk that is to be written cannot be read.
    #[error("the source cannot be read: {0}")]
    Source(#[source] FormatError),
    /// A write to the medium fails.
    #[error("cannot write at byte {at}: {error}{}", remedy(error))]
    Write {
        /// The byte of the medium at which it starts.
        at: u64,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// The medium does not confirm that it has stored what was written.
    #[error("the device did not store what was written: {error}{}", remedy(error))]
    Flush {
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// The medium cannot be read.
    #[error("cannot read back at byte {at}: {error}{}", remedy(error))]
    Read {
        /// The byte of the medium at which it starts.
        at: u64,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// The bytes of the medium differ from what was written.
    #[error(transparent)]
    Different(#[from] Difference),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<FormatError> for FlashCause {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Source(error),
        }
    }
}

/// What to do about an error of a device.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (make room, and run the command again)",
        _ => " (try another port, cable or reader; if it happens again at the same byte, the device is broken)",
    }
}

/// The state of a medium if the work does not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it was before.
    Untouched,
    /// Without a table, and with part of what was to be written.
    Unusable,
    /// Written to its end, and not read back to its end.
    NotCompared,
    /// Written to its end, found wrong, and made unusable.
    WipedAgain,
    /// Perhaps with a table, and not right.
    Doubtful,
    /// A file that was not there before, and is not there any more.
    Removed,
}

impl State {
    /// A sentence about the medium of this name.
    fn of(self, name: &str) -> impl fmt::Display {
        match self {
            Self::Untouched => format!("nothing was written to {name}"),
            Self::Unusable => {
                format!("{name} is not usable: it has no partition table and no filesystem now; run the command again")
            }
            Self::NotCompared => format!(
                "{name} is complete, but was not compared to its end; use it at your own risk, or run the command again"
            ),
            Self::WipedAgain => {
                format!("its partition table was wiped again, so that nobody thinks that {name} is good")
            }
            Self::Removed => format!("{name} was removed; it did not exist before"),
            Self::Doubtful => format!("{name} is not usable, although it may have a partition table; do not boot it"),
        }
    }
}
