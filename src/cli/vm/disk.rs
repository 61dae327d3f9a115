//! The disk of the machine: an image as it is, or one that is made for it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sane_image::build::{self, BuildError, Context, Forms, Outputs, Proof, Split};
use sane_image::container::Form;
use sane_image::convert::{self, Original};
use sane_image::copy::{self, Engine, Means};
use sane_image::formats::Format;
use sane_image::image::Image;
use sane_image::output::{Directory, Privacy, Scratch, kind_name};
use sane_image::plan::SizeMultiple;
use sane_image::progress::{Cancel, Progress};
use sane_image::read::escape;
use sane_image::vm::{Drive, Writes};

use super::VmArgs;
use crate::cli::args::InputArgs;
use crate::cli::input::{self, BadInput};
use crate::cli::{progress, threads};

/// What the user named.
pub(super) enum Source<'a> {
    Spec(&'a Path),
    Image(&'a Path),
    /// A disk that an earlier run has left.
    Kept(&'a Path),
}

/// A disk that is ready.
pub(super) struct Made {
    pub(super) drive: Drive,
    pub(super) image: Image,
    /// For messages.
    pub(super) named: PathBuf,
    /// The disk's file, if it has no name.
    pub(super) unnamed: Option<File>,
}

impl<'a> Source<'a> {
    pub(super) fn of(args: &'a VmArgs) -> Result<Self> {
        let source = args.source.as_path();
        let is_spec = is_spec(source)?;
        if !is_spec && args.store_root.is_some() {
            let problem = "--store-root is for a spec, and this is an image; leave it out";
            return Err(BadInput(format!("{}: {problem}", source.display())).into());
        }
        let Some(keep) = args.keep.as_deref() else {
            return Ok(if is_spec { Self::Spec(source) } else { Self::Image(source) });
        };
        match fs::metadata(keep) {
            Err(_) if is_spec => Ok(Self::Spec(source)),
            Err(_) => Ok(Self::Image(source)),
            Ok(there) if !there.is_file() => {
                let kind = kind_name(there.file_type());
                let problem = format!("is a {kind}; name a regular file, or one that does not exist");
                Err(BadInput(format!("--keep {}: {problem}", keep.display())).into())
            }
            Ok(there) if fs::metadata(source).is_ok_and(|of| (of.dev(), of.ino()) == (there.dev(), there.ino())) => {
                let problem = "is SOURCE itself, which would be changed; name another file";
                Err(BadInput(format!("--keep {}: {problem}", keep.display())).into())
            }
            Ok(_) => {
                let (keep_name, source) = (keep.display(), source.display());
                progress::note(&format!(
                    "{keep_name} exists: it is booted, and {source} is not used; remove it to start anew"
                ));
                Ok(Self::Kept(keep))
            }
        }
    }

    /// The disk, made as far as it has to be.
    pub(super) fn disk(&self, args: &VmArgs, progress: &dyn Progress, cancel: &Cancel) -> Result<Made> {
        match (self, args.keep.as_deref().filter(|_| !args.print)) {
            (Self::Kept(file), _) => Made::of_file(file, Writes::Kept),
            (Self::Spec(spec), Some(keep)) => {
                build_file(spec, args, keep, progress, cancel)?;
                Made::of_file(keep, Writes::Kept)
            }
            (Self::Spec(spec), None) => {
                let (name, file) = build_unnamed(spec, args, progress, cancel)?;
                Made::of_unnamed(file, &name, args.print)
            }
            (Self::Image(image), Some(keep)) => {
                convert_file(image, keep, progress, cancel)?;
                Made::of_file(keep, Writes::Kept)
            }
            (Self::Image(image), None) => Made::of_image(image, args.print, progress, cancel),
        }
    }
}

impl Made {
    fn of_file(path: &Path, writes: Writes) -> Result<Self> {
        let image = Image::open(path).with_context(|| escape::path(path))?;
        let format = match image.container().map(|container| container.form) {
            None => "raw",
            Some(Form::Qcow2) => "qcow2",
            Some(Form::Vmdk) => "vmdk",
            Some(Form::Vhd) => "vpc",
            Some(Form::Vhdx) => "vhdx",
            Some(Form::Zst) => {
                let problem = "is compressed, and nothing can be written to it; name another file";
                return Err(BadInput(format!("--keep {}: {problem}", path.display())).into());
            }
        };
        let file = std::path::absolute(path).with_context(|| path.display().to_string())?;
        Ok(Self { drive: Drive { file, format, writes }, image, named: path.to_owned(), unnamed: None })
    }

    /// A raw image without a name; where nothing is started, `name` stands for it.
    fn of_unnamed(file: File, name: &Path, is_printed: bool) -> Result<Self> {
        let image = Image::from_file(file.try_clone()?).with_context(|| escape::path(name))?;
        let path = if is_printed { name.to_owned() } else { format!("/proc/self/fd/{}", file.as_raw_fd()).into() };
        if is_printed {
            progress::note(&format!("{} stands for the image, which is made anew for each run", name.display()));
        }
        let drive = Drive { file: path, format: "raw", writes: Writes::Forgotten };
        Ok(Self { drive, image, named: name.to_owned(), unnamed: Some(file) })
    }

    /// QEMU reads an image itself, unless that is compressed in a way that it does not know.
    fn of_image(path: &Path, is_printed: bool, progress: &dyn Progress, cancel: &Cancel) -> Result<Self> {
        let image = Image::open(path).with_context(|| escape::path(path))?;
        if image.container().is_none_or(|container| container.form != Form::Zst) {
            return Self::of_file(path, Writes::Aside);
        }
        let directory = temporary();
        progress.relay(&format!(
            "sane-image: note: {} is unpacked into a file without a name in {}",
            path.display(),
            directory.display()
        ));
        let file = tempfile::tempfile_in(&directory).with_context(|| directory.display().to_string())?;
        let original = Original::open(path, threads::count(None), progress).with_context(|| escape::path(path))?;
        original.to_raw(&file, means(progress, cancel)).with_context(|| escape::path(path))?;
        Self::of_unnamed(file, Path::new(path.file_stem().unwrap_or(OsStr::new("disk.img"))), is_printed)
    }
}

/// Whether a file is a spec: no image starts with what JSON does.
fn is_spec(path: &Path) -> Result<bool> {
    let failed = || format!("{}: cannot be read", path.display());
    if path == Path::new("-") {
        return Err(BadInput("-: standard input is the machine's serial port; name a file".to_owned()).into());
    }
    if !fs::metadata(path).with_context(failed)?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start)).with_context(failed)?;
    Ok(start.trim_ascii_start().starts_with(b"{"))
}

