//! Whether what a BIOS starts is what the files of /boot/grub say.

use super::super::format::*;
use super::{Embedded, Run, WHAT};
use crate::read::{Bytes, Fault, ReadError};
use crate::units::ByteOffset;

impl Embedded {
    /// How the core image on the disk differs from `core`, the contents of core.img, if it does. What an installation
    /// fills in is no difference: the block list and the length of the redundancy. None is told where there are faults.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn differs_from_core(&self, disk: &dyn Bytes, core: &[u8]) -> Result<Option<Fault>, ReadError> {
        // Where the block list leads nowhere, there is nothing to compare.
        let Some(stage) = self.stage.as_ref().filter(|_| self.faults.is_empty()) else { return Ok(None) };
        let fault = |why: String| Some(Fault { what: WHAT.to_owned(), why });
        let sectors = |bytes: u64| bytes.div_ceil(SECTOR as u64);
        let (found, wanted) = (sectors(stage.size()), sectors(stage.redundancy.saturating_add(core.len() as u64)));
        // The redundancy that grub-install makes is as long as the image.
        let is_odd = stage.redundancy > 0 && stage.redundancy < core.len() as u64;
        if found != wanted || is_odd || core.len() < REDUNDANCY.end {
            let why = format!("GRUB's core image takes {found} sectors, but core.img with what belongs to it {wanted}");
            return Ok(fault(why));
        }
        let listed = stage.runs.len().saturating_sub(1).saturating_mul(size_of::<RawRun>());
        let filled_in = [SECTOR.saturating_sub(listed.max(size_of::<RawRun>()))..SECTOR, REDUNDANCY];
        let mut at = 0_usize;
        for run in &stage.runs {
            let wanted = core.get(at..).unwrap_or_default();
            let found = read(disk, *run, wanted.len())?;
            let mut pairs = found.iter().zip(wanted).enumerate();
            let differs = pairs.find(|(index, (found, wanted))| {
                let byte = at.saturating_add(*index);
                found != wanted && !filled_in.iter().any(|range| range.contains(&byte))
            });
            if let Some((index, _)) = differs {
                let byte = at.saturating_add(index);
                return Ok(fault(format!("GRUB's core image differs from core.img at byte {byte} of {}", core.len())));
            }
            at = at.saturating_add(found.len());
        }
        Ok(None)
    }
}

/// The first `most` bytes of a run, or all of it.
fn read(disk: &dyn Bytes, run: Run, most: usize) -> Result<Vec<u8>, ReadError> {
    let Some((at, len)) = run.bytes() else { return Ok(Vec::new()) };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(most);
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes)?;
    Ok(bytes)
}

/// How the boot code in sector 0 differs from `boot_img`, the contents of boot.img, if it does. What an installation fills
/// in is no difference: what a FAT has there, the sector to load, and the check of the disk's number.
///
/// # Errors
/// If the disk cannot be read.
pub fn differs_from_boot(disk: &dyn Bytes, boot_img: &[u8]) -> Result<Option<Fault>, ReadError> {
    let mut code = [0; CODE];
    disk.read_exact_at(ByteOffset(0), &mut code)?;
    let is_checked = code.get(DRIVE_CHECK) == Some(&CHECK);
    let is_filled_in =
        |at: usize| PARAMETERS.contains(&at) || KERNEL_SECTOR.contains(&at) || DRIVE_CHECK.contains(&at) && is_checked;
    let mut pairs = code.iter().zip(boot_img).enumerate();
    let differs = pairs.find(|(at, (found, wanted))| found != wanted && !is_filled_in(*at)).map(|(at, _)| at);
    let differs = differs.or((boot_img.len() < CODE).then_some(boot_img.len()));
    Ok(differs.map(|at| {
        let why = format!("GRUB's code in sector 0 differs from boot.img at byte {at}");
        Fault { what: WHAT.to_owned(), why }
    }))
}
