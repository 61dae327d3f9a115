//! The on-disk structures of ext4, and nothing else.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/`, one page a structure. Fields carry the
//! kernel's names without their prefix. All integers are little-endian, except the journal's, which are
//! big-endian. A field that is left at zero says why beside it.

use zerocopy::byteorder::big_endian;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The size of every block, in bytes. One size keeps layout simple, and every boot loader reads it.
pub const BLOCK_SIZE: u64 = 4096;
/// [`BLOCK_SIZE`] for the lengths of buffers.
pub const BLOCK_BYTES: usize = 4096;
/// Blocks in a block group: one block of bitmap holds a bit for each.
pub const BLOCKS_PER_GROUP: u32 = 8 * 4096;
/// The size of an inode, in bytes.
pub const INODE_SIZE: usize = 256;
/// Inodes in one block of an inode table.
pub const INODES_PER_BLOCK: u32 = 16;
/// The size of a group descriptor under the 64bit feature, in bytes.
pub const DESCRIPTOR_SIZE: usize = 64;
/// Group descriptors in one block.
pub const DESCRIPTORS_PER_BLOCK: u32 = 64;
/// Block numbers in a block of the classic (not extent-mapped) block map, which only the resize inode uses.
pub const ADDRESSES_PER_BLOCK: u32 = 1024;
/// Groups whose bitmaps and inode tables are packed together, as mke2fs does by default.
pub const GROUPS_PER_FLEX: u32 = 16;
/// Where the primary superblock starts in block 0, in bytes.
pub const SUPERBLOCK_OFFSET: usize = 1024;
/// The file length that the kernel counts `i_blocks` in, in bytes, whatever the block size.
pub const SECTOR_SIZE: u64 = 512;

/// The root directory's inode.
pub const INODE_ROOT: u32 = 2;
/// The inode that owns the reserved group descriptor blocks.
pub const INODE_RESIZE: u32 = 7;
/// The journal's inode.
pub const INODE_JOURNAL: u32 = 8;
/// The first inode that is not reserved; `lost+found` by convention.
pub const INODE_FIRST: u32 = 11;

/// Optional features that any kernel may ignore.
pub const FEATURE_COMPAT: u32 = compat::HAS_JOURNAL | compat::EXT_ATTR | compat::RESIZE_INODE | compat::DIR_INDEX;
/// Features that a reader must know.
pub const FEATURE_INCOMPAT: u32 = incompat::FILETYPE | incompat::EXTENTS | incompat::BIT64 | incompat::FLEX_BG;
/// Features that a writer must know.
pub const FEATURE_RO_COMPAT: u32 = ro_compat::SPARSE_SUPER
    | ro_compat::LARGE_FILE
    | ro_compat::HUGE_FILE
    | ro_compat::DIR_NLINK
    | ro_compat::EXTRA_ISIZE
    | ro_compat::METADATA_CSUM;

/// Bits of `s_feature_compat` ("Super Block", section on features).
#[allow(missing_docs, reason = "the kernel's documentation describes each bit")]
pub mod compat {
    pub const HAS_JOURNAL: u32 = 0x4;
    pub const EXT_ATTR: u32 = 0x8;
    pub const RESIZE_INODE: u32 = 0x10;
    pub const DIR_INDEX: u32 = 0x20;
    pub const SPARSE_SUPER2: u32 = 0x200;
    pub const STABLE_INODES: u32 = 0x800;
    pub const ORPHAN_FILE: u32 = 0x1000;
}

/// Bits of `s_feature_incompat`.
#[allow(missing_docs, reason = "the kernel's documentation describes each bit")]
pub mod incompat {
    pub const FILETYPE: u32 = 0x2;
    pub const RECOVER: u32 = 0x4;
    pub const META_BG: u32 = 0x10;
    pub const EXTENTS: u32 = 0x40;
    pub const BIT64: u32 = 0x80;
    pub const MMP: u32 = 0x100;
    pub const FLEX_BG: u32 = 0x200;
    pub const EA_INODE: u32 = 0x400;
    pub const CSUM_SEED: u32 = 0x2000;
    pub const LARGEDIR: u32 = 0x4000;
    pub const INLINE_DATA: u32 = 0x8000;
    pub const ENCRYPT: u32 = 0x1_0000;
    pub const CASEFOLD: u32 = 0x2_0000;
}