fn means<'a>(progress: &'a dyn Progress, cancel: &'a Cancel) -> Means<'a> {
    Means { options: copy::Options { threads: threads::count(None), engine: Engine::Auto }, progress, cancel }
}

/// Calls `make` with what it takes to build a spec, and with the spec's installBootloader.
fn with_spec<T>(
    spec: &Path,
    args: &VmArgs,
    progress: &dyn Progress,
    cancel: &Cancel,
    make: impl FnOnce(&mut build::Prepared, Option<&str>, Context<'_>) -> Result<T>,
) -> Result<T> {
    let input = InputArgs { spec: spec.to_owned(), store_root: args.store_root.clone() };
    let (spec, store_root) = input::read(&input)?;
    let options = build::Options {
        store_root: &store_root,
        copy: means(progress, cancel).options,
        proof: Proof::None,
        extra_files: None,
        size_multiple: SizeMultiple::default(),
    };
    let context = Context { options, progress, cancel };
    let mut prepared = build::prepare(&spec, context)?;
    make(&mut prepared, spec.install_bootloader.as_deref(), context)
}

/// A raw image of a spec, without a name, and what it would be called.
fn build_unnamed(spec: &Path, args: &VmArgs, progress: &dyn Progress, cancel: &Cancel) -> Result<(PathBuf, File)> {
    let directory = temporary();
    progress
        .relay(&format!("sane-image: note: the image is built in a file without a name in {}", directory.display()));
    with_spec(spec, args, progress, cancel, |prepared, bootloader, context| {
        let file = build::nameless(prepared, &directory, bootloader, context)?;
        Ok((format!("{}.img", prepared.plan.name).into(), file))
    })
}

/// A qcow2 of a spec, as `keep`.
fn build_file(spec: &Path, args: &VmArgs, keep: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<()> {
    let beside = keep.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    with_spec(spec, args, progress, cancel, |prepared, bootloader, context| {
        let forms = Forms::new(&[Format::Qcow2], None, false, Split::No)?;
        let directory = Directory::open(beside)?;
        let scratch = Scratch::beside(directory.path())?;
        let name = prepared.plan.name.clone();
        let outputs = Outputs::open(scratch.path(), &name, &forms, Privacy::Usual).map_err(BuildError::from)?;
        build::build(prepared, outputs, &forms, bootloader, context).map_err(|error| match error {
            // The user knows it by the name that it would have got.
            BuildError::Form { error, .. } => BuildError::Form { path: keep.to_owned(), error },
            error => error,
        })?;
        let made = scratch.path().join(format!("{name}{}", Format::Qcow2.suffix()));
        fs::rename(made, keep).with_context(|| format!("{}: cannot be put in place", keep.display()))?;
        Ok(directory.keep()?)
    })
}

/// A qcow2 of an image, as `keep`.
fn convert_file(image: &Path, keep: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<()> {
    let named = || escape::path(image);
    let original = Original::open(image, threads::count(None), progress).with_context(named)?;
    let form = convert::Form { format: Format::Qcow2, level: Format::Qcow2.default_level(), block_map: false };
    original.to_file(form, keep, means(progress, cancel)).with_context(named)?;
    Ok(())
}

/// Where large files are for a while: not where memory is the disk, as /tmp often is.
fn temporary() -> PathBuf {
    let usual = || Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir());
    std::env::var_os("TMPDIR")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(usual)
        .unwrap_or("/tmp".into())
}
