//! The device of `flash`: looks at it, shows it, and asks before it is erased.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::termios::{QueueSelector, tcflush};
use sane_image::flash::device::{
    self, Attachment, Candidate, Demands, Device, Found, Host, Reason, Refused, RegularFile, columns, describe, human,
    summary,
};
use sane_image::progress::Cancel;
use sane_image::read::escape;

use crate::cli::input::BadInput;

/// How often a signal is looked for while the user thinks.
const TURN: Duration = Duration::from_millis(100);

/// Whether the user has agreed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// By `--yes`.
    Given,
    /// Not yet.
    Asked,
}

/// What standard input is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing: the answer may come from there.
    Free,
    /// What is to be written: the answer comes from the terminal itself.
    Taken,
}

/// The user did not say that the device is the right one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotConfirmed(String);

/// Looks at the device that the user named, and refuses it with all reasons that there are. It is called again when
/// more is known: the size of the disk that will be written.
pub(in crate::cli) fn look(path: &Path, demands: &Demands) -> Result<Found> {
    let found = device::look(&Host::default(), path).map_err(|refusal| Refused(vec![refusal]))?;
    Refused::unless_empty(match &found {
        Found::Device(device) => device.refusals(demands),
        Found::File(file) => file.refusals(),
    })?;
    Ok(found)
}

/// Looks once more, after the answer: another medium, or a mount, may have come meanwhile.
pub(in crate::cli) fn look_again(found: &Found, demands: &Demands) -> Result<()> {
    match found {
        Found::Device(before) => Ok(device::look_again(&Host::default(), before, demands)?),
        Found::File(_) => Ok(()),
    }
}

/// Refuses to begin what ends in a question that nobody can answer.
pub(in crate::cli) fn check_can_ask(found: &Found, consent: Consent, input: Input) -> Result<()> {
    match consent {
        Consent::Given => Ok(()),
        Consent::Asked => Terminal::open(input).map(drop).ok_or_else(|| nobody(found)),
    }
}

/// Shows the device and what will be on it, and asks whether it is the right one.
pub(in crate::cli) fn confirm(
    found: &Found,
    to_come: &[String],
    consent: Consent,
    input: Input,
    cancel: &Cancel,
) -> Result<()> {
    let mut lines = match found {
        Found::Device(device) => describe(device),
        Found::File(file) => describe_file(file),
    };
    lines.push("What will be on it:".to_owned());
    lines.extend(to_come.iter().map(|line| format!("  {line}")));
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    io::stderr().lock().write_all(text.as_bytes())?;
    match consent {
        Consent::Given => Ok(()),
        Consent::Asked => ask(found, &text, input, cancel),
    }
}

/// The name of the device is asked for rather than a yes: fingers say yes to any question, and the name of the right
/// device has to be read above.
fn ask(found: &Found, text: &str, input: Input, cancel: &Cancel) -> Result<()> {
    let mut terminal = Terminal::open(input).ok_or_else(|| nobody(found))?;
    let name = short_name(found);
    if !io::stderr().is_terminal() {
        terminal.write_all(text.as_bytes())?;
    }
    terminal.forget();
    terminal.write_all(format!("Everything on it will be lost. Type {name} to go on: ").as_bytes())?;
    let answer = terminal.read_line(cancel);
    if !answer.as_ref().is_ok_and(|answer| answer.ends_with('\n')) {
        // The next output begins a new line, however this one ended.
        terminal.write_all(b"\n")?;
    }
    let answer = answer?;
    let answer = answer.trim();
    let path = match found {
        Found::Device(device) => [escape::path(&device.path), escape::path(&device.node)],
        Found::File(file) => [escape::path(&file.path), name.clone()],
    };
    if answer == name || path.iter().any(|path| path == answer) {
        return Ok(());
    }
    let said = if answer.is_empty() { "nothing".to_owned() } else { format!("\"{}\"", escape::text(answer)) };
    Err(NotConfirmed(format!("{}: the answer was {said} and not {name}; nothing was written", title(found))).into())
}

fn nobody(found: &Found) -> anyhow::Error {
    let why = "everything on it would be lost, and there is no terminal to ask on; pass --yes if it is the right one";
    BadInput(format!("{}: {why}", title(found))).into()
}

fn title(found: &Found) -> String {
    match found {
        Found::Device(device) => device.title(),
        Found::File(file) => escape::path(&file.path),
    }
}

/// What the user types: `sdb`.
fn short_name(found: &Found) -> String {
    match found {
        Found::Device(device) => escape::text(&device.name),
        Found::File(file) => file.path.file_name().map_or_else(|| escape::path(&file.path), escape::name),
    }
}

