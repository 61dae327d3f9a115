//! How the library reports progress, and how a caller stops it.
//!
//! Every module may use this. The library never prints: `cli/` implements [`Progress`] with bars or plain lines, tests
//! with [`Silent`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Receives what a build reports. Called from several threads at once.
pub trait Progress: Sync {
    /// A new stage starts: `name` is a short present participle ("copying files"). Totals are zero
    /// where they are not known beforehand.
    fn stage(&self, name: &str, total_files: u64, total_bytes: u64);
    /// `files` more files and `bytes` more bytes of this stage are done.
    fn advance(&self, files: u64, bytes: u64);
    /// One line of output of a command run on the user's behalf, without its newline.
    fn relay(&self, line: &str);
    /// Something the user should know of, though the build goes on: one line, what and what to do.
    fn warn(&self, message: &str);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}
    fn advance(&self, _files: u64, _bytes: u64) {}
    fn relay(&self, _line: &str) {}
    fn warn(&self, _message: &str) {}
}

/// Shows pieces of work that run side by side as the one stage that there is: none of them starts its own.
#[derive(Clone, Copy)]
pub(crate) struct SideBySide<'a>(pub(crate) &'a dyn Progress);

impl Progress for SideBySide<'_> {
    fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}
    fn advance(&self, _files: u64, bytes: u64) {
        self.0.advance(0, bytes);
    }
    fn relay(&self, line: &str) {
        self.0.relay(line);
    }
    fn warn(&self, message: &str) {
        self.0.warn(message);
    }
}

/// Keeps the lines that commands print and the warnings, for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Lines(pub(crate) std::sync::Mutex<Vec<String>>);

#[cfg(test)]
impl Progress for Lines {
    fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}
    fn advance(&self, _files: u64, _bytes: u64) {}
    fn relay(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn warn(&self, message: &str) {
        self.relay(&format!("warning: {message}"));
    }
}

/// The user's wish to stop, set by a signal handler and looked at between pieces of work.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// The number of the signal; 0 as long as there was none.
    signal: Arc<AtomicUsize>,
    /// Whether the work that has this is in vain, as other work failed: its own mark, and those of the work that it is a
    /// part of.
    in_vain: Vec<Arc<AtomicBool>>,
}

/// The work was stopped by a signal before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by signal {signal}")]
pub struct Cancelled {
    /// The signal's number (2 for SIGINT, 15 for SIGTERM); 0 for work that was in vain, which nobody is told of.
    pub signal: i32,
}

impl Cancel {
    /// A wish not yet made.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place for a signal's number, for a signal handler; 0 as long as there was none.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.signal)
    }

    /// Asks all work to stop because of `signal`.
    pub fn request(&self, signal: i32) {
        self.signal.store(usize::try_from(signal).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The same wish of the user, for work that can also be told that it is in vain.
    pub(crate) fn for_part(&self) -> Self {
        let mut part = self.clone();
        part.in_vain.push(Arc::default());
        part
    }

    /// Tells the work that has this that nobody wants its result.
    pub(crate) fn tell_in_vain(&self) {
        self.in_vain.last().into_iter().for_each(|mark| mark.store(true, Ordering::Relaxed));
    }

    /// Fails once a stop was asked for.
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.signal.load(Ordering::Relaxed) {
            0 if self.in_vain.iter().any(|mark| mark.load(Ordering::Relaxed)) => Err(Cancelled { signal: 0 }),
            0 => Ok(()),
            signal => Err(Cancelled { signal: i32::try_from(signal).unwrap_or(i32::MAX) }),
        }
    }
}
