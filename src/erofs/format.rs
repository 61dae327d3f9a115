//! The on-disk structures of EROFS, and nothing else.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst`, <https://erofs.docs.kernel.org>, and the names and numbers
//! of `erofs_fs.h` of erofs-utils 1.9, which is licensed under Apache 2.0 too. Fields carry the kernel's names without
//! their prefix. All integers are little-endian. A field of ours that is left at zero says why beside it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The size of every block that we write, in bytes: no kernel mounts blocks larger than its pages.
pub const BLOCK_SIZE: u64 = 4096;
/// [`BLOCK_SIZE`] for the lengths of buffers.
pub const BLOCK_BYTES: usize = 4096;
/// The power of two that [`BLOCK_SIZE`] is.
pub const BLOCK_BITS: u8 = 12;
/// Where the superblock starts, in bytes.
pub const SUPERBLOCK_OFFSET: usize = 1024;
/// The size of [`Superblock`] in bytes; `sb_extslots` times [`EXTSLOT_SIZE`] more of it may follow.
pub const SUPERBLOCK_SIZE: usize = 128;
/// The unit of `sb_extslots`, in bytes.
pub const EXTSLOT_SIZE: usize = 16;
/// The unit that inode numbers count the metadata area in, in bytes. Each inode starts at such a slot.
pub const SLOT_SIZE: u64 = 32;

/// `magic`.
pub const SUPERBLOCK_MAGIC: u32 = 0xe0f5_e1e2;
/// An address of a block that means: there is none, these are zeros.
pub const NULL_ADDRESS: u32 = u32::MAX;
/// The bit of an inode number that says that the inode is in the metabox ([`incompat::METABOX`]).
pub const NID_METABOX: u64 = 1 << 63;
/// The longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;

/// Bits of `feature_compat`, which any kernel may ignore.
pub mod compat {
    /// The superblock has a checksum; see [`Superblock::checksum`](super::Superblock).
    pub const SB_CHKSUM: u32 = 0x1;
    /// Times of inodes are their times of modification, not of change.
    pub const MTIME: u32 = 0x2;
    /// `name_filter` of the header of extended attributes is in use.
    pub const XATTR_FILTER: u32 = 0x4;
    /// Shared extended attributes are in the metabox.
    pub const SHARED_EA_IN_METABOX: u32 = 0x8;
    /// Prefixes of extended attributes are at a place of the disk, not in the packed inode.
    pub const PLAIN_XATTR_PFX: u32 = 0x10;
}

/// Bits of `feature_incompat`, which a reader must know.
pub mod incompat {
    /// Compressed data ends with its block: zeros come before it, not after it. All of today have it.
    pub const ZERO_PADDING: u32 = 0x1;
    /// `available_compr_algs` is in use, and records of the methods follow the superblock.
    pub const COMPR_CFGS: u32 = 0x2;
    /// A physical cluster may have more than a block. It shares its bit with [`COMPR_CFGS`].
    pub const BIG_PCLUSTER: u32 = 0x2;
    /// Inodes of [`ChunkBased`](super::DataLayout::ChunkBased) are there.
    pub const CHUNKED_FILE: u32 = 0x4;
    /// Data is on other devices too.
    pub const DEVICE_TABLE: u32 = 0x8;
    /// Lclusters of type HEAD2 are there. It shares its bit with [`DEVICE_TABLE`].
    pub const COMPR_HEAD2: u32 = 0x8;
    /// A last cluster of compressed data may follow the indexes of its inode.
    pub const ZTAILPACKING: u32 = 0x10;
    /// Ends of files may be in the packed inode.
    pub const FRAGMENTS: u32 = 0x20;
    /// Several places of files may have one physical cluster. It shares its bit with [`FRAGMENTS`].
    pub const DEDUPE: u32 = 0x20;
    /// Extended attributes may have long prefixes.
    pub const XATTR_PREFIXES: u32 = 0x40;
    /// Addresses of blocks may have 48 bits, and directories may be without their `.`.
    pub const BIT48: u32 = 0x80;
    /// Inodes may be in an inode of their own, which may be compressed.
    pub const METABOX: u32 = 0x100;
}