/// Bits of `s_feature_ro_compat`.
#[allow(missing_docs, reason = "the kernel's documentation describes each bit")]
pub mod ro_compat {
    pub const SPARSE_SUPER: u32 = 0x1;
    pub const LARGE_FILE: u32 = 0x2;
    pub const HUGE_FILE: u32 = 0x8;
    pub const GDT_CSUM: u32 = 0x10;
    pub const DIR_NLINK: u32 = 0x20;
    pub const EXTRA_ISIZE: u32 = 0x40;
    pub const QUOTA: u32 = 0x100;
    pub const BIGALLOC: u32 = 0x200;
    pub const METADATA_CSUM: u32 = 0x400;
    pub const PROJECT: u32 = 0x2000;
    pub const VERITY: u32 = 0x8000;
    pub const ORPHAN_PRESENT: u32 = 0x1_0000;
}

/// The names of the bits of `s_feature_compat`, as mke2fs and dumpe2fs give them.
pub const COMPAT_NAMES: [(u32, &str); 11] = [
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (compat::HAS_JOURNAL, "has_journal"),
    (compat::EXT_ATTR, "ext_attr"),
    (compat::RESIZE_INODE, "resize_inode"),
    (compat::DIR_INDEX, "dir_index"),
    (0x100, "snapshot_bitmap"),
    (compat::SPARSE_SUPER2, "sparse_super2"),
    (0x400, "fast_commit"),
    (compat::STABLE_INODES, "stable_inodes"),
    (compat::ORPHAN_FILE, "orphan_file"),
];
/// The names of the bits of `s_feature_incompat`.
pub const INCOMPAT_NAMES: [(u32, &str); 16] = [
    (0x1, "compression"),
    (incompat::FILETYPE, "filetype"),
    (incompat::RECOVER, "needs_recovery"),
    (0x8, "journal_dev"),
    (incompat::META_BG, "meta_bg"),
    (incompat::EXTENTS, "extent"),
    (incompat::BIT64, "64bit"),
    (incompat::MMP, "mmp"),
    (incompat::FLEX_BG, "flex_bg"),
    (incompat::EA_INODE, "ea_inode"),
    (0x1000, "dirdata"),
    (incompat::CSUM_SEED, "metadata_csum_seed"),
    (incompat::LARGEDIR, "large_dir"),
    (incompat::INLINE_DATA, "inline_data"),
    (incompat::ENCRYPT, "encrypt"),
    (incompat::CASEFOLD, "casefold"),
];
/// The names of the bits of `s_feature_ro_compat`.
pub const RO_COMPAT_NAMES: [(u32, &str); 16] = [
    (ro_compat::SPARSE_SUPER, "sparse_super"),
    (ro_compat::LARGE_FILE, "large_file"),
    (0x4, "btree_dir"),
    (ro_compat::HUGE_FILE, "huge_file"),
    (ro_compat::GDT_CSUM, "uninit_bg"),
    (ro_compat::DIR_NLINK, "dir_nlink"),
    (ro_compat::EXTRA_ISIZE, "extra_isize"),
    (0x80, "snapshot"),
    (ro_compat::QUOTA, "quota"),
    (ro_compat::BIGALLOC, "bigalloc"),
    (ro_compat::METADATA_CSUM, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (ro_compat::PROJECT, "project"),
    (ro_compat::VERITY, "verity"),
    (ro_compat::ORPHAN_PRESENT, "orphan_present"),
];

/// `s_magic`.
pub const SUPERBLOCK_MAGIC: u16 = 0xef53;
/// `s_state`: cleanly unmounted.
pub const STATE_CLEAN: u16 = 1;
/// `s_state`: the kernel found errors.
pub const STATE_ERRORS: u16 = 2;
/// `s_errors`: continue, mke2fs's default.
pub const ERRORS_CONTINUE: u16 = 1;
/// `s_rev_level`: inode sizes and features vary.
pub const REVISION_DYNAMIC: u32 = 1;
/// `s_def_hash_version` and `dx_root_info.hash_version`: half MD4.
pub const HASH_HALF_MD4: u8 = 1;
/// `s_jnl_backup_type`: `s_jnl_blocks` holds the journal inode's block map and size.
pub const JOURNAL_BACKUP_BLOCKS: u8 = 1;
/// `s_flags`: directory hashes take name bytes as signed, as they are on x86.
pub const FLAGS_SIGNED_HASH: u32 = 1;
/// `s_checksum_type`: crc32c, the only one there is.
pub const CHECKSUM_CRC32C: u8 = 1;
/// `s_default_mount_opts`: user_xattr and acl, mke2fs's default.
pub const DEFAULT_MOUNT_OPTIONS: u32 = 0x4 | 0x8;
/// `bg_flags`: no inode of the group was ever used, and its inode bitmap may hold anything.
pub const GROUP_INODE_UNINIT: u16 = 1;
/// `bg_flags`: no block of the group is in use but its metadata, and its block bitmap may hold anything.
pub const GROUP_BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the inode table's unused part is zero, so that no kernel has to zero it lazily.
pub const GROUP_INODE_TABLE_ZEROED: u16 = 4;

/// The superblock ("Super Block").
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Superblock {
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub r_blocks_count_lo: U32, // 0: every free byte is the user's to use
    pub free_blocks_count_lo: U32,

    pub free_inodes_count: U32,
    pub first_data_block: U32, // 0, as for every block size over 1024
    pub log_block_size: U32,
    pub log_cluster_size: U32,

    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mtime: U32, // 0: never mounted

    pub wtime: U32,
    pub mnt_count: U16, // 0: never mounted
    pub max_mnt_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_rev_level: U16, // 0, as always

    pub lastcheck: U32,
    pub checkinterval: U32, // 0: no check by age
    pub creator_os: U32,    // 0: Linux
    pub rev_level: U32,

    pub def_resuid: U16, // 0: root
    pub def_resgid: U16, // 0: root
    pub first_ino: U32,
    pub inode_size: U16,
    pub block_group_nr: U16,
    pub feature_compat: U32,

    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub last_mounted: [u8; 64],      // 0: never mounted
    pub algorithm_usage_bitmap: U32, // 0: compression was never merged
    pub prealloc_blocks: u8,         // 0: unused by Linux
    pub prealloc_dir_blocks: u8,     // 0: unused by Linux
    pub reserved_gdt_blocks: U16,

    pub journal_uuid: [u8; 16], // 0: the journal is internal
    pub journal_inum: U32,
    pub journal_dev: U32, // 0: the journal is internal
    pub last_orphan: U32, // 0: no orphan inode
    pub hash_seed: [U32; 4],
    pub def_hash_version: u8,
    pub jnl_backup_type: u8,
    pub desc_size: U16,
    pub default_mount_opts: U32,
    pub first_meta_bg: U32, // 0: no meta_bg
    pub mkfs_time: U32,
    pub jnl_blocks: [U32; 17],

    pub blocks_count_hi: U32,
    pub r_blocks_count_hi: U32,
    pub free_blocks_count_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,

    pub flags: U32,
    pub raid_stride: U16,         // 0: not on RAID
    pub mmp_update_interval: U16, // 0: no multi-mount protection
    pub mmp_block: U64,           // 0: no multi-mount protection

    pub raid_stripe_width: U32, // 0: not on RAID
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub reserved_pad: U16,
    pub kbytes_written: U64, // 0: never mounted

    pub snapshot: [U32; 5],        // 0: snapshots were never merged
    pub error_fields: [u8; 108],   // 0: no error was ever seen
    pub mount_opts: [u8; 64],      // 0: no mount options are forced
    pub usr_quota_inum: U32,       // 0: no quota
    pub grp_quota_inum: U32,       // 0: no quota
    pub overhead_clusters: U32,    // 0: the kernel computes it at mount
    pub backup_bgs: [U32; 2],      // 0: sparse_super, not sparse_super2
    pub encrypt_algos: [u8; 4],    // 0: no encryption
    pub encrypt_pw_salt: [u8; 16], // 0: no encryption
    pub lpf_ino: U32,              // 0: lost+found is found by name
    pub prj_quota_inum: U32,       // 0: no quota
    pub checksum_seed: U32,        // 0: U-Boot knows no metadata_csum_seed
    pub time_high: [u8; 8],        // 0: no time after 2106
    pub encoding: U16,             // 0: names are bytes
    pub encoding_flags: U16,       // 0: as above
    pub orphan_file_inum: U32,     // 0: U-Boot knows no orphan_file
    pub reserved: [u8; 376],       // 0: padding
    pub checksum: U32,
}
const _: () = assert!(size_of::<Superblock>() == 1024);

/// A block group descriptor of 64 bytes ("Block Group Descriptors").
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct GroupDescriptor {
    pub block_bitmap_lo: U32,
    pub inode_bitmap_lo: U32,
    pub inode_table_lo: U32,
    pub free_blocks_count_lo: U16,
    pub free_inodes_count_lo: U16,

    pub used_dirs_count_lo: U16,
    pub flags: U16,
    pub exclude_bitmap_lo: U32, // 0: snapshots were never merged
    pub block_bitmap_csum_lo: U16,
    pub inode_bitmap_csum_lo: U16,
    pub itable_unused_lo: U16,
    pub checksum: U16,

    pub block_bitmap_hi: U32,
    pub inode_bitmap_hi: U32,
    pub inode_table_hi: U32,
    pub free_blocks_count_hi: U16, // 0: a group has 2^15 blocks
    pub free_inodes_count_hi: U16, // 0: a group has at most 2^15 inodes

    pub used_dirs_count_hi: U16, // 0: as above
    pub itable_unused_hi: U16,   // 0: as above
    pub exclude_bitmap_hi: U32,  // 0: snapshots were never merged
    pub block_bitmap_csum_hi: U16,
    pub inode_bitmap_csum_hi: U16,
    pub reserved: U32,
}
const _: () = assert!(size_of::<GroupDescriptor>() == DESCRIPTOR_SIZE);

/// An inode of 256 bytes ("Index Nodes").
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Inode {
    pub mode: U16,
    pub uid: U16,
    pub size_lo: U32,
    pub atime: U32,
    pub ctime: U32,

    pub mtime: U32,
    pub dtime: U32, // 0: not deleted
    pub gid: U16,
    pub links_count: U16,
    pub blocks_lo: U32,

    pub flags: U32,
    pub version: U32, // 0: as mke2fs
    pub block: [u8; 60],
    pub generation: U32,  // 0: no NFS handle was ever given out
    pub file_acl_lo: U32, // 0: no extended attributes
    pub size_high: U32,
    pub obso_faddr: U32, // 0: fragments never existed

    pub blocks_high: U16,
    pub file_acl_high: U16, // 0: no extended attributes
    pub uid_high: U16,
    pub gid_high: U16,
    pub checksum_lo: U16,
    pub reserved: U16,

    pub extra_isize: U16,
    pub checksum_hi: U16,
    pub ctime_extra: U32,
    pub mtime_extra: U32,
    pub atime_extra: U32,
    pub crtime: U32,
    pub crtime_extra: U32,
    pub version_hi: U32, // 0: as mke2fs
    pub projid: U32,     // 0: no project quota

    pub xattrs: [u8; 96], // 0: no extended attributes
}
const _: () = assert!(size_of::<Inode>() == INODE_SIZE);

/// `i_extra_isize`: the bytes of [`Inode`] past the classic 128 that hold fields.
pub const EXTRA_ISIZE: u16 = 32;
/// `i_mode`: a regular file.
pub const MODE_REGULAR: u16 = 0o100_000;
/// `i_mode`: a directory.
pub const MODE_DIRECTORY: u16 = 0o040_000;
/// `i_mode`: a symbolic link.
pub const MODE_SYMLINK: u16 = 0o120_000;
/// `i_mode`: the bits of the type.
pub const MODE_TYPE: u16 = 0o170_000;
/// `i_mode`: a character device.
pub const MODE_CHARACTER: u16 = 0o020_000;
/// `i_mode`: a block device.
pub const MODE_BLOCK: u16 = 0o060_000;
/// `i_mode`: a named pipe.
pub const MODE_PIPE: u16 = 0o010_000;
/// `i_mode`: a socket.
pub const MODE_SOCKET: u16 = 0o140_000;
/// `i_flags`: contents and names are encrypted.
pub const INODE_ENCRYPT: u32 = 0x800;
/// `i_flags`: `i_blocks` counts blocks of the filesystem, not sectors.
pub const INODE_HUGE_FILE: u32 = 0x4_0000;
/// `i_flags`: the inode holds the value of an extended attribute.
pub const INODE_EA: u32 = 0x20_0000;
/// `i_flags`: the contents stand in the inode.
pub const INODE_INLINE_DATA: u32 = 0x1000_0000;
/// `i_flags`: names in the directory are compared without regard to case.
pub const INODE_CASEFOLD: u32 = 0x4000_0000;
/// `i_flags`: the directory has a hash tree.
pub const INODE_INDEX: u32 = 0x1000;
/// `i_flags`: `i_block` holds an extent tree.
pub const INODE_EXTENTS: u32 = 0x8_0000;
/// The slot of `i_block` that points to the double-indirect block.
pub const BLOCK_MAP_DOUBLE_INDIRECT: usize = 13;

/// The head of every extent tree node ("The Contents of inode.i_block", section "Extent Tree").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct ExtentHeader {
    pub magic: U16,
    pub entries: U16,
    pub max: U16,
    pub depth: U16,
    pub generation: U32, // 0: only Lustre uses it
}
const _: () = assert!(size_of::<ExtentHeader>() == 12);

