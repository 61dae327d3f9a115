//! `sane-image add`.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{BinaryBytes, HumanCount};
use sane_image::add::{self, Added};
use sane_image::copy::{self, Engine, Means};
use sane_image::progress::Cancel;

use super::args::AddArgs;
use super::{input, progress, threads};

pub(super) fn run(args: &AddArgs, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    let extra = input::extra_files(&args.extra_files, &args.chown)?;
    let out = args.out.as_ref().unwrap_or(&args.image);
    input::check_outside(out, Some(&extra))?;
    let progress = progress::for_stderr();
    let options = copy::Options { threads: threads::count(args.jobs), engine: Engine::Auto };
    let means = Means { options, progress: progress.as_ref(), cancel };
    let added = add::add(&args.image, &extra, out, means);
    drop(progress);
    let Added { files, bytes, replaced, size } = match added {
        Err(error) if error.is_of_image() => return Err(error).context(args.image.display().to_string()),
        added => added?,
    };
    writeln!(
        io::stdout().lock(),
        "{}: {}, {} files of {} added ({} in the place of others) in {:.1} s",
        out.display(),
        BinaryBytes(size),
        HumanCount(files),
        BinaryBytes(bytes),
        HumanCount(replaced),
        started.elapsed().as_secs_f64(),
    )?;
    Ok(())
}
