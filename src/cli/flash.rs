//! `sane-image flash`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use sane_image::copy::{Engine, Means, Options};
use sane_image::flash::{self, Check, Flashed, ImageSource, NewFile, Space, State, Target};
use sane_image::progress::Cancel;
use sane_image::read::escape;

use super::args::OwnArgs;
use super::input::BadInput;
use super::{progress, report, signals, threads};

/// The permission bits of a new file before the umask, and those of one that not everybody may read.
const MODE: u32 = 0o666;
const PRIVATE: u32 = 0o600;

/// Write an image to a card, a stick or a disk.
///
/// Lays the image out for the device: the backup of the partition table comes to the device's end, and the last partition
/// gets the room that is left, if its filesystem is ext4 or btrfs; the filesystem grows when the system boots first. All
/// that somebody will read is written, zeros included; free space is discarded where the device can, else left as it is.
/// The partition table is wiped first and written last, so that a device that was pulled out half-way is not taken for a
/// good one. Then all is read back from the device and compared. A regular file may stand for the device: it is made as
/// large as the image if it is not there. Ctrl-C stops within a second and says in which state the device is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  To a card, without a question:
    sane-image flash nixos.img.zst /dev/disk/by-id/usb-Generic_SD_MMC-0:0 --yes
  To a disk of 1 TB of which half stays without partitions, for its own use:
    sane-image flash nixos.img /dev/nvme1n1 --fixed-disk --size 500000000000
  To see what a card of 32 GB would have on it:
    truncate -s 32000000000 card.img && sane-image flash nixos.img card.img --yes && sane-image inspect card.img
  To the disk of a machine elsewhere:
    sane-image convert nixos.img --format zst --out - | ssh host 'cat > /tmp/nixos.img.zst'
    ssh -t host sane-image flash /tmp/nixos.img.zst /dev/nvme0n1")]
pub(super) struct FlashArgs {
    /// A disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), a bare partition image, or a block device
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    source: PathBuf,
    /// The whole device to write to, such as /dev/sdX or a name in /dev/disk/by-id, or a regular file; all that is on it
    /// is lost
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    device: Option<PathBuf>,
    /// Do not ask; needed where standard input is no terminal
    #[arg(long)]
    yes: bool,
    /// Take a device that is not removable, too: a disk that is built in
    #[arg(long)]
    fixed_disk: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Let the last partition end within the first BYTES of the device, so that the rest stays without partitions; a new
    /// file gets this size [default: all of the device, the size of the image]
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    #[command(flatten)]
    own: OwnArgs,
    /// Cores to use; what is written does not depend on it [default: all]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

pub(super) fn run(args: &FlashArgs, cancel: &Cancel) -> Result<()> {
    let Some(device) = &args.device else {
        return Err(BadInput("name the DEVICE to write to; lsblk shows those that there are".to_owned()).into());
    };
    if is_spec(&args.source) {
        return from_spec(args);
    }
    from_image(args, device, cancel)
}

/// Whether a source is a spec: a regular file that starts as JSON does.
fn is_spec(source: &Path) -> bool {
    let is_file = source.metadata().is_ok_and(|metadata| metadata.is_file());
    let Ok(file) = File::open(source) else { return false };
    let mut start = Vec::new();
    is_file
        && file.take(4096).read_to_end(&mut start).is_ok()
        && start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn from_spec(args: &FlashArgs) -> Result<()> {
    let source = escape::path(&args.source);
    Err(BadInput(format!("{source}: is a spec; build its image first, and flash that")).into())
}

fn from_image(args: &FlashArgs, device: &Path, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    if args.own.extra_files.is_some() {
        let problem = "--extra-files: goes with a spec; lay files over an image by `sane-image add`, and flash that";
        return Err(BadInput(problem.to_owned()).into());
    }
    let progress = progress::for_stderr();
    let source = ImageSource::open(&args.source, progress.as_ref()).with_context(|| escape::path(&args.source))?;
    consent(args)?;
    signals::watch(cancel)?;
    let mode = if source.is_private() { PRIVATE } else { MODE };
    let new = NewFile { size: args.size.unwrap_or_else(|| source.size()), mode };
    let target = Target::open(device, Some(&args.source), new)?;
    let options = Options { threads: threads::count(args.jobs), engine: Engine::Auto };
    let means = Means { options, progress: progress.as_ref(), cancel };
    let flashed = write(&source, &target, args, means).inspect_err(|_| target.remove())?;
    drop(progress);
    if !flashed.is_reread {
        super::progress::note(&format!(
            "{}: the kernel still has its old partitions; unplug it and plug it in again, or start anew",
            escape::path(device)
        ));
    }
    report::flashed(&escape::path(device), &flashed, started.elapsed())
}

/// Lays the image out for the device and writes it.
fn write(source: &ImageSource, target: &Target, args: &FlashArgs, means: Means<'_>) -> Result<Flashed> {
    let space = Space { limit: args.size, ..target.space() };
    let device = args.device.as_deref().map(escape::path).unwrap_or_default();
    let fitted = source.fit(space).with_context(|| device.clone())?;
    if let Some(note) = fitted.note() {
        means.progress.warn(&format!("{}: {note}", escape::path(&args.source)));
    }
    let check = if args.no_verify { Check::None } else { Check::ReadBack };
    let flashed = flash::flash(&fitted, target, check, source, means).map_err(|mut error| {
        if target.is_new_file() {
            error.state = State::Removed;
        }
        error
    });
    Ok(flashed?)
}

/// Whether the user means it. (Here the device is described, refused or asked about.)
fn consent(args: &FlashArgs) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let why = if io::stdin().is_terminal() { "" } else { ", as standard input is no terminal" };
    Err(BadInput(format!("pass --yes to write without being asked{why}; all that is on the device is lost")).into())
}
