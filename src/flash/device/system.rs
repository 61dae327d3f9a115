//! The disks that hold the running system. They are found through all layers in between: overlays, loop devices, device
//! mapper, RAID, a btrfs on several disks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::host::{Block, Host};
use super::uses::InUse;

/// What no running system can do without.
const PATHS: [&str; 2] = ["/", "/nix/store"];

/// The names of devices and what of the running system each has.
pub(super) type System = BTreeMap<String, BTreeSet<&'static str>>;

/// Finds them all.
pub(super) fn find(host: &Host, in_use: &InUse) -> System {
    let mut system = System::new();
    for path in PATHS {
        let exists = path == "/" || host.resolve(Path::new(path)).is_ok() || is_mount_point(in_use, path);
        for name in exists.then(|| below(host, in_use, Path::new(path))).into_iter().flatten() {
            system.entry(name).or_default().insert(path);
        }
    }
    system
}

fn is_mount_point(in_use: &InUse, path: &str) -> bool {
    in_use.own_mounts().any(|(mount, _)| mount.point == Path::new(path))
}

/// All block devices that a path depends on.
fn below(host: &Host, in_use: &InUse, path: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([path.to_owned()]);
    let mut paths = VecDeque::from([path.to_owned()]);
    while let Some(path) = paths.pop_front() {
        let Some((mount, blocks)) = covering(in_use, &path) else { continue };
        let mut more: Vec<PathBuf> = mount.layers();
        let mut names: Vec<String> = blocks.iter().cloned().collect();
        while let Some(block) = names.pop().and_then(|name| host.block(&name)) {
            if found.insert(block.name.clone()) {
                more.extend(block.value(host, "loop/backing_file").map(PathBuf::from));
                names.extend(under(host, &block));
            }
        }
        paths.extend(more.into_iter().filter(|path| seen.insert(path.clone())));
    }
    found
}

/// The mount that shows a path: of those above it the innermost, and of several at one place the last.
fn covering<'a>(in_use: &'a InUse, path: &Path) -> Option<&'a (super::mounted::Mount, BTreeSet<String>)> {
    let above = in_use.own_mounts().filter(|(mount, _)| path.starts_with(&mount.point));
    above.max_by_key(|(mount, _)| mount.point.components().count())
}

/// What a device is made of: a partition of a disk, a mapping of others.
fn under(host: &Host, block: &Block) -> Vec<String> {
    let slaves = block.list(host, "slaves").into_iter();
    let file = block.value(host, "loop/backing_file").and_then(|file| host.block_at(Path::new(&file)));
    slaves.chain(block.disk(host).map(|disk| disk.name)).chain(file.map(|block| block.name)).collect()
}
