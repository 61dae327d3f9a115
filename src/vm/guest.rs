//! What an image needs of a virtual machine, found by looking into the image.

use std::path::Path;

use thiserror::Error;

use super::{Bus, Processor};
use crate::image::Image;
use crate::inspect::{self, BootEntry, BootReport, Loader, Place};
use crate::read::{Bytes, ReadError};
use crate::units::{ByteOffset, SectorSize};

/// The boot code of an MBR, in bytes.
const BOOT_CODE: usize = 440;
/// As much of a kernel as says what it is for, in bytes.
const HEADER: usize = 4096;

/// What starts an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// UEFI, by a program in EFI/BOOT.
    Uefi,
    /// U-Boot, by extlinux.conf.
    UBoot,
    /// A BIOS, by the code in the first sector.
    Bios,
}

impl Start {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::UBoot => "U-Boot",
            Self::Bios => "BIOS",
        }
    }
}

/// A system as a machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The processor that it is for.
    pub processor: Processor,
    /// What starts it.
    pub start: Start,
    /// That in which its partition table counts.
    pub sector_size: SectorSize,
    /// What Linux writes to, by its parameters: of each `console=` what comes before a comma. `None` if they are not known.
    pub consoles: Option<Vec<String>>,
}

/// Why there is no machine for an image.
#[derive(Debug, Error)]
pub enum GuestError {
    /// Nothing in it boots.
    #[error(
        "there is nothing in it that boots in a virtual machine: no EFI/BOOT/{} for UEFI, no extlinux/extlinux.conf for U-Boot, no \
         boot code in the first sector for a BIOS; see what `sane-image inspect` says of it",
        Processor::ALL.map(Processor::removable_program).join(", EFI/BOOT/")
    )]
    Nothing,
    /// It boots by U-Boot, and that is all that is known.
    #[error(
        "it boots by extlinux.conf, but neither its kernel nor a file `system` beside init tells for which processor; pass \
         the image to QEMU yourself"
    )]
    UnknownProcessor,
    /// It boots in a way that QEMU has no firmware for.
    #[error(
        "it boots by extlinux.conf on {0}, for which there is no U-Boot in QEMU that hands Linux an initrd; boot it by UEFI"
    )]
    NoUBoot(Processor),
    /// It does not start in the way that was asked for.
    #[error(
        "nothing in it starts by {}; leave --firmware out, and it starts by what there is",
        .0.name()
    )]
    NotBy(Start),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Guest {
    /// Looks at what boots in an image. Of several kinds of programs for UEFI, `host`'s is chosen; of several ways to start,
    /// `wanted`, or else the first in the order of [`Start`].
    ///
    /// # Errors
    /// If nothing in it boots in that way, or what boots is not known well enough.
    pub fn of(image: &Image, host: Option<Processor>, wanted: Option<Start>) -> Result<Self, GuestError> {
        let boot = inspect::boot(image);
        let (start, processor) = start(image, boot.as_ref(), host, wanted)?;
        let entry = boot.as_ref().and_then(|boot| boot.entries.iter().find(|entry| entry.default));
        let sector_size = image.table().map(|table| table.sector_size);
        let sector_size = sector_size.or_else(|| image.mbr().map(|mbr| mbr.sector_size)).unwrap_or_default();
        Ok(Self { processor, start, sector_size, consoles: entry.map(|entry| consoles(&entry.options)) })
    }

    /// What its disk had better hang on: NVMe, unless its U-Boot knows none.
    pub fn bus(&self) -> Bus {
        match (self.start, self.processor) {
            (Start::UBoot, Processor::Riscv64) => Bus::Virtio,
            _ => Bus::Nvme,
        }
    }

    /// Whether Linux is known to say nothing on the serial port. On a PC it needs to be told of that; elsewhere it finds it
    /// by itself unless it is told of another.
    pub fn is_silent(&self) -> bool {
        let serial = self.processor.serial();
        self.consoles.as_ref().is_some_and(|consoles| match consoles.as_slice() {
            [] => self.processor == Processor::X86_64,
            consoles => consoles.iter().all(|console| console != serial),
        })
    }
}

fn start(
    image: &Image,
    boot: Option<&BootReport>,
    host: Option<Processor>,
    wanted: Option<Start>,
) -> Result<(Start, Processor), GuestError> {
    let may_be = |start| wanted.is_none_or(|wanted| wanted == start);
    if may_be(Start::Uefi)
        && let Some(processor) = boot.and_then(|boot| uefi(boot, host))
    {
        return Ok((Start::Uefi, processor));
    }
    if may_be(Start::UBoot)
        && let Some(entry) = boot.and_then(extlinux)
    {
        return match processor(image, entry) {
            None => Err(GuestError::UnknownProcessor),
            Some(Processor::X86_64) => Err(GuestError::NoUBoot(Processor::X86_64)),
            Some(processor) => Ok((Start::UBoot, processor)),
        };
    }
    if may_be(Start::Bios) && has_boot_code(image)? {
        return Ok((Start::Bios, Processor::X86_64));
    }
    Err(wanted.map_or(GuestError::Nothing, GuestError::NotBy))
}

