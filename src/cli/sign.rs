//! `sane-image sign`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use sane_image::copy::{self, Engine, Means};
use sane_image::progress::Cancel;
use sane_image::read::escape;
use sane_image::sign::{self, Outcome, Program, Signer, Tool};

use super::{progress, threads};

/// Sign the programs for UEFI in an image, for Secure Boot.
///
/// Signs every *.efi program on the ESP and on XBOOTLDR: systemd-boot, unified kernel images, kernels. The key is
/// used here, outside of Nix: it comes into no store and no image. sbsign or systemd-sbsign does the signing. A program
/// that this certificate has signed already stays as it is, so that an image may be signed again. The signatures must
/// fit into the free space of the partition. Everything else in the image stays. The old image stays as it is until the
/// new one is complete, and with --out it is never changed.
///
/// Firmware starts the result if the certificate is in its db. It checks a program as a whole: in a unified kernel
/// image that is the kernel, the initrd and the command line with the root hash of dm-verity. Other boot entries name an
/// initrd and a command line that nobody checks.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  A key and its certificate for ten years, and a signed copy of an image:
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=my images' -keyout db.key -out db.pem
    sane-image sign nixos.img --key db.key --certificate db.pem --out signed.img
  The unified kernel image of an update:
    sane-image sign box_2.efi --key db.key --certificate db.pem
  With the tool of systemd:
    sane-image sign nixos.img --key db.key --certificate db.pem --tool systemd-sbsign")]
pub(super) struct SignArgs {
    /// The image: a disk, an ESP, or a single program (*.efi)
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    image: PathBuf,
    /// The private key, in PEM form; a passphrase is asked for once a program
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    key: PathBuf,
    /// The certificate of the key, in PEM form
    #[arg(long, value_name = "CERT", value_hint = ValueHint::FilePath)]
    certificate: PathBuf,
    /// Write the signed image to FILE [default: it replaces IMAGE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Sign with sbsign or systemd-sbsign, or with the one at this path [default: sbsign, or else systemd-sbsign]
    #[arg(long, value_name = "TOOL", value_hint = ValueHint::CommandName)]
    tool: Option<PathBuf>,
}

pub(super) fn run(args: &SignArgs, cancel: &Cancel) -> Result<()> {
    let signer = Signer::new(Tool::find(args.tool.as_deref())?, &args.key, &args.certificate)?;
    let out = args.out.as_ref().unwrap_or(&args.image);
    let progress = progress::for_stderr();
    let options = copy::Options { threads: threads::count(None), engine: Engine::Auto };
    let means = Means { options, progress: progress.as_ref(), cancel };
    let signed = sign::sign(&args.image, &signer, out, means);
    drop(progress);
    let programs = match signed {
        Err(error) if error.is_of_image() => return Err(error).context(args.image.display().to_string()),
        signed => signed?,
    };
    let mut stdout = io::stdout().lock();
    for program in &programs {
        writeln!(stdout, "{}", line(program))?;
    }
    let count = |outcome| programs.iter().filter(|program| program.outcome == outcome).count();
    let (new, old) = (count(Outcome::Signed), count(Outcome::WasSigned));
    writeln!(stdout, "{}: {new} signed, {old} signed before", escape::path(out))?;
    Ok(())
}

fn line(Program { partition, path, outcome }: &Program) -> String {
    let place = partition.map_or_else(String::new, |number| format!("partition {number}: /"));
    let outcome = match outcome {
        Outcome::Signed => "signed",
        Outcome::WasSigned => "signed before",
    };
    format!("{place}{}: {outcome}", escape::path(path))
}
