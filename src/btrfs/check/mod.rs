//! Checks the structures of a btrfs, as `btrfs check` does.
//!
//! It does not use the layout code. It knows only the on-disk structures and what must hold between them. It reads
//! every node once, in all its copies, and counts what the node points to. Then it compares the extent tree, the block
//! groups and the free space with what it found, and in each subvolume the names with the inodes. It does not read
//! contents: the reader compares them with their checksums whenever it reads them.

mod devices;
mod extents;
mod faults;
mod groups;
mod inodes;
mod names;
mod nodes;
mod superblocks;

use self::faults::Faults;
use super::format::object;
use super::reader::disk::Disk;
use super::reader::{self, Reader, Root};
use crate::read::{Bytes, Fault, ReadError};

/// Snapshots share leaves, and each is checked by itself: an image in which every leaf belongs to more subvolumes than this
/// is made to take for ever.
const MOST_SHARED: u64 = 1000;

/// Everything that is wrong with the filesystem in `bytes`, sorted, at most 1,000 faults and one that there are more.
///
/// # Errors
/// If no superblock or no chunk tree is left, if a feature is unknown, or if the image cannot be read.
pub fn check(bytes: &dyn Bytes) -> Result<Vec<Fault>, ReadError> {
    let mut faults = Faults::default();
    superblocks::check(bytes, &mut faults)?;
    let disk = match Disk::open(bytes) {
        Err(ReadError::Corrupt(fault)) => {
            faults.add(fault.what, fault.why);
            return Ok(faults.into_list());
        }
        other => other?,
    };
    let trees = match reader::trees(&disk) {
        Err(ReadError::Corrupt(fault)) => {
            faults.add(fault.what, fault.why);
            return Ok(faults.into_list());
        }
        other => other?,
    };
    let chunk_root = Root {
        owner: object::CHUNK_TREE,
        address: disk.superblock.chunk_root.get(),
        level: disk.superblock.chunk_root_level,
    };
    let roots: Vec<Root> = trees.values().map(|tree| tree.root).chain([chunk_root]).collect();
    let found = nodes::walk(&disk, &roots, &mut faults)?;
    devices::check(&disk, &found, &mut faults);
    extents::check(&disk, &found, &mut faults);
    groups::check(&disk, &found, &mut faults);
    let reader = Disk::open(bytes).and_then(Reader::open);
    // The faults of damaged trees were reported with their nodes; leaves may be shared with any other subvolume.
    let are_whole = !found.damaged.iter().any(|&tree| is_subvolume(tree));
    if let Some(reader) = reader.as_ref().ok().filter(|_| are_whole) {
        let mut budget = found.items.saturating_mul(MOST_SHARED);
        for (&id, subvolume) in trees.iter().filter(|(id, _)| is_subvolume(**id)) {
            match inodes::check(reader, id, subvolume, &mut budget, &mut faults) {
                Err(ReadError::Corrupt(fault)) => faults.add(fault.what, fault.why),
                other => other?,
            }
        }
    }
    faults.name_files(reader.ok().as_ref());
    Ok(faults.into_list())
}

fn is_subvolume(tree: u64) -> bool {
    tree == object::FS_TREE || (object::FIRST_FREE..object::DATA_RELOC_TREE).contains(&tree)
}
