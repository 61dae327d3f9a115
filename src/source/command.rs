//! Runs a user's shell command: populateCmd before the image is made, installBootloader in a rehearsal and at the end.
//!
//! A command never goes on after its run. It has a process group of its own. This group is killed when the shell of the
//! command has ended, or when the user has asked to stop.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use thiserror::Error;

use crate::progress::{Cancel, Cancelled, Progress};

/// The most bytes relayed as one line; what is longer comes in pieces.
const LINE_MAX: usize = 8 << 10;
/// The most bytes that a pipe holds, as Linux allows it by default.
const PIPE_MAX: usize = 1 << 20;
/// How often a command that says nothing is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How long a command may take to clean up after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// A command that did not succeed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The shell could not be started.
    #[error("cannot start the shell: {source}; {}", start_remedy(source, directory))]
    Start {
        /// Where it was to run.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The running command could not be followed.
    #[error("cannot read the command's output: {0}")]
    Follow(#[source] io::Error),
    /// The command ended with an exit code other than zero.
    #[error("failed with exit status {code}; what it printed before says why")]
    Exit {
        /// The exit code.
        code: i32,
    },
    /// The command was killed.
    #[error("was killed by signal {signal}")]
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What to look at when a shell does not start.
fn start_remedy(source: &io::Error, directory: &Path) -> String {
    match source.kind() {
        ErrorKind::WouldBlock => "too many processes are running: see `ulimit -u`".to_owned(),
        _ => format!("is there an `sh` in PATH, and {} a directory?", directory.display()),
    }
}

/// Runs `script` by `sh -eu` in `directory`, with additions to the environment and nothing on its stdin, to its end.
///
/// Its stdout and stderr go to `progress` line by line, in the order in which they were written. What it leaves running
/// in the background is killed.
///
/// # Errors
/// If it cannot be started, does not succeed, or is stopped because of `cancel`.
pub fn run(
    script: &str,
    directory: &Path,
    environment: &[(&str, &OsStr)],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), CommandError> {
    cancel.check()?;
    let (mut group, output) = start(script, directory, environment)
        .map_err(|source| CommandError::Start { directory: directory.to_owned(), source })?;
    let mut relay = Relay { output, line: Vec::new(), progress };
    follow(&mut group, &mut relay, cancel).map_err(CommandError::Follow)?;
    let status = group.end().map_err(CommandError::Follow)?;
    relay.finish().map_err(CommandError::Follow)?;
    cancel.check()?;
    verdict(status)
}

fn start(script: &str, directory: &Path, environment: &[(&str, &OsStr)]) -> io::Result<(Group, PipeReader)> {
    // One pipe for both, so that they stay in order.
    let (output, input) = io::pipe()?;
    // Never blocking: a process that left the group may hold the other end open for ever.
    fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
    let child = Command::new("sh")
        .args(["-eu", "-c", script])
        .current_dir(directory)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0)
        .spawn()?;
    Ok((Group { child, reaped: false }, output))
}

/// Relays until the shell has ended. Once the user asks to stop, makes it end.
fn follow(group: &mut Group, relay: &mut Relay<'_>, cancel: &Cancel) -> io::Result<()> {
    let mut deadline = None;
    while !group.has_ended()? {
        if deadline.is_none() && cancel.check().is_err() {
            group.kill(Signal::TERM);
            deadline = Some(Instant::now() + GRACE);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            group.kill(Signal::KILL);
        }
        if relay.some()? == 0 {
            std::thread::sleep(POLL);
        }
    }
    Ok(())
}

fn verdict(status: ExitStatus) -> Result<(), CommandError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(CommandError::Exit { code }),
        (None, signal) => Err(CommandError::Signal { signal: signal.unwrap_or_default() }),
    }
}

/// A shell and all its processes; killed when dropped.
struct Group {
    child: Child,
    reaped: bool,
}

