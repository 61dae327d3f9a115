//! Makes internal readers of text public for `fuzz/` and for the replay of what fuzzing found. Not part of the
//! interface.

use crate::inspect::BootReport;
use crate::read::FileSystem;
use crate::{inspect, source};

/// What a booting system finds on `fs`, and what of it cannot be read.
pub fn boot(fs: &dyn FileSystem) -> (Option<BootReport>, Vec<String>) {
    inspect::boot_on(fs)
}

/// How many systems a boot.json describes, or what is wrong with it.
///
/// # Errors
/// One line.
pub fn bootspec(text: &str) -> Result<usize, String> {
    source::boot::judge_bootspec(text)
}
