//! Runs populateCmd.

use std::path::Path;

use super::BootRequest;
use super::error::PopulateError;
use crate::progress::{Cancel, Progress};
use crate::source::command::{self, CommandError};

/// Has the command fill the empty directory `directory`.
pub(super) fn populate(
    command: &str,
    request: &BootRequest<'_>,
    directory: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), PopulateError> {
    // Options in the order in which nixpkgs' image builders give them. A newline after the command would cut them off.
    let script = format!("{} -c {} -d .", command.trim_end(), quoted(request.toplevel));
    let environment = request.store_root.environment();
    command::run(&script, directory, &environment, progress, cancel).map_err(|error| match error {
        CommandError::Cancelled(cancelled) => PopulateError::Cancelled(cancelled),
        error => PopulateError::Command(error),
    })
}

/// A path as one word for the shell. Store paths are ASCII.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
