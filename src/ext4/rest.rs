//! What an ext4, ext3 or ext2 has that our writer cannot write: in one file, and in the whole filesystem.
//!
//! Sources: the kernel's `Documentation/filesystems/ext4/inodes.rst` for flags, `super.rst` for all else.

use std::path::Path;

use super::format::{self, Superblock, compat, incompat, ro_compat};
use super::reader::{Reader, named};
use super::volume::{Inode, Shape, read_superblock};
use crate::read::{ReadError, Rest, rest};
use crate::units::ByteOffset;

/// Bytes before the superblock, which are a boot loader's.
const BOOT_BYTES: usize = 1024;
/// The inode that owns the blocks that are not to be used.
const INODE_BAD_BLOCKS: u32 = 1;
/// The inode that holds a boot loader.
const INODE_BOOT_LOADER: u32 = 5;

/// Flags of inodes that only say how contents and names are stored; the last is one of the past.
const FORM: u32 =
    format::INODE_INDEX | format::INODE_HUGE_FILE | format::INODE_EXTENTS | format::INODE_INLINE_DATA | 0x40_0000;
/// Flags that stay: synchronous, immutable, append-only, nodump, noatime, and synchronous of a directory.
const KEPT: u32 = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x1_0000;
/// The names of the other flags.
const FLAGS: [(u64, &str); 18] = [
    (0x1, "secure deletion"),
    (0x2, "undeletable"),
    (0x4, "compressed"),
    (0x100, "dirty compressed"),
    (0x200, "compressed clusters"),
    (0x400, "not to be compressed"),
    (format::INODE_ENCRYPT as u64, "encrypted"),
    (0x2000, "AFS directory"),
    (0x4000, "data journalling"),
    (0x8000, "no tail merging"),
    (0x2_0000, "top of a directory hierarchy"),
    (0x10_0000, "verity"),
    (format::INODE_EA as u64, "value of an extended attribute"),
    (0x100_0000, "snapshot"),
    (0x200_0000, "DAX"),
    (0x2000_0000, "project inheritance"),
    (format::INODE_CASEFOLD as u64, "casefold"),
    (0x8000_0000, "reserved"),
];

/// Features without meaning for what is in the filesystem.
const FORM_COMPAT: u32 = 0x1
    | compat::HAS_JOURNAL
    | compat::EXT_ATTR
    | compat::RESIZE_INODE
    | compat::DIR_INDEX
    | compat::SPARSE_SUPER2
    | 0x400
    | compat::ORPHAN_FILE;
/// As [`FORM_COMPAT`]; the feature that attributes can have inodes matters only for files that use it, and is reported
/// for those files.
const FORM_INCOMPAT: u32 = incompat::FILETYPE
    | incompat::META_BG
    | incompat::EXTENTS
    | incompat::BIT64
    | incompat::FLEX_BG
    | incompat::EA_INODE
    | incompat::CSUM_SEED
    | incompat::LARGEDIR
    | incompat::INLINE_DATA;
/// As [`FORM_COMPAT`].
const FORM_RO_COMPAT: u32 = ro_compat::SPARSE_SUPER
    | ro_compat::LARGE_FILE
    | ro_compat::HUGE_FILE
    | ro_compat::GDT_CSUM
    | ro_compat::DIR_NLINK
    | ro_compat::EXTRA_ISIZE
    | ro_compat::BIGALLOC
    | ro_compat::METADATA_CSUM;

impl Reader {
    /// See [`FileSystem::rest`](crate::read::FileSystem::rest).
    pub(super) fn rest_of(&self, path: &Path) -> Result<Rest, ReadError> {
        let (inode, _) = self.find(path)?;
        let attributes = self.disk().attributes(&inode, &named(inode.number, path))?;
        let (mode, links) = (u32::from(inode.on_disk.mode.get()), u32::from(inode.on_disk.links_count.get()));
        let mut obstacles = rest::of_mode(mode, links);
        obstacles.extend(rest::of_flags(inode.on_disk.flags.get().into(), (FORM | KEPT).into(), &FLAGS));
        obstacles.extend(inode.project().map(|project| format!("the project {project}")));
        obstacles.extend(rest::of_attributes(attributes));
        Ok(Rest::new(inode.times(), obstacles).with_flags(inode.on_disk.flags.get() & KEPT))
    }

