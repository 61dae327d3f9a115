//! What a FAT filesystem has that our writer cannot write: in one file, and in the whole filesystem.
//!
//! Source: Microsoft's "FAT File System Specification", sections on the boot sector, the FAT and directory entries.

use std::ffi::OsStr;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::layout::padded_label;
use super::names;
use super::reader::Reader;
use super::volume::entry::Entry;
use super::volume::{Bits, Next, Table, u8_at};
use crate::read::{ReadError, Rest, escape};
use crate::times::{Times, Timestamp};
use crate::units::ByteOffset;

/// The attributes that lose their meaning: nothing that our writer gives.
const ATTRIBUTES: [(u8, &str); 5] =
    [(0x01, "read-only"), (0x02, "hidden"), (0x04, "system"), (0x40, "device"), (0x80, "reserved")];
/// Where the code of the boot sector ends.
const CODE_END: usize = 510;
/// SHA-256 of code that only prints that the disk is not bootable: that of FAT12 and FAT16, then that of FAT32. mkfs.fat
/// and our writer put the same there.
const PRINTERS: [&str; 2] = [
    "c0e43d7b254da6d399f18d63cf109ffd01a4251154952b479df6fac2c6849948",
    "077944d0488ccce0f25a5449d0d903d7c24c6e5452d2a3103dc3ab02a419937a",
];
/// Sectors that are read at once.
const SECTORS: u32 = 64;

impl Reader {
    /// See [`FileSystem::rest`](crate::read::FileSystem::rest).
    pub(super) fn rest_of(&self, path: &Path) -> Result<Rest, ReadError> {
        Ok(self.find(path)?.map_or_else(|| Rest::new(Times::STORE, Vec::new()), |entry| of_entry(&entry)))
    }

    /// See [`FileSystem::obstacles`](crate::read::FileSystem::obstacles).
    pub(super) fn all_obstacles(&self) -> Result<Vec<String>, ReadError> {
        let mut obstacles = Vec::new();
        let mut tell = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
        tell(self.has_boot_code()?, "boot code in its first sectors");
        let (is_clean, is_well, has_bad) = self.table_says()?;
        tell(!is_clean, "a mark that it was not unmounted");
        tell(!is_well, "a mark of errors");
        tell(has_bad, "clusters that are marked as bad");
        let label = &self.summary.label;
        tell(padded_label(label).is_err(), &format!("the label {}", escape::text(label)));
        Ok(obstacles)
    }

    /// Whether the boot sector has code that does more than to print that there is no system, or any other sector
    /// before the tables is not empty.
    fn has_boot_code(&self) -> Result<bool, ReadError> {
        let shape = &self.shape;
        let is_fat32 = shape.bits == Bits::Fat32;
        let code = shape.boot.get(if is_fat32 { 90 } else { 62 }..CODE_END).unwrap_or_default();
        let digest: String = Sha256::digest(code).iter().map(|byte| format!("{byte:02x}")).collect();
        if code.iter().any(|&byte| byte != 0) && !PRINTERS.contains(&digest.as_str()) {
            return Ok(true);
        }
        // The boot sector and the summary of free space, each with its copy.
        let known =
            if is_fat32 { [0, shape.fs_info(), shape.backup(), shape.backup().saturating_add(1)] } else { [0; 4] };
        let size = usize::try_from(shape.sector).unwrap_or(0).max(1);
        let mut sectors = vec![0; size.saturating_mul(usize::try_from(SECTORS).unwrap_or(0))];
        for first in (0..shape.reserved).step_by(usize::try_from(SECTORS).unwrap_or(1)) {
            let count = usize::try_from(shape.reserved.saturating_sub(first).min(SECTORS)).unwrap_or(0);
            let piece = sectors.get_mut(..count.saturating_mul(size)).unwrap_or_default();
            self.bytes.read_exact_at(shape.sector_offset(first), piece)?;
            let used =
                |(number, sector): (u32, &[u8])| !known.contains(&number) && sector.iter().any(|&byte| byte != 0);
            if (first..).zip(piece.chunks_exact(size)).any(used) {
                return Ok(true);
            }
        }
        // What a larger boot sector has past the first 512 bytes.
        let mut boot = vec![0; size];
        self.bytes.read_exact_at(ByteOffset(0), &mut boot)?;
        Ok(boot.get(CODE_END + 2..).unwrap_or_default().iter().any(|&byte| byte != 0))
    }

    /// Whether the filesystem was unmounted, whether it had no errors, and whether clusters are marked as bad.
    fn table_says(&self) -> Result<(bool, bool, bool), ReadError> {
        let mut table = Table::new(&*self.bytes, &self.shape);
        let state = u8_at(&self.shape.boot, self.shape.state_byte());
        // The entry that no cluster has holds two bits, which are set while all is well.
        let marks = table.raw(1)?;
        let (clean, well) = match self.shape.bits {
            Bits::Fat12 => (0, 0),
            Bits::Fat16 => (1 << 15, 1 << 14),
            Bits::Fat32 => (1 << 27, 1 << 26),
        };
        let mut has_bad = false;
        for cluster in 2..self.shape.clusters.saturating_add(2) {
            has_bad = has_bad || table.next(cluster)? == Next::Bad;
        }
        Ok((state & 1 == 0 && marks & clean == clean, state & 2 == 0 && marks & well == well, has_bad))
    }
}

fn of_entry(entry: &Entry) -> Rest {
    let mut obstacles = Vec::new();
    let mut time = |clock: Clock| match clock.timestamp() {
        Some(time) => time,
        None if clock.date == 0 => Timestamp::STORE,
        None => {
            obstacles.push("an impossible date".to_owned());
            Timestamp::STORE
        }
    };
    let (access, modification, birth) = (time(entry.accessed), time(entry.modified), time(entry.created));
    obstacles.dedup();
    let attributes = ATTRIBUTES.iter().filter(|(bit, _)| entry.attributes & bit != 0);
    obstacles.extend(attributes.map(|(_, name)| format!("the attribute {name}")));
    obstacles.extend(name_obstacle(entry));
    Rest::new(Times { access, change: modification, modification, birth }, obstacles)
}

/// The part of a name that our writer would not write again.
fn name_obstacle(entry: &Entry) -> Option<String> {
    let name = entry.name();
    if entry.problem.is_some() || entry.short_problem().is_some() {
        return Some("a damaged name".to_owned());
    }
    if entry.long.is_none() && name.contains('\u{fffd}') {
        return Some("a name in an unknown character set".to_owned());
    }
    let fault = names::check(OsStr::new(&name)).err()?;
    Some(format!("a name that is not to be written ({fault})"))
}
