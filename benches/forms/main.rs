//! The forms of an image, beside what makes them of a raw image or reads them: the same closure, machine and run.
//!
//!     cargo bench --bench forms -- --help
//!
//! Each round takes every step once, in turn, with the closure and the ready images in the page cache; its time ends when
//! what it made is on disk. The memory is the peak of the largest process of a step. With --hash, a second figure is the
//! time that Nix takes to hash what was made. Steps whose programs are not installed are named and left out.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use self::closure::Amount;
use self::steps::Step;

#[path = "../support/closure.rs"]
mod closure;
mod steps;

/// Compare the forms of an image with what else makes and reads them.
#[derive(Parser)]
struct Args {
    /// Make a closure of about this many bytes, of which nothing can be compressed
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
    bytes: u64,
    /// Take this closure instead: a directory with nix/store and closure-info
    #[arg(long, value_name = "DIR")]
    closure: Option<PathBuf>,
    /// Where to work; the images go here [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Rounds, of which the table tells the median
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time `nix-hash` of what each step made, too
    #[arg(long)]
    hash: bool,
    /// Only steps whose name contains one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What steps start from, and where they write.
struct Places {
    /// The directory that stands for `/`.
    root: PathBuf,
    spec: PathBuf,
    /// Images that were made beforehand: raw and zst.
    ready: PathBuf,
    /// Empty before each step.
    out: PathBuf,
    /// A small file of the closure, as the running system calls it.
    small: String,
}

/// One step taken.
#[derive(Clone, Copy)]
struct Run {
    time: Duration,
    hash: Duration,
    /// In bytes.
    memory: u64,
    /// Of what was made, in bytes.
    size: u64,
}

fn main() {
    let args = Args::parse();
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("forms-").tempdir_in(work).expect("cannot make a directory to work in");
    let places = Places::make(&args, work.path());
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let (present, missing): (Vec<_>, Vec<_>) = steps::ALL
        .iter()
        .filter(|step| wanted(step.name))
        .partition(|step| step.needs.iter().all(|&n| is_installed(n)));
    for step in missing {
        println!("left out, for {} is not all installed: {}", step.needs.join(", "), step.name);
    }
    let mut rows: Vec<(&Step, Vec<Run>)> = present.into_iter().map(|step| (step, Vec::new())).collect();
    for round in 1..=args.rounds {
        for (step, runs) in &mut rows {
            let run = places.measure(step, args.hash);
            eprintln!("round {round}: {}: {:.2} s", step.name, run.time.as_secs_f64());
            runs.push(run);
        }
    }
    print(&rows, args.hash);
}

impl Places {
    fn make(args: &Args, work: &Path) -> Self {
        let made = work.join("closure");
        let root = args.closure.clone().unwrap_or_else(|| {
            eprintln!("making a closure of about {} bytes", args.bytes);
            closure::make(&made, Amount::Bytes(args.bytes));
            made
        });
        let root = root.canonicalize().expect("no such closure");
        let [spec, ready, out] = ["spec.json", "ready", "out"].map(|name| work.join(name));
        closure::write_spec(&root, "ext4", &[], &spec);
        let files = files(&root);
        println!(
            "{} files, {} bytes, {} rounds",
            files.len(),
            files.iter().map(|file| file.1).sum::<u64>(),
            args.rounds
        );
        let (small, _) = files.iter().find(|(_, size)| (1..65536).contains(size)).expect("no small file");
        let small = Path::new("/").join(small.strip_prefix(&root).expect("below it")).display().to_string();
        let places = Self { root, spec, ready, out, small };
        let mut command = places.build("raw,zst", &places.ready);
        assert!(command.status().expect("cannot start sane-image").success(), "sane-image build");
        places
    }

    /// `sane-image build` of these forms into a directory.
    fn build(&self, formats: &str, out: &Path) -> Command {
        let mut command = quiet(env!("CARGO_BIN_EXE_sane-image"));
        command.arg("build").arg(&self.spec).arg("--store-root").arg(&self.root);
        command.args(["--format", formats, "--out"]).arg(out);
        command
    }

