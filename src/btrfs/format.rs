//! The on-disk structures of btrfs, and nothing else.
//!
//! Source: the "Btrfs on-disk format" pages of the btrfs documentation; names and numbers are those of the kernel's
//! user interface header `include/uapi/linux/btrfs_tree.h`, without their prefix. All integers are little-endian, all
//! structures packed. A field that is left at zero says why beside it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The unit of data, and of its checksums, in bytes.
pub const SECTOR_SIZE: u64 = 4096;
/// [`SECTOR_SIZE`] as a length in memory.
pub const SECTOR_BYTES: usize = 4096;
const _: () = assert!(SECTOR_BYTES as u64 == SECTOR_SIZE);
/// The size of a tree node in bytes, mkfs.btrfs's default.
pub const NODE_SIZE: u64 = 16384;
/// [`NODE_SIZE`] for the lengths of buffers.
pub const NODE_BYTES: usize = 16384;
/// The unit in which chunks are striped, in bytes; without meaning for our profiles, but always said.
pub const STRIPE_LEN: u64 = 64 << 10;
/// The start of each device that is never allocated, in bytes.
pub const DEVICE_RESERVED: u64 = 1 << 20;
/// Where the superblock and its mirrors are, in bytes from the start of the device, as far as it reaches.
pub const SUPERBLOCK_OFFSETS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];

/// `BTRFS_SUPER_MAGIC`, the bytes `_BHRfS_M`.
pub const MAGIC: [u8; 8] = *b"_BHRfS_M";
/// `HEADER_FLAG_WRITTEN`: the node or superblock was written to disk.
pub const FLAG_WRITTEN: u64 = 1;
/// `BTRFS_MIXED_BACKREF_REV` in the top byte of a node's flags: the only revision of back references in use.
pub const FLAG_BACKREF_REVISION: u64 = 1 << 56;

/// Features that a writer must know: the free space tree, and that it can be trusted.
pub const FEATURE_COMPAT_RO: u64 = 0x1 | 0x2;
/// Features that a reader must know: mixed back references, extended inode references, skinny metadata, no holes.
pub const FEATURE_INCOMPAT: u64 = 0x1 | 0x40 | 0x100 | 0x200;
/// `FEATURE_INCOMPAT_COMPRESS_LZO`.
pub const FEATURE_COMPRESS_LZO: u64 = 0x8;
/// `FEATURE_INCOMPAT_COMPRESS_ZSTD`.
pub const FEATURE_COMPRESS_ZSTD: u64 = 0x10;

/// The identifiers of trees, and of other well-known objects.
pub mod object {
    /// The root tree: where all other trees are.
    pub const ROOT_TREE: u64 = 1;
    /// The extent tree: who uses which part of the logical space.
    pub const EXTENT_TREE: u64 = 2;
    /// The chunk tree: logical to physical.
    pub const CHUNK_TREE: u64 = 3;
    /// The device tree: physical to logical.
    pub const DEV_TREE: u64 = 4;
    /// The top-level subvolume.
    pub const FS_TREE: u64 = 5;
    /// The directory in the root tree that names the default subvolume.
    pub const ROOT_TREE_DIR: u64 = 6;
    /// The checksums of all data.
    pub const CSUM_TREE: u64 = 7;
    /// The numbers of quotas.
    pub const QUOTA_TREE: u64 = 8;
    /// The subvolumes by UUID.
    pub const UUID_TREE: u64 = 9;
    /// What is free in each block group.
    pub const FREE_SPACE_TREE: u64 = 10;
    /// The block groups, where the extent tree does not hold them.
    pub const BLOCK_GROUP_TREE: u64 = 11;
    /// The state of a balance.
    pub const BALANCE: u64 = 0_u64.wrapping_sub(4);
    /// A deleted item that is still there.
    pub const ORPHAN: u64 = 0_u64.wrapping_sub(5);
    /// A copy of a subvolume's tree while a balance moves it.
    pub const TREE_RELOC: u64 = 0_u64.wrapping_sub(8);
    /// The tree that balancing moves data through.
    pub const DATA_RELOC_TREE: u64 = 0_u64.wrapping_sub(9);
    /// The first identifier of a subvolume other than the top level, and the inode of each subvolume's root directory.
    pub const FIRST_FREE: u64 = 256;
    /// The last identifier of a subvolume.
    pub const LAST_FREE: u64 = 0_u64.wrapping_sub(256);
    /// The object of all items of the chunk tree that describe chunks.
    pub const FIRST_CHUNK_TREE: u64 = 256;
    /// The object of the chunk tree's items that describe devices.
    pub const DEV_ITEMS: u64 = 1;
    /// The object of all checksums.
    pub const EXTENT_CSUM: u64 = 0_u64.wrapping_sub(10);
}

