//! `sane-image verify`.

use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use indicatif::{DecimalBytes, HumanCount};
use sane_image::image::Image;
use sane_image::progress::Cancel;
use sane_image::read::escape;
use sane_image::store::registration::{parse_registration, store_dir_of};
use sane_image::store::{Registration, StoreDir};
use sane_image::verify::{self, Fault, Options, Place, Report, StoreReport};
use serde_json::json;

use super::look::{self, Outcome};
use super::{progress, threads};

/// Prove an image: the NAR hash of every store path, the partition table, and every structure of its filesystems.
///
/// Prints one line per fault and exits 1; otherwise prints a summary. Reads whole disks and single partitions, in files
/// and on block devices, made by any program.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Does the image match its own nix-path-registration?
    sane-image verify result/nixos.img
  Does the disk of a machine that has booted match its own Nix database?
    sane-image verify /dev/sda
  Does the disk hold what was built? This does not trust the disk's own registration:
    sane-image verify /dev/sda --registration /nix/store/…-closure-info")]
pub(super) struct VerifyArgs {
    /// The image (raw, qcow2, VMDK, VHD, VHDX or seekable zst) of a disk or of one partition, or a block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Compare the store, and the image's own registration and Nix database, with this registration: a file for
    /// `nix-store --load-db`, a closureInfo directory, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    registration: Option<PathBuf>,
    /// Print what was found as JSON; docs/reference/verify-json.md explains it
    #[arg(long)]
    json: bool,
    /// How many threads to use, at most four per core; the result is the same [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

pub(super) fn run(args: &VerifyArgs, cancel: &Cancel) -> Result<Outcome> {
    let started = Instant::now();
    let image = Image::open(&args.image).with_context(|| escape::path(&args.image))?;
    let registration = args.registration.as_deref().map(read_registration).transpose()?;
    let progress = progress::for_stderr();
    let options = Options {
        jobs: threads::count(args.jobs),
        registration: registration.as_deref(),
        progress: progress.as_ref(),
        cancel,
    };
    let report = verify::verify(&image, options)?;
    drop(progress);
    let mut out = look::stdout();
    let elapsed = started.elapsed();
    if args.json {
        writeln!(out, "{:#}", json(&report, elapsed))?;
    } else {
        report.notes.iter().for_each(|note| progress::note(note));
        report.faults.iter().try_for_each(|fault| writeln!(out, "{fault}"))?;
        if report.is_right() {
            writeln!(out, "{}: {}", escape::path(&args.image), summary(&report, Some(elapsed)))?;
        }
    }
    out.flush()?;
    if report.is_right() {
        return Ok(Outcome::Done);
    }
    let faults = count(report.faults.len() as u64, "fault");
    look::complain(&anyhow!("{}: is not right: {faults}", escape::path(&args.image)));
    Ok(Outcome::Failed)
}

/// What is registered, from a file, from the `registration` of a closureInfo, or from standard input.
pub(super) fn read_registration(path: &Path) -> Result<Vec<Registration>> {
    let path = if path.is_dir() { &path.join("registration") } else { path };
    let failed = || format!("{}: cannot be read", path.display());
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).with_context(failed)?;
        bytes
    } else {
        fs::read(path).with_context(failed)?
    };
    let store_dir = store_dir_of(&bytes).map_or_else(|| StoreDir::new("/nix/store"), Ok)?;
    parse_registration(&bytes, &store_dir)
        .map_err(|error| anyhow!("{}: {error}; this is not a registration of Nix", path.display()))
}

/// One line about an image in which nothing is wrong; with `elapsed`, how long it took to see that.
pub(super) fn summary(report: &Report, elapsed: Option<Duration>) -> String {
    let mut checked: Vec<_> = report.has_table.then_some("GPT").into_iter().collect();
    checked.extend(report.has_mbr.then_some("MBR"));
    checked.extend(report.filesystems.iter().map(|(_, format)| format.name()));
    checked.extend(report.trees.iter().map(|_| "dm-verity"));
    if checked.is_empty() {
        return "right as far as it is known, but nothing of it can be checked here".to_owned();
    }
    let checked = checked.join(", ");
    let seconds = elapsed.map(|elapsed| elapsed.as_secs_f64());
    let in_seconds = seconds.map_or(String::new(), |seconds| format!(" in {seconds:.2} s"));
    if report.stores.is_empty() {
        return format!("right: {checked}{in_seconds}; no store, so that only structures were checked");
    }
    let total = |count: fn(&StoreReport) -> u64| report.stores.iter().map(count).fold(0, u64::saturating_add);
    let bytes = total(|store| store.nar_bytes);
    #[allow(clippy::cast_precision_loss, reason = "a speed, for people")]
    let speed = |seconds: f64| format!(" ({:.2} GB/s)", bytes as f64 / 1e9 / seconds);
    format!(
        "right: {checked}; {}, {}, {} of NARs{in_seconds}{}",
        count(total(|store| store.paths), "store path"),
        count(total(|store| store.files), "file"),
        DecimalBytes(bytes),
        // The speed of a moment says nothing.
        seconds.filter(|&seconds| seconds > 0.1).map_or(String::new(), speed),
    )
}

fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(n), if n == 1 { "" } else { "s" })
}

/// As docs/reference/verify-json.md has it.
fn json(report: &Report, elapsed: Duration) -> serde_json::Value {
    let filesystems =
        report.filesystems.iter().map(|(partition, format)| json!({ "partition": partition, "format": format.name() }));
    let trees = report
        .trees
        .iter()
        .map(|tree| json!({ "partition": tree.partition, "dataPartition": tree.data, "rootHash": tree.root_hash }));
    let stores = report.stores.iter().map(|store| {
        json!({
            "partition": store.partition,
            "store": store.store,
            "registeredIn": store.registered_in,
            "paths": store.paths,
            "unregistered": store.unregistered,
            "files": store.files,
            "bytes": store.bytes,
            "narBytes": store.nar_bytes,
        })
    });
    json!({
        "version": 1,
        "right": report.is_right(),
        "partitionTable": report.has_table || report.has_mbr,
        "filesystems": filesystems.collect::<Vec<_>>(),
        "trees": trees.collect::<Vec<_>>(),
        "stores": stores.collect::<Vec<_>>(),
        "faults": report.faults.iter().map(json_fault).collect::<Vec<_>>(),
        "notes": report.notes,
        "seconds": elapsed.as_secs_f64(),
    })
}

fn json_fault(fault: &Fault) -> serde_json::Value {
    let partition = match fault.place {
        Place::Table => None,
        Place::Partition(number) => Some(number),
    };
    json!({ "partition": partition, "what": fault.what, "why": fault.why, "storePath": fault.store_path })
}