/// `eh_magic`.
pub const EXTENT_MAGIC: u16 = 0xf30a;

/// An inner node's entry: the subtree for file blocks from `block` on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct ExtentIndex {
    pub block: U32,
    pub leaf_lo: U32,
    pub leaf_hi: U16,
    pub unused: U16,
}
const _: () = assert!(size_of::<ExtentIndex>() == 12);

/// A leaf's entry: a run of blocks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Extent {
    pub block: U32,
    pub len: U16,
    pub start_hi: U16,
    pub start_lo: U32,
}
const _: () = assert!(size_of::<Extent>() == 12);

/// The most blocks that one initialised extent covers.
pub const EXTENT_MAX_BLOCKS: u16 = 1 << 15;

/// The head of a directory entry; the name follows, padded to four bytes ("Directory Entries").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct DirectoryEntry {
    pub inode: U32,
    pub rec_len: U16,
    pub name_len: u8,
    pub file_type: u8,
}
const _: () = assert!(size_of::<DirectoryEntry>() == 8);

/// The checksum of a directory leaf, dressed as an unused entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct DirectoryTail {
    pub reserved_zero1: U32,
    pub rec_len: U16,
    pub reserved_zero2: u8,
    pub reserved_ft: u8,
    pub checksum: U32,
}
const _: () = assert!(size_of::<DirectoryTail>() == 12);

