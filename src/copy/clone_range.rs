//! FICLONERANGE: lets two files share extents instead of copying bytes. The one file with `unsafe` code.
#![allow(unsafe_code, reason = "rustix has no safe call for this ioctl")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::ioctl::{Setter, ioctl, opcode};

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
const FICLONERANGE: rustix::ioctl::Opcode = opcode::write::<FileCloneRange>(0x94, 13);

/// Makes `len` bytes of `to` at `to_offset` share the extents of `from` at `from_offset`.
///
/// Offsets and length are multiples of the block size of the one filesystem that holds both files.
///
/// # Errors
/// What the operating system says: EXDEV or EOPNOTSUPP where extents cannot be shared, EINVAL for bad alignment.
pub(super) fn clone_range(from: &File, from_offset: u64, len: u64, to: &File, to_offset: ByteOffset) -> io::Result<()> {
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
