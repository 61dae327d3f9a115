//! Writes the disk of a spec to a device, without making an image first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};
use sane_image::build::{Context, Options, Prepared, Proof};
use sane_image::flash::spec::{self, SpecError};
use sane_image::flash::{FitError, NewFile};
use sane_image::plan::SizeMultiple;
use sane_image::progress::Cancel;
use sane_image::read::escape;
use sane_image::spec::Spec;

use super::place::Place;
use super::{FlashArgs, progress, report};
use crate::cli::args::InputArgs;
use crate::cli::input;

/// The permission bits of a new file before the umask, and those of one with private files in it.
const MODE: u32 = 0o666;
const PRIVATE: u32 = 0o600;
/// The bytes in which the first one of a spec that is no space is looked for.
const START: u64 = 4096;

/// Whether a source is a spec: standard input, or a regular file that starts as JSON does.
pub(super) fn is_one(source: &Path) -> bool {
    if source == Path::new("-") {
        return true;
    }
    let is_file = source.metadata().is_ok_and(|metadata| metadata.is_file());
    let is_json = |file: File| {
        let mut start = Vec::new();
        let read = file.take(START).read_to_end(&mut start).is_ok();
        read && start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
    };
    is_file && File::open(source).is_ok_and(is_json)
}

pub(super) fn run(args: &FlashArgs, place: &Place, cancel: &Cancel) -> Result<()> {
    let input = InputArgs { spec: args.source.clone(), store_root: args.store_root.clone() };
    let (spec, store_root) = input::read(&input)?;
    check_sectors(&spec, place)?;
    let extra_files = input::own_files(&args.own)?;
    let options = Options {
        store_root: &store_root,
        copy: args.copy(),
        proof: Proof::None,
        extra_files: extra_files.as_ref(),
        size_multiple: SizeMultiple::default(),
    };
    // The progress of it ends here: its bar would draw over a question.
    let mut prepared =
        prepare(&spec, args, place, Context { options, progress: progress::for_stderr().as_ref(), cancel })?;
    let mut to_come = vec![format!("{}, {}", prepared.plan.name, spec.toplevel.as_path().display())];
    to_come.extend(report::partitions(&prepared.plan));
    place.agree(&to_come, cancel)?;
    let new = NewFile {
        size: args.size.unwrap_or_default().max(prepared.plan.size),
        mode: if extra_files.is_some() { PRIVATE } else { MODE },
    };
    let bootloader = spec.install_bootloader.as_deref().filter(|_| !args.no_bootloader);
    super::write(place, None, new, |target, progress| {
        let context = Context { options, progress, cancel };
        spec::write(&mut prepared, bootloader, target, args.check(), context).map_err(|error| told(error, place))
    })
}

/// Refuses a device that firmware would not boot, before the closure is read.
fn check_sectors(spec: &Spec, place: &Place) -> Result<()> {
    match (spec.sector_size.bytes(), place.sector_size()) {
        (table, Some(device)) if table != device => {
            Err(FitError::SectorSize { table, device }).with_context(|| escape::path(place.path()))
        }
        _ => Ok(()),
    }
}

/// Plans the disk: for the whole device; for a file, as large as it is, or as is needed.
fn prepare(spec: &Spec, args: &FlashArgs, place: &Place, context: Context<'_>) -> Result<Prepared> {
    let size = args.limit(place.size().filter(|&size| size > 0));
    let prepared = match spec::prepare(spec, size, context) {
        Err(SpecError::Fit(FitError::TooSmall { needed, .. })) if !place.is_device() && args.size.is_none() => {
            spec::prepare(spec, Some(needed), context)
        }
        prepared => prepared,
    };
    prepared.map_err(|error| told(error, place))
}

/// An error with the name of what it is about.
fn told(error: SpecError, place: &Place) -> anyhow::Error {
    match error {
        SpecError::Build(error) => error.into(),
        SpecError::Fit(error) => anyhow::Error::new(error).context(escape::path(place.path())),
        SpecError::Flash(error) => error.into(),
    }
}
