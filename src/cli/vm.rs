//! `sane-image vm`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum, ValueHint};
use rustix::io::{FdFlags, fcntl_setfd};
use sane_image::build::{self, BuildError, Context, Forms, Outputs, Proof, Split};
use sane_image::container::Form;
use sane_image::convert::Original;
use sane_image::copy::{self, Engine, Means};
use sane_image::formats::Format;
use sane_image::image::Image;
use sane_image::output::{Directory, Privacy, Scratch, kind_name};
use sane_image::plan::SizeMultiple;
use sane_image::progress::{Cancel, Progress};
use sane_image::read::escape;
use sane_image::vm::{
    self, Accelerator, Bus, Drive, Firmware, Forward, Guest, Options, Places, Processor, Screen, Serial, Start, Writes,
};

use super::args::InputArgs;
use super::input::{self, BadInput};
use super::{progress, threads};

/// The most processors that a machine gets by default.
const MOST_CPUS: u32 = 4;
/// Mebibytes in a gibibyte.
const GIB: u32 = 1024;
/// Where programs and users put directories with firmware, with colons in between.
const FIRMWARE: &str = "SANE_IMAGE_FIRMWARE";

/// Boot a spec or an image in QEMU.
///
/// Chooses the machine and its firmware by what the image boots with: UEFI, U-Boot or a BIOS. Uses KVM if it works. The
/// image does not change: what the machine writes is lost, unless --keep names a file. The terminal is the machine's
/// serial port; Ctrl-A X ends the machine. The exit code is QEMU's.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Does it boot?
    sane-image vm nixos.img
  The host that a spec describes, with its web server on http://localhost:8080:
    sane-image vm spec.json --forward 8080:80
  An image for UEFI and BIOS: does it boot by BIOS, too?
    sane-image vm nixos.img --firmware bios
  A machine that keeps what it writes for the next time:
    sane-image vm spec.json --keep machine.qcow2
  By emulation, with QEMU waiting for a debugger:
    sane-image vm nixos.img -- -accel tcg -s -S")]