/// The types of items: the middle part of a key.
pub mod kind {
    /// An inode.
    pub const INODE_ITEM: u8 = 1;
    /// The name of an inode in its directory.
    pub const INODE_REF: u8 = 12;
    /// The same, by the hash of directory and name, where there are too many for one item.
    pub const INODE_EXTREF: u8 = 13;
    /// An extended attribute, as a directory entry with its value after it.
    pub const XATTR_ITEM: u8 = 24;
    /// Something that was deleted, but is still there; the key's offset says what.
    pub const ORPHAN_ITEM: u8 = 48;
    /// A directory entry by the hash of its name.
    pub const DIR_ITEM: u8 = 84;
    /// A directory entry by its number.
    pub const DIR_INDEX: u8 = 96;
    /// A part of a file's contents.
    pub const EXTENT_DATA: u8 = 108;
    /// Checksums of data.
    pub const EXTENT_CSUM: u8 = 128;
    /// A tree.
    pub const ROOT_ITEM: u8 = 132;
    /// Where a subvolume is in its parent, from the child's side.
    pub const ROOT_BACKREF: u8 = 144;
    /// The same from the parent's side.
    pub const ROOT_REF: u8 = 156;
    /// A data extent.
    pub const EXTENT_ITEM: u8 = 168;
    /// A tree node; the key has its level in place of its length.
    pub const METADATA_ITEM: u8 = 169;
    /// The inline reference of a tree to its node.
    pub const TREE_BLOCK_REF: u8 = 176;
    /// For quotas: the tree that made the extent. It is not counted as a reference.
    pub const EXTENT_OWNER_REF: u8 = 172;
    /// The inline reference of a file to its data extent.
    pub const EXTENT_DATA_REF: u8 = 178;
    /// The reference of a node to another, after a snapshot.
    pub const SHARED_BLOCK_REF: u8 = 182;
    /// The reference of a leaf to a data extent, after a snapshot.
    pub const SHARED_DATA_REF: u8 = 184;
    /// A block group.
    pub const BLOCK_GROUP_ITEM: u8 = 192;
    /// The head of a block group's free space.
    pub const FREE_SPACE_INFO: u8 = 198;
    /// A free range.
    pub const FREE_SPACE_EXTENT: u8 = 199;
    /// A range with a bit for each sector, set where it is free.
    pub const FREE_SPACE_BITMAP: u8 = 200;
    /// A range of a device that a chunk occupies.
    pub const DEV_EXTENT: u8 = 204;
    /// A device.
    pub const DEV_ITEM: u8 = 216;
    /// A chunk.
    pub const CHUNK_ITEM: u8 = 228;
    /// State of work that goes on after a mount, such as that of a balance.
    pub const TEMPORARY_ITEM: u8 = 248;
    /// A subvolume by its UUID.
    pub const UUID_KEY_SUBVOL: u8 = 251;
}

/// What a chunk or block group holds, and in how many copies (`BTRFS_BLOCK_GROUP_*`).
pub mod group {
    /// Contents of files, in one copy.
    pub const DATA: u64 = 1;
    /// The chunk tree, in two copies on the one device.
    pub const SYSTEM_DUP: u64 = 2 | 32;
    /// All other trees, in two copies on the one device.
    pub const METADATA_DUP: u64 = 4 | 32;
}