/// The names of the bits of `feature_compat`, as dump.erofs gives them where it does.
pub const COMPAT_NAMES: [(u32, &str); 5] = [
    (compat::SB_CHKSUM, "sb_csum"),
    (compat::MTIME, "mtime"),
    (compat::XATTR_FILTER, "xattr_filter"),
    (compat::SHARED_EA_IN_METABOX, "shared_ea_in_metabox"),
    (compat::PLAIN_XATTR_PFX, "plain_xattr_pfx"),
];
/// The names of the bits of `feature_incompat`; where a bit has two meanings, of the one that dump.erofs gives.
pub const INCOMPAT_NAMES: [(u32, &str); 9] = [
    (incompat::ZERO_PADDING, "0padding"),
    (incompat::COMPR_CFGS, "compr_cfgs"),
    (incompat::CHUNKED_FILE, "chunked_file"),
    (incompat::DEVICE_TABLE, "device_table"),
    (incompat::ZTAILPACKING, "ztailpacking"),
    (incompat::FRAGMENTS, "fragments"),
    (incompat::XATTR_PREFIXES, "xattr_prefixes"),
    (incompat::BIT48, "48bit"),
    (incompat::METABOX, "metabox"),
];

/// The superblock, at [`SUPERBLOCK_OFFSET`].
///
/// Its checksum is a crc32c that starts from all ones and is not inverted at the end, over all bytes of the first block
/// from [`SUPERBLOCK_OFFSET`] on, with the field itself as zero. So it covers what follows the superblock too.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Superblock {
    pub magic: U32,
    pub checksum: U32,
    pub feature_compat: U32,
    pub blkszbits: u8,
    pub sb_extslots: u8, // 0: nothing but records of compression methods follows
    /// The root's inode number; under [`incompat::BIT48`] the upper bits of `blocks`.
    pub rootnid_2b: U16,
    /// How many inodes there are.
    pub inos: U64,

    /// Seconds since 1970: the time of modification of every compact inode, which may add seconds to it.
    pub epoch: U64,
    pub fixed_nsec: U32, // 0: times of a store are whole seconds
    /// The size of the filesystem, in blocks.
    pub blocks_lo: U32,
    /// The block where the metadata area starts, from which inode numbers count.
    pub meta_blkaddr: U32,
    pub xattr_blkaddr: U32, // 0: no extended attributes
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: U32,
    /// Under [`incompat::COMPR_CFGS`] a bit for each [`algorithm`] in use; otherwise the greatest distance of LZ4.
    pub available_compr_algs: U16,
    pub extra_devices: U16, // 0: one device
    pub devt_slotoff: U16,  // 0: as above
    pub dirblkbits: u8,     // 0: a block of a directory is a block
    pub xattr_prefix_count: u8,
    pub xattr_prefix_start: U32,
    pub packed_nid: U64, // 0: no fragments
    pub xattr_filter_reserved: u8,
    pub reserved: [u8; 3],
    pub build_time: U32, // 0: made at its epoch
    pub rootnid_8b: U64, // 0: the root's number has 16 bits
    pub reserved2: U64,
}
const _: () = assert!(size_of::<Superblock>() == SUPERBLOCK_SIZE);

/// The checksum of a superblock: `block` is the first block from [`SUPERBLOCK_OFFSET`] on, with zeros in the field.
pub fn checksum(block: &[u8]) -> u32 {
    // The crate inverts at the end, EROFS does not.
    !crc32c::crc32c(block)
}

/// What follows [`Superblock`] where `sb_extslots` is 1 or more.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct SuperblockExtension {
    /// The inode of the metabox, under [`incompat::METABOX`].
    pub metabox_nid: U64,
    pub reserved3: U64,
}
const _: () = assert!(size_of::<SuperblockExtension>() == EXTSLOT_SIZE);

/// `i_format`: the bit that tells an [`InodeExtended`] from an [`InodeCompact`].
pub const FORMAT_EXTENDED: u16 = 0x1;
/// `i_format`: how far its [`DataLayout`] is shifted.
pub const FORMAT_LAYOUT_SHIFT: u16 = 1;
/// `i_format`: the mask of its [`DataLayout`], after the shift.
pub const FORMAT_LAYOUT_MASK: u16 = 0x7;
/// `i_format` of compact inodes that are no directories: the inode has one link, and `nb` holds upper bits of an address.
pub const FORMAT_NLINK_1: u16 = 0x10;
/// `i_format` of directories: `.` is not among the entries.
pub const FORMAT_DOT_OMITTED: u16 = 0x10;
/// All bits of `i_format` that have a meaning.
pub const FORMAT_ALL: u16 = 0x1f;

