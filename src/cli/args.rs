//! The command line as the user gives it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use sane_image::formats::Format;

use super::cat::CatArgs;
use super::convert::ConvertArgs;
use super::diff::DiffArgs;
use super::extract::ExtractArgs;
use super::flash::FlashArgs;
use super::inspect::InspectArgs;
use super::ls::LsArgs;
use super::sign::SignArgs;
use super::threads;
use super::verify::VerifyArgs;
use super::vm::VmArgs;

/// Turn a NixOS system closure into a bootable disk image.
///
/// Needs no root, no VM, no loop device and no mkfs, and makes the same bytes on every machine.
#[derive(Debug, Parser)]
#[command(name = "sane-image", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, and nothing is left under the final name (flash says what state the device is in); faults found (verify); differences found (diff)
  2  bad usage, or a bad spec
SIGINT and SIGTERM clean up, then end the program as they usually do (130 and 143 in a shell).";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Build(BuildArgs),
    Plan(PlanArgs),
    Add(AddArgs),
    Sign(SignArgs),
    Convert(ConvertArgs),
    Flash(FlashArgs),
    Vm(VmArgs),
    Inspect(InspectArgs),
    Ls(LsArgs),
    Cat(CatArgs),
    Extract(ExtractArgs),
    Verify(VerifyArgs),
    Diff(DiffArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Build the image that a spec describes.
///
/// Writes DIR/<name>.img, or one file for each form of --format, and DIR/layout.json, which lists where everything is
/// in the image. A file gets its name only when it is complete.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  Build the image of the example closure, whose store is below the folder of the spec:
    sane-image build tests/fixtures/example/spec.json --store-root tests/fixtures/example --out result
  With keys that are not in the Nix store, in secrets/etc/ssh and secrets/home/alice/.ssh:
    sane-image build spec.json --extra-files secrets --chown /home/alice 1000:100 --out result
  For a hypervisor and for cards, the same disk:
    sane-image build spec.json --format qcow2,zst --bmap --out result
  To a machine elsewhere, without a file in between:
    sane-image build spec.json --format zst --out - | ssh host 'zstd -d | dd of=/dev/sdX bs=4M iflag=fullblock'")]
pub(super) struct BuildArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    /// Write the image and layout.json into this directory; with --only, write the partition to this file; `-` is
    /// standard output, to which raw and zst can go
    #[arg(long, value_name = "DIR", value_hint = ValueHint::AnyPath)]
    pub(super) out: PathBuf,
    /// Make a file of each of these forms, all with the same disk [default: raw]; with --only, only gce is allowed: its
    /// disk is larger
    #[arg(long, value_name = "FORM", value_delimiter = ',', value_parser = formats())]
    pub(super) format: Vec<Format>,
    /// Compress at this level: zst and qcow2+zstd from 1 to 22 [default: 3], vmdk and gce from 1 to 9 [default: 6]
    #[arg(long, value_name = "N", conflicts_with = "only", allow_negative_numbers = true)]
    pub(super) level: Option<i32>,
    /// Also write <name>.img.bmap: the blocks that a device needs, and their checksums, for `bmaptool copy`
    #[arg(long, conflicts_with = "only")]
    pub(super) bmap: bool,
    /// Also write the files with which systemd-sysupdate brings this version to a machine that has another one, and
    /// their SHA256SUMS; the spec has to have updates; `--split=only` makes no image
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "beside",
        conflicts_with = "only")]
    pub(super) split: Option<SplitArg>,
    /// Write only the filesystem of one partition, the same bytes as in the whole image
    #[arg(long, value_enum, value_name = "PART")]
    pub(super) only: Option<Part>,
    /// Do not run the spec's installBootloader, and do not rehearse it
    #[arg(long)]
    pub(super) no_bootloader: bool,
    /// How many threads to use, at most four per core; the image is the same [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Verify the image, as `verify` does, before it gets its final name
    #[arg(long)]
    pub(super) verify: bool,
    /// How to copy the contents of files; the image is the same
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    pub(super) io: Io,
}

