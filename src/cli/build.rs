//! `sane-image build`.

use std::io::ErrorKind;
use std::time::Instant;

use anyhow::Result;
use sane_image::build::{self, BadForms, BareFilesystem, BuildError, Context, Forms, Options, Outputs, Proof, Split};
use sane_image::copy;
use sane_image::formats::FormatError;
use sane_image::plan::SizeMultiple;
use sane_image::progress::Cancel;

use super::args::{BuildArgs, Io, Part, SplitArg};
use super::input::BadInput;
use super::stream::{self, BrokenStream};
use super::{input, look, progress, report, threads};

pub(super) fn run(args: &BuildArgs, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    let (spec, store_root) = input::read(&args.input)?;
    let jobs = threads::count(args.jobs);
    let engine = match args.io {
        Io::Auto => copy::Engine::Auto,
        Io::Reflink => copy::Engine::Reflink,
        Io::Direct => copy::Engine::Direct,
        Io::CopyFileRange => copy::Engine::CopyFileRange,
        Io::Buffered => copy::Engine::Buffered,
    };
    let split = match args.split {
        None => Split::No,
        Some(SplitArg::Beside) => Split::Beside,
        Some(SplitArg::Only) => Split::Only,
    };
    let bad = |error: BadForms| BadInput(error.to_string());
    let forms = Forms::new(&args.format, args.level, args.bmap, split).map_err(bad)?;
    forms.check_sectors(spec.sector_size).map_err(bad)?;
    forms.check_updates(spec.updates.as_ref()).map_err(bad)?;
    check_split(args);
    check_slice(args);
    check_stream(args, &forms)?;
    let progress = progress::for_stderr();
    let proof = if args.verify { Proof::Verify } else { Proof::None };
    let extra_files = input::own_files(&args.own)?;
    input::check_outside(&args.out, extra_files.as_ref())?;
    let copy = copy::Options { threads: jobs, engine };
    let options = Options {
        store_root: &store_root,
        copy,
        proof,
        extra_files: extra_files.as_ref(),
        size_multiple: forms.size_multiple(),
    };
    let context = Context { options, progress: progress.as_ref(), cancel };
    let bootloader = spec.install_bootloader.as_deref().filter(|_| !args.no_bootloader);
    let which = match args.only {
        Some(Part::Boot) => BareFilesystem::Boot,
        Some(Part::Nix) => BareFilesystem::Nix,
        None if stream::is_meant(&args.out) => {
            let mut prepared = build::prepare(&spec, context)?;
            let streamed = build::stream(&mut prepared, &forms, bootloader, &mut stream::stdout()?, context);
            return streamed.map_err(broken);
        }
        None => {
            // Before anything is done, so that an error is reported at once.
            let outputs = Outputs::open(&args.out, &spec.name, &forms, options.privacy()).map_err(BuildError::from)?;
            let mut prepared = build::prepare(&spec, context)?;
            let built = build::build(&mut prepared, outputs, &forms, bootloader, context)?;
            drop(progress);
            return report::images(&built, &prepared.plan, started.elapsed());
        }
    };
    let built = build::build_partition(&spec, which, &args.out, context)?;
    drop(progress);
    report::partition(&built, started.elapsed())
}

/// Refuses a form of a bare filesystem, which has none. A form whose disk is larger than usual is allowed: the
/// filesystem is a slice of that disk.
fn check_slice(args: &BuildArgs) {
    let usual = SizeMultiple::default().bytes;
    let useless = args.format.iter().find(|format| format.size_multiple() == usual);
    if let (Some(format), Some(_)) = (useless, args.only) {
        look::bad_usage(&format!("--only writes a bare filesystem, not {format}; leave --format out, or convert FILE"));
    }
}

/// Refuses what the files of an update cannot be made with.
fn check_split(args: &BuildArgs) {
    match args.split {
        Some(_) if stream::is_meant(&args.out) => {
            look::bad_usage("--split makes several files, and --out - is one stream; name a directory for them");
        }
        Some(SplitArg::Only) if !args.format.is_empty() => {
            look::bad_usage("--split=only makes no disk, and --format names one; use only one of them");
        }
        Some(SplitArg::Only) if args.verify => {
            look::bad_usage("--verify checks an image, and --split=only makes none; use only one of them");
        }
        _ => {}
    }
}

/// Refuses standard output for what cannot go there.
fn check_stream(args: &BuildArgs, forms: &Forms) -> Result<()> {
    if !stream::is_meant(&args.out) {
        return Ok(());
    }
    match (forms.formats(), args.only) {
        (&[format], None) => stream::check(format)?,
        _ => look::bad_usage("--out - takes one form of the whole disk; name a directory for anything else"),
    }
    if args.bmap {
        look::bad_usage("--bmap writes a file beside the image, and --out - has no place for it; use only one of them");
    }
    if args.verify {
        look::bad_usage(
            "--verify checks an image before it gets its name, which --out - cannot do; use only one of them",
        );
    }
    Ok(())
}

/// The error, or [`BrokenStream`] if the reader is gone.
fn broken(error: BuildError) -> anyhow::Error {
    match error {
        BuildError::Form { error: FormatError::Write(error), .. } if error.kind() == ErrorKind::BrokenPipe => {
            BrokenStream.into()
        }
        error => error.into(),
    }
}
