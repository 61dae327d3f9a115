//! `sane-image cat`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use sane_image::read::resolve::Last;

use super::complete;
use super::look::{self, Opened, Outcome, PartArgs};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Print files in an image.
///
/// Links are followed inside the partition. PATH starts at the partition's root. An absolute PATH that is not found
/// there is looked up as in the running system.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  Which kernel will boot, with which parameters?
    sane-image cat nixos.img boot extlinux/extlinux.conf")]
pub(super) struct CatArgs {
    #[command(flatten)]
    part: PartArgs,
    /// The files to print, one after the other
    #[arg(value_name = "PATH", add = complete::path(), required = true)]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &CatArgs) -> Result<Outcome> {
    let opened = args.part.open()?;
    let mut outcome = opened.outcome;
    for path in &args.paths {
        let mut out = std::io::stdout().lock();
        let printed = print(&opened, path, &mut out);
        out.flush()?;
        match printed {
            Err(error) if error.downcast_ref::<std::io::Error>().is_some() => return Err(error),
            Err(error) => {
                look::complain(&error);
                outcome = Outcome::Failed;
            }
            Ok(()) => {}
        }
    }
    Ok(outcome)
}

fn print(opened: &Opened, path: &Path, out: &mut impl Write) -> Result<()> {
    let (place, _) = opened.find(path, Last::Follow)?;
    let failed = || opened.name.clone();
    let mut contents = opened.fs.open(&place).with_context(failed)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0u64;
    loop {
        let len = contents.read_at(at, &mut buffer).with_context(failed)?;
        if len == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..len).unwrap_or_default())?;
        at = at.saturating_add(len as u64);
    }
}
