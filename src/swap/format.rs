//! The on-disk structure of a swap area, and nothing else.
//!
//! Source: the kernel's `include/linux/swap.h`, `union swap_header`, and mkswap(8). The kernel reads the integers
//! in the byte order of its processor; all that NixOS runs on are little-endian.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The one version that there is, called "v1" everywhere.
pub const VERSION: u32 = 1;
/// The last bytes of the first page.
pub const MAGIC: [u8; 10] = *b"SWAPSPACE2";
/// The longest label in bytes; a zero ends it.
pub const LABEL_MAX: usize = 15;
/// In bytes, as x86 and most ARM kernels have them. Those with larger pages look for the magic elsewhere.
pub const PAGE_SIZE: usize = 4096;
/// The sizes of pages with which Linux runs, in bytes.
pub const PAGE_SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// Where the numbers start in the first page, in bytes; before them is room for a boot sector or a disk label.
pub const INFO_OFFSET: usize = 1024;

/// What stands at [`INFO_OFFSET`], whatever the size of a page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Info {
    /// [`VERSION`].
    pub version: U32,
    /// The number of pages less one.
    pub last_page: U32,
    /// How many of the pages cannot be used. Zero: a page that is bad is the disk's business today.
    pub nr_badpages: U32,
    /// The area's UUID, in the order in which it is written.
    pub uuid: [u8; 16],
    /// The area's label, filled up with zeros.
    pub volume: [u8; 16],
}

/// The first page of a swap area.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FirstPage {
    /// Zero: nothing boots from it.
    pub bootbits: [u8; INFO_OFFSET],
    /// The numbers.
    pub info: Info,
    /// Padding, then the list of bad pages: zero, for there are none.
    pub rest: [u8; PAGE_SIZE - INFO_OFFSET - size_of::<Info>() - MAGIC.len()],
    /// [`MAGIC`].
    pub magic: [u8; 10],
}

const _: () = assert!(size_of::<Info>() == 44);
const _: () = assert!(size_of::<FirstPage>() == PAGE_SIZE);
