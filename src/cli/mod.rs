//! The command line: the only place that parses arguments, prints, and turns errors into exit codes.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use sane_image::build::BuildError;
use sane_image::flash::device::Refused;
use sane_image::output::{Directory, OutputError, Scratch};
use sane_image::progress::{Cancel, Cancelled};
use sane_image::spec::SpecErrors;
use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use self::args::{Cli, Command, CompletionsArgs, ManArgs};
use self::input::BadInput;
use self::look::Outcome;
use self::stream::BrokenStream;

mod add;
mod args;
mod build;
mod cat;
mod complete;
mod convert;
mod diff;
mod extract;
mod flash;
mod input;
mod inspect;
mod look;
mod ls;
mod man;
mod plan;
mod progress;
mod report;
mod sign;
mod signals;
mod stream;
mod threads;
mod verify;
mod vm;

/// Failed, or differs.
const FAILED: u8 = 1;
/// Bad usage (clap's own code for it), or a bad spec.
const BAD_SPEC: u8 = 2;

/// Runs the program and returns its exit code.
pub(crate) fn main() -> ExitCode {
    match complete::answer() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => error.exit(),
    }
    let cli = Cli::parse();
    let cancel = Cancel::new();
    match run(&cli, &cancel) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Err(error) => fail(&error, spec(&cli), &cancel),
    }
}

/// The spec that a command takes.
fn spec(cli: &Cli) -> Option<&Path> {
    match &cli.command {
        Command::Build(args) => Some(&args.input.spec),
        Command::Plan(args) => Some(&args.input.spec),
        Command::Vm(args) => Some(args.source()),
        _ => None,
    }
}

fn run(cli: &Cli, cancel: &Cancel) -> Result<Outcome> {
    // Commands that only read leave nothing behind, so a signal ends them at once.
    match &cli.command {
        Command::Inspect(args) => return inspect::run(args),
        Command::Ls(args) => return ls::run(args),
        Command::Cat(args) => return cat::run(args),
        Command::Extract(args) => return extract::run(args, cancel),
        Command::Diff(args) => return diff::run(args, cancel),
        Command::Verify(args) => return verify::run(args, cancel),
        Command::Build(args) => signals::watch(cancel).and_then(|()| build::run(args, cancel)),
        Command::Plan(args) => signals::watch(cancel).and_then(|()| plan::run(args, cancel)),
        Command::Add(args) => signals::watch(cancel).and_then(|()| add::run(args, cancel)),
        Command::Sign(args) => signals::watch(cancel).and_then(|()| sign::run(args, cancel)),
        Command::Convert(args) => convert::run(args, cancel),
        Command::Flash(args) => flash::run(args, cancel),
        Command::Vm(args) => signals::watch(cancel).and_then(|()| vm::run(args, cancel)),
        Command::Completions(args) => completions(args),
        Command::Man(args) => man(args),
    }
    .map(|()| Outcome::Done)
}

/// Tells the error, one line each where there are several, and chooses the exit code.
fn fail(error: &anyhow::Error, spec: Option<&Path>, cancel: &Cancel) -> ExitCode {
    if error.is::<BrokenStream>() {
        // The output is not complete. The program that waits for us has to see that.
        let _ = writeln!(io::stderr().lock(), "sane-image: error: {error}");
        let _ = emulate_default_handler(SIGPIPE);
        return ExitCode::from(FAILED);
    }
    if is_broken_pipe(error) {
        // Whoever read our output has had enough.
        return ExitCode::SUCCESS;
    }
    let bad_spec = error.is::<SpecErrors>() || error.downcast_ref().is_some_and(BuildError::is_bad_spec);
    let is_a_line_each =
        error.is::<SpecErrors>() || error.is::<Refused>() || matches!(error.downcast_ref(), Some(BuildError::Spec(_)));
    let place = spec.filter(|_| bad_spec).map_or_else(String::new, |spec| format!("{}: ", input::name(spec)));
    let mut stderr = io::stderr().lock();
    for (i, line) in describe(error).lines().enumerate() {
        // A spec has an error a line, a device a reason; of any other error the later lines are details.
        match i == 0 || is_a_line_each {
            true => drop(writeln!(stderr, "sane-image: error: {place}{line}")),
            false => drop(writeln!(stderr, "{line}")),
        }
    }
    if let Err(Cancelled { signal }) = cancel.check() {
        // Die of the signal, as the shell that waits for us needs to see.
        let _ = emulate_default_handler(signal);
    }
    ExitCode::from(if bad_spec || error.is::<BadInput>() { BAD_SPEC } else { FAILED })
}

/// Whether the reader of standard output, or of a pipe that a text is written to, is gone.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let source = match error.downcast_ref() {
        Some(OutputError::Io { source, .. }) => Some(source),
        _ => error.downcast_ref(),
    };
    source.is_some_and(|source: &io::Error| source.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes, each name and each thing once.
fn describe(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said {
        said if said.is_empty() => cause,
        // A cause may begin with the place that is named already.
        said if cause.strip_prefix(&said).is_some_and(|rest| rest.starts_with(':')) => cause,
        said if said.contains(&cause) => said,
        said => format!("{said}: {cause}"),
    })
}

fn completions(args: &CompletionsArgs) -> Result<()> {
    Ok(io::stdout().lock().write_all(&complete::script(args.shell)?)?)
}

fn man(args: &ManArgs) -> Result<()> {
    let directory = Directory::open(&args.dir)?;
    let scratch = Scratch::beside(directory.path())?;
    for (name, page) in man::pages() {
        std::fs::write(scratch.path().join(name), page)
            .with_context(|| format!("{}: cannot write man pages", args.dir.display()))?;
    }
    directory.adopt(&scratch, &[])?;
    drop(scratch);
    Ok(directory.keep()?)
}