/// Show what `build` would make, and where everything would be, without writing an image.
///
/// Scans the closure and runs populateCmd, as `build` does, and so prints the same errors if something does not fit.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  How large will the image be, in bytes?
    sane-image plan spec.json --json | jq .size")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    /// Print the plan as JSON, the same as layout.json
    #[arg(long)]
    pub(super) json: bool,
}

/// Add files to an image that exists.
///
/// With it, one image serves many machines, each with its own keys. Files go where the system in the image mounts its
/// filesystems: /boot/x goes to the boot partition. Everything else in the image stays. A file of the same name is
/// replaced, except in the store. Only the owner may read the new image. The old image stays as it is until the new one
/// is complete, and with --out it is never changed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  A copy of an image for the machine called berta, with its host key in berta/etc/ssh:
    sane-image add nixos.img --extra-files berta --out berta.img")]
pub(super) struct AddArgs {
    /// The image: a disk or one filesystem, made by any program
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(super) image: PathBuf,
    /// Copy everything in DIR to `/` of the image, with its modes, owned by root; directories that exist keep their
    /// mode and owner
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) extra_files: PathBuf,
    /// Set the owner of PATH, which is one of the new files, and of everything below it; may be repeated, the last one
    /// counts
    #[arg(long, num_args = 2, value_names = ["PATH", "UID:GID"])]
    pub(super) chown: Vec<OsString>,
    /// Write the new image to FILE [default: it replaces IMAGE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) out: Option<PathBuf>,
    /// How many threads to use; the image is the same [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads::parse_jobs)]
    pub(super) jobs: Option<NonZeroUsize>,
}

/// Print a completion script for a shell.
///
/// It completes commands, options and their values, files, the partitions of an image, and the files in them. The
/// script runs `sane-image` from your PATH.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  The folders in which shells look for scripts:
    sane-image completions bash > ~/.local/share/bash-completion/completions/sane-image
    sane-image completions fish > ~/.config/fish/completions/sane-image.fish
    sane-image completions zsh > ~/.zsh/completions/_sane-image")]
pub(super) struct CompletionsArgs {
    /// The shell to complete in
    pub(super) shell: Shell,
}

/// Write man pages: one for the program and one for each command.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  To read them, if your manpath has ~/.local/share/man:
    sane-image man ~/.local/share/man/man1 && man sane-image-build")]
pub(super) struct ManArgs {
    /// The directory to write them to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) dir: PathBuf,
}

/// The input of an image.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// The JSON spec, as the NixOS module writes it; `-` reads it from standard input
    #[arg(value_name = "SPEC")]
    pub(super) spec: PathBuf,
    /// Read /nix/store/… from DIR/nix/store/…, as in a chroot store; paths in the image do not change
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) store_root: Option<PathBuf>,
}

/// Files that are added to the image.
#[derive(Debug, Args)]
pub(super) struct OwnArgs {
    /// Copy everything in DIR to `/` of the image, with its modes, owned by root; only you may read the image then
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) extra_files: Option<PathBuf>,
    /// Set the owner of PATH in the image and of everything below it, except store paths; may be repeated, the last one
    /// counts
    #[arg(long, num_args = 2, value_names = ["PATH", "UID:GID"], requires = "extra_files")]
    pub(super) chown: Vec<OsString>,
}

/// Takes the name of a form.
pub(super) fn formats() -> impl TypedValueParser<Value = Format> {
    let named = |name: String| Format::ALL.into_iter().find(|format| format.name() == name).ok_or("no such form");
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(named)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SplitArg {
    /// Beside the image
    Beside,
    /// In the place of the image
    Only,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Part {
    /// The ESP
    Boot,
    /// The filesystem that holds the store
    Nix,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Io {
    /// The fastest way that the filesystems allow
    Auto,
    /// Share the extents of large files between store and image; an error if the filesystem cannot
    Reflink,
    /// Write past the page cache; an error if the filesystem cannot
    Direct,
    /// Let the kernel or a file server copy large files; an error if it cannot
    #[value(name = "copy_file_range", alias = "copy-file-range")]
    CopyFileRange,
    /// Write through the page cache
    Buffered,
}
