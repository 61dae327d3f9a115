//! `sane-image flash`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueHint};
use sane_image::copy::{Engine, Options};
use sane_image::flash::device::{Demands, FixedDisk};
use sane_image::flash::{Check, FlashError, Flashed, NewFile, State, Target};
use sane_image::progress::{Cancel, Progress};
use sane_image::read::escape;

use self::place::Place;
use super::args::OwnArgs;
use super::input::BadInput;
use super::{progress, report, signals, threads};

mod device;
mod image;
mod place;
mod spec;

/// Write a spec or an image to a card, a stick or a disk.
///
/// Shows the device and what will be on it, and asks first. Without DEVICE, it lists the disks that there are.
///
/// From a spec, the disk is laid out for the device: its nix filesystem fills the room that is left, and no image is
/// made (for a btrfs there is a temporary one, in TMPDIR). From an image, the backup of the partition table goes to the
/// device's end, and the last partition gets the room that is left if its filesystem is ext4 or btrfs; the filesystem
/// grows at the first boot.
///
/// Everything in use is written, zeros included. Free space is discarded if the device can do that, otherwise left as
/// it is. The partition table is wiped first and written last, so that a device that was pulled out half-way does not
/// look complete. At the end everything is read back from the device and compared.
///
/// DEVICE may be a regular file; it is made as large as the image if it does not exist. Ctrl-C stops within a second
/// and says what state the device is in.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Which devices are there?
    sane-image flash spec.json
  A host to a card, from the closure in the Nix store:
    sudo sane-image flash spec.json /dev/sdX
  With keys that are not in the Nix store, in secrets/etc/ssh:
    sudo sane-image flash spec.json /dev/sdX --extra-files secrets
  To a card, without a question:
    sane-image flash nixos.img.zst /dev/disk/by-id/usb-Generic_SD_MMC-0:0 --yes
  To a disk of 1 TB; half of it stays without partitions:
    sane-image flash nixos.img /dev/nvme1n1 --fixed-disk --size 500000000000
  To see what a card of 32 GB would have on it:
    truncate -s 32000000000 card.img && sane-image flash nixos.img card.img --yes && sane-image inspect card.img
  To the disk of a machine elsewhere:
    sane-image convert nixos.img --format zst --out - | ssh host 'cat > /tmp/nixos.img.zst'
    ssh -t host sane-image flash /tmp/nixos.img.zst /dev/nvme0n1")]
pub(super) struct FlashArgs {
    /// A spec (`-` reads it from standard input); or a disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), a bare
    /// partition image, or a block device
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    source: PathBuf,
    /// The whole device to write to, such as /dev/sdX or a name in /dev/disk/by-id, or a regular file; everything on it
    /// is lost
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    device: Option<PathBuf>,
    /// Do not ask; required without a terminal
    #[arg(long)]
    yes: bool,
    /// Allow a device that is not removable: a built-in disk
    #[arg(long)]
    fixed_disk: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Use only the first BYTES of the device and leave the rest without partitions; a new file gets this size
    /// [default: the whole device; a new file gets the size that is needed]
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    #[command(flatten)]
    own: OwnArgs,
    /// For a spec: read /nix/store/… from DIR/nix/store/…, as in a chroot store; paths on the device do not change
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store_root: Option<PathBuf>,
    /// For a spec: do not run its installBootloader
    #[arg(long)]
    no_bootloader: bool,
    /// How many threads to use; the device gets the same bytes [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

pub(super) fn run(args: &FlashArgs, cancel: &Cancel) -> Result<()> {
    let is_spec = spec::is_one(&args.source);
    let Some(device) = &args.device else {
        device::list(&args.source, &demands(args))?;
        return Err(BadInput("no DEVICE was named, and nothing was written".to_owned()).into());
    };
    signals::watch(cancel)?;
    let from_stdin = if args.source == Path::new("-") { device::Input::Taken } else { device::Input::Free };
    let consent = if args.yes { device::Consent::Given } else { device::Consent::Asked };
    let place = Place::find(device, demands(args), consent, from_stdin)?;
    match is_spec {
        true => spec::run(args, &place, cancel),
        false => image::run(args, &place, cancel),
    }
}

/// What is needed of a device, as far as it is known before the disk is made.
fn demands(args: &FlashArgs) -> Demands {
    let fixed_disk = if args.fixed_disk { FixedDisk::Allowed } else { FixedDisk::Refused };
    Demands { size: 0, sector_size: None, fixed_disk }
}

impl FlashArgs {
    fn check(&self) -> Check {
        if self.no_verify { Check::None } else { Check::ReadBack }
    }

    fn copy(&self) -> Options {
        Options { threads: threads::count(self.jobs), engine: Engine::Auto }
    }

    /// The most bytes of the device that partitions may take.
    fn limit(&self, size: Option<u64>) -> Option<u64> {
        [self.size, size].into_iter().flatten().min()
    }
}

/// Opens the device, has `write` write to it, removes a new file after an error, and reports what was done.
fn write<E: Into<anyhow::Error>>(
    place: &Place,
    source: Option<&Path>,
    new: NewFile,
    write: impl FnOnce(&Target, &dyn Progress) -> Result<Flashed, E>,
) -> Result<()> {
    let started = Instant::now();
    let target = Target::open(place.path(), source, new)?;
    let progress = progress::for_stderr();
    let flashed = write(&target, progress.as_ref()).map_err(|error| {
        target.remove();
        let mut error = error.into();
        if let Some(error) = error.downcast_mut::<FlashError>().filter(|_| target.is_new_file()) {
            error.state = State::Removed;
        }
        error
    })?;
    drop(progress);
    let name = escape::path(place.path());
    if !flashed.is_reread {
        let remedy = "the kernel still uses the old partition table; unplug the device and plug it in again, or reboot";
        progress::note(&format!("{name}: {remedy}"));
    }
    report::flashed(&name, &flashed, started.elapsed())
}
