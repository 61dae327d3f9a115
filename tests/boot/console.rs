//! What a machine says on its serial line, and what that means.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a machine may take. Seconds of it are enough; emulated on a busy host, they become many.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a machine may take to power off after its verdict.
const GRACE: Duration = Duration::from_secs(20);
/// How long what is said piles up.
const PAUSE: Duration = Duration::from_millis(20);
/// Machines that run at once.
const MACHINES: usize = 2;
/// The lines of a console that a failing test shows.
const SHOWN: usize = 40;

/// What a system says that found everything right; the number of store paths follows.
const GOOD: &str = "VERDICT ok ";
/// What it says otherwise; the reason follows.
const BAD: &str = "VERDICT failed: ";
/// What it says that wants its power to be cut.
const CUT: &str = "CUT THE POWER\n";
/// What only a machine says that will come to no verdict.
const FAILURES: [(&str, &str); 8] = [
    ("Kernel panic", "the kernel panicked"),
    ("Initramfs unpacking failed", "the initrd is damaged"),
    ("Shell>", "the firmware found nothing to boot"),
    ("No bootable option or device was found", "the firmware found nothing that it may boot"),
    // Its menu, which no image here waits in.
    ("Reboot Into Firmware Interface", "systemd-boot found nothing to boot"),
    ("Error loading ", "systemd-boot found no kernel"),
    ("CHECKSUM MISMATCH", "Limine does not take a file"),
    ("Overlapping PE sections", "systemd-stub found its sections in each other's place"),
];

/// The same of a prompt, which waits for ever.
const PROMPTS: [(&str, &str); 2] =
    [("\n=> ", "U-Boot found nothing to boot"), ("\ngrub> ", "GRUB found nothing to boot")];

/// How a machine's run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The system judged this many store paths and found them right, and powered off.
    Good(usize),
    /// What was said rules that out.
    Bad(&'static str),
    /// The system asked for a power cut, and got one.
    Cut,
    /// It ended without a verdict.
    Silent,
    TimeOut,
}

/// A machine's run.
pub(crate) struct Run {
    row: String,
    end: End,
    console: String,
    seconds: f32,
}

impl Run {
    /// # Panics
    /// Unless the system found this many store paths, and all right.
    #[track_caller]
    pub(crate) fn expect_good(&self, paths: usize) {
        if self.end != End::Good(paths) {
            panic!("{}: wanted a good verdict on {paths} paths{}", self.row, self.report());
        }
        println!("{}: {:.1} s", self.row, self.seconds);
    }

    /// # Panics
    /// Unless the machine came to grief, said so itself, and mentioned the `reasons`.
    #[track_caller]
    pub(crate) fn expect_bad(&self, reasons: &[&str]) {
        if !matches!(self.end, End::Bad(_)) {
            panic!("{}: wanted a failure{}", self.row, self.report());
        }
        self.expect_said(reasons);
        println!("{}: {:.1} s, as wanted: {:?}", self.row, self.seconds, self.end);
    }

    /// # Panics
    /// Unless the power was cut, because the system asked for that.
    #[track_caller]
    pub(crate) fn expect_cut(&self) {
        if self.end != End::Cut {
            panic!("{}: wanted a power cut{}", self.row, self.report());
        }
        println!("{}: {:.1} s, and then no more", self.row, self.seconds);
    }

    /// # Panics
    /// Unless all these words were said.
    #[track_caller]
    pub(crate) fn expect_said(&self, words: &[&str]) {
        if let Some(missing) = words.iter().find(|words| !self.console.contains(**words)) {
            panic!("{}: never said {missing:?}{}", self.row, self.report());
        }
    }

    /// All that was said, without what only moves a cursor.
    pub(crate) fn console(&self) -> &str {
        &self.console
    }

    /// Keeps the console and tells how it ended.
    fn report(&self) -> String {
        let log = log_path(&self.row);
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, &self.console).unwrap();
        let lines: Vec<_> = self.console.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        format!(", got {:?} after {:.1} s; {} ends with\n{tail}", self.end, self.seconds, log.display())
    }
}

/// Where the console of a row that failed is kept.
fn log_path(row: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/boot-logs").join(format!("{row}.log"))
}

/// Runs a machine whose serial line is its stdin and stdout until there is a verdict.
pub(crate) fn watch(row: &str, machine: &mut Command) -> Run {
    watch_and_type(row, machine, &[])
}

