//! The on-disk structure of a swap area, and nothing else.
//!
//! Source: the kernel's `include/linux/swap.h`, `union swap_header`, and mkswap(8). The kernel reads the integers
//! in the byte order of its processor; all that NixOS runs on are little-endian.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The one version that there is, called "v1" everywhere.
pub const VERSION: u32 = 1;
/// The last bytes of the first page. Only the place of the magic shows how long that is: a kernel looks where its own
/// pages end.
pub const MAGIC: [u8; 10] = *b"SWAPSPACE2";
/// The longest label in bytes; a zero ends it.
pub const LABEL_MAX: usize = 15;
/// Where the numbers start in the first page, in bytes; before them is room for a boot sector or a disk label. What is
/// between them and the magic is the list of bad pages.
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

const _: () = assert!(size_of::<Info>() == 44);
