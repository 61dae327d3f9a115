//! Writes an image to a device.

use anyhow::{Context, Result};
use indicatif::BinaryBytes;
use sane_image::copy::Means;
use sane_image::flash::{self, Fitted, ImageSource, NewFile, Space};
use sane_image::progress::Cancel;
use sane_image::read::escape;

use super::place::Place;
use super::{BadInput, FlashArgs, progress};

/// The permission bits of a new file before the umask, and those of one that not everybody may read.
const MODE: u32 = 0o666;
const PRIVATE: u32 = 0o600;

pub(super) fn run(args: &FlashArgs, place: &Place, cancel: &Cancel) -> Result<()> {
    check(args)?;
    let name = || escape::path(&args.source);
    // The progress of it ends here: its bar would draw over a question.
    let threads = args.copy().threads;
    let source = ImageSource::open(&args.source, threads, progress::for_stderr().as_ref()).with_context(name)?;
    let size = args.size.unwrap_or_else(|| source.size());
    let new = NewFile { size, mode: if source.is_private() { PRIVATE } else { MODE } };
    let there = match place.size() {
        Some(size) if place.is_device() => size,
        size => size.unwrap_or_default().max(new.size),
    };
    let space = Space { size: there, sector_size: place.sector_size(), limit: args.size };
    let device = || escape::path(place.path());
    place.agree(&to_come(args, &source, &source.fit(space).with_context(device)?), cancel)?;
    super::write(place, Some(&args.source), new, |target, progress| {
        let means = Means { options: args.copy(), progress, cancel };
        let fitted = source.fit(Space { limit: args.size, ..target.space() }).with_context(device)?;
        Ok::<_, anyhow::Error>(flash::flash(&fitted, target, args.check(), &source, means)?)
    })
}

/// Refuses what goes with a spec only.
fn check(args: &FlashArgs) -> Result<()> {
    let problem = if args.own.extra_files.is_some() {
        "--extra-files: is only for a spec; add files to the image with `sane-image add`, then flash it"
    } else if args.store_root.is_some() {
        "--store-root: is only for a spec; an image has its store in it"
    } else if args.no_bootloader {
        "--no-bootloader: is only for a spec; an image is written as it is"
    } else {
        return Ok(());
    };
    Err(BadInput(problem.to_owned()).into())
}

/// What will be on the device, one line for each partition.
fn to_come(args: &FlashArgs, source: &ImageSource, fitted: &Fitted<'_>) -> Vec<String> {
    let mut lines = vec![format!("{}, a disk of {}", escape::path(&args.source), BinaryBytes(source.size()))];
    lines.extend(source.partitions());
    lines.extend(fitted.grown().map(|grown| {
        let more = BinaryBytes(grown.to.saturating_sub(grown.from));
        format!("partition {} grows by {more}; its filesystem grows at the first boot", grown.number)
    }));
    lines.extend(fitted.note().map(str::to_owned));
    lines
}