    /// See [`FileSystem::obstacles`](crate::read::FileSystem::obstacles).
    pub(super) fn all_obstacles(&self) -> Result<Vec<String>, ReadError> {
        let shape = &self.volume.shape;
        let mut boot = [0; BOOT_BYTES];
        self.bytes.read_exact_at(ByteOffset(0), &mut boot)?;
        let is_waiting = read_superblock(&*self.bytes)?.feature_incompat.get() & incompat::RECOVER != 0;
        let mut obstacles = Vec::new();
        let mut tell = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
        tell(boot.iter().any(|&byte| byte != 0), "boot code in its first sectors");
        tell(is_waiting, "a journal to replay");
        let own = |number| self.disk().inode(number);
        let is_used = |inode: &Inode| inode.on_disk.links_count.get() > 0 || inode.on_disk.blocks_lo.get() > 0;
        tell(own(INODE_BAD_BLOCKS)?.on_disk.blocks_lo.get() > 0, "blocks that are marked as bad");
        tell(is_used(&own(INODE_BOOT_LOADER)?), "a boot loader in inode 5");
        obstacles.extend(of_features(shape));
        obstacles.extend(of_superblock(&shape.superblock));
        Ok(obstacles)
    }
}

fn of_features(shape: &Shape) -> Vec<String> {
    let mut obstacles = Vec::new();
    let mut tell = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
    let has_journal = shape.has_compat(compat::HAS_JOURNAL);
    tell(!has_journal, "no journal");
    tell(has_journal && shape.superblock.journal_inum.get() == 0, "a journal on another device");
    tell(shape.has_compat(compat::STABLE_INODES), "inodes whose numbers are not to change");
    tell(shape.has_incompat(incompat::MMP), "multi-mount protection");
    tell(shape.has_incompat(incompat::ENCRYPT), "encryption");
    tell(shape.has_incompat(incompat::CASEFOLD), "names without regard to case");
    tell(shape.has_ro_compat(ro_compat::QUOTA), "quotas");
    tell(shape.has_ro_compat(ro_compat::PROJECT), "project quotas");
    tell(shape.has_ro_compat(ro_compat::VERITY), "verity");
    let is_orphaned = shape.has_ro_compat(ro_compat::ORPHAN_PRESENT) || shape.superblock.last_orphan.get() != 0;
    tell(is_orphaned, "files that were deleted while they were open");
    let told_incompat = incompat::RECOVER | incompat::MMP | incompat::ENCRYPT | incompat::CASEFOLD;
    let told_ro_compat = ro_compat::QUOTA | ro_compat::PROJECT | ro_compat::VERITY | ro_compat::ORPHAN_PRESENT;
    let others = shape.features_but(
        FORM_COMPAT | compat::STABLE_INODES,
        FORM_INCOMPAT | told_incompat,
        FORM_RO_COMPAT | told_ro_compat,
    );
    let described =
        |name: String| if name.starts_with("feature ") { format!("the {name}") } else { format!("the feature {name}") };
    obstacles.extend(others.into_iter().map(described));
    obstacles
}

fn of_superblock(superblock: &Superblock) -> Vec<String> {
    let mut obstacles = Vec::new();
    let mut tell = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
    let state = superblock.state.get();
    tell(state & format::STATE_CLEAN == 0, "a mark that it was not unmounted");
    let errors = superblock.error_fields.first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
    tell(state & format::STATE_ERRORS != 0 || errors != 0, "a mark of errors");
    tell(superblock.errors.get() == 2, "the setting to remount read-only after errors");
    tell(superblock.errors.get() > 2, "the setting to panic after errors");
    let options = superblock.default_mount_opts.get() & !format::DEFAULT_MOUNT_OPTIONS;
    tell(options != 0 || superblock.mount_opts.iter().any(|&byte| byte != 0), "default mount options");
    tell(superblock.creator_os.get() != 0, "a maker other than Linux");
    let label = superblock.volume_name.split(|&byte| byte == 0).next().unwrap_or_default();
    obstacles.extend(rest::of_label(label));
    obstacles
}
