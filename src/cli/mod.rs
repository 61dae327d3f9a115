//! The command line: the only place that parses arguments, prints, and turns errors into exit codes.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use sane_image::build::BuildError;
use sane_image::progress::{Cancel, Cancelled};
use sane_image::spec::SpecErrors;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use self::args::{Cli, Command, CompletionsArgs, ManArgs};
use self::look::Outcome;

mod args;
mod build;
mod cat;
mod diff;
mod extract;
mod input;
mod inspect;
mod look;
mod ls;
mod plan;
mod progress;
mod report;
mod threads;
mod verify;

/// Failed, or differs.
const FAILED: u8 = 1;
/// Bad usage (clap's own code for it), or a bad spec.
const BAD_SPEC: u8 = 2;

/// Runs the program and tells how it went.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let cancel = Arc::new(Cancel::new());
    match run(&cli, &cancel) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Err(error) => fail(&error, &cancel),
    }
}

fn run(cli: &Cli, cancel: &Arc<Cancel>) -> Result<Outcome> {
    // What only reads leaves nothing behind: a signal ends it at once, whatever it does just then.
    match &cli.command {
        Command::Inspect(args) => return inspect::run(args),
        Command::Ls(args) => return ls::run(args),
        Command::Cat(args) => return cat::run(args),
        Command::Extract(args) => return extract::run(args, cancel),
        Command::Diff(args) => return diff::run(args, cancel),
        Command::Verify(args) => return verify::run(args, cancel),
        Command::Build(args) => watch_signals(cancel).and_then(|()| build::run(args, cancel)),
        Command::Plan(args) => watch_signals(cancel).and_then(|()| plan::run(args, cancel)),
        Command::Completions(args) => completions(args),
        Command::Man(args) => man(args),
    }
    .map(|()| Outcome::Done)
}

/// For what must not be left half-way: the first signal asks the work to stop and clean up, a second one ends the program at once.
fn watch_signals(cancel: &Arc<Cancel>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    let cancel = Arc::clone(cancel);
    thread::spawn(move || {
        for signal in signals.forever() {
            if cancel.check().is_err() {
                let _ = emulate_default_handler(signal);
            }
            cancel.request(signal);
        }
    });
    Ok(())
}

/// Tells the error, one line each where there are several, and chooses the exit code.
fn fail(error: &anyhow::Error, cancel: &Cancel) -> ExitCode {
    let broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(broken_pipe) {
        // Whoever read our output has had enough.
        return ExitCode::SUCCESS;
    }
    let bad_spec = error.is::<SpecErrors>() || matches!(error.downcast_ref(), Some(BuildError::Spec(_)));
    let mut stderr = io::stderr().lock();
    for (i, line) in describe(error).lines().enumerate() {
        // A spec has an error a line; of any other error the later lines are details.
        let prefix = if i == 0 || bad_spec { "sane-image: error: " } else { "" };
        let _ = writeln!(stderr, "{prefix}{line}");
    }
    if let Err(Cancelled { signal }) = cancel.check() {
        // Die of the signal, as the shell that waits for us needs to see.
        let _ = emulate_default_handler(signal);
    }
    ExitCode::from(if bad_spec { BAD_SPEC } else { FAILED })
}

/// The error and its causes, as far as it does not name them itself.
fn describe(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said {
        said if said.is_empty() => cause,
        said if said.contains(&cause) => said,
        said => format!("{said}: {cause}"),
    })
}

fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sane-image", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(())
}

fn man(args: &ManArgs) -> Result<()> {
    let failed = || format!("{}: cannot write man pages", args.dir.display());
    std::fs::create_dir_all(&args.dir).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).with_context(failed)
}