/// The same; one after the other, a line is typed once the words before it were said.
pub(crate) fn watch_and_type(row: &str, machine: &mut Command, lines: &[(&str, &str)]) -> Run {
    let _turn = Turn::wait();
    let start = Instant::now();
    let mut running = Running::start(machine);
    let mut keyboard = Keyboard { stdin: running.0.stdin.take().unwrap(), lines, seen: 0 };
    let said = listen(&mut running.0);
    let mut bytes = Vec::new();
    let end = loop {
        if start.elapsed() >= LIMIT {
            break End::TimeOut;
        }
        let more = said.recv_timeout(LIMIT.saturating_sub(start.elapsed()));
        // Serial lines speak byte by byte; a while's worth is looked at as one.
        std::thread::sleep(PAUSE);
        bytes.extend(more.iter().cloned().chain(said.try_iter()).flatten());
        let console = plain(&bytes);
        if keyboard.answer(&console) == Answer::Typed {
            continue;
        }
        match (judge(&console), more) {
            (Some(end @ End::Good(_)), _) => break power_off(&said, &mut bytes, end),
            (Some(end), _) => break end,
            (None, Err(RecvTimeoutError::Disconnected)) => break End::Silent,
            (None, _) => {}
        }
    };
    Run { row: row.to_owned(), end, console: plain(&bytes), seconds: start.elapsed().as_secs_f32() }
}

/// Whether there was something to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Typed,
    None,
}

struct Keyboard<'a> {
    stdin: ChildStdin,
    lines: &'a [(&'a str, &'a str)],
    /// How much of the console the lines before answered.
    seen: usize,
}

impl Keyboard<'_> {
    fn answer(&mut self, console: &str) -> Answer {
        let Some(((words, line), rest)) = self.lines.split_first() else { return Answer::None };
        if !console.get(self.seen..).is_some_and(|new| new.contains(words)) {
            return Answer::None;
        }
        (self.lines, self.seen) = (rest, console.len());
        // A machine that has just ended reads none; its console tells.
        self.stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.stdin.flush()).ok();
        Answer::Typed
    }
}

/// How a run ends in which this was said, if that can be told already.
fn judge(console: &str) -> Option<End> {
    let failure = FAILURES.iter().find(|(words, _)| console.contains(words));
    let failure = failure.or_else(|| PROMPTS.iter().find(|(prompt, _)| console.ends_with(prompt)));
    if let Some((_, meaning)) = failure {
        return Some(End::Bad(meaning));
    }
    if console.contains(CUT) {
        return Some(End::Cut);
    }
    // Not before the line has ended.
    let line = |start| Some(console.split_once(start)?.1.split_once('\n')?.0);
    if line(BAD).is_some() {
        return Some(End::Bad("the system found a fault"));
    }
    Some(End::Good(line(GOOD)?.strip_suffix(" paths")?.parse().ok()?))
}

/// Waits until the machine has ended by itself, so that its disk is as it left it.
fn power_off(said: &Receiver<Vec<u8>>, bytes: &mut Vec<u8>, end: End) -> End {
    loop {
        match said.recv_timeout(GRACE) {
            Ok(more) => bytes.extend(more),
            Err(RecvTimeoutError::Disconnected) => return end,
            Err(RecvTimeoutError::Timeout) => return End::TimeOut,
        }
    }
}

/// What was said, both streams, as it comes; disconnected once the machine has ended.
fn listen(machine: &mut Child) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(machine.stdout.take().unwrap()), Box::new(machine.stderr.take().unwrap())];
    for mut stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut block) {
                if sender.send(block[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Text without carriage returns and without the sequences that move a terminal's cursor or colour it.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            // Parameters, and one letter that says what is to be done.
            while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        } else if c != '\r' {
            plain.push(c);
        }
    }
    plain
}

/// A process that is not left behind.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(piped.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The right to run a machine.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

impl Turn {
    fn wait() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running =
            ENDED.wait_while(running, |running| *running >= MACHINES).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

#[test]
fn only_whole_verdicts_count() {
    for (console, end) in [
        ("Starting kernel ...\n", None),
        ("VERDICT ok 1", None),
        ("VERDICT ok 12 paths\n", Some(End::Good(12))),
        ("VERDICT failed: stage 2", None),
        ("VERDICT failed: stage 2: 1 faults\n", Some(End::Bad("the system found a fault"))),
        ("CUT THE POWER", None),
        ("CUT THE POWER\n", Some(End::Cut)),
        ("\n=> ", Some(End::Bad("U-Boot found nothing to boot"))),
        ("\n=> sysboot\n", None),
        ("Kernel panic - not syncing\nVERDICT ok 12 paths\n", Some(End::Bad("the kernel panicked"))),
    ] {
        assert_eq!(judge(console), end, "{console:?}");
    }
}

#[test]
fn cursors_leave_no_trace() {
    assert_eq!(plain(b"\x1b[2J\x1b[01;01H\x1b[0mVERDICT\r\n"), "VERDICT\n");
}
