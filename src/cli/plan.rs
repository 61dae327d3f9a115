//! `sane-image plan`.

use anyhow::Result;
use sane_image::build::{self, Context, Options, Proof};
use sane_image::copy;
use sane_image::plan::SizeMultiple;
use sane_image::progress::Cancel;

use super::args::PlanArgs;
use super::{input, progress, report, threads};

pub(super) fn run(args: &PlanArgs, cancel: &Cancel) -> Result<()> {
    let (spec, store_root) = input::read(&args.input)?;
    let progress = progress::for_stderr();
    let copy = copy::Options { threads: threads::count(None), engine: copy::Engine::Auto };
    let extra_files = input::own_files(&args.own)?;
    let options = Options {
        store_root: &store_root,
        copy,
        proof: Proof::None,
        extra_files: extra_files.as_ref(),
        size_multiple: SizeMultiple::default(),
    };
    let prepared = build::prepare(&spec, Context { options, progress: progress.as_ref(), cancel })?;
    drop(progress);
    if args.json { report::json(&prepared.plan) } else { report::plan(&prepared.plan) }
}
