//! `sane-image inspect`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use sane_image::image::Image;
use sane_image::inspect::{self, Style};
use sane_image::output::Page;
use sane_image::read::escape;

use super::look::{self, Outcome};

/// The width of text that goes to no terminal.
const WIDTH: u16 = 100;

/// Show what is in an image: disk, filesystems, store, and what will boot.
///
/// Reads the partition table and all directories, and the contents of the few files that say what boots and what is
/// registered; `verify` reads everything. If something cannot be read, it prints that, shows the rest and exits 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Why is it so big? A page with a map of the store, to be opened in a browser:
    sane-image inspect nixos.img --html nixos.html
  Which kernel boots by default?
    sane-image inspect nixos.img --json | jq -r '.boot.entries[] | select(.default) | .kernel.path'")]
pub(super) struct InspectArgs {
    /// A disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), a bare partition image, or a block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Print the report as JSON; docs/reference/inspect-json.md describes it
    #[arg(long)]
    json: bool,
    /// Write the report to this file as a web page instead of printing it; with --json, do both; `-` is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &InspectArgs) -> Result<Outcome> {
    if args.json && args.html.as_deref() == Some(Path::new("-")) {
        look::bad_usage("--html - and --json would both write to standard output");
    }
    // Bad usage is reported before the image is read.
    let page = args.html.as_deref().map(Page::open).transpose()?;
    let name = escape::path(&args.image);
    let image = Image::open(&args.image).with_context(|| name.clone())?;
    let report = inspect::inspect(&image, &name);
    if let Some(page) = page {
        page.write(inspect::html(&report).as_bytes())?;
    }
    let mut stdout = io::stdout().lock();
    if args.json {
        stdout.write_all(report.to_json().as_bytes())?;
    } else if args.html.is_none() {
        stdout.write_all(inspect::text(&report, style()).as_bytes())?;
    }
    Ok(if report.problems.is_empty() { Outcome::Done } else { Outcome::Failed })
}

/// Colours and the whole width on a terminal, neither elsewhere.
fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    let columns =
        if is_terminal { rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col) } else { 0 };
    let width = usize::from(if columns == 0 { WIDTH } else { columns.min(160) });
    Style { width, colour: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
}
