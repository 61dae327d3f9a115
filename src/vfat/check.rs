//! Checks the structures of a FAT filesystem, as `fsck.fat -n` does.
//!
//! It uses neither fatfs nor the layout code. It compares the boot sector with its copy, the tables with each other,
//! and every chain of clusters with its file. It also looks for clusters that belong to nothing. It needs one bit of
//! memory for each cluster, and one directory at a time.

use super::volume::{Bits, Next, Shape, Walk, Weight, u32_at};
use crate::read::{Bytes, Fault, ReadError};
use crate::units::ByteOffset;

/// Bytes of a table that are compared at once.
const WINDOW: u64 = 1 << 16;
/// The signatures of FSInfo, with their places.
const FS_INFO_SIGNATURES: [(usize, u32); 3] = [(0, 0x4161_5252), (484, 0x6141_7272), (508, 0xaa55_0000)];
/// The value in FSInfo for a number that is not known.
const UNKNOWN: u32 = u32::MAX;
/// The entry of the table that holds flags: no cluster has this number.
const TABLE_FLAGS: u32 = 1;

/// Everything that is wrong with the filesystem in `bytes`, sorted, at most 1,000 faults and one that there are more.
///
/// # Errors
/// If the boot sector leaves nothing to check, or if the image cannot be read.
pub fn check(bytes: &dyn Bytes) -> Result<Vec<Fault>, ReadError> {
    let shape = Shape::new(bytes)?;
    let mut walk = Walk::new(bytes, &shape);
    walk.run()?;
    if shape.is_small_fat32() {
        let why = format!("{} clusters are too few for FAT32; firmware may take it for FAT16", shape.clusters);
        walk.tell(Weight::Light, "boot sector", why);
    }
    let free = check_clusters(&shape, &mut walk)?;
    check_state(&shape, &mut walk)?;
    check_tables(bytes, &shape, &mut walk)?;
    if shape.bits == Bits::Fat32 {
        check_copy(bytes, &shape, &mut walk)?;
        check_fs_info(bytes, &shape, &mut walk, free)?;
    }
    walk.blame()?;
    Ok(walk.into_faults())
}

/// Reports clusters that are marked in use, but that no file has; returns how many are free.
fn check_clusters(shape: &Shape, walk: &mut Walk<'_>) -> Result<u32, ReadError> {
    let mut free = 0u32;
    let mut lost: Option<(u32, u32)> = None;
    for cluster in 2..shape.clusters.saturating_add(2) {
        let next = walk.table().next(cluster)?;
        let is_lost = !walk.is_claimed(cluster) && !matches!(next, Next::Free | Next::Bad);
        free = free.saturating_add(u32::from(next == Next::Free));
        lost = match lost {
            Some((first, _)) if is_lost => Some((first, cluster)),
            Some(range) => {
                tell_lost(walk, range);
                None
            }
            None => is_lost.then_some((cluster, cluster)),
        };
    }
    lost.iter().for_each(|range| tell_lost(walk, *range));
    Ok(free)
}

fn tell_lost(walk: &mut Walk<'_>, (first, last): (u32, u32)) {
    let (what, are) = match first {
        _ if first == last => (format!("cluster {first}"), "is"),
        _ => (format!("clusters {first} to {last}"), "are"),
    };
    walk.tell(Weight::Light, what, format!("{are} marked in use, but no file has them"));
}

/// Whether it was unmounted, and whether the disk was well, by the boot sector and the table's second entry.
fn check_state(shape: &Shape, walk: &mut Walk<'_>) -> Result<(), ReadError> {
    let flags = walk.table().raw(TABLE_FLAGS)?;
    let (clean, well) = match shape.bits {
        Bits::Fat12 => (true, true),
        Bits::Fat16 => (flags & 0x8000 != 0, flags & 0x4000 != 0),
        Bits::Fat32 => (flags & 0x0800_0000 != 0, flags & 0x0400_0000 != 0),
    };
    let state = shape.boot.get(shape.state_byte()).copied().unwrap_or(0);
    if !clean || state & 1 != 0 {
        walk.tell(Weight::Light, "boot sector", "the filesystem was not cleanly unmounted");
    }
    if !well || state & 2 != 0 {
        walk.tell(Weight::Light, "boot sector", "errors of the disk were met");
    }
    let media = shape.boot.get(21).copied().unwrap_or(0);
    let first = walk.table().raw(0)?;
    if first & 0xff != u32::from(media) {
        walk.tell(
            Weight::Light,
            "table 0",
            format!("starts with {:#04x}, not the media byte {media:#04x}", first & 0xff),
        );
    }
    Ok(())
}

