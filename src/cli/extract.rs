//! `sane-image extract`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use indicatif::{BinaryBytes, HumanCount};
use sane_image::extract::{self, ExtractError, Links, Plan};
use sane_image::output::Directory;
use sane_image::progress::Cancel;
use sane_image::read::escape;
use sane_image::read::resolve::Last;

use super::complete;
use super::look::{self, Opened, Outcome, PartArgs};
use super::{progress, signals};

/// Copy files out of an image, into a directory or as a tar.
///
/// Each file keeps its path: `nix/store/…-hello/bin/hello` becomes DIR/nix/store/…-hello/bin/hello. Modes, times and
/// links are restored; owners, and the set-user-ID, set-group-ID and sticky bits, only in a tar. Nothing that exists is
/// overwritten, and nothing is written outside DIR. If a name or a link would lead out of DIR, nothing is extracted.
/// The links of a NixOS system lead to /nix/store, so say with --links what to do with them. In a tar, links stay as
/// they are.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["out", "tar"]), after_long_help = "\
Examples:
  The whole boot partition:
    sane-image extract nixos.img boot --out boot
  A system's configuration, its links made to work where it lands:
    sane-image extract nixos.img nix /nix/store/…-etc --out etc --links relative
  A store path, to another machine:
    sane-image extract nixos.img nix /nix/store/…-hello --tar | ssh host tar -x -C /")]
pub(super) struct ExtractArgs {
    #[command(flatten)]
    part: PartArgs,
    /// What to extract; a directory with everything in it [default: everything]
    #[arg(value_name = "PATH", add = complete::path())]
    paths: Vec<PathBuf>,
    /// Write the files to this directory; it is made if it does not exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Write a tar to standard output
    #[arg(long)]
    tar: bool,
    /// What to do with links that lead out of DIR
    #[arg(long, value_enum, default_value_t = LinksArg::Refuse, conflicts_with = "tar")]
    links: LinksArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LinksArg {
    /// They are an error, and nothing is extracted
    Refuse,
    /// They are written as they are: following them leads out of DIR
    Keep,
    /// Absolute ones are written so that they lead to the same file below DIR
    Relative,
}

pub(super) fn run(args: &ExtractArgs, cancel: &Cancel) -> Result<Outcome> {
    if args.tar && io::stdout().is_terminal() {
        look::bad_usage("--tar does not write to a terminal; redirect standard output to a file or a pipe");
    }
    let opened = args.part.open()?;
    let plan = plan(args, &opened)?;
    let progress = progress::for_stderr();
    let fs = opened.fs.as_ref();
    match &args.out {
        Some(out) => {
            signals::watch(cancel)?;
            let directory = Directory::open(out)?;
            extract::to_directory(fs, &plan, out, progress.as_ref(), cancel).with_context(|| opened.name.clone())?;
            drop(progress);
            report(&plan, out)?;
            directory.keep()?;
        }
        None => match extract::to_tar(fs, &plan, look::stdout(), progress.as_ref(), cancel) {
            Err(ExtractError::Tar(error)) => return Err(error.into()),
            done => done.with_context(|| opened.name.clone())?,
        },
    }
    Ok(tell_special(&opened, &plan))
}

fn plan(args: &ExtractArgs, opened: &Opened) -> Result<Plan> {
    let mut roots = Vec::new();
    for path in &args.paths {
        roots.push(opened.find(path, Last::Keep)?.0);
    }
    if args.paths.is_empty() {
        roots.push(PathBuf::new());
    }
    let links = match args.links {
        LinksArg::Keep => Links::Keep,
        _ if args.tar => Links::Keep,
        LinksArg::Refuse => Links::Refuse,
        LinksArg::Relative => Links::Relative,
    };
    match extract::plan(opened.fs.as_ref(), &roots, links, opened) {
        Err(error @ ExtractError::Refused(_)) => Err(anyhow!("{error}\n{}", remedy(links))),
        planned => planned.with_context(|| opened.name.clone()),
    }
}

fn remedy(links: Links) -> &'static str {
    match links {
        Links::Refuse => "--links relative makes absolute links lead below DIR, --links keep writes links as they are",
        Links::Relative | Links::Keep => "--links keep writes links as they are; --tar packs everything as it is",
    }
}

fn report(plan: &Plan, out: &std::path::Path) -> Result<()> {
    let total = plan.total;
    let (files, directories, links) = (total.files, total.directories, total.links);
    let counts = [files, directories, links].map(HumanCount);
    let [files, directories, links] = counts;
    let bytes = BinaryBytes(total.bytes);
    let out = out.display();
    writeln!(io::stdout().lock(), "{out}: {files} files of {bytes}, {directories} directories, {links} links")?;
    Ok(())
}

/// Devices are left out, which is a failure: not everything that was asked for is there.
fn tell_special(opened: &Opened, plan: &Plan) -> Outcome {
    for path in &plan.special {
        let path = escape::path(path);
        look::complain(&anyhow!("{}: {path}: left out: a device, a socket or a pipe", opened.name));
    }
    opened.outcome.and(if plan.special.is_empty() { Outcome::Done } else { Outcome::Failed })
}
