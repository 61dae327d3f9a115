//! Tools that judge images, for the tests of this crate.

use std::io::Write;
use std::process::{Command, Output};

/// Whether `tool` is installed. Says so if not, past the test harness's capture.
///
/// # Panics
/// If it is not while SANE_IMAGE_REQUIRE_ORACLES=1.
pub(crate) fn available(tool: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|directory| directory.join(tool).is_file());
    if !found {
        let required = std::env::var_os("SANE_IMAGE_REQUIRE_ORACLES").is_some_and(|value| value == "1");
        assert!(!required, "{tool} is not installed, and SANE_IMAGE_REQUIRE_ORACLES=1");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        writeln!(std::io::stderr(), "SKIPPED {test}: {tool} is not installed").ok();
    }
    found
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