impl Group {
    /// Whether the shell has ended. It stays a zombie, which keeps the group's number from being given to others.
    fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.leader()), options)?.is_some())
    }

    /// Signals all processes of the group. Those that are gone do not matter.
    fn kill(&self, signal: Signal) {
        kill_process_group(self.leader(), signal).ok();
    }

    /// Kills what is left of the group, then returns how the shell ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill(Signal::KILL);
        self.reaped = true;
        self.child.wait()
    }

    fn leader(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.end().ok();
        }
    }
}

/// Makes lines of what comes through a pipe.
struct Relay<'a> {
    output: PipeReader,
    /// The line that is not yet complete.
    line: Vec<u8>,
    progress: &'a dyn Progress,
}

impl Relay<'_> {
    /// Relays some of what is there; returns its length in bytes.
    fn some(&mut self) -> io::Result<usize> {
        let mut block = [0; 64 << 10];
        match self.output.read(&mut block) {
            Ok(len) => {
                self.push(&block[..len]);
                Ok(len)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Relays all that the command wrote before it ended, and no more of what an escaped process may go on writing.
    fn finish(mut self) -> io::Result<()> {
        let mut done = 0;
        while done < PIPE_MAX {
            match self.some()? {
                0 => break,
                len => done += len,
            }
        }
        if !self.line.is_empty() {
            self.emit();
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        let rest = lines.next_back().unwrap_or_default();
        for line in lines {
            self.append(line);
            self.emit();
        }
        self.append(rest);
    }

    fn append(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.line.len() + rest.len() > LINE_MAX {
            let (head, tail) = rest.split_at(LINE_MAX - self.line.len());
            self.line.extend_from_slice(head);
            // A character that is cut in two belongs to the next piece.
            let cut = self.line.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
            let next = self.line.split_off(self.line.len() - cut);
            self.emit();
            self.line = next;
            rest = tail;
        }
        self.line.extend_from_slice(rest);
    }

    fn emit(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        self.progress.relay(&String::from_utf8_lossy(line));
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::progress::Lines;

    fn run_here(script: &str) -> (Result<(), CommandError>, Vec<String>) {
        let lines = Lines::default();
        let directory = tempfile::tempdir().unwrap();
        let result = run(script, directory.path(), &[("ADDED", OsStr::new("a value"))], &lines, &Cancel::new());
        (result, lines.0.into_inner().unwrap())
    }

    fn output(script: &str) -> Vec<String> {
        let (result, lines) = run_here(script);
        result.unwrap();
        lines
    }

    #[test]
    fn both_streams_come_in_order() {
        assert_eq!(output("echo a; echo b >&2; echo; printf c; printf d >&2"), ["a", "b", "", "cd"]);
        assert_eq!(output("printf 'x\\r\\ny\\377\\n'"), ["x", "y\u{fffd}"]);
        assert_eq!(output(":"), [""; 0]);
    }

    #[test]
    fn surroundings_are_as_told() {
        assert_eq!(output("echo \"$ADDED\"; cat; ls -A; test -n \"$PATH\""), ["a value"]);
        let directory = tempfile::tempdir().unwrap();
        run("echo x > file", directory.path(), &[], &crate::progress::Silent, &Cancel::new()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "x\n");
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let lines = output("head -c 20000 /dev/zero | tr '\\0' x; echo; echo y");
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [8192, 8192, 3616, 1]);
        let lines = output("head -c 8191 /dev/zero | tr '\\0' x; printf '\\303\\251z\\n'");
        assert_eq!(lines, ["x".repeat(8191), "éz".to_owned()]);
        assert_eq!(output("head -c 8192 /dev/zero | tr '\\0' x; echo"), ["x".repeat(8192)]);
        assert_eq!(output("yes | head -n 100000").len(), 100_000);
    }

    #[test]
    fn failures_have_their_status() {
        let failure = |script: &str| run_here(script).0.unwrap_err();
        assert!(matches!(failure("exit 7"), CommandError::Exit { code: 7 }));
        assert!(matches!(failure("false; true"), CommandError::Exit { code: 1 }), "-e");
        assert!(matches!(failure("echo $UNSET_VARIABLE"), CommandError::Exit { .. }), "-u");
        assert!(matches!(failure("kill -9 $$"), CommandError::Signal { signal: 9 }));
        assert!(failure("exit 7").to_string().starts_with("failed with exit status 7"));
        let nowhere = run(":", Path::new("/no/such/directory"), &[], &crate::progress::Silent, &Cancel::new());
        assert!(matches!(nowhere, Err(CommandError::Start { .. })));
    }

    #[test]
    fn output_before_a_failure_is_relayed() {
        assert_eq!(run_here("echo why >&2; exit 3").1, ["why"]);
    }

    /// The processes of a group that are not just waiting for their parent to look at them.
    fn running(group: &str) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("stat"));
        let stats = processes.filter_map(|path| fs::read_to_string(path).ok());
        let is_running = |stat: &String| {
            let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().collect::<Vec<_>>();
            fields[2] == group && !["Z", "X"].contains(&fields[0])
        };
        stats.filter(is_running).collect()
    }

    fn assert_ends_soon(group: &str) {
        let ended = (0..400).any(|_| {
            std::thread::sleep(POLL);
            running(group).is_empty()
        });
        assert!(ended, "{:?}", running(group));
    }

    #[test]
    fn background_processes_are_killed() {
        let started = Instant::now();
        let lines = output("sleep 100 & echo $$");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_ends_soon(&lines[0]);
    }

    #[test]
    fn a_daemon_does_not_hold_us_up() {
        let started = Instant::now();
        let script = "setsid sh -c 'echo daemon; exec sleep 20' & sleep 0.3";
        assert_eq!(output(script), ["daemon"]);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    /// Runs a script that says its process id, and asks to stop once it has.
    fn cancelled(script: &str) -> (Result<(), CommandError>, Duration, String) {
        struct StopAtFirstLine<'a>(&'a Cancel, Lines);
        impl Progress for StopAtFirstLine<'_> {
            fn warn(&self, _message: &str) {}
            fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}
            fn advance(&self, _files: u64, _bytes: u64) {}
            fn relay(&self, line: &str) {
                self.1.relay(line);
                self.0.request(15);
            }
        }
        let cancel = Cancel::new();
        let progress = StopAtFirstLine(&cancel, Lines::default());
        let started = Instant::now();
        let result = run(script, Path::new("/"), &[], &progress, &cancel);
        let first = progress.1.0.lock().unwrap()[0].clone();
        (result, started.elapsed(), first)
    }

    #[test]
    fn cancelling_ends_all_processes() {
        let (result, took, group) = cancelled("echo $$; sleep 100 | sleep 100");
        assert!(matches!(result, Err(CommandError::Cancelled(Cancelled { signal: 15 }))), "{result:?}");
        assert!(took < GRACE, "{took:?}");
        assert_ends_soon(&group);
    }

    #[test]
    fn cancelling_ends_the_stubborn() {
        let (result, took, group) = cancelled("trap '' TERM; echo $$; sleep 100; sleep 100");
        assert!(matches!(result, Err(CommandError::Cancelled(_))), "{result:?}");
        assert!(took >= GRACE && took < 10 * GRACE, "{took:?}");
        assert_ends_soon(&group);
    }

    #[test]
    fn cancelling_lets_clean_up() {
        let directory = tempfile::tempdir().unwrap();
        let witness = directory.path().join("cleaned");
        let script = format!("trap 'touch {}; exit 0' TERM; echo $$; sleep 100 & wait", witness.display());
        let (result, _, _) = cancelled(&script);
        assert!(matches!(result, Err(CommandError::Cancelled(_))), "{result:?}");
        assert!(witness.exists());
    }

    #[test]
    fn nothing_starts_once_cancelled() {
        let cancel = Cancel::new();
        cancel.request(2);
        let directory = tempfile::tempdir().unwrap();
        let result = run("touch file", directory.path(), &[], &crate::progress::Silent, &cancel);
        assert!(matches!(result, Err(CommandError::Cancelled(Cancelled { signal: 2 }))));
        assert!(!directory.path().join("file").exists());
    }
}