/// How the contents of an inode are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DataLayout {
    /// In blocks that follow one another, from `u` on.
    FlatPlain = 0,
    /// Compressed; a [`LclusterIndex`] for each logical cluster.
    CompressedFull = 1,
    /// As `FlatPlain`, but what is no whole block follows the inode. It never crosses the end of a block.
    FlatInline = 2,
    /// Compressed; packs of shorter indexes, see [`compacted`].
    CompressedCompact = 3,
    /// In chunks, each at a place of its own, which follow the inode.
    ChunkBased = 4,
}

impl DataLayout {
    /// The layout that `i_format` names, if there is one.
    pub fn of_format(format: u16) -> Option<Self> {
        match (format >> FORMAT_LAYOUT_SHIFT) & FORMAT_LAYOUT_MASK {
            0 => Some(Self::FlatPlain),
            1 => Some(Self::CompressedFull),
            2 => Some(Self::FlatInline),
            3 => Some(Self::CompressedCompact),
            4 => Some(Self::ChunkBased),
            _ => None,
        }
    }

    /// Its bits of `i_format`.
    pub fn format(self) -> u16 {
        (self as u16) << FORMAT_LAYOUT_SHIFT
    }
}

/// The short form of an inode. Its time is the `epoch` of the superblock.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct InodeCompact {
    pub format: U16,
    /// 0: no extended attributes. Otherwise they follow: an [`XattrHeader`] and 4 bytes for each one above 1.
    pub xattr_icount: U16,
    pub mode: U16,
    /// Its links; under [`FORMAT_NLINK_1`] upper bits of the address in `u`.
    pub nb: U16,
    pub size: U32,
    pub mtime: U32, // 0: the time is the epoch. Seconds after it; kernels before 6.15 read none
    /// `startblk_lo`: the first block of the contents. For compressed ones, how many blocks they have; for chunks, a
    /// [`ChunkInfo`]; for devices, their number.
    pub u: U32,
    /// A number for programs whose inode numbers have 32 bits.
    pub ino: U32,
    pub uid: U16,
    pub gid: U16,
    pub reserved: U32,
}
const _: () = assert!(size_of::<InodeCompact>() == 32);

/// The complete form of an inode.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct InodeExtended {
    pub format: U16,
    /// As in [`InodeCompact`].
    pub xattr_icount: U16,
    pub mode: U16,
    /// Upper bits of the address in `u`, under [`incompat::BIT48`].
    pub nb: U16,
    pub size: U64,
    /// As in [`InodeCompact`].
    pub u: U32,
    pub ino: U32,

    pub uid: U32,
    pub gid: U32,
    pub mtime: U64,
    pub mtime_nsec: U32,
    pub nlink: U32,
    pub reserved2: [u8; 16],
}
const _: () = assert!(size_of::<InodeExtended>() == 64);

/// `u` of an inode in chunks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct ChunkInfo {
    pub format: U16,
    pub reserved: U16,
}
const _: () = assert!(size_of::<ChunkInfo>() == 4);

/// `format` of [`ChunkInfo`]: by how many bits a chunk is larger than a block.
pub const CHUNK_BITS_MASK: u16 = 0x1f;
/// `format` of [`ChunkInfo`]: a [`ChunkIndex`] for each chunk; without it, the 4 bytes of an address.
pub const CHUNK_INDEXES: u16 = 0x20;
/// `format` of [`ChunkInfo`]: addresses have 48 bits.
pub const CHUNK_48BIT: u16 = 0x40;

/// Where a chunk is. The array starts behind the inode and its extended attributes, at a multiple of its elements' size.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct ChunkIndex {
    /// Upper bits of the address, under [`CHUNK_48BIT`].
    pub startblk_hi: U16,
    pub device_id: U16,
    pub startblk_lo: U32,
}
const _: () = assert!(size_of::<ChunkIndex>() == 8);

/// The header of the extended attributes of an inode.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct XattrHeader {
    pub name_filter: U32,
    /// How many numbers of shared attributes, of 4 bytes each, stand between this and the attributes of its own.
    pub shared_count: u8,
    pub reserved2: [u8; 7],
}
const _: () = assert!(size_of::<XattrHeader>() == 12);

/// The bytes that extended attributes with this `xattr_icount` take behind an inode.
pub fn xattr_bytes(icount: u16) -> usize {
    match icount {
        0 => 0,
        1.. => size_of::<XattrHeader>() + 4 * usize::from(icount - 1),
    }
}

