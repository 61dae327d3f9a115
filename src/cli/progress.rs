//! Progress for people: a bar on a terminal; elsewhere, such as in the log of a Nix build, a plain line every few
//! seconds.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sane_image::progress::Progress;

/// How often a log gets a line.
const LINE_INTERVAL: Duration = Duration::from_secs(3);
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// The progress that suits where standard error goes.
pub(super) fn for_stderr() -> Box<dyn Progress> {
    // Nix gives its builders a terminal, and keeps what they write there as a log.
    let is_nix_build = std::env::var_os("NIX_BUILD_TOP").is_some();
    if stderr().is_terminal() && !is_nix_build { Box::new(Bar::new()) } else { Box::new(Lines::default()) }
}

/// One bar at a time, the current stage's.
struct Bar {
    bar: ProgressBar,
    /// Keeps it moving where nothing is reported; goes before the bar. `None` if there is no thread to be had.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let (stop, stopped) = mpsc::channel();
        let ticking = bar.clone();
        let tick = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                ticking.tick();
            }
        };
        let ticker = thread::Builder::new().spawn(tick).ok().map(|thread| (stop, thread));
        Self { bar, ticker }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total_files: u64, total_bytes: u64) {
        let template = match (total_files, total_bytes) {
            (0, 0) => "{spinner} {msg}",
            (_, 0) => "{spinner} {msg} {wide_bar} {human_pos}/{human_len}",
            _ => "{spinner} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        };
        self.bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let has_both = total_files > 0 && total_bytes > 0;
        let files = if has_both { format!(" ({} files)", HumanCount(total_files)) } else { String::new() };
        self.bar.set_message(format!("{name}{files}"));
        self.bar.set_length(if total_bytes > 0 { total_bytes } else { total_files });
        self.bar.reset();
    }

    fn advance(&self, files: u64, bytes: u64) {
        self.bar.inc(if bytes > 0 { bytes } else { files });
    }

    fn relay(&self, line: &str) {
        self.bar.suspend(|| write_line(line));
    }

    fn warn(&self, message: &str) {
        self.relay(&warning(message));
    }
}

/// Lines for a log.
#[derive(Default)]
struct Lines {
    files: AtomicU64,
    bytes: AtomicU64,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    total_files: u64,
    total_bytes: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress for Lines {
    fn stage(&self, name: &str, total_files: u64, total_bytes: u64) {
        let totals = match (total_files, total_bytes) {
            (0, 0) => String::new(),
            (files, 0) => format!(": {}", HumanCount(files)),
            (0, bytes) => format!(": {}", DecimalBytes(bytes)),
            (files, bytes) => format!(": {} files, {}", HumanCount(files), DecimalBytes(bytes)),
        };
        write_line(&format!("sane-image: {name}{totals}"));
        let mut stage = self.stage.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        let now = Instant::now();
        *stage = Some(Stage { name: name.to_owned(), total_files, total_bytes, started: now, last_line: now });
    }

    fn advance(&self, files: u64, bytes: u64) {
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A thread that finds the lock taken leaves the line to the thread that has it.
        let Ok(mut stage) = self.stage.try_lock() else { return };
        if let Some(stage) = stage.as_mut().filter(|stage| stage.last_line.elapsed() >= LINE_INTERVAL) {
            stage.last_line = Instant::now();
            write_line(&stage.line(files, bytes));
        }
    }

    fn relay(&self, line: &str) {
        write_line(line);
    }

    fn warn(&self, message: &str) {
        self.relay(&warning(message));
    }
}

impl Stage {
    fn line(&self, files: u64, bytes: u64) -> String {
        let elapsed = self.started.elapsed();
        let (done, total) = if self.total_bytes > 0 { (bytes, self.total_bytes) } else { (files, self.total_files) };
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
        let seconds = elapsed.as_secs().max(1);
        let left = Duration::from_secs(total.saturating_sub(done).saturating_mul(seconds) / done.max(1));
        let amount = if self.total_bytes > 0 {
            format!(
                "{} of {}, {}/s",
                DecimalBytes(bytes),
                DecimalBytes(self.total_bytes),
                DecimalBytes(bytes / seconds)
            )
        } else {
            format!("{} of {}", HumanCount(files), HumanCount(self.total_files))
        };
        format!("sane-image: {}: {percent} % ({amount}, {} left)", self.name, HumanDuration(left))
    }
}

fn warning(message: &str) -> String {
    format!("sane-image: warning: {message}")
}

/// Tells what is worth knowing and neither a result nor an error.
pub(super) fn note(note: &str) {
    write_line(&format!("sane-image: note: {note}"));
}

/// Standard error may be gone; that is no reason to stop building.
fn write_line(line: &str) {
    let _ = writeln!(stderr().lock(), "{line}");
}
