//! The superblock and its mirrors.

use zerocopy::IntoBytes;

use super::faults::Faults;
use crate::btrfs::format::{SUPERBLOCK_OFFSETS, Superblock};
use crate::btrfs::reader::disk::superblock_at;
use crate::read::{Bytes, ReadError};

/// Tells which superblocks are damaged, and which mirrors say something else than the primary one.
pub(super) fn check(bytes: &dyn Bytes, faults: &mut Faults) -> Result<(), ReadError> {
    let mut first: Option<Superblock> = None;
    let size = size_of::<Superblock>() as u64;
    for at in SUPERBLOCK_OFFSETS {
        let reach = first.map_or(bytes.len(), |first| first.total_bytes.get().min(bytes.len()));
        if at.saturating_add(size) > reach {
            continue;
        }
        match superblock_at(bytes, at) {
            Ok(superblock) => match &first {
                None => first = Some(superblock),
                Some(first) if tells(first) != tells(&superblock) => {
                    faults.add(format!("superblock at byte {at}"), "differs from the first one");
                }
                Some(_) => {}
            },
            Err(ReadError::Corrupt(fault)) => faults.add(fault.what, fault.why),
            Err(other) => return Err(other),
        }
    }
    if let Some(first) = first.filter(|first| first.total_bytes.get() > bytes.len()) {
        let why = format!("says that the filesystem has {} bytes, but there are {}", first.total_bytes, bytes.len());
        faults.add("superblock", why);
    }
    if first.is_some_and(|first| first.log_root.get() != 0) {
        faults.add(
            "superblock",
            "has a log that was not replayed, and is not checked: the filesystem was not unmounted; mount it once",
        );
    }
    Ok(())
}

/// The fields that are the same in all copies of a superblock.
fn tells(superblock: &Superblock) -> Vec<u8> {
    let mut superblock = *superblock;
    superblock.csum = [0; 32];
    superblock.bytenr = 0.into();
    superblock.as_bytes().to_vec()
}
