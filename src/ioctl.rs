//! Things that only an ioctl can do: let two files share extents, discard a range of a block device, and make the
//! kernel read a partition table again. This is the only file with `unsafe` code.
#![allow(unsafe_code, reason = "rustix has no safe call for these ioctls")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use rustix::ioctl::{NoArg, Opcode, Setter, ioctl, opcode};

use crate::units::ByteOffset;

/// `struct file_clone_range` of the kernel's `include/uapi/linux/fs.h`.
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

/// `FICLONERANGE`, that is `_IOW(0x94, 13, struct file_clone_range)`.
const FICLONERANGE: Opcode = opcode::write::<FileCloneRange>(0x94, 13);
/// `BLKDISCARD`, that is `_IO(0x12, 119)`, of the kernel's `include/uapi/linux/fs.h`.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
/// `BLKRRPART`, that is `_IO(0x12, 95)`.
const BLKRRPART: Opcode = opcode::none(0x12, 95);

/// Makes `len` bytes of `to` at `to_offset` share the extents of `from` at `from_offset`.
///
/// Offsets and length are multiples of the block size of the one filesystem that holds both files.
///
/// # Errors
/// What the operating system says: EXDEV or EOPNOTSUPP where extents cannot be shared, EINVAL for bad alignment.
pub(crate) fn clone_range(from: &File, from_offset: u64, len: u64, to: &File, to_offset: ByteOffset) -> io::Result<()> {
    let range = FileCloneRange {
        src_fd: i64::from(from.as_raw_fd()),
        src_offset: from_offset,
        src_length: len,
        dest_offset: to_offset.0,
    };
    // SAFETY: FICLONERANGE takes a pointer to a `struct file_clone_range`, which it only reads; `FileCloneRange` has
    // that layout, and `Setter` passes a pointer to it that is valid for the call. `src_fd` is an open file that
    // `from` borrows for longer than the call. The ioctl touches no memory of this process.
    unsafe { ioctl(to, Setter::<FICLONERANGE, FileCloneRange>::new(range)) }.map_err(io::Error::from)
}

/// Discards a range of a block device, in bytes: multiples of its logical sectors. Afterwards a read there may return
/// anything.
///
/// # Errors
/// What the operating system says: EOPNOTSUPP where the device cannot, EINVAL for bad alignment.
pub(crate) fn discard(device: &File, range: &Range<u64>) -> io::Result<()> {
    let range = [range.start, range.end.saturating_sub(range.start)];
    // SAFETY: BLKDISCARD takes a pointer to two 64-bit numbers, start and length, which it only reads; `Setter` passes
    // a pointer to such an array that is valid for the call. It changes the device behind the descriptor, as a write
    // would, and no memory of this process. It fails if this is no block device.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new(range)) }.map_err(io::Error::from)
}

/// Has the kernel read the partition table of a disk again.
///
/// # Errors
/// What the operating system says: EBUSY if a partition is in use, EINVAL for a device that never has partitions.
pub(crate) fn reread_partitions(device: &File) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }.map_err(io::Error::from)
}