/// The processor whose program UEFI finds.
fn uefi(boot: &BootReport, host: Option<Processor>) -> Option<Processor> {
    let has = |processor: &Processor| {
        let name = processor.removable_program();
        boot.firmware
            .iter()
            .any(|program| Path::new(&program.path).file_name().is_some_and(|found| found.eq_ignore_ascii_case(name)))
    };
    host.into_iter().chain(Processor::ALL).find(has)
}

fn extlinux(boot: &BootReport) -> Option<&BootEntry> {
    boot.entries.iter().find(|entry| entry.loader == Loader::Extlinux && entry.default)
}

/// What an entry's kernel is for, or else the system that it starts.
fn processor(image: &Image, entry: &BootEntry) -> Option<Processor> {
    let found = |file: &Option<inspect::FileReport>| file.as_ref()?.found.clone();
    let by_kernel = || Processor::of_kernel(&read(image, &found(&entry.kernel)?)?);
    let by_system = || {
        let init = found(&entry.init)?;
        let system = Path::new(&init.path).parent()?.join("system").to_str()?.to_owned();
        Processor::from_system(std::str::from_utf8(&read(image, &Place { path: system, ..init })?).ok()?)
    };
    by_kernel().or_else(by_system)
}

/// The start of a file in an image.
fn read(image: &Image, place: &Place) -> Option<Vec<u8>> {
    let partition = image.partitions().iter().find(|partition| partition.number == place.partition)?;
    let fs = partition.open().ok()?;
    let mut start = vec![0; HEADER];
    let len = fs.open(Path::new(place.path.trim_start_matches('/'))).ok()?.read_at(0, &mut start).ok()?;
    start.truncate(len);
    Some(start)
}

/// Whether a BIOS finds code in the first sector.
fn has_boot_code(image: &Image) -> Result<bool, ReadError> {
    let disk = image.bytes();
    let mut sector = [0; 512];
    if image.table().is_none() && image.mbr().is_none() || disk.len() < 512 {
        return Ok(false);
    }
    disk.read_exact_at(ByteOffset(0), &mut sector)?;
    Ok(sector.ends_with(&[0x55, 0xaa]) && sector.iter().take(BOOT_CODE).any(|&byte| byte != 0))
}

/// Of each `console=` what comes before a comma.
fn consoles(options: &str) -> Vec<String> {
    let consoles = options.split_whitespace().filter_map(|word| word.strip_prefix("console="));
    consoles.map(|console| console.split(',').next().unwrap_or_default().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::EfiProgram;

    fn programs(names: &[&str]) -> BootReport {
        let program = |name: &&str| EfiProgram { path: format!("EFI/BOOT/{name}"), size: 1, what: None };
        BootReport { firmware: names.iter().map(program).collect(), ..BootReport::default() }
    }

    #[test]
    fn uefi_goes_by_names() {
        let found = |names: &[&str], host| uefi(&programs(names), host);
        assert_eq!(found(&["BOOTX64.EFI"], None), Some(Processor::X86_64));
        assert_eq!(found(&["bootaa64.efi"], Some(Processor::X86_64)), Some(Processor::Aarch64));
        assert_eq!(found(&["BOOTX64.EFI", "BOOTAA64.EFI"], Some(Processor::Aarch64)), Some(Processor::Aarch64));
        assert_eq!(found(&["BOOTX64.EFI", "BOOTAA64.EFI"], Some(Processor::Riscv64)), Some(Processor::X86_64));
        assert_eq!(found(&["BOOTIA32.EFI", "bootx64.efi.old"], None), None);
    }

    #[test]
    fn u_boot_for_risc_v_has_no_nvme() {
        let bus =
            |processor, start| Guest { processor, start, sector_size: SectorSize::default(), consoles: None }.bus();
        assert_eq!(bus(Processor::Riscv64, Start::UBoot), Bus::Virtio);
        assert_eq!(bus(Processor::Riscv64, Start::Uefi), Bus::Nvme);
        assert_eq!(bus(Processor::Aarch64, Start::UBoot), Bus::Nvme);
    }

    #[test]
    fn who_hears_nothing_is_told() {
        let silent = |processor, options: Option<&str>| {
            let consoles = options.map(consoles);
            Guest { processor, start: Start::Uefi, sector_size: SectorSize::default(), consoles }.is_silent()
        };
        for (options, x86_64, aarch64) in [
            (Some("quiet init=/x console=ttyS0,115200n8 console=tty0"), false, true),
            (Some("console=tty0 console=ttyAMA0"), true, false),
            (Some("quiet"), true, false),
            (Some("console=tty1"), true, true),
            (Some("console=ttyS01"), true, true),
            (None, false, false),
        ] {
            assert_eq!(silent(Processor::X86_64, options), x86_64, "{options:?}");
            assert_eq!(silent(Processor::Aarch64, options), aarch64, "{options:?}");
        }
    }
}
