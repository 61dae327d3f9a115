//! Side by side with its peers: the same closure, the same machine, one run.
//!
//!     cargo bench --bench compare -- --help
//!
//! Each round runs every candidate once, in turn, so that a noisy minute hits them alike. Before each, every file of the
//! closure is read, so that all of them find it in the page cache; the time ends when the image is on disk (fsync), as
//! ours always does. With --hash, a second figure adds one SHA-256 over the image, which Nix takes of every output.
//! Candidates that are not installed, or fail here, are named and left out.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;

use self::closure::Amount;

mod candidates;
#[path = "../support/closure.rs"]
mod closure;
mod table;

/// Compare sane-image with other ways to make an image of the same closure.
#[derive(Parser)]
struct Args {
    /// Make a closure of about this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
    bytes: u64,
    /// Take this closure instead: a directory with nix/store and closure-info
    #[arg(long, value_name = "DIR")]
    closure: Option<PathBuf>,
    /// Where to work; the images go here, so it decides which engines are possible [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Rounds, of which the table tells the median
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time a SHA-256 over each image, too
    #[arg(long)]
    hash: bool,
    /// Only candidates whose name contains one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a candidate makes an image of.
struct Input {
    /// The directory that stands for `/`.
    root: PathBuf,
    files: usize,
    bytes: u64,
    /// The same in one file, if a candidate wants it.
    tar: Option<PathBuf>,
}

/// One image made.
struct Run {
    build: Duration,
    /// The processor's, of all programs that took part.
    processor: Duration,
    hash: Duration,
    /// Bytes that the disk has less for it.
    taken: u64,
}

/// A candidate and what came of it.
struct Row<'a> {
    candidate: &'a candidates::Candidate,
    runs: Vec<Run>,
}

impl<'a> Row<'a> {
    fn new(candidate: &'a candidates::Candidate) -> Self {
        Self { candidate, runs: Vec::new() }
    }
}

fn main() {
    let args = Args::parse();
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work =
        tempfile::Builder::new().prefix("compare-").tempdir_in(work).expect("cannot make a directory to work in");
    let made = args.closure.is_none().then(|| work.path().join("closure"));
    if let Some(made) = &made {
        eprintln!("making a closure of about {} bytes", args.bytes);
        closure::make(made, Amount::Bytes(args.bytes));
    }
    let mut input = Input::find(args.closure.as_deref().or(made.as_deref()).expect("given or made"));
    println!("{} files, {} bytes, {} rounds", input.files, input.bytes, args.rounds);

    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let (present, missing): (Vec<_>, Vec<_>) =
        candidates::all().filter(|c| wanted(c.name)).partition(|c| c.needs.iter().all(|tool| is_installed(tool)));
    for candidate in missing {
        println!("left out, for {} is not all installed: {}", candidate.needs.join(", "), candidate.name);
    }
    if present.iter().any(|candidate| candidate.needs.contains(&"zstd")) {
        input.tar = Some(candidates::tar(&input, work.path()));
    }
    let out = work.path().join("out");
    let mut rows: Vec<Row> = present.into_iter().map(Row::new).collect();
    for round in 1..=args.rounds {
        rows.retain_mut(|row| {
            let name = row.candidate.name;
            let Ok(run) = std::panic::catch_unwind(|| measure(row.candidate, &input, &out, args.hash)) else {
                println!("left out, for it fails here: {name}");
                candidates::run(Command::new("rm").arg("-rf").arg(&out));
                return false;
            };
            eprintln!("round {round}: {name}: {:.2} s + {:.2} s", run.build.as_secs_f64(), run.hash.as_secs_f64());
            row.runs.push(run);
            true
        });
    }
    table::print(&rows, args.hash);
}

impl Input {
    fn find(closure: &Path) -> Self {
        let root = closure.canonicalize().expect("no such closure");
        let files = walkdir::WalkDir::new(root.join("nix")).into_iter().map(Result::unwrap);
        let sizes: Vec<u64> = files.filter(|f| f.file_type().is_file()).map(|f| f.metadata().unwrap().len()).collect();
        Self { root, files: sizes.len(), bytes: sizes.iter().sum(), tar: None }
    }

    /// Reads every file, so that all candidates find them in the page cache.
    fn warm(&self) {
        let files = walkdir::WalkDir::new(self.root.join("nix")).into_iter().map(Result::unwrap);
        let paths = files.filter(|file| file.file_type().is_file()).map(walkdir::DirEntry::into_path);
        for path in paths.chain(self.tar.clone()) {
            File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink())).expect("unreadable file");
        }
    }
}

/// Makes an image, and hashes it if that is wanted.
fn measure(candidate: &candidates::Candidate, input: &Input, out: &Path, hash: bool) -> Run {
    fs::create_dir(out).expect("cannot make the output directory");
    input.warm();
    // What the one before has left to be written is not to be this one's burden.
    rustix::fs::sync();
    let free = free_bytes(out);
    let (started, before) = (Instant::now(), processor_time());
    let image = (candidate.run)(input, out);
    File::open(&image).and_then(|image| image.sync_all()).expect("no image");
    let (build, processor) = (started.elapsed(), processor_time() - before);
    rustix::fs::sync();
    let taken = free.saturating_sub(free_bytes(out));
    let started = Instant::now();
    if hash {
        candidates::run(Command::new("sha256sum").arg(&image));
    }
    let hash = started.elapsed();
    candidates::run(Command::new("rm").arg("-rf").arg(out));
    Run { build, processor, hash, taken }
}

/// What this program and all that it has waited for took of the processor until now.
fn processor_time() -> Duration {
    // proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17, in hundredths of a second; the name, which
    // is the second, may hold blanks.
    let stat = fs::read_to_string("/proc/self/stat").expect("no /proc");
    let (_, fields) = stat.rsplit_once(')').expect("no name in /proc/self/stat");
    let ticks = fields.split_whitespace().skip(11).take(4).map(|ticks| ticks.parse::<u64>().expect("no number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn free_bytes(directory: &Path) -> u64 {
    let status = rustix::fs::statvfs(directory).expect("no filesystem to work on");
    status.f_bfree * status.f_frsize
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|directory| directory.join(tool).is_file())
}
