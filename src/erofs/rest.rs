//! What an EROFS has that our writer cannot write: in one file, and in the whole filesystem.

use std::path::Path;

use super::format::SUPERBLOCK_OFFSET;
use super::reader::{Reader, named};
use super::volume::located;
use crate::read::{ReadError, Rest, rest};
use crate::times::Times;
use crate::units::ByteOffset;

impl Reader {
    /// See [`FileSystem::rest`](crate::read::FileSystem::rest). There is one time of a file: of its modification, or of
    /// its change.
    pub(super) fn rest_of(&self, path: &Path) -> Result<Rest, ReadError> {
        let inode = self.find(path)?;
        let attributes = self.disk().attributes(&inode, &self.fragments);
        let attributes = attributes.map_err(|error| located(error, inode.nid, || named(inode.nid, path)))?;
        let mut obstacles = rest::of_mode(inode.mode.into(), inode.links);
        obstacles.extend(rest::of_attributes(attributes));
        let time = inode.time;
        Ok(Rest::new(Times { access: time, change: time, modification: time, birth: time }, obstacles))
    }

    /// See [`FileSystem::obstacles`](crate::read::FileSystem::obstacles).
    pub(super) fn all_obstacles(&self) -> Result<Vec<String>, ReadError> {
        let mut boot = [0; SUPERBLOCK_OFFSET];
        self.bytes.read_exact_at(ByteOffset(0), &mut boot)?;
        let mut obstacles = Vec::new();
        if boot.iter().any(|&byte| byte != 0) {
            obstacles.push("boot code in its first sectors".to_owned());
        }
        let label = self.shape.superblock.volume_name.split(|&byte| byte == 0).next().unwrap_or_default();
        obstacles.extend(rest::of_label(label));
        Ok(obstacles)
    }
}