/// `det_reserved_ft`: the file type that no file has.
pub const DIRECTORY_TAIL_TYPE: u8 = 0xde;
/// `file_type`: a regular file.
pub const TYPE_REGULAR: u8 = 1;
/// `file_type`: a directory.
pub const TYPE_DIRECTORY: u8 = 2;
/// `file_type`: unknown, as without the filetype feature.
pub const TYPE_UNKNOWN: u8 = 0;
/// `file_type`: a character device.
pub const TYPE_CHARACTER: u8 = 3;
/// `file_type`: a block device.
pub const TYPE_BLOCK: u8 = 4;
/// `file_type`: a named pipe.
pub const TYPE_PIPE: u8 = 5;
/// `file_type`: a socket.
pub const TYPE_SOCKET: u8 = 6;
/// `file_type`: a symbolic link.
pub const TYPE_SYMLINK: u8 = 7;

/// What an htree root says of its tree ("Hash Tree Directories", `dx_root_info`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct HtreeRootInfo {
    pub reserved_zero: U32,
    pub hash_version: u8,
    pub info_length: u8,
    pub indirect_levels: u8,
    pub unused_flags: u8,
}
const _: () = assert!(size_of::<HtreeRootInfo>() == 8);

/// An htree node's entry. The first of each node has [`HtreeCount`] in place of the hash.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct HtreeEntry {
    pub hash: U32,
    pub block: U32,
}
const _: () = assert!(size_of::<HtreeEntry>() == 8);

