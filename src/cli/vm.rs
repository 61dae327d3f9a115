//! `sane-image vm`.

mod disk;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum, ValueHint};
use rustix::io::{FdFlags, fcntl_setfd};
use sane_image::progress::Cancel;
use sane_image::read::escape;
use sane_image::vm::{
    self, Accelerator, Bus, Firmware, Forward, Guest, Options, Places, Processor, Screen, Serial, Start, Writes,
};

use self::disk::Source;
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