/// All copies of the table must agree, unless only one counts.
fn check_tables(bytes: &dyn Bytes, shape: &Shape, walk: &mut Walk<'_>) -> Result<(), ReadError> {
    if shape.active.is_some() {
        return Ok(());
    }
    let len = u64::from(shape.fat_sectors).saturating_mul(shape.sector.into());
    let ByteOffset(first) = shape.sector_offset(shape.table_sector(0));
    for copy in 1..shape.fats {
        let ByteOffset(other) = shape.sector_offset(shape.table_sector(copy));
        let mut at = 0;
        while at < len {
            let size = usize::try_from(len.saturating_sub(at).min(WINDOW)).unwrap_or(0);
            let [mut a, mut b] = [vec![0; size], vec![0; size]];
            bytes.read_exact_at(ByteOffset(first.saturating_add(at)), &mut a)?;
            bytes.read_exact_at(ByteOffset(other.saturating_add(at)), &mut b)?;
            if let Some(place) = a.iter().zip(&b).position(|(a, b)| a != b) {
                let byte = at.saturating_add(place as u64);
                let entry = byte.saturating_mul(8) / u64::from(shape.entry_bits());
                let why = format!("differs from table 0 at its byte {byte}, in the entry of cluster {entry}");
                walk.tell(Weight::Light, format!("table {copy}"), why);
                break;
            }
            at = at.saturating_add(WINDOW);
        }
    }
    Ok(())
}

/// The copy of the boot sector.
fn check_copy(bytes: &dyn Bytes, shape: &Shape, walk: &mut Walk<'_>) -> Result<(), ReadError> {
    if shape.backup() == 0 {
        return Ok(());
    }
    let mut copy = [0; 512];
    bytes.read_exact_at(shape.sector_offset(shape.backup()), &mut copy)?;
    let differs = (0..).zip(shape.boot.iter().zip(&copy)).find(|(at, (a, b))| a != b && *at != shape.state_byte());
    if let Some((at, _)) = differs {
        walk.tell(
            Weight::Light,
            "boot sector",
            format!("differs from its copy in sector {} at byte {at}", shape.backup()),
        );
    }
    Ok(())
}

/// What FAT32 remembers of free clusters.
fn check_fs_info(bytes: &dyn Bytes, shape: &Shape, walk: &mut Walk<'_>, free: u32) -> Result<(), ReadError> {
    if shape.fs_info() == 0 {
        return Ok(());
    }
    let mut info = [0; 512];
    bytes.read_exact_at(shape.sector_offset(shape.fs_info()), &mut info)?;
    if let Some((at, _)) = FS_INFO_SIGNATURES.iter().find(|(at, signature)| u32_at(&info, *at) != *signature) {
        walk.tell(Weight::Fatal, "FSInfo", format!("has no signature at byte {at}"));
        return Ok(());
    }
    let (said, next) = (u32_at(&info, 488), u32_at(&info, 492));
    if said != UNKNOWN && said != free {
        walk.tell(Weight::Light, "FSInfo", format!("says {said} free clusters, but there are {free}"));
    }
    // One past the last cluster means that the search starts anew.
    if next != UNKNOWN && !shape.is_cluster(next) && next != shape.clusters.saturating_add(2) {
        walk.tell(
            Weight::Light,
            "FSInfo",
            format!("says that cluster {next} is the next free one, but it does not exist"),
        );
    }
    Ok(())
}