/// `btrfs_extent_item.flags`: contents of files.
pub const EXTENT_FLAG_DATA: u64 = 1;
/// `btrfs_extent_item.flags`: a tree node.
pub const EXTENT_FLAG_TREE_BLOCK: u64 = 2;
/// `btrfs_file_extent_item.type`: the contents follow in the item.
pub const FILE_EXTENT_INLINE: u8 = 0;
/// `btrfs_file_extent_item.type`: the contents are in an extent.
pub const FILE_EXTENT_REGULAR: u8 = 1;
/// `btrfs_file_extent_item.type`: the extent is there, but nothing was written to it.
pub const FILE_EXTENT_PREALLOCATED: u8 = 2;
/// `BTRFS_INODE_NODATASUM`: the contents have no checksums.
pub const INODE_NODATASUM: u64 = 1;
/// `BTRFS_FT_REG_FILE`.
pub const TYPE_REGULAR: u8 = 1;
/// `BTRFS_FT_DIR`.
pub const TYPE_DIRECTORY: u8 = 2;
/// `BTRFS_FT_SYMLINK`.
pub const TYPE_SYMLINK: u8 = 7;
/// `BTRFS_INODE_ROOT_ITEM_INIT`: the flags of a subvolume's root item mean something.
pub const INODE_ROOT_ITEM_INIT: u64 = 1 << 31;
/// `stat.st_mode`: a regular file.
pub const MODE_REGULAR: u32 = 0o100_000;
/// `stat.st_mode`: a directory.
pub const MODE_DIRECTORY: u32 = 0o040_000;
/// `stat.st_mode`: a symbolic link.
pub const MODE_SYMLINK: u32 = 0o120_000;

/// What contents are compressed with (`btrfs_file_extent_item.compression`).
pub mod compression {
    /// Not at all.
    pub const NONE: u8 = 0;
    /// DEFLATE in a zlib stream.
    pub const ZLIB: u8 = 1;
    /// LZO1X, in pieces of a sector.
    pub const LZO: u8 = 2;
    /// A zstd frame.
    pub const ZSTD: u8 = 3;
}

/// A key as trees hold it (`btrfs_disk_key`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct DiskKey {
    pub objectid: U64,
    pub kind: u8,
    pub offset: U64,
}
const _: () = assert!(size_of::<DiskKey>() == 17);

/// The head of every node (`btrfs_header`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct Header {
    pub csum: [u8; 32],
    pub fsid: [u8; 16],
    pub bytenr: U64,
    pub flags: U64,
    pub chunk_tree_uuid: [u8; 16],
    pub generation: U64,
    pub owner: U64,
    pub nritems: U32,
    pub level: u8,
}
const _: () = assert!(size_of::<Header>() == 101);

/// An entry of a leaf (`btrfs_item`); its data is at `offset` bytes from the end of the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct Item {
    pub key: DiskKey,
    pub offset: U32,
    pub size: U32,
}
const _: () = assert!(size_of::<Item>() == 25);

/// An entry of an inner node (`btrfs_key_ptr`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct KeyPtr {
    pub key: DiskKey,
    pub blockptr: U64,
    pub generation: U64,
}
const _: () = assert!(size_of::<KeyPtr>() == 33);

/// A time (`btrfs_timespec`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct Timespec {
    pub sec: U64,
    pub nsec: U32,
}
const _: () = assert!(size_of::<Timespec>() == 12);

/// An inode (`btrfs_inode_item`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct InodeItem {
    pub generation: U64,
    pub transid: U64,
    pub size: U64,
    pub nbytes: U64,
    pub block_group: U64, // 0: unused by the kernel
    pub nlink: U32,
    pub uid: U32,
    pub gid: U32,
    pub mode: U32,
    pub rdev: U64, // 0: no device nodes
    pub flags: U64,
    pub sequence: U64, // 0: never changed
    pub reserved: [U64; 4],
    pub atime: Timespec,
    pub ctime: Timespec,
    pub mtime: Timespec,
    pub otime: Timespec,
}
const _: () = assert!(size_of::<InodeItem>() == 160);

/// The head of a name in `INODE_REF` (`btrfs_inode_ref`); the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct InodeRef {
    pub index: U64,
    pub name_len: U16,
}
const _: () = assert!(size_of::<InodeRef>() == 10);

/// The head of a directory entry (`btrfs_dir_item`); the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct DirItem {
    pub location: DiskKey,
    pub transid: U64,
    pub data_len: U16, // 0: not an extended attribute
    pub name_len: U16,
    pub kind: u8,
}
const _: () = assert!(size_of::<DirItem>() == 30);

