//! `sane-image convert`.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use sane_image::convert::{ConvertError, Form, Original};
use sane_image::copy::{Engine, Means, Options};
use sane_image::formats::{Format, FormatError};
use sane_image::progress::Cancel;
use sane_image::read::escape;

use super::args::formats;
use super::input::BadInput;
use super::stream::{self, BrokenStream};
use super::{progress, report, signals, threads};

/// Write an image in another form.
///
/// Reads every image that the other commands read, and any other disk. FILE gets its name only when it is complete, and
/// has the same bytes on every machine. Free space is left out if the filesystems have no fault. If a reader of
/// standard output ends early, the program ends by SIGPIPE (141 in a shell).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One compressed file of a disk image, and back:
    sane-image convert nixos.img --format zst --out nixos.img.zst
    sane-image convert nixos.img.zst --format raw --out nixos.img
  To a card, only what it needs, with every block checked:
    sane-image convert nixos.img --format zst --bmap --out nixos.img.zst
    bmaptool copy nixos.img.zst /dev/sdX
  To a machine elsewhere, without a file in between:
    sane-image convert nixos.img --format zst --out - | ssh host 'zstd -d | dd of=/dev/sdX bs=4M oflag=direct'")]
pub(super) struct ConvertArgs {
    /// A disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), a bare partition image, or a block device
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    image: PathBuf,
    /// The form to write
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Format,
    /// Write to FILE; `-` is standard output, to which raw and zst can go
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    /// Compress at this level: zst and qcow2+zstd from 1 to 22 [default: 3], vmdk and gce from 1 to 9 [default: 6]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    level: Option<i32>,
    /// Also write FILE.bmap: the blocks that a device needs, and their checksums, for `bmaptool copy`
    #[arg(long)]
    bmap: bool,
    /// How many threads to use; the file is the same [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

pub(super) fn run(args: &ConvertArgs, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    let is_stream = stream::is_meant(&args.out);
    let level = level(args.format, args.level)?;
    if args.bmap {
        check_block_map(args.format, is_stream)?;
    }
    let form = Form { format: args.format, level, block_map: args.bmap };
    if is_stream {
        stream::check(args.format)?;
    }
    let image = || escape::path(&args.image);
    let progress = progress::for_stderr();
    let threads = threads::count(args.jobs);
    let original = Original::open(&args.image, threads, progress.as_ref()).with_context(image)?;
    let options = Options { threads, engine: Engine::Auto };
    let means = Means { options, progress: progress.as_ref(), cancel };
    if is_stream {
        // A signal ends it at once: nothing is left, and a reader that does not read would keep it waiting.
        let streamed = original.to_stream(form, &mut stream::stdout()?, means);
        return streamed.or_else(|error| told(error, &args.image, Path::new("standard output")));
    }
    signals::watch(cancel)?;
    let converted = original.to_file(form, &args.out, means);
    drop(progress);
    match converted {
        Ok(converted) => report::converted(&args.out, args.format, &converted, started.elapsed()),
        Err(error) => told(error, &args.image, &args.out),
    }
}

/// The level to compress with.
fn level(format: Format, asked: Option<i32>) -> Result<i32> {
    let Some(levels) = format.levels() else {
        return match asked {
            None => Ok(format.default_level()),
            Some(level) => Err(BadInput(format!("--level {level}: {format} has no levels; leave --level out")).into()),
        };
    };
    let level = asked.unwrap_or_else(|| format.default_level());
    if levels.contains(&level) {
        return Ok(level);
    }
    let (lowest, highest) = (levels.start(), levels.end());
    Err(BadInput(format!("--level {level}: {format} has the levels {lowest} to {highest}")).into())
}

/// Refuses a block map of what has none.
fn check_block_map(format: Format, is_stream: bool) -> Result<()> {
    let have = Format::ALL.into_iter().filter(|format| format.has_block_map()).map(Format::name);
    let problem = match (format.has_block_map(), is_stream) {
        (true, false) => return Ok(()),
        (true, true) => "the map is a file beside the image, and standard output has none; write to a file".to_owned(),
        (false, _) => format!("{format} has no block map; {} have one", have.collect::<Vec<_>>().join(" and ")),
    };
    Err(BadInput(format!("--bmap: {problem}")).into())
}

/// An error with the name of what it is about.
fn told(error: ConvertError, image: &Path, out: &Path) -> Result<()> {
    match error {
        ConvertError::Format(FormatError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Err(BrokenStream.into())
        }
        // An output names itself, and what stops the work concerns neither.
        ConvertError::Output(_) | ConvertError::Format(FormatError::Cancelled(_)) => Err(error.into()),
        ConvertError::Read(_) | ConvertError::Format(FormatError::Read(_) | FormatError::Impossible { .. }) => {
            Err(error).with_context(|| escape::path(image))
        }
        ConvertError::Format(_) => Err(error).with_context(|| escape::path(out)),
    }
}
