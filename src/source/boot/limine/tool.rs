//! Limine's own program, `limine`, of the machine that builds.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;

use crate::tool;

/// Limine's program cannot do what it is asked for.
#[derive(Debug, Error)]
pub enum ToolError {
    /// It cannot be started.
    #[error("{}: cannot be run: {source}; set limine.tool to bin/limine of a package for this machine", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It failed.
    #[error(
        "limine {command}: {status}: {output}; look at limine.tool, which has to be of the version of limine.package"
    )]
    Failed {
        /// The command.
        command: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it printed, in one.
        output: String,
    },
}

/// Runs `limine COMMAND ARGUMENTS` in `directory`.
///
/// # Errors
/// If the program `tool` cannot be started or fails.
pub(crate) fn run(
    tool: &Path,
    command: &'static str,
    arguments: [&Path; 2],
    directory: &Path,
) -> Result<(), ToolError> {
    let output = tool::run(tool, [Path::new(command)].into_iter().chain(arguments), directory);
    let output = output.map_err(|source| ToolError::Start { program: tool.to_owned(), source })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(ToolError::Failed { command, status: output.status, output: tool::last_lines(&output) }),
    }
}