/// The head of a part of a file (`btrfs_file_extent_item` up to its type); inline contents or [`ExtentPlace`] follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct FileExtent {
    pub generation: U64,
    pub ram_bytes: U64,
    pub compression: u8,
    pub encryption: u8,      // 0: btrfs has none
    pub other_encoding: U16, // 0: btrfs has none
    pub kind: u8,
}
const _: () = assert!(size_of::<FileExtent>() == 21);

/// The head of a name in `INODE_EXTREF` (`btrfs_inode_extref`); the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct InodeExtref {
    pub parent_objectid: U64,
    pub index: U64,
    pub name_len: U16,
}
const _: () = assert!(size_of::<InodeExtref>() == 18);

/// Where a regular part of a file is (the rest of `btrfs_file_extent_item`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct ExtentPlace {
    pub disk_bytenr: U64,
    pub disk_num_bytes: U64,
    pub offset: U64, // 0: the whole extent is the file's
    pub num_bytes: U64,
}
const _: () = assert!(size_of::<ExtentPlace>() == 32);

/// A tree (`btrfs_root_item`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct RootItem {
    pub inode: InodeItem,
    pub generation: U64,
    pub root_dirid: U64,
    pub bytenr: U64,
    pub byte_limit: U64, // 0: none
    pub bytes_used: U64,
    pub last_snapshot: U64, // 0: none was made
    pub flags: U64,         // 0: writable
    pub refs: U32,
    pub drop_progress: DiskKey, // 0: not being deleted
    pub drop_level: u8,
    pub level: u8,
    pub generation_v2: U64,
    pub uuid: [u8; 16],
    pub parent_uuid: [u8; 16],   // 0: not a snapshot
    pub received_uuid: [u8; 16], // 0: not received
    pub ctransid: U64,
    pub otransid: U64,
    pub stransid: U64, // 0: not received
    pub rtransid: U64,
    pub ctime: Timespec,
    pub otime: Timespec,
    pub stime: Timespec, // 0: not received
    pub rtime: Timespec,
    pub reserved: [U64; 8],
}
const _: () = assert!(size_of::<RootItem>() == 439);

/// The head of a subvolume's name in its parent (`btrfs_root_ref`); the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct RootRef {
    pub dirid: U64,
    pub sequence: U64,
    pub name_len: U16,
}
const _: () = assert!(size_of::<RootRef>() == 18);

/// The head of an extent (`btrfs_extent_item`); its inline reference follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct ExtentItem {
    pub refs: U64,
    pub generation: U64,
    pub flags: U64,
}
const _: () = assert!(size_of::<ExtentItem>() == 24);

/// A tree node with the one tree that refers to it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct MetadataExtent {
    pub item: ExtentItem,
    pub kind: u8,
    pub root: U64,
}
const _: () = assert!(size_of::<MetadataExtent>() == 33);

/// A data extent with the one file that refers to it (`btrfs_extent_data_ref`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct DataExtent {
    pub item: ExtentItem,
    pub kind: u8,
    pub root: U64,
    pub objectid: U64,
    pub offset: U64,
    pub count: U32,
}
const _: () = assert!(size_of::<DataExtent>() == 53);

/// A block group (`btrfs_block_group_item`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct BlockGroupItem {
    pub used: U64,
    pub chunk_objectid: U64,
    pub flags: U64,
}
const _: () = assert!(size_of::<BlockGroupItem>() == 24);

/// The head of a block group's free space (`btrfs_free_space_info`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct FreeSpaceInfo {
    pub extent_count: U32,
    pub flags: U32, // 0: extents, not bitmaps
}
const _: () = assert!(size_of::<FreeSpaceInfo>() == 8);

/// A range of a device (`btrfs_dev_extent`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct DevExtent {
    pub chunk_tree: U64,
    pub chunk_objectid: U64,
    pub chunk_offset: U64,
    pub length: U64,
    pub chunk_tree_uuid: [u8; 16],
}
const _: () = assert!(size_of::<DevExtent>() == 48);

/// A device (`btrfs_dev_item`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct DevItem {
    pub devid: U64,
    pub total_bytes: U64,
    pub bytes_used: U64,
    pub io_align: U32,
    pub io_width: U32,
    pub sector_size: U32,
    pub kind: U64,         // 0: as mkfs.btrfs
    pub generation: U64,   // 0: as mkfs.btrfs
    pub start_offset: U64, // 0: as mkfs.btrfs
    pub dev_group: U32,    // 0: unused
    pub seek_speed: u8,    // 0: unused
    pub bandwidth: u8,     // 0: unused
    pub uuid: [u8; 16],
    pub fsid: [u8; 16],
}
const _: () = assert!(size_of::<DevItem>() == 98);

