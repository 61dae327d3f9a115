//! How the library reports progress, and how a caller stops it.
//!
//! Every module may use this. The library never prints: `cli/` implements [`Progress`] with bars or plain lines, tests
//! with [`Silent`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
pub struct Cancel(Arc<AtomicUsize>);

/// The work was stopped by a signal before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by signal {signal}")]
pub struct Cancelled {
    /// The signal's number (2 for SIGINT, 15 for SIGTERM).
    pub signal: i32,
}

impl Cancel {
    /// A wish not yet made.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place for a signal's number, for a signal handler; 0 as long as there was none.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    /// Asks all work to stop because of `signal`.
    pub fn request(&self, signal: i32) {
        self.0.store(usize::try_from(signal).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Fails once a stop was asked for.
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Cancelled { signal: i32::try_from(signal).unwrap_or(i32::MAX) }),
        }
    }
}
