//! Runs a program of the machine that builds, which a boot loader's package brings: with nothing of the user's environment
//! but where programs are, so that it does the same on every machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::progress::Cancel;

/// As many of the last lines of a program's output as an error tells.
const LINES: usize = 5;
/// How often it is looked whether the user asks to stop.
const OFTEN: Duration = Duration::from_millis(5);
/// How long a program has to stop by itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs it in `directory` to its end.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    directory: &Path,
) -> io::Result<Output> {
    command(program, arguments, directory).output()
}

/// Runs it in `directory` to its end, or until the user asks to stop: it may wait for a passphrase.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run_until<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    directory: &Path,
    cancel: &Cancel,
) -> io::Result<Output> {
    let terminal = File::open("/dev/tty").ok().and_then(|terminal| Some((tcgetattr(&terminal).ok()?, terminal)));
    let mut command = command(program, arguments, directory);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = Pid::from_child(&child);
    let output = thread::scope(|scope| {
        let running = scope.spawn(|| child.wait_with_output());
        let mut signals = [Signal::INT, Signal::KILL].into_iter();
        let mut next = Instant::now();
        while !running.is_finished() {
            if cancel.check().is_err() && Instant::now() >= next {
                // OpenSSL, which asks for a passphrase, does not always stop at the first.
                signals.next().map(|signal| kill_process(id, signal).ok());
                next = Instant::now() + PATIENCE;
            }
            thread::sleep(OFTEN);
        }
        running.join().unwrap_or_else(|_| Err(io::Error::other("its output cannot be read")))
    });
    if let Some((as_it_was, terminal)) = terminal.filter(|_| cancel.check().is_err()) {
        // Whoever asked had turned the echo off.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &as_it_was);
    }
    output
}

fn command<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env_clear().env("LC_ALL", "C");
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null());
    command
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
