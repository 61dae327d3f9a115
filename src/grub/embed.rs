//! What a BIOS starts GRUB from, as `grub-install --target=i386-pc --no-rs-codes` leaves it on a GPT disk with a BIOS boot
//! partition: boot.img in sector 0, the core image from the partition's first sector on. Pure.
//!
//! Without that option `grub-install` puts Reed-Solomon redundancy behind the core image, as long as the image itself. It
//! is for disks with an MBR, where other programs write into the sectors in front of the first partition. A partition of
//! its own needs none, and what is not there is not read at each boot.

use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use super::format::*;
use crate::units::Lba;

/// What the disk has for a BIOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootCode {
    /// The first bytes of sector 0, up to the disk's signature.
    pub mbr: [u8; CODE],
    /// The BIOS boot partition from its first byte on: whole sectors. The rest of it is zeros.
    pub partition: Vec<u8>,
}

/// Files that are not GRUB's, or a place that it cannot be started from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmbedError {
    /// boot.img is something else.
    #[error("boot.img is not GRUB's boot sector ({0}); grub.bios has to name a directory lib/grub/i386-pc of GRUB 2")]
    NotBoot(String),
    /// The core image is something else.
    #[error("the core image is not one that grub-mkimage makes for i386-pc ({0}); look at grub.mkimage and grub.bios")]
    NotCore(String),
    /// The core image does not fit.
    #[error(
        "GRUB's core image has {0} bytes, but the BIOS boot partition holds {CORE_MAX}; leave modules out of --modules"
    )]
    TooLarge(usize),
    /// The partition is past what 64 bits count.
    #[error("no BIOS boot partition can start at sector {0}")]
    NoPlace(Lba),
}

/// The boot code of a disk whose BIOS boot partition starts at `first`, in sectors of 512 bytes.
///
/// # Errors
/// If `boot_img` or `core` are not what GRUB 2 has in these files, or `core` is larger than the partition can be.
pub fn embed(boot_img: &[u8], core: &[u8], first: Lba) -> Result<BootCode, EmbedError> {
    Ok(BootCode { mbr: boot_code(boot_img, first)?, partition: placed(core, first)? })
}

/// boot.img without what belongs to the disk, with the sector that it loads.
fn boot_code(boot_img: &[u8], first: Lba) -> Result<[u8; CODE], EmbedError> {
    let refuse = |why: &str| EmbedError::NotBoot(why.to_owned());
    if boot_img.len() != SECTOR {
        return Err(EmbedError::NotBoot(format!("it has {} bytes, not {SECTOR}", boot_img.len())));
    }
    if !boot_img.ends_with(&SIGNATURE) || !boot_img.starts_with(&BOOT_START) {
        return Err(refuse("it does not start or end like one"));
    }
    let found = |text: &[u8]| boot_img.windows(text.len()).any(|window| window == text);
    if !found(BOOT_TEXT) || !found(&LOADS_KERNEL_SECTOR) || boot_img.get(DRIVE_CHECK) != Some(&NO_CHECK) {
        return Err(refuse("its code is another"));
    }
    let (code, _) = boot_img.split_first_chunk::<CODE>().ok_or_else(|| refuse("it is too short"))?;
    let mut code = *code;
    put(&mut code, KERNEL_SECTOR.start, &first.0.to_le_bytes());
    put(&mut code, DRIVE_CHECK.start, &CHECK);
    Ok(code)
}

/// The core image with a block list for its place, in whole sectors.
fn placed(core: &[u8], first: Lba) -> Result<Vec<u8>, EmbedError> {
    if core.len() > CORE_MAX {
        return Err(EmbedError::TooLarge(core.len()));
    }
    let run = check(core).map_err(EmbedError::NotCore)?;
    let start = first.0.checked_add(1).ok_or(EmbedError::NoPlace(first))?;
    let mut bytes = core.to_vec();
    put(&mut bytes, FIRST_RUN, RawRun { start: start.into(), ..run }.as_bytes());
    bytes.resize(core.len().next_multiple_of(SECTOR), 0);
    Ok(bytes)
}

