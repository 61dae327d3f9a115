//! Runs a program of the machine that builds, which a boot loader's package brings: with nothing of the user's environment
//! but where programs are, so that it does the same on every machine.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// As many of the last lines of a program's output as an error tells.
const LINES: usize = 5;

/// Runs it in `directory` to its end.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    directory: &Path,
) -> io::Result<Output> {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("LC_ALL", "C")
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .output()
}

/// The end of what it printed, in one line without control characters.
pub(crate) fn last_lines(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("; ");
    match last.as_str() {
        "" => "it printed nothing".to_owned(),
        said => said.replace(char::is_control, "\u{fffd}"),
    }
}
