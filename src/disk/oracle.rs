//! Tools that judge images, for the tests of this crate.

use std::process::{Command, Output};

#[allow(dead_code, clippy::print_stdout, reason = "shared with the integration tests, which use all of it")]
#[path = "../../tests/it/support/skip.rs"]
mod skip;

/// Whether `tool` is installed. If not, the running test skips what it would judge.
///
/// # Panics
/// If it is not while SANE_IMAGE_REQUIRE_ORACLES=1.
pub(crate) fn available(tool: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|directory| directory.join(tool).is_file());
    found || skip::skip(skip::Lack::program(tool))
}

/// Runs a tool with its messages in English. Returns what it says.
pub(crate) fn run(command: &mut Command) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    let path = std::env::join_paths(directories).unwrap();
    command.env("LC_ALL", "C.UTF-8").env("PATH", path).output().unwrap()
}

/// Both of a tool's outputs as text.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}
