//! Completion in shells. The script of a shell calls the program with the line that the user types. The program prints
//! what could come next: options and values that clap knows, files, and the partitions and files of the image on the
//! line.

use std::io;

use clap::CommandFactory;
use clap_complete::env::{CompleteEnv, Elvish, Fish, Powershell, Shells, Zsh};
use clap_complete::{Shell, engine::ArgValueCompleter};

use self::bash::Bash;
use super::args::Cli;

mod bash;
mod image;
mod words;

/// Set by the scripts to the name of the shell. Not clap's usual COMPLETE: somebody may have that in the environment.
const VARIABLE: &str = "SANE_IMAGE_COMPLETE";
const PROGRAM: &str = "sane-image";
const SHELLS: Shells<'_> = Shells(&[&Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers a shell that asks for completions, and returns whether one did.
pub(super) fn answer() -> clap::error::Result<bool> {
    let directory = std::env::current_dir().ok();
    let completer = CompleteEnv::with_factory(Cli::command).var(VARIABLE).shells(SHELLS);
    completer.try_complete(std::env::args_os(), directory.as_deref())
}

/// The script that a shell needs, as text.
pub(super) fn script(shell: Shell) -> io::Result<Vec<u8>> {
    let name = shell.to_string();
    let completer = SHELLS.completer(&name).ok_or_else(|| io::Error::other(format!("no script for {name}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(script)
}

/// Completes PART from the image before it.
pub(super) fn part() -> ArgValueCompleter {
    ArgValueCompleter::new(image::parts)
}

/// Completes a PATH in the image and the partition before it.
pub(super) fn path() -> ArgValueCompleter {
    ArgValueCompleter::new(image::paths)
}