fn describe_file(file: &RegularFile) -> Vec<String> {
    let size = format!("  a regular file of {} ({}), used as a disk", human(file.size), device::exact(file.size));
    vec![escape::path(&file.path), size]
}

/// Where a person reads and answers.
struct Terminal {
    to: File,
    from: File,
}

impl Terminal {
    fn open(input: Input) -> Option<Self> {
        let stdin = io::stdin();
        let open = || File::options().read(true).write(true).open("/dev/tty").ok();
        let from = match input {
            Input::Free if stdin.is_terminal() => File::from(stdin.as_fd().try_clone_to_owned().ok()?),
            Input::Free => return None,
            Input::Taken => open()?,
        };
        let stderr = io::stderr();
        let to = match stderr.is_terminal() {
            true => File::from(stderr.as_fd().try_clone_to_owned().ok()?),
            // Standard error goes into a file: the terminal of the answer can be written to, as a rule.
            false => from.try_clone().ok()?,
        };
        Some(Self { to, from })
    }

    fn write_all(&mut self, text: &[u8]) -> Result<()> {
        self.to.write_all(text).and_then(|()| self.to.flush()).context("cannot ask")
    }

    /// Forgets what was typed before the question: it is no answer to it.
    fn forget(&self) {
        let _ = tcflush(&self.from, QueueSelector::IFlush);
    }

    /// One line, or nothing at the end of the input.
    fn read_line(&self, cancel: &Cancel) -> Result<String> {
        let from = self.from.try_clone().context("cannot ask")?;
        let (sender, receiver) = mpsc::channel();
        // A signal does not end a read that has begun.
        let read = move || {
            let mut line = Vec::new();
            let read = BufReader::new(from).read_until(b'\n', &mut line);
            let _ = sender.send(read.map(|_| String::from_utf8_lossy(&line).into_owned()));
        };
        thread::Builder::new().name("answer".to_owned()).spawn(read).context("cannot ask")?;
        loop {
            match receiver.recv_timeout(TURN) {
                Ok(line) => return line.context("cannot read the answer"),
                Err(RecvTimeoutError::Timeout) => cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(String::new()),
            }
        }
    }
}

/// Lists the disks that could be meant. The caller ends with the code of bad usage: nothing was written.
pub(in crate::cli) fn list(source: &Path, demands: &Demands) -> Result<()> {
    let candidates = device::candidates(&Host::default(), demands);
    let mut out = io::stdout().lock();
    if candidates.is_empty() {
        writeln!(out, "There is no card, stick or disk that could be written. Is it plugged in?")?;
        return Ok(());
    }
    let head = ["DEVICE", "SIZE", "ATTACHED", "MODEL", "HOLDS"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(candidates.iter().map(row)).collect();
    let mut lines = columns(&rows).into_iter();
    writeln!(out, "{}", lines.next().unwrap_or_default())?;
    for (line, candidate) in lines.zip(&candidates) {
        writeln!(out, "{line}")?;
        // The command that is shown has sudo already, so this reason is left out.
        for refusal in candidate.refusals.iter().filter(|refusal| refusal.reason() != Some(Reason::Forbidden)) {
            writeln!(out, "    refused: {}", refusal.why())?;
        }
    }
    let source = quote(source);
    let first = candidates.iter().find(|candidate| is_ready(candidate)).map(|candidate| &candidate.device);
    let device = first.map_or_else(|| "DEVICE".to_owned(), |device| quote(&device.path));
    let sudo = if candidates.iter().any(|candidate| !candidate.device.is_permitted) { "sudo " } else { "" };
    writeln!(out, "\nTo write to one of them: {sudo}sane-image flash {source} {device}")?;
    Ok(())
}

/// Whether it is a disk to which root could write now.
fn is_ready(candidate: &Candidate) -> bool {
    candidate.device.attachment != Attachment::File
        && candidate.refusals.iter().all(|refusal| refusal.reason() == Some(Reason::Forbidden))
}

fn row(candidate: &Candidate) -> [String; 5] {
    let device = &candidate.device;
    let model = device.identity.name().map_or_else(|| "-".to_owned(), |name| escape::text(&name));
    [device.title(), human(device.size), attached(device), model, summary(device)]
}

fn attached(device: &Device) -> String {
    format!("{}, {}", device.bus.name(), device.attachment.name())
}

fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    escape::text(&shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), std::borrow::Cow::into_owned))
}