/// How many entries an htree node can hold and does hold.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct HtreeCount {
    pub limit: U16,
    pub count: U16,
}
const _: () = assert!(size_of::<HtreeCount>() == 4);

/// The checksum at the end of an htree node (`dx_tail`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct HtreeTail {
    pub reserved: U32,
    pub checksum: U32,
}
const _: () = assert!(size_of::<HtreeTail>() == 8);

/// The head of the journal ("Journal (jbd2)", section "Super Block"). Big-endian.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct JournalSuperblock {
    pub magic: big_endian::U32,
    pub blocktype: big_endian::U32,
    pub header_sequence: big_endian::U32, // 0: only log blocks are numbered
    pub blocksize: big_endian::U32,
    pub maxlen: big_endian::U32,
    pub first: big_endian::U32,
    pub sequence: big_endian::U32,
    pub start: big_endian::U32,         // 0: the journal is empty
    pub errno: big_endian::U32,         // 0: no error
    pub features: [big_endian::U32; 3], // 0: the kernel adds those it wants at the first mount
    pub uuid: [u8; 16],                 // 0: as mke2fs; an internal journal has one user
    pub nr_users: big_endian::U32,
    pub dynsuper: big_endian::U32,             // 0: as above
    pub max_transaction: [big_endian::U32; 2], // 0: no limit
    pub checksum_type: u8,                     // 0: no checksums until the kernel adds them
    pub padding: [u8; 3],
    pub num_fc_blocks: big_endian::U32, // 0: no fast commits
    pub reserved: [u8; 164],            // 0: padding
    pub checksum: big_endian::U32,      // 0: as checksum_type
    pub users: [u8; 768],               // 0: an internal journal lists none
}
const _: () = assert!(size_of::<JournalSuperblock>() == 1024);

