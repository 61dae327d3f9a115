//! Time and memory against the number of files, and for a closure that is nearly all holes.
//!
//!     cargo bench --bench scale -- --help

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use self::closure::Amount;

#[path = "../support/closure.rs"]
mod closure;
mod plot;

/// Measure sane-image on closures of ever more files.
#[derive(Parser)]
struct Args {
    /// The numbers of files
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10000,100000,1000000")]
    files: Vec<u64>,
    /// The size in bytes of a closure of sparse files; 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = 60_000_000_000)]
    sparse: u64,
    /// Where to work [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Images made of each closure, of which the table tells the median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Draw a plot to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one closure cost.
struct Cost {
    files: u64,
    seconds: f64,
    /// The most memory that was in use at once, in bytes.
    memory: u64,
}

fn main() {
    let args = Args::parse();
    let work = args.work.unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("scale-").tempdir_in(work).expect("cannot make a directory to work in");
    println!("| closure | median s | µs a file | peak MB | bytes a file |\n|---|---:|---:|---:|---:|");
    let costs: Vec<Cost> = args.files.iter().map(|&files| of_files(files, args.rounds, work.path())).collect();
    if args.sparse > 0 {
        of_holes(args.sparse, args.rounds, work.path());
    }
    if let Some(svg) = args.svg {
        fs::write(svg, plot::svg(&costs)).expect("cannot write the plot");
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn of_files(files: u64, rounds: usize, work: &Path) -> Cost {
    let root = work.join("closure");
    closure::make(&root, Amount::SmallFiles(files));
    let (seconds, memory) = measure(&root, rounds, work);
    let (micros, bytes) = (seconds * 1e6 / files as f64, memory / files);
    println!("| {files} files | {seconds:.2} | {micros:.1} | {:.1} | {bytes} |", memory as f64 / 1e6);
    fs::remove_dir_all(root).expect("cannot remove the closure");
    Cost { files, seconds, memory }
}

/// Ten files with little in them at their start, their middle and their end.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn of_holes(bytes: u64, rounds: usize, work: &Path) {
    let root = work.join("closure");
    let path = format!("/nix/store/{:032}-sparse", 0);
    let directory = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(&directory).expect("cannot write the closure");
    for number in 0..10 {
        let (file, len) = (File::create(directory.join(number.to_string())).expect("cannot write"), bytes / 10);
        file.set_len(len).expect("no sparse files here");
        for at in [0, len / 2, len - 7] {
            file.write_all_at(b"island!", at).expect("cannot write the closure");
        }
    }
    closure::register(&root, &[path]);
    let (seconds, memory) = measure(&root, rounds, work);
    println!("| {} GB of holes | {seconds:.2} | | {:.1} | |", bytes / 1_000_000_000, memory as f64 / 1e6);
    fs::remove_dir_all(root).expect("cannot remove the closure");
}

/// The median of the seconds, and the most memory in bytes.
fn measure(root: &Path, rounds: usize, work: &Path) -> (f64, u64) {
    let spec = work.join("spec.json");
    closure::write_spec(root, "ext4", &[], &spec);
    let mut runs: Vec<(f64, u64)> = (0..rounds).map(|_| build(root, &spec, &work.join("out"))).collect();
    runs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    (runs[rounds / 2].0, runs.iter().map(|(_, memory)| *memory).max().expect("at least one round"))
}

fn build(root: &Path, spec: &Path, out: &Path) -> (f64, u64) {
    rustix::fs::sync();
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("build").arg(spec).arg("--store-root").arg(root).arg("--out").arg(out);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cannot start sane-image");
    let mut memory = 0;
    let status = loop {
        // The kernel keeps the peak itself: the last look before the end is near enough.
        memory = peak_memory(child.id()).unwrap_or(memory);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let seconds = started.elapsed().as_secs_f64();
    assert!(status.success(), "sane-image: {status}");
    fs::remove_dir_all(out).expect("cannot remove the image");
    (seconds, memory)
}

/// VmHWM of a process that still runs, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