/// An entry of a directory. All entries of a block stand at its start, their names after them in the same order.
///
/// `nameoff` counts from the start of the block; that of the first entry tells how many there are. A name ends where the
/// next begins, the last one at a NUL or at the end of the directory's or the block's bytes. Entries, `.` and `..` among
/// them, are in the order of their names as bytes, over all blocks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Dirent {
    pub nid: U64,
    pub nameoff: U16,
    pub file_type: u8,
    pub reserved: u8,
}
const _: () = assert!(size_of::<Dirent>() == DIRENT_SIZE);
/// The size of [`Dirent`] in bytes.
pub const DIRENT_SIZE: usize = 12;

/// `file_type` of [`Dirent`].
#[allow(missing_docs, reason = "the names say it")]
pub mod file_type {
    pub const UNKNOWN: u8 = 0;
    pub const REGULAR: u8 = 1;
    pub const DIRECTORY: u8 = 2;
    pub const CHARACTER: u8 = 3;
    pub const BLOCK: u8 = 4;
    pub const FIFO: u8 = 5;
    pub const SOCKET: u8 = 6;
    pub const SYMLINK: u8 = 7;
}

/// `mode`: the mask of an inode's type.
pub const MODE_TYPE: u16 = 0o170_000;
/// `mode`: a directory.
pub const MODE_DIRECTORY: u16 = 0o040_000;
/// `mode`: a regular file.
pub const MODE_REGULAR: u16 = 0o100_000;
/// `mode`: a symlink.
pub const MODE_SYMLINK: u16 = 0o120_000;

/// Methods of compression: bits of `available_compr_algs`, and numbers in [`MapHeader::algorithmtype`].
///
/// Under [`incompat::COMPR_CFGS`] a record for each bit that is set follows the superblock, in the order of the bits: two
/// bytes with its length, then the record. Each pair starts at a multiple of 4 bytes.
#[allow(missing_docs, reason = "the names say it")]
pub mod algorithm {
    pub const LZ4: u8 = 0;
    pub const LZMA: u8 = 1;
    pub const DEFLATE: u8 = 2;
    pub const ZSTD: u8 = 3;
}

/// The record of [`algorithm::LZ4`].
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct Lz4Config {
    /// The greatest distance of a match, in bytes; 0 means 65535.
    pub max_distance: U16,
    /// The most blocks of a physical cluster.
    pub max_pclusterblks: U16,
    pub reserved: [u8; 10],
}
const _: () = assert!(size_of::<Lz4Config>() == 14);

/// The record of [`algorithm::LZMA`].
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct LzmaConfig {
    pub dict_size: U32,
    pub format: U16,
    pub reserved: [u8; 8],
}
const _: () = assert!(size_of::<LzmaConfig>() == 14);

/// The record of [`algorithm::DEFLATE`].
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct DeflateConfig {
    /// 8 to 15.
    pub windowbits: u8,
    pub reserved: [u8; 5],
}
const _: () = assert!(size_of::<DeflateConfig>() == 6);

/// The record of [`algorithm::ZSTD`].
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct ZstdConfig {
    pub format: u8,
    /// The power of two of the window in bytes, less 10.
    pub windowlog: u8,
    pub reserved: [u8; 4],
}
const _: () = assert!(size_of::<ZstdConfig>() == 6);

/// The most bytes of a physical cluster.
pub const PCLUSTER_MAX: usize = 1 << 20;

/// Stands before the indexes of compressed contents, at the first multiple of 8 bytes behind the inode and its extended
/// attributes.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct MapHeader {
    /// The lower half of where the fragment of the file is in the packed inode.
    pub reserved1: U16,
    /// The upper half of the same; or the length of compressed data that follows the indexes, in bytes.
    pub idata_size: U16,
    /// Bits of [`advise`].
    pub advise: U16,
    /// The [`algorithm`] of HEAD1 in the lower 4 bits, that of HEAD2 in the upper 4.
    pub algorithmtype: u8,
    /// By how many bits a logical cluster is larger than a block in bits 0 to 3; bit 7: the whole file is a fragment.
    pub clusterbits: u8,
}
const _: () = assert!(size_of::<MapHeader>() == 8);

/// `clusterbits` of [`MapHeader`]: the whole file is a fragment.
pub const CLUSTER_FRAGMENT: u8 = 0x80;
/// `clusterbits` of [`MapHeader`]: the mask of the logical cluster's bits.
pub const CLUSTER_BITS_MASK: u8 = 0xf;

