//! `flash` beside what writes a raw image to a device: the same closure, device and run.
//!
//!     cargo bench --bench flash -- --help
//!
//! The device is a loop device that was full of 0x55, as large as the image; the kernel holds it to the speeds that are
//! asked for (cgroup v1: blkio of the root group, which counts the kernel's own writes, too). The time of a step ends when
//! all is on the device. Needs root. Programs that are not installed are named and left out.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;

use self::closure::Amount;
use self::device::Device;

#[path = "../support/closure.rs"]
mod closure;
mod device;

/// Compare `flash` with other ways to a device.
#[derive(Parser)]
struct Args {
    /// Make a closure of about this many bytes, of which nothing can be compressed
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
    bytes: u64,
    /// Take this closure instead: a directory with nix/store and closure-info
    #[arg(long, value_name = "DIR")]
    closure: Option<PathBuf>,
    /// Where to work; image and device go here [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// The device writes so many bytes in a second; 0 for as many as it can
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "0,90000000,20000000")]
    speed: Vec<u64>,
    /// Only steps whose name contains one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What steps start from.
struct Places {
    /// The directory that stands for `/`.
    root: PathBuf,
    spec: PathBuf,
    /// Made beforehand: nixos.img, nixos.img.zst and nixos.img.bmap.
    ready: PathBuf,
    /// For what a step makes on its way.
    out: PathBuf,
}

/// One way to the device.
struct Step {
    name: &'static str,
    needs: &'static str,
    /// What it runs, one after the other.
    commands: fn(&Places, &Path) -> Vec<Command>,
}

const STEPS: [Step; 7] = [
    Step { name: "flash of the spec, not compared", needs: "true", commands: |p, d| vec![flash(p, &p.spec, d, false)] },
    Step { name: "flash of the spec", needs: "true", commands: |p, d| vec![flash(p, &p.spec, d, true)] },
    Step {
        name: "flash of the zst, not compared",
        needs: "true",
        commands: |p, d| vec![flash(p, &p.ready.join("nixos.img.zst"), d, false)],
    },
    Step {
        name: "flash of the raw image, not compared",
        needs: "true",
        commands: |p, d| vec![flash(p, &p.ready.join("nixos.img"), d, false)],
    },
    Step { name: "bmaptool copy", needs: "bmaptool", commands: |p, d| vec![bmaptool(p, d)] },
    Step { name: "dd bs=4M conv=fsync", needs: "dd", commands: |p, d| vec![dd(&p.ready, d)] },
    Step { name: "build, then dd", needs: "dd", commands: |p, d| vec![p.build("raw", &p.out), dd(&p.out, d)] },
];

fn main() {
    let args = Args::parse();
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("flash-").tempdir_in(work).expect("cannot make a directory to work in");
    let places = Places::make(&args, work.path());
    let size = fs::metadata(places.ready.join("nixos.img")).expect("an image").len();
    let in_use = mapped_bytes(&places.ready.join("nixos.img.bmap"));
    println!("an image of {size} bytes, of which {in_use} are read by somebody\n");
    println!("| | device MB/s | s | of what the bytes in use need | MB written |\n|---|---:|---:|---:|---:|");
    for &speed in &args.speed {
        for step in STEPS.iter().filter(|step| is_wanted(&args, step.name)) {
            let device = Device::new(&work.path().join("device"), size);
            places.warm();
            let (before, started) = (device.written(), Instant::now());
            device.throttle(speed);
            for mut command in (step.commands)(&places, device.path()) {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
                assert!(status.success(), "{command:?}: {status}");
            }
            device.sync();
            let time = started.elapsed().as_secs_f64();
            let written = (device.written() - before) / 1_000_000;
            let (speed_mb, ratio) = match speed {
                0 => ("any".to_owned(), String::new()),
                _ => (format!("{}", speed / 1_000_000), format!("{:.3}", time * speed as f64 / in_use as f64)),
            };
            println!("| {} | {speed_mb} | {time:.1} | {ratio} | {written} |", step.name);
            let _ = fs::remove_dir_all(&places.out);
        }
    }
}

fn is_wanted(args: &Args, name: &str) -> bool {
    let step = STEPS.iter().find(|step| step.name == name).expect("a step");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = std::env::split_paths(&paths).any(|directory| directory.join(step.needs).is_file());
    if !is_installed {
        println!("left out, for {} is not installed: {name}", step.needs);
    }
    is_installed && (args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str())))
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
        let places = Self { root, spec, ready, out };
        let mut command = places.build("raw,zst", &places.ready);
        assert!(command.arg("--bmap").status().expect("cannot start sane-image").success(), "sane-image build");
        places
    }

    fn build(&self, formats: &str, out: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
        command.arg("build").arg(&self.spec).arg("--store-root").arg(&self.root);
        command.args(["--format", formats, "--out"]).arg(out);
        command
    }

    /// Reads all that steps read, so that they find it in the page cache.
    fn warm(&self) {
        let files = walkdir::WalkDir::new(self.root.join("nix")).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
        let ready = ["nixos.img", "nixos.img.zst"].map(|name| self.ready.join(name));
        for path in files.chain(ready) {
            File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink())).expect("unreadable file");
        }
        rustix::fs::sync();
    }
}

fn flash(places: &Places, source: &Path, device: &Path, is_compared: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("flash").arg(source).arg(device).arg("--yes");
    if source == places.spec {
        command.arg("--store-root").arg(&places.root);
    }
    if !is_compared {
        command.arg("--no-verify");
    }
    command
}

fn bmaptool(places: &Places, device: &Path) -> Command {
    let mut command = Command::new("bmaptool");
    command.args(["copy", "--bmap"]).arg(places.ready.join("nixos.img.bmap"));
    command.arg(places.ready.join("nixos.img")).arg(device);
    command
}

fn dd(image: &Path, device: &Path) -> Command {
    let of = |name: &str, path: &Path| {
        let mut text = std::ffi::OsString::from(name);
        text.push(path);
        text
    };
    let mut command = Command::new("dd");
    command.arg(of("if=", &image.join("nixos.img"))).arg(of("of=", device)).args(["bs=4M", "conv=fsync"]);
    command
}

/// The bytes of a disk that its block map has.
fn mapped_bytes(map: &Path) -> u64 {
    let mut text = String::new();
    File::open(map).and_then(|mut file| file.read_to_string(&mut text)).expect("a block map");
    let number = |tag: &str| {
        let rest = text.split_once(&format!("<{tag}>")).expect("a block map").1;
        rest.split('<').next().and_then(|number| number.trim().parse::<u64>().ok()).expect("a number")
    };
    number("MappedBlocksCount") * number("BlockSize")
}
