//! The fields of GRUB's boot sectors that an installation fills in, and those by which they are recognised.
//!
//! Found by comparing `boot.img` and `core.img` of GRUB 2.06 and 2.14 with what their `grub-install` leaves on a disk.
//! All numbers are little-endian. Sectors are of 512 bytes: a BIOS has no others.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Bytes of boot code in sector 0; the disk's signature and the partition entries follow.
pub const CODE: usize = 440;
/// What ends every boot sector.
pub const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Where that is.
pub const SIGNATURE_OFFSET: usize = 510;

/// How boot.img starts: a jump over [`PARAMETERS`].
pub const BOOT_START: [u8; 3] = [0xeb, 0x63, 0x90];
/// What boot.img says where it fails: the text that no other boot sector has.
pub const BOOT_TEXT: &[u8] = b"Geom\0Hard Disk\0Read\0 Error";
/// What a FAT has in its first sector (BIOS parameter block), for boot.img on a filesystem: `grub-install` leaves what the
/// disk had there, and a new disk has zeros.
pub const PARAMETERS: std::ops::Range<usize> = 3..0x5a;
/// Where boot.img has the number of the sector that it loads: 64 bits.
pub const KERNEL_SECTOR: std::ops::Range<usize> = 0x5c..0x64;
/// Where boot.img has the number of the disk to load it from: FF is the one that the BIOS started.
pub const BOOT_DRIVE: usize = 0x64;
/// Where boot.img jumps over the check of the disk's number.
pub const DRIVE_CHECK: std::ops::Range<usize> = 0x66..0x68;
/// The jump, which stays for floppies (`grub-install --allow-floppy`).
pub const NO_CHECK: [u8; 2] = [0xeb, 0x05];
/// No jump: what some BIOSes pass is put right, as suits a disk.
pub const CHECK: [u8; 2] = [0x90, 0x90];
/// How boot.img loads the number of the sector from [`KERNEL_SECTOR`], that is from address 7C5C. boot_hybrid.img, for
/// CDs, loads it from elsewhere.
pub const LOADS_KERNEL_SECTOR: [u8; 5] = [0x66, 0x8b, 0x1e, 0x5c, 0x7c];

/// What the first sector of a core image, diskboot.img, says where it fails.
pub const DISKBOOT_TEXT: &[u8] = b"Geom\0Read\0 Error";
/// Where the first run of the block list is; further ones come before it, one that is all zeros is the end.
pub const FIRST_RUN: usize = SECTOR - size_of::<RawRun>();
/// The segment that the first run is loaded to: what follows diskboot.img starts at address 8200.
pub const FIRST_SEGMENT: u16 = 0x820;
/// Where grub-mkimage says that the first run starts: in the second sector of whatever the image lies in.
pub const UNPLACED: u64 = 2;
/// Where the sizes of a core image are: after diskboot.img and a jump.
pub const SIZES: usize = SECTOR + 8;
/// Where the length of the redundancy is.
pub const REDUNDANCY: std::ops::Range<usize> = SECTOR + 0x10..SECTOR + 0x14;
/// The largest core image that is embedded: a BIOS boot partition has no more. `grub-mkimage` makes none of more than
/// 480 KiB.
pub const CORE_MAX: usize = 1 << 20;

/// A run of sectors in a block list.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawRun {
    /// The first sector of the disk.
    pub start: U64,
    /// The number of sectors.
    pub len: U16,
    /// Where in memory it goes, in units of 16 bytes.
    pub segment: U16,
}

const _: () = assert!(size_of::<RawRun>() == 12);

/// The sizes in a core image, from [`SIZES`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawSizes {
    /// Bytes of the compressed kernel and modules, which end the image.
    pub compressed: U32,
    /// The same decompressed.
    pub uncompressed: U32,
    /// Bytes of Reed-Solomon redundancy that `grub-install` put behind the image.
    pub redundancy: U32,
}

const _: () = assert!(SIZES + size_of::<RawSizes>() == REDUNDANCY.end);