pub(super) struct VmArgs {
    /// A JSON spec; or a disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), or a block device
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    source: PathBuf,
    /// For a spec: read /nix/store/… from DIR/nix/store/…, as in a chroot store
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store_root: Option<PathBuf>,
    /// Memory, in MiB, or as in 4G; it is taken from this machine as the guest uses it
    #[arg(long, value_name = "M", default_value = "2G", value_parser = parse_memory)]
    memory: NonZeroU32,
    /// Processors [default: as many as this machine has, but no more than 4]
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<NonZeroU32>,
    /// Forward TCP port HOST of this machine to port GUEST; only this machine can connect; may be repeated
    #[arg(long, value_name = "HOST:GUEST")]
    forward: Vec<Forward>,
    /// Open a window with a screen, keyboard and mouse; the terminal stays the serial port
    #[arg(long)]
    display: bool,
    /// Start by this, of an image that starts in several ways [default: uefi, or else u-boot, or else bios]
    #[arg(long, value_enum)]
    firmware: Option<FirmwareArg>,
    /// The bus of the disk [default: nvme, unless U-Boot finds none there, as on RISC-V]
    #[arg(long, value_enum)]
    disk: Option<DiskArg>,
    /// Keep what the machine writes: make FILE, a qcow2 of the whole disk, and boot it; if FILE exists, go on with it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    keep: Option<PathBuf>,
    /// Print QEMU's command line, and start nothing
    #[arg(long)]
    print: bool,
    /// More arguments for QEMU; they come last and override others
    #[arg(last = true, value_name = "QEMU")]
    qemu: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DiskArg {
    /// NVMe, whose driver is in the initrd of every NixOS with includeDefaultModules
    Nvme,
    /// Virtio, for systems that are made for virtual machines
    Virtio,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FirmwareArg {
    /// By a program in EFI/BOOT
    Uefi,
    /// By extlinux.conf
    UBoot,
    /// By the code in the first sector
    Bios,
}

impl From<FirmwareArg> for Start {
    fn from(firmware: FirmwareArg) -> Self {
        match firmware {
            FirmwareArg::Uefi => Self::Uefi,
            FirmwareArg::UBoot => Self::UBoot,
            FirmwareArg::Bios => Self::Bios,
        }
    }
}

impl VmArgs {
    /// The spec, if it is one.
    pub(super) fn source(&self) -> &Path {
        &self.source
    }
}

pub(super) fn run(args: &VmArgs, cancel: &Cancel) -> Result<()> {
    let source = Source::of(args)?;
    let progress = progress::for_stderr();
    let made = source.disk(args, progress.as_ref(), cancel)?;
    drop(progress);
    let wanted = args.firmware.map(Start::from);
    let guest = Guest::of(&made.image, Processor::of_host(), wanted).with_context(|| escape::path(&made.named))?;
    let qemu = find_program(&guest.processor.qemu()).ok_or_else(|| no_qemu(guest.processor))?;
    let firmware = firmware(&guest, &qemu)?;
    let options = options(args, &guest);
    let words = vm::arguments(&guest, &firmware, &made.drive, &options);
    if args.print {
        return print(&qemu, &words);
    }
    tell(&guest, &options, made.drive.writes, args.keep.as_deref());
    // Whoever asked to stop meanwhile does not want a machine.
    cancel.check()?;
    if let Some(file) = &made.unnamed {
        // QEMU opens it by its number.
        fcntl_setfd(file.as_fd(), FdFlags::empty()).context("cannot hand the disk to QEMU")?;
    }
    let error = Command::new(&qemu).args(words).exec();
    Err(anyhow!("{}: cannot be started: {error}", qemu.display()))
}

/// What the user named.
enum Source<'a> {
    Spec(&'a Path),
    Image(&'a Path),
    /// A disk that an earlier run has left.
    Kept(&'a Path),
}

/// A disk that is ready.
struct Made {
    drive: Drive,
    image: Image,
    /// For messages.
    named: PathBuf,
    /// The disk's file, if it has no name.
    unnamed: Option<File>,
}

impl<'a> Source<'a> {
    fn of(args: &'a VmArgs) -> Result<Self> {
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
    fn disk(&self, args: &VmArgs, progress: &dyn Progress, cancel: &Cancel) -> Result<Made> {
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
    let form =
        sane_image::convert::Form { format: Format::Qcow2, level: Format::Qcow2.default_level(), block_map: false };
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

/// A program on PATH.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(is_program)
}

fn no_qemu(processor: Processor) -> anyhow::Error {
    let (name, debian) = (processor.qemu(), processor.qemu_in_debian());
    anyhow!("{name}: is not on PATH, and nothing else boots {processor}; install {debian} (Debian) or qemu (Nix)")
}

fn firmware(guest: &Guest, qemu: &Path) -> Result<Firmware> {
    let own = std::env::var_os(FIRMWARE).unwrap_or_default();
    let own = std::env::split_paths(&own).filter(|path| !path.as_os_str().is_empty()).collect();
    // Nix leaves links to QEMU wherever PATH leads, and its firmware is beside what they lead to.
    let qemu = qemu.canonicalize().unwrap_or_else(|_| qemu.to_owned());
    Ok(Places::usual(own, &qemu, std::env::home_dir().as_deref()).find(guest.processor, guest.start)?)
}

fn options(args: &VmArgs, guest: &Guest) -> Options {
    let cores = u32::try_from(threads::count(None).get()).unwrap_or(MOST_CPUS).min(MOST_CPUS);
    Options {
        memory: args.memory,
        cpus: args.cpus.or(NonZeroU32::new(cores)).unwrap_or(NonZeroU32::MIN),
        forwards: args.forward.clone(),
        screen: if args.display { Screen::Window } else { Screen::None },
        serial: if io::stdin().is_terminal() { Serial::Terminal } else { Serial::Streams },
        bus: match args.disk {
            Some(DiskArg::Nvme) => Bus::Nvme,
            Some(DiskArg::Virtio) => Bus::Virtio,
            None => guest.bus(),
        },
        accelerator: Options::accelerator_in(&args.qemu).unwrap_or_else(|| accelerator(guest.processor)),
        more: args.qemu.clone(),
    }
}

/// KVM for the host's own processor, where the kernel lets us; else emulation, and why.
fn accelerator(processor: Processor) -> Accelerator {
    let why = match File::options().read(true).write(true).open("/dev/kvm") {
        _ if Processor::of_host() != Some(processor) => format!("the image is for {processor}"),
        Ok(_) if runs_firmware(processor) => return Accelerator::Kvm,
        Ok(_) => "the KVM of this machine is not that of its processor (neither kvm_intel nor kvm_amd)".to_owned(),
        Err(error) => format!("/dev/kvm cannot be opened ({error})"),
    };
    progress::note(&format!("{why}, so that the machine is emulated, which is slow"));
    Accelerator::Tcg
}

/// Whether KVM runs what a machine starts with. In virtual machines that have no virtualization of their processor there can
/// be a KVM by other means, which runs kernels made for it, and hangs in firmware.
fn runs_firmware(processor: Processor) -> bool {
    let is_loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    processor != Processor::X86_64 || ["kvm_intel", "kvm_amd"].into_iter().any(is_loaded)
}

/// Prints what the user should know before the terminal belongs to the machine.
fn tell(guest: &Guest, options: &Options, writes: Writes, keep: Option<&Path>) {
    let kept = match (writes, keep) {
        (Writes::Kept, Some(file)) => format!("what it writes stays in {}", file.display()),
        _ => "what it writes is lost".to_owned(),
    };
    let ends = if options.serial == Serial::Terminal { "; Ctrl-A X ends it, Ctrl-A H shows help" } else { "" };
    let by = if options.accelerator == Accelerator::Kvm { " and KVM" } else { "" };
    progress::note(&format!("a machine with {}, {}{by}; {kept}{ends}", guest.processor, guest.start.name()));
    if guest.start == Start::UBoot && options.bus == Bus::Virtio && guest.sector_size.bytes() != 512 {
        progress::note(
            "U-Boot assumes that every virtio disk has sectors of 512 bytes, but this one has not; leave --disk out",
        );
    }
    if guest.is_silent() && options.screen == Screen::None {
        let serial = guest.processor.serial();
        progress::note(&format!(
            "the system prints nothing on the serial port, because its kernel has no parameter console={serial}; use \
             --display, or put \"console={serial}\" into boot.kernelParams"
        ));
    }
}

/// The command line as a shell takes it.
fn print(qemu: &Path, words: &[OsString]) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let words = std::iter::once(qemu.as_os_str()).chain(words.iter().map(OsString::as_os_str));
    let quoted: Result<Vec<_>, _> = words.map(|word| shlex::bytes::try_quote(word.as_bytes())).collect();
    let mut line = quoted?.join(&b' ');
    line.push(b'\n');
    Ok(io::stdout().lock().write_all(&line)?)
}

/// The value of `--memory`, in MiB.
fn parse_memory(text: &str) -> Result<NonZeroU32, &'static str> {
    let (number, unit) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, GIB),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let memory = number.parse().ok().and_then(|number: u32| number.checked_mul(unit)).and_then(NonZeroU32::new);
    memory.ok_or("it must be a number of MiB, at least 1, or a size such as 512M or 4G")
}

/// The value of `--cpus`.
fn parse_cpus(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "it must be a number, at least 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_mebibytes() {
        for (text, memory) in [("512", 512), ("512M", 512), ("1m", 1), ("4G", 4096), ("2g", 2048)] {
            assert_eq!(parse_memory(text).map(NonZeroU32::get), Ok(memory), "{text}");
        }
        for text in ["0", "0G", "", "G", "-1", "1.5G", "4GB", "4K", "4 G", "4294967295G"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