/// The head of a chunk (`btrfs_chunk` without its stripes); [`Stripe`]s follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct ChunkItem {
    pub length: U64,
    pub owner: U64,
    pub stripe_len: U64,
    pub kind: U64,
    pub io_align: U32,
    pub io_width: U32,
    pub sector_size: U32,
    pub num_stripes: U16,
    pub sub_stripes: U16,
}
const _: () = assert!(size_of::<ChunkItem>() == 48);

/// One copy of a chunk (`btrfs_stripe`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct Stripe {
    pub devid: U64,
    pub offset: U64,
    pub dev_uuid: [u8; 16],
}
const _: () = assert!(size_of::<Stripe>() == 32);

/// A past state of the filesystem (`btrfs_root_backup`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct RootBackup {
    pub tree_root: U64,
    pub tree_root_gen: U64,
    pub chunk_root: U64,
    pub chunk_root_gen: U64,
    pub extent_root: U64,
    pub extent_root_gen: U64,
    pub fs_root: U64,
    pub fs_root_gen: U64,
    pub dev_root: U64,
    pub dev_root_gen: U64,
    pub csum_root: U64,
    pub csum_root_gen: U64,
    pub total_bytes: U64,
    pub bytes_used: U64,
    pub num_devices: U64,
    pub unused_64: [U64; 4],
    pub tree_root_level: u8,
    pub chunk_root_level: u8,
    pub extent_root_level: u8,
    pub fs_root_level: u8,
    pub dev_root_level: u8,
    pub csum_root_level: u8,
    pub unused_8: [u8; 10],
}
const _: () = assert!(size_of::<RootBackup>() == 168);

/// The bytes that the superblock has for the system chunks.
pub const SYS_CHUNK_ARRAY_BYTES: usize = 2048;
/// The bytes that the superblock has for the label, its closing NUL included.
pub const LABEL_BYTES: usize = 256;

/// The superblock (`btrfs_super_block`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the documentation of btrfs describes each field")]
pub struct Superblock {
    pub csum: [u8; 32],
    pub fsid: [u8; 16],
    pub bytenr: U64,
    pub flags: U64,
    pub magic: [u8; 8],
    pub generation: U64,
    pub root: U64,
    pub chunk_root: U64,
    pub log_root: U64,         // 0: cleanly unmounted
    pub log_root_transid: U64, // 0: unused
    pub total_bytes: U64,
    pub bytes_used: U64,
    pub root_dir_objectid: U64,
    pub num_devices: U64,
    pub sectorsize: U32,
    pub nodesize: U32,
    pub leafsize: U32,
    pub stripesize: U32,
    pub sys_chunk_array_size: U32,
    pub chunk_root_generation: U64,
    pub compat_flags: U64, // 0: there are none
    pub compat_ro_flags: U64,
    pub incompat_flags: U64,
    pub csum_type: U16, // 0: crc32c
    pub root_level: u8,
    pub chunk_root_level: u8,
    pub log_root_level: u8, // 0: cleanly unmounted
    pub dev_item: DevItem,
    pub label: [u8; LABEL_BYTES],
    pub cache_generation: U64, // 0: no free space cache of the old kind
    pub uuid_tree_generation: U64,
    pub metadata_uuid: [u8; 16], // 0: as fsid, without the feature
    pub reserved: [U64; 28],     // 0: later features
    pub sys_chunk_array: [u8; SYS_CHUNK_ARRAY_BYTES],
    pub super_roots: [RootBackup; 4],
    pub padding: [u8; 565],
}
const _: () = assert!(size_of::<Superblock>() == 4096);
const _: () = assert!(std::mem::offset_of!(Superblock, magic) == 0x40);
const _: () = assert!(std::mem::offset_of!(Superblock, label) == 0x12b);
const _: () = assert!(std::mem::offset_of!(Superblock, sys_chunk_array) == 0x32b);
const _: () = assert!(std::mem::offset_of!(Superblock, super_roots) == 0xb2b);
