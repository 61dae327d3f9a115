//! Machines: QEMU with a firmware and one disk.

use std::path::Path;
use std::process::Command;

use crate::guest::Arch;
use crate::support::machine::HEADLESS;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, tool};

/// What a machine starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// EDK2: OVMF on x86_64, AAVMF on aarch64.
    Uefi,
    UBoot,
    /// SeaBIOS, which QEMU has by itself.
    Bios,
    /// None that matters: QEMU loads the kernel that its command line names.
    Skipped,
}

/// What a machine's disk is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    Virtio,
    Nvme,
}

/// What a machine's disk is the contents of. QEMU is told and does not guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Raw,
    Qcow2,
    Vmdk,
}

impl Form {
    /// What QEMU calls it, and `build --format`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }
}

/// Whether what a machine writes lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Forgotten,
    Kept,
}

/// A kind of machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) arch: Arch,
    pub(crate) firmware: Firmware,
    pub(crate) bus: Bus,
    pub(crate) form: Form,
    /// Of the disk, in bytes.
    pub(crate) sector_size: u32,
}

impl Machine {
    /// A machine whose disk is a raw image and has 512-byte sectors.
    pub(crate) fn new(arch: Arch, firmware: Firmware) -> Self {
        Self { arch, firmware, bus: Bus::Virtio, form: Form::Raw, sector_size: 512 }
    }

    /// Whether such a machine can be had. If not, says that the test skips what needs it.
    pub(crate) fn need(&self) -> bool {
        let here = |firmware: &str| Path::new(firmware).exists() || skip(Lack::Other(format!("no {firmware}")));
        need(self.program()) && self.firmware_file().is_none_or(here)
    }

    /// The machine with this disk, not yet started; its serial line is its stdin and stdout.
    pub(crate) fn command(&self, disk: &Path, writes: Writes) -> Command {
        let mut command = tool(self.program());
        match self.arch {
            Arch::X86_64 => command.args(["-machine", "q35,accel=tcg", "-cpu", "max"]),
            // Every feature of `max` is emulated with care, which takes twice as long.
            Arch::Aarch64 => command.args(["-machine", "virt,accel=tcg", "-cpu", "cortex-a57"]),
        };
        command.args(["-m", "1024"]);
        command.args(self.firmware_file().iter().flat_map(|file| ["-bios", file]));
        command.args(HEADLESS);
        let snapshot = match writes {
            Writes::Forgotten => "on",
            Writes::Kept => "off",
        };
        // A comma in a file's name would end it.
        let file = disk.to_str().unwrap().replace(',', ",,");
        let form = self.form.name();
        command
            .arg("-drive")
            .arg(format!("if=none,id=disk,format={form},cache=unsafe,snapshot={snapshot},file={file}"));
        let device = match self.bus {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Nvme => "nvme,serial=disk",
        };
        let size = self.sector_size;
        let sectors = format!("logical_block_size={size},physical_block_size={size}");
        // QEMU itself takes the first place for a kernel that it loads.
        let place = u8::from(self.firmware == Firmware::Skipped);
        command.arg("-device").arg(format!("{device},drive=disk,bootindex={place},{sectors}"));
        command
    }

    fn program(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Aarch64 => "qemu-system-aarch64",
        }
    }

    fn firmware_file(&self) -> Option<&'static str> {
        match (self.firmware, self.arch) {
            (Firmware::Uefi, Arch::X86_64) => Some("/usr/share/ovmf/OVMF.fd"),
            (Firmware::Uefi, Arch::Aarch64) => Some("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
            (Firmware::UBoot, Arch::Aarch64) => Some("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
            (Firmware::UBoot, Arch::X86_64) => unreachable!("it hands the kernel an initrd of no bytes"),
            (Firmware::Bios, Arch::Aarch64) => unreachable!("it never had one"),
            (Firmware::Bios | Firmware::Skipped, _) => None,
        }
    }
}