/// `h_magic` of every journal block.
pub const JOURNAL_MAGIC: u32 = 0xc03b_3998;
/// `h_blocktype`: a superblock with feature fields.
pub const JOURNAL_SUPERBLOCK_V2: u32 = 4;
/// `h_blocktype`: a superblock without feature fields.
pub const JOURNAL_SUPERBLOCK_V1: u32 = 3;
/// `h_blocktype`: what the blocks after this one belong to.
pub const JOURNAL_DESCRIPTOR: u32 = 1;
/// `h_blocktype`: the end of a transaction.
pub const JOURNAL_COMMIT: u32 = 2;
/// `h_blocktype`: blocks that earlier transactions must not bring back.
pub const JOURNAL_REVOKE: u32 = 5;
/// `s_feature_incompat` of the journal: block numbers have 64 bits.
pub const JOURNAL_BIT64: u32 = 0x2;
/// `s_feature_incompat` of the journal: checksums of 16 bits in tags.
pub const JOURNAL_CSUM_V2: u32 = 0x8;
/// `s_feature_incompat` of the journal: checksums of 32 bits in tags.
pub const JOURNAL_CSUM_V3: u32 = 0x10;
/// `s_feature_incompat` of the journal: an area for fast commits ends it.
pub const JOURNAL_FAST_COMMIT: u32 = 0x20;
/// All of `s_feature_incompat` of the journal that is known here: these, revocations and asynchronous commits.
pub const JOURNAL_KNOWN: u32 = 0x3f;
/// `t_flags`: the block's first four bytes, which were the journal's magic, were made zero.
pub const TAG_ESCAPE: u32 = 1;
/// `t_flags`: no UUID follows the tag.
pub const TAG_SAME_UUID: u32 = 2;
/// `t_flags`: the last tag of its descriptor block.
pub const TAG_LAST: u32 = 8;

/// The head of a block of extended attributes ("Extended Attributes", `ext4_xattr_header`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct XattrHeader {
    pub magic: U32,
    pub refcount: U32,
    pub blocks: U32,
    pub hash: U32,
    pub checksum: U32,
    pub reserved: [U32; 3],
}
const _: () = assert!(size_of::<XattrHeader>() == 32);

/// The head of an extended attribute (`ext4_xattr_entry`); its name without prefix follows, padded to four bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct XattrEntry {
    pub name_len: u8,
    pub name_index: u8,
    pub value_offs: U16,
    pub value_inum: U32,
    pub value_size: U32,
    pub hash: U32,
}
const _: () = assert!(size_of::<XattrEntry>() == 16);

/// `h_magic` of a block of extended attributes, and of those in an inode.
pub const XATTR_MAGIC: u32 = 0xea02_0000;