/// Bits of `advise` in [`MapHeader`].
pub mod advise {
    /// In [`DataLayout::CompressedCompact`](super::DataLayout): packs of 2 bytes an index are there, see
    /// [`compacted`](super::compacted).
    pub const COMPACTED_2B: u16 = 0x1;
    /// In [`DataLayout::CompressedFull`](super::DataLayout): extents of any length instead of indexes.
    pub const EXTENTS: u16 = 0x1;
    /// Physical clusters of HEAD1 may have more than a block.
    pub const BIG_PCLUSTER_1: u16 = 0x2;
    /// The same of HEAD2.
    pub const BIG_PCLUSTER_2: u16 = 0x4;
    /// The last physical cluster follows the indexes.
    pub const INLINE_PCLUSTER: u16 = 0x8;
    /// What stays uncompressed is stored rotated: each byte where it is in its logical cluster.
    pub const INTERLACED_PCLUSTER: u16 = 0x10;
    /// The end of the file is a fragment.
    pub const FRAGMENT_PCLUSTER: u16 = 0x20;
}

/// The index of a logical cluster, in [`DataLayout::CompressedFull`]. The indexes start 8 bytes behind [`MapHeader`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's documentation describes each field")]
pub struct LclusterIndex {
    /// Its [`lcluster`] type in the lower 2 bits, and [`lcluster::PARTIAL_REF`].
    pub advise: U16,
    /// Where in this logical cluster the extent of a head begins; before that, its bytes belong to the one before.
    pub clusterofs: U16,
    /// Of a head: the block where its physical cluster begins. Of a NONHEAD: two numbers of 16 bits, how many logical
    /// clusters its head is before it, and how many the next head is after it. In the first NONHEAD of an extent under a
    /// BIG_PCLUSTER bit, [`lcluster::D0_CBLKCNT`] plus the blocks of the physical cluster stand in the place of the first.
    pub u: U32,
}
const _: () = assert!(size_of::<LclusterIndex>() == 8);

/// Types and bits of logical clusters.
pub mod lcluster {
    /// An extent begins here that is not compressed.
    pub const PLAIN: u16 = 0;
    /// An extent begins here, compressed with the first method.
    pub const HEAD1: u16 = 1;
    /// No extent begins here.
    pub const NONHEAD: u16 = 2;
    /// An extent begins here, compressed with the second method.
    pub const HEAD2: u16 = 3;
    /// The mask of the types.
    pub const TYPE_MASK: u16 = 3;
    /// In [`LclusterIndex::advise`](super::LclusterIndex): what is decompressed is only the start of what is there.
    pub const PARTIAL_REF: u16 = 1 << 15;
    /// In the first number of a NONHEAD: it is no distance, but a count of blocks.
    pub const D0_CBLKCNT: u16 = 1 << 11;
}

/// Facts of the packs of indexes in [`DataLayout::CompressedCompact`]. They begin right behind [`MapHeader`].
///
/// A pack is a string of bits, the lowest bit of the first byte first, with an index for each of its logical clusters, and
/// in its last 4 bytes an address. An index has the offset of a head's extent (or the first distance of a NONHEAD) in its
/// lower [`OFFSET_BITS`](compacted::OFFSET_BITS) bits, and the type in the 2 bits above. Logical clusters are blocks here.
///
/// The heads of a pack count from the address. Without BIG_PCLUSTER, the first head's block is the one after the address,
/// the next head's the one after that, and so on. With it, a head's block is the address plus the blocks of all physical
/// clusters that the pack tells before it: one for each head, or the [`lcluster::D0_CBLKCNT`] of the NONHEAD after it; such
/// a count at the start of a pack, of a head in an earlier one, is among them.
///
/// A NONHEAD has the distance to its head; but one that is the last index of its pack has the distance to the next head.
/// Source of these rules: what the kernel's `fs/erofs/zmap.c` reads.
pub mod compacted {
    /// Bits of the offset in an index, for clusters of 4096 bytes.
    pub const OFFSET_BITS: u32 = 12;
    /// A pack of 4 bytes an index: 2 indexes of 16 bits in 8 bytes.
    pub const PACK_4B: (usize, usize) = (2, 8);
    /// A pack of 2 bytes an index: 16 indexes of 14 bits in 32 bytes. Such packs lie at multiples of 32 bytes: indexes of 4
    /// bytes come before them up to there, and after them for what is no whole pack.
    pub const PACK_2B: (usize, usize) = (16, 32);
}
