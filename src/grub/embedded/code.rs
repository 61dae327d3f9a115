//! Whose boot code a sector holds.
//!
//! GRUB's is that of grub-pc-bin, syslinux's that of syslinux-common (gptmbr.bin, mbr.bin, altmbr.bin and their variants),
//! Limine's that of its releases (limine-bios-hdd).

use super::super::format::*;
use super::Run;
use crate::units::Lba;

/// What all of syslinux's start with: the stack is set and the sector moved to address 600.
const SYSLINUX_START: [u8; 8] = [0x33, 0xc0, 0xfa, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc];
/// What only the one for GPTs says.
const SYSLINUX_GPT: &[u8] = b"Missing OS\r\n";
/// What the others say.
const SYSLINUX_MBR: &[u8] = b"Operating system load error.\r\n";
/// What the one for an active partition says besides.
const SYSLINUX_ACTIVE: &[u8] = b"Multiple active partitions";

/// Where Limine has what a FAT has its maker's name in.
const LIMINE_NAME: (usize, &[u8]) = (3, b"LIMINE");
/// Where Limine has the bytes of the two halves of its next stage: 16 bits each.
const LIMINE_SIZES: [usize; 2] = [0x1a4, 0x1a6];
/// Where Limine has the bytes of the disk at which they start: 64 bits each.
const LIMINE_PLACES: [usize; 2] = [0x1a8, 0x1b0];

/// Whose boot code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is none.
    None,
    /// GRUB's boot.img, or boot_hybrid.img.
    Grub,
    /// Limine's.
    Limine,
    /// syslinux's for the one partition of a GPT that has the attribute "legacy BIOS bootable".
    SyslinuxGpt,
    /// syslinux's for the active partition of an MBR.
    SyslinuxMbr,
    /// syslinux's for a partition whose number stands in the code (altmbr.bin).
    SyslinuxNumber,
    /// Of something else.
    Unknown,
}

impl Code {
    /// In JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Grub => "grub",
            Self::Limine => "limine",
            Self::SyslinuxGpt => "syslinux-gptmbr",
            Self::SyslinuxMbr => "syslinux-mbr",
            Self::SyslinuxNumber => "syslinux-altmbr",
            Self::Unknown => "unknown",
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Grub => "GRUB",
            Self::Limine => "Limine",
            Self::SyslinuxGpt => "syslinux (gptmbr)",
            Self::SyslinuxMbr => "syslinux (mbr)",
            Self::SyslinuxNumber => "syslinux (altmbr)",
            Self::Unknown => "code that is not known here",
        }
    }
}

/// Where the next stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The code does not tell.
    Untold,
    /// GRUB's core image from this sector on.
    Grub(Lba),
    /// These sectors.
    Limine(Vec<Run>),
    /// The partition that the table marks.
    Marked,
}

/// Whose code sector 0 has, and what that loads.
pub(super) fn recognise(sector: &[u8; SECTOR]) -> (Code, Next) {
    let code = sector.get(..CODE).unwrap_or_default();
    let says = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
    if code.iter().all(|&byte| byte == 0) {
        return (Code::None, Next::Untold);
    }
    if code.starts_with(&BOOT_START) && says(BOOT_TEXT) {
        let first = if says(&LOADS_KERNEL_SECTOR) { number(sector, KERNEL_SECTOR.start, 8) } else { None };
        return (Code::Grub, first.map_or(Next::Untold, |first| Next::Grub(Lba(first))));
    }
    let (at, name) = LIMINE_NAME;
    if code.get(at..).is_some_and(|rest| rest.starts_with(name)) {
        return (Code::Limine, Next::Limine(limine_runs(sector)));
    }
    let is_syslinux = code.starts_with(&SYSLINUX_START);
    match (is_syslinux && says(SYSLINUX_GPT), is_syslinux && says(SYSLINUX_MBR)) {
        (true, _) => (Code::SyslinuxGpt, Next::Marked),
        (_, true) if says(SYSLINUX_ACTIVE) => (Code::SyslinuxMbr, Next::Marked),
        (_, true) => (Code::SyslinuxNumber, Next::Untold),
        _ => (Code::Unknown, Next::Untold),
    }
}

/// The halves of Limine's next stage; one that has no bytes is left out.
fn limine_runs(sector: &[u8; SECTOR]) -> Vec<Run> {
    let halves = LIMINE_SIZES.into_iter().zip(LIMINE_PLACES);
    let runs = halves.filter_map(|(size, place)| {
        let (size, place) = (number(sector, size, 2)?, number(sector, place, 8)?);
        let sector = SECTOR as u64;
        (size > 0).then(|| Run { first: Lba(place / sector), sectors: size.div_ceil(sector) })
    });
    runs.collect()
}

/// The number of `len` bytes, at most 8, at `at`.
fn number(sector: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = sector.get(at..)?.get(..len)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