    /// Reads all that steps read, so that they find it in the page cache.
    fn warm(&self) {
        let ready = ["nixos.img", "nixos.img.zst"].map(|name| self.ready.join(name));
        for path in files(&self.root).into_iter().map(|(path, _)| path).chain(ready) {
            File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink())).expect("unreadable file");
        }
    }

    fn measure(&self, step: &Step, hash: bool) -> Run {
        fs::create_dir(&self.out).expect("cannot make the output directory");
        self.warm();
        // What the one before has left to be written is not to be this one's burden.
        rustix::fs::sync();
        let commands = (step.commands)(self);
        let started = Instant::now();
        let memory = commands.into_iter().map(|command| run(command, step.may_fail)).max().unwrap_or_default();
        let made = step.made.map(|name| self.out.join(name));
        if let Some(made) = &made {
            File::open(made).and_then(|made| made.sync_all()).expect("nothing was made");
        }
        let time = started.elapsed();
        let size = made.as_ref().map_or(0, |made| fs::metadata(made).expect("made").len());
        let started = Instant::now();
        if let Some(made) = made.filter(|_| hash) {
            let mut nix = quiet("nix-hash");
            nix.args(["--type", "sha256"]).arg(made);
            run(nix, false);
        }
        let hash = started.elapsed();
        fs::remove_dir_all(&self.out).expect("cannot remove what was made");
        Run { time, hash, memory, size }
    }
}

/// The files of a closure in order, with their sizes in bytes.
fn files(root: &Path) -> Vec<(PathBuf, u64)> {
    let entries = walkdir::WalkDir::new(root.join("nix")).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|file| (file.path().to_owned(), file.metadata().unwrap().len())).collect()
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs a command to its end. The most memory that it had, in bytes.
fn run(mut command: Command, may_fail: bool) -> u64 {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (status, memory) = wait(&mut child);
    assert!(status.success() || may_fail && status.code() == Some(1), "{command:?}: {status}");
    memory
}

fn wait(child: &mut Child) -> (ExitStatus, u64) {
    let mut memory = 0;
    loop {
        // The kernel keeps the peak itself: the last look before the end is near enough.
        memory = peak_memory(child.id()).unwrap_or(memory);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return (status, memory);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// VmHWM of a process that still runs, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn is_installed(tool: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|directory| directory.join(tool).is_file())
}

/// Prints medians and spread, and ratios to the step that each is held against.
fn print(rows: &[(&Step, Vec<Run>)], hash: bool) {
    let median = |runs: &[Run], time: fn(&Run) -> Duration| {
        let mut times: Vec<_> = runs.iter().map(|run| time(run).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().map(|median| (times[0], median, times[times.len() - 1]))
    };
    let (head, rule) = if hash { (" nix-hash s |", "---:|") } else { ("", "") };
    println!(
        "\n| | median s | least – most s | ratio | to | MB | memory MB |{head}\n|---|---:|---:|---:|---|---:|---:|{rule}"
    );
    for (step, runs) in rows {
        let Some((least, time, most)) = median(runs, |run| run.time) else { return };
        let other = rows.iter().find(|(other, _)| other.name == step.against);
        let other = other.and_then(|(_, runs)| median(runs, |run| run.time));
        let ratio = other.map_or(String::new(), |(_, other, _)| format!("{:.2}", time / other));
        let size = runs.iter().map(|run| run.size).max().unwrap_or_default() / 1_000_000;
        let memory = runs.iter().map(|run| run.memory).max().unwrap_or_default() / 1_000_000;
        print!(
            "| {} | {time:.2} | {least:.2} – {most:.2} | {ratio} | {} | {size} | {memory} |",
            step.name, step.against
        );
        if let Some((_, hash, _)) = median(runs, |run| run.hash).filter(|_| hash) {
            print!(" {hash:.2} |");
        }
        println!();
    }
}