/// The block list of a core image that has no place yet.
///
/// # Errors
/// What is wrong with it.
fn check(core: &[u8]) -> Result<RawRun, String> {
    let sector = core.get(..SECTOR).ok_or("it is too short")?;
    if !sector.windows(DISKBOOT_TEXT.len()).any(|window| window == DISKBOOT_TEXT) {
        return Err("it does not start with diskboot.img".to_owned());
    }
    let run =
        sector.get(FIRST_RUN..).and_then(|run| RawRun::read_from_bytes(run).ok()).ok_or("it has no block list")?;
    let rest = core.len().saturating_sub(SECTOR).div_ceil(SECTOR);
    if usize::from(run.len.get()) != rest || rest == 0 {
        return Err(format!("its block list has {} sectors, but {rest} follow", run.len));
    }
    if run.start.get() != UNPLACED || run.segment.get() != FIRST_SEGMENT {
        return Err("its block list is not a new one".to_owned());
    }
    Ok(run)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let places = bytes.iter_mut().skip(at);
    places.zip(value).for_each(|(place, &byte)| *place = byte);
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn fields_are_filled_in_and_nothing_else() {
        let (boot, core) = (sample::boot_img(), sample::core_img(70_001));
        let code = embed(&boot, &core, Lba(0x0012_3456_789a)).unwrap();
        let changed = |from: &[u8], to: &[u8]| {
            let pairs = from.iter().zip(to).enumerate();
            pairs.filter(|(_, (from, to))| from != to).map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(changed(&boot, &code.mbr), [0x5c, 0x5d, 0x5e, 0x5f, 0x60, 0x66, 0x67]);
        assert_eq!(code.mbr[0x5c..0x68], [0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0xff, 0xfa, 0x90, 0x90]);
        assert_eq!(changed(&core, &code.partition), [0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x1f8]);
        assert_eq!(code.partition[0x1f4..0x200], [0x9b, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, 136, 0, 0x20, 8]);
        assert_eq!(code.partition.len(), 137 * 512);
        assert!(code.partition[core.len()..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_is_not_grubs_is_refused() {
        let (boot, core) = (sample::boot_img(), sample::core_img(30_000));
        let not_boot = |boot: &[u8]| matches!(embed(boot, &core, Lba(34)), Err(EmbedError::NotBoot(_)));
        let not_core = |core: &[u8]| matches!(embed(&boot, core, Lba(34)), Err(EmbedError::NotCore(_)));
        assert!(
            not_boot(&[]) && not_boot(&boot[..511]) && not_boot(&core[..512]) && not_boot(&[&boot[..], &[0]].concat())
        );
        for at in [0, 0x66, 0xbf, 0x186, 510] {
            let mut other = boot.clone();
            other[at] ^= 1;
            assert!(not_boot(&other), "{at:#x}");
        }
        assert!(not_core(&[]) && not_core(&core[..512]) && not_core(&core[..29_000]) && not_core(&boot));
        for at in [0x131, 0x1f4, 0x1fc, 0x1fe] {
            let mut other = core.clone();
            other[at] ^= 1;
            assert!(not_core(&other), "{at:#x}");
        }
    }

    #[test]
    fn the_partition_is_the_limit() {
        let fits = |len| embed(&sample::boot_img(), &sample::core_img(len), Lba(2048)).map(|code| code.partition.len());
        assert_eq!(fits(CORE_MAX), Ok(CORE_MAX));
        assert_eq!(fits(CORE_MAX + 1), Err(EmbedError::TooLarge(CORE_MAX + 1)));
        let nowhere = embed(&sample::boot_img(), &sample::core_img(2000), Lba(u64::MAX));
        assert_eq!(nowhere, Err(EmbedError::NoPlace(Lba(u64::MAX))));
    }
}
