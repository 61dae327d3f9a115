//! Side by side with its peers: the same closure, the same machine, one run.
//!
//!     cargo bench --bench compare -- --help
//!
//! Each round runs every candidate once, in turn, so that a noisy minute hits them alike. The time of each ends when
//! its image is on disk (fsync), as ours always does. With --hash, a second figure adds one SHA-256 over the image, which
//! Nix takes of every output. Candidates that are not installed, or fail here, are named and left out.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;

mod candidates;
mod closure;

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
    spec: PathBuf,
    files: usize,
    bytes: u64,
}

/// The times of one candidate.
#[derive(Default)]
struct Times {
    build: Vec<Duration>,
    with_hash: Vec<Duration>,
}

fn main() {
    let args = Args::parse();
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work =
        tempfile::Builder::new().prefix("compare-").tempdir_in(work).expect("cannot make a directory to work in");
    let made = args.closure.is_none().then(|| work.path().join("closure"));
    if let Some(made) = &made {
        eprintln!("making a closure of about {} bytes", args.bytes);
        closure::make(made, args.bytes);
    }
    let input = Input::find(args.closure.as_deref().or(made.as_deref()).expect("given or made"), work.path());
    println!("{} files, {} bytes, {} rounds", input.files, input.bytes, args.rounds);

    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let (mut present, missing): (Vec<_>, Vec<_>) =
        candidates::ALL.iter().filter(|c| wanted(c.name)).partition(|c| c.needs.iter().all(|tool| is_installed(tool)));
    for candidate in missing {
        println!("left out, for {} is not all installed: {}", candidate.needs.join(", "), candidate.name);
    }
    let out = work.path().join("out");
    // One round beforehand warms the page cache for all, and finds out who fails here.
    present.retain(|candidate| match std::panic::catch_unwind(|| measure(candidate, &input, &out, args.hash)) {
        Ok(_) => true,
        Err(_) => {
            println!("left out, for it fails here: {}", candidate.name);
            candidates::run(Command::new("rm").arg("-rf").arg(&out));
            false
        }
    });
    let mut times: Vec<Times> = present.iter().map(|_| Times::default()).collect();
    for round in 1..=args.rounds {
        for (candidate, times) in present.iter().zip(&mut times) {
            let (build, hash) = measure(candidate, &input, &out, args.hash);
            eprintln!("round {round}: {}: {:.2} s + {:.2} s", candidate.name, build.as_secs_f64(), hash.as_secs_f64());
            times.build.push(build);
            times.with_hash.push(build + hash);
        }
    }
    print_table(&present, &mut times, args.hash);
}

impl Input {
    fn find(closure: &Path, work: &Path) -> Self {
        let root = closure.canonicalize().expect("no such closure");
        let info = root.join("closure-info");
        let paths = fs::read_to_string(info.join("store-paths")).expect("no closure-info/store-paths");
        let toplevel = paths.lines().next().expect("an empty closure");
        let spec = serde_json::json!({
            "version": 1,
            "toplevel": toplevel,
            "closureInfo": info,
            "fileSystems": {
                "/boot": { "device": "/dev/disk/by-uuid/1234-ABCD", "fsType": "vfat" },
                "/": { "device": "/dev/disk/by-label/BENCH", "fsType": "ext4" },
            },
        });
        let spec_path = work.join("spec.json");
        fs::write(&spec_path, spec.to_string()).expect("cannot write the spec");
        let files = walkdir::WalkDir::new(root.join("nix")).into_iter().map(Result::unwrap);
        let sizes: Vec<u64> = files.filter(|f| f.file_type().is_file()).map(|f| f.metadata().unwrap().len()).collect();
        Self { root, spec: spec_path, files: sizes.len(), bytes: sizes.iter().sum() }
    }
}

/// The time to make an image, and the time to hash it if that is wanted.
fn measure(candidate: &candidates::Candidate, input: &Input, out: &Path, hash: bool) -> (Duration, Duration) {
    fs::create_dir(out).expect("cannot make the output directory");
    // What the one before has left to be written is not to be this one's burden.
    rustix::fs::sync();
    let started = Instant::now();
    let image = (candidate.run)(input, out);
    File::open(&image).and_then(|image| image.sync_all()).expect("no image");
    let build = started.elapsed();
    let started = Instant::now();
    if hash {
        candidates::run(Command::new("sha256sum").arg(&image));
    }
    let hash = started.elapsed();
    candidates::run(Command::new("rm").arg("-rf").arg(out));
    (build, hash)
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|directory| directory.join(tool).is_file())
}

fn print_table(candidates: &[&candidates::Candidate], times: &mut [Times], hash: bool) {
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let rows: Vec<_> = times.iter_mut().map(|t| (median(&mut t.build), median(&mut t.with_hash))).collect();
    let Some(&(ours, ours_with_hash)) = rows.first() else { return };
    let (more_head, more_rule) = if hash { (" with sha256 s | ratio |", "---:|---:|") } else { ("", "") };
    println!("\n| | median s | least – most s | ratio |{more_head}\n|---|---:|---:|---:|{more_rule}");
    for ((candidate, times), (build, with_hash)) in candidates.iter().zip(times.iter()).zip(rows) {
        let (least, most) = (times.build[0].as_secs_f64(), times.build[times.build.len() - 1].as_secs_f64());
        print!("| {} | {build:.2} | {least:.2} – {most:.2} | {:.2} |", candidate.name, build / ours);
        if hash {
            print!(" {with_hash:.2} | {:.2} |", with_hash / ours_with_hash);
        }
        println!();
    }
}
