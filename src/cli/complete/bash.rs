//! The completion script for bash. We do not use clap's script: it ends a word at `:` and `=`, and quotes nothing.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::env::EnvCompleter;

use super::words;

/// What bash runs when somebody presses Tab.
const SCRIPT: &str = include_str!("bash.sh");

pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(&self, _: &str, _: &str, _: &str, _: &str, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(SCRIPT.as_bytes())
    }

    /// Bash gives words as they were typed, with their quotes.
    fn write_complete(
        &self,
        command: &mut Command,
        args: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let args = args.iter().map(|word| words::unquote(word)).collect();
        clap_complete::env::Bash.write_complete(command, args, directory, out)
    }
}
